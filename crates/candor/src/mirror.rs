//! `candor mirror`: a second copy of the journal on another machine, without keys, that trusts the server in nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use ledger::disk::RealDisk;
use ledger::error::Error;
use ledger::mirror::{Mirror, Unsigned};
use ledger::segment::Identity;
use proof::checkpoint::Checkpoint;
use proof::key_change::{self, KeyChange};
use proof::note::VerifierKey;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ureq::tls::{RootCerts, TlsConfig};

use crate::commands::{Output, interrupts};
use crate::progress::Progress;

const MARK: &str = "mirror.json";
/// Of one answer; a server gives less.
const PIECE_BYTES_MAX: u64 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at a server that has nothing new.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries of one that does not answer.
const AGAIN: Duration = Duration::from_secs(10);

/// `candor mirror`
#[derive(Args)]
pub struct MirrorCommand {
    /// Address of the server, such as https://audit.example:8420.
    #[arg(long, value_name = "URL")]
    from: String,
    /// File with an API key of the scope mirror.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Folder of the copy; it is made if it is not there. `candor verify FOLDER/journal` checks it.
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Verifier key of the trail. Default: what the server says at the first time, which is kept.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// PEM file of the authorities that the server's certificate is held against. Default: those that the system trusts.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Set the last frame aside where nothing that is here signs it (`unsigned-SEGMENT-OFFSET.bin`), and go on from before
    /// it: where the way to the server could not be trusted, a frame that is not the trail's may stand there.
    #[arg(long)]
    drop_unsigned: bool,
    /// Go on for good, instead of ending when nothing is new.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    output: Output,
}

/// Whose copy a folder has.
#[derive(Serialize, Deserialize)]
struct Mark {
    v: u16,
    origin: String,
    vkey: String,
}

/// What a server says of its trail.
#[derive(Deserialize)]
struct Said {
    vkey: String,
    checkpoint: String,
    #[serde(default)]
    key_changes: Vec<KeyChange>,
}

impl Said {
    fn of(server: &Server) -> Result<Said> {
        serde_json::from_slice(&server.get("/v1/checkpoint")?.bytes)
            .context("read what the server says of its trail at /v1/checkpoint")
    }

    /// The trail's keys, each shown to follow from the one before.
    fn keys(&self) -> Result<Vec<VerifierKey>> {
        let key = VerifierKey::parse(&self.vkey).map_err(|why| anyhow!("the server's verifier key is none: {why}"))?;
        key_change::keys(key.name(), &self.vkey, &self.key_changes)
            .map_err(|why| Error::Corrupt { what: "the server's keys".into(), why: why.to_string() }.into())
    }
}

