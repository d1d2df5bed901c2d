//! The segment index: entry id and tag -> entry index, and entry index -> frame. It is made from the proof plane alone
//! and can be made again.
//!
//! The open segment is in memory. When it is closed, a thread of its own writes it to a file, and merges files of
//! neighbouring segments eight at a time, so that a look-up asks a number of files that grows with the logarithm of
//! the trail. What that thread cannot write stays in memory, and is made again from the journal at the next start.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use proof::encoding::big_endian;

use crate::error::{Error, io};
use crate::frame::Frame;
use crate::index_file::{Column, IndexFile, PeriodRow, Span, merge, parse_name, write};
use crate::journal::Location;

/// Files of one size that are merged into one.
const MERGE_WIDTH: usize = 8;
/// Segments in a file, at most: 2^32 entries would be reached at about 20,000 segments of ordinary records.
const SEGMENTS_MAX: u32 = 4096;

/// Keys are hash values already: their bits serve as they are.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type KeyMap = HashMap<u64, u32, BuildHasherDefault<KeyHasher>>;

/// What an open segment adds up to: written as its index when it is closed.
#[derive(Debug, Default)]
pub struct OpenIndex {
    first_index: u64,
    frames: Vec<(u64, Location)>,
    periods: BTreeSet<u32>,
    columns: [KeyMap; 2],
}

/// The key of an id or tag.
fn key(bytes: &[u8; 16]) -> u64 {
    big_endian(&bytes[..8])
}

impl OpenIndex {
    /// An index for a segment whose first entry has this index.
    pub fn new(first_index: u64) -> OpenIndex {
        OpenIndex { first_index, ..OpenIndex::default() }
    }

    /// Adds a frame that was read back.
    ///
    /// # Errors
    /// Its entry section does not follow the format.
    pub fn add_frame(&mut self, frame: &Frame<'_>, location: Location) -> Result<(), Error> {
        let corrupt = |why: crate::frame::Broken| Error::Corrupt {
            what: format!("frame {}", frame.header.number),
            why: why.to_string(),
        };
        let entries = frame.entries().map_err(corrupt)?;
        for place in 0..entries.len() {
            let record = entries.record(place).map_err(corrupt)?;
            let index = frame.header.first_index + place as u64;
            self.add_entry(index, &record.id.0, record.personal.as_ref().map(|personal| &personal.who.0));
        }
        self.add_location(frame.header.first_index, location);
        self.add_periods(frame.header.periods());
        Ok(())
    }

    /// Adds one entry.
    pub fn add_entry(&mut self, index: u64, id: &[u8; 16], who: Option<&[u8; 16]>) {
        let relative = (index - self.first_index) as u32;
        // Of an id that stands twice the first counts: the second was written by somebody else.
        self.columns[Column::Ids as usize].entry(key(id)).or_insert(relative);
        if let Some(who) = who {
            self.columns[Column::Tags as usize].insert(key(who), relative);
        }
    }

    /// Adds the place of a frame.
    pub fn add_location(&mut self, first_index: u64, location: Location) {
        self.frames.push((first_index, location));
    }

    /// Adds the periods that a frame has bodies of.
    pub fn add_periods(&mut self, periods: impl Iterator<Item = u32>) {
        self.periods.extend(periods);
    }

    fn find(&self, column: Column, wanted: u64) -> Option<u64> {
        self.columns[column as usize].get(&wanted).map(|relative| self.first_index + u64::from(*relative))
    }

    fn locate(&self, index: u64) -> Option<Location> {
        let after = self.frames.partition_point(|(first, _)| *first <= index);
        // Frames without entries share their first index with the frame after them: the last one has the entry.
        Some(self.frames.get(after.checked_sub(1)?)?.1)
    }

    fn write(&self, folder: &Path, span: &Span) -> Result<IndexFile, Error> {
        let sorted = |column: &KeyMap| {
            let mut rows: Vec<(u64, u32)> = column.iter().map(|(key, relative)| (*key, *relative)).collect();
            rows.sort_unstable();
            rows
        };
        let frames: Vec<(u32, Location)> =
            self.frames.iter().map(|(first, location)| ((first - self.first_index) as u32, *location)).collect();
        let (ids, tags) = (sorted(&self.columns[0]), sorted(&self.columns[1]));
        let periods: Vec<PeriodRow> = self.periods.iter().map(|period| (span.first_segment, *period)).collect();
        write(folder, span, (&frames, &periods), [&ids, &tags])
    }
}

