//! What is shown of an entry.

use proof::commitment::Field;
use record::kinds::Catalogue;
use record::schema::Kind;
use serde::Serialize;
use serde_json::{Map, Value};
use views::open::{Gone, Opened};

/// What became of the personal body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonalState {
    /// It is shown.
    Shown,
    /// There never was one.
    None,
    /// The person was erased.
    Erased,
    /// The keys of its period have ended.
    Ended,
}

/// One entry, opened.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Position in the trail.
    pub index: u64,
    /// Time of acceptance.
    pub at: String,
    /// Kind.
    pub kind: String,
    /// Class.
    pub class: String,
    /// Leaf hash, for comparing with a receipt.
    pub leaf: String,
    /// State of the personal body.
    pub personal: PersonalState,
    /// The fields, under their names.
    pub record: Value,
}

/// Puts opened fields back under their names.
pub(crate) fn show(
    stored: &ledger::reader::StoredEntry,
    opened: &Opened,
    catalogue: &Catalogue,
) -> Result<Shown, ledger::error::Error> {
    let entry = stored.entry()?;
    let kind = opened.kind.map(|id| catalogue.kind(id));
    let mut record = Map::new();
    if let Some(kind) = kind {
        record.insert("event_type".into(), Value::String(kind.name.clone()));
    }
    let mut add = |fields: Vec<Field<'_>>| fields.iter().for_each(|field| put(&mut record, kind, field));
    if let Ok(body) = &opened.facts {
        add(body.fields());
    }
    let personal = match &opened.personal {
        Ok(body) => {
            add(body.fields());
            PersonalState::Shown
        }
        Err(Gone::Never) => PersonalState::None,
        Err(Gone::Erased) => PersonalState::Erased,
        Err(Gone::Ended) => PersonalState::Ended,
    };
    Ok(Shown {
        index: stored.index,
        at: entry.at.rfc3339(),
        kind: entry.kind.to_owned(),
        class: entry.class.to_owned(),
        leaf: stored.leaf.hex(),
        personal,
        record: Value::Object(record),
    })
}

fn put(record: &mut Map<String, Value>, kind: Option<&Kind>, field: &Field<'_>) {
    if field.number <= 1 && kind.is_some() {
        return;
    }
    let value = serde_json::from_slice(field.value).unwrap_or(Value::Null);
    let pointer =
        kind.and_then(|kind| kind.pointer(field.number)).map_or_else(|| format!("/{}", field.number), str::to_owned);
    let mut names = pointer.split('/').skip(1).peekable();
    let mut place = record;
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            place.insert(name.to_owned(), value);
            return;
        }
        let below = place.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        match below {
            Value::Object(map) => place = map,
            _ => return,
        }
    }
}
