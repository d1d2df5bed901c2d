//! Restoring a backup into an empty place, and what stands between that and going on.
//!
//! A restored trail does not go on by itself: who signs again from an older state says two things under one name. It goes
//! on where the high-water mark elsewhere, or its owner's word, says that nothing was signed after the backup.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use ledger::disk::{Disk, RealDisk};
use ledger::guard::HighWater;
use ledger::verify::{self, Options, Progress};
use seal::master::MasterKey;
use seal::store::KeyStore;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Counted, Folder, Manifest, Part, hex, write_whole};
use crate::config::Config;
use crate::trail::{OpenMode, Paths, Trail};

const MARK: &str = "restored";
/// Of an archive of keys and people.
const NAME_BYTES_MAX: usize = 512;

/// What a restored data directory says of itself until it goes on.
#[derive(Debug, Serialize, Deserialize)]
struct RestoredFrom {
    v: u16,
    backup_id: String,
    made: String,
    size: u64,
}

/// What was restored.
pub struct Restored {
    pub manifest: Manifest,
    /// Entries that its journal has.
    pub size: u64,
    /// Entries at the end of a journal from elsewhere that nothing in it signs.
    pub unsigned: u64,
    /// Entries that were signed after the backup, as far as a mark elsewhere knows; none where there is no such mark.
    pub missing: Option<u64>,
}

/// What is asked to be restored.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Folder of backups.
    pub from: &'a Path,
    /// File of the recovery key.
    pub identity: &'a Path,
    /// Where to.
    pub data: &'a Path,
    /// Which backup; the newest otherwise.
    pub id: Option<&'a str>,
    /// A newer copy of the journal than the backup has.
    pub journal: Option<&'a Path>,
    /// The verifier key that the trail must have had.
    pub key: Option<&'a str>,
}

/// Takes the journal from a mirror, or from the disk of the machine that was lost.
fn copy_journal(from: &Path, work: &Path) -> Result<()> {
    let journal = work.join("journal");
    crate::trail::make_private(&journal)?;
    let disk = RealDisk::read_only(from);
    for number in 0..disk.segments()? {
        let name = ledger::segment::file_name(number);
        let path = journal.join(&name);
        let copy = || -> std::io::Result<()> {
            std::io::copy(&mut File::open(from.join(&name))?, &mut super::private(&path)?)?;
            File::open(&path)?.sync_all()
        };
        copy().with_context(|| format!("copy {}", from.join(&name).display()))?;
    }
    Ok(())
}

/// Restores a backup, the newest unless one is named, into a directory that is not there yet.
pub fn restore(asked: &Asked<'_>, told: &mut dyn FnMut(u64)) -> Result<Restored> {
    let Asked { from, identity, data, id, journal, key } = *asked;
    if data.exists() && std::fs::read_dir(data).with_context(|| format!("list {}", data.display()))?.next().is_some() {
        bail!("restore {}: it is not empty: choose another directory", data.display());
    }
    let identities = age::IdentityFile::from_file(identity.to_string_lossy().into_owned())
        .with_context(|| format!("read {}", identity.display()))?
        .into_identities()
        .map_err(|why| anyhow!("read {}: {why}", identity.display()))?;
    let folder = Folder::read(from)?;
    let mut manifests = folder.manifests()?;
    let manifest = match id {
        Some(id) => manifests.into_iter().find(|manifest| manifest.backup_id == id),
        None => manifests.pop(),
    };
    let manifest = manifest.with_context(|| format!("restore {}: there is no such backup", from.display()))?;
    // Whatever stops this leaves nothing at the place itself.
    let name = data.file_name().with_context(|| format!("restore {}: it has no name", data.display()))?;
    let work = data.with_file_name(format!("{}.restoring", name.to_string_lossy()));
    let _ = std::fs::remove_dir_all(&work);
    crate::trail::make_private(&work)?;
    let unfinished = Unfinished(&work);
    let mut restoring = Restoring { folder: &folder, identities: &identities, done: 0, told };
    match journal {
        Some(journal) => copy_journal(journal, &work)?,
        None => manifest.segments.iter().try_for_each(|segment| restoring.segment(segment, &work))?,
    }
    restoring.state(&manifest.state, &work)?;
    let Checked { size, unsigned, keys } = check(&work, &manifest, journal.is_some())?;
    if key.is_some_and(|key| !keys.iter().any(|held| held == key)) {
        bail!("restore: this backup is of another trail than --key says: its key is {}", manifest.vkey);
    }
    // A bucket has all that was signed since: the mark elsewhere is held against it when the trail opens.
    let whole = manifest.journal_elsewhere && journal.is_none();
    let missing = if whole { Some(0) } else { missing(&work, size)? };
    let mark = RestoredFrom { v: 1, backup_id: manifest.backup_id.clone(), made: manifest.made.clone(), size };
    if !whole {
        write_whole(&work.join("keys").join(MARK), serde_json::to_string(&mark)?.as_bytes())?;
    }
    // The names of what was written are durable before the place has its name.
    for item in std::fs::read_dir(&work).with_context(|| format!("list {}", work.display()))? {
        let path = item.with_context(|| format!("list {}", work.display()))?.path();
        super::sync_folder(&if path.is_dir() { path.join(MARK) } else { path })?;
    }
    let _ = std::fs::remove_dir(data);
    std::fs::rename(&work, data).with_context(|| format!("rename {}", work.display()))?;
    std::mem::forget(unfinished);
    super::sync_folder(data)?;
    Ok(Restored { manifest, size, unsigned, missing })
}

