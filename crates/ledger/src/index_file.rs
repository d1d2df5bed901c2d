//! One file of the segment index (`docs/formats/segment-index.md`): the keys and frames of one segment, or of several
//! neighbouring ones after a merge.
//!
//! Keys are the first 8 bytes of an id or tag, sorted; a filter for each column keeps most look-ups off the rows. A hit
//! is a hint: who needs certainty reads the entry.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use proof::encoding::big_endian;

use crate::error::{Error, io};
use crate::journal::Location;

const MAGIC: &[u8; 8] = b"CNDRSIDX";
const VERSION: u16 = 3;
const HEADER_BYTES: usize = 72;
const PERIOD_ROW_BYTES: usize = 8;
const FRAME_ROW_BYTES: usize = 16;
const KEY_ROW_BYTES: usize = 12;
/// Bits of the filter for each key: false hits about one in two thousand.
const FILTER_BITS: u64 = 16;
const FILTER_PROBES: u32 = 7;
/// A filter up to this size is kept in memory: that is those of single segments and of the first merge, fewer than
/// sixteen files. Of a larger one a block is read when asked for.
const FILTER_BYTES_IN_MEMORY_MAX: u64 = 4 << 20;
/// Rows read at once around the place where interpolation expects a key.
const WINDOW_ROWS: u64 = 128;
/// Rows written before they are synced: 2 MiB, so that a merge does not hold up the journal's syncs.
const SYNC_ROWS: u64 = 175_000;
/// Rows read at once by a merge.
const MERGE_ROWS: u64 = 8192;

/// Which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Entry ids.
    Ids = 0,
    /// Tags.
    Tags = 1,
}

/// A key and its entry less the file's first.
type KeyRow = (u64, u32);

/// A segment and a period that it has bodies of, present or ended.
pub(crate) type PeriodRow = (u32, u32);

/// What a file covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first_segment: u32,
    pub(crate) last_segment: u32,
    pub(crate) first_index: u64,
    pub(crate) end_index: u64,
}

impl Span {
    /// Number of segments.
    pub(crate) fn segments(&self) -> u32 {
        self.last_segment - self.first_segment + 1
    }

    /// Name of the file in its folder.
    pub(crate) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{:010}-{:010}.sidx", self.first_segment, self.last_segment))
    }
}

/// The segments that a file's name speaks of.
pub(crate) fn parse_name(name: &str) -> Option<(u32, u32)> {
    let (first, last) = name.strip_suffix(".sidx")?.split_once('-')?;
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 10);
    Some((number(first)?, number(last)?))
}

/// A blocked Bloom filter (Putze, Sanders, Singler, 2007): all probes of a key fall into one cache line of 8 words.
#[derive(Debug)]
enum Filter {
    Memory(Vec<u64>),
    File { at: u64, blocks: u64 },
}

fn filter_blocks(keys: u64) -> u64 {
    (keys * FILTER_BITS).div_ceil(512).max(1)
}

/// The block of a key, and the bits that its probes are taken from.
fn filter_place(key: u64, blocks: u64) -> (u64, u64) {
    let block = ((u128::from(key) * u128::from(blocks)) >> 64) as u64;
    // Keys are hash values, but their high bits chose the block: mix before taking probes.
    (block, (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn probes(bits: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..FILTER_PROBES).map(move |probe| {
        let bits = bits >> (9 * probe);
        ((bits >> 6 & 7) as usize, bits & 63)
    })
}

impl Filter {
    fn may_have(&self, file: &File, key: u64) -> Result<bool, Error> {
        match self {
            Filter::Memory(words) => {
                let (block, bits) = filter_place(key, words.len() as u64 / 8);
                Ok(probes(bits).all(|(word, bit)| words[block as usize * 8 + word] >> bit & 1 == 1))
            }
            Filter::File { at, blocks } => {
                let (block, bits) = filter_place(key, *blocks);
                let mut bytes = [0; 64];
                file.read_exact_at(&mut bytes, at + block * 64).map_err(io("read", "segment index"))?;
                Ok(probes(bits).all(|(word, bit)| big_endian(&bytes[word * 8..word * 8 + 8]) >> bit & 1 == 1))
            }
        }
    }
}

/// A file being written: header, frames, then the columns in order. Keys come sorted, and so do the blocks of their
/// filter, so one block of each is enough: it is written to its place when the next one begins.
struct IndexWriter {
    out: BufWriter<File>,
    filters: [FilterWriter; 2],
    length: u64,
    rows: u64,
}

struct FilterWriter {
    at: u64,
    blocks: u64,
    block: u64,
    words: [u64; 8],
}

impl FilterWriter {
    fn add(&mut self, file: &File, key: u64) -> std::io::Result<()> {
        let (block, bits) = filter_place(key, self.blocks);
        if block != self.block {
            self.write(file)?;
            (self.block, self.words) = (block, [0; 8]);
        }
        for (word, bit) in probes(bits) {
            self.words[word] |= 1 << bit;
        }
        Ok(())
    }

    fn write(&self, file: &File) -> std::io::Result<()> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_be_bytes()).collect();
        file.write_all_at(&bytes, self.at + self.block * 64)
    }
}