/// The index of closed segments, in a file or still in memory.
#[derive(Debug, Clone)]
enum Part {
    Memory(Span, Arc<OpenIndex>),
    File(Arc<IndexFile>),
}

impl Part {
    fn span(&self) -> &Span {
        match self {
            Part::Memory(span, _) => span,
            Part::File(file) => &file.span,
        }
    }

    fn find(&self, column: Column, wanted: u64) -> Result<Option<u64>, Error> {
        match self {
            Part::Memory(_, index) => Ok(index.find(column, wanted)),
            Part::File(file) => file.find(column, wanted),
        }
    }
}

/// The indexes of all segments.
#[derive(Debug)]
pub struct SegmentIndex {
    folder: PathBuf,
    /// In the order of their segments, without a gap.
    parts: Vec<Part>,
    /// The segment that is being written.
    pub open: OpenIndex,
    open_segment: u32,
}

impl SegmentIndex {
    /// Opens the indexes of the segments before `open_segment`; `rebuild` makes one that is missing or does not fit.
    ///
    /// # Errors
    /// An index cannot be read and not be made again.
    pub fn load(
        folder: &Path,
        open_segment: u32,
        mut rebuild: impl FnMut(u32) -> Result<(OpenIndex, u64), Error>,
    ) -> Result<SegmentIndex, Error> {
        let mut names = Vec::new();
        for item in std::fs::read_dir(folder).map_err(io("list", "segment index"))? {
            let path = item.map_err(io("list", "segment index"))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".sidx") || name.ends_with(".new") {
                names.push((parse_name(name), path));
            }
        }
        // Where a merge was cut off, the wider file comes first, and what it replaced is taken away.
        names.sort_by_key(|(segments, _)| segments.map(|(first, last)| (first, std::cmp::Reverse(last))));
        let mut parts: Vec<Part> = Vec::new();
        let mut names = names.into_iter().peekable();
        let mut segment = 0;
        while segment < open_segment {
            let first_index = parts.last().map_or(0, |before| before.span().end_index);
            let mut found = None;
            while let Some((segments, path)) = names.next_if(|(s, _)| s.is_none_or(|(first, _)| first <= segment)) {
                let wanted = segments.is_some_and(|(first, last)| first == segment && last < open_segment);
                let fits = |file: &IndexFile| {
                    Some((file.span.first_segment, file.span.last_segment)) == segments
                        && file.span.first_index == first_index
                };
                match IndexFile::open(&path) {
                    Ok(file) if wanted && found.is_none() && fits(&file) => found = Some(file),
                    _ => std::fs::remove_file(&path).map_err(io("remove", "segment index"))?,
                }
            }
            let file = match found {
                Some(file) => file,
                None => {
                    let (open, end_index) = rebuild(segment)?;
                    open.write(folder, &Span { first_segment: segment, last_segment: segment, first_index, end_index })?
                }
            };
            segment = file.span.last_segment + 1;
            parts.push(Part::File(Arc::new(file)));
        }
        for (_, path) in names {
            std::fs::remove_file(&path).map_err(io("remove", "segment index"))?;
        }
        let open = OpenIndex::default();
        Ok(SegmentIndex { folder: folder.to_owned(), parts, open, open_segment })
    }

    /// Closes the open segment's index and begins the next. The file is written by [`maintain`].
    pub fn rotate(&mut self, segment: u32, end_index: u64) {
        let closed = std::mem::replace(&mut self.open, OpenIndex::new(end_index));
        let span = Span {
            first_segment: self.open_segment,
            last_segment: self.open_segment,
            first_index: closed.first_index,
            end_index,
        };
        self.parts.push(Part::Memory(span, Arc::new(closed)));
        self.open_segment = segment;
    }

    /// The segment being written.
    pub fn open_segment(&self) -> u32 {
        self.open_segment
    }

    /// The entry that probably has this id.
    ///
    /// # Errors
    /// An index cannot be read.
    pub fn find_id(&self, id: &[u8; 16]) -> Result<Option<u64>, Error> {
        self.find_id_before(id, u64::MAX)
    }

    /// The entry before this index that probably has this id.
    ///
    /// # Errors
    /// An index cannot be read.
    pub fn find_id_before(&self, id: &[u8; 16], before: u64) -> Result<Option<u64>, Error> {
        self.find(Column::Ids, key(id), before)
    }

    /// The entry that probably has this tag.
    ///
    /// # Errors
    /// An index cannot be read.
    pub fn find_tag(&self, tag: &[u8; 16]) -> Result<Option<u64>, Error> {
        self.find(Column::Tags, key(tag), u64::MAX)
    }

    fn find(&self, column: Column, wanted: u64, before: u64) -> Result<Option<u64>, Error> {
        if let Some(found) = self.open.find(column, wanted).filter(|found| *found < before) {
            return Ok(Some(found));
        }
        for part in self.parts.iter().rev() {
            if let Some(found) = part.find(column, wanted)?.filter(|found| *found < before) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The frame that has this entry.
    ///
    /// # Errors
    /// An index cannot be read.
    pub fn locate(&self, index: u64) -> Result<Option<Location>, Error> {
        let at = self.parts.partition_point(|part| part.span().end_index <= index);
        match self.parts.get(at) {
            Some(Part::Memory(_, part)) => Ok(part.locate(index)),
            Some(Part::File(file)) => file.locate(index),
            None => Ok(self.open.locate(index)),
        }
    }

    /// The segments that have bodies of a period, present or ended, in order.
    ///
    /// # Errors
    /// An index cannot be read.
    pub fn segments_with(&self, period: u32) -> Result<Vec<u32>, Error> {
        let mut found = Vec::new();
        for part in &self.parts {
            match part {
                Part::Memory(span, index) if index.periods.contains(&period) => found.push(span.first_segment),
                Part::Memory(..) => {}
                Part::File(file) => file.each_period(|(segment, held)| {
                    found.extend((held == period).then_some(segment));
                    Ok(())
                })?,
            }
        }
        found.extend(self.open.periods.contains(&period).then_some(self.open_segment));
        Ok(found)
    }

    /// What is to be done next, if anything.
    fn work(&self) -> Option<Work> {
        let in_memory = self.parts.iter().find(|part| matches!(part, Part::Memory(..)));
        if let Some(Part::Memory(span, index)) = in_memory {
            return Some(Work::Write { span: *span, index: Arc::clone(index) });
        }
        let files: Vec<&Arc<IndexFile>> =
            self.parts.iter().filter_map(|part| if let Part::File(file) = part { Some(file) } else { None }).collect();
        let even = |window: &&[&Arc<IndexFile>]| {
            let count = window[0].span.segments();
            count * MERGE_WIDTH as u32 <= SEGMENTS_MAX && window.iter().all(|file| file.span.segments() == count)
        };
        let window = files.windows(MERGE_WIDTH).find(even)?;
        Some(Work::Merge { files: window.iter().map(|file| Arc::clone(file)).collect() })
    }

    fn replace(&mut self, from: u32, by: Arc<IndexFile>) {
        let last = by.span.last_segment;
        self.parts.retain(|part| part.span().last_segment < from || part.span().first_segment > last);
        let at = self.parts.partition_point(|part| part.span().last_segment < from);
        self.parts.insert(at, Part::File(by));
    }
}

enum Work {
    Write { span: Span, index: Arc<OpenIndex> },
    Merge { files: Vec<Arc<IndexFile>> },
}

/// Writes a closed segment's index, or merges what is small; whether there was anything to do. Run it beside the
/// writing.
///
/// # Errors
/// The disk refuses, or it was told to stop; what was closed stays in memory, what is small stays as it is.
pub(crate) fn maintain(index: &RwLock<SegmentIndex>, stop: &AtomicBool) -> Result<bool, Error> {
    let (work, folder) = {
        let held = index.read().map_err(|_| Error::Stopped)?;
        match held.work() {
            Some(work) => (work, held.folder.clone()),
            None => return Ok(false),
        }
    };
    let (file, old) = match work {
        Work::Write { span, index } => (index.write(&folder, &span)?, Vec::new()),
        Work::Merge { files } => {
            let borrowed: Vec<&IndexFile> = files.iter().map(AsRef::as_ref).collect();
            (merge(&folder, &borrowed, stop)?, files)
        }
    };
    let first = file.span.first_segment;
    index.write().map_err(|_| Error::Stopped)?.replace(first, Arc::new(file));
    // Readers that still hold an old file read on; a stop before this line leaves it to the next start.
    for file in old {
        std::fs::remove_file(file.span.path(&folder)).map_err(io("remove", "segment index"))?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&proof::hash::sha256(&i.to_be_bytes()).0[..16]);
        id
    }

    fn fill(open: &mut OpenIndex, segment: u32, range: std::ops::Range<u64>) {
        for entry in range {
            open.add_entry(entry, &id(entry), Some(&id(1_000_000 + entry)));
            open.add_location(entry, Location { segment, offset: entry, length: 1 });
            open.add_periods([1, 2 + segment].into_iter());
        }
    }

    #[test]
    fn of_an_id_that_stands_twice_the_first_counts() {
        let mut open = OpenIndex::new(0);
        open.add_entry(3, &id(1), None);
        open.add_entry(9, &id(1), None);
        assert_eq!(open.find(Column::Ids, key(&id(1))), Some(3));
    }

    fn holds(index: &SegmentIndex, end: u64) {
        for entry in 0..end {
            assert_eq!(index.find_id(&id(entry)).expect("read"), Some(entry));
            assert_eq!(index.find_tag(&id(1_000_000 + entry)).expect("read"), Some(entry));
            assert_eq!(index.locate(entry).expect("read").map(|found| found.offset), Some(entry));
        }
        assert_eq!(index.find_id(&id(2_000_000)).expect("read"), None);
    }

    #[test]
    fn segments_are_written_merged_and_found_again_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let none = |segment: u32| -> Result<(OpenIndex, u64), Error> { panic!("segment {segment} was made again") };
        let mut index = SegmentIndex::load(folder.path(), 0, none).expect("loaded");
        for segment in 0..70u32 {
            let first = u64::from(segment) * 20;
            fill(&mut index.open, segment, first..first + 20);
            index.rotate(segment + 1, first + 20);
        }
        holds(&index, 1400);
        let shared = RwLock::new(index);
        while maintain(&shared, &AtomicBool::new(false)).expect("maintained") {}
        let index = shared.into_inner().expect("whole");
        // 64 in one, six alone.
        assert_eq!(index.parts.len(), 7);
        holds(&index, 1400);
        assert_eq!(index.segments_with(1).expect("read"), (0..70).collect::<Vec<_>>());
        assert_eq!(index.segments_with(67).expect("read"), [65]);
        // A stop between a merge and the removal of what it replaced, and one in the middle of a write.
        std::fs::copy(
            folder.path().join("0000000064-0000000064.sidx"),
            folder.path().join("0000000001-0000000001.sidx"),
        )
        .expect("copied");
        std::fs::write(folder.path().join("0000000070-0000000070.new"), b"half").expect("written");
        let again = SegmentIndex::load(folder.path(), 70, none).expect("loaded");
        holds(&again, 1400);
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 7);
    }

    #[test]
    fn a_missing_or_foreign_file_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let rebuild = |segment: u32| {
            let first = u64::from(segment) * 20;
            let mut open = OpenIndex::new(first);
            fill(&mut open, segment, first..first + 20);
            Ok((open, first + 20))
        };
        holds(&SegmentIndex::load(folder.path(), 5, rebuild).expect("loaded"), 100);
        std::fs::remove_file(folder.path().join("0000000002-0000000002.sidx")).expect("removed");
        std::fs::write(folder.path().join("0000000003-0000000003.sidx"), b"something else").expect("written");
        holds(&SegmentIndex::load(folder.path(), 5, rebuild).expect("loaded"), 100);
    }
}