/// What is decrypted until it has its place: it has keys in clear, and goes with whatever stops the restoring.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(self.0) {
            eprintln!("candor: {} has keys in clear and could not be removed ({error}): remove it", self.0.display());
        }
    }
}

struct Restoring<'a> {
    folder: &'a Folder,
    identities: &'a [Box<dyn age::Identity + Send + Sync>],
    done: u64,
    told: &'a mut dyn FnMut(u64),
}

impl Restoring<'_> {
    fn open(&mut self, part: &Part) -> Result<impl Read + use<>> {
        // In whole before anything of it is used: a file that was changed is named, not half restored.
        self.folder.check(part)?;
        self.done += part.bytes;
        (self.told)(self.done);
        let path = self.folder.file(part);
        let file = File::open(&path).with_context(|| format!("read {}", path.display()))?;
        let identities = self.identities.iter().map(|identity| &**identity as &dyn age::Identity);
        age::Decryptor::new(BufReader::new(file))
            .and_then(|decryptor| decryptor.decrypt(identities))
            .map_err(|why| anyhow!("decrypt {}: {why}: give the recovery key that it was made for", path.display()))
    }

    fn segment(&mut self, segment: &super::Segment, work: &Path) -> Result<()> {
        let mut clear = Counted::new(self.open(&segment.part)?);
        let journal = work.join("journal");
        crate::trail::make_private(&journal)?;
        let path = journal.join(ledger::segment::file_name(segment.number));
        let mut out = super::private(&path).with_context(|| format!("write {}", path.display()))?;
        std::io::copy(&mut clear, &mut out).with_context(|| format!("write {}", path.display()))?;
        out.sync_all().with_context(|| format!("write {}", path.display()))?;
        if clear.bytes != segment.length || !segment.part.file.contains(&hex(clear.hash)[..16]) {
            bail!("{}: it is not the segment that its name says", segment.part.file);
        }
        Ok(())
    }

    fn state(&mut self, part: &Part, work: &Path) -> Result<()> {
        let mut archive = tar::Archive::new(self.open(part)?);
        for item in archive.entries().context("read the archive of keys")? {
            let mut item = item.context("read the archive of keys")?;
            let name = item.path().context("read the archive of keys")?.into_owned();
            let plain = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !plain || name.as_os_str().len() > NAME_BYTES_MAX || !item.header().entry_type().is_file() {
                bail!("restore: the archive of keys has something in it that no backup writes");
            }
            let path = work.join(&name);
            if let Some(folder) = path.parent() {
                crate::trail::make_private(folder)?;
            }
            let mut out = super::private(&path).with_context(|| format!("write {}", path.display()))?;
            std::io::copy(&mut item, &mut out).with_context(|| format!("write {}", path.display()))?;
            out.sync_all().with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// What was found of a restored trail.
struct Checked {
    size: u64,
    unsigned: u64,
    keys: Vec<String>,
}

/// What was restored is the trail that the manifest speaks of, whole, and its keys open.
fn check(work: &Path, manifest: &Manifest, newer: bool) -> Result<Checked> {
    let (mut size, mut unsigned, mut held) = (manifest.size, 0, Vec::new());
    if !manifest.journal_elsewhere || newer {
        let disk = RealDisk::read_only(&work.join("journal"));
        let report = verify::verify(&disk as &dyn Disk, &Options::default(), &Progress::default(), &|_, _| {})?;
        if let Some(finding) = report.finding {
            bail!("restore: the journal of this backup does not hold: {finding}: try an older one (--backup ID)");
        }
        (size, unsigned, held) = (report.entries, report.unsigned_tail, report.keys);
        let fits = if newer { size >= manifest.size } else { size == manifest.size };
        if !fits || report.vkey != manifest.vkey {
            bail!("restore: the journal has {size} entries, the backup names {} of {}", manifest.size, manifest.origin);
        }
    }
    let keys = work.join("keys");
    let store = KeyStore::open(&keys, MasterKey::read(&keys.join("master.key"))?)?;
    if store.origin() != manifest.origin || store.generation() < manifest.generation {
        bail!("restore: the keys of this backup are not those that it names");
    }
    if held.is_empty() {
        // The journal is in a bucket: what is known of the trail's key is what the key store signs with.
        let (identity, signers) = crate::log_key::signing(&store)?;
        held.push(identity.vkey);
        held.extend(signers.iter().map(|signer| signer.verifier().to_string()));
        if held[0] != manifest.vkey {
            bail!("restore: the keys of this backup are not those that it names");
        }
    }
    Ok(Checked { size, unsigned, keys: held })
}

/// What a high-water mark on another path knows that the backup has not.
fn missing(work: &Path, size: u64) -> Result<Option<u64>> {
    let config = Config::read(work)?;
    let Some(path) = &config.high_water_copy else { return Ok(None) };
    let mark = HighWater::read(&work.join(path), None)?;
    Ok(mark.map(|mark| mark.size.saturating_sub(size)))
}

/// A restored trail is not opened for anything before it is known that it may go on.
pub fn refuse_restored(paths: &Paths, config: &Config) -> Result<()> {
    let path = paths.keys().join(MARK);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        bytes => bytes.with_context(|| format!("read {}", path.display()))?,
    };
    let from: RestoredFrom = serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
    let copy = config.high_water_copy.as_ref().map(|copy| HighWater::read(&paths.data.join(copy), None)).transpose()?;
    match copy.flatten() {
        // Who wrote it is checked when the trail opens.
        Some(mark) if mark.size == from.size && closes(paths, &mark)? => {
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
        }
        Some(mark) if mark.size <= from.size => bail!(
            "open {}: it was restored from the backup of {}, and the high-water mark elsewhere may be a second older than what was signed last: if nothing was signed after it, say so (candor restore --nothing-newer --data {}); else open a successor (candor init --data NEW --succeeds {})",
            paths.data.display(),
            from.made,
            paths.data.display(),
            paths.data.display()
        ),
        Some(mark) => bail!(
            "open {}: it was restored from the backup of {}, and {} signed entries after it are missing: it does not go on; open a successor (candor init --data NEW --succeeds {})",
            paths.data.display(),
            from.made,
            mark.size - from.size,
            paths.data.display()
        ),
        None => bail!(
            "open {}: it was restored from the backup of {} with {} entries: if nothing was signed after it, say so (candor restore --nothing-newer --data {}); else open a successor (candor init --data NEW --succeeds {})",
            paths.data.display(),
            from.made,
            from.size,
            paths.data.display(),
            paths.data.display()
        ),
    }
}

/// Whether a mark names the frame without entries that ends the journal. Such a frame comes after a second of idleness or at
/// a stop, and the first entry after it moves the mark before anybody is answered: so nothing was answered after it.
fn closes(paths: &Paths, mark: &HighWater) -> Result<bool> {
    let disk = RealDisk::read_only(&paths.journal());
    let Some(last) = disk.segments()?.checked_sub(1) else { return Ok(false) };
    let scan = ledger::directory::scan(&disk, last, |_, _| Ok(()))?;
    let closing = scan.frames.last().map(|frame| &frame.header);
    Ok(closing.is_some_and(|header| header.count == 0 && header.number == mark.frame && header.digest == mark.digest))
}

/// Its owner says that nothing was signed after the backup: the trail goes on, and says so. Gives the entry.
pub fn accept(data: &Path) -> Result<u64> {
    let paths = Paths { data: data.to_owned() };
    let path = paths.keys().join(MARK);
    let bytes =
        std::fs::read(&path).with_context(|| format!("restore {}: nothing was restored here", data.display()))?;
    let from: RestoredFrom = serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
    let config = Config::read(data)?;
    if let Some(copy) = &config.high_water_copy
        && let Some(mark) = HighWater::read(&data.join(copy), None)?
        && mark.size > from.size
    {
        refuse_restored(&paths, &config)?;
    }
    let aside = path.with_extension("accepted");
    std::fs::rename(&path, &aside).with_context(|| format!("rename {}", path.display()))?;
    let trail = match Trail::open(data, OpenMode::default()) {
        Ok(trail) => trail,
        Err(error) => {
            std::fs::rename(&aside, &path).with_context(|| format!("rename {}", aside.display()))?;
            return Err(error);
        }
    };
    let fields =
        json!({"backup_id": from.backup_id, "size": from.size, "made": from.made, "actor": crate::commands::actor()});
    let entry = trail.intake.own_one("BACKUP_RESTORED", fields);
    trail.close()?;
    let entry = entry?;
    std::fs::remove_file(&aside).with_context(|| format!("remove {}", aside.display()))?;
    Ok(entry)
}

/// The checkpoint that a restored directory can be succeeded by: that of the last entry of its journal.
pub fn last_checkpoint(data: &Path) -> Result<Option<String>> {
    if !data.join("keys").join(MARK).exists() {
        return Ok(None);
    }
    let config = Config::read(data)?;
    let paths = Paths { data: data.to_owned() };
    if let Some(copy) = &config.high_water_copy
        && let Some(mark) = HighWater::read(&data.join(copy), None)?
    {
        return Ok(Some(mark.checkpoint));
    }
    let master = crate::trail::read_master_key(&paths, &config)?;
    let store = KeyStore::open(&paths.keys(), master)?;
    Ok(Some(crate::trail::newest_checkpoint(&paths, &config, &store)?))
}
