//! Which subject an entry is about: the only thing that connects the two, so it is purged with the person.
//!
//! One encrypted file for each partition: eight bytes an entry, 0 for none. What is not in such a file yet stands in
//! `open.log`, one encrypted chunk for each commit, so that a killed process loses no owner; after a loss of power the
//! last chunks may be gone, and the owners are found again through the subjects' tags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, io};
use crate::file::Vault;
use crate::index::PARTITION;
use seal::crypto::{Key, decrypt, encrypt};
use seal::random::RandomPool;
use std::io::Write;

/// The owners of one trail.
pub(crate) struct Owners {
    folder: PathBuf,
    vault: Vault,
    open: BTreeMap<u64, Vec<u64>>,
    log: std::fs::File,
    log_key: Key,
    random: RandomPool,
}

fn path(folder: &Path, partition: u64) -> PathBuf {
    folder.join(format!("{partition:010}.own"))
}

impl Owners {
    pub(crate) fn open(folder: &Path, vault: Vault) -> Result<Owners, Error> {
        std::fs::create_dir_all(folder).map_err(io("create"))?;
        let path = folder.join("open.log");
        let log = std::fs::OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(io("open"))?;
        let log_key = vault.key(b"candor/v1/owners-log\n");
        let mut owners = Owners {
            folder: folder.to_owned(),
            vault,
            open: BTreeMap::new(),
            log,
            log_key,
            random: RandomPool::default(),
        };
        owners.read_log(&std::fs::read(&path).map_err(io("read"))?)?;
        Ok(owners)
    }

    /// Reads whole chunks; a torn last one is what a crash leaves.
    fn read_log(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let Some((chunk, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
            let Some((nonce, sealed)) = chunk.split_first_chunk::<12>() else { break };
            let mut sealed = sealed.to_vec();
            let Ok(clear) = decrypt(&self.log_key, *nonce, b"", &mut sealed) else { break };
            let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            for pair in clear.chunks_exact(16) {
                self.set(number(&pair[..8]), number(&pair[8..]))?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Sets the owners of one commit's entries and notes them in the log.
    pub(crate) fn add(&mut self, pairs: &[(u64, u64)]) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        let nonce = self.random.take::<12>();
        let mut chunk = vec![0; 4];
        chunk.extend_from_slice(&nonce);
        for (entry, subject) in pairs {
            self.set(*entry, *subject)?;
            chunk.extend_from_slice(&entry.to_be_bytes());
            chunk.extend_from_slice(&subject.to_be_bytes());
        }
        encrypt(&self.log_key, nonce, b"", &mut chunk, 16);
        let length = (chunk.len() - 4) as u32;
        chunk[..4].copy_from_slice(&length.to_be_bytes());
        self.log.write_all(&chunk).map_err(io("write"))
    }

    fn partition(&mut self, partition: u64) -> Result<&mut Vec<u64>, Error> {
        if !self.open.contains_key(&partition) {
            let held = self.load(partition)?;
            self.open.insert(partition, held);
        }
        self.open.get_mut(&partition).ok_or(Error::Stopped)
    }

    fn load(&self, partition: u64) -> Result<Vec<u64>, Error> {
        match self.vault.read(&path(&self.folder, partition)) {
            Ok(bytes) => {
                Ok(bytes.chunks_exact(8).map(|b| b.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))).collect())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io("read")(error)),
        }
    }

    pub(crate) fn set(&mut self, entry: u64, subject: u64) -> Result<(), Error> {
        let place = (entry % PARTITION) as usize;
        let held = self.partition(entry / PARTITION)?;
        if held.len() <= place {
            held.resize(place + 1, 0);
        }
        held[place] = subject;
        Ok(())
    }

    pub(crate) fn get(&self, entry: u64) -> Result<Option<u64>, Error> {
        let place = (entry % PARTITION) as usize;
        if let Some(held) = self.open.get(&(entry / PARTITION)) {
            return Ok(held.get(place).copied().filter(|subject| *subject != 0));
        }
        let file = match self.vault.open(&path(&self.folder, entry / PARTITION)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read")(error)),
        };
        if (place as u64 + 1) * 8 > file.length {
            return Ok(None);
        }
        let bytes = file.read(place as u64 * 8, 8).map_err(io("read"))?;
        let subject = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok((subject != 0).then_some(subject))
    }

    /// Writes what is open and keeps only the partition that `next` falls into.
    pub(crate) fn flush(&mut self, next: u64) -> Result<(), Error> {
        for (partition, held) in &self.open {
            let bytes: Vec<u8> = held.iter().flat_map(|subject| subject.to_be_bytes()).collect();
            self.vault.replace(&path(&self.folder, *partition), &bytes).map_err(io("write"))?;
        }
        self.open.retain(|partition, _| *partition == next / PARTITION);
        self.log.set_len(0).map_err(io("cut"))
    }

    pub(crate) fn forget(&mut self, entries: &[u64]) -> Result<(), Error> {
        for entry in entries {
            self.set(*entry, 0)?;
        }
        let next = self.open.keys().next_back().copied().unwrap_or(0) * PARTITION;
        self.flush(next)
    }
}
