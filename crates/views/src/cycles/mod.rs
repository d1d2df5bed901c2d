//! Life cycles: what began and did not end in time, and what ended without a beginning (`docs/completeness.md`).
//!
//! Every entry that begins something is looked at once, when its time is over: whether an entry that ends it is there
//! is asked of the registers. So the cost is that of the entries of the time that has just passed, and what is held is
//! the indexes of those that stand open, nothing else. Those are looked at again until they end or are too old.
//!
//! Two sorts of passes over the log, so that nothing is missed and nothing waits: one a little behind the head, for
//! events whose time was over when they were taken in (history, late logs); and one for each length of time.

mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::reader::{Reader, StoredEntry};
use proof::encoding::big_endian;
use proof::time::UnixMillis;
use record::kinds::Catalogue;
use record::things::time;
use seal::shared::SharedStore;
use serde_json::{Map, Value};

use crate::error::{Error, io};
use crate::file::Vault;
use crate::open;
use crate::views::Views;

pub use table::{CYCLES, Cycle};
use table::{DAY_MS, HOUR_MS};

const MINUTE_MS: u64 = 60_000;
/// What was taken in after its time was over is judged this long after it was taken in: what belongs to it may come
/// right behind it.
pub const SETTLE_MS: u64 = 10 * MINUTE_MS;
/// What has stood open for longer leaves the register.
const KEPT_MS: u64 = 90 * DAY_MS;
/// Entries of one cycle that are held, at most; what comes beyond is counted.
const HELD_MAX: usize = 100_000;
/// Open ones that are looked at again in one call.
const AGAIN_MAX: usize = 5_000;
/// Entries of one thing that are looked at for an end.
const OTHERS_MAX: usize = 1_000;
/// A telling that comes a little before what it tells.
const BEFORE_MS: u64 = HOUR_MS;
const MAGIC: &[u8; 8] = b"CNDRCYCL";
const VERSION: u16 = 1;

/// Lengths of time; the pass before them is that of what was over when it came.
const GRACES: [u64; 3] = [HOUR_MS, DAY_MS, 5 * DAY_MS];
const PASSES: usize = GRACES.len() + 1;

/// What following the log takes.
pub struct Follow<'f> {
    /// The trail.
    pub reader: &'f Reader,
    /// Its keys.
    pub store: &'f SharedStore,
    /// Its kinds.
    pub catalogue: &'f Catalogue,
    /// Where things are.
    pub views: &'f Views,
    /// Now, in milliseconds.
    pub now_ms: u64,
    /// How long what was over when it came waits: [`SETTLE_MS`], or 0 where nothing more will come.
    pub settle_ms: u64,
}

/// What stands open of one cycle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub open: u64,
    /// When the oldest of them was taken in, in milliseconds.
    pub oldest_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Held {
    /// Entries that stand open, with the time at which they were taken in.
    entries: BTreeMap<u64, u64>,
    /// How many more there were than are held.
    more: u64,
    /// Where looking again goes on.
    again: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    cursors: [u64; PASSES],
    held: Vec<Held>,
}

/// The open life cycles of one trail.
pub struct Cycles {
    path: PathBuf,
    vault: Vault,
    /// `None` until the first call of [`Cycles::follow`] where there was no file.
    state: Mutex<Option<State>>,
    /// Held while the log is followed: who asks meanwhile gets what was known before.
    following: Mutex<()>,
}

