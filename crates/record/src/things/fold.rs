//! The fold itself.

use proof::time::UnixMillis;
use serde_json::{Map, Value, json};

use super::law::Law;
use super::rules::Past;
use super::shapes::{Shape, status_of};
use crate::identifier::{IdentifierType, normalise};
use crate::minimal::IMPORTED;
use crate::standards::{Money, country, language, yes};

/// Fields that every record has: about the record, not about its thing.
const COMMON: [&str; 14] = [
    "timestamp",
    "event_type",
    "correlation_id",
    "source_component",
    "environment",
    "severity",
    "event_id",
    "site",
    "source",
    "authority",
    "late",
    "ahead",
    "dropped",
    "detected",
];

/// One event of a thing, opened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its entry.
    pub entry: u64,
    /// Its own time.
    pub at: UnixMillis,
    /// Its kind.
    pub kind: String,
    /// Its fields as far as they can be opened.
    pub fields: Map<String, Value>,
}

/// A thing as it stood at `until`, or with all its events, however far ahead the clocks of their senders were; `now` is
/// what clocks of law are read at.
///
/// `None` if there was none yet. Each line of its lists has its entry; what should not have been possible stands under
/// `flags` by the rule's name and the entry.
pub fn fold(
    shape: &Shape,
    id: &str,
    mut events: Vec<Event>,
    until: Option<UnixMillis>,
    now: UnixMillis,
) -> Option<Value> {
    events.retain(|event| shape.has(&event.kind) && until.is_none_or(|until| event.at <= until));
    events.sort_by_key(|event| (event.at, event.entry));
    let (first, last) = (events.first()?.at, events.last()?.at);
    let mut thing = Map::new();
    thing.insert(shape.id.into(), id.into());
    let (mut past, mut flags, mut law) = (Past::default(), Vec::new(), Law::default());
    let entries: Vec<u64> = events.iter().map(|event| event.entry).collect();
    for event in events {
        flags.extend(past.check(shape, &event).into_iter().map(|rule| json!({"rule": rule, "entry": event.entry})));
        let begins = shape.begins_with(&event.kind) && !thing.contains_key(shape.begins.0);
        let at = event.at.rfc3339();
        if let Some(status) = status_of(&event.kind, &event.fields) {
            // The document calls the state of a mail its type of event.
            if matches!(shape.name, "email" | "message") {
                thing.insert("event_type".into(), status.clone().into());
            }
            thing.insert("status".into(), status.into());
        }
        if event.kind == "CONSENT_ASKED" && !thing.contains_key("status") {
            thing.insert("status".into(), "asked".into());
        }
        derive(&mut thing, &event.kind, &at);
        let text = |name: &str| event.fields.get(name).and_then(Value::as_str);
        if text("source").is_some_and(|source| source.starts_with(IMPORTED)) {
            thing.insert("imported".into(), true.into());
        }
        if let Some(severity) = text("severity").filter(|_| event.kind == "ALERT_RAISED") {
            thing.insert("severity".into(), severity.into());
        }
        law.note(&event);
        apply(&mut thing, shape, event, &at);
        if begins && !thing.contains_key(shape.begins.0) {
            thing.insert(shape.begins.0.into(), at.into());
        }
    }
    law.clocks(&mut thing, shape, first, now);
    let normal = normal_forms(&thing);
    if !normal.is_empty() {
        thing.insert("normal".into(), normal.into());
    }
    if !flags.is_empty() {
        thing.insert("flags".into(), flags.into());
    }
    thing.insert("last_change".into(), last.rfc3339().into());
    thing.insert("entries".into(), json!(entries));
    Some(thing.into())
}

/// What an event says by being there, where it does not say it itself. The first time stands: an update of a notice, or
/// a second opening, stands among the events.
fn derive(thing: &mut Map<String, Value>, kind: &str, at: &str) {
    let place = match kind {
        "SESSION_ENDED" => {
            thing.entry("logout_timestamp").or_insert_with(|| at.into());
            return;
        }
        "CONSENT_WITHDRAWN" => return drop(thing.insert("withdrawal_timestamp".into(), at.into())),
        "TEMPLATE_APPROVED" => return drop(thing.insert("approval_status".into(), "approved".into())),
        "TEMPLATE_REJECTED" => return drop(thing.insert("approval_status".into(), "rejected".into())),
        "CONSENT_GIVEN" => {
            // What was said of an earlier consent says nothing of this one.
            for name in ["consent_timestamp", "withdrawal_timestamp", "expires", "proof_reference", "recording_sha256"]
            {
                thing.remove(name);
            }
            thing.insert("consent_timestamp".into(), at.into());
            return drop(thing.insert("consent_status".into(), "active".into()));
        }
        "TICKET_RESOLVED" => ("resolution_details", "resolution_timestamp"),
        "EMAIL_DELIVERED" => ("delivery_tracking", "delivery_time"),
        "EMAIL_OPENED" => ("delivery_tracking", "read_receipt"),
        "REQUEST_COMPLETED" => ("processing_timeline", "actual_completion"),
        "BREACH_REGULATOR_NOTIFIED" => ("notification_timeline", "regulator_notification"),
        "BREACH_CUSTOMERS_NOTIFIED" => ("notification_timeline", "customer_notification"),
        "ORDER_DELIVERED" => ("shipping_audit", "actual_delivery"),
        _ => return,
    };
    if let Some(below) = object(thing, place.0) {
        below.entry(place.1).or_insert_with(|| at.into());
    }
}

