//! The guard: decide, record, open.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use access::grant::Grants;
use access::policy::{Action, Policy};
use ledger::reader::{Reader, StoredEntry};
use proof::receipt::Receipt;
use proof::time::UnixMillis;
use record::class::Retention;
use record::identifier::{IdentifierType, normalise};
use record::kinds::Catalogue;
use record::schema::Kind;
use seal::crypto::KeyedHash;
use seal::shared::SharedStore;
use serde_json::{Map, Value, json};
use views::index::Query;
use views::open;
use views::registers::Thing;
use views::views::Views;
use views::words;

use crate::decide::{Granted, Look, Narrowing, Purpose};
use crate::error::Error;
use crate::shown::{Shown, show};

/// Entries of one history shown at once, at most: the newest.
pub const HISTORY_MAX: usize = 10_000;
/// Hits looked at for who reads by a grant: what is not covered falls away.
const NARROWED_MAX: usize = 100_000;
/// Candidates looked at beyond the hits wanted, since words of erased persons and hash collisions fall away.
const CANDIDATE_SLACK: usize = 50;

/// A record that only Candor makes.
#[derive(Debug, Clone)]
pub struct OwnRecord {
    /// Kind.
    pub kind: &'static str,
    /// Fields beside the common ones.
    pub fields: Value,
    /// The subject it is about, where its number is known.
    pub subject: Option<u64>,
}

/// Writes Candor's own records; durable when it returns.
pub trait Recorder: Send + Sync {
    /// Records these and gives their entry indexes.
    ///
    /// # Errors
    /// They could not all be made durable.
    fn record(&self, records: Vec<OwnRecord>) -> Result<Vec<u64>, String>;
}

/// What a history is of.
#[derive(Debug, Clone)]
pub enum Of {
    /// A person, by an identifier.
    Person(IdentifierType, String),
    /// A message, correlation, template, document, or thing of the trail.
    Thing(Thing, String),
}

impl Of {
    /// A customer.
    pub fn customer(id: &str) -> Of {
        Of::Person(IdentifierType::CustomerId, id.to_owned())
    }

    /// A correlation id.
    pub fn correlation(id: &str) -> Of {
        Of::Thing(Thing::Correlation, id.to_owned())
    }
}

/// A search as a person or program asks for it.
#[derive(Debug, Clone, Default)]
pub struct Find {
    /// Words as typed, all of which must be there.
    pub words: String,
    /// Filters by name: `kind`, `status`, `source`, `template`, `severity`, `environment`.
    pub filters: Vec<(&'static str, String)>,
    /// Not before this time of the record (milliseconds).
    pub from_ms: Option<u64>,
    /// Before this time of the record (milliseconds).
    pub until_ms: Option<u64>,
    /// Only entries below this index: the next page.
    pub below: Option<u64>,
    /// Entries, at most.
    pub limit: usize,
}

impl Find {
    /// As the views are asked, and as the trail keeps it: filters, never words.
    pub(crate) fn query(&self) -> (Query, Value) {
        let mut query = Query {
            words: words::query(&self.words),
            from_ms: self.from_ms,
            until_ms: self.until_ms,
            below: self.below,
            limit: self.limit,
        };
        let mut recorded = Map::new();
        for (name, value) in &self.filters {
            query.words.push(words::filter(name, value));
            recorded.insert((*name).to_owned(), json!(value));
        }
        for (name, time) in [("from", self.from_ms), ("until", self.until_ms)] {
            recorded.extend(time.map(|time| (name.to_owned(), json!(UnixMillis(time).rfc3339()))));
        }
        (query, recorded.into())
    }
}

/// What entries are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Their kind.
    Kind,
    /// The day of the record.
    Day,
}

/// A page of results.
#[derive(Debug)]
pub struct Page {
    /// What is shown, newest first.
    pub lines: Vec<Shown>,
    /// Where the next page begins; `None` if there is none.
    pub next_below: Option<u64>,
}

