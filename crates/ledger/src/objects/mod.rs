//! The journal on an object store: one object a frame, made once (`docs/formats/objects.md`).
//!
//! Frame k is the object `frames/SEGMENT/PLACE`, SEGMENT = k / 64, PLACE = k mod 64: its name follows from its number
//! alone, so that two writers meet at one name and one of them is told. The objects of a segment, one after the other,
//! are the bytes of the directory journal's segment file; so everything that reads segments reads these.
//!
//! Invariants:
//! - of a name only the oldest version counts, whatever stands over it; that more stands there is told;
//! - nothing is ever put over an object or deleted, but what a probe made;
//! - no call lists more than the objects of one segment.

mod blocks;
mod bucket;
mod journal;
mod probe;
mod settle;
mod store;
mod table;
mod url;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

pub use bytes::Bytes;

pub use bucket::{Bucket, Credentials, Locking, NotMade, Version};
pub use journal::ObjectJournal;
pub use settle::{Seen, settle};
pub use store::Store;
pub use url::BucketUrl;

use crate::directory::Scan;
use crate::disk::Disk;
use crate::error::{Error, io as at};
use crate::segment::{Identity, Position, SegmentHeader, file_name, parse_file_name};
use blocks::{BLOCK_BYTES, Blocks};
use bucket::OBJECT_BYTES_MAX;
use table::{Place, Table};

/// Frames of a segment.
pub(crate) const FRAMES: u64 = 64;
/// The object that says which trail this is: the header of segment 0.
const TRAIL: &str = "trail";
/// Tables of whole segments kept in memory.
const TABLES_MAX: usize = 1024;
/// Frames of which it is kept that something stands beside them.
const ODD_MAX: usize = 10_000;
/// From so many bytes on, what is read goes past the blocks in memory: a segment is read once and in order.
const STREAM_BYTES: usize = 1 << 20;
/// Objects fetched at once.
const FETCHES: usize = 8;

/// The name of the object of a frame.
pub(crate) fn name_of(segment: u32, place: usize) -> String {
    format!("{}{place:02}", begin_of(segment))
}

fn begin_of(segment: u32) -> String {
    format!("frames/{segment:010}/")
}

/// What is known of the segments of a bucket.
#[derive(Default)]
struct Known {
    /// Segments that have all their frames.
    whole: HashMap<u32, Arc<Table>>,
    /// The last one, as it was last seen or written.
    last: Option<(u32, Arc<Table>)>,
    /// What should not be there, by frame.
    odd: BTreeMap<u64, String>,
    /// A segment that is known to be there.
    reached: u32,
}

/// See the module.
pub struct Objects {
    store: Box<dyn Store>,
    known: Mutex<Known>,
    blocks: Mutex<Blocks>,
}

fn stopped<T>(_: T) -> io::Error {
    io::Error::other("another thread failed")
}

