//! What a person may see of themselves: everything about them, who looked, and a file that proves it
//! (`docs/formats/own-history.md`).

use std::collections::BTreeMap;

use access::policy::Action;
use proof::own_history::{FORMAT, OwnEntry, OwnHistory};
use serde_json::json;

use crate::decide::{Granted, Look, Purpose};
use crate::error::Error;
use crate::guard::{Candidate, Guard};
use crate::history_proof::wait_published;
use crate::shown::{PersonalState, Shown};

/// Entries of a file, at most: the newest below where it was asked from.
pub const FILE_ENTRIES_MAX: usize = 2000;

/// A page of one's own history.
#[derive(Debug)]
pub struct OwnPage {
    /// The newest first.
    pub lines: Vec<Shown>,
    /// Where the next page begins; `None` if there is none.
    pub next_below: Option<u64>,
    /// How many entries there are in all.
    pub all: usize,
}

impl Guard {
    /// The newest entries of who reads, below an index.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn own_history(&self, purpose: &Purpose, below: Option<u64>, limit: usize) -> Result<Granted<OwnPage>, Error> {
        let (candidates, next_below, all) = self.own_entries(purpose, below, limit)?;
        let look = Look::new(Action::ReadHistory, json!({"history": "own"}));
        let access = self.grant(purpose, &candidates, look)?;
        let mut lines = Vec::with_capacity(candidates.len());
        for candidate in candidates.iter().rev() {
            lines.push(self.open(candidate)?.0);
        }
        Ok(Granted::new(OwnPage { lines, next_below, all }, access))
    }

    /// The same as a file: each entry with its receipt and the openings of its bodies, and the proof that none was left
    /// out. Whoever has it can tell the person's entries, later ones too: it is for them alone.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn own_file(&self, purpose: &Purpose, below: Option<u64>) -> Result<Granted<OwnHistory>, Error> {
        let (candidates, next_below, _) = self.own_entries(purpose, below, FILE_ENTRIES_MAX)?;
        let look = Look::new(Action::ReadHistory, json!({"history": "own", "link_key": true}));
        let access = self.grant(purpose, &candidates, look)?;
        wait_published(self, candidates.last().map_or(0, |candidate| candidate.stored.index));
        let mut entries = Vec::with_capacity(candidates.len());
        let mut names = BTreeMap::new();
        for candidate in candidates.iter().rev() {
            entries.push(self.proved(candidate, &mut names)?);
        }
        let file = OwnHistory {
            format: FORMAT.to_owned(),
            made_at: (self.now)().rfc3339(),
            access,
            below,
            next_below,
            history: self.completeness_proof(&purpose.own)?,
            names,
            entries,
        };
        Ok(Granted::new(file, access))
    }

    /// Entries of all subjects that the reader is: each is about them by the tag that only their key makes.
    fn own_entries(
        &self,
        purpose: &Purpose,
        below: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Candidate>, Option<u64>, usize), Error> {
        let mut taggers = Vec::new();
        for number in &purpose.own {
            taggers.extend(self.store.lock()?.subject(*number)?.map(|subject| (*number, subject.tagger)));
        }
        let mut indexes = Vec::new();
        for (number, tagger) in taggers {
            indexes.extend(self.reader.entries_of(&tagger, usize::MAX)?.into_iter().map(|index| (index, number)));
        }
        indexes.sort_unstable();
        let all = indexes.len();
        indexes.retain(|(index, _)| below.is_none_or(|below| *index < below));
        let shown = indexes.split_off(indexes.len().saturating_sub(limit));
        let next_below = shown.first().filter(|_| !indexes.is_empty()).map(|(index, _)| *index);
        let candidate = |(index, owner)| Ok(Candidate { stored: self.reader.entry(index)?, owner: Some(owner) });
        Ok((shown.into_iter().map(candidate).collect::<Result<_, Error>>()?, next_below, all))
    }

    /// One entry with what proves it. `names` collects what the numbers of its fields stand for.
    fn proved(
        &self,
        candidate: &Candidate,
        names: &mut BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<OwnEntry, Error> {
        let (shown, opened) = self.open(candidate)?;
        if let Some(kind) = opened.kind.map(|id| self.catalogue.kind(id)) {
            let pointers = || kind.pointers.iter().map(|(number, pointer)| (number.to_string(), pointer.clone()));
            names.entry(format!("{}.{}", kind.name, kind.version)).or_insert_with(|| pointers().collect());
        }
        let state = match shown.personal {
            PersonalState::Ended => "ended",
            PersonalState::Erased => "erased",
            PersonalState::Shown | PersonalState::None => "whole",
        };
        Ok(OwnEntry {
            index: shown.index,
            at: shown.at,
            kind: shown.kind,
            class: shown.class,
            state: state.to_owned(),
            receipt: self.reader.receipt(shown.index)?,
            facts: opened.facts.ok().map(|body| body.opening(|_| true)),
            personal: opened.personal.ok().map(|body| body.opening(|_| true)),
        })
    }
}
