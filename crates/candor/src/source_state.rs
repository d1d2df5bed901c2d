//! What is kept of a source that is read from a log (`docs/formats/source-state.md`): the place up to which it was read
//! and the messages open there, as one, sealed under a key of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ledger::clock::{Clock, SystemClock};
use record::identifier::{IdentifierType, normalise};
use seal::crypto::subkey;
use seal::store::Named;
use sources::postfix::correlate::{Correlator, Options};
use sources::postfix::snapshot;
use views::file::Vault;

use crate::follow::Place;
use crate::trail::Trail;

const MAGIC: &[u8; 8] = b"CNDRSRCE";
const VERSION: u16 = 1;

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

/// Drops what the states keep of people who were erased: the addresses of recipients that wait for another attempt.
pub fn forget_erased(trail: &Trail) -> Result<()> {
    let Ok(folder) = std::fs::read_dir(trail.paths.sources()) else { return Ok(()) };
    for item in folder {
        let path = item.context("list the sources' states")?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(source) = name.strip_suffix(".state") else {
            // A state that was never put in place.
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            continue;
        };
        let file = StateFile::of(trail, source)?;
        let read = || -> io::Result<_> { file.read(Options::default()) };
        let Some((at, mut correlator)) = read().with_context(|| format!("read {}", path.display()))? else {
            continue;
        };
        let mut failed = None;
        let found = correlator.forget(&mut |address| {
            let erased = is_erased(trail, address);
            erased.unwrap_or_else(|error| {
                failed.get_or_insert(error);
                false
            })
        });
        if let Some(error) = failed {
            return Err(error).context("ask the key store who was erased");
        }
        if found {
            file.write(&at, &correlator)
                .and_then(|()| file.put())
                .with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether an address was that of somebody who was erased.
fn is_erased(trail: &Trail, address: &[u8]) -> Result<bool> {
    let text = sources::postfix::event::text(address);
    let mut store = trail.store.lock()?;
    let tag = store.identifier_tag(IdentifierType::Address, &normalise(IdentifierType::Address, &text));
    Ok(store.is_erased(&tag, SystemClock.now().day())?)
}
