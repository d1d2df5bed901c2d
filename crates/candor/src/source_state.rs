//! What is kept of a source that is read from a log (`docs/formats/source-state.md`): the place up to which it was read
//! and the messages open there, as one, sealed under a key of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ledger::clock::{Clock, SystemClock};
use record::identifier::{IdentifierType, normalise};
use seal::crypto::subkey;
use seal::shared::SharedStore;
use seal::store::Named;
use sources::postfix::correlate::{Correlator, Options};
use sources::postfix::snapshot;
use views::file::Vault;

use crate::follow::Place;
use crate::trail::Trail;

const MAGIC: &[u8; 8] = b"CNDRSRCE";
const VERSION: u16 = 1;
/// How long an erasure waits for those who read logs, and how often it looks.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Up to where a log was read.
pub struct At {
    /// Its path, as it was given.
    pub log: PathBuf,
    pub place: Place,
    /// Lines of all the source's logs so far.
    pub lines: u64,
}

/// Where a source's state lies and how it is sealed.
#[derive(Clone)]
pub struct StateFile {
    pub path: PathBuf,
    vault: Vault,
}

impl StateFile {
    pub fn of(trail: &Trail, source: &str) -> Result<StateFile> {
        let path = trail.paths.sources().join(format!("{source}.state"));
        let view = trail.store.lock()?.named(Named::View);
        Ok(StateFile { path, vault: Vault::new(&subkey(&view, "candor/v1/source-state\n")) })
    }

    fn new_path(&self) -> PathBuf {
        self.path.with_extension("state-new")
    }

    /// Writes a state beside the one in place.
    pub fn write(&self, at: &At, correlator: &Correlator) -> io::Result<()> {
        let mut out = self.vault.create_anew(&self.new_path())?;
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        let Place { device, inode, head, offset } = &at.place;
        for number in [*device, *inode, *offset, at.lines] {
            out.write_all(&number.to_be_bytes())?;
        }
        for bytes in [head.as_slice(), at.log.as_os_str().as_encoded_bytes()] {
            snapshot::write_bytes(&mut out, bytes)?;
        }
        correlator.write(&mut out)?;
        out.finish()
    }

    /// Drops what it keeps of people who were erased. Nobody else may write it meanwhile.
    pub fn forget(&self, store: &SharedStore) -> Result<()> {
        let Some((at, mut correlator)) = self.read(Options::default())? else { return Ok(()) };
        if forget(&mut correlator, store)? {
            self.write(&at, &correlator)?;
            self.put()?;
        }
        Ok(())
    }

