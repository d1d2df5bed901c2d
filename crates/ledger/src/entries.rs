//! What the sections of a frame hold: entry records, and the sealed records that belong to them.

use proof::entry::{Entry, EntryId, Personal, Who, is_class_name, is_kind_name};
use proof::hash::{Hash, leaf, sha256};
use proof::time::UnixMillis;

use crate::frame::{Broken, Frame};
use crate::wire::Cursor;

/// Bytes of one entry in the entry section.
pub const ENTRY_RECORD_BYTES: usize = 106;
/// Where the tag stands in it.
pub(crate) const ENTRY_RECORD_TAG: usize = 26;

/// The records of one body section.
#[derive(Debug, Clone)]
pub enum Bodies<'a> {
    /// The sealed records.
    Present {
        /// End of each record in `data`.
        ends: Vec<usize>,
        /// The records, one after the other.
        data: &'a [u8],
    },
    /// The period has ended: only digests remain.
    Ended {
        /// The entry that ended it.
        by: u64,
        /// H(sealed record) of each.
        digests: Vec<Hash>,
    },
}

impl<'a> Bodies<'a> {
    /// Number of records.
    pub fn count(&self) -> usize {
        match self {
            Bodies::Present { ends, .. } => ends.len(),
            Bodies::Ended { digests, .. } => digests.len(),
        }
    }

    /// The sealed bytes of a record, if they are still there.
    pub fn sealed(&self, place: usize) -> Option<&'a [u8]> {
        match self {
            Bodies::Present { ends, data } => {
                let start = if place == 0 { 0 } else { *ends.get(place - 1)? };
                data.get(start..*ends.get(place)?)
            }
            Bodies::Ended { .. } => None,
        }
    }

    /// H(sealed record).
    pub fn digest(&self, place: usize) -> Option<Hash> {
        match self {
            Bodies::Present { .. } => self.sealed(place).map(sha256),
            Bodies::Ended { digests, .. } => digests.get(place).copied(),
        }
    }
}

/// The entry section, read.
#[derive(Debug, Clone)]
pub struct EntrySection<'a> {
    /// Kind names that the records number.
    pub kinds: Vec<&'a str>,
    /// Class names that the records number.
    pub classes: Vec<&'a str>,
    records: &'a [u8],
}

/// One record of the entry section.
#[derive(Debug, Clone, Copy)]
pub struct EntryRecord<'a> {
    /// Milliseconds after the frame's time.
    pub at_delta: u32,
    /// Kind name.
    pub kind: &'a str,
    /// Class name.
    pub class: &'a str,
    /// Which body section (counted from 0 among body sections) has its sealed record.
    pub section: u16,
    /// Entry id.
    pub id: EntryId,
    /// Commitment to the facts.
    pub facts: Hash,
    /// Tag and commitment of the personal body.
    pub personal: Option<Personal>,
}

impl<'a> EntrySection<'a> {
    /// That of a frame without entries.
    pub(crate) fn empty() -> EntrySection<'a> {
        EntrySection { kinds: Vec::new(), classes: Vec::new(), records: &[] }
    }

    pub(crate) fn parse(payload: &'a [u8], count: usize) -> Result<EntrySection<'a>, Broken> {
        let bad = Broken::Malformed("the entry section does not follow its format");
        let mut cursor = Cursor::new(payload);
        let kind_count = usize::from(cursor.u16().ok_or(bad)?);
        let class_count = usize::from(cursor.u8().ok_or(bad)?);
        let mut names = |count: usize, valid: fn(&str) -> bool| -> Option<Vec<&'a str>> {
            let mut names: Vec<&'a str> = Vec::new();
            for _ in 0..count {
                let length = usize::from(cursor.u8()?);
                let name = std::str::from_utf8(cursor.take(length)?).ok()?;
                if !valid(name) || names.contains(&name) {
                    return None;
                }
                names.push(name);
            }
            Some(names)
        };
        let kinds = names(kind_count, is_kind_name).ok_or(bad)?;
        let classes = names(class_count, is_class_name).ok_or(bad)?;
        let records = payload.get(cursor.at..).ok_or(bad)?;
        if records.len() != count * ENTRY_RECORD_BYTES {
            return Err(bad);
        }
        Ok(EntrySection { kinds, classes, records })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.records.len() / ENTRY_RECORD_BYTES
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entry at this place in the frame.
    ///
    /// # Errors
    /// The record does not follow the format.
    pub fn record(&self, place: usize) -> Result<EntryRecord<'a>, Broken> {
        let bad = Broken::Malformed("an entry record does not follow its format");
        let bytes = self.records.get(place * ENTRY_RECORD_BYTES..(place + 1) * ENTRY_RECORD_BYTES).ok_or(bad)?;
        let mut cursor = Cursor::new(bytes);
        let at_delta = cursor.u32().ok_or(bad)?;
        let kind = self.kinds.get(usize::from(cursor.u16().ok_or(bad)?)).ok_or(bad)?;
        let class = self.classes.get(usize::from(cursor.u8().ok_or(bad)?)).ok_or(bad)?;
        let flags = cursor.u8().ok_or(bad)?;
        let section = cursor.u16().ok_or(bad)?;
        let id = EntryId(cursor.array().ok_or(bad)?);
        let who = Who(cursor.array().ok_or(bad)?);
        let facts = cursor.hash().ok_or(bad)?;
        let commitment = cursor.hash().ok_or(bad)?;
        let personal = match flags {
            1 => Some(Personal { who, commitment }),
            0 if who == Who::default() && commitment == Hash::default() => None,
            _ => return Err(bad),
        };
        Ok(EntryRecord { at_delta, kind, class, section, id, facts, personal })
    }

    /// How many entries before `place` have their sealed record in the same section: the place in that section.
    pub fn place_in_section(&self, place: usize) -> usize {
        let section_of = |place: usize| {
            let at = place * ENTRY_RECORD_BYTES + 8;
            self.records.get(at..at + 2)
        };
        let own = section_of(place);
        (0..place).filter(|other| section_of(*other) == own).count()
    }
}

