//! Backups: a folder that Candor manages, encrypted to a recovery key whose other half is not on this machine
//! (`docs/formats/backup.md`).
//!
//! What a backup has is written and synced before its manifest, so a manifest never names a file that is not there. Its own
//! entry is in it, so that what is restored of a machine that stopped after it lacks nothing that was signed. Segments that
//! did not change are not copied again. What a stop leaves is taken away by the next backup.

mod make;
mod restore;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use proof::time::UnixMillis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use make::{How, make, serve};
pub use restore::{Asked, accept, last_checkpoint, refuse_restored, restore};

const MARK: &str = "candor-backup.json";
/// Where in the data directory the key store is copied to while a backup is made.
pub const WORK: &str = "backup.tmp";
/// Of manifests; the folder's own mark is of version 1.
const VERSION: u16 = 2;
const MARK_VERSION: u16 = 1;
/// What a backup that was stopped has copied.
const BEGUN: &str = "begun.json";
const DAY_MS: u64 = 86_400_000;
/// Of a manifest: a hundred thousand segments.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Whose backups a folder has.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Mark {
    v: u16,
    origin: String,
    vkey: String,
}

/// One encrypted file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Name in the folder.
    file: String,
    /// Bytes and SHA-256 of what lies there.
    bytes: u64,
    sha256: String,
}

/// A segment of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment {
    number: u32,
    /// Bytes of it that are in the backup, in clear.
    length: u64,
    /// How the file was told apart from one that changed: inode and time of change in nanoseconds.
    inode: u64,
    changed_ns: i64,
    part: Part,
}

/// What a backup consists of; nothing in it is about a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    v: u16,
    pub backup_id: String,
    origin: String,
    /// The trail's first verifier key.
    pub vkey: String,
    pub made: String,
    pub expires: String,
    pub size: u64,
    root: String,
    pub generation: u64,
    /// Whom its files are encrypted to; from version 2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    /// Whether the journal is in a bucket, which keeps it itself.
    journal_elsewhere: bool,
    segments: Vec<Segment>,
    state: Part,
}

impl Manifest {
    /// Version 1 does not say whom it is encrypted to.
    fn is_known(&self) -> bool {
        self.v == 1 && self.recipient.is_none() || self.v == VERSION && self.recipient.is_some()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.segments.iter().map(|segment| &segment.part).chain([&self.state])
    }

    /// Bytes of all its files, shared ones too.
    pub fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    fn expires_at(&self) -> UnixMillis {
        UnixMillis::parse(self.expires.as_bytes()).unwrap_or_default()
    }
}

/// What a backup that was stopped has copied of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    v: u16,
    recipient: Option<String>,
    segments: Vec<Segment>,
}

