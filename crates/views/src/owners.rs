//! Which subject an entry is about: the only thing that connects the two, so it is purged with the person.
//!
//! One encrypted file for each partition: eight bytes an entry, 0 for none. What is not in such a file yet stands in a
//! log, one encrypted chunk for each commit, so that a killed process loses no owner; after a loss of power the last
//! chunks may be gone, and the owners are found again through the subjects' tags. There are two logs: while partitions
//! are written, the owners that arrive go to the other one.
//!
//! One thread adds, one thread flushes and forgets; any may read.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use proof::encoding::big_endian;
use seal::crypto::{Key, decrypt, encrypt};
use seal::random::RandomPool;

use crate::error::{Error, io};
use crate::file::Vault;
use crate::index::PARTITION;

const LOGS: [&str; 2] = ["open.log", "open.2.log"];

/// The owners of one trail.
pub(crate) struct Owners {
    folder: PathBuf,
    vault: Vault,
    open: RwLock<Open>,
}

/// What is not in files yet.
struct Open {
    partitions: BTreeMap<u64, Vec<u64>>,
    logs: [std::fs::File; 2],
    /// The log that is written to.
    log: usize,
    log_key: Key,
    random: RandomPool,
}

fn path(folder: &Path, partition: u64) -> PathBuf {
    folder.join(format!("{partition:010}.own"))
}

impl Open {
    fn set(&mut self, entry: u64, subject: u64) {
        let held = self.partitions.entry(entry / PARTITION).or_default();
        let place = (entry % PARTITION) as usize;
        if held.len() <= place {
            held.resize(place + 1, 0);
        }
        held[place] = subject;
    }

    fn get(&self, entry: u64) -> Option<u64> {
        let held = self.partitions.get(&(entry / PARTITION))?;
        held.get((entry % PARTITION) as usize).copied().filter(|subject| *subject != 0)
    }
}

