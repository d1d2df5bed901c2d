//! Commands to a running server, over a socket in the data directory that only its owner can reach.
//!
//! The trail has one writer. What an operator asks for while the server runs is done by the server, in the operator's name:
//! the command hands over its arguments, the server parses them as the command would have, and its output goes back.

use std::fs::{File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::trail::{OpenMode, Trail};

const NAME: &str = "control";
/// Between looks at whether somebody asks, or the server stops.
const TICK: Duration = Duration::from_millis(100);
/// A request is one line of at most so many bytes: arguments of a command.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Commands at one time: who does not read what is said, or a long backup, holds up nobody else.
const AT_ONCE: usize = 8;
/// Who connects and says nothing is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a command is run with.
pub struct On<'a> {
    pub trail: &'a Trail,
    /// Who asked.
    pub actor: String,
    /// Where who asked stands: relative paths are theirs.
    pub folder: PathBuf,
    pub stop: &'a AtomicBool,
}

/// A command that a running server can do for who asks.
pub trait OnTrail {
    /// The data directory.
    fn data(&self) -> &Path;
    /// How the trail is opened where no server has it.
    fn mode(&self) -> OpenMode {
        OpenMode::default()
    }
    /// Whether nobody else may decide about keys while it works; else it sees to that itself.
    fn alone(&self) -> bool {
        true
    }
    /// Does it; what it says goes to `out`.
    fn work(&self, on: &On<'_>, out: &mut dyn Write) -> Result<()>;
}

#[derive(Serialize, Deserialize)]
struct Request {
    v: u8,
    folder: PathBuf,
    arguments: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Out(String),
    Failed(String),
    Done,
}

/// The socket by way of the open folder: the path of a socket may be no longer than 107 bytes, that of a folder may.
fn short(folder: &File) -> String {
    format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd())
}

/// Runs a command: by the server that has the trail, or here.
pub fn run(command: &dyn OnTrail) -> Result<ExitCode> {
    if let Some(stream) = connect(command.data()) {
        return ask(stream);
    }
    let stop = crate::commands::interrupts()?;
    let trail = Trail::open(command.data(), command.mode())?;
    let on = On { trail: &trail, actor: crate::commands::actor(), folder: folder()?, stop: &stop };
    let result = command.work(&on, &mut io::stdout().lock());
    trail.unfinished.fetch_or(result.is_err(), Ordering::AcqRel);
    let closed = trail.close();
    result?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

fn folder() -> Result<PathBuf> {
    std::env::current_dir().context("ask where this command stands")
}

fn connect(data: &Path) -> Option<UnixStream> {
    let folder = File::open(data).ok()?;
    UnixStream::connect(short(&folder)).ok()
}

fn ask(mut stream: UnixStream) -> Result<ExitCode> {
    let arguments = std::env::args().collect();
    let request = serde_json::to_string(&Request { v: 1, folder: folder()?, arguments })?;
    writeln!(stream, "{request}").context("ask the server that has this trail")?;
    for line in BufReader::new(stream).lines() {
        let line = line.context("listen to the server that has this trail")?;
        match serde_json::from_str(&line).context("listen to the server that has this trail")? {
            Said::Out(text) => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
            }
            Said::Failed(why) => return Err(anyhow!("{why}")),
            Said::Done => return Ok(ExitCode::SUCCESS),
        }
    }
    bail!(
        "the server that has this trail ended before it was done: what it had begun is gone on with at its next start"
    )
}

/// Where output goes line by line.
struct Back<'a> {
    stream: &'a UnixStream,
    /// Who asked has gone, or does not read: a write that was cut off is followed by nothing.
    gone: bool,
}

impl Back<'_> {
    fn say(&mut self, said: &Said) -> io::Result<()> {
        if self.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut text = serde_json::to_string(said)?;
        text.push('\n');
        (&mut &*self.stream).write_all(text.as_bytes()).inspect_err(|_| self.gone = true)
    }
}

impl Write for Back<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Who asked may have gone; what was begun is done all the same.
        let _ = self.say(&Said::Out(String::from_utf8_lossy(bytes).into_owned()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers until `stop` is set; what decides about keys one command at a time.
pub fn serve(trail: &Trail, stop: &AtomicBool) {
    let listen = || -> io::Result<(File, UnixListener)> {
        let folder = File::open(&trail.paths.data)?;
        // The lock of the directory is ours: what stands there is left of a server that was killed.
        match std::fs::remove_file(trail.paths.data.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(short(&folder))?;
        std::fs::set_permissions(trail.paths.data.join(NAME), Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok((folder, listener))
    };
    let (_folder, listener) = match listen() {
        Ok(listening) => listening,
        Err(error) => {
            eprintln!("candor: commands can't reach this server ({error}): stop it for them");
            return;
        }
    };
    let working = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        while !stop.load(Ordering::Acquire) {
            // Who comes when all are at work waits in the listener's queue.
            if working.load(Ordering::Acquire) >= AT_ONCE {
                std::thread::park_timeout(TICK);
                continue;
            }
            let Ok((stream, _)) = listener.accept() else {
                std::thread::park_timeout(TICK);
                continue;
            };
            working.fetch_add(1, Ordering::AcqRel);
            let working = &working;
            let answered = std::thread::Builder::new().name("command".into()).spawn_scoped(scope, move || {
                if let Err(error) = answer(trail, &stream, stop) {
                    eprintln!("candor: a command from this machine could not be answered: {error:#}");
                }
                working.fetch_sub(1, Ordering::AcqRel);
            });
            if let Err(error) = answered {
                working.fetch_sub(1, Ordering::AcqRel);
                eprintln!("candor: a command from this machine could not be answered: {error}");
            }
        }
    });
    let _ = std::fs::remove_file(trail.paths.data.join(NAME));
}

fn answer(trail: &Trail, stream: &UnixStream, stop: &AtomicBool) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd()).context("ask who asks")?.uid;
    if peer != rustix::process::getuid() && !peer.is_root() {
        bail!("it is not from the owner of the trail");
    }
    let mut line = String::new();
    BufReader::new(io::Read::take(stream, REQUEST_BYTES_MAX)).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line).context("read the request")?;
    let mut back = Back { stream, gone: false };
    if request.v != 1 {
        back.say(&Said::Failed("the server is of another version: restart it".into()))?;
        return Ok(());
    }
    let on = On { trail, actor: format!("os-user-{}", peer.as_raw()), folder: request.folder, stop };
    let done = crate::commands::online(&request.arguments).and_then(|command| {
        let _alone = match command.alone() {
            true => Some(trail.deciding.lock().map_err(|_| anyhow!("another thread failed"))?),
            false => None,
        };
        let done = command.work(&on, &mut back);
        trail.unfinished.fetch_or(done.is_err(), Ordering::AcqRel);
        done
    });
    let said = match done {
        Ok(()) => Said::Done,
        Err(error) => Said::Failed(format!("{error:#}")),
    };
    let _ = back.say(&said);
    Ok(())
}
