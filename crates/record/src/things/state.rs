//! What lists of things are filtered by, taken from one event at a time.
//!
//! Only facts: a list says nothing about a person. Of each column the value of the latest event stands, whatever the
//! order in which events came in.

use proof::time::UnixMillis;
use serde_json::{Map, Value};

use super::law::{self, time};
use super::shapes::{Shape, status_of};

/// Registers that have lists. Mails and messages are found by search: they are many, and have no open state.
const LISTED: [&str; 12] = [
    "template", "ticket", "call", "order", "session", "data", "request", "consent", "breach", "alert", "case", "review",
];

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
            "case" => status == "open",
            "review" => status == "due",
            "alert" => matches!(status, "raised" | "acknowledged"),
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
    let given = |name: &&str| time(facts.get(*name));
    let category = match shape.name {
        "ticket" => first(&["issue_category"]),
        "call" => first(&["call_purpose"]),
        "order" => first(&["order_source"]),
        "request" => first(&["request_type"]),
        "consent" => first(&["consent_type"]),
        "breach" => first(&["incident_type"]),
        "alert" | "case" => first(&["rule"]),
        "data" => first(&["data_type"]),
        "session" => first(&["login_method"]),
        _ => None,
    };
    let staff = first(&["assigned_to", "staff_member", "handler", "user_id", "actor", "author"]);
    let due = law::due(kind, facts, at).or_else(|| ["resolve_by", "respond_by", "follow_up_by"].iter().find_map(given));
    let due = due.map(|due| due.0);
    Columns { status: status_of(kind, facts), category, priority: text("priority_level"), staff, due }
}