pub(super) fn object<'m>(thing: &'m mut Map<String, Value>, name: &str) -> Option<&'m mut Map<String, Value>> {
    thing.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// A line of its list, and the rest of its fields with the thing.
fn apply(thing: &mut Map<String, Value>, shape: &Shape, event: Event, at: &str) {
    let mut fields = event.fields;
    let severity = fields.get("severity").cloned().unwrap_or(Value::Null);
    COMMON.iter().for_each(|name| drop(fields.remove(*name)));
    // A mail that was asked for by its Message-ID has an id of its own too.
    if shape.name != "email" {
        fields.remove(shape.id);
    }
    // What state an event leaves its thing in was decided before.
    let status = fields.remove("status");
    if let Some(list) = shape.list(&event.kind) {
        let step = event.kind.split_once('_').map_or(event.kind.as_str(), |(_, step)| step).to_ascii_lowercase();
        let mut line = Map::new();
        line.insert("entry".into(), event.entry.into());
        line.insert("timestamp".into(), at.into());
        line.insert("event_type".into(), step.into());
        for name in list.fields {
            let given = if *name == "status" { status.clone() } else { fields.remove(*name) };
            if let Some(value) = given {
                line.insert((*name).into(), value);
            }
        }
        // As the document has it: the sort of security event is its type.
        if let Some(sort) = line.remove("security_event") {
            line.insert("event_type".into(), sort);
            line.insert("severity".into(), severity);
        }
        if let Some(payment) = line.get("payment_audit").cloned() {
            merge(thing, Map::from_iter([("payment_audit".to_owned(), payment)]));
        }
        if let Some(Value::Array(lines)) = thing.get_mut(list.name) {
            lines.push(line.into());
        } else {
            thing.insert(list.name.into(), json!([line]));
        }
    }
    if event.kind == "TICKET_RATED"
        && let (Some(rating), Some(below)) =
            (fields.remove("customer_satisfaction"), object(thing, "resolution_details"))
    {
        below.insert("customer_satisfaction".into(), rating);
    }
    merge(thing, fields);
}

/// Later values stand; objects are joined; clicks are added.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(held)), Value::Object(new)) => merge(held, new),
            (Some(Value::Array(held)), Value::Array(new)) if name == "click_tracking" => held.extend(new),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

/// Normal forms of what was given otherwise, by the field's name.
fn normal_forms(thing: &Map<String, Value>) -> Map<String, Value> {
    let mut normal = Map::new();
    let mut note = |name: &str, given: Option<&Value>, form: fn(&Value) -> Option<Value>| {
        if let Some(given) = given
            && let Some(value) = form(given).filter(|value| value != given)
        {
            normal.insert(name.into(), value);
        }
    };
    note("amount", thing.get("amount"), |given| Money::read(given).map(|money| money.shown()));
    let paid = thing.get("payment_audit").and_then(|payment| payment.get("amount"));
    note("payment_audit.amount", paid, |given| Money::read(given).map(|money| money.shown()));
    for name in ["customer_phone", "phone"] {
        note(name, thing.get(name), |given| Some(normalise(IdentifierType::Phone, given.as_str()?).into()));
    }
    note("language", thing.get("language"), |given| given.as_str().and_then(language).map(Value::from));
    note("country", thing.get("country"), |given| given.as_str().and_then(country).map(Value::from));
    let place = thing.get("shipping_audit").and_then(|shipping| shipping.get("shipping_country"));
    note("shipping_audit.shipping_country", place, |given| given.as_str().and_then(country).map(Value::from));
    for name in ["follow_up_required", "recording_notice", "approval_required", "high_risk", "minor"] {
        note(name, thing.get(name), |given| yes(given).map(Value::from));
    }
    normal
}
