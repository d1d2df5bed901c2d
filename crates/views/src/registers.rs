//! Registers: which entries belong to one thing, by its id (`docs/formats/register-run.md`).
//!
//! A register holds no state: the state of a message or template at any time is the fold over its entries up to that
//! time, read from the ledger and checked. So a register is sorted runs of (keyed hash of type and id, entry): cheap to
//! write in order of time, whatever the ids, and with nothing in it that could be wrong about a person.
//!
//! One thread adds, one thread flushes; any may read. Runs are merged in a thread of its own, since a merge of large
//! ones takes seconds.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use ledger::background::Background;
use proof::encoding::big_endian;

use crate::error::{Error, io};
use crate::file::{EncryptedFile, Vault};
use crate::open_rows::OpenRows;

const ROW_BYTES: usize = 16;
/// Rows read at once.
const WINDOW: u64 = 256;
/// Looks at a run whose places are reckoned from the keys.
const RECKONED_MAX: u32 = 6;
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
    /// A support ticket.
    Ticket = 6,
    /// A telephone call.
    Call = 7,
    /// An order with its payments and shipment.
    Order = 8,
    /// A session of a user.
    Session = 9,
    /// A record of data that is changed and looked at.
    Data = 10,
    /// A data subject's request.
    Request = 11,
    /// A consent.
    Consent = 12,
    /// A breach.
    Breach = 13,
    /// An alert.
    Alert = 14,
    /// A case: what somebody read is looked into.
    Case = 15,
    /// A review of who read what.
    Review = 16,
}

impl Thing {
    /// What a fact at this place of a record of this kind names.
    pub(crate) fn at(pointer: &str, kind: &str) -> Option<Thing> {
        match pointer {
            "/correlation_id" => Some(Thing::Correlation),
            "/email_id" | "/message_id" => Some(Thing::Message),
            "/template_id" if kind.starts_with("TEMPLATE_") => Some(Thing::Template),
            "/document_id" => Some(Thing::Document),
            "/ticket_id" => Some(Thing::Ticket),
            "/call_id" => Some(Thing::Call),
            "/order_id" => Some(Thing::Order),
            "/session_id" => Some(Thing::Session),
            "/data_id" => Some(Thing::Data),
            "/request_id" => Some(Thing::Request),
            "/consent_id" => Some(Thing::Consent),
            "/incident_id" => Some(Thing::Breach),
            "/alert_id" => Some(Thing::Alert),
            "/case_id" => Some(Thing::Case),
            "/review_id" => Some(Thing::Review),
            "/erasure_id" | "/hold_id" | "/backup_id" | "/source_name" | "/kind_name" | "/register" => Some(Thing::Own),
            _ => None,
        }
    }

    /// The thing that a register of this name is of.
    pub fn of_register(name: &str) -> Option<Thing> {
        match name {
            "email" | "message" => Some(Thing::Message),
            "template" => Some(Thing::Template),
            "ticket" => Some(Thing::Ticket),
            "call" => Some(Thing::Call),
            "order" => Some(Thing::Order),
            "session" => Some(Thing::Session),
            "data" => Some(Thing::Data),
            "request" => Some(Thing::Request),
            "consent" => Some(Thing::Consent),
            "breach" => Some(Thing::Breach),
            "alert" => Some(Thing::Alert),
            "case" => Some(Thing::Case),
            "review" => Some(Thing::Review),
            _ => None,
        }
    }
}

struct Run {
    first: u64,
    end: u64,
    path: PathBuf,
    file: EncryptedFile,
}

/// The registers of one trail.
pub(crate) struct Registers {
    shared: Arc<Shared>,
    background: Background,
}

