//! Following the ledger: after a stop, or from nothing.

use std::collections::HashMap;

use ledger::reader::Reader;
use proof::time::UnixMillis;
use record::kinds::Catalogue;
use record::minimal::number;
use record::things::SHAPES;
use seal::shared::SharedStore;

use crate::error::Error;
use crate::index::PARTITION;
use crate::open::{self, value};
use crate::views::{Applied, Document, Documents, Views};

/// How far back a watch begins that has no state: what the same hour of five past weeks takes.
const WATCH_BACK_MS: u64 = 36 * 86_400_000;
/// Entries that it reads for that, at most.
const WATCH_BACK_MAX: u64 = 1_000_000;

impl Views {
    /// Follows the ledger to its head: after a stop, or from nothing. `progress` is told of every entry.
    ///
    /// # Errors
    /// The ledger or the key store cannot be read.
    pub fn catch_up(
        &self,
        reader: &Reader,
        store: &SharedStore,
        catalogue: &Catalogue,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let end = reader.size();
        let documents = self.documents(catalogue);
        self.catch_up_states(reader, store, catalogue, &documents)?;
        let fresh = self.catch_up_watch(reader, store, catalogue, &documents)?;
        let missing = self.missing_owners(reader, store)?;
        let mut pending = Vec::new();
        reader.each_entry(self.cursor..end, |stored| {
            let entry = stored.index;
            let owner = match missing.get(&entry) {
                Some(subject) => Some(*subject),
                None => self.owner(entry)?,
            };
            let keys = open::keys(&stored, owner, &mut *store.lock()?)?;
            let opened = open::open(&stored, &keys, catalogue)?;
            let document = document_of(&opened, &documents);
            let at_ms = stored.entry()?.at.0;
            pending.push(Applied { entry, at_ms, subject: owner.filter(|_| opened.personal.is_ok()), document });
            if pending.len() == 1024 || entry + 1 == end {
                self.apply(std::mem::take(&mut pending))?;
            }
            progress(entry + 1);
            Ok::<(), Error>(())
        })?;
        if fresh { self.shared.watch.drop_old() } else { Ok(()) }
    }

    /// A watch that is behind the index follows alone. Whether it had seen nothing before.
    fn catch_up_watch(
        &self,
        reader: &Reader,
        store: &SharedStore,
        catalogue: &Catalogue,
        documents: &Documents,
    ) -> Result<bool, Error> {
        let watch = &self.shared.watch;
        let fresh = watch.is_fresh(reader.size())?;
        if fresh {
            watch.begin(watch_from(reader)?)?;
        }
        let from = watch.cursor()?;
        reader.each_entry(from..self.cursor, |stored| {
            let (index, entry) = (stored.index, stored.entry()?);
            let at_ms = entry.at.0;
            if !documents.watches(entry.kind, catalogue) {
                return watch.apply(std::iter::once((index, at_ms, at_ms, None)));
            }
            let keys = open::keys(&stored, None, &mut *store.lock()?)?;
            let document = document_of(&open::open(&stored, &keys, catalogue)?, documents);
            watch.apply(std::iter::once((index, at_ms, document.time_ms, document.sighted.as_deref())))
        })?;
        Ok(fresh)
    }

    /// States that are behind the index, as those of another version are, follow alone.
    fn catch_up_states(
        &self,
        reader: &Reader,
        store: &SharedStore,
        catalogue: &Catalogue,
        documents: &Documents,
    ) -> Result<(), Error> {
        let states = &self.shared.states;
        let from = states.cursor();
        if from >= self.cursor {
            return Ok(());
        }
        reader.each_entry(from..self.cursor, |stored| {
            let (entry, kind) = (stored.index, stored.entry()?.kind.to_owned());
            // What is in memory is bounded, and a stop goes on from here.
            if entry.is_multiple_of(PARTITION) && entry > from {
                states.flush(entry)?;
            }
            if !SHAPES.iter().any(|shape| shape.is_listed() && shape.has(&kind)) {
                return Ok(());
            }
            let keys = open::keys(&stored, None, &mut *store.lock()?)?;
            let document = document_of(&open::open(&stored, &keys, catalogue)?, documents);
            states.add(document.change.iter().map(|change| (entry, &**change)), entry + 1)
        })?;
        states.add(std::iter::empty(), self.cursor)?;
        states.flush(self.cursor)
    }

    /// Owners that are not in the files: after a loss of power, or when rebuilding. Found through the tags of every
    /// living subject.
    fn missing_owners(&self, reader: &Reader, store: &SharedStore) -> Result<HashMap<u64, u64>, Error> {
        let mut unknown = std::collections::HashSet::new();
        let owners = &self.shared.owners;
        let mut failed = None;
        reader.follow(self.cursor, |frame| {
            let corrupt = |why: ledger::frame::Broken| ledger::error::Error::Corrupt {
                what: format!("frame {}", frame.header.number),
                why: why.to_string(),
            };
            let entries = frame.entries().map_err(corrupt)?;
            for place in 0..entries.len() {
                let entry = frame.header.first_index + place as u64;
                if entry < self.cursor || entries.record(place).map_err(corrupt)?.personal.is_none() {
                    continue;
                }
                match owners.get(entry) {
                    Ok(None) => drop(unknown.insert(entry)),
                    Ok(Some(_)) => {}
                    Err(error) => failed = Some(error),
                }
            }
            Ok(failed.is_none())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut found = HashMap::new();
        if unknown.is_empty() {
            return Ok(found);
        }
        let count = store.lock()?.subject_count();
        for number in 1..=count {
            let subject = store.lock()?.subject(number)?;
            if let Some(subject) = subject {
                for entry in reader.entries_of(&subject.tagger, usize::MAX)? {
                    if unknown.contains(&entry) {
                        found.insert(entry, number);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The document of a stored record, as far as it can be opened.
pub(crate) fn document_of(opened: &open::Opened, documents: &Documents) -> Document {
    let (Some(kind), Ok(facts)) = (opened.kind, &opened.facts) else {
        return Document::empty();
    };
    let facts = facts.fields();
    let personal = opened.personal.as_ref().map(|body| body.fields()).unwrap_or_default();
    let time = value(&facts, number::TIMESTAMP).and_then(|text| UnixMillis::parse(text.as_bytes()).ok());
    documents.make(kind, facts.iter().copied(), personal.into_iter(), time.unwrap_or_default().0)
}

/// Where a watch that has seen nothing begins: [`WATCH_BACK_MS`] before the head, or [`WATCH_BACK_MAX`] entries.
fn watch_from(reader: &Reader) -> Result<u64, Error> {
    let size = reader.size();
    let Some(head) = size.checked_sub(1) else { return Ok(0) };
    let wanted = reader.entry(head)?.entry()?.at.0.saturating_sub(WATCH_BACK_MS);
    Ok(reader.first_at(size.saturating_sub(WATCH_BACK_MAX), UnixMillis(wanted))?)
}