impl Objects {
    /// The trail in a store, with this many bytes of it in memory at most.
    pub fn new(store: impl Store + 'static, memory: usize) -> Arc<Objects> {
        Arc::new(Objects { store: Box::new(store), known: Mutex::default(), blocks: Mutex::new(Blocks::new(memory)) })
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Whether the bucket has a trail, also where a delete marker hides it.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn has_trail(&self) -> Result<bool, Error> {
        let versions = self.store.versions(TRAIL).map_err(at("read", "the bucket"))?;
        Ok(versions.iter().any(|version| version.name == TRAIL && version.length.is_some()))
    }

    /// Says up to which frame the trail is known to go: its end is looked for from there on, so that nothing counts which
    /// stands beyond a gap.
    pub(crate) fn reaches(&self, frame: u64) {
        if let Ok(mut known) = self.known.lock() {
            known.reached = known.reached.max((frame / FRAMES) as u32);
        }
    }

    /// Makes a new trail, still without entries.
    ///
    /// # Errors
    /// There is one already, or the store does not answer.
    pub(crate) fn create(&self, identity: &Identity) -> Result<(), Error> {
        let header = SegmentHeader {
            number: 0,
            position: Position::genesis(identity),
            before: proof::hash::Hash::default(),
            identity: identity.clone(),
        };
        if self.has_trail()? {
            let why = "it has a trail already: give this one a prefix of its own".into();
            return Err(Error::Corrupt { what: "the bucket".into(), why });
        }
        let bytes = Bytes::from(header.to_bytes());
        match self.store.create(TRAIL, &bytes) {
            Ok(_) => Ok(()),
            Err(NotMade::Taken) => {
                let why = "it has a trail already: give this one a prefix of its own".into();
                Err(Error::Corrupt { what: "the bucket".into(), why })
            }
            // The answer may have been lost: what stands there says it.
            Err(NotMade::Unclear(error)) => match self.store.get(TRAIL, None, None) {
                Ok(Some(held)) if held == bytes => Ok(()),
                _ => Err(at("write", "the bucket")(error)),
            },
        }
    }

    /// What should not be there and was come by so far: second versions and delete markers, by frame.
    pub fn odd(&self) -> BTreeMap<u64, String> {
        self.known.lock().map(|known| known.odd.clone()).unwrap_or_default()
    }

    /// The last segment; segment 0 of a trail without frames. By doubling and halving over the names of first frames.
    fn last_segment(&self) -> io::Result<u32> {
        let from = {
            let known = self.known.lock().map_err(stopped)?;
            known.last.as_ref().map_or(known.reached, |(last, _)| known.reached.max(*last))
        };
        // From what was the last a moment ago, or when the mark was made.
        let mut low = if from > 0 && self.begins(from)? { from } else { 0 };
        let mut step = 1u32;
        let beyond = || io::Error::other("too many segments");
        let mut high = low.checked_add(step).ok_or_else(beyond)?;
        while self.counts(high)? {
            (low, step) = (high, step.checked_mul(2).ok_or_else(beyond)?);
            high = low.checked_add(step).ok_or_else(beyond)?;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.counts(middle)? { low = middle } else { high = middle }
        }
        Ok(low)
    }

    /// Whether a segment is there and goes on from a whole one: what stands beyond a gap counts for nothing.
    fn counts(&self, segment: u32) -> io::Result<bool> {
        Ok(self.begins(segment)? && self.is_whole(segment - 1)?)
    }

    fn is_whole(&self, segment: u32) -> io::Result<bool> {
        match self.table(segment, 0) {
            Ok(table) if table.is_whole() => Ok(true),
            // It may have grown since it was listed.
            Ok(_) => self.look(segment).map(|table| table.is_whole()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Each object of the segment that was read last must be one frame, the first with the segment's header: nothing may be
    /// written after objects that were read as something else.
    ///
    /// # Errors
    /// One is not.
    pub(crate) fn check_tail(&self, scan: &Scan) -> Result<(), Error> {
        let table = self.table(scan.header.number, scan.good_bytes).map_err(at("read", "the bucket"))?;
        if !table.is_frames() {
            return Ok(());
        }
        let mut end = 0;
        let ends: Vec<u64> = table
            .places
            .iter()
            .map(|place| {
                end += place.length;
                end
            })
            .collect();
        let frames: Vec<u64> = scan.frames.iter().map(|found| found.location.offset + found.location.length).collect();
        if ends != frames {
            let what = format!("segment {}", scan.header.number);
            return Err(Error::Corrupt { what, why: "one of its objects is not one frame".into() });
        }
        Ok(())
    }

    /// Whether a segment has its first frame, also where a delete marker hides it.
    fn begins(&self, segment: u32) -> io::Result<bool> {
        let name = name_of(segment, 0);
        Ok(self.store.versions(&name)?.iter().any(|version| version.length.is_some() && version.name == name))
    }

    /// The objects of a segment, at least up to a byte where it is the last and grows.
    fn table(&self, segment: u32, up_to: u64) -> io::Result<Arc<Table>> {
        {
            let known = self.known.lock().map_err(stopped)?;
            if let Some(table) = known.whole.get(&segment) {
                return Ok(Arc::clone(table));
            }
            if let Some((_, table)) = known.last.as_ref().filter(|(last, _)| *last == segment)
                && table.bytes() >= up_to
            {
                return Ok(Arc::clone(table));
            }
        }
        self.look(segment)
    }

    /// Lists a segment.
    fn look(&self, segment: u32) -> io::Result<Arc<Table>> {
        let mut versions = self.store.versions(&begin_of(segment))?;
        if versions.is_empty() && segment == 0 {
            versions = self.store.versions(TRAIL)?;
            versions.retain(|version| version.name == TRAIL);
        }
        let (table, odd) = Table::of(segment, versions);
        if table.places.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such segment"));
        }
        let table = Arc::new(table);
        let mut known = self.known.lock().map_err(stopped)?;
        if known.odd.len() < ODD_MAX {
            known.odd.extend(odd);
        }
        known.put(segment, &table);
        Ok(table)
    }

    /// One frame more, made by this process.
    fn grown(&self, segment: u32, place: Place, bytes: &Bytes) -> io::Result<()> {
        if let Ok(mut blocks) = self.blocks.lock() {
            blocks.put_object(segment, place.number, bytes);
        }
        let mut known = self.known.lock().map_err(stopped)?;
        let before = known.last.take().filter(|(last, table)| *last == segment && table.is_frames());
        let mut table = before.map_or_else(Table::default, |(_, table)| (*table).clone());
        let at = usize::from(place.number);
        if table.places.len() < at {
            // Frames of before that memory has not: the bucket has them, and this one.
            drop(known);
            // If the bucket shows them with a gap before it, what was made does not count, and nobody is answered for it.
            let there = self.look(segment)?.places.get(at).is_some_and(|held| *held == place);
            return match there {
                true => Ok(()),
                false => Err(io::Error::other("it stands after a frame that is missing, and does not count")),
            };
        }
        // A list that was made meanwhile may have it already.
        table.places.truncate(at);
        table.places.push(place);
        known.put(segment, &Arc::new(table));
        Ok(())
    }

    /// A part of one object, through the blocks in memory.
    fn part(&self, segment: u32, place: &Place, from: u64, to: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let number = at / BLOCK_BYTES;
            let (start, end) = (number * BLOCK_BYTES, ((number + 1) * BLOCK_BYTES).min(place.length));
            let held = self.blocks.lock().map_err(stopped)?.get(segment, place.number, number);
            let block = match held {
                Some(block) => block,
                None => {
                    let block = self.fetch(place, start..end)?;
                    self.blocks.lock().map_err(stopped)?.put(segment, place.number, number, block.clone());
                    block
                }
            };
            let until = to.min(end);
            let part = block.get((at - start) as usize..(until - start) as usize);
            out.extend_from_slice(part.ok_or_else(|| short(&place.name))?);
            at = until;
        }
        Ok(())
    }

    fn fetch(&self, place: &Place, range: std::ops::Range<u64>) -> io::Result<Bytes> {
        let wanted = range.end - range.start;
        if place.length > OBJECT_BYTES_MAX {
            return Err(io::Error::other(format!("object {} is larger than any of ours", place.name)));
        }
        let range = (wanted < place.length).then_some(range);
        let bytes = self.store.get(&place.name, place.version.as_deref(), range)?.ok_or_else(|| short(&place.name))?;
        if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(short(&place.name)) }
    }

    /// Whole parts of several objects, some at once.
    fn stream(&self, parts: &[(Place, u64, u64)]) -> io::Result<Vec<u8>> {
        let mut fetched: Vec<io::Result<Bytes>> = Vec::with_capacity(parts.len());
        for group in parts.chunks(FETCHES) {
            fetched.extend(std::thread::scope(|scope| {
                let running: Vec<_> =
                    group.iter().map(|(place, from, to)| scope.spawn(|| self.fetch(place, *from..*to))).collect();
                running.into_iter().map(|one| one.join().unwrap_or_else(|why| Err(stopped(why)))).collect::<Vec<_>>()
            }));
        }
        let mut out = Vec::with_capacity(parts.iter().map(|(_, from, to)| (to - from) as usize).sum());
        for bytes in fetched {
            out.extend_from_slice(&bytes?);
        }
        Ok(out)
    }
}

impl Known {
    fn put(&mut self, segment: u32, table: &Arc<Table>) {
        if table.places.len() as u64 == FRAMES {
            if self.whole.len() >= TABLES_MAX {
                self.whole.clear();
            }
            self.whole.insert(segment, Arc::clone(table));
        }
        // A list that was asked for before a frame was made does not take it away again.
        let is_newer = |(last, held): &(u32, Arc<Table>)| match last.cmp(&segment) {
            Ordering::Less => true,
            Ordering::Equal => held.places.len() <= table.places.len(),
            Ordering::Greater => false,
        };
        if self.last.as_ref().is_none_or(is_newer) {
            self.last = Some((segment, Arc::clone(table)));
        }
    }
}

fn short(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("object {name} is not as long as its bucket says"))
}

