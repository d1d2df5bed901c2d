//! Opening an entry's bodies with the key store. Only `views` (to follow) and `reads` (to show) call this.

use proof::commitment::Field;
use record::kinds::{Catalogue, KindId};
use record::minimal::number;
use record::schema::Kind;
use seal::crypto::Key;
use seal::holds::Held;
use seal::sealed::{OpenBody, OpeningKeys, Parts, Role};
use seal::store::KeyStore;
use serde_json::{Map, Value};

use crate::error::Error;
use ledger::reader::StoredEntry;

/// Why a body is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The entry never had one.
    Never,
    /// Its period has ended.
    Ended,
    /// Its subject was erased.
    Erased,
}

/// An entry opened as far as its keys live.
#[derive(Debug)]
pub struct Opened {
    /// The facts, or why they are not there.
    pub facts: Result<OpenBody, Gone>,
    /// The personal body, or why it is not there.
    pub personal: Result<OpenBody, Gone>,
    /// The kind version that the facts name, if the catalogue has it.
    pub kind: Option<KindId>,
    /// The entry that ended its period; what is there all the same, a hold keeps.
    pub ended_by: Option<u64>,
}

/// Keys that opening one entry takes, fetched under the store's lock and used without it.
pub struct EntryKeys {
    origin: String,
    period: Option<Key>,
    subject: Option<Key>,
    held: Option<Held>,
    ended_by: Option<u64>,
}

/// Fetches the keys of an entry.
///
/// # Errors
/// The key store cannot be read, or the sealed record is malformed.
pub fn keys(stored: &StoredEntry, owner: Option<u64>, store: &mut KeyStore) -> Result<EntryKeys, Error> {
    let origin = store.origin().to_owned();
    let Some(sealed) = &stored.sealed else {
        return Ok(EntryKeys { origin, period: None, subject: None, held: None, ended_by: stored.ended_by });
    };
    let id = Parts::parse(sealed)?.period;
    let (mut held, mut ended_by) = (None, None);
    let period = match store.period_by_id(id) {
        Ok(key) => Some(key),
        Err(seal::error::Error::KeyDestroyed) => {
            (held, ended_by) = (store.held(stored.index, id)?, store.ended_by(id));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let subject = match owner {
        Some(number) => store.subject(number)?.map(|subject| subject.sealing),
        None => None,
    };
    Ok(EntryKeys { origin, period, subject, held, ended_by })
}

/// Opens an entry and checks each body against the entry's commitment.
///
/// # Errors
/// A body does not open under living keys, or is not the one committed to: tampering.
pub fn open(stored: &StoredEntry, keys: &EntryKeys, catalogue: &Catalogue) -> Result<Opened, Error> {
    let entry = stored.entry()?;
    let ended = Opened { facts: Err(Gone::Ended), personal: Err(Gone::Ended), kind: None, ended_by: keys.ended_by };
    let Some(sealed) = &stored.sealed else { return Ok(ended) };
    let parts = Parts::parse(sealed)?;
    let Some(period) = &keys.period else {
        let Some(held) = &keys.held else { return Ok(ended) };
        let open =
            |content: &Key, role, commitment| parts.open_held(&keys.origin, &entry.id, content, role, commitment);
        let facts = open(&held.facts, Role::Facts, &entry.facts)?;
        let personal = match (&entry.personal, &keys.subject, &held.personal) {
            (None, _, _) => Err(Gone::Never),
            (Some(_), None, _) => Err(Gone::Erased),
            (Some(_), Some(_), None) => Err(Gone::Ended),
            (Some(personal), Some(_), Some(content)) => Ok(open(content, Role::Personal, &personal.commitment)?),
        };
        return Ok(Opened { kind: kind_of(&facts, catalogue), facts: Ok(facts), personal, ended_by: keys.ended_by });
    };
    let opening = OpeningKeys { origin: &keys.origin, id: entry.id, period, subject: keys.subject.as_ref() };
    let facts = parts.open(&opening, Role::Facts, &entry.facts)?;
    let kind = kind_of(&facts, catalogue);
    let personal = match (&entry.personal, &keys.subject) {
        (None, _) => Err(Gone::Never),
        (Some(_), None) => Err(Gone::Erased),
        (Some(personal), Some(_)) => Ok(parts.open(&opening, Role::Personal, &personal.commitment)?),
    };
    Ok(Opened { facts: Ok(facts), personal, kind, ended_by: None })
}

/// The facts of an entry by the names of their fields, and its kind; `None` if they are gone or of no known kind.
///
/// # Errors
/// As [`open`].
pub fn facts<'c>(
    stored: &StoredEntry,
    store: &mut KeyStore,
    catalogue: &'c Catalogue,
) -> Result<Option<(&'c Kind, Map<String, Value>)>, Error> {
    whole(stored, None, store, catalogue)
}

/// The same with the personal fields, where their subject lives.
///
/// # Errors
/// As [`open`].
pub fn whole<'c>(
    stored: &StoredEntry,
    owner: Option<u64>,
    store: &mut KeyStore,
    catalogue: &'c Catalogue,
) -> Result<Option<(&'c Kind, Map<String, Value>)>, Error> {
    let opened = open(stored, &keys(stored, owner, store)?, catalogue)?;
    let (Some(id), Ok(body)) = (opened.kind, &opened.facts) else { return Ok(None) };
    let kind = catalogue.kind(id);
    let mut record = Map::new();
    let bodies = [Some(body), opened.personal.as_ref().ok()];
    for field in bodies.into_iter().flatten().flat_map(|body| body.fields()) {
        kind.put(&mut record, field.number, field.value);
    }
    Ok(Some((kind, record)))
}

fn kind_of(facts: &OpenBody, catalogue: &Catalogue) -> Option<KindId> {
    let fields = facts.fields();
    let value = |wanted: u16| {
        fields.iter().find(|field| field.number == wanted).and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let version = value(number::KIND_VERSION)?.parse().ok()?;
    catalogue.find(value(number::KIND)?.trim_matches('"'), version)
}

/// The value of a field as text without quotes.
pub fn value(fields: &[Field<'_>], wanted: u16) -> Option<String> {
    fields.iter().find(|field| field.number == wanted).map(|field| record::minimal::string(field.value).into_owned())
}