impl IndexWriter {
    fn new(path: &Path, span: &Span, (frames, periods): (u64, u64), keys: [u64; 2]) -> std::io::Result<IndexWriter> {
        let mut out = BufWriter::with_capacity(1 << 18, File::create(path)?);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&span.first_segment.to_be_bytes());
        header.extend_from_slice(&span.last_segment.to_be_bytes());
        for number in [span.first_index, span.end_index, frames, periods, keys[0], keys[1]] {
            header.extend_from_slice(&number.to_be_bytes());
        }
        header.extend_from_slice(&crc32c::crc32c(&header).to_be_bytes());
        assert_eq!(header.len(), HEADER_BYTES, "the header has its size");
        out.write_all(&header)?;
        let mut length = HEADER_BYTES as u64
            + frames * FRAME_ROW_BYTES as u64
            + periods * PERIOD_ROW_BYTES as u64
            + (keys[0] + keys[1]) * KEY_ROW_BYTES as u64;
        let filters = keys.map(|keys| {
            let filter = FilterWriter { at: length, blocks: filter_blocks(keys), block: 0, words: [0; 8] };
            length += filter.blocks * 64;
            filter
        });
        // Blocks without a key are never written: they read as zeros.
        out.get_ref().set_len(length)?;
        Ok(IndexWriter { out, filters, length, rows: 0 })
    }

    fn frame(&mut self, first: u32, location: &Location) -> std::io::Result<()> {
        for number in [first, location.segment, location.offset as u32, location.length as u32] {
            self.out.write_all(&number.to_be_bytes())?;
        }
        Ok(())
    }

    fn period(&mut self, (segment, period): PeriodRow) -> std::io::Result<()> {
        self.out.write_all(&segment.to_be_bytes())?;
        self.out.write_all(&period.to_be_bytes())
    }

    fn key(&mut self, column: Column, row: KeyRow) -> std::io::Result<()> {
        self.rows += 1;
        if self.rows.is_multiple_of(SYNC_ROWS) {
            self.out.get_ref().sync_data()?;
        }
        self.filters[column as usize].add(self.out.get_ref(), row.0)?;
        self.out.write_all(&row.0.to_be_bytes())?;
        self.out.write_all(&row.1.to_be_bytes())
    }

    fn finish(self) -> std::io::Result<()> {
        let file = self.out.into_inner()?;
        self.filters.iter().try_for_each(|filter| filter.write(&file))?;
        debug_assert_eq!(file.metadata()?.len(), self.length, "nothing was written beyond the filters");
        file.sync_data()
    }
}

