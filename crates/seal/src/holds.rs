//! Holds: what must be kept although its period ends (`docs/formats/keystore.md`).
//!
//! A hold has a ring: the content keys of held entries, each of one body alone, under a key of the ring. Releasing the hold
//! destroys that key, and with it all of the ring, whatever pages of it are left. What a hold covers is decided by who
//! ends a period; this keeps the keys.

use zeroize::Zeroizing;

use crate::crypto::{Key, decrypt, encrypt};
use crate::error::Error;
use crate::pages::Tree;
use crate::store::{KeyStore, key_of};

/// Entry, key of the facts, key of the personal body.
const HELD_BYTES: usize = 72;
/// Held entries in a leaf: 4.6 KiB.
const HELD_IN_LEAF: usize = 64;
/// Held entries handed over at once, at most: one row of a hold.
pub const HELD_MAX: usize = 65_536;
/// Bytes of a hold's filter, at most.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Rows of a hold, at most: a day's period each for ten years, and as many again for large ones.
const RUNS_MAX: usize = 8192;
const RUN_BYTES: usize = 16;
const VERSION: u8 = 1;
const LIVE: u8 = 1;
const RELEASED: u8 = 2;

/// The content keys of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The entry.
    pub entry: u64,
    /// Key of its facts.
    pub facts: Key,
    /// Key of its personal body, where it has one whose person was not erased.
    pub personal: Option<Key>,
}

/// A part of a ring: entries of one period, in order.
#[derive(Debug, Clone, Copy)]
struct Run {
    period: u32,
    first_leaf: u64,
    entries: u32,
}

/// One hold.
#[derive(Debug, Clone)]
pub struct Hold {
    /// What it is called.
    pub id: String,
    /// What it covers, in words of who made it.
    pub filter: String,
    /// The entry that says that it was placed; none of one that was always there.
    pub placed_by: u64,
    ring: Option<Key>,
    runs: Vec<Run>,
}

impl Hold {
    /// Whether it holds still.
    pub fn is_live(&self) -> bool {
        self.ring.is_some()
    }

    /// How many entries are in its ring: those whose period has ended.
    pub fn ring_entries(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.entries)).sum()
    }
}

/// All holds, by their numbers.
#[derive(Default)]
pub(crate) struct Holds {
    all: Vec<Hold>,
    leaves: u64,
}

impl Holds {
    /// Holds and leaves of rings that there ever were, as the meta page has them.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [self.all.len() as u64, self.leaves]
    }
}

fn corrupt(why: &'static str) -> Error {
    Error::Corrupt { what: "key store holds", why }
}

