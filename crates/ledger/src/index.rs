//! The segment index: entry id and tag -> entry index, and entry index -> frame, for each closed segment
//! (`docs/formats/segment-index.md`). It is made from the proof plane alone and can be made again.
//!
//! Keys are the first 8 bytes of an id or tag, sorted; a filter for each run keeps most look-ups off the disk. A hit is
//! a hint: callers that need certainty read the entry.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, io};
use crate::frame::Frame;
use crate::journal::Location;

const MAGIC: &[u8; 8] = b"CNDRSIDX";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const FRAME_ROW_BYTES: usize = 16;
const KEY_ROW_BYTES: usize = 12;
/// Bits of the filter for each key: false hits about one in two thousand.
const FILTER_BITS: u64 = 16;
const FILTER_PROBES: u32 = 7;
/// Rows read at once around the place where interpolation expects a key.
const WINDOW_ROWS: u64 = 128;

/// What an open segment adds up to: written as its index when it is closed.
#[derive(Debug, Default)]
pub struct OpenIndex {
    first_index: u64,
    frames: Vec<(u64, u64, u64)>,
    ids: HashMap<u64, u32>,
    tags: HashMap<u64, u32>,
}

/// The key of an id or tag.
fn key(bytes: &[u8; 16]) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(head)
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
        Ok(())
    }

    /// Adds one entry.
    pub fn add_entry(&mut self, index: u64, id: &[u8; 16], who: Option<&[u8; 16]>) {
        let relative = (index - self.first_index) as u32;
        self.ids.insert(key(id), relative);
        if let Some(who) = who {
            self.tags.insert(key(who), relative);
        }
    }

    /// Adds the place of a frame.
    pub fn add_location(&mut self, first_index: u64, location: Location) {
        self.frames.push((first_index, location.offset, location.length));
    }

    fn find(&self, which: Column, wanted: &[u8; 16]) -> Option<u64> {
        let column = match which {
            Column::Ids => &self.ids,
            Column::Tags => &self.tags,
        };
        column.get(&key(wanted)).map(|relative| self.first_index + u64::from(*relative))
    }

    fn locate(&self, segment: u32, index: u64) -> Option<Location> {
        let after = self.frames.partition_point(|(first, _, _)| *first <= index);
        // Frames without entries share their first index with the frame after them: the last one has the entry.
        let (_, offset, length) = *self.frames.get(after.checked_sub(1)?)?;
        Some(Location { segment, offset, length })
    }

    /// Writes the index of a closed segment: beside, synced, renamed.
    ///
    /// # Errors
    /// The disk refuses; the index can be made again.
    pub fn write(&self, path: &Path, segment: u32, end_index: u64) -> Result<(), Error> {
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut out = BufWriter::new(File::create(&new)?);
            let (ids, tags) = (sorted(&self.ids), sorted(&self.tags));
            let mut header = Vec::with_capacity(HEADER_BYTES);
            header.extend_from_slice(MAGIC);
            header.extend_from_slice(&VERSION.to_be_bytes());
            header.extend_from_slice(&[0; 2]);
            header.extend_from_slice(&segment.to_be_bytes());
            header.extend_from_slice(&self.first_index.to_be_bytes());
            header.extend_from_slice(&end_index.to_be_bytes());
            for count in [self.frames.len(), ids.len(), tags.len()] {
                header.extend_from_slice(&(count as u64).to_be_bytes());
            }
            header.resize(HEADER_BYTES - 4, 0);
            header.extend_from_slice(&crc32c::crc32c(&header).to_be_bytes());
            out.write_all(&header)?;
            for (first, offset, length) in &self.frames {
                out.write_all(&((first - self.first_index) as u32).to_be_bytes())?;
                out.write_all(&(*offset as u32).to_be_bytes())?;
                out.write_all(&length.to_be_bytes())?;
            }
            for column in [&ids, &tags] {
                for (key, relative) in column {
                    out.write_all(&key.to_be_bytes())?;
                    out.write_all(&relative.to_be_bytes())?;
                }
            }
            for column in [&ids, &tags] {
                for word in Filter::build(column).words {
                    out.write_all(&word.to_be_bytes())?;
                }
            }
            out.into_inner()?.sync_data()?;
            std::fs::rename(&new, path)
        };
        write().map_err(io("write", format!("index of segment {segment}")))
    }
}

fn sorted(column: &HashMap<u64, u32>) -> Vec<(u64, u32)> {
    let mut rows: Vec<(u64, u32)> = column.iter().map(|(key, relative)| (*key, *relative)).collect();
    rows.sort_unstable();
    rows
}

