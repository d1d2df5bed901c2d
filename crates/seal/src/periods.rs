//! Period keys: all bodies of a class and a period hang on one, until it ends.

use std::collections::{BTreeMap, HashMap};

use proof::time::UnixMillis;
use record::class::{ClassId, Retention};

use crate::crypto::Key;
use crate::error::Error;
use crate::pages::Tree;
use crate::store::{KeyStore, key_of};

const PERIODS_IN_LEAF: u64 = 256;
const PERIOD_BYTES: usize = 39;
const LIVE: u8 = 1;
const ENDED: u8 = 2;

/// A period's key.
#[derive(Debug, Clone)]
pub struct PeriodKey {
    /// Its id, as sealed headers name it.
    pub id: u32,
    /// The key.
    pub key: Key,
    /// Whether the record's own period had ended and this is the current one.
    pub late: bool,
}

/// What became of a period.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Live(Key),
    Ended {
        /// The entry that says so.
        by: u64,
        /// Whether the journal has nothing of its bodies any more.
        replaced: bool,
    },
}

#[derive(Clone)]
struct Period {
    class: ClassId,
    start: u32,
    state: State,
}

/// A period whose keys are to end, or have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeriodSpan {
    /// Its id.
    pub id: u32,
    /// Its class.
    pub class: ClassId,
    /// Its first day.
    pub start: u32,
}

/// A period that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedPeriod {
    /// Which.
    pub span: PeriodSpan,
    /// The entry that says so.
    pub by: u64,
    /// Whether the journal has nothing of its bodies any more.
    pub replaced: bool,
}

/// All periods, by their ids.
#[derive(Default)]
pub(crate) struct Periods {
    all: Vec<Period>,
    living: BTreeMap<(ClassId, u32), u32>,
    retention: Retention,
}

impl Periods {
    pub(crate) fn count(&self) -> u32 {
        self.all.len() as u32
    }

    fn get(&self, id: u32) -> Result<&Period, Error> {
        let never = Error::Corrupt { what: "key store", why: "a record names a period that this store never had" };
        (id as usize).checked_sub(1).and_then(|at| self.all.get(at)).ok_or(never)
    }

    fn spans(&self) -> impl Iterator<Item = (PeriodSpan, &State)> {
        self.all
            .iter()
            .zip(1..)
            .map(|(period, id)| (PeriodSpan { id, class: period.class, start: period.start }, &period.state))
    }
}

impl KeyStore {
    pub(crate) fn read_periods(&mut self, count: u32) -> Result<(), Error> {
        for leaf in 0..u64::from(count).div_ceil(PERIODS_IN_LEAF) {
            let bytes = self.pages.leaf(Tree::Periods, leaf)?.to_vec();
            for entry in bytes.chunks_exact(PERIOD_BYTES) {
                let start = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
                let class = ClassId(entry[1]);
                let state = match entry[0] {
                    LIVE => State::Live(key_of(&entry[7..39])),
                    ENDED => {
                        State::Ended { by: proof::encoding::big_endian(&entry[7..15]), replaced: entry[6] & 1 == 1 }
                    }
                    _ => return Err(Error::Corrupt { what: "key store periods", why: "a state that is none" }),
                };
                if matches!(state, State::Live(_)) {
                    self.periods.living.insert((class, start), self.periods.count() + 1);
                }
                self.periods.all.push(Period { class, start, state });
            }
        }
        if self.periods.count() != count {
            return Err(Error::Corrupt { what: "key store periods", why: "fewer than the store counts" });
        }
        Ok(())
    }

    /// How long keys live here.
    pub fn set_retention(&mut self, retention: Retention) {
        self.periods.retention = retention;
    }

    /// How long keys live here.
    pub fn retention(&self) -> Retention {
        self.periods.retention
    }

