//! Registers: which entries belong to one thing, by its id (`docs/formats/register-run.md`).
//!
//! A register holds no state: the state of a message or template at any time is the fold over its entries up to that
//! time, read from the ledger and checked. So a register is sorted runs of (keyed hash of type and id, entry): cheap to
//! write in order of time, whatever the ids, and with nothing in it that could be wrong about a person.

use std::path::{Path, PathBuf};

use crate::error::{Error, io};
use crate::file::{EncryptedFile, Vault};

const ROW_BYTES: usize = 16;
/// Rows read at once.
const WINDOW: u64 = 256;
/// Runs of one size that are merged into one.
const MERGE_WIDTH: usize = 8;

/// What sort of thing an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Thing {
    /// A message: `email_id` or `message_id`.
    Message = 1,
    /// Everything of one correlation id.
    Correlation = 2,
    /// A template and its versions.
    Template = 3,
    /// A document of a workflow.
    Document = 4,
    /// A named thing of the trail itself: source, erasure, hold, backup.
    Own = 5,
}

struct Run {
    first: u64,
    end: u64,
    path: PathBuf,
    file: EncryptedFile,
}

/// The registers of one trail.
pub(crate) struct Registers {
    folder: PathBuf,
    vault: Vault,
    runs: Vec<Run>,
    open: Vec<(u64, u64)>,
    cursor: u64,
}

impl Registers {
    pub(crate) fn open(folder: &Path, vault: Vault) -> Result<Registers, Error> {
        std::fs::create_dir_all(folder).map_err(io("create"))?;
        let mut found = Vec::new();
        for item in std::fs::read_dir(folder).map_err(io("list"))? {
            let path = item.map_err(io("list"))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if let Some((first, end)) = name.strip_suffix(".run").and_then(|name| name.split_once('-')) {
                found.push((first.parse::<u64>().unwrap_or(0), end.parse::<u64>().unwrap_or(0), path));
            }
        }
        // Where a merge was cut off, the wider run comes first and the ones it replaced are dropped.
        found.sort_by_key(|(first, end, _)| (*first, std::cmp::Reverse(*end)));
        let mut registers =
            Registers { folder: folder.to_owned(), vault, runs: Vec::new(), open: Vec::new(), cursor: 0 };
        for (first, end, path) in found {
            if first == registers.cursor {
                let file = registers.vault.open(&path).map_err(io("open"))?;
                registers.runs.push(Run { first, end, path, file });
                registers.cursor = end;
            } else {
                std::fs::remove_file(&path).map_err(io("remove"))?;
            }
        }
        Ok(registers)
    }

    /// Entries below this index are in runs.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(crate) fn hash(&self, thing: Thing, id: &str) -> u64 {
        self.vault.hash(&[b"candor/v1/register\n", &[thing as u8], id.as_bytes()])
    }

    pub(crate) fn add(&mut self, key: u64, entry: u64) {
        self.open.push((key, entry));
    }

    /// Writes the open rows as a run that ends before entry `end`.
    pub(crate) fn flush(&mut self, end: u64) -> Result<(), Error> {
        if end == self.cursor {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.open);
        rows.sort_unstable();
        let run = self.write(self.cursor, end, rows.into_iter().map(Ok))?;
        self.runs.push(run);
        self.cursor = end;
        self.merge()
    }

    fn write(&self, first: u64, end: u64, rows: impl Iterator<Item = Result<(u64, u64), Error>>) -> Result<Run, Error> {
        use std::io::Write;
        let path = self.folder.join(format!("{first:020}-{end:020}.run"));
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut out = std::io::BufWriter::new(self.vault.create(&new).map_err(io("create"))?);
        for row in rows {
            let (key, entry) = row?;
            out.write_all(&key.to_be_bytes())
                .and_then(|()| out.write_all(&entry.to_be_bytes()))
                .map_err(io("write"))?;
        }
        let mut inner = out.into_inner().map_err(|error| io("write")(error.into_error()))?;
        inner.finish().and_then(|()| std::fs::rename(&new, &path)).map_err(io("write"))?;
        let file = self.vault.open(&path).map_err(io("open"))?;
        Ok(Run { first, end, path, file })
    }

    /// Merges the last runs while eight of them are of about one size.
    fn merge(&mut self) -> Result<(), Error> {
        loop {
            let sizes: Vec<u64> = self.runs.iter().map(|run| run.end - run.first).collect();
            let Some(start) = sizes.len().checked_sub(MERGE_WIDTH) else { return Ok(()) };
            let last = &sizes[start..];
            let (smallest, largest) =
                (last.iter().min().copied().unwrap_or(0), last.iter().max().copied().unwrap_or(0));
            if largest > smallest.max(1) * 4 {
                return Ok(());
            }
            let merged: Vec<Run> = self.runs.drain(start..).collect();
            let (first, end) = (merged[0].first, merged[MERGE_WIDTH - 1].end);
            let run = self.write(first, end, MergedRows::new(&merged)?)?;
            self.runs.push(run);
            for old in merged {
                std::fs::remove_file(&old.path).map_err(io("remove"))?;
            }
        }
    }

    /// The entries of a thing, oldest first, at most `limit` of the newest.
    pub(crate) fn find(&self, thing: Thing, id: &str, limit: usize) -> Result<Vec<u64>, Error> {
        let key = self.hash(thing, id);
        let mut found: Vec<u64> = self.open.iter().filter(|(held, _)| *held == key).map(|(_, entry)| *entry).collect();
        for run in self.runs.iter().rev() {
            if found.len() >= limit {
                break;
            }
            found.extend(find_in(run, key)?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found.split_off(found.len().saturating_sub(limit)))
    }
}

