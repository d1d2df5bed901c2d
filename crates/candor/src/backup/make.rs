//! Making a backup, beside a server or without one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use seal::random::RandomPool;
use serde_json::{Map, Value, json};
use views::registers::Thing;
use views::words::filter;

use super::{
    Begun, Counted, DAY_MS, Folder, MARK_VERSION, Manifest, Mark, Part, Segment, VERSION, hex, private, recipient,
    sync_folder,
};
use crate::beat::beat;
use crate::config::Backup;
use crate::trail::Trail;

/// After the start of a server.
const FIRST: Duration = Duration::from_secs(300);
/// Where a failed backup is tried again.
const AGAIN: Duration = Duration::from_secs(3600);
/// Of what is used again, one in so many files is hashed by a backup.
const SHARES: u32 = 7;
/// Files of the data directory that are part of a backup beside keys, people and journal.
const CONFIGURED_BYTES_MAX: u64 = 16 << 20;

/// What came of it.
pub struct Made {
    pub manifest: Manifest,
    pub entry: u64,
    /// Segments copied this time, and their bytes.
    pub copied: u32,
    pub copied_bytes: u64,
    /// Backups whose time was over.
    pub expired: Vec<String>,
}

/// What making a backup is told.
pub struct How<'a> {
    /// The folder may have no backups although some that were made there live yet.
    pub new_folder: bool,
    /// Ends it early: what was copied of the journal is used by the next backup.
    pub stop: &'a AtomicBool,
    /// Counts bytes written.
    pub told: &'a mut dyn FnMut(u64),
}

/// Makes a backup and prunes those whose time is over.
pub fn make<'a>(trail: &'a Trail, config: &Backup, how: How<'a>) -> Result<Made> {
    let to = recipient(&config.recipient)?;
    let path = trail.paths.data.join(&config.folder);
    let inside = |path: &Path| {
        let data = std::fs::canonicalize(&trail.paths.data).ok()?;
        Some(std::fs::canonicalize(path.parent()?).ok()?.starts_with(data))
    };
    if inside(&path).unwrap_or(false) {
        bail!("backup: {} is in the data directory, and would be lost with it: set backup.folder", path.display());
    }
    let identity = trail.intake.reader().identity().clone();
    let mark = Mark { v: MARK_VERSION, origin: identity.origin.clone(), vkey: identity.vkey.clone() };
    let new = !path.join(super::MARK).exists();
    if new && !how.new_folder {
        refuse_empty(trail, &path)?;
    }
    let folder = Folder::open(&path, &mark)?;
    let mut backup = Making { trail, folder, to, written: 0, how };
    backup.clear()?;
    let before = backup.folder.manifests()?;
    if !new {
        backup.record_lost(&before)?;
    }
    // What the recovery key of now does not open is not used again.
    let usable = |to: &Option<String>| to.as_ref() == Some(&config.recipient);
    let mut held: Vec<Segment> =
        before.last().filter(|newest| usable(&newest.recipient)).map_or(Vec::new(), |newest| newest.segments.clone());
    held.extend(
        backup.folder.begun()?.filter(|begun| usable(&begun.recipient)).map_or(Vec::new(), |begun| begun.segments),
    );

    let now = SystemClock.now();
    // What has ended makes room for what is to come, and goes on its day even where nothing new can be written.
    let mut expired = match before.last() {
        Some(newest) => backup.prune(now, &newest.backup_id)?,
        None => Vec::new(),
    };
    let random = proof::encoding::hex(&RandomPool::default().take::<4>());
    let backup_id = format!("{}-{random}", now.rfc3339().replace(['-', ':', '.'], "").replace('T', "t").to_lowercase());
    let expires = UnixMillis(now.0 + u64::from(config.keep_days) * DAY_MS).rfc3339();
    // Most of the journal first, which takes long; then the entry, so that the backup has its own, and the rest.
    let first = backup.journal(trail.intake.reader().size(), &held, true)?;
    if backup.how.stop.load(Ordering::Acquire) {
        backup.folder.keep_begun(&Begun {
            v: VERSION,
            recipient: Some(config.recipient.clone()),
            segments: first.segments,
        })?;
        bail!("backup: it was stopped: what it copied is used by the next one");
    }
    // Nobody decides about keys while the rest and the keys are copied.
    let alone = trail.deciding.lock().map_err(|_| anyhow!("another thread failed"))?;
    let generation = trail.store.lock()?.generation();
    let fields = json!({
        "backup_id": backup_id, "size": trail.intake.reader().size(), "generation": generation, "expires": expires,
    });
    let entry = trail.intake.own_one("BACKUP_MADE", fields)?;
    // If we stop before the manifest: the next backup says that this one is not there.
    trail.intake.submitter().close_frame()?;
    let published = trail.intake.reader().published();
    let rest = backup.journal(published.size, &first.segments, false)?;
    // Then the keys: what is copied of the journal never needs a key that the backup has not.
    let (state, generation) = backup.state(&backup_id)?;
    drop(alone);
    let manifest = Manifest {
        v: VERSION,
        backup_id,
        origin: identity.origin,
        vkey: identity.vkey,
        made: now.rfc3339(),
        expires,
        size: published.size,
        root: published.root.hex(),
        generation,
        recipient: Some(config.recipient.clone()),
        journal_elsewhere: trail.config.journal.is_some(),
        segments: rest.segments,
        state,
    };
    let path = backup.folder.manifest_path(&manifest.backup_id);
    super::write_whole(&path, serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    backup.folder.forget_begun()?;
    expired.extend(backup.prune(now, &manifest.backup_id)?);
    let (copied, copied_bytes) = (first.copied.max(rest.copied), first.copied_bytes + rest.copied_bytes);
    Ok(Made { manifest, entry, copied, copied_bytes, expired })
}