impl Cycles {
    pub(crate) fn open(path: &Path, vault: Vault) -> Result<Cycles, Error> {
        let state = match vault.read(path) {
            Ok(bytes) => read(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read")(error)),
        };
        Ok(Cycles { path: path.to_owned(), vault, state: Mutex::new(state), following: Mutex::default() })
    }

    /// Judges what is to be judged by now, looks again at some of what stands open, and writes the state; whether there
    /// is more to do, since `stop` was set or not all fitted in one call.
    ///
    /// # Errors
    /// The trail cannot be read, or the disk refuses.
    pub fn follow(&self, follow: &Follow<'_>, stop: &AtomicBool) -> Result<bool, Error> {
        let _one = self.following.lock().map_err(|_| Error::Stopped)?;
        let held = self.state.lock().map_err(|_| Error::Stopped)?.clone();
        let mut state = match held {
            Some(state) if state.cursors.iter().all(|cursor| *cursor <= follow.reader.size()) => state,
            _ => {
                let from = follow.reader.first_at(0, UnixMillis(follow.now_ms.saturating_sub(KEPT_MS)))?;
                State { cursors: [from; PASSES], held: vec![Held::default(); CYCLES.len()] }
            }
        };
        let followed = follow.passes(&mut state, stop).and_then(|more| Ok(more | follow.again(&mut state, stop)?));
        let bytes = write(&state);
        *self.state.lock().map_err(|_| Error::Stopped)? = Some(state);
        let more = followed?;
        self.vault.replace(&self.path, &bytes).map_err(io("write"))?;
        Ok(more)
    }

    /// What stands open of each cycle, in the order of [`CYCLES`].
    ///
    /// # Errors
    /// Another thread failed.
    pub fn counts(&self) -> Result<Vec<Count>, Error> {
        let held = self.state.lock().map_err(|_| Error::Stopped)?;
        let Some(state) = &*held else { return Ok(vec![Count::default(); CYCLES.len()]) };
        let count = |held: &Held| Count {
            open: held.entries.len() as u64 + held.more,
            oldest_ms: held.entries.first_key_value().map(|(_, at)| *at),
        };
        Ok(state.held.iter().map(count).collect())
    }

    /// Entries that stand open of a cycle, from `from` on, the oldest first.
    ///
    /// # Errors
    /// Another thread failed.
    pub fn open_entries(&self, cycle: usize, from: u64, limit: usize) -> Result<Vec<u64>, Error> {
        let held = self.state.lock().map_err(|_| Error::Stopped)?;
        let held = held.as_ref().and_then(|state| state.held.get(cycle));
        Ok(held
            .map(|held| held.entries.range(from..).map(|(entry, _)| *entry).take(limit).collect())
            .unwrap_or_default())
    }
}

impl Follow<'_> {
    fn passes(&self, state: &mut State, stop: &AtomicBool) -> Result<bool, Error> {
        for pass in 0..PASSES {
            let lag = if pass == 0 { self.settle_ms } else { GRACES[pass - 1] };
            let from = state.cursors[pass];
            let end = match self.now_ms.checked_sub(lag) {
                // Of the same millisecond too.
                Some(until) => self.reader.first_at(from, UnixMillis(until + 1))?,
                None => from,
            };
            let mut stopped = false;
            let (cursors, held) = (&mut state.cursors, &mut state.held);
            let walked = self.reader.each_entry(from..end, |stored| {
                if stop.load(Ordering::Relaxed) {
                    stopped = true;
                    return Err(Error::Stopped);
                }
                self.judge(pass, &stored, held)?;
                cursors[pass] = stored.index + 1;
                Ok(())
            });
            if stopped {
                return Ok(true);
            }
            walked?;
        }
        Ok(false)
    }