    /// Puts the written state in place.
    pub fn put(&self) -> io::Result<()> {
        std::fs::rename(self.new_path(), &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    pub fn read(&self, options: Options) -> io::Result<Option<(At, Correlator)>> {
        let file = match self.vault.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut input = io::BufReader::new(file.stream());
        let mut head = [0; 42];
        input.read_exact(&mut head)?;
        let bad = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        if &head[..8] != MAGIC || head[8..10] != VERSION.to_be_bytes() {
            return Err(bad("a source's state of a version that this program does not know"));
        }
        let number = |at: usize| proof::encoding::big_endian(&head[at..at + 8]);
        let head_of_log = snapshot::read_bytes(&mut input)?.into_vec();
        let log = PathBuf::from(OsString::from_vec(snapshot::read_bytes(&mut input)?.into_vec()));
        let place = Place { device: number(10), inode: number(18), head: head_of_log, offset: number(26) };
        Ok(Some((At { log, place, lines: number(34) }, Correlator::read(options, &mut input)?)))
    }
}

/// The logs that are being read, and what they have to hear of erasures: what is in their memory is in no file that an
/// erasure could mend.
#[derive(Default)]
pub struct Readings {
    /// Erasures of this run.
    erasures: AtomicU64,
    live: Mutex<Vec<Weak<Reading>>>,
    /// Held while a state is read at the start of a reading, and while states of logs that nobody reads are mended.
    files: Mutex<()>,
}

/// A log that is being read.
pub struct Reading {
    source: String,
    /// Of how many erasures its state in place knows.
    heard: AtomicU64,
}

impl Readings {
    /// Erasures that a reading has to hear of.
    pub fn erasures(&self) -> u64 {
        self.erasures.load(Ordering::Acquire)
    }

    /// Begins a reading: `open` reads its state, while no erasure mends it.
    pub fn begin<T>(&self, source: &str, open: impl FnOnce() -> Result<T>) -> Result<(Arc<Reading>, T)> {
        let _files = self.files.lock().map_err(|_| anyhow!("another thread failed"))?;
        let reading = Arc::new(Reading { source: source.to_owned(), heard: AtomicU64::new(0) });
        let opened = open()?;
        let mut live = self.live.lock().map_err(|_| anyhow!("another thread failed"))?;
        live.retain(|reading| reading.strong_count() > 0);
        live.push(Arc::downgrade(&reading));
        Ok((reading, opened))
    }

    /// The readings of a source that have not heard of so many erasures.
    fn behind(&self, source: &str, erasures: u64) -> Result<usize> {
        let live = self.live.lock().map_err(|_| anyhow!("another thread failed"))?;
        let readings = live.iter().filter_map(Weak::upgrade).filter(|reading| reading.source == source);
        Ok(readings.filter(|reading| reading.heard.load(Ordering::Acquire) < erasures).count())
    }

    fn is_read(&self, source: &str) -> Result<bool> {
        self.behind(source, u64::MAX).map(|readings| readings > 0)
    }
}

impl Reading {
    /// Its state in place knows of so many erasures.
    pub fn hear(&self, erasures: u64) {
        self.heard.store(erasures, Ordering::Release);
    }
}

/// Drops what sources keep of people who were erased: the addresses of recipients that wait for another attempt. Who reads
/// a log drops them itself; done when it has.
pub fn forget_erased(trail: &Trail) -> Result<()> {
    let readings = &trail.readings;
    let _files = readings.files.lock().map_err(|_| anyhow!("another thread failed"))?;
    let erasures = readings.erasures.fetch_add(1, Ordering::AcqRel) + 1;
    let Ok(folder) = std::fs::read_dir(trail.paths.sources()) else { return Ok(()) };
    let start = Instant::now();
    for item in folder {
        let path = item.context("list the sources' states")?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let source = name.strip_suffix(".state");
        let of = source.or(name.strip_suffix(".state-new")).unwrap_or_default();
        while readings.behind(of, erasures)? > 0 {
            if start.elapsed() > HEARD_WITHIN {
                bail!(
                    "the reading of the source {of} has not dropped what it keeps of who was erased: the next start does it"
                );
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        if readings.is_read(of)? {
            continue;
        }
        let Some(source) = source else {
            // A state that was never put in place.
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            continue;
        };
        let file = StateFile::of(trail, source)?;
        file.forget(&trail.store).with_context(|| format!("forget in {}", path.display()))?;
    }
    Ok(())
}

/// Drops of what a reading has in memory what it keeps of people who were erased; whether there was anything.
pub fn forget(correlator: &mut Correlator, store: &SharedStore) -> Result<bool> {
    let mut failed = None;
    let found = correlator.forget(&mut |address| {
        let erased = is_erased(store, address);
        erased.unwrap_or_else(|error| {
            failed.get_or_insert(error);
            false
        })
    });
    match failed {
        Some(error) => Err(error).context("ask the key store who was erased"),
        None => Ok(found),
    }
}

/// Whether an address was that of somebody who was erased.
fn is_erased(store: &SharedStore, address: &[u8]) -> Result<bool> {
    let text = sources::postfix::event::text(address);
    let mut store = store.lock()?;
    let tag = store.identifier_tag(IdentifierType::Address, &normalise(IdentifierType::Address, &text));
    Ok(store.is_erased(&tag, SystemClock.now().day())?)
}
