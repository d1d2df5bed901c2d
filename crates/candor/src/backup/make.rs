//! Making a backup, beside a server or without one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use seal::random::RandomPool;
use serde_json::json;
use views::registers::Thing;
use views::words::filter;

use super::{Counted, DAY_MS, Folder, Manifest, Mark, Part, Segment, VERSION, hex, private, recipient, sync_folder};
use crate::beat::beat;
use crate::config::Backup;
use crate::trail::Trail;

/// After the start of a server.
const FIRST: Duration = Duration::from_secs(300);
/// Where a failed backup is tried again.
const AGAIN: Duration = Duration::from_secs(3600);
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

/// Makes a backup and prunes those whose time is over; `told` counts bytes written.
pub fn make(trail: &Trail, config: &Backup, told: &mut dyn FnMut(u64)) -> Result<Made> {
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
    let mark = Mark { v: VERSION, origin: identity.origin.clone(), vkey: identity.vkey.clone() };
    let folder = Folder::open(&path, &mark)?;
    let mut backup = Making { trail, folder, to, written: 0, told };
    backup.clear()?;
    let before = backup.folder.manifests()?;
    backup.record_lost(&before)?;

    let now = SystemClock.now();
    let random = proof::encoding::hex(&RandomPool::default().take::<4>());
    let backup_id = format!("{}-{random}", now.rfc3339().replace(['-', ':', '.'], "").replace('T', "t").to_lowercase());
    let expires = UnixMillis(now.0 + u64::from(config.keep_days) * DAY_MS).rfc3339();
    // Most of the journal first, which takes long; then the entry, so that the backup has its own, and the rest.
    let first = backup.journal(trail.intake.reader().size(), before.last().map_or(&[], |newest| &newest.segments))?;
    let generation = trail.store.lock()?.generation();
    let fields = json!({
        "backup_id": backup_id, "size": trail.intake.reader().size(), "generation": generation, "expires": expires,
    });
    let entry = trail.intake.own_one("BACKUP_MADE", fields)?;
    // If we stop before the manifest: the next backup says that this one is not there.
    trail.intake.submitter().close_frame()?;
    let published = trail.intake.reader().published();
    let rest = backup.journal(published.size, &first.segments)?;
    // Then the keys: what is copied of the journal never needs a key that the backup has not.
    let (state, generation) = backup.state(&backup_id)?;
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
        journal_elsewhere: trail.config.journal.is_some(),
        segments: rest.segments,
        state,
    };
    let path = backup.folder.manifest_path(&manifest.backup_id);
    super::write_whole(&path, serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    let expired = backup.prune(now, &manifest.backup_id)?;
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
    told: &'a mut dyn FnMut(u64),
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

    fn is_recorded(&self, id: &str, kind: &str) -> Result<bool> {
        let past = self.trail.past()?;
        for index in self.trail.views()?.find(Thing::Own, id, 8)? {
            if past.facts(index)?.is_some_and(|(held, _)| held == kind) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Of a backup that was recorded and never came to its manifest, or was taken away by hand, it is recorded that it is
    /// not there.
    fn record_lost(&self, manifests: &[Manifest]) -> Result<()> {
        let past = self.trail.past()?;
        for index in self.trail.views()?.newest(vec![filter("kind", "BACKUP_MADE")], 1)? {
            let Some((_, facts)) = past.facts(index)? else { continue };
            let Some(id) = facts.get("backup_id").and_then(serde_json::Value::as_str) else { continue };
            if !manifests.iter().any(|manifest| manifest.backup_id == id) && !self.is_recorded(id, "BACKUP_EXPIRED")? {
                self.trail.intake.own_one("BACKUP_EXPIRED", json!({"backup_id": id}))?;
            }
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
        (self.told)(self.written);
        Ok(Part { file, bytes: counted.bytes, sha256 })
    }

    /// The segments up to a size; those that are in the folder already and did not change are not copied.
    fn journal(&mut self, size: u64, before: &[Segment]) -> Result<Copied> {
        if self.trail.config.journal.is_some() {
            return Ok(Copied { segments: Vec::new(), copied: 0, copied_bytes: 0 });
        }
        let held: HashMap<u32, &Segment> = before.iter().map(|segment| (segment.number, segment)).collect();
        let (last, end) = self.trail.intake.reader().end_of(size)?;
        let mut segments = Vec::new();
        let (mut copied, mut copied_bytes) = (0, 0);
        for number in 0..=last {
            let path = self.trail.paths.journal().join(ledger::segment::file_name(number));
            let mut file = File::open(&path).with_context(|| format!("read {}", path.display()))?;
            let meta = file.metadata().with_context(|| format!("read {}", path.display()))?;
            let length = if number == last { end } else { meta.len() };
            let changed_ns = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
            let same = held.get(&number).filter(|held| {
                (held.length, held.inode, held.changed_ns) == (length, meta.ino(), changed_ns)
                    && std::fs::metadata(self.folder.file(&held.part)).is_ok_and(|there| there.len() == held.part.bytes)
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
        if !self.is_recorded(id, "BACKUP_EXPIRED")? {
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
        let named: HashSet<&str> =
            manifests.iter().flat_map(|manifest| manifest.parts()).map(|part| part.file.as_str()).collect();
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
        let alone = trail.deciding.lock().map_err(|_| anyhow!("another thread failed"));
        let made = alone.and_then(|_alone| make(trail, config, &mut |_| {}));
        let pause = match made {
            Ok(_) => every,
            Err(error) => {
                eprintln!("candor: no backup could be made: {error:#}: it is tried again in an hour");
                AGAIN
            }
        };
        Instant::now() + pause
    });
}
