//! Sums: how many entries there are of what. Who may not see persons learns nothing of one from them.
//!
//! For such a reader a sum is put together from cells of one day each. A cell with fewer than [`PERSONS_MIN`] persons is
//! left out, and so is one from which a sum with one filter fewer differs by fewer; every other is rounded to five before
//! it is added. Since each cell says the same in every sum that has it, sums over overlapping times differ by whole cells,
//! and many of them teach no more than one.

use std::collections::{BTreeMap, BTreeSet};

use access::policy::{Action, Asked};
use proof::time::UnixMillis;
use serde_json::json;
use views::index::Query;
use views::words;

use crate::decide::{Granted, Look, Purpose, is_justified};
use crate::error::Error;
use crate::guard::{By, Find, Guard};

/// A sum over fewer persons says something of one of them.
pub const PERSONS_MIN: usize = 5;
/// What sums are rounded to, where they are.
pub const ROUNDED_TO: u64 = 5;
/// Owners that are looked up for one cell, at most: one that has not enough persons by then counts as one of few.
const LOOKED_UP_MAX: u32 = 2000;
/// Subjects of a cell that are held: some of them may be one person.
const SUBJECTS_HELD: usize = 4 * PERSONS_MIN;
const DAY_MS: u64 = 86_400_000;
/// Retention classes of what is about persons.
const OF_PERSONS: [&str; 4] = ["mail_event", "mail_address", "communication", "compliance"];

/// Sums by group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many, by kind or day.
    pub groups: BTreeMap<String, u64>,
    /// Cells of one day that were left out, where the reader may not see persons.
    pub suppressed: u64,
    /// What the sums are rounded to; none where they are exact.
    pub rounded_to: Option<u64>,
}

/// Entries of one group on one day, and whose they are: a few.
#[derive(Debug, Clone, Default)]
struct Cell {
    count: u64,
    looked_up: u32,
    subjects: BTreeSet<u64>,
}

impl Cell {
    /// Whether it is about persons. One in which nobody was found among the first of many may be.
    fn has_persons(&self) -> bool {
        !self.subjects.is_empty() || self.looked_up == LOOKED_UP_MAX
    }
}

fn rounded(count: u64) -> u64 {
    (count + ROUNDED_TO / 2) / ROUNDED_TO * ROUNDED_TO
}

impl Guard {
    /// How many entries have all these words and filters, by kind or by day of the record (UTC). Nothing is opened.
    ///
    /// # Errors
    /// As [`Guard::find`]; for who may not see persons also words, and times that are no whole days, are refused.
    pub fn count(&self, purpose: &Purpose, find: &Find, by: By) -> Result<Granted<Sums>, Error> {
        let (query, mut recorded) = find.query();
        recorded["count_by"] = json!(format!("{by:?}").to_lowercase());
        let plain: Vec<String> = query.words.iter().filter(|word| !word.starts_with('=')).cloned().collect();
        let exact = self.sees_persons(purpose)?;
        if !exact && !plain.is_empty() {
            return Err(Error::Refused(
                "who may not see persons counts without words, which may be names: ask by kind, status, source, template, severity or environment",
            ));
        }
        if !exact && [find.from_ms, find.until_ms].into_iter().flatten().any(|time| time % DAY_MS != 0) {
            return Err(Error::Refused("who may not see persons counts whole days: give days such as 2026-11-01"));
        }
        let look = Look { words: &plain, ..Look::new(Action::Count, recorded) };
        let access = self.grant(purpose, &[], look)?;
        let mut sums = Sums { rounded_to: (!exact).then_some(ROUNDED_TO), ..Sums::default() };
        match by {
            By::Day if exact => self.views.times(&query, |time| {
                *sums.groups.entry(day_of(time)).or_default() += 1;
            })?,
            _ => {
                for name in self.catalogue.current().map(|kind| &kind.name) {
                    self.count_kind(&query, name, by, &mut sums)?;
                }
            }
        }
        Ok(Granted::new(sums, access))
    }

    /// Adds the entries of one kind. For who may not see persons all sums are made of cells of one kind and day, also
    /// those by day: else the sum of all kinds would tell the one that is left out.
    fn count_kind(&self, query: &Query, kind: &str, by: By, sums: &mut Sums) -> Result<(), Error> {
        let mut one = query.clone();
        one.words.push(words::filter("kind", kind));
        one.words.sort();
        one.words.dedup();
        if sums.rounded_to.is_none() {
            let mut count = 0u64;
            self.views.times(&one, |_| count += 1)?;
            if count > 0 {
                sums.groups.insert(kind.to_owned(), count);
            }
            return Ok(());
        }
        for (day, count) in self.cells_of(&one, &mut sums.suppressed)? {
            let group = if by == By::Day { day_of(day * DAY_MS) } else { kind.to_owned() };
            *sums.groups.entry(group).or_default() += count;
        }
        sums.groups.retain(|_, count| *count > 0);
        Ok(())
    }