    fn judge(&self, pass: usize, stored: &StoredEntry, held: &mut [Held]) -> Result<(), Error> {
        let entry = stored.entry()?;
        let (kind, at_ms) = (entry.kind, entry.at.0);
        let mut opened: Option<Option<Map<String, Value>>> = None;
        for (cycle, held) in CYCLES.iter().zip(held) {
            if !cycle.begins.contains(&kind) || pass > 0 && cycle.grace_ms != GRACES[pass - 1] {
                continue;
            }
            let facts = match &mut opened {
                Some(facts) => facts,
                none => none.insert(self.facts(stored)?),
            };
            let Some(facts) = facts else { continue };
            // What was over when it came is of the first pass, everything else of its own.
            let over = own_time(facts).unwrap_or(at_ms) + cycle.grace_ms <= at_ms + SETTLE_MS;
            if over == (pass == 0) && !self.is_closed(cycle, stored.index, facts)? {
                if held.entries.len() < HELD_MAX {
                    held.entries.insert(stored.index, at_ms);
                } else {
                    held.more += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether what an entry begins has ended, or needs no end.
    ///
    /// # Errors
    /// The trail or the registers cannot be read.
    pub fn is_closed(&self, cycle: &Cycle, index: u64, facts: &Map<String, Value>) -> Result<bool, Error> {
        let ids: Vec<&str> = cycle.id.iter().filter_map(|name| facts.get(*name).and_then(Value::as_str)).collect();
        if ids.is_empty() || cycle.ends_itself(facts) {
            return Ok(true);
        }
        let begun = own_time(facts).unwrap_or_default();
        // The relay knows a mail by its Message-ID, others by their own id.
        for id in ids {
            for other in self.views.find(cycle.thing, id, OTHERS_MAX)? {
                if other != index && self.ends(cycle, other, id, begun)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn ends(&self, cycle: &Cycle, other: u64, id: &str, begun: u64) -> Result<bool, Error> {
        let stored = self.reader.entry(other)?;
        let kind = stored.entry()?.kind;
        let Some((_, needs)) = cycle.ends.iter().find(|(end, _)| *end == kind) else { return Ok(false) };
        // A view is a hint: the entry itself must say so.
        let Some(facts) = self.facts(&stored)? else { return Ok(true) };
        let text = |name: &str| facts.get(name).and_then(Value::as_str);
        let named = cycle.id.iter().any(|name| text(name) == Some(id));
        let fits = needs.is_none_or(|(field, values)| text(field).is_some_and(|held| values.contains(&held)));
        let in_order = !cycle.in_order || own_time(&facts).is_none_or(|at| at + BEFORE_MS >= begun);
        Ok(named && fits && in_order)
    }

    fn facts(&self, stored: &StoredEntry) -> Result<Option<Map<String, Value>>, Error> {
        Ok(open::facts(stored, &mut *self.store.lock()?, self.catalogue)?.map(|(_, facts)| facts))
    }

    /// Looks again at some of what stands open; whether there is more to look at now.
    fn again(&self, state: &mut State, stop: &AtomicBool) -> Result<bool, Error> {
        for (cycle, held) in CYCLES.iter().zip(&mut state.held) {
            let entries: Vec<(u64, u64)> =
                held.entries.range(held.again..).take(AGAIN_MAX).map(|(entry, at)| (*entry, *at)).collect();
            held.again = if entries.len() < AGAIN_MAX { 0 } else { entries.last().map_or(0, |(entry, _)| entry + 1) };
            for (entry, at_ms) in entries {
                if stop.load(Ordering::Relaxed) {
                    return Ok(true);
                }
                let old = at_ms + KEPT_MS < self.now_ms;
                let closed = match self.facts(&self.reader.entry(entry)?)? {
                    Some(facts) => self.is_closed(cycle, entry, &facts)?,
                    None => true,
                };
                if old || closed {
                    held.entries.remove(&entry);
                }
            }
        }
        Ok(false)
    }
}

fn own_time(facts: &Map<String, Value>) -> Option<u64> {
    time(facts.get("timestamp")).map(|time| time.0)
}

fn write(state: &State) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut put = |number: u64| out.extend_from_slice(&number.to_be_bytes());
    put(state.cursors.len() as u64);
    state.cursors.iter().for_each(|cursor| put(*cursor));
    put(state.held.len() as u64);
    for held in &state.held {
        put(held.more);
        put(held.again);
        put(held.entries.len() as u64);
        for (entry, at) in &held.entries {
            put(*entry);
            put(*at);
        }
    }
    out
}

/// `None` if it is not of this version with these cycles, or not whole: it is then made again.
fn read(bytes: &[u8]) -> Option<State> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    if u16::from_be_bytes(*version) != VERSION || rest.len() % 8 != 0 {
        return None;
    }
    let mut numbers = rest.chunks_exact(8).map(big_endian);
    if numbers.next()? != PASSES as u64 {
        return None;
    }
    let mut state = State::default();
    for cursor in &mut state.cursors {
        *cursor = numbers.next()?;
    }
    if numbers.next()? != CYCLES.len() as u64 {
        return None;
    }
    for _ in CYCLES {
        let mut held = Held { more: numbers.next()?, again: numbers.next()?, ..Held::default() };
        for _ in 0..numbers.next()? {
            held.entries.insert(numbers.next()?, numbers.next()?);
        }
        state.held.push(held);
    }
    numbers.next().is_none().then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_state_reads_and_writes_as_it_is() {
        let mut state = State { cursors: [9, 8, 7, 6], held: vec![Held::default(); CYCLES.len()] };
        state.held[1] = Held { entries: [(3, 1_767_225_600_000), (5, 1_767_225_600_001)].into(), more: 2, again: 4 };
        let bytes = write(&state);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/watch/cycles-v1.bin");
        assert_eq!(std::fs::read(&path).expect("golden"), bytes, "{}", path.display());
        assert_eq!(read(&bytes), Some(state));
    }

    #[test]
    fn what_is_no_state_of_this_version_is_made_again() {
        let state = State { cursors: [1; PASSES], held: vec![Held::default(); CYCLES.len()] };
        let bytes = write(&state);
        assert!((0..bytes.len()).all(|end| read(&bytes[..end]).is_none()));
        let mut newer = bytes.clone();
        newer[9] = 2;
        assert_eq!(read(&newer), None);
        assert_eq!(read(&[bytes, vec![0; 8]].concat()), None);
    }

    #[test]
    fn every_length_of_time_has_a_pass() {
        assert!(CYCLES.iter().all(|cycle| GRACES.contains(&cycle.grace_ms)));
    }
}