/// Writes a file beside its place and renames it. What was begun and failed is taken away.
fn write_whole(path: &Path, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let new = path.with_extension("new");
    let written = write(&new).and_then(|()| std::fs::rename(&new, path).map_err(io("rename", "segment index")));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// Writes the index of one segment. Frames are given with their first entry, periods and columns sorted.
///
/// # Errors
/// The disk refuses; the index can be made again.
pub(crate) fn write(
    folder: &Path,
    span: &Span,
    (frames, periods): (&[(u32, Location)], &[PeriodRow]),
    columns: [&[KeyRow]; 2],
) -> Result<IndexFile, Error> {
    let path = span.path(folder);
    write_whole(&path, |new| {
        let keys = columns.map(|column| column.len() as u64);
        let write = || -> std::io::Result<()> {
            let mut out = IndexWriter::new(new, span, (frames.len() as u64, periods.len() as u64), keys)?;
            frames.iter().try_for_each(|(first, location)| out.frame(*first, location))?;
            periods.iter().try_for_each(|row| out.period(*row))?;
            for (column, rows) in [Column::Ids, Column::Tags].into_iter().zip(columns) {
                rows.iter().try_for_each(|row| out.key(column, *row))?;
            }
            out.finish()
        };
        write().map_err(io("write", "segment index"))
    })?;
    IndexFile::open(&path)
}

/// Merges the files of neighbouring segments into one.
///
/// # Errors
/// The disk refuses, or it was told to stop; the files stay as they are.
pub(crate) fn merge(folder: &Path, files: &[&IndexFile], stop: &AtomicBool) -> Result<IndexFile, Error> {
    let (first, last) = (files[0].span, files[files.len() - 1].span);
    let span = Span {
        first_segment: first.first_segment,
        last_segment: last.last_segment,
        first_index: first.first_index,
        end_index: last.end_index,
    };
    assert!(span.end_index - span.first_index <= u64::from(u32::MAX), "a file numbers its entries with 32 bits");
    let path = span.path(folder);
    let failed = || io("write", "segment index");
    write_whole(&path, |new| {
        let sum = |count: &dyn Fn(&IndexFile) -> u64| files.iter().map(|file| count(file)).sum();
        let keys = [sum(&|file| file.keys[0]), sum(&|file| file.keys[1])];
        let rows = (sum(&|file| file.frames), sum(&|file| file.periods));
        let mut out = IndexWriter::new(new, &span, rows, keys).map_err(failed())?;
        for file in files {
            let base = (file.span.first_index - span.first_index) as u32;
            for row in 0..file.frames {
                let (first, location) = file.frame(row)?;
                out.frame(base + first, &location).map_err(failed())?;
            }
        }
        for file in files {
            file.each_period(|row| out.period(row).map_err(failed()))?;
        }
        for column in [Column::Ids, Column::Tags] {
            let mut sources: Vec<ColumnRows<'_>> = Vec::with_capacity(files.len());
            for file in files {
                let base = (file.span.first_index - span.first_index) as u32;
                let rows = Vec::new().into_iter();
                let mut source = ColumnRows { file, column, base, next: 0, rows, head: None, stop };
                source.advance()?;
                sources.push(source);
            }
            while let Some(source) =
                sources.iter_mut().filter(|source| source.head.is_some()).min_by_key(|source| source.head)
            {
                if let Some(row) = source.head {
                    out.key(column, row).map_err(failed())?;
                }
                source.advance()?;
            }
        }
        out.finish().map_err(failed())
    })?;
    IndexFile::open(&path)
}

/// One column of one file, read in pieces.
struct ColumnRows<'a> {
    file: &'a IndexFile,
    column: Column,
    base: u32,
    next: u64,
    rows: std::vec::IntoIter<KeyRow>,
    head: Option<KeyRow>,
    stop: &'a AtomicBool,
}