/// See the module.
pub struct Guard {
    /// The trail.
    pub reader: Arc<Reader>,
    /// Where things are.
    pub views: Arc<Views>,
    /// Keys.
    pub store: Arc<SharedStore>,
    /// Kinds.
    pub catalogue: Arc<Catalogue>,
    /// How reads are recorded.
    pub recorder: Arc<dyn Recorder>,
    /// Keyed digest of search words.
    pub digest: KeyedHash,
    /// Who may do what.
    pub policy: Arc<Policy>,
    /// Leave to read that was given.
    pub grants: RwLock<Grants>,
    /// Subjects that people who work here are as customers, with their ids.
    pub staff: RwLock<BTreeMap<u64, String>>,
    /// The clock, by which grants end.
    pub now: fn() -> UnixMillis,
}

pub(crate) struct Candidate {
    pub(crate) stored: StoredEntry,
    pub(crate) owner: Option<u64>,
}

impl Guard {
    /// How long keys live here.
    ///
    /// # Errors
    /// Another thread failed.
    pub fn retention(&self) -> Result<Retention, Error> {
        Ok(self.store.lock()?.retention())
    }

    pub(crate) fn candidate(&self, index: u64) -> Result<Candidate, Error> {
        let stored = self.reader.entry(index)?;
        let has_personal = stored.entry()?.personal.is_some();
        let owner = if has_personal { self.views.owner(index)? } else { None };
        let living = match owner {
            Some(number) => self.store.lock()?.subject(number)?.map(|_| number),
            None => None,
        };
        Ok(Candidate { stored, owner: living })
    }

    pub(crate) fn open(&self, candidate: &Candidate) -> Result<(Shown, open::Opened), Error> {
        let keys = open::keys(&candidate.stored, candidate.owner, &mut *self.store.lock()?)?;
        let opened = open::open(&candidate.stored, &keys, &self.catalogue)?;
        Ok((show(&candidate.stored, &opened, &self.catalogue)?, opened))
    }

    /// Entries that have all these words and filters, newest first.
    ///
    /// # Errors
    /// The read was refused or could not be recorded, or the trail could not be read.
    pub fn find(&self, purpose: &Purpose, find: &Find) -> Result<Granted<Page>, Error> {
        let (query, recorded) = find.query();
        self.search(purpose, &query, recorded)
    }