fn write(hold: &Hold, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(&[VERSION, if hold.is_live() { LIVE } else { RELEASED }]);
    bytes.extend_from_slice(hold.ring.as_ref().map_or(&[0; 32], |key| &key.0));
    bytes.extend_from_slice(&hold.placed_by.to_be_bytes());
    for text in [&hold.id, &hold.filter] {
        bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(&(hold.runs.len() as u32).to_be_bytes());
    for run in &hold.runs {
        bytes.extend_from_slice(&run.period.to_be_bytes());
        bytes.extend_from_slice(&run.first_leaf.to_be_bytes());
        bytes.extend_from_slice(&run.entries.to_be_bytes());
    }
}

fn read(bytes: &[u8]) -> Option<Hold> {
    fn number(bytes: &mut &[u8], count: usize) -> Option<u64> {
        let (head, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(proof::encoding::big_endian(head))
    }
    fn text(bytes: &mut &[u8]) -> Option<String> {
        let length = number(bytes, 2)? as usize;
        let (head, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        String::from_utf8(head.to_vec()).ok()
    }
    let (head, mut rest) = bytes.split_at_checked(34)?;
    if head[0] != VERSION || !matches!(head[1], LIVE | RELEASED) {
        return None;
    }
    let ring = (head[1] == LIVE).then(|| key_of(&head[2..34]));
    let placed_by = number(&mut rest, 8)?;
    let (id, filter) = (text(&mut rest)?, text(&mut rest)?);
    let count = number(&mut rest, 4)?;
    if rest.len() as u64 != count * RUN_BYTES as u64 {
        return None;
    }
    let mut runs = Vec::new();
    for _ in 0..count {
        let period = number(&mut rest, 4)? as u32;
        runs.push(Run { period, first_leaf: number(&mut rest, 8)?, entries: number(&mut rest, 4)? as u32 });
    }
    Some(Hold { id, filter, placed_by, ring, runs })
}

impl KeyStore {
    pub(crate) fn read_holds(&mut self, [count, leaves]: [u64; 2]) -> Result<(), Error> {
        self.holds.leaves = leaves;
        for number in 0..count {
            let hold = read(self.pages.leaf(Tree::Holds, number)?).ok_or(corrupt("a hold that is none"))?;
            self.holds.all.push(hold);
        }
        Ok(())
    }

    /// All holds that there ever were, in the order in which they were placed.
    pub fn holds(&self) -> &[Hold] {
        &self.holds.all
    }

    fn write_hold(&mut self, number: usize) -> Result<(), Error> {
        self.pages.touch_meta();
        write(&self.holds.all[number], self.pages.leaf_mut(Tree::Holds, number as u64)?);
        Ok(())
    }

    fn hold_number(&self, id: &str) -> Option<usize> {
        self.holds.all.iter().position(|hold| hold.id == id)
    }

    /// Makes a hold; durable when it returns. Doing it again does nothing.
    ///
    /// # Errors
    /// The store cannot be written.
    ///
    /// # Panics
    /// Where id or filter are longer than [`FILTER_BYTES_MAX`].
    pub fn place_hold(&mut self, id: &str, filter: &str, entry: u64) -> Result<(), Error> {
        assert!(id.len().max(filter.len()) <= FILTER_BYTES_MAX, "the caller keeps to the limit");
        if self.hold_number(id).is_some() {
            return Ok(());
        }
        let ring = Some(Key(self.random.take()));
        let hold = Hold { id: id.into(), filter: filter.into(), placed_by: entry, ring, runs: Vec::new() };
        self.holds.all.push(hold);
        self.generation += 1;
        self.write_hold(self.holds.all.len() - 1)?;
        self.commit()
    }

    /// Puts entries of a period, in order, into a hold's ring; durable when it returns. What is in it is not put again.
    ///
    /// # Errors
    /// There is no such living hold, or the store cannot be written.
    pub fn hold_entries(&mut self, id: &str, period: u32, entries: &[Held]) -> Result<(), Error> {
        let none = Error::Corrupt { what: "key store holds", why: "there is no such living hold" };
        let number = self.hold_number(id).filter(|number| self.holds.all[*number].is_live()).ok_or(none)?;
        let mut new = Vec::with_capacity(entries.len());
        for held in entries {
            if self.in_ring(number, period, held.entry)?.is_none() {
                new.push(held);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let hold = &self.holds.all[number];
        let Some(ring) = hold.ring.clone().filter(|_| hold.runs.len() < RUNS_MAX && new.len() <= HELD_MAX) else {
            return Err(Error::Corrupt { what: "key store holds", why: "more rows than a hold may have" });
        };
        let run = Run { period, first_leaf: self.holds.leaves, entries: new.len() as u32 };
        for some in new.chunks(HELD_IN_LEAF) {
            let leaf = self.holds.leaves;
            let mut clear = Zeroizing::new(Vec::with_capacity(HELD_IN_LEAF * HELD_BYTES));
            for held in some {
                clear.extend_from_slice(&held.entry.to_be_bytes());
                clear.extend_from_slice(&held.facts.0);
                clear.extend_from_slice(held.personal.as_ref().map_or(&[0; 32], |key| &key.0));
            }
            let nonce = self.random.take::<12>();
            let bytes = self.pages.leaf_mut(Tree::Held, leaf)?;
            bytes.clear();
            bytes.extend_from_slice(&nonce);
            bytes.extend_from_slice(&clear);
            encrypt(&ring, nonce, &leaf.to_be_bytes(), bytes, 12);
            self.holds.leaves += 1;
        }
        self.holds.all[number].runs.push(run);
        self.write_hold(number)?;
        self.commit()
    }

    /// The content keys that any hold keeps of an entry.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn held(&mut self, entry: u64, period: u32) -> Result<Option<Held>, Error> {
        for number in 0..self.holds.all.len() {
            if let Some(held) = self.in_ring(number, period, entry)? {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    fn in_ring(&mut self, number: usize, period: u32, entry: u64) -> Result<Option<Held>, Error> {
        let hold = &self.holds.all[number];
        let Some(ring) = hold.ring.clone() else { return Ok(None) };
        let runs: Vec<Run> = hold.runs.iter().filter(|run| run.period == period).copied().collect();
        for run in runs {
            let leaves = u64::from(run.entries).div_ceil(HELD_IN_LEAF as u64);
            let (mut low, mut high) = (0, leaves);
            while low < high {
                let middle = low + (high - low) / 2;
                let held = self.held_leaf(&ring, run.first_leaf + middle)?;
                match held.binary_search_by_key(&entry, |held| held.entry) {
                    Ok(at) => return Ok(held.get(at).cloned()),
                    Err(0) => high = middle,
                    Err(_) => low = middle + 1,
                }
            }
        }
        Ok(None)
    }

    fn held_leaf(&mut self, ring: &Key, leaf: u64) -> Result<Vec<Held>, Error> {
        let bytes = self.pages.leaf(Tree::Held, leaf)?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>().ok_or(corrupt("a ring without its nonce"))?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let clear = decrypt(ring, *nonce, &leaf.to_be_bytes(), &mut buffer)?;
        let held = |row: &[u8]| Held {
            entry: proof::encoding::big_endian(&row[..8]),
            facts: key_of(&row[8..40]),
            personal: row[40..].iter().any(|byte| *byte != 0).then(|| key_of(&row[40..])),
        };
        Ok(clear.chunks_exact(HELD_BYTES).map(held).collect())
    }

    /// The entries in a hold's ring and their periods, a leaf at a time.
    ///
    /// # Errors
    /// The store cannot be read, or `each` fails.
    pub fn each_held<E: From<Error>>(
        &mut self,
        id: &str,
        mut each: impl FnMut(u32, &[Held]) -> Result<(), E>,
    ) -> Result<(), E> {
        let hold = self.holds.all.iter().find(|hold| hold.id == id);
        let Some((ring, runs)) = hold.and_then(|hold| Some((hold.ring.clone()?, hold.runs.clone()))) else {
            return Ok(());
        };
        for run in runs {
            for leaf in 0..u64::from(run.entries).div_ceil(HELD_IN_LEAF as u64) {
                each(run.period, &self.held_leaf(&ring, run.first_leaf + leaf)?)?;
            }
        }
        Ok(())
    }

    /// Whether a living hold keeps anything of a period.
    pub fn holds_of_period(&self, period: u32) -> bool {
        let keeps = |hold: &Hold| hold.is_live() && hold.runs.iter().any(|run| run.period == period);
        self.holds.all.iter().any(keeps)
    }

    /// Ends a hold: its ring is destroyed with its key; durable when it returns. Doing it again does nothing.
    ///
    /// # Errors
    /// The store cannot be written; then nothing may be assumed, and it is done again at the next start.
    pub fn release_hold(&mut self, id: &str) -> Result<(), Error> {
        let Some(number) = self.hold_number(id).filter(|number| self.holds.all[*number].is_live()) else {
            return Ok(());
        };
        self.holds.all[number].ring = None;
        for run in std::mem::take(&mut self.holds.all[number].runs) {
            for leaf in 0..u64::from(run.entries).div_ceil(HELD_IN_LEAF as u64) {
                // Noise without the ring's key; only the room is given back.
                self.pages.leaf_mut(Tree::Held, run.first_leaf + leaf)?.clear();
            }
        }
        self.write_hold(number)?;
        self.pages.doom(Tree::Holds, number as u64);
        self.commit()
    }
}
