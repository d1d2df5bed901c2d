//! The clocks of law: until when a request must be answered and a breach be told.

use proof::time::UnixMillis;
use serde_json::{Map, Value, json};

use super::fold::{Event, object};
use super::shapes::Shape;
use crate::calendar::{Day, after_days, after_months, day_in_south_africa, end_of_day_in_south_africa, text};

/// The notice to a regulator, by the requirement document and the GDPR.
const NOTICE_MS: u64 = 72 * 3_600_000;
/// PAIA, section 56.
const REQUEST_DAYS: i64 = 30;

/// What the clocks turn on.
#[derive(Debug, Default)]
pub(super) struct Law {
    /// The first extension.
    extended_at: Option<UnixMillis>,
    /// The first end of a request: an answer, a refusal, a withdrawal.
    ended_at: Option<UnixMillis>,
    /// The first notice to a regulator.
    told: Option<UnixMillis>,
}

impl Law {
    /// Takes an event, in the order of the events' own times.
    pub(super) fn note(&mut self, event: &Event) {
        let given =
            |timeline: &str, name: &str| time(event.fields.get(timeline).and_then(|timeline| timeline.get(name)));
        match event.kind.as_str() {
            "REQUEST_EXTENDED" => drop(self.extended_at.get_or_insert(event.at)),
            "REQUEST_COMPLETED" => self.end(given("processing_timeline", "actual_completion").unwrap_or(event.at)),
            "REQUEST_REFUSED" | "REQUEST_WITHDRAWN" => self.end(event.at),
            "BREACH_REGULATOR_NOTIFIED" => {
                let told = given("notification_timeline", "regulator_notification").unwrap_or(event.at);
                self.told.get_or_insert(told);
            }
            _ => {}
        }
    }

    fn end(&mut self, at: UnixMillis) {
        self.ended_at.get_or_insert(at);
    }

    /// Writes the clock of a thing that began at `first`, as it reads at `now`.
    pub(super) fn clocks(&self, thing: &mut Map<String, Value>, shape: &Shape, first: UnixMillis, now: UnixMillis) {
        match shape.name {
            "request" => self.request(thing, first, now),
            "breach" => self.breach(thing, first, now),
            _ => {}
        }
    }

    fn request(&self, thing: &mut Map<String, Value>, first: UnixMillis, now: UnixMillis) {
        let from = begin_of_request(thing, first);
        let law = thing.get("law").and_then(Value::as_str).unwrap_or("popia").to_owned();
        let (day, without) = (day_in_south_africa(from), last_day_of_request(from, &law));
        // An extension must be told within the first period; one that comes later extends nothing.
        let extended = self.extended_at.is_some_and(|at| at <= end_of_day_in_south_africa(without));
        // PAIA, section 57: once, for 30 days more. GDPR, article 12(3): two further months.
        let due = match (law.as_str(), extended) {
            (_, false) => without,
            ("gdpr", true) => after_months(day, 3),
            (_, true) => after_days(day, 2 * REQUEST_DAYS),
        };
        let end = end_of_day_in_south_africa(due);
        let state = state(self.ended_at, end, now);
        let status = thing.get("status").cloned().unwrap_or_else(|| "in_progress".into());
        if let Some(timeline) = object(thing, "processing_timeline") {
            timeline.insert("target_completion".into(), text(due).into());
            timeline.insert("status".into(), if state == "overdue" { "overdue".into() } else { status });
        }
        let left = due - day_in_south_africa(now);
        let clock = json!({
            "law": law, "from": from.rfc3339(), "due": end.rfc3339(), "extended": extended, "state": state,
            "days_left": left,
        });
        thing.insert("clock".into(), clock);
    }

    fn breach(&self, thing: &mut Map<String, Value>, first: UnixMillis, now: UnixMillis) {
        let from = begin_of_breach(thing, first);
        let due = UnixMillis(from.0 + NOTICE_MS);
        let timeline = thing.get("notification_timeline");
        let customers = time(timeline.and_then(|timeline| timeline.get("customer_notification")));
        let hours = |until: UnixMillis| until.0.saturating_sub(from.0) / 3_600_000;
        let clock = json!({
            "from": from.rfc3339(), "due": due.rfc3339(), "state": state(self.told, due, now),
            "rule": "72 hours (GDPR article 33, and the house's own rule); POPIA section 22: as soon as reasonably possible",
            "hours_until_regulator": hours(self.told.unwrap_or(now)),
            "hours_until_customers": hours(customers.unwrap_or(now)),
        });
        thing.insert("clock".into(), clock);
    }
}

/// Until when an event lets the clock of a request or a breach run. An extension that does not say until when says
/// nothing here: what it comes to depends on the request's beginning.
pub(super) fn due(kind: &str, fields: &Map<String, Value>, at: UnixMillis) -> Option<UnixMillis> {
    match kind {
        "REQUEST_RECEIVED" => {
            let law = fields.get("law").and_then(Value::as_str).unwrap_or_default();
            Some(end_of_day_in_south_africa(last_day_of_request(begin_of_request(fields, at), law)))
        }
        "REQUEST_EXTENDED" => {
            let until = fields.get("extended_until").and_then(Value::as_str)?;
            let whole = if until.len() == 10 { format!("{until}T21:59:59.999Z") } else { until.to_owned() };
            UnixMillis::parse(whole.as_bytes()).ok()
        }
        "BREACH_DISCOVERED" => Some(UnixMillis(begin_of_breach(fields, at).0 + NOTICE_MS)),
        _ => None,
    }
}

/// A time that a field gives.
pub fn time(value: Option<&Value>) -> Option<UnixMillis> {
    UnixMillis::parse(value?.as_str()?.as_bytes()).ok()
}

fn begin_of_request(fields: &Map<String, Value>, at: UnixMillis) -> UnixMillis {
    time(fields.get("request_timestamp")).unwrap_or(at)
}

fn begin_of_breach(fields: &Map<String, Value>, at: UnixMillis) -> UnixMillis {
    time(fields.get("discovery_timestamp")).unwrap_or(at)
}

fn last_day_of_request(from: UnixMillis, law: &str) -> Day {
    let day = day_in_south_africa(from);
    if law == "gdpr" { after_months(day, 1) } else { after_days(day, REQUEST_DAYS) }
}

fn state(ended: Option<UnixMillis>, due: UnixMillis, now: UnixMillis) -> &'static str {
    match ended {
        Some(ended) if ended > due => "late",
        Some(_) => "met",
        None if now > due => "overdue",
        None => "running",
    }
}