struct Shared {
    folder: PathBuf,
    vault: Vault,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    runs: Vec<Arc<Run>>,
    /// Rows not in a run yet.
    open: OpenRows,
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
            } else if name.ends_with(".new") {
                std::fs::remove_file(&path).map_err(io("remove"))?;
            }
        }
        // Where a merge was cut off, the wider run comes first and the ones it replaced are dropped.
        found.sort_by_key(|(first, end, _)| (*first, std::cmp::Reverse(*end)));
        let mut state = State::default();
        for (first, end, path) in found {
            if first == state.cursor {
                let file = vault.open(&path).map_err(io("open"))?;
                state.runs.push(Arc::new(Run { first, end, path, file }));
                state.cursor = end;
            } else {
                std::fs::remove_file(&path).map_err(io("remove"))?;
            }
        }
        let folder = folder.to_owned();
        let shared = Arc::new(Shared { folder, vault, state: RwLock::new(state) });
        Ok(Registers { shared, background: Background::new("registers") })
    }

    pub(crate) fn hash(&self, thing: Thing, id: &str) -> u64 {
        self.shared.vault.hash(&[b"candor/v1/register\n", &[thing as u8], id.as_bytes()])
    }

    /// Adds rows in the order of their entries; those of entries that are in runs already are left out.
    pub(crate) fn add(&self, rows: impl Iterator<Item = (u64, u64)>) -> Result<(), Error> {
        let mut state = self.shared.state.write().map_err(|_| Error::Stopped)?;
        let cursor = state.cursor;
        state.open.extend(rows.filter(|(_, entry)| *entry >= cursor));
        Ok(())
    }

    /// Writes the open rows of entries before `end` as a run.
    pub(crate) fn flush(&self, end: u64) -> Result<(), Error> {
        let (first, mut rows) = {
            let state = self.shared.state.read().map_err(|_| Error::Stopped)?;
            (state.cursor, state.open.before(end))
        };
        // After a crash the index may follow from further back than the runs reach: they stay as they are.
        if end <= first {
            return Ok(());
        }
        // Sorted parts one after the other: the stable sort finds and merges them.
        rows.sort();
        let run = self.shared.write(first, end, rows.into_iter().map(Ok))?;
        {
            let mut state = self.shared.state.write().map_err(|_| Error::Stopped)?;
            state.runs.push(Arc::new(run));
            state.open.drop_before(end);
            state.cursor = end;
        }
        // What cannot be merged now is tried again after the next flush.
        let shared = Arc::clone(&self.shared);
        self.background.nudge(move |stop| shared.merge(stop).unwrap_or(false));
        Ok(())
    }

    /// The entries of a thing from `since` on, oldest first, at most `limit` of the newest.
    pub(crate) fn find(&self, thing: Thing, id: &str, since: u64, limit: usize) -> Result<Vec<u64>, Error> {
        let key = self.hash(thing, id);
        let (mut found, runs) = {
            let state = self.shared.state.read().map_err(|_| Error::Stopped)?;
            (state.open.find(key), state.runs.clone())
        };
        for run in runs.iter().rev() {
            if found.len() >= limit || run.end <= since {
                break;
            }
            found.extend(find_in(run, key)?);
        }
        found.retain(|entry| *entry >= since);
        found.sort_unstable();
        found.dedup();
        Ok(found.split_off(found.len().saturating_sub(limit)))
    }
}

impl Shared {
    fn write(&self, first: u64, end: u64, rows: impl Iterator<Item = Result<(u64, u64), Error>>) -> Result<Run, Error> {
        let path = self.folder.join(format!("{first:020}-{end:020}.run"));
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let written = self.write_rows(&new, rows);
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        written?;
        std::fs::rename(&new, &path).map_err(io("rename"))?;
        let file = self.vault.open(&path).map_err(io("open"))?;
        Ok(Run { first, end, path, file })
    }

    fn write_rows(&self, new: &Path, rows: impl Iterator<Item = Result<(u64, u64), Error>>) -> Result<(), Error> {
        use std::io::Write;
        let mut out = std::io::BufWriter::new(self.vault.create(new).map_err(io("create"))?);
        for row in rows {
            let (key, entry) = row?;
            out.write_all(&key.to_be_bytes())
                .and_then(|()| out.write_all(&entry.to_be_bytes()))
                .map_err(io("write"))?;
        }
        let mut inner = out.into_inner().map_err(|error| io("write")(error.into_error()))?;
        inner.finish().map_err(io("write"))
    }

    /// Merges the first eight neighbouring runs that are of about one size; whether there were any.
    fn merge(&self, stop: &AtomicBool) -> Result<bool, Error> {
        let even = |window: &&[Arc<Run>]| {
            let sizes = window.iter().map(|run| run.end - run.first);
            let (smallest, largest) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
            largest <= smallest.max(1) * 4
        };
        let old: Vec<Arc<Run>> = {
            let state = self.state.read().map_err(|_| Error::Stopped)?;
            match state.runs.windows(MERGE_WIDTH).find(even) {
                Some(window) => window.to_vec(),
                None => return Ok(false),
            }
        };
        let run = self.write(old[0].first, old[MERGE_WIDTH - 1].end, MergedRows::new(&old, stop)?)?;
        {
            let mut state = self.state.write().map_err(|_| Error::Stopped)?;
            let at = state.runs.partition_point(|held| held.first < run.first);
            state.runs.splice(at..at + MERGE_WIDTH, [Arc::new(run)]);
        }
        // If we stop before this line, the next start takes them away.
        for run in old {
            std::fs::remove_file(&run.path).map_err(io("remove"))?;
        }
        Ok(true)
    }
}

fn rows(file: &EncryptedFile, from: u64, count: u64) -> Result<Vec<(u64, u64)>, Error> {
    let bytes = file.read(from * ROW_BYTES as u64, (count as usize) * ROW_BYTES).map_err(io("read"))?;
    Ok(bytes.chunks_exact(ROW_BYTES).map(|row| (big_endian(&row[..8]), big_endian(&row[8..]))).collect())
}