/// A folder of backups.
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// Whether it is a name in the folder, and no path to elsewhere.
fn is_plain(name: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

impl Manifest {
    /// Whether it has the name of its file, and names files of its folder alone: who can write there writes no paths.
    fn is_plain(&self, name: &str) -> bool {
        name.strip_suffix(".json") == Some(&*self.backup_id)
            && is_plain(name)
            && self.parts().all(|part| is_plain(&part.file))
    }
}

impl Folder {
    /// Opens a folder for one trail's backups, which is made if it is not there.
    fn open(path: &Path, mark: &Mark) -> Result<Folder> {
        crate::trail::make_private(path)?;
        crate::trail::make_private(&path.join("backups"))?;
        crate::trail::make_private(&path.join("files"))?;
        let lock = lock(path)?;
        let file = path.join(MARK);
        match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_whole(&file, serde_json::to_string_pretty(mark)?.as_bytes())?;
            }
            bytes => {
                let held: Mark = serde_json::from_slice(&bytes.with_context(|| format!("read {}", file.display()))?)
                    .with_context(|| format!("read {}", file.display()))?;
                if held != *mark {
                    bail!("backup {}: it has backups of {}: choose another folder", path.display(), held.origin);
                }
            }
        }
        Ok(Folder { path: path.to_owned(), _lock: lock })
    }

    /// Opens a folder to read its backups.
    pub fn read(path: &Path) -> Result<Folder> {
        if !path.join(MARK).exists() {
            bail!("backup {}: there are no backups here", path.display());
        }
        Ok(Folder { path: path.to_owned(), _lock: lock(path)? })
    }

    fn manifest_path(&self, id: &str) -> PathBuf {
        self.path.join("backups").join(format!("{id}.json"))
    }

    /// The backups, the oldest first. One that does not read is told and left out.
    pub fn manifests(&self) -> Result<Vec<Manifest>> {
        let mut all = Vec::new();
        for name in self.names("backups")? {
            if !name.ends_with(".json") {
                continue;
            }
            let path = self.path.join("backups").join(&name);
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes))
                .with_context(|| format!("read {}", path.display()))?;
            match serde_json::from_slice::<Manifest>(&bytes) {
                Ok(manifest) if manifest.is_known() && manifest.is_plain(&name) => all.push(manifest),
                Ok(manifest) if manifest.is_known() => {
                    eprintln!(
                        "candor: backup {name}: its manifest names what is not in its folder: it is none of ours"
                    );
                }
                Ok(manifest) => eprintln!("candor: backup {}: version {} is not known", name, manifest.v),
                Err(error) => eprintln!("candor: backup {name}: its manifest does not read ({error})"),
            }
        }
        all.sort_by(|a, b| a.made.cmp(&b.made));
        Ok(all)
    }

    fn names(&self, below: &str) -> Result<Vec<String>> {
        let folder = self.path.join(below);
        let mut names = Vec::new();
        for item in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            names.extend(item?.file_name().into_string());
        }
        Ok(names)
    }

    /// What a backup that was stopped has copied. One that does not read is none: it is copied again.
    fn begun(&self) -> Result<Option<Begun>> {
        let path = self.path.join(BEGUN);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                read.with_context(|| format!("read {}", path.display()))?;
                let begun: Option<Begun> = serde_json::from_slice(&bytes).ok();
                Ok(begun.filter(|begun| {
                    begun.v == VERSION && begun.segments.iter().all(|segment| is_plain(&segment.part.file))
                }))
            }
        }
    }

    fn keep_begun(&self, begun: &Begun) -> Result<()> {
        write_whole(&self.path.join(BEGUN), serde_json::to_string(begun)?.as_bytes())
    }

    fn forget_begun(&self) -> Result<()> {
        let path = self.path.join(BEGUN);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn file(&self, part: &Part) -> PathBuf {
        self.path.join("files").join(&part.file)
    }

    /// Whether a file is what the manifest says.
    fn check(&self, part: &Part) -> Result<()> {
        let path = self.file(part);
        let mut file = Counted::new(File::open(&path).with_context(|| format!("read {}", path.display()))?);
        io::copy(&mut file, &mut io::sink()).with_context(|| format!("read {}", path.display()))?;
        if file.bytes != part.bytes || hex(file.hash) != part.sha256 {
            bail!("{}: it is not what was written: another backup may have it whole", path.display());
        }
        Ok(())
    }

    /// Checks every file of a backup; `told` counts bytes.
    pub fn check_all(&self, manifest: &Manifest, mut told: impl FnMut(u64)) -> Result<()> {
        let mut done = 0;
        for part in manifest.parts() {
            self.check(part)?;
            done += part.bytes;
            told(done);
        }
        Ok(())
    }
}

/// Opens a file of the folder, and nothing else that somebody put under its name.
fn in_folder(options: &mut std::fs::OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(path)
}

fn lock(path: &Path) -> Result<File> {
    let place = path.join("lock");
    let made = in_folder(std::fs::OpenOptions::new().write(true).create(true).truncate(false), &place);
    let file = match made {
        // A snapshot, or a mount that is only read.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            in_folder(std::fs::OpenOptions::new().read(true), &place)
        }
        made => made,
    };
    let file = file.with_context(|| format!("lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!("backup {}: another process is at it", path.display()),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn hex(hash: Sha256) -> String {
    proof::encoding::hex(&hash.finalize())
}

/// Writes a file beside its place, synced, and renames it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        let mut file = private(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        sync_folder(path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    in_folder(std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600), path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Hashes and counts what goes through it.
struct Counted<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Counted<T> {
    fn new(inner: T) -> Counted<T> {
        Counted { inner, hash: Sha256::new(), bytes: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.note(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.note(&bytes[..count]);
        Ok(count)
    }
}

/// Makes a recovery key: the secret half goes to a file that must not exist; gives the public one.
pub fn make_key(path: &Path) -> Result<String> {
    use age::secrecy::ExposeSecret;
    use std::os::unix::fs::OpenOptionsExt;
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = zeroize::Zeroizing::new(format!(
        "# Candor recovery key (age). Who has it and a backup reads everything: keep it off this machine, twice.\n# public: {recipient}\n{}\n",
        identity.to_string().expose_secret()
    ));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(recipient)
}

/// Reads the public half.
pub fn recipient(text: &str) -> Result<age::x25519::Recipient> {
    text.parse().map_err(|why| anyhow::anyhow!("backup.recipient is no age recipient such as age1...: {why}"))
}

/// When the last of the backups that were made, and may still be there, is removed.
pub fn last_expiry(trail: &crate::trail::Trail) -> Result<Option<UnixMillis>> {
    let past = trail.past()?;
    let mut last = None;
    for index in trail.views()?.newest(vec![views::words::filter("kind", "BACKUP_MADE")], LOOKED_AT_MAX)? {
        if let Some((_, facts)) = past.facts(index)? {
            let expires = facts.get("expires").and_then(serde_json::Value::as_str).unwrap_or_default();
            last = last.max(UnixMillis::parse(expires.as_bytes()).ok());
        }
    }
    Ok(last)
}

/// Backups that are looked at for the last that expires: an hourly one of a month.
const LOOKED_AT_MAX: usize = 1000;
