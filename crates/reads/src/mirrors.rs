//! Who else has the journal: what a mirror says it has verified and keeps, and what follows for an entry.
//!
//! A signature says that the trail's key has seen a tree. It does not keep whoever has that key and the disk from signing
//! another one; a copy elsewhere does, for what it has. So the two are told apart wherever a proof is shown.

use std::sync::{Arc, Mutex, PoisonError};

use ledger::reader::Reader;
use proof::hash::Hash;
use proof::time::UnixMillis;
use proof::tree::range_root;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Copies that are kept in mind, at most: of keys of the scope mirror.
pub const COPIES_MAX: usize = 64;

/// What one mirror has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// Id of the key by which it asks.
    pub key: String,
    /// Entries that it keeps, each verified.
    pub size: u64,
    /// When it last said so.
    pub told_at: String,
}

/// What stands beside a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Whether a signed tree has the entry.
    pub signed: bool,
    /// Mirrors that have it.
    pub mirrored: usize,
    /// Mirrors that are known.
    pub mirrors: usize,
    /// Whether nobody else is known to have it: who has this machine and its keys could write it anew, unseen by all but
    /// holders of a receipt or checkpoint.
    pub rewritable: bool,
}

/// What stands beside the proof of an entry.
pub fn standing(copies: &[Copy], signed_size: u64, index: u64) -> Standing {
    let mirrored = copies.iter().filter(|copy| copy.size > index).count();
    Standing { signed: index < signed_size, mirrored, mirrors: copies.len(), rewritable: mirrored == 0 }
}

/// What a mirror was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Its tree is the one here.
    Fits,
    /// It has other entries than the trail has here; the sentence says which.
    Differs(String),
}

type Keep = Box<dyn Fn(&[Copy]) + Send + Sync>;

/// The copies that are known, for as long as the server runs and after.
pub struct Mirrors {
    copies: Mutex<Vec<Copy>>,
    reader: Arc<Reader>,
    keep: Keep,
}

impl Mirrors {
    /// Those known from before; `keep` is told of each change.
    pub fn new(reader: Arc<Reader>, copies: Vec<Copy>, keep: Keep) -> Mirrors {
        Mirrors { copies: Mutex::new(copies), reader, keep }
    }

    /// What is known.
    pub fn copies(&self) -> Vec<Copy> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Entries that at least one mirror has.
    pub fn mirrored(&self) -> u64 {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|copy| copy.size).max().unwrap_or(0)
    }

    /// What stands beside the proof of an entry.
    pub fn standing(&self, index: u64) -> Standing {
        standing(&self.copies(), self.reader.size(), index)
    }

    /// A mirror says what it has: the root of its tree of `size` entries must be the one here.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn told(&self, key: &str, size: u64, root: &Hash, now: UnixMillis) -> Result<Told, Error> {
        let here = self.reader.size();
        if size > here {
            return Ok(Told::Differs(format!(
                "mirror {key} has {size} entries, and the trail has {here}: {} that were signed are missing here",
                size - here
            )));
        }
        if range_root(self.reader.as_ref(), 0, size)? != *root {
            return Ok(Told::Differs(format!(
                "mirror {key} has another tree of {size} entries than the trail has here"
            )));
        }
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let told = Copy { key: key.to_owned(), size, told_at: now.rfc3339() };
        match copies.iter().position(|copy| copy.key == key) {
            Some(place) => copies[place] = told,
            None if copies.len() < COPIES_MAX => copies.push(told),
            None => {}
        }
        let now_known = copies.clone();
        drop(copies);
        (self.keep)(&now_known);
        Ok(Told::Fits)
    }
}