#[derive(Debug, Clone, Copy)]
enum Column {
    Ids,
    Tags,
}

/// A blocked Bloom filter (Putze, Sanders, Singler, 2007): all probes of a key fall into one cache line of 8 words.
#[derive(Debug)]
struct Filter {
    words: Vec<u64>,
}

impl Filter {
    fn words_for(count: usize) -> usize {
        (count as u64 * FILTER_BITS).div_ceil(512).max(1) as usize * 8
    }

    fn build(rows: &[(u64, u32)]) -> Filter {
        let mut filter = Filter { words: vec![0; Filter::words_for(rows.len())] };
        for (key, _) in rows {
            let (block, mut bits) = filter.place(*key);
            for _ in 0..FILTER_PROBES {
                filter.words[block + (bits >> 6 & 7) as usize] |= 1 << (bits & 63);
                bits >>= 9;
            }
        }
        filter
    }

    fn place(&self, key: u64) -> (usize, u64) {
        let blocks = self.words.len() as u64 / 8;
        let block = ((u128::from(key) * u128::from(blocks)) >> 64) as usize * 8;
        // Keys are hash values, but their high bits chose the block: mix before taking probes.
        (block, (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn may_have(&self, key: u64) -> bool {
        let (block, mut bits) = self.place(key);
        for _ in 0..FILTER_PROBES {
            if self.words[block + (bits >> 6 & 7) as usize] >> (bits & 63) & 1 == 0 {
                return false;
            }
            bits >>= 9;
        }
        true
    }
}

/// The index of one closed segment.
#[derive(Debug)]
struct ClosedIndex {
    file: File,
    segment: u32,
    first_index: u64,
    end_index: u64,
    frames: u64,
    keys: [u64; 2],
    filters: [Filter; 2],
}

impl ClosedIndex {
    fn open(path: &Path) -> Result<ClosedIndex, Error> {
        let bad = |why: &str| Error::Corrupt { what: "segment index".into(), why: why.into() };
        let failed = || io("read", "segment index");
        let file = File::open(path).map_err(failed())?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(failed())?;
        let stored = u32::from_be_bytes([header[60], header[61], header[62], header[63]]);
        if &header[..8] != MAGIC || header[8..10] != VERSION.to_be_bytes() || crc32c::crc32c(&header[..60]) != stored {
            return Err(bad("its header does not fit"));
        }
        let number = |at: usize| header[at..at + 8].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let segment = number(8) as u32;
        let (frames, keys) = (number(32), [number(40), number(48)]);
        let mut at = HEADER_BYTES as u64 + frames * FRAME_ROW_BYTES as u64 + (keys[0] + keys[1]) * KEY_ROW_BYTES as u64;
        let mut filters = Vec::new();
        for count in keys {
            let mut bytes = vec![0; Filter::words_for(count as usize) * 8];
            file.read_exact_at(&mut bytes, at).map_err(failed())?;
            at += bytes.len() as u64;
            let words =
                bytes.chunks_exact(8).map(|b| b.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))).collect();
            filters.push(Filter { words });
        }
        let filters = <[Filter; 2]>::try_from(filters).map_err(|_| bad("two filters are needed"))?;
        Ok(ClosedIndex { file, segment, first_index: number(16), end_index: number(24), frames, keys, filters })
    }

    fn find(&self, column: Column, wanted: u64) -> Result<Option<u64>, Error> {
        let which = column as usize;
        if !self.filters[which].may_have(wanted) {
            return Ok(None);
        }
        let start = HEADER_BYTES as u64
            + self.frames * FRAME_ROW_BYTES as u64
            + if which == 1 { self.keys[0] * KEY_ROW_BYTES as u64 } else { 0 };
        let (mut low, mut high) = (0, self.keys[which]);
        // Keys are uniform, so the first window nearly always has the key or its absence.
        let mut guess = ((u128::from(wanted) * u128::from(high)) >> 64) as u64;
        while low < high {
            let from = guess.saturating_sub(WINDOW_ROWS / 2).clamp(low, high - 1);
            let to = (from + WINDOW_ROWS).min(high);
            let mut bytes = vec![0; ((to - from) * KEY_ROW_BYTES as u64) as usize];
            self.file
                .read_exact_at(&mut bytes, start + from * KEY_ROW_BYTES as u64)
                .map_err(io("read", "segment index"))?;
            let rows: Vec<(u64, u32)> = bytes
                .chunks_exact(KEY_ROW_BYTES)
                .map(|row| {
                    let number = |range: std::ops::Range<usize>| {
                        row[range].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
                    };
                    (number(0..8), number(8..12) as u32)
                })
                .collect();
            match rows.binary_search_by_key(&wanted, |row| row.0) {
                Ok(at) => return Ok(Some(self.first_index + u64::from(rows[at].1))),
                Err(0) if from > low => high = from,
                Err(at) if at == rows.len() && to < high => low = to,
                Err(_) => return Ok(None),
            }
            guess = low + (high - low) / 2;
        }
        Ok(None)
    }

    fn locate(&self, index: u64) -> Result<Option<Location>, Error> {
        let (mut low, mut high) = (0, self.frames);
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let mut row = [0; FRAME_ROW_BYTES];
            self.file
                .read_exact_at(&mut row, HEADER_BYTES as u64 + middle * FRAME_ROW_BYTES as u64)
                .map_err(io("read", "segment index"))?;
            let number =
                |range: std::ops::Range<usize>| row[range].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            if self.first_index + number(0..4) <= index {
                best = Some(Location { segment: self.segment, offset: number(4..8), length: number(8..16) });
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(best)
    }
}

/// The indexes of all segments.
#[derive(Debug)]
pub struct SegmentIndex {
    folder: PathBuf,
    closed: Vec<Arc<ClosedIndex>>,
    /// The segment that is being written.
    pub open: OpenIndex,
    open_segment: u32,
}

/// The path of a segment's index.
fn path(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:010}.sidx"))
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
        let mut closed: Vec<Arc<ClosedIndex>> = Vec::new();
        for segment in 0..open_segment {
            let path = path(folder, segment);
            let expected_first = closed.last().map_or(0, |before| before.end_index);
            let usable = |index: &ClosedIndex| index.segment == segment && index.first_index == expected_first;
            let index = match ClosedIndex::open(&path) {
                Ok(index) if usable(&index) => index,
                _ => {
                    let (open, end) = rebuild(segment)?;
                    open.write(&path, segment, end)?;
                    ClosedIndex::open(&path)?
                }
            };
            closed.push(Arc::new(index));
        }
        Ok(SegmentIndex { folder: folder.to_owned(), closed, open: OpenIndex::default(), open_segment })
    }