/// Segments of the journal in the folder.
struct Copied {
    segments: Vec<Segment>,
    copied: u32,
    copied_bytes: u64,
}

struct Making<'a> {
    trail: &'a Trail,
    folder: Folder,
    to: age::x25519::Recipient,
    written: u64,
    how: How<'a>,
}

/// Where the folder has no backups and the trail made some that live yet, the folder is not there: a disk that is not
/// mounted, most often, and what is written below its mount point is not elsewhere.
fn refuse_empty(trail: &Trail, path: &Path) -> Result<()> {
    let Some(facts) = newest_made(trail)? else { return Ok(()) };
    let text = |name| facts.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let lives = UnixMillis::parse(text("expires").as_bytes()).is_ok_and(|expires| expires > SystemClock.now());
    if lives && !is_expired(trail, text("backup_id"))? {
        bail!(
            "backup {}: there are no backups here, and that of {} is kept until {}: mount what belongs there, or say that the folder is new (candor backup run --new-folder)",
            path.display(),
            text("timestamp"),
            text("expires")
        );
    }
    Ok(())
}

/// What the trail says of the backup that was made last, while that can be read.
fn newest_made(trail: &Trail) -> Result<Option<Map<String, Value>>> {
    match trail.views()?.newest(vec![filter("kind", "BACKUP_MADE")], 1)?.first() {
        Some(index) => Ok(trail.past()?.facts(*index)?.map(|(_, facts)| facts)),
        None => Ok(None),
    }
}