    fn search(&self, purpose: &Purpose, query: &Query, filters: Value) -> Result<Granted<Page>, Error> {
        let mut candidates = Vec::new();
        let mut failed = None;
        let wanted = query.limit + CANDIDATE_SLACK;
        let plain: Vec<String> = query.words.iter().filter(|word| !word.starts_with('=')).cloned().collect();
        // Reads are in the trail too; they are found when asked for by kind, not among what was said to customers.
        let asked_for = |kind: &str| query.words.iter().any(|word| *word == words::filter("kind", kind));
        let look = Look { words: &plain, ..Look::new(Action::Search, filters) };
        let narrowing = self.narrowing(purpose, &look)?;
        // Of what is not covered nothing is told, so more is looked at.
        let wide = Query { limit: if narrowing.is_some() { NARROWED_MAX } else { wanted * 2 }, ..query.clone() };
        self.views.search(&wide, |index| match self.candidate(index) {
            Ok(candidate) => {
                let own = candidate
                    .stored
                    .entry()
                    .map(|entry| entry.kind == "ACCESS" || entry.kind == "SUBJECT_SEEN")
                    .unwrap_or(false);
                let covered = narrowing.as_ref().map_or(Ok(true), |narrowing| narrowing.covers(&candidate));
                match covered {
                    Ok(covered) => {
                        if covered && (!own || asked_for("ACCESS") || asked_for("SUBJECT_SEEN")) {
                            candidates.push(candidate);
                        }
                    }
                    Err(error) => failed = Some(error),
                }
                candidates.len() < wanted
            }
            Err(error) => {
                failed = Some(error);
                false
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        // Only what will be shown may be recorded as seen, and nothing may be opened before it is recorded: words of a
        // candidate can't be looked at yet, so the newest are taken as they come.
        let more = candidates.len() > query.limit;
        candidates.truncate(query.limit);
        let next_below = candidates.last().filter(|_| more).map(|candidate| candidate.stored.index);
        let pass = self.pass(purpose, &candidates, look)?;
        let mut shown = Vec::with_capacity(candidates.len());
        for (place, candidate) in candidates.iter().enumerate() {
            let (line, opened) = self.open(candidate)?;
            if self.has_words(&opened, &query.words) {
                shown.push(pass.cut(place, line));
            }
        }
        Ok(Granted::new(Page { lines: shown, next_below }, pass.access))
    }

    /// The opened fields must have the words: a view is only a hint.
    fn has_words(&self, opened: &open::Opened, wanted: &[String]) -> bool {
        let (Some(kind), Ok(facts)) = (opened.kind, &opened.facts) else { return false };
        let personal = opened.personal.as_ref().map(|body| body.fields()).unwrap_or_default();
        let held = words::of(self.catalogue.kind(kind), facts.fields().into_iter(), personal.into_iter());
        wanted.iter().all(|word| held.text().split(' ').any(|held| held == word))
    }

    /// One entry.
    ///
    /// # Errors
    /// As [`Guard::search`].
    pub fn show(&self, purpose: &Purpose, index: u64) -> Result<Granted<Shown>, Error> {
        self.one(purpose, Action::ReadEntry, index)
    }

    pub(crate) fn one(&self, purpose: &Purpose, action: Action, index: u64) -> Result<Granted<Shown>, Error> {
        let candidate = self.candidate(index)?;
        let look = Look::new(action, json!({"index": index}));
        let pass = self.pass(purpose, std::slice::from_ref(&candidate), look)?;
        Ok(Granted::new(pass.cut(0, self.open(&candidate)?.0), pass.access))
    }

    /// Everything about a person or thing, oldest first; at most the newest [`HISTORY_MAX`].
    ///
    /// # Errors
    /// As [`Guard::search`].
    pub fn history(&self, purpose: &Purpose, of: &Of) -> Result<Granted<Vec<Shown>>, Error> {
        let indexes = match of {
            Of::Thing(thing, id) => self.views.find(*thing, id, HISTORY_MAX)?,
            Of::Person(kind, given) => self.entries_of_person(*kind, given)?,
        };
        let candidates = indexes.into_iter().map(|index| self.candidate(index)).collect::<Result<Vec<_>, _>>()?;
        let filters = match of {
            Of::Thing(thing, _) => json!({"history": format!("{thing:?}").to_lowercase()}),
            Of::Person(kind, _) => json!({"history": format!("{kind:?}").to_lowercase()}),
        };
        let look = Look::new(Action::ReadHistory, filters);
        let candidates = Narrowing::of(self.narrowing(purpose, &look)?.as_ref(), candidates)?;
        let pass = self.pass(purpose, &candidates, look)?;
        let mut shown = Vec::with_capacity(candidates.len());
        for (place, candidate) in candidates.iter().enumerate() {
            shown.push(pass.cut(place, self.open(candidate)?.0));
        }
        Ok(Granted::new(shown, pass.access))
    }

    /// Every entry of a person and of all joined to them, complete by their tags: n = 1, 2, ... until there is none.
    ///
    /// # Errors
    /// The key store or the journal cannot be read.
    pub(crate) fn entries_of_person(&self, kind: IdentifierType, given: &str) -> Result<Vec<u64>, Error> {
        let mut found = self.all_entries_of_person(kind, given)?;
        Ok(found.split_off(found.len().saturating_sub(HISTORY_MAX)))
    }

    /// The same without a bound: for what is looked through for a few entries of a kind.
    pub(crate) fn all_entries_of_person(&self, kind: IdentifierType, given: &str) -> Result<Vec<u64>, Error> {
        let mut found = Vec::new();
        let taggers = {
            let mut store = self.store.lock()?;
            let tag = store.identifier_tag(kind, &normalise(kind, given));
            let mut taggers = Vec::new();
            for number in store.closure(&tag)? {
                taggers.extend(store.subject(number)?.map(|subject| subject.tagger));
            }
            taggers
        };
        for tagger in taggers {
            found.extend(self.reader.entries_of(&tagger, usize::MAX)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The subject that a person is; none where nobody has this identifier. Nothing is shown by it.
    ///
    /// # Errors
    /// The key store cannot be read.
    pub fn subject_of(&self, of: &Of) -> Result<Option<u64>, Error> {
        let Of::Person(kind, given) = of else { return Ok(None) };
        let mut store = self.store.lock()?;
        let tag = store.identifier_tag(*kind, &normalise(*kind, given));
        for number in store.closure(&tag)? {
            if store.subject(number)?.is_some() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// The living subjects that a subject is joined to, itself among them.
    ///
    /// # Errors
    /// The key store cannot be read.
    pub fn own_subjects(&self, subject: u64) -> Result<Vec<u64>, Error> {
        let mut store = self.store.lock()?;
        let mut living = Vec::new();
        for number in store.closure_of(subject)? {
            living.extend(store.subject(number)?.map(|subject| subject.number));
        }
        Ok(living)
    }

    /// Takes who works here: id and address of each. Those of whom something is kept as of customers are known from now on.
    ///
    /// # Errors
    /// The key store cannot be read.
    pub fn know_staff(&self, people: impl Iterator<Item = (String, String)>) -> Result<(), Error> {
        let mut staff = BTreeMap::new();
        for (id, address) in people {
            if let Some(subject) = self.subject_of(&Of::Person(IdentifierType::Address, address))? {
                staff.insert(subject, id);
            }
        }
        *self.staff.write().unwrap_or_else(std::sync::PoisonError::into_inner) = staff;
        Ok(())
    }

    /// Looks at the grants.
    pub fn grants<T>(&self, look: impl FnOnce(&Grants) -> T) -> T {
        look(&self.grants.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Lets a recorded grant, or its end, take effect: as its entry has it.
    ///
    /// # Errors
    /// The entry cannot be read.
    pub fn apply_grant(&self, entry: u64, subject: Option<u64>) -> Result<(), Error> {
        if let Some((kind, facts)) = self.own_record(entry)? {
            let mut grants = self.grants.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            grants.apply(&kind.name, &Value::Object(facts), subject);
        }
        Ok(())
    }

    fn own_record(&self, entry: u64) -> Result<Option<(&Kind, Map<String, Value>)>, Error> {
        let stored = self.reader.entry(entry)?;
        Ok(open::facts(&stored, &mut *self.store.lock()?, &self.catalogue)?)
    }

    /// The facts of a record of Candor's own, as the trail has them; none where they are gone.
    ///
    /// # Errors
    /// The entry cannot be read.
    pub fn facts_of(&self, entry: u64) -> Result<Map<String, Value>, Error> {
        Ok(self.own_record(entry)?.map(|(_, facts)| facts).unwrap_or_default())
    }

    /// A receipt of one entry. It shows nothing that a sender wrote, so it names no person; that it was made is
    /// recorded.
    ///
    /// # Errors
    /// As [`Guard::search`].
    pub fn receipt(&self, purpose: &Purpose, index: u64) -> Result<Granted<Receipt>, Error> {
        let candidate = Candidate { stored: self.reader.entry(index)?, owner: None };
        let look = Look::new(Action::ReadReceipt, json!({"index": index}));
        let access = self.grant(purpose, std::slice::from_ref(&candidate), look)?;
        Ok(Granted::new(self.reader.receipt(index)?, access))
    }
}
