//! Notes of purges under way (`docs/formats/view-file.md`): written before the keys are destroyed that could tell what is
//! to be purged, removed when the purge is done. They are written without the views being open, since what a stop left
//! undone is done again before they open.

use std::path::{Path, PathBuf};

use proof::encoding::big_endian;
use seal::crypto::Key;

use crate::bytes::{Input, put_text};
use crate::error::{Error, io};
use crate::file::Vault;

const VERSION: u8 = 1;

/// A thing of a register, by the register's place and its id.
pub type Touched = (u8, String);

/// A period that has ended, and what lists knew by its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) period: u32,
    pub(crate) things: Vec<Touched>,
}

/// See the module.
#[derive(Clone)]
pub struct Notes {
    folder: PathBuf,
    vault: Vault,
}

impl Notes {
    /// The notes of the views in a folder, which exists.
    pub fn new(folder: &Path, view_key: &Key) -> Notes {
        Notes::of(folder, Vault::new(view_key))
    }

    pub(crate) fn of(folder: &Path, vault: Vault) -> Notes {
        Notes { folder: folder.to_owned(), vault }
    }

    fn forgotten(&self) -> PathBuf {
        self.folder.join("forget.pending")
    }

    fn expired(&self) -> PathBuf {
        self.folder.join("expire.pending")
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match self.vault.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("read")(error)),
        }
    }

    fn remove(path: &Path) -> Result<(), Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove")(error)),
            _ => Ok(()),
        }
    }

    /// Entries of an erased person are to be purged, beside those that were noted before.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn forget(&self, entries: &[u64]) -> Result<(), Error> {
        let mut all = self.to_forget()?.unwrap_or_default();
        all.extend_from_slice(entries);
        all.sort_unstable();
        all.dedup();
        let bytes: Vec<u8> = all.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.vault.replace(&self.forgotten(), &bytes).map_err(io("write"))
    }

    pub(crate) fn to_forget(&self) -> Result<Option<Vec<u64>>, Error> {
        let entries = |bytes: Vec<u8>| bytes.chunks_exact(8).map(big_endian).collect();
        Ok(self.read(&self.forgotten())?.map(entries))
    }

    pub(crate) fn forgotten_done(&self) -> Result<(), Error> {
        Notes::remove(&self.forgotten())
    }

    /// A period ends: its entries are to be purged, and these things to be folded again from what is left. What was noted
    /// of it before stands.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn expire(&self, period: u32, things: Vec<Touched>) -> Result<(), Error> {
        let mut all = self.to_expire()?;
        match all.iter_mut().find(|expiry| expiry.period == period) {
            Some(held) => held.things.extend(things),
            None => all.push(Expiry { period, things }),
        }
        let mut bytes = vec![VERSION];
        for expiry in &all {
            bytes.extend_from_slice(&expiry.period.to_be_bytes());
            bytes.extend_from_slice(&(expiry.things.len() as u32).to_be_bytes());
            for (register, id) in &expiry.things {
                bytes.push(*register);
                put_text(&mut bytes, id);
            }
        }
        self.vault.replace(&self.expired(), &bytes).map_err(io("write"))
    }

    pub(crate) fn to_expire(&self) -> Result<Vec<Expiry>, Error> {
        let Some(bytes) = self.read(&self.expired())? else { return Ok(Vec::new()) };
        parse(&bytes).ok_or(Error::Corrupt("note of an expiry"))
    }

    pub(crate) fn expired_done(&self) -> Result<(), Error> {
        Notes::remove(&self.expired())
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Expiry>> {
    let mut input = Input { rest: bytes.strip_prefix(&[VERSION])? };
    let mut all = Vec::new();
    while !input.rest.is_empty() {
        let period = big_endian(input.take(4)?) as u32;
        let count = big_endian(input.take(4)?);
        let mut things = Vec::new();
        for _ in 0..count {
            things.push((input.take(1)?[0], input.text()?));
        }
        all.push(Expiry { period, things });
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_add_up_and_go_when_they_are_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let notes = Notes::new(folder.path(), &Key::from_bytes([7; 32]));
        assert_eq!((notes.to_forget().expect("read"), notes.to_expire().expect("read")), (None, Vec::new()));
        notes.forget(&[5, 3]).expect("written");
        notes.forget(&[4, 3]).expect("written");
        assert_eq!(notes.to_forget().expect("read"), Some(vec![3, 4, 5]));
        notes.expire(9, vec![(1, "T-1".into())]).expect("written");
        notes.expire(2, Vec::new()).expect("written");
        notes.expire(9, vec![(1, "T-2".into())]).expect("written");
        let both = vec![
            Expiry { period: 9, things: vec![(1, "T-1".into()), (1, "T-2".into())] },
            Expiry { period: 2, things: Vec::new() },
        ];
        assert_eq!(notes.to_expire().expect("read"), both);
        assert!(parse(&[2]).is_none() && parse(&[1, 0]).is_none());
        notes.forgotten_done().expect("removed");
        notes.expired_done().expect("removed");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
