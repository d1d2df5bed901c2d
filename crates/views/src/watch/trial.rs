//! A trial: rules over the past, in the order of the events' own times.
//!
//! Memory is bounded: as many days are taken together as hold [`CHUNK`] events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledger::reader::Reader;
use record::kinds::Catalogue;
use record::things::SHAPES;
use seal::shared::SharedStore;

use super::engine::{Alert, Engine};
use super::rule::{Rules, What};
use crate::error::Error;
use crate::follow::document_of;
use crate::index::Query;
use crate::open;
use crate::views::Views;
use crate::words;

const DAY_MS: u64 = 86_400_000;
/// Events that are held and put in order at once, at most, but for those of one day.
const CHUNK: u64 = 1_000_000;

/// What is tried.
pub struct Trial<'t> {
    /// The trail.
    pub reader: &'t Reader,
    /// Its keys.
    pub store: &'t SharedStore,
    /// Its kinds.
    pub catalogue: &'t Catalogue,
    /// From when, in milliseconds.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
}

impl Trial<'_> {
    /// What rules would have raised and resolved, in the order of time. `progress` is told how many events of how many
    /// were looked at.
    ///
    /// # Errors
    /// The trail or its index cannot be read.
    pub fn run(&self, views: &Views, rules: &Rules, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<Alert>, Error> {
        let rules = Arc::new(rules.without_hands());
        let kinds = kinds(&rules, self.catalogue);
        let mut by_day: BTreeMap<u64, u64> = BTreeMap::new();
        self.each(views, &kinds, (self.from_ms, self.until_ms), |_, time| {
            *by_day.entry(time / DAY_MS).or_default() += 1
        })?;
        let total: u64 = by_day.values().sum();
        let documents = views.documents_for(self.catalogue, &rules);
        let mut engine = Engine::new(Arc::clone(&rules), 0);
        let mut done = 0;
        for (first, last) in chunks(&by_day) {
            let range = ((first * DAY_MS).max(self.from_ms), ((last + 1) * DAY_MS).min(self.until_ms));
            let mut events = Vec::new();
            self.each(views, &kinds, range, |entry, time| events.push((time, entry)))?;
            events.sort_unstable();
            // The newest are found by hashes of words: one may be found twice.
            events.dedup();
            for (time, entry) in events {
                let stored = self.reader.entry(entry)?;
                let keys = open::keys(&stored, None, &mut *self.store.lock()?)?;
                let document = document_of(&open::open(&stored, &keys, self.catalogue)?, &documents);
                if let Some(sighted) = &document.sighted {
                    engine.replay(entry, time, sighted);
                }
                done += 1;
                progress(done, total);
            }
        }
        engine.pass(0, self.until_ms);
        let mut alerts: Vec<Alert> = engine.pending().cloned().collect();
        alerts.sort_by(|one, other| (one.at, &one.id, one.step).cmp(&(other.at, &other.id, other.step)));
        Ok(alerts)
    }

    fn each(
        &self,
        views: &Views,
        kinds: &BTreeSet<&str>,
        (from, until): (u64, u64),
        mut take: impl FnMut(u64, u64),
    ) -> Result<(), Error> {
        for kind in kinds {
            let words = vec![words::filter("kind", kind)];
            let query = Query { words, from_ms: Some(from), until_ms: Some(until), ..Query::default() };
            views.matches(&query, &mut take)?;
        }
        Ok(())
    }
}

/// The kinds that rules look at.
fn kinds<'k>(rules: &'k Rules, catalogue: &'k Catalogue) -> BTreeSet<&'k str> {
    let mut kinds = BTreeSet::new();
    for rule in rules.all() {
        kinds.extend(rule.text.matches().flat_map(|one| &one.kinds).map(String::as_str));
        if let What::Overdue { register } = rule.what {
            let shape = SHAPES.get(usize::from(register));
            let of_register = catalogue.current().filter(|kind| shape.is_some_and(|shape| shape.has(&kind.name)));
            kinds.extend(of_register.map(|kind| kind.name.as_str()));
        }
    }
    kinds
}

/// First and last day of each chunk.
fn chunks(by_day: &BTreeMap<u64, u64>) -> Vec<(u64, u64)> {
    let mut chunks: Vec<(u64, u64)> = Vec::new();
    let mut held = 0;
    for (day, count) in by_day {
        match chunks.last_mut() {
            Some((_, last)) if held + count <= CHUNK => *last = *day,
            _ => {
                chunks.push((*day, *day));
                held = 0;
            }
        }
        held += count;
    }
    chunks
}