    /// The key to seal a record of this class and time under.
    ///
    /// A period that has ended, and a time more than a day ahead, give the current period instead.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn period(&mut self, class: ClassId, at: UnixMillis, now: UnixMillis) -> Result<PeriodKey, Error> {
        let current = class.period_start(now);
        let wanted = class.period_start(at);
        let over = self.periods.retention.ends_on(class, wanted).is_some_and(|end| end <= now.day());
        let ahead = wanted > current && at.0 > now.0 + record::minimal::AHEAD_MS_MAX;
        let has_ended = |period: &Period| (period.class, period.start) == (class, wanted);
        let ended = !self.periods.living.contains_key(&(class, wanted)) && self.periods.all.iter().any(has_ended);
        let late = over || ended;
        let start = if late || ahead { current } else { wanted };
        if let Some(id) = self.periods.living.get(&(class, start))
            && let State::Live(key) = &self.periods.get(*id)?.state
        {
            return Ok(PeriodKey { id: *id, key: key.clone(), late });
        }
        let key = Key(self.random.take());
        let id = self.periods.count() + 1;
        self.periods.all.push(Period { class, start, state: State::Live(key.clone()) });
        self.periods.living.insert((class, start), id);
        self.generation += 1;
        self.pages.touch_meta();
        self.write_period(id)?;
        Ok(PeriodKey { id, key, late })
    }

    fn write_period(&mut self, id: u32) -> Result<(), Error> {
        let leaf = u64::from(id - 1) / PERIODS_IN_LEAF;
        let first = (leaf * PERIODS_IN_LEAF) as usize;
        let bytes = self.pages.leaf_mut(Tree::Periods, leaf)?;
        bytes.clear();
        for period in self.periods.all.iter().skip(first).take(PERIODS_IN_LEAF as usize) {
            let mut row = [0; PERIOD_BYTES];
            row[1] = period.class.0;
            row[2..6].copy_from_slice(&period.start.to_be_bytes());
            match &period.state {
                State::Live(key) => {
                    row[0] = LIVE;
                    row[7..39].copy_from_slice(&key.0);
                }
                State::Ended { by, replaced } => {
                    (row[0], row[6]) = (ENDED, u8::from(*replaced));
                    row[7..15].copy_from_slice(&by.to_be_bytes());
                }
            }
            bytes.extend_from_slice(&row);
            zeroize::Zeroize::zeroize(&mut row);
        }
        Ok(())
    }

    /// The key of a period by its id.
    ///
    /// # Errors
    /// [`Error::KeyDestroyed`] if it has ended, or a generation problem if it never existed here.
    pub fn period_by_id(&self, id: u32) -> Result<Key, Error> {
        match &self.periods.get(id)?.state {
            State::Live(key) => Ok(key.clone()),
            State::Ended { .. } => Err(Error::KeyDestroyed),
        }
    }

    /// The entry that ended a period; none while it lives.
    pub fn ended_by(&self, id: u32) -> Option<u64> {
        match self.periods.get(id).ok()?.state {
            State::Ended { by, .. } => Some(by),
            State::Live(_) => None,
        }
    }

    /// Class and first day of a period.
    pub fn period_span(&self, id: u32) -> Option<PeriodSpan> {
        let period = self.periods.get(id).ok()?;
        Some(PeriodSpan { id, class: period.class, start: period.start })
    }

    /// The periods whose keys should have ended by this day, the oldest first.
    pub fn due(&self, today: u32) -> Vec<PeriodSpan> {
        let retention = self.periods.retention;
        let over = |span: &PeriodSpan| retention.ends_on(span.class, span.start).is_some_and(|end| end <= today);
        let living = self.periods.spans().filter(|(_, state)| matches!(state, State::Live(_)));
        let mut due: Vec<PeriodSpan> = living.map(|(span, _)| span).filter(over).collect();
        due.sort_by_key(|span| (span.start, span.id));
        due
    }

    /// The periods that have ended, in the order of their ids.
    pub fn ended(&self) -> Vec<EndedPeriod> {
        let ended = |(span, state): (PeriodSpan, &State)| match state {
            State::Ended { by, replaced } => Some(EndedPeriod { span, by: *by, replaced: *replaced }),
            State::Live(_) => None,
        };
        self.periods.spans().filter_map(ended).collect()
    }

    /// Destroys the key of a period; durable when it returns. Doing it again does nothing.
    ///
    /// # Errors
    /// The store cannot be written; then nothing may be assumed, and it is done again at the next start.
    pub fn end_period(&mut self, id: u32, by: u64) -> Result<(), Error> {
        let period = self.periods.get(id)?;
        if !matches!(period.state, State::Live(_)) {
            return Ok(());
        }
        let place = (period.class, period.start);
        self.periods.all[id as usize - 1].state = State::Ended { by, replaced: false };
        self.periods.living.remove(&place);
        self.pages.touch_meta();
        self.write_period(id)?;
        self.pages.doom(Tree::Periods, u64::from(id - 1) / PERIODS_IN_LEAF);
        self.commit()
    }

    /// The journal has nothing of an ended period's bodies any more; durable with the next commit.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn set_replaced(&mut self, id: u32) -> Result<(), Error> {
        let by = self.ended_by(id).ok_or(Error::Corrupt { what: "key store", why: "a living period was replaced" })?;
        self.periods.all[id as usize - 1].state = State::Ended { by, replaced: true };
        self.pages.touch_meta();
        self.write_period(id)
    }

    /// How many periods' keys live and how many were destroyed, by class.
    pub fn period_counts(&self) -> HashMap<u8, (usize, usize)> {
        let mut counts = HashMap::new();
        for period in &self.periods.all {
            let count: &mut (usize, usize) = counts.entry(period.class.0).or_default();
            if matches!(period.state, State::Live(_)) { count.0 += 1 } else { count.1 += 1 }
        }
        counts
    }
}