impl ColumnRows<'_> {
    fn advance(&mut self) -> Result<(), Error> {
        let mut row = self.rows.next();
        if row.is_none() && self.next < self.file.keys[self.column as usize] {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let count = MERGE_ROWS.min(self.file.keys[self.column as usize] - self.next);
            self.rows = self.file.rows(self.column, self.next, count)?.into_iter();
            self.next += count;
            row = self.rows.next();
        }
        self.head = row.map(|(key, entry)| (key, entry + self.base));
        Ok(())
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct IndexFile {
    file: File,
    pub(crate) span: Span,
    frames: u64,
    periods: u64,
    keys: [u64; 2],
    filters: [Filter; 2],
}

impl IndexFile {
    pub(crate) fn open(path: &Path) -> Result<IndexFile, Error> {
        let bad = |why: &str| Error::Corrupt { what: "segment index".into(), why: why.into() };
        let failed = || io("read", "segment index");
        let file = File::open(path).map_err(failed())?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(failed())?;
        let sound = &header[..8] == MAGIC
            && header[8..10] == VERSION.to_be_bytes()
            && big_endian(&header[68..]) == u64::from(crc32c::crc32c(&header[..68]));
        if !sound {
            return Err(bad("its header does not fit"));
        }
        let number = |at: usize| big_endian(&header[at..at + 8]);
        let span = Span {
            first_segment: big_endian(&header[12..16]) as u32,
            last_segment: big_endian(&header[16..20]) as u32,
            first_index: number(20),
            end_index: number(28),
        };
        let (frames, periods, keys) = (number(36), number(44), [number(52), number(60)]);
        let mut at = HEADER_BYTES as u64
            + frames * FRAME_ROW_BYTES as u64
            + periods * PERIOD_ROW_BYTES as u64
            + (keys[0] + keys[1]) * KEY_ROW_BYTES as u64;
        let mut filters = [Filter::Memory(Vec::new()), Filter::Memory(Vec::new())];
        for (filter, count) in filters.iter_mut().zip(keys) {
            let blocks = filter_blocks(count);
            *filter = if blocks * 64 <= FILTER_BYTES_IN_MEMORY_MAX {
                let mut bytes = vec![0; blocks as usize * 64];
                file.read_exact_at(&mut bytes, at).map_err(failed())?;
                Filter::Memory(bytes.chunks_exact(8).map(big_endian).collect())
            } else {
                Filter::File { at, blocks }
            };
            at += blocks * 64;
        }
        if file.metadata().map_err(failed())?.len() != at {
            return Err(bad("its length does not fit its header"));
        }
        Ok(IndexFile { file, span, frames, periods, keys, filters })
    }

    fn rows(&self, column: Column, from: u64, count: u64) -> Result<Vec<KeyRow>, Error> {
        let before = if column == Column::Tags { self.keys[0] } else { 0 };
        let at = self.periods_at() + self.periods * PERIOD_ROW_BYTES as u64 + (before + from) * KEY_ROW_BYTES as u64;
        let mut bytes = vec![0; count as usize * KEY_ROW_BYTES];
        self.file.read_exact_at(&mut bytes, at).map_err(io("read", "segment index"))?;
        Ok(bytes.chunks_exact(KEY_ROW_BYTES).map(|row| (big_endian(&row[..8]), big_endian(&row[8..]) as u32)).collect())
    }

    fn periods_at(&self) -> u64 {
        HEADER_BYTES as u64 + self.frames * FRAME_ROW_BYTES as u64
    }

    /// Which segments have bodies of which periods, in order.
    pub(crate) fn each_period(&self, mut each: impl FnMut(PeriodRow) -> Result<(), Error>) -> Result<(), Error> {
        let mut next = 0;
        while next < self.periods {
            let count = MERGE_ROWS.min(self.periods - next);
            let mut bytes = vec![0; count as usize * PERIOD_ROW_BYTES];
            let at = self.periods_at() + next * PERIOD_ROW_BYTES as u64;
            self.file.read_exact_at(&mut bytes, at).map_err(io("read", "segment index"))?;
            for row in bytes.chunks_exact(PERIOD_ROW_BYTES) {
                each((big_endian(&row[..4]) as u32, big_endian(&row[4..]) as u32))?;
            }
            next += count;
        }
        Ok(())
    }

    fn frame(&self, row: u64) -> Result<(u32, Location), Error> {
        let mut bytes = [0; FRAME_ROW_BYTES];
        self.file
            .read_exact_at(&mut bytes, HEADER_BYTES as u64 + row * FRAME_ROW_BYTES as u64)
            .map_err(io("read", "segment index"))?;
        let number = |place: usize| big_endian(&bytes[place * 4..place * 4 + 4]);
        Ok((number(0) as u32, Location { segment: number(1) as u32, offset: number(2), length: number(3) }))
    }

    /// The entry that probably has this key.
    pub(crate) fn find(&self, column: Column, wanted: u64) -> Result<Option<u64>, Error> {
        if !self.filters[column as usize].may_have(&self.file, wanted)? {
            return Ok(None);
        }
        let (mut low, mut high) = (0, self.keys[column as usize]);
        // Keys are uniform, so the first window nearly always has the key or its absence.
        let mut guess = ((u128::from(wanted) * u128::from(high)) >> 64) as u64;
        while low < high {
            let from = guess.saturating_sub(WINDOW_ROWS / 2).clamp(low, high - 1);
            let to = (from + WINDOW_ROWS).min(high);
            let rows = self.rows(column, from, to - from)?;
            match rows.binary_search_by_key(&wanted, |row| row.0) {
                Ok(at) => return Ok(Some(self.span.first_index + u64::from(rows[at].1))),
                Err(0) if from > low => high = from,
                Err(at) if at == rows.len() && to < high => low = to,
                Err(_) => return Ok(None),
            }
            guess = low + (high - low) / 2;
        }
        Ok(None)
    }

    /// The frame that has this entry.
    pub(crate) fn locate(&self, index: u64) -> Result<Option<Location>, Error> {
        let (mut low, mut high) = (0, self.frames);
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let (first, location) = self.frame(middle)?;
            if self.span.first_index + u64::from(first) <= index {
                best = Some(location);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u64) -> u64 {
        big_endian(&proof::hash::sha256(&i.to_be_bytes()).0[..8])
    }

    /// Segments of 5,000 entries from 100 on; every third has a tag, every tenth begins a frame.
    fn segment(folder: &Path, number: u32) -> IndexFile {
        let first_index = 100 + u64::from(number) * 5_000;
        let span = Span { first_segment: number, last_segment: number, first_index, end_index: first_index + 5_000 };
        let mut columns = [Vec::new(), Vec::new()];
        let mut frames = Vec::new();
        for i in 0..5_000u32 {
            let entry = first_index + u64::from(i);
            columns[0].push((key(entry), i));
            if entry.is_multiple_of(3) {
                columns[1].push((key(1_000_000 + entry), i));
            }
            if i % 10 == 0 {
                frames.push((i, Location { segment: number, offset: u64::from(i) * 7, length: 70 }));
            }
        }
        columns.iter_mut().for_each(|column| column.sort_unstable());
        write(folder, &span, (&frames, &[(number, 7), (number, 9 + number)]), [&columns[0], &columns[1]])
            .expect("written")
    }

    fn holds(file: &IndexFile) {
        for entry in file.span.first_index..file.span.end_index {
            assert_eq!(file.find(Column::Ids, key(entry)).expect("read"), Some(entry));
            let tag = entry.is_multiple_of(3).then_some(entry);
            assert_eq!(file.find(Column::Tags, key(1_000_000 + entry)).expect("read"), tag);
            let (segment, place) = ((entry - 100) / 5_000, (entry - 100) % 5_000);
            let found = file.locate(entry).expect("read").expect("a frame");
            assert_eq!((found.segment, found.offset), (segment as u32, place / 10 * 70));
        }
    }

    #[test]
    fn every_key_is_found_before_and_after_a_merge_and_few_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<IndexFile> = (0..8).map(|number| segment(folder.path(), number)).collect();
        files.iter().for_each(holds);
        let merged = merge(folder.path(), &files.iter().collect::<Vec<_>>(), &AtomicBool::new(false)).expect("merged");
        assert_eq!(merged.span.segments(), 8);
        let mut periods = Vec::new();
        let take = |row| {
            periods.push(row);
            Ok(())
        };
        merged.each_period(take).expect("read");
        assert_eq!(periods, (0..8).flat_map(|number| [(number, 7), (number, 9 + number)]).collect::<Vec<_>>());
        holds(&merged);
        let strangers = 5_000_000..5_010_000;
        let hits = |filter: &Filter| {
            strangers.clone().filter(|i| filter.may_have(&merged.file, key(*i)).expect("read")).count()
        };
        let in_memory = hits(&merged.filters[0]);
        assert!(in_memory < 40, "{in_memory} of 10,000");
        // The same filter read block by block gives the same answers.
        let Filter::Memory(words) = &merged.filters[0] else { panic!("a small filter is in memory") };
        let length = merged.file.metadata().expect("there").len();
        let both: u64 = merged.keys.iter().map(|keys| filter_blocks(*keys) * 64).sum();
        let on_disk = Filter::File { at: length - both, blocks: words.len() as u64 / 8 };
        assert_eq!(hits(&on_disk), in_memory);
        assert!((100..40_100).all(|entry| on_disk.may_have(&merged.file, key(entry)).expect("read")));
    }

    #[test]
    fn another_version_and_a_cut_file_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = segment(folder.path(), 0).span.path(folder.path());
        let bytes = std::fs::read(&path).expect("read");
        for (at, byte) in [(9, 1), (30, 7), (0, b'X')] {
            let mut other = bytes.clone();
            other[at] = byte;
            std::fs::write(&path, other).expect("written");
            assert!(IndexFile::open(&path).is_err(), "byte {at}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
        assert!(IndexFile::open(&path).is_err());
    }
}
