//! One thing as lists know it, and its bytes (`docs/formats/states.md`).
//!
//! A row is the latest value of each column with the time of its event, so events may come in any order and again.

use proof::time::UnixMillis;
use record::things::{Columns, Shape};

use crate::bytes::{Input, put_number, put_text};

/// What one event changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Place of the register in [`SHAPES`].
    pub register: u8,
    /// Id of the thing.
    pub id: String,
    /// Time of the event.
    pub at: UnixMillis,
    /// What it says.
    pub columns: Columns,
}

/// A value with the time of the event that gave it.
pub(crate) type Timed<T> = Option<(u64, T)>;

/// One thing as lists know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// Its first entry.
    pub first: u64,
    pub(crate) status: Timed<String>,
    pub(crate) category: Timed<String>,
    pub(crate) priority: Timed<String>,
    pub(crate) staff: Timed<String>,
    pub(crate) due: Timed<u64>,
}

/// What is listed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Waiting for somebody, or not.
    pub open: Option<bool>,
    /// Waiting, and due before this time (milliseconds).
    pub due_before: Option<u64>,
    /// State.
    pub status: Option<String>,
    /// Category.
    pub category: Option<String>,
    /// Priority.
    pub priority: Option<String>,
    /// Person in charge.
    pub staff: Option<String>,
    /// Only things whose first entry is below this: the next page.
    pub below: Option<u64>,
    /// Things, at most.
    pub limit: usize,
}

impl Row {
    pub(crate) fn apply(&mut self, change: &Change) {
        fn take<T: Clone>(held: &mut Timed<T>, at: u64, new: &Option<T>) {
            if let Some(value) = new
                && held.as_ref().is_none_or(|(before, _)| at >= *before)
            {
                *held = Some((at, value.clone()));
            }
        }
        let (at, columns) = (change.at.0, &change.columns);
        take(&mut self.status, at, &columns.status);
        take(&mut self.category, at, &columns.category);
        take(&mut self.priority, at, &columns.priority);
        take(&mut self.staff, at, &columns.staff);
        take(&mut self.due, at, &columns.due);
    }

    pub(crate) fn is_open(&self, shape: &Shape) -> bool {
        self.status.as_ref().is_some_and(|(_, status)| shape.is_open(status))
    }

    pub(crate) fn fits(&self, wanted: &Wanted, shape: &Shape) -> bool {
        let same = |held: &Timed<String>, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| held.as_ref().is_some_and(|(_, held)| held == wanted))
        };
        let due = |before: u64| self.is_open(shape) && self.due.is_some_and(|(_, due)| due < before);
        wanted.open.is_none_or(|open| self.is_open(shape) == open)
            && wanted.due_before.is_none_or(due)
            && wanted.below.is_none_or(|below| self.first < below)
            && same(&self.status, &wanted.status)
            && same(&self.category, &wanted.category)
            && same(&self.priority, &wanted.priority)
            && same(&self.staff, &wanted.staff)
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = vec![1];
        put_text(&mut out, &self.id);
        for column in [&self.status, &self.category, &self.priority, &self.staff] {
            match column {
                None => out.push(0),
                Some((at, text)) => {
                    out.push(1);
                    put_number(&mut out, *at);
                    put_text(&mut out, text);
                }
            }
        }
        match self.due {
            None => out.push(0),
            Some((at, due)) => {
                out.push(1);
                put_number(&mut out, at);
                put_number(&mut out, due);
            }
        }
        out
    }

    pub(crate) fn read(first: u64, bytes: &[u8]) -> Option<Row> {
        let mut input = Input { rest: bytes.strip_prefix(&[1])? };
        let mut row = Row { id: input.text()?, first, ..Row::default() };
        for column in [&mut row.status, &mut row.category, &mut row.priority, &mut row.staff] {
            if input.take(1)? == [1] {
                *column = Some((input.number()?, input.text()?));
            }
        }
        if input.take(1)? == [1] {
            row.due = Some((input.number()?, input.number()?));
        }
        input.rest.is_empty().then_some(row)
    }
}
