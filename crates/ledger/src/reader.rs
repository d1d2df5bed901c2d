//! Reading: entries, sealed records, proofs. Shared by all threads; it never waits for the writer's disk.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, RwLock};

use proof::entry::Entry;
use proof::hash::Hash;
use proof::key_change::KeyChange;
use proof::receipt::{RECEIPT_VERSION, RECEIPT_VERSION_CHANGED, Receipt};
use proof::time::UnixMillis;
use proof::tlog_proof::TlogProof;
use proof::tree::{Nodes, inclusion_proof};

use crate::disk::Disk;
use crate::entries::{Bodies, ENTRY_RECORD_BYTES, ENTRY_RECORD_TAG, EntrySection, rebuild};
use crate::error::{Error, io};
use crate::frame::{Broken, Frame, Header};
use crate::index::SegmentIndex;
use crate::journal::Location;
use crate::segment::{Identity, file_name};
use crate::tree_store::{TreeStore, fold};

/// Frames whose header and entry section are kept: at most 434 KiB each, usually a tenth.
const CACHED_FRAMES_MAX: usize = 48;
/// Bytes read first: nearly every header fits.
const HEAD_BYTES: usize = 2048;

/// The newest state that readers may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Entries.
    pub size: u64,
    /// Root.
    pub root: Hash,
    /// Time of the last frame.
    pub at: UnixMillis,
    /// Signed checkpoint of that size.
    pub checkpoint: String,
    /// How the keys that signed it follow from the trail's first.
    pub key_changes: Arc<[KeyChange]>,
}

/// An entry read from the journal; its leaf hash was checked.
#[derive(Debug, Clone)]
pub struct StoredEntry {
    /// Position.
    pub index: u64,
    /// The exact entry.
    pub bytes: Vec<u8>,
    /// Its leaf hash.
    pub leaf: Hash,
    /// The sealed record; `None` where the period has ended and the journal has nothing of it any more.
    pub sealed: Option<Vec<u8>>,
    /// The entry that ended its period, where the journal says so.
    pub ended_by: Option<u64>,
}

impl StoredEntry {
    /// The entry's fields.
    ///
    /// # Errors
    /// None for an entry that a [`Reader`] gave.
    pub fn entry(&self) -> Result<Entry<'_>, Error> {
        Ok(Entry::parse(&self.bytes)?)
    }
}

struct CachedFrame {
    header: Header,
    /// Form, payload offset in the segment and length of each section.
    sections: Vec<(u8, u64, usize)>,
    /// The head of the frame and its entry section, as one frame of zero bodies would look.
    entries: Vec<u8>,
}

/// See the module.
pub struct Reader {
    disk: Arc<dyn Disk>,
    identity: Identity,
    index: Arc<RwLock<SegmentIndex>>,
    tree: Arc<TreeStore>,
    published: Arc<RwLock<Published>>,
    cache: Mutex<HashMap<(u32, u64), Arc<CachedFrame>>>,
}

fn corrupt(index: u64, why: impl std::fmt::Display) -> Error {
    Error::Corrupt { what: format!("entry {index}"), why: why.to_string() }
}