    /// Whether some rule lets the reader see a person of any class, given a reason; else sums are all that they see.
    ///
    /// # Errors
    /// The key store cannot be read.
    pub(crate) fn sees_persons(&self, purpose: &Purpose) -> Result<bool, Error> {
        let plain = |action| Asked {
            purpose: &purpose.purpose,
            justified: true,
            persons: 1,
            classes: OF_PERSONS.into_iter().collect(),
            second_factor: purpose.second_factor,
            ..Asked::plain(&purpose.roles, action)
        };
        let may = |asked: &Asked<'_>| self.policy.decide(asked).permitted;
        let all = [Action::ReadHistory, Action::Search];
        if all.into_iter().any(|action| may(&plain(action))) {
            return Ok(true);
        }
        // Who reads everything by a grant may count it.
        let look = Look::new(Action::Count, serde_json::Value::Null);
        let Some(leave) = self.leave(&self.grants_of(purpose), &look, &[])? else { return Ok(false) };
        let by_grant = |action| Asked { approvals: leave.roles.clone(), approvers: leave.givers, ..plain(action) };
        Ok(is_justified(purpose) && all.into_iter().any(|action| may(&by_grant(action))))
    }

    /// The count of a query over all times, for who may not see persons; none where it says something of a few.
    pub(crate) fn guarded_count(&self, query: &Query) -> Result<Option<u64>, Error> {
        let mut cell = Cell::default();
        self.fill(query, |_, _| true, |cells, _| cells, &mut cell)?;
        let few = cell.has_persons() && self.are_few(&cell)?;
        Ok((!few).then(|| if cell.has_persons() { rounded(cell.count) } else { cell.count }))
    }

    /// The cells of a query that may be told, by day; how many may not is added up.
    fn cells_of(&self, query: &Query, suppressed: &mut u64) -> Result<BTreeMap<u64, u64>, Error> {
        let mut cells: BTreeMap<u64, Cell> = BTreeMap::new();
        let mut within: Vec<u64> = Vec::new();
        self.fill(
            query,
            |entry, _| {
                within.push(entry);
                true
            },
            |cells: &mut BTreeMap<u64, Cell>, day| cells.entry(day).or_default(),
            &mut cells,
        )?;
        if cells.values().all(|cell| !cell.has_persons()) {
            return Ok(cells.into_iter().map(|(day, cell)| (day, cell.count)).collect());
        }
        within.sort_unstable();
        let mut telling: BTreeSet<u64> = BTreeSet::new();
        for (day, cell) in &cells {
            if cell.has_persons() && self.are_few(cell)? {
                telling.insert(*day);
            }
        }
        // What a sum with one filter fewer has beside: few of them could be told by the difference.
        let narrows = |word: &String| !word.starts_with(&words::filter("kind", ""));
        for place in (0..query.words.len()).filter(|place| narrows(&query.words[*place])) {
            let mut wider = query.clone();
            wider.words.remove(place);
            let mut beside: BTreeMap<u64, Cell> = BTreeMap::new();
            self.fill(
                &wider,
                |entry, day| cells.contains_key(&day) && within.binary_search(&entry).is_err(),
                |beside: &mut BTreeMap<u64, Cell>, day| beside.entry(day).or_default(),
                &mut beside,
            )?;
            for (day, cell) in &beside {
                if cells.get(day).is_some_and(Cell::has_persons) && cell.has_persons() && self.are_few(cell)? {
                    telling.insert(*day);
                }
            }
        }
        *suppressed += telling.len() as u64;
        let told = cells.into_iter().filter(|(day, _)| !telling.contains(day));
        Ok(told.map(|(day, cell)| (day, if cell.has_persons() { rounded(cell.count) } else { cell.count })).collect())
    }

    /// Counts the entries of a query that fit into their cells.
    fn fill<C>(
        &self,
        query: &Query,
        mut fits: impl FnMut(u64, u64) -> bool,
        cell_of: impl Fn(&mut C, u64) -> &mut Cell,
        cells: &mut C,
    ) -> Result<(), Error> {
        let mut failed = None;
        self.views.matches(query, |entry, time| {
            let day = time / DAY_MS;
            if !fits(entry, day) {
                return;
            }
            let cell = cell_of(cells, day);
            cell.count += 1;
            if cell.subjects.len() < SUBJECTS_HELD && cell.looked_up < LOOKED_UP_MAX {
                cell.looked_up += 1;
                match self.views.owner(entry) {
                    Ok(owner) => cell.subjects.extend(owner),
                    Err(error) => failed = Some(error),
                }
            }
        })?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn are_few(&self, cell: &Cell) -> Result<bool, Error> {
        Ok(self.joined(cell.subjects.iter().copied())? < PERSONS_MIN as u64)
    }
}

fn day_of(time: u64) -> String {
    UnixMillis(time).rfc3339()[..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_rounded_to_the_nearest_five() {
        let counts = [0, 5, 6, 7, 8, 12, 13].map(rounded);
        assert_eq!(counts, [0, 5, 5, 5, 10, 10, 15]);
    }
}