/// Whether the trail says that a backup is not there any more.
fn is_expired(trail: &Trail, id: &str) -> Result<bool> {
    let past = trail.past()?;
    for index in trail.views()?.find(Thing::Own, id, 8)? {
        if past.facts(index)?.is_some_and(|(kind, _)| kind == "BACKUP_EXPIRED") {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Making<'_> {
    /// Takes away what a stop left: half-written files, and the rest of expiries.
    fn clear(&self) -> Result<()> {
        for below in ["backups", "files"] {
            for name in self.folder.names(below)? {
                if name.ends_with(".part") {
                    let path = self.folder.path.join(below).join(&name);
                    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
                }
            }
        }
        self.remove_unnamed()?;
        for name in self.folder.names("backups")? {
            if let Some(id) = name.strip_suffix(".expired") {
                self.record_expired(id)?;
            }
        }
        Ok(())
    }

    /// Of a backup that was recorded and never came to its manifest, or was taken away by hand, it is recorded that it is
    /// not there.
    fn record_lost(&self, manifests: &[Manifest]) -> Result<()> {
        let made = newest_made(self.trail)?;
        let Some(id) = made.as_ref().and_then(|facts| facts.get("backup_id")).and_then(Value::as_str) else {
            return Ok(());
        };
        if !manifests.iter().any(|manifest| manifest.backup_id == id) && !is_expired(self.trail, id)? {
            self.trail.intake.own_one("BACKUP_EXPIRED", json!({"backup_id": id}))?;
        }
        Ok(())
    }

    /// Encrypts into a new file of the folder, whose name is known when all was read; synced, under its name.
    fn write(
        &mut self,
        name: impl FnOnce(&str, &str) -> String,
        fill: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Part> {
        let part = self.folder.path.join("files").join("new.part");
        let file = private(&part).with_context(|| format!("write {}", part.display()))?;
        let mut counted = Counted::new(file);
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&self.to as &dyn age::Recipient))
            .map_err(|why| anyhow!("encrypt a backup: {why}"))?;
        let mut clear = Counted::new(encryptor.wrap_output(&mut counted).context("encrypt a backup")?);
        fill(&mut clear)?;
        let Counted { inner, hash, .. } = clear;
        inner.finish().context("encrypt a backup")?;
        // What was encrypted twice are two files: each manifest names its own.
        let sha256 = hex(std::mem::take(&mut counted.hash));
        let file = name(&hex(hash)[..16], &sha256[..8]);
        counted.inner.sync_all().with_context(|| format!("write {}", part.display()))?;
        let path = self.folder.path.join("files").join(&file);
        std::fs::rename(&part, &path)
            .and_then(|()| sync_folder(&path))
            .with_context(|| format!("write {}", path.display()))?;
        self.written += counted.bytes;
        (self.how.told)(self.written);
        Ok(Part { file, bytes: counted.bytes, sha256 })
    }

    /// The segments up to a size; those that are in the folder already and did not change are not copied. The first time
    /// takes long: it can be stopped, and looks at some of what it uses again.
    fn journal(&mut self, size: u64, before: &[Segment], first: bool) -> Result<Copied> {
        if self.trail.config.journal.is_some() {
            return Ok(Copied { segments: Vec::new(), copied: 0, copied_bytes: 0 });
        }
        let held: HashMap<u32, &Segment> = before.iter().map(|segment| (segment.number, segment)).collect();
        let (last, end) = self.trail.intake.reader().end_of(size)?;
        let share = SystemClock.now().day() % SHARES;
        let mut segments = Vec::new();
        let (mut copied, mut copied_bytes) = (0, 0);
        for number in 0..=last {
            if first && self.how.stop.load(Ordering::Acquire) {
                break;
            }
            let path = self.trail.paths.journal().join(ledger::segment::file_name(number));
            let mut file = File::open(&path).with_context(|| format!("read {}", path.display()))?;
            let meta = file.metadata().with_context(|| format!("read {}", path.display()))?;
            let length = if number == last { end } else { meta.len() };
            let changed_ns = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
            let same = held.get(&number).filter(|held| {
                (held.length, held.inode, held.changed_ns) == (length, meta.ino(), changed_ns)
                    && std::fs::metadata(self.folder.file(&held.part)).is_ok_and(|there| there.len() == held.part.bytes)
                    // A week's backups look at each once: what has rotted there is copied again.
                    && (!first || number % SHARES != share || self.folder.check(&held.part).is_ok())
            });
            if let Some(same) = same {
                segments.push((*same).clone());
                continue;
            }
            let part = self.write(
                |clear, sealed| format!("{number:010}-{clear}-{sealed}.seg.age"),
                |out| {
                    file.seek(SeekFrom::Start(0))?;
                    let count =
                        io::copy(&mut file.take(length), out).with_context(|| format!("copy {}", path.display()))?;
                    if count != length {
                        bail!("copy {}: it is shorter than it was", path.display());
                    }
                    Ok(())
                },
            )?;
            copied += 1;
            copied_bytes += length;
            segments.push(Segment { number, length, inode: meta.ino(), changed_ns, part });
        }
        Ok(Copied { segments, copied, copied_bytes })
    }

    /// Keys, people, places in logs, and the files of the configuration, as one archive.
    fn state(&mut self, id: &str) -> Result<(Part, u64)> {
        let work = self.trail.paths.data.join(super::WORK);
        let _ = std::fs::remove_dir_all(&work);
        crate::trail::make_private(&work)?;
        let made = self.state_in(id, &work);
        // Encrypted pages and boxes, as they lie in keys/ and access/.
        std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        made
    }

    fn state_in(&mut self, id: &str, work: &Path) -> Result<(Part, u64)> {
        let paths = &self.trail.paths;
        let (snapshot, generation, master) = {
            let mut store = self.trail.store.lock()?;
            (store.snapshot()?, store.generation(), store.master_text())
        };
        snapshot.write(work)?;
        drop(snapshot);
        access::store::copy(&paths.access().join("people.db"), &work.join("people.db"))?;
        let mut files = vec![
            (work.join("root"), "keys/root".to_owned()),
            (work.join("store.db"), "keys/store.db".to_owned()),
            (work.join("people.db"), "access/people.db".to_owned()),
        ];
        files.extend(configured(&paths.data, &self.trail.config)?);
        for item in std::fs::read_dir(paths.sources()).context("list the states of sources")? {
            let path = item?.path();
            if path.extension().is_some_and(|end| end == "state")
                && let Some(name) = path.file_name().and_then(|name| name.to_str())
            {
                files.push((path.clone(), format!("sources/{name}")));
            }
        }
        let part = self.write(
            |_, _| format!("state-{id}.tar.age"),
            |out| {
                let mut archive = tar::Builder::new(out);
                let mut add = |name: &str, length: u64, bytes: &mut dyn Read| {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(length);
                    header.set_mode(0o600);
                    header.set_mtime(0);
                    archive
                        .append_data(&mut header, name, bytes)
                        .with_context(|| format!("write {name} into the backup"))
                };
                add("keys/master.key", master.len() as u64 + 1, &mut master.as_bytes().chain(&b"\n"[..]))?;
                for (path, name) in &files {
                    let file = match File::open(path) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        file => file.with_context(|| format!("read {}", path.display()))?,
                    };
                    let length = file.metadata()?.len();
                    add(name, length, &mut file.take(length))?;
                }
                archive.finish().context("write the backup")
            },
        )?;
        Ok((part, generation))
    }

    /// Removes backups whose time is over, but never the newest, and then what no backup names any more.
    fn prune(&self, now: UnixMillis, newest: &str) -> Result<Vec<String>> {
        let mut expired = Vec::new();
        for manifest in self.folder.manifests()? {
            if manifest.backup_id != newest && manifest.expires_at() <= now {
                let path = self.folder.manifest_path(&manifest.backup_id);
                let to = path.with_extension("expired");
                std::fs::rename(&path, &to).with_context(|| format!("rename {}", path.display()))?;
                expired.push(manifest.backup_id);
            }
        }
        // If we stop after this line: the next backup goes on here.
        self.remove_unnamed()?;
        for id in &expired {
            self.record_expired(id)?;
        }
        Ok(expired)
    }

    fn record_expired(&self, id: &str) -> Result<()> {
        if !is_expired(self.trail, id)? {
            self.trail.intake.own_one("BACKUP_EXPIRED", json!({"backup_id": id}))?;
        }
        let path = self.folder.manifest_path(id).with_extension("expired");
        std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    /// Removes the files that no manifest names.
    fn remove_unnamed(&self) -> Result<()> {
        let manifests = self.folder.manifests()?;
        let there = self.folder.names("backups")?.iter().filter(|name| name.ends_with(".json")).count();
        if manifests.len() != there {
            bail!(
                "backup: a manifest in {} does not read: nothing is removed before it is mended or taken away",
                self.folder.path.display()
            );
        }
        let begun = self.folder.begun()?.map_or(Vec::new(), |begun| begun.segments);
        let named: HashSet<&str> = manifests
            .iter()
            .flat_map(|manifest| manifest.parts())
            .chain(begun.iter().map(|segment| &segment.part))
            .map(|part| part.file.as_str())
            .collect();
        for name in self.folder.names("files")? {
            if !named.contains(name.as_str()) {
                let path = self.folder.path.join("files").join(&name);
                std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// The files that the configuration names and that lie in the data directory, with itself.
fn configured(data: &Path, config: &crate::config::Config) -> Result<Vec<(PathBuf, String)>> {
    let mut files = vec![(data.join("candor.toml"), "candor.toml".to_owned())];
    let mut take = |path: &Path| {
        let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if let Some(name) = path.to_str().filter(|_| plain) {
            let full = data.join(path);
            if std::fs::metadata(&full).is_ok_and(|meta| meta.is_file() && meta.len() <= CONFIGURED_BYTES_MAX) {
                files.push((full, name.to_owned()));
            }
        }
    };
    [&config.policy_file, &config.rules_file].into_iter().flatten().for_each(|path| take(path));
    if let Some(folder) = &config.kinds_folder {
        for item in std::fs::read_dir(data.join(folder)).context("list the kinds")? {
            take(&folder.join(item?.file_name()));
        }
    }
    Ok(files)
}

/// Makes backups beside the server.
pub fn serve(trail: &Trail, config: &Backup, stop: &AtomicBool) {
    step_back(LAST);
    let every = Duration::from_secs(u64::from(config.every_hours) * 3600);
    beat(stop, FIRST, || {
        let pause = match make(trail, config, How { new_folder: false, stop, told: &mut |_| {} }) {
            Ok(_) => every,
            Err(_) if stop.load(Ordering::Acquire) => every,
            Err(error) => {
                eprintln!("candor: no backup could be made: {error:#}: it is tried again in an hour");
                AGAIN
            }
        };
        Instant::now() + pause
    });
}
