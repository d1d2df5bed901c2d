//! Quarantine: refused input that is kept for a while.

use access::policy::Action;
use serde_json::{Value, json};
use views::index::Query;
use views::words;

use crate::decide::{Granted, Look, Purpose};
use crate::error::Error;
use crate::guard::{Candidate, Guard};
use crate::shown::Shown;

/// What is listed.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Only of this source.
    pub source: Option<String>,
    /// Only what was refused for this reason.
    pub code: Option<String>,
    /// Only entries below this index.
    pub below: Option<u64>,
    /// Lines looked at, at most.
    pub limit: usize,
}

/// A page of what is kept.
#[derive(Debug)]
pub struct KeptPage {
    /// Facts of each, newest first.
    pub lines: Vec<Value>,
    /// Where the next page begins; `None` if there is none.
    pub next_below: Option<u64>,
}

impl Guard {
    /// One refused input that is kept, with what was sent.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn quarantined_entry(&self, purpose: &Purpose, index: u64) -> Result<Granted<Shown>, Error> {
        self.one(purpose, Action::ReplayQuarantined, index)
    }

    /// Facts of what is kept, newest first: what was sent is not opened. Entries whose period has ended are left out.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn quarantined(&self, purpose: &Purpose, kept: &Kept) -> Result<Granted<KeptPage>, Error> {
        let mut words = vec![words::filter("kind", "INPUT_QUARANTINED")];
        words.extend(kept.source.as_ref().map(|source| words::filter("from", source)));
        let query = Query { words, below: kept.below, limit: usize::MAX, ..Query::default() };
        let mut candidates = Vec::new();
        let mut failed = None;
        // Nothing is shown of a line before it is recorded that it was looked at, and its code is not known before that.
        self.views.search(&query, |index| {
            match self.reader.entry(index) {
                Ok(stored) => candidates.push(Candidate { stored, owner: None }),
                Err(error) => failed = Some(error),
            }
            failed.is_none() && candidates.len() <= kept.limit
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let more = candidates.len() > kept.limit;
        candidates.truncate(kept.limit);
        let next_below = candidates.last().filter(|_| more).map(|candidate| candidate.stored.index);
        let look = Look::new(Action::ReadQuarantine, json!({"quarantine": kept.source, "code": kept.code}));
        let access = self.grant(purpose, &candidates, look)?;
        let mut lines = Vec::new();
        for candidate in &candidates {
            let (mut shown, opened) = self.open(candidate)?;
            let fits = kept.code.as_ref().is_none_or(|code| shown.record["code"] == code.as_str());
            if opened.facts.is_ok() && fits {
                shown.record["entry"] = shown.index.into();
                shown.record["at"] = shown.at.into();
                lines.push(shown.record);
            }
        }
        Ok(Granted::new(KeptPage { lines, next_below }, access))
    }
}