fn rows(file: &EncryptedFile, from: u64, count: u64) -> Result<Vec<(u64, u64)>, Error> {
    let bytes = file.read(from * ROW_BYTES as u64, (count as usize) * ROW_BYTES).map_err(io("read"))?;
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    Ok(bytes.chunks_exact(ROW_BYTES).map(|row| (number(&row[..8]), number(&row[8..]))).collect())
}

/// Keys are uniform: the window around the expected place nearly always has the key.
fn find_in(run: &Run, key: u64) -> Result<Vec<u64>, Error> {
    let count = run.file.length / ROW_BYTES as u64;
    let (mut low, mut high) = (0, count);
    // Invariant: rows before `low` are below the key, rows from `high` on are not.
    let mut guess = ((u128::from(key) * u128::from(count)) >> 64) as u64;
    while low < high {
        let from = guess.saturating_sub(WINDOW / 2).clamp(low, high - 1);
        let part = rows(&run.file, from, WINDOW.min(high - from))?;
        let below = part.partition_point(|(held, _)| *held < key) as u64;
        if below == 0 {
            high = from;
        } else if below == part.len() as u64 {
            low = from + below;
        } else {
            low = from + below;
            high = low;
        }
        guess = low + (high - low) / 2;
    }
    let mut found = Vec::new();
    let mut at = low;
    while at < count {
        let part = rows(&run.file, at, WINDOW.min(count - at))?;
        let same = part.iter().take_while(|(held, _)| *held == key).count();
        found.extend(part[..same].iter().map(|(_, entry)| *entry));
        if same < part.len() {
            break;
        }
        at += same as u64;
    }
    Ok(found)
}

/// One run of a merge, read in pieces.
struct Source<'a> {
    file: &'a EncryptedFile,
    next: u64,
    piece: std::vec::IntoIter<(u64, u64)>,
    head: Option<(u64, u64)>,
}

impl Source<'_> {
    fn advance(&mut self) -> Result<(), Error> {
        self.head = self.piece.next();
        let count = self.file.length / ROW_BYTES as u64;
        if self.head.is_none() && self.next < count {
            let piece = (4 * WINDOW).min(count - self.next);
            self.piece = rows(self.file, self.next, piece)?.into_iter();
            self.next += piece;
            self.head = self.piece.next();
        }
        Ok(())
    }
}

struct MergedRows<'a> {
    sources: Vec<Source<'a>>,
}

impl<'a> MergedRows<'a> {
    fn new(runs: &'a [Run]) -> Result<MergedRows<'a>, Error> {
        let mut merged = MergedRows { sources: Vec::new() };
        for run in runs {
            let mut source = Source { file: &run.file, next: 0, piece: Vec::new().into_iter(), head: None };
            source.advance()?;
            merged.sources.push(source);
        }
        Ok(merged)
    }
}

impl Iterator for MergedRows<'_> {
    type Item = Result<(u64, u64), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let source = self.sources.iter_mut().filter(|source| source.head.is_some()).min_by_key(|source| source.head)?;
        let row = source.head?;
        Some(source.advance().map(|()| row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_through_merges_and_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = Vault::new(&seal::crypto::Key::from_bytes([1; 32]));
        let mut registers = Registers::open(folder.path(), vault.clone()).expect("open");
        for part in 0..30u64 {
            for entry in part * 100..(part + 1) * 100 {
                let key = registers.hash(Thing::Message, &format!("m-{}", entry % 700));
                registers.add(key, entry);
            }
            registers.flush((part + 1) * 100).expect("flushed");
        }
        assert!(registers.runs.len() < 12);
        let again = Registers::open(folder.path(), vault).expect("open");
        assert_eq!(again.cursor(), 3000);
        for id in 0..700u64 {
            let expected: Vec<u64> = (0..3000).filter(|entry| entry % 700 == id).collect();
            assert_eq!(again.find(Thing::Message, &format!("m-{id}"), 100).expect("read"), expected);
            assert_eq!(registers.find(Thing::Message, &format!("m-{id}"), 2).expect("read").len(), 2);
        }
        assert!(again.find(Thing::Template, "m-1", 9).expect("read").is_empty());
    }
}