    /// Closes the open segment's index and begins the next.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn rotate(&mut self, segment: u32, end_index: u64) -> Result<(), Error> {
        let path = path(&self.folder, self.open_segment);
        self.open.write(&path, self.open_segment, end_index)?;
        self.closed.push(Arc::new(ClosedIndex::open(&path)?));
        self.open = OpenIndex::new(end_index);
        self.open_segment = segment;
        Ok(())
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
        self.find(Column::Ids, id)
    }

    /// The entry that probably has this tag.
    ///
    /// # Errors
    /// An index cannot be read.
    pub fn find_tag(&self, tag: &[u8; 16]) -> Result<Option<u64>, Error> {
        self.find(Column::Tags, tag)
    }

    fn find(&self, column: Column, wanted: &[u8; 16]) -> Result<Option<u64>, Error> {
        if let Some(found) = self.open.find(column, wanted) {
            return Ok(Some(found));
        }
        for closed in self.closed.iter().rev() {
            if let Some(found) = closed.find(column, key(wanted))? {
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
        let at = self.closed.partition_point(|closed| closed.end_index <= index);
        match self.closed.get(at) {
            Some(closed) => closed.locate(index),
            None => Ok(self.open.locate(self.open_segment, index)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = |i: u64| {
            let mut id = [0; 16];
            id.copy_from_slice(&proof::hash::sha256(&i.to_be_bytes()).0[..16]);
            id
        };
        let mut open = OpenIndex::new(100);
        for i in 0..20_000 {
            open.add_entry(100 + i, &id(i), (i % 3 == 0).then(|| id(1_000_000 + i)).as_ref());
            if i % 10 == 0 {
                open.add_location(100 + i, Location { segment: 0, offset: i * 7, length: 70 });
            }
        }
        let file = folder.path().join("x.sidx");
        open.write(&file, 4, 20_100).expect("written");
        let closed = ClosedIndex::open(&file).expect("opened");
        for i in 0..20_000 {
            assert_eq!(closed.find(Column::Ids, key(&id(i))).expect("read"), Some(100 + i));
            assert_eq!(
                closed.find(Column::Tags, key(&id(1_000_000 + i))).expect("read"),
                (i % 3 == 0).then_some(100 + i)
            );
            assert_eq!(closed.locate(100 + i).expect("read").map(|l| l.offset), Some(i / 10 * 70));
        }
        let false_hits = (50_000..60_000).filter(|i| closed.filters[0].may_have(key(&id(*i)))).count();
        assert!(false_hits < 40, "{false_hits} of 10,000");
    }
}