fn segment_of(name: &str) -> io::Result<u32> {
    parse_file_name(name).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "a name that is no segment"))
}

fn never() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "objects are made once, by the journal alone")
}

impl Disk for Objects {
    fn replaces(&self) -> bool {
        false
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok((0..=self.last_segment()?).map(file_name).collect())
    }

    fn segments(&self) -> Result<u32, Error> {
        if !self.has_trail()? {
            return Ok(0);
        }
        Ok(self.last_segment().map_err(at("list", "the bucket"))? + 1)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let segment = segment_of(name)?;
        let table = self.table(segment, offset + length as u64)?;
        let end = (offset + length as u64).min(table.bytes());
        let mut parts = Vec::new();
        let mut at = 0;
        for place in &table.places {
            let (first, last) = (at.max(offset), (at + place.length).min(end));
            if first < last {
                parts.push((place.clone(), first - at, last - at));
            }
            at += place.length;
        }
        if length >= STREAM_BYTES {
            return self.stream(&parts);
        }
        let mut out = Vec::with_capacity(length);
        for (place, from, to) in &parts {
            self.part(segment, place, *from, *to, &mut out)?;
        }
        Ok(out)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let segment = segment_of(name)?;
        // What another process writes shows only by asking.
        let whole = self.known.lock().map_err(stopped)?.whole.get(&segment).map(|table| table.bytes());
        match whole {
            Some(bytes) => Ok(bytes),
            None => Ok(self.look(segment)?.bytes()),
        }
    }

    fn odd(&self, segment: u32) -> io::Result<BTreeMap<u64, String>> {
        // A table in memory says nothing of what was planted since.
        let table = self.look(segment)?;
        let first = u64::from(segment) * FRAMES;
        let mut odd: BTreeMap<u64, String> = {
            let known = self.known.lock().map_err(stopped)?;
            known.odd.range(first..first + FRAMES).map(|(frame, what)| (*frame, what.clone())).collect()
        };
        let mut say = |what: &str| {
            odd.entry(first).or_insert_with(|| what.to_owned());
        };
        if segment == 0 {
            let mut versions = self.store.versions(TRAIL)?;
            versions.retain(|version| version.name == TRAIL);
            if versions.len() > 1 {
                say("the object that says which trail it is has a second version or a delete marker");
            }
        }
        if !table.is_whole() && self.begins(segment + 1)? {
            say("a segment stands after it, and it is not whole");
        }
        Ok(odd)
    }

    fn create(&self, _: &str) -> io::Result<()> {
        Err(never())
    }
    fn append(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(never())
    }
    fn sync(&self, _: &str) -> io::Result<()> {
        Err(never())
    }
    fn sync_folder(&self) -> io::Result<()> {
        Err(never())
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(never())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Err(never())
    }
}