impl Reader {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        identity: Identity,
        index: Arc<RwLock<SegmentIndex>>,
        tree: Arc<TreeStore>,
        published: Arc<RwLock<Published>>,
    ) -> Reader {
        Reader { disk, identity, index, tree, published, cache: Mutex::default() }
    }

    /// Who the trail is, by its first key; [`Published::key_changes`] says how others followed.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The newest state.
    pub fn published(&self) -> Published {
        self.published.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.published.read().unwrap_or_else(std::sync::PoisonError::into_inner).size
    }

    fn with_index<T>(&self, read: impl FnOnce(&SegmentIndex) -> Result<T, Error>) -> Result<T, Error> {
        read(&self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The segment that is written to.
    pub(crate) fn open_segment(&self) -> u32 {
        self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner).open_segment()
    }

    pub(crate) fn segments_with(&self, period: u32) -> Result<Vec<u32>, Error> {
        self.with_index(|index| index.segments_with(period))
    }

    /// What was read of a segment is read again.
    pub(crate) fn forget_segment(&self, segment: u32) {
        if let Ok(mut cache) = self.cache.lock() {
            cache.retain(|(held, _), _| *held != segment);
        }
    }

    /// Segment and byte where a tree of this size ends, with the frame that closes it where that is there.
    ///
    /// # Errors
    /// There is no such tree yet, or the journal cannot be read.
    pub fn end_of(&self, size: u64) -> Result<(u32, u64), Error> {
        let location = self.locate(size.saturating_sub(1))?;
        let (name, mut end) = (file_name(location.segment), location.offset + location.length);
        // A frame without entries is its header alone.
        while let Ok(header) = Header::parse(
            &self.disk.read(&name, end, HEAD_BYTES).map_err(io("read", format!("segment {}", location.segment)))?,
        ) && header.count == 0
        {
            end += header.length as u64 + 4;
        }
        Ok((location.segment, end))
    }

    /// Bytes of a segment from an offset on, as far as they belong to what is published, and whether the segment ends with
    /// them for good; `None` where there is no such segment, or no such byte of it.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn piece(&self, segment: u32, offset: u64, most: usize) -> Result<Option<(Vec<u8>, bool)>, Error> {
        let (last, end) = self.end_of(self.size())?;
        let name = file_name(segment);
        let end = match segment.cmp(&last) {
            std::cmp::Ordering::Greater => return Ok(None),
            std::cmp::Ordering::Equal => end,
            std::cmp::Ordering::Less => self.disk.length(&name).map_err(io("read", format!("segment {segment}")))?,
        };
        let Some(left) = end.checked_sub(offset) else { return Ok(None) };
        let length = left.min(most as u64) as usize;
        let bytes = self.disk.read(&name, offset, length).map_err(io("read", format!("segment {segment}")))?;
        Ok(Some((bytes, segment < last && length as u64 == left)))
    }

    fn locate(&self, index: u64) -> Result<Location, Error> {
        let size = self.size();
        if index >= size {
            return Err(Error::NoSuchEntry { index, size });
        }
        self.with_index(|held| held.locate(index))?.ok_or_else(|| corrupt(index, "no frame has it"))
    }

    fn read(&self, location: Location, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let bytes = self
            .disk
            .read(&file_name(location.segment), offset, length)
            .map_err(io("read", format!("segment {}", location.segment)))?;
        if bytes.len() < length {
            return Err(Error::Corrupt {
                what: format!("segment {}", location.segment),
                why: "it ends too early".into(),
            });
        }
        Ok(bytes)
    }

    fn frame(&self, location: Location) -> Result<Arc<CachedFrame>, Error> {
        let key = (location.segment, location.offset);
        let held = self.cache.lock().ok().and_then(|cache| cache.get(&key).cloned());
        if let Some(frame) = held {
            return Ok(frame);
        }
        let frame = Arc::new(self.load(location)?);
        if let Ok(mut cache) = self.cache.lock() {
            if cache.len() >= CACHED_FRAMES_MAX {
                cache.clear();
            }
            cache.insert(key, Arc::clone(&frame));
        }
        Ok(frame)
    }

    /// A frame's header, from its first bytes where they are enough.
    fn header(&self, location: Location) -> Result<Result<Header, Broken>, Error> {
        let head = self.read(location, location.offset, HEAD_BYTES.min(location.length as usize))?;
        Ok(match Header::parse(&head) {
            Err(Broken::Short) => Header::parse(&self.read(location, location.offset, location.length as usize)?),
            other => other,
        })
    }

    fn load(&self, location: Location) -> Result<CachedFrame, Error> {
        let broken = |why: Broken| Error::Corrupt {
            what: format!("segment {} at byte {}", location.segment, location.offset),
            why: why.to_string(),
        };
        let header = self.header(location)?.map_err(broken)?;
        let mut sections = Vec::with_capacity(header.sections.len());
        let mut at = location.offset + header.length as u64 + 4;
        for _ in &header.sections {
            let row = self.read(location, at, 5)?;
            let length = u32::from_be_bytes([row[1], row[2], row[3], row[4]]) as usize;
            sections.push((row[0], at + 5, length));
            at += 9 + length as u64;
        }
        let entries = match sections.first() {
            Some((_, offset, length)) => self.read(location, *offset, *length)?,
            None => Vec::new(),
        };
        Ok(CachedFrame { header, sections, entries })
    }

    fn leaf_in(&self, location: Location, frame: &CachedFrame, place: u64) -> Result<Hash, Error> {
        let (_, offset, _) =
            frame.sections.get(1).ok_or(corrupt(frame.header.first_index, "its frame has no leaf hashes"))?;
        let bytes = self.read(location, offset + place * 32, 32)?;
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes);
        Ok(Hash(hash))
    }

    /// The stored leaf hash of an entry.
    ///
    /// # Errors
    /// There is no such entry, or the journal cannot be read.
    pub fn leaf(&self, index: u64) -> Result<Hash, Error> {
        let location = self.locate(index)?;
        let frame = self.frame(location)?;
        self.leaf_in(location, &frame, index - frame.header.first_index)
    }

    /// Leaf hashes of `low..high`.
    ///
    /// # Errors
    /// As [`Reader::leaf`].
    pub fn leaves(&self, low: u64, high: u64) -> Result<Vec<Hash>, Error> {
        let mut leaves = Vec::with_capacity((high - low) as usize);
        let mut index = low;
        while index < high {
            let location = self.locate(index)?;
            let frame = self.frame(location)?;
            let place = index - frame.header.first_index;
            let count = (u64::from(frame.header.count) - place).min(high - index);
            let (_, offset, _) = frame.sections.get(1).ok_or(corrupt(index, "its frame has no leaf hashes"))?;
            let bytes = self.read(location, offset + place * 32, count as usize * 32)?;
            leaves.extend(bytes.chunks_exact(32).map(|b| {
                let mut h = [0; 32];
                h.copy_from_slice(b);
                Hash(h)
            }));
            index += count;
        }
        Ok(leaves)
    }

    /// An entry with its sealed record. The entry is rebuilt and must hash to its stored leaf hash.
    ///
    /// # Errors
    /// There is no such entry, or the journal does not hold what it should.
    pub fn entry(&self, index: u64) -> Result<StoredEntry, Error> {
        let location = self.locate(index)?;
        let held = self.entry_at(index, location);
        if !matches!(held, Err(Error::Corrupt { .. })) {
            return held;
        }
        // Bodies may have been replaced since the frame was read.
        self.forget_segment(location.segment);
        self.entry_at(index, location)
    }

    fn entry_at(&self, index: u64, location: Location) -> Result<StoredEntry, Error> {
        let frame = self.frame(location)?;
        let place = index - frame.header.first_index;
        let entries =
            EntrySection::parse(&frame.entries, frame.header.count as usize).map_err(|why| corrupt(index, why))?;
        let record = entries.record(place as usize).map_err(|why| corrupt(index, why))?;
        let (form, offset, _) =
            *frame.sections.get(2 + usize::from(record.section)).ok_or(corrupt(index, "no section has its record"))?;
        let at = entries.place_in_section(place as usize) as u64;
        let (sealed, ended_by, digest) = if form == 0 {
            let sealed = self.sealed(location, offset, at)?;
            let digest = proof::hash::sha256(&sealed);
            (Some(sealed), None, digest)
        } else {
            let by = proof::encoding::big_endian(&self.read(location, offset, 8)?);
            let bytes = self.read(location, offset + 12 + at * 32, 32)?;
            let mut hash = [0; 32];
            hash.copy_from_slice(&bytes);
            (None, Some(by), Hash(hash))
        };
        let prev = match (index, place) {
            (0, _) => proof::hash::genesis(&self.identity.origin, &self.identity.vkey),
            (_, 0) => self.leaf(index - 1)?,
            _ => self.leaf_in(location, &frame, place - 1)?,
        };
        let bytes = record.entry(prev, frame.header.at, digest).to_bytes();
        let leaf = proof::hash::leaf(&bytes);
        if leaf != self.leaf_in(location, &frame, place)? {
            return Err(corrupt(index, "it does not hash to its leaf"));
        }
        Ok(StoredEntry { index, bytes, leaf, sealed, ended_by })
    }

    fn sealed(&self, location: Location, payload: u64, place: u64) -> Result<Vec<u8>, Error> {
        let number = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let count = u64::from(number(&self.read(location, payload, 4)?));
        let (start, end) = if place == 0 {
            (0, number(&self.read(location, payload + 4, 4)?))
        } else {
            let pair = self.read(location, payload + 4 * place, 8)?;
            (number(&pair[..4]), number(&pair[4..]))
        };
        let length = end
            .checked_sub(start)
            .filter(|_| place < count)
            .ok_or(Error::Corrupt { what: "body section".into(), why: "its ends do not rise".into() })?;
        self.read(location, payload + 4 + 4 * count + u64::from(start), length as usize)
    }

    /// The first entry from `low` on that was accepted at or after a time; the size if there is none. Times of acceptance
    /// never go back.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn first_at(&self, mut low: u64, time: UnixMillis) -> Result<u64, Error> {
        let mut high = self.size();
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.entry()?.at < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The entry that has this id, checked.
    ///
    /// # Errors
    /// The journal or its index cannot be read.
    pub fn find_id(&self, id: &[u8; 16]) -> Result<Option<u64>, Error> {
        match self.with_index(|index| index.find_id(id))? {
            Some(index) if index < self.size() => Ok((self.entry(index)?.entry()?.id.0 == *id).then_some(index)),
            _ => Ok(None),
        }
    }

    /// Whether an entry before this one has its id: the writer makes no such entry.
    ///
    /// # Errors
    /// The journal or its index cannot be read.
    pub fn is_repeated(&self, index: u64) -> Result<bool, Error> {
        let id = self.entry(index)?.entry()?.id;
        match self.with_index(|held| held.find_id_before(&id.0, index))? {
            Some(before) => Ok(self.entry(before)?.entry()?.id == id),
            None => Ok(false),
        }
    }

    /// The entry that has this tag, by the first half of the tag: a hint for galloping; check the last one found.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn hint_tag(&self, tag: &[u8; 16]) -> Result<Option<u64>, Error> {
        self.with_index(|index| index.find_tag(tag))
    }

    /// The tag that an entry carries, zeros if it has none; read from its record alone.
    pub(crate) fn tag(&self, index: u64) -> Result<[u8; 16], Error> {
        let location = self.locate(index)?;
        let header = self.header(location)?.map_err(|why| corrupt(index, why))?;
        let row = self.read(location, location.offset + header.length as u64 + 4, 5)?;
        let payload = location.offset + header.length as u64 + 9;
        let end = payload + u64::from(u32::from_be_bytes([row[1], row[2], row[3], row[4]]));
        let after = (u64::from(header.count) - (index - header.first_index)) * ENTRY_RECORD_BYTES as u64;
        let bytes = self.read(location, end - after + ENTRY_RECORD_TAG as u64, 16)?;
        let mut tag = [0; 16];
        tag.copy_from_slice(&bytes);
        Ok(tag)
    }

    /// The indexes of a subject's entries, in order: n = 1, 2, ... until there is none.
    ///
    /// # Errors
    /// The journal or its index cannot be read.
    pub fn entries_of(&self, tagger: &seal::tag::Tagger, limit: usize) -> Result<Vec<u64>, Error> {
        let mut found = Vec::new();
        while found.len() < limit {
            match self.hint_tag(&tagger.who(found.len() as u64 + 1).0)? {
                Some(index) => found.push(index),
                None => break,
            }
        }
        Ok(found)
    }

    /// Whole frames from the one that has `index` on, for followers; `each` gets the frame and says whether to go on.
    ///
    /// # Errors
    /// The journal cannot be read, or `each` fails.
    pub fn follow(&self, index: u64, mut each: impl FnMut(&Frame<'_>) -> Result<bool, Error>) -> Result<(), Error> {
        let mut next = index;
        while next < self.size() {
            let location = self.locate(next)?;
            let bytes = self.read(location, location.offset, location.length as usize)?;
            let frame = Frame::parse(&bytes).and_then(Frame::sound).map_err(|why| corrupt(next, why))?;
            next = frame.header.size;
            if !each(&frame)? {
                break;
            }
        }
        Ok(())
    }

    /// Every entry of a range, in order; each frame is read once. Leaf hashes are checked as in [`Reader::entry`].
    ///
    /// # Errors
    /// The journal does not hold what it should, or `each` fails.
    pub fn each_entry<E: From<Error>>(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(StoredEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failed = None;
        if range.is_empty() {
            return Ok(());
        }
        self.follow(range.start, |frame| {
            let first = frame.header.first_index;
            let bodies = frame.all_bodies().map_err(|why| corrupt(first, why))?;
            let prev = match first {
                0 => proof::hash::genesis(&self.identity.origin, &self.identity.vkey),
                _ => self.leaf(first - 1)?,
            };
            rebuild(frame, &bodies, prev, |made| {
                if range.contains(&made.index) {
                    let (bytes, sealed) = (made.bytes.to_vec(), made.sealed.map(<[u8]>::to_vec));
                    let ended_by = match bodies.get(made.section) {
                        Some(Bodies::Ended { by, .. }) => Some(*by),
                        _ => None,
                    };
                    failed = each(StoredEntry { index: made.index, bytes, leaf: made.leaf, sealed, ended_by }).err();
                }
                failed.is_none()
            })
            .map_err(|(at, why)| corrupt(at.unwrap_or(first), why))?;
            Ok(failed.is_none() && frame.header.size < range.end)
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// A full receipt: entry, inclusion proof and the newest signed checkpoint. It is checked before it is given.
    ///
    /// # Errors
    /// There is no such entry, or what is stored does not prove it.
    pub fn receipt(&self, index: u64) -> Result<Receipt, Error> {
        let published = self.published();
        let entry = self.entry(index)?;
        let path = inclusion_proof(self, index, published.size)?;
        let proof = TlogProof { extra: None, index, path, checkpoint: published.checkpoint };
        let text = String::from_utf8(entry.bytes).map_err(|why| corrupt(index, why))?;
        let Identity { origin, vkey, .. } = self.identity.clone();
        let key_changes = published.key_changes.to_vec();
        let v = if key_changes.is_empty() { RECEIPT_VERSION } else { RECEIPT_VERSION_CHANGED };
        let receipt = Receipt { v, origin, vkey, index, entry: text, proof: proof.to_text(), key_changes };
        receipt.verify(None)?;
        Ok(receipt)
    }
}

impl Nodes for Reader {
    type Error = Error;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Error> {
        if level >= 8 {
            return self.tree.subtree(level, index);
        }
        Ok(fold(self.leaves(index << level, (index + 1) << level)?))
    }
}