impl Owners {
    pub(crate) fn open(folder: &Path, vault: Vault) -> Result<Owners, Error> {
        std::fs::create_dir_all(folder).map_err(io("create"))?;
        let log = |name: &str| {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).append(true).create(true).open(folder.join(name)).map_err(io("open"))
        };
        let open = Open {
            partitions: BTreeMap::new(),
            logs: [log(LOGS[0])?, log(LOGS[1])?],
            log: 0,
            log_key: vault.key(b"candor/v1/owners-log\n"),
            random: RandomPool::default(),
        };
        let owners = Owners { folder: folder.to_owned(), vault, open: RwLock::new(open) };
        for name in LOGS {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).map_err(io("read"))?;
            let whole = owners.read_log(&bytes)?;
            if whole < bytes.len() {
                // A torn chunk would hide those that are written after it.
                let log = std::fs::OpenOptions::new().write(true).open(&path).map_err(io("open"))?;
                log.set_len(whole as u64).map_err(io("cut"))?;
            }
        }
        Ok(owners)
    }

    /// Reads whole chunks; a torn last one is what a crash leaves. Gives how many bytes the whole ones have.
    fn read_log(&self, all: &[u8]) -> Result<usize, Error> {
        let mut bytes = all;
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let Some((chunk, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
            let Some((nonce, sealed)) = chunk.split_first_chunk::<12>() else { break };
            let mut sealed = sealed.to_vec();
            let pairs: Vec<(u64, u64)> = {
                let open = self.open.read().map_err(|_| Error::Stopped)?;
                let Ok(clear) = decrypt(&open.log_key, *nonce, b"", &mut sealed) else { break };
                clear.chunks_exact(16).map(|pair| (big_endian(&pair[..8]), big_endian(&pair[8..]))).collect()
            };
            self.set(&pairs)?;
            bytes = rest;
        }
        Ok(all.len() - bytes.len())
    }

    /// Sets owners in memory, with what their partitions' files have beside them.
    fn set(&self, pairs: &[(u64, u64)]) -> Result<(), Error> {
        for (entry, subject) in pairs {
            self.load(entry / PARTITION)?;
            self.open.write().map_err(|_| Error::Stopped)?.set(*entry, *subject);
        }
        Ok(())
    }

    fn load(&self, partition: u64) -> Result<(), Error> {
        if self.open.read().map_err(|_| Error::Stopped)?.partitions.contains_key(&partition) {
            return Ok(());
        }
        let held = match self.vault.read(&path(&self.folder, partition)) {
            Ok(bytes) => bytes.chunks_exact(8).map(big_endian).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io("read")(error)),
        };
        self.open.write().map_err(|_| Error::Stopped)?.partitions.entry(partition).or_insert(held);
        Ok(())
    }

    /// Sets the owners of one commit's entries and notes them in the log.
    pub(crate) fn add(&self, pairs: &[(u64, u64)]) -> Result<(), Error> {
        let Some((first, _)) = pairs.first() else { return Ok(()) };
        // A commit lies in one partition or two; after a restart they may have a file already.
        self.load(first / PARTITION)?;
        self.load(pairs[pairs.len() - 1].0 / PARTITION)?;
        let mut open = self.open.write().map_err(|_| Error::Stopped)?;
        let nonce = open.random.take::<12>();
        let mut chunk = Vec::with_capacity(32 + 16 * pairs.len());
        chunk.extend_from_slice(&[0; 4]);
        chunk.extend_from_slice(&nonce);
        for (entry, subject) in pairs {
            open.set(*entry, *subject);
            chunk.extend_from_slice(&entry.to_be_bytes());
            chunk.extend_from_slice(&subject.to_be_bytes());
        }
        encrypt(&open.log_key, nonce, b"", &mut chunk, 16);
        let length = (chunk.len() - 4) as u32;
        chunk[..4].copy_from_slice(&length.to_be_bytes());
        let log = open.log;
        open.logs[log].write_all(&chunk).map_err(io("write"))
    }

    pub(crate) fn get(&self, entry: u64) -> Result<Option<u64>, Error> {
        {
            let open = self.open.read().map_err(|_| Error::Stopped)?;
            if open.partitions.contains_key(&(entry / PARTITION)) {
                return Ok(open.get(entry));
            }
        }
        let file = match self.vault.open(&path(&self.folder, entry / PARTITION)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read")(error)),
        };
        let place = entry % PARTITION;
        if (place + 1) * 8 > file.length {
            return Ok(None);
        }
        let subject = big_endian(&file.read(place * 8, 8).map_err(io("read"))?);
        Ok((subject != 0).then_some(subject))
    }

    /// Writes what is open and keeps in memory only the partitions from the one that `next` falls into.
    pub(crate) fn flush(&self, next: u64) -> Result<(), Error> {
        let (held, written_log) = {
            let mut open = self.open.write().map_err(|_| Error::Stopped)?;
            let before = open.log;
            open.log = 1 - before;
            (open.partitions.clone(), before)
        };
        // If we stop after this line: everything is in the two logs.
        for (partition, held) in &held {
            let bytes: Vec<u8> = held.iter().flat_map(|subject| subject.to_be_bytes()).collect();
            self.vault.replace(&path(&self.folder, *partition), &bytes).map_err(io("write"))?;
        }
        let mut open = self.open.write().map_err(|_| Error::Stopped)?;
        // What is no longer in memory is in a file just written: a partition that came up meanwhile is a later one.
        open.partitions.retain(|partition, _| *partition >= next / PARTITION || !held.contains_key(partition));
        open.logs[written_log].set_len(0).map_err(io("cut"))
    }

    /// Forgets whose these entries are, in memory, files and logs.
    pub(crate) fn forget(&self, entries: &[u64], next: u64) -> Result<(), Error> {
        // Partition by partition: a person may have entries in all of them.
        for chunk in entries.chunk_by(|a, b| a / PARTITION == b / PARTITION) {
            let none: Vec<(u64, u64)> = chunk.iter().map(|entry| (*entry, 0)).collect();
            self.set(&none)?;
            self.flush(next)?;
        }
        // Twice at least: the first empties one log, the second the other.
        self.flush(next)?;
        self.flush(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_outlive_restarts_with_and_without_a_flush_and_are_forgotten_everywhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = Vault::new(&Key::from_bytes([1; 32]));
        let open = || Owners::open(folder.path(), vault.clone()).expect("open");
        let owners = open();
        let owner = |entry: u64| (!entry.is_multiple_of(3)).then_some(entry + 7);
        let pairs = |range: std::ops::Range<u64>| -> Vec<(u64, u64)> {
            range.filter_map(|entry| Some((entry, owner(entry)?))).collect()
        };
        owners.add(&pairs(PARTITION - 10..PARTITION)).expect("added");
        owners.add(&pairs(PARTITION..PARTITION + 10)).expect("added");
        drop(owners);
        let owners = open();
        owners.flush(PARTITION + 10).expect("flushed");
        owners.add(&pairs(PARTITION + 10..PARTITION + 20)).expect("added");
        drop(owners);
        let owners = open();
        for entry in PARTITION - 10..PARTITION + 20 {
            assert_eq!(owners.get(entry).expect("read"), owner(entry), "{entry}");
        }
        owners.forget(&[PARTITION - 2, PARTITION + 16], PARTITION + 20).expect("forgotten");
        drop(owners);
        for log in LOGS {
            assert_eq!(std::fs::metadata(folder.path().join(log)).expect("there").len(), 0, "{log}");
        }
        let owners = open();
        for entry in PARTITION - 10..PARTITION + 20 {
            let expected = owner(entry).filter(|_| entry != PARTITION - 2 && entry != PARTITION + 16);
            assert_eq!(owners.get(entry).expect("read"), expected, "{entry}");
        }
    }
}