/// Keys are uniform, so where one stands is reckoned from its neighbours: of fifteen million rows the first reckoning is
/// off by some two thousand, the second by less than a window. Should they ever not be, the range is halved instead.
fn find_in(run: &Run, key: u64) -> Result<Vec<u64>, Error> {
    let count = run.file.length / ROW_BYTES as u64;
    // Invariant: rows before `low` are below the key, rows from `high` on are not. Beside each, the key of its edge.
    let ((mut low, mut least), (mut high, mut most)) = ((0, 0u64), (count, u64::MAX));
    let mut probes = 0;
    while low < high {
        let share = u128::from(key.saturating_sub(least)) * u128::from(high - low);
        let reckoned = low + (share / u128::from(most.saturating_sub(least).max(1))) as u64;
        let guess = if probes < RECKONED_MAX { reckoned } else { low + (high - low) / 2 };
        probes += 1;
        // A window is a block of the file: read so, one is decrypted and not two.
        let from = (guess.min(high - 1) / WINDOW * WINDOW).max(low);
        let part = rows(&run.file, from, (WINDOW - from % WINDOW).min(high - from))?;
        let below = part.partition_point(|(held, _)| *held < key);
        match (part.first(), part.last()) {
            (Some((first, _)), _) if below == 0 && from > low => (high, most) = (from, *first),
            (_, Some((last, _))) if below == part.len() => (low, least) = (from + below as u64, *last),
            _ => return same_from(run, key, from + below as u64, &part[below..]),
        }
    }
    same_from(run, key, low, &[])
}

/// Entries of the rows of this key, the first of which stand in `held`, from row `at` on.
fn same_from(run: &Run, key: u64, mut at: u64, held: &[(u64, u64)]) -> Result<Vec<u64>, Error> {
    let count = run.file.length / ROW_BYTES as u64;
    let (mut found, mut part) = (Vec::new(), held.to_vec());
    loop {
        let same = part.iter().take_while(|(held, _)| *held == key).count();
        found.extend(part[..same].iter().map(|(_, entry)| *entry));
        at += part.len() as u64;
        if same < part.len() || at >= count {
            return Ok(found);
        }
        part = rows(&run.file, at, (WINDOW - at % WINDOW).min(count - at))?;
    }
}

/// One run of a merge, read in pieces.
struct Source<'a> {
    file: &'a EncryptedFile,
    next: u64,
    piece: std::vec::IntoIter<(u64, u64)>,
    head: Option<(u64, u64)>,
    stop: &'a AtomicBool,
}

impl Source<'_> {
    fn advance(&mut self) -> Result<(), Error> {
        self.head = self.piece.next();
        let count = self.file.length / ROW_BYTES as u64;
        if self.head.is_none() && self.next < count {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
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
    fn new(runs: &'a [Arc<Run>], stop: &'a AtomicBool) -> Result<MergedRows<'a>, Error> {
        let mut merged = MergedRows { sources: Vec::new() };
        for run in runs {
            let mut source = Source { file: &run.file, next: 0, piece: Vec::new().into_iter(), head: None, stop };
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
        let registers = Registers::open(folder.path(), vault.clone()).expect("open");
        for part in 0..30u64 {
            let row = |entry| (registers.hash(Thing::Message, &format!("m-{}", entry % 700)), entry);
            registers.add((part * 100..(part + 1) * 100).map(row)).expect("added");
            registers.flush((part + 1) * 100).expect("flushed");
        }
        let state =
            |registers: &Registers| registers.shared.state.read().map(|s| (s.runs.len(), s.cursor)).expect("whole");
        registers.background.wait();
        while registers.shared.merge(&AtomicBool::new(false)).expect("merged") {}
        assert!(state(&registers).0 < 12);
        let again = Registers::open(folder.path(), vault).expect("open");
        assert_eq!(state(&again).1, 3000);
        for id in 0..700u64 {
            let expected: Vec<u64> = (0..3000).filter(|entry| entry % 700 == id).collect();
            assert_eq!(again.find(Thing::Message, &format!("m-{id}"), 0, 100).expect("read"), expected);
            let late: Vec<u64> = expected.iter().copied().filter(|entry| *entry >= 2900).collect();
            assert_eq!(again.find(Thing::Message, &format!("m-{id}"), 2900, 100).expect("read"), late);
            assert_eq!(registers.find(Thing::Message, &format!("m-{id}"), 0, 2).expect("read").len(), 2);
        }
        assert!(again.find(Thing::Template, "m-1", 0, 9).expect("read").is_empty());
        // After a crash the index follows from further back and flushes at an entry that the runs have passed.
        again.add((2000..2500).map(|entry| (again.hash(Thing::Message, "late"), entry))).expect("added");
        again.flush(2500).expect("nothing to write");
        drop(again);
        let again = Registers::open(folder.path(), Vault::new(&seal::crypto::Key::from_bytes([1; 32]))).expect("open");
        assert_eq!(state(&again).1, 3000, "no run was lost");
    }
}