struct Server {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

struct Answer {
    status: u16,
    closed: bool,
    bytes: Vec<u8>,
}

impl Server {
    fn get(&self, path: &str) -> Result<Answer> {
        let url = format!("{}{path}", self.url);
        let mut answer = self
            .agent
            .get(&url)
            .header("authorization", &self.authorization)
            .call()
            .map_err(|why| anyhow!("ask {}: {why}", self.url))?;
        let closed = answer.headers().get("candor-segment-closed").is_some_and(|value| value == "true");
        let mut bytes = Vec::new();
        answer
            .body_mut()
            .as_reader()
            .take(PIECE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .with_context(|| format!("listen to {}", self.url))?;
        let status = answer.status().as_u16();
        match status {
            200 | 404 => Ok(Answer { status, closed, bytes }),
            401 | 403 => bail!("{} does not let this key mirror: make one of the scope mirror", self.url),
            _ => bail!("{} answered {status}", self.url),
        }
    }
}

impl Server {
    /// Says what is verified and durable here, for answers and pages that tell what is mirrored.
    fn tell(&self, mirror: &Mirror) -> Result<()> {
        let body = json!({"size": mirror.size(), "root": mirror.root().hex()}).to_string();
        let answer = self
            .agent
            .post(&format!("{}/v1/journal/mirrored", self.url))
            .header("authorization", &self.authorization)
            .content_type("application/json")
            .send(&body)
            .map_err(|why| anyhow!("tell {}: {why}", self.url))?;
        match answer.status().as_u16() {
            // A server of before mirrors were asked.
            200 | 404 | 405 => Ok(()),
            409 => {
                let why = "the server says that its trail is another: it was rolled back or forked; keep this mirror";
                Err(Error::Corrupt { what: "the server".into(), why: why.into() }.into())
            }
            status => bail!("{} answered {status}", self.url),
        }
    }
}

impl MirrorCommand {
    pub fn run(self) -> Result<ExitCode> {
        let stop = interrupts()?;
        let key =
            std::fs::read_to_string(&self.key_file).with_context(|| format!("read {}", self.key_file.display()))?;
        let roots = crate::tls::roots(Path::new("."), self.ca_file.as_deref())?;
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .tls_config(tls)
            .build()
            .new_agent();
        let server = Server {
            agent,
            url: self.from.trim_end_matches('/').to_owned(),
            authorization: format!("Bearer {}", key.trim()),
        };
        crate::trail::make_private(&self.to)?;
        let journal = self.to.join("journal");
        crate::trail::make_private(&journal)?;
        let lock = File::create(self.to.join("lock")).with_context(|| format!("lock {}", self.to.display()))?;
        if lock.try_lock().is_err() {
            bail!("mirror {}: another process is at it", self.to.display());
        }
        let identity = self.identity(&server)?;
        let disk = Arc::new(RealDisk::new(&journal));
        if self.drop_unsigned
            && let Some(unsigned) = Unsigned::find(disk.as_ref())?
        {
            let name = format!("unsigned-{}-{}.bin", unsigned.segment, unsigned.offset);
            let path = self.to.join(&name);
            File::create_new(&path)
                .and_then(|mut file| file.write_all(&unsigned.bytes).and_then(|()| file.sync_all()))
                .with_context(|| format!("write {}", path.display()))?;
            unsigned.cut(disk.as_ref())?;
            eprintln!("candor: the last {} entries were not signed: they are in {name}", unsigned.entries);
        }
        let mut mirror = Mirror::open(disk, identity.clone())?;
        let mut progress = Progress::new("entries", None);
        loop {
            let before = mirror.size();
            match self.catch_up(&server, &mut mirror, &identity, &stop, &mut progress) {
                Ok(()) => {}
                // What does not fit is told and kept apart: the copy stays as it was, and is evidence.
                Err(error) if !self.follow || error.downcast_ref::<Error>().is_some() => return Err(error),
                Err(error) => {
                    eprintln!("candor: {error:#}: it is tried again");
                    self.wait(&stop, AGAIN);
                }
            }
            if !self.follow || stop.load(Ordering::Acquire) {
                break;
            }
            if mirror.size() == before {
                self.wait(&stop, PAUSE);
            }
        }
        let (size, root) = (mirror.size(), mirror.root().hex());
        if self.output.json {
            println!("{}", json!({"origin": identity.origin, "size": size, "root": root}));
        } else {
            println!("mirrored {size} entries of {}", identity.origin);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn wait(&self, stop: &AtomicBool, pause: Duration) {
        let end = std::time::Instant::now() + pause;
        while !stop.load(Ordering::Acquire) && std::time::Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Which trail it is: by the option, by what was kept, or by the server's word at the first time.
    fn identity(&self, server: &Server) -> Result<Identity> {
        let path = self.to.join(MARK);
        let held: Option<Mark> = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            bytes => {
                let bytes = bytes.with_context(|| format!("read {}", path.display()))?;
                Some(serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?)
            }
        };
        let vkey = match (&held, &self.key) {
            (Some(held), None) => held.vkey.clone(),
            (None, None) => Said::of(server)?.vkey,
            (_, Some(given)) => {
                // Any key that the trail has had says which it is: each is shown to follow from the first.
                let said = Said::of(server)?;
                let other = held.as_ref().is_some_and(|held| held.vkey != said.vkey);
                if other || !said.keys()?.iter().any(|key| key.to_string() == *given) {
                    bail!("mirror {}: it is of another trail than --key says", self.to.display());
                }
                said.vkey
            }
        };
        let key = VerifierKey::parse(&vkey).map_err(|why| anyhow!("the verifier key is none: {why}"))?;
        let origin = key.name().to_owned();
        if held.is_none() {
            let mark = Mark { v: 1, origin: origin.clone(), vkey: vkey.clone() };
            std::fs::write(&path, serde_json::to_string(&mark)?)
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Identity::new(origin, vkey))
    }

    fn catch_up(
        &self,
        server: &Server,
        mirror: &mut Mirror,
        identity: &Identity,
        stop: &AtomicBool,
        progress: &mut Progress,
    ) -> Result<()> {
        while !stop.load(Ordering::Acquire) {
            let (segment, offset) = mirror.next();
            // Held on where nothing is new: what comes is here at once.
            let wait = if self.follow { "&wait=5" } else { "" };
            let piece = server.get(&format!("/v1/journal/segments/{segment}?offset={offset}{wait}"))?;
            if piece.status == 404 {
                // A segment that is not begun yet; of one that is, what is here must be there.
                if offset > 0 {
                    return Err(self.short(segment, offset));
                }
                break;
            }
            if piece.bytes.is_empty() && !piece.closed {
                break;
            }
            if let Err(error) = mirror.take(&piece.bytes, piece.closed) {
                if matches!(error, Error::Corrupt { .. }) {
                    let path = self.to.join("differs.bin");
                    std::fs::write(&path, &piece.bytes).with_context(|| format!("write {}", path.display()))?;
                    eprintln!(
                        "candor: the server's journal does not go on from what this mirror has: keep both; what came is in {}",
                        path.display()
                    );
                    if let Some(last) = Unsigned::find(&RealDisk::read_only(&self.to.join("journal")))? {
                        eprintln!(
                            "candor: the last {} entries that are here are not signed: if the way to the server could not be trusted, they may be none of the trail's (--drop-unsigned sets them aside)",
                            last.entries
                        );
                    }
                }
                return Err(error.into());
            }
            progress.set(mirror.size());
            if self.follow {
                server.tell(mirror)?;
            }
        }
        self.held_against(server, mirror, identity)?;
        server.tell(mirror)
    }

    fn short(&self, segment: u32, offset: u64) -> anyhow::Error {
        let why = format!(
            "the server has less of it than the {offset} bytes that are here: it was rolled back; keep this mirror"
        );
        Error::Corrupt { what: format!("segment {segment}"), why }.into()
    }

    /// The server's newest signed word about a tree of the size that is here.
    fn held_against(&self, server: &Server, mirror: &Mirror, identity: &Identity) -> Result<()> {
        let said = Said::of(server)?;
        let corrupt = |why: String| Error::Corrupt { what: "the server's checkpoint".into(), why };
        if said.vkey != identity.vkey {
            return Err(corrupt("it is of another trail".into()).into());
        }
        let signed =
            Checkpoint::open(said.checkpoint.as_bytes(), &said.keys()?).map_err(|why| corrupt(why.to_string()))?;
        if signed.size == mirror.size() && signed.root != mirror.root() {
            let why = "it is of another tree than the entries that the same server gave".to_owned();
            return Err(Error::Corrupt { what: "the server's checkpoint".into(), why }.into());
        }
        Ok(())
    }
}
