//! What lists of things are filtered by, taken from one event at a time.
//!
//! Only facts: a list says nothing about a person. Of each column the value of the latest event stands, whatever the
//! order in which events came in.

use proof::time::UnixMillis;
use serde_json::{Map, Value};

use super::shapes::{Shape, status_of};
use crate::calendar::{after_days, after_months, day_in_south_africa, end_of_day_in_south_africa};

/// Registers that have lists. Mails and messages are found by search: they are many, and have no open state.
const LISTED: [&str; 9] = ["template", "ticket", "call", "order", "session", "data", "request", "consent", "breach"];

/// What an event says of its thing; a column that it says nothing of keeps its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// State.
    pub status: Option<String>,
    /// Category, type, purpose.
    pub category: Option<String>,
    /// Priority.
    pub priority: Option<String>,
    /// Who has it in hand.
    pub staff: Option<String>,
    /// Until when something must be done, in milliseconds.
    pub due: Option<u64>,
}

impl Shape {
    /// Whether there are lists of such things.
    pub fn is_listed(&self) -> bool {
        LISTED.contains(&self.name)
    }

    /// Whether a thing in this state waits for somebody. One of which no event said a state waits for nobody.
    pub fn is_open(&self, status: &str) -> bool {
        match self.name {
            "ticket" => !matches!(status, "" | "resolved" | "closed"),
            "order" => !matches!(status, "" | "delivered" | "cancelled" | "returned"),
            "call" => matches!(status, "in_progress" | "callback_required" | "escalated"),
            "request" => status == "in_progress",
            "breach" => !matches!(status, "" | "closed"),
            "session" | "consent" => status == "active",
            "data" | "template" => status == "pending",
            _ => false,
        }
    }
}

/// The columns of an event.
pub fn columns(shape: &Shape, kind: &str, facts: &Map<String, Value>, at: UnixMillis) -> Columns {
    let text = |name: &str| facts.get(name).and_then(Value::as_str).map(str::to_owned);
    let first = |names: &[&str]| names.iter().find_map(|name| text(name));
    let time = |name: &str| text(name).and_then(|text| UnixMillis::parse(text.as_bytes()).ok()).map(|time| time.0);
    let category = match shape.name {
        "ticket" => first(&["issue_category"]),
        "call" => first(&["call_purpose"]),
        "order" => first(&["order_source"]),
        "request" => first(&["request_type"]),
        "consent" => first(&["consent_type"]),
        "breach" => first(&["incident_type"]),
        "data" => first(&["data_type"]),
        "session" => first(&["login_method"]),
        _ => None,
    };
    let staff = first(&["assigned_to", "staff_member", "handler", "user_id", "actor", "author"]);
    let due = match kind {
        "REQUEST_RECEIVED" => {
            let day = day_in_south_africa(time("request_timestamp").map_or(at, UnixMillis));
            let gdpr = text("law").as_deref() == Some("gdpr");
            let end = if gdpr { after_months(day, 1) } else { after_days(day, 30) };
            Some(end_of_day_in_south_africa(end).0)
        }
        "BREACH_DISCOVERED" => Some(time("discovery_timestamp").unwrap_or(at.0) + 72 * 3_600_000),
        _ => time("resolve_by").or(time("respond_by")).or(time("follow_up_by")),
    };
    Columns { status: status_of(kind, facts), category, priority: text("priority_level"), staff, due }
}