impl<'a> EntryRecord<'a> {
    /// The exact entry.
    pub fn entry(&self, prev: Hash, frame_at: UnixMillis, sealed: Hash) -> Entry<'a> {
        let at = UnixMillis(frame_at.0.saturating_add(u64::from(self.at_delta)));
        Entry {
            prev,
            at,
            id: self.id,
            kind: self.kind,
            class: self.class,
            personal: self.personal,
            facts: self.facts,
            sealed,
        }
    }
}

/// An entry made again from a frame; it hashes to its stored leaf hash.
pub struct Rebuilt<'a> {
    /// Index.
    pub index: u64,
    /// The exact entry, borrowed until the next one.
    pub bytes: &'a [u8],
    /// Its leaf hash.
    pub leaf: Hash,
    /// Which body section (counted from 0 among body sections) has its record.
    pub section: usize,
    /// The sealed record; `None` where the period has ended.
    pub sealed: Option<&'a [u8]>,
    /// H(sealed record).
    pub digest: Hash,
}

/// An entry that cannot be made again: its index, if it is one entry's fault, and why.
pub type NotRebuilt = (Option<u64>, String);

/// Makes every entry of a frame again, the first one following the leaf hash `prev`; `each` says whether to go on. Gives
/// how many records of each body section were used.
///
/// # Errors
/// The frame does not follow its format, or an entry does not hash to its stored leaf hash.
pub fn rebuild(
    frame: &Frame<'_>,
    bodies: &[Bodies<'_>],
    mut prev: Hash,
    mut each: impl FnMut(Rebuilt<'_>) -> bool,
) -> Result<Vec<usize>, NotRebuilt> {
    let entries = frame.entries().map_err(|why| (None, why.to_string()))?;
    let mut used = vec![0usize; bodies.len()];
    let mut bytes = Vec::with_capacity(proof::entry::ENTRY_BYTES_MAX);
    for place in 0..entries.len() {
        let index = frame.header.first_index + place as u64;
        let bad = |why: String| (Some(index), why);
        let record = entries.record(place).map_err(|why| bad(why.to_string()))?;
        let section = usize::from(record.section);
        let (Some(body), Some(taken)) = (bodies.get(section), used.get_mut(section)) else {
            return Err(bad("no section has its record".into()));
        };
        let sealed = body.sealed(*taken);
        let digest = body.digest(*taken).ok_or_else(|| bad("its section has no record for it".into()))?;
        *taken += 1;
        bytes.clear();
        record.entry(prev, frame.header.at, digest).write(&mut bytes);
        let leaf = leaf(&bytes);
        if frame.leaf(place) != Some(leaf) {
            return Err(bad("it does not hash to its leaf".into()));
        }
        prev = leaf;
        if !each(Rebuilt { index, bytes: &bytes, leaf, section, sealed, digest }) {
            break;
        }
    }
    Ok(used)
}
