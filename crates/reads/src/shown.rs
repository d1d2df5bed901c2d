//! What is shown of an entry.

use proof::commitment::Field;
use proof::time::UnixMillis;
use record::kinds::Catalogue;
use record::minimal::IMPORTED;
use record::things::time;
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
    /// The entry that ended its period; what is shown all the same, a hold keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<u64>,
    /// Whether it came from the history of an old system: where that had it from is not known here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
    /// Whose clock its own time is from, and how that stood to ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockShown>,
    /// The fields, under their names.
    pub record: Value,
}

/// The clock of a record's own time.
#[derive(Debug, Clone, Serialize)]
pub struct ClockShown {
    /// `candor`, or the source whose clock it was; an import's is not known.
    pub of: String,
    /// How much later than its own time it was accepted, in milliseconds: on the way, waiting, or a clock that is off.
    /// Below 0 the source's clock was ahead of ours.
    pub lag_ms: i64,
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
    let mut add = |fields: Vec<Field<'_>>| {
        for field in fields {
            match kind {
                // Kind and version stand above.
                Some(_) if field.number <= 1 => {}
                Some(kind) => kind.put(&mut record, field.number, field.value),
                None => {
                    let value = serde_json::from_slice(field.value).unwrap_or(Value::Null);
                    record.insert(field.number.to_string(), value);
                }
            }
        }
    };
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
    let source = record.get("source").and_then(Value::as_str).unwrap_or_default();
    Ok(Shown {
        imported: source.starts_with(IMPORTED),
        clock: clock(&record, source, entry.at),
        index: stored.index,
        at: entry.at.rfc3339(),
        kind: entry.kind.to_owned(),
        class: entry.class.to_owned(),
        leaf: stored.leaf.hex(),
        personal,
        ended_by: opened.ended_by,
        record: Value::Object(record),
    })
}

fn clock(record: &Map<String, Value>, source: &str, at: UnixMillis) -> Option<ClockShown> {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let own = time(record.get("timestamp"))?;
    let of = match text("authority") {
        Some("source") if source.starts_with(IMPORTED) => "unknown",
        Some("source") => source,
        _ => "candor",
    };
    Some(ClockShown { of: of.to_owned(), lag_ms: at.0 as i64 - own.0 as i64 })
}
