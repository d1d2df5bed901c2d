//! The registers: which field names a thing, which of its kinds' fields make lists, how its state is called.

use serde_json::{Map, Value};

/// Events that become lines of a list rather than fields of the thing.
#[derive(Debug)]
pub(super) struct List {
    /// Kinds, or beginnings of kinds where they end with `_`.
    pub(super) kinds: &'static [&'static str],
    /// Where the lines stand.
    pub(super) name: &'static str,
    /// The event's fields that a line takes with it; what is not named here stays with the thing.
    pub(super) fields: &'static [&'static str],
}

/// One register.
#[derive(Debug)]
pub struct Shape {
    /// As in a path: `tickets`.
    pub path: &'static str,
    /// As on the command line: `ticket`.
    pub name: &'static str,
    /// The field that holds its id.
    pub id: &'static str,
    /// Kinds of its events: names, or beginnings that end with `_`.
    pub(super) kinds: &'static [&'static str],
    /// The field that has the time of the first event where no event gave it, and the kinds that begin a thing.
    pub(super) begins: (&'static str, &'static [&'static str]),
    pub(super) lists: &'static [List],
}

const EVENTS: &str = "events";

/// All registers.
pub const SHAPES: &[Shape] = &[
    Shape {
        path: "emails",
        name: "email",
        id: "email_id",
        kinds: &["EMAIL_"],
        begins: ("timestamp", &["EMAIL_SENT", "EMAIL_RECEIVED"]),
        lists: &[List { kinds: &["EMAIL_"], name: EVENTS, fields: &["status", "reason_category", "dsn"] }],
    },
    Shape {
        path: "templates",
        name: "template",
        id: "template_id",
        kinds: &["TEMPLATE_"],
        begins: ("creation_date", &["TEMPLATE_CREATED"]),
        lists: &[List {
            kinds: &["TEMPLATE_"],
            name: "versions",
            fields: &["actor", "reason_category", "content_sha256"],
        }],
    },
    Shape {
        path: "tickets",
        name: "ticket",
        id: "ticket_id",
        kinds: &["TICKET_"],
        begins: ("creation_timestamp", &["TICKET_OPENED"]),
        lists: &[
            List {
                kinds: &["TICKET_STATUS_CHANGED"],
                name: "status_history",
                fields: &["previous_status", "new_status", "changed_by", "reason", "reason_category"],
            },
            List {
                kinds: &["TICKET_COMMUNICATION"],
                name: "communication_log",
                fields: &["type", "direction", "user", "content_summary", "attachments", "content_reference"],
            },
            List {
                kinds: &["TICKET_OPENED", "TICKET_CHANGED", "TICKET_RESOLVED", "TICKET_RATED"],
                name: EVENTS,
                fields: &["changed_by", "reason", "reason_category", "comment"],
            },
        ],
    },
    Shape {
        path: "calls",
        name: "call",
        id: "call_id",
        kinds: &["CALL_"],
        begins: ("call_timestamp", &["CALL_STARTED", "CALL_LOGGED"]),
        lists: &[List { kinds: &["CALL_"], name: EVENTS, fields: &[] }],
    },
    Shape {
        path: "messages",
        name: "message",
        id: "message_id",
        kinds: &["MESSAGE_"],
        begins: ("timestamp", &["MESSAGE_SENT", "MESSAGE_RECEIVED", "MESSAGE_NOTED"]),
        lists: &[List { kinds: &["MESSAGE_"], name: EVENTS, fields: &["reason_category", "provider_reference"] }],
    },
    Shape {
        path: "orders",
        name: "order",
        id: "order_id",
        kinds: &["ORDER_"],
        begins: ("order_timestamp", &["ORDER_PLACED"]),
        lists: &[
            List {
                kinds: &["ORDER_PAYMENT"],
                name: "payments",
                fields: &["payment_audit", "triggered_by", "reason_category"],
            },
            List {
                kinds: &["ORDER_COMMUNICATION"],
                name: "communication_audit",
                fields: &["type", "channel", "content_reference", "delivery_status", "user_id"],
            },
            List {
                kinds: &["ORDER_"],
                name: "order_events",
                fields: &["triggered_by", "previous_status", "new_status", "notes", "reason_category"],
            },
        ],
    },
    Shape {
        path: "sessions",
        name: "session",
        id: "session_id",
        kinds: &["SESSION_"],
        begins: ("login_timestamp", &["SESSION_STARTED"]),
        lists: &[
            List {
                kinds: &["SESSION_ACTIVITY"],
                name: "session_activities",
                fields: &["action", "resource", "outcome", "details"],
            },
            List {
                kinds: &["SESSION_SECURITY_EVENT"],
                name: "security_events",
                fields: &["security_event", "response", "ip_address", "details"],
            },
        ],
    },
    Shape {
        path: "data",
        name: "data",
        id: "data_id",
        kinds: &["DATA_"],
        begins: ("timestamp", &["DATA_"]),
        lists: &[
            List {
                kinds: &["DATA_ACCESSED"],
                name: "access_events",
                fields: &["user_id", "access_type", "access_reason", "reason_category", "data_scope", "records_count"],
            },
            List {
                kinds: &["DATA_MODIFIED", "DATA_CHANGE_DECIDED"],
                name: "modification_events",
                fields: &[
                    "user_id",
                    "modification_type",
                    "field_changes",
                    "approval_required",
                    "approval_status",
                    "approver",
                    "change_reference",
                    "reason_category",
                ],
            },
        ],
    },
    Shape {
        path: "requests",
        name: "request",
        id: "request_id",
        kinds: &["REQUEST_"],
        begins: ("request_timestamp", &["REQUEST_RECEIVED"]),
        lists: &[List {
            kinds: &["REQUEST_"],
            name: EVENTS,
            fields: &["handler", "reason_category", "details", "notice_reference"],
        }],
    },
    Shape {
        path: "consents",
        name: "consent",
        id: "consent_id",
        kinds: &["CONSENT_"],
        begins: ("consent_timestamp", &["CONSENT_GIVEN", "CONSENT_ASKED", "CONSENT_OBJECTED", "CONSENT_REFUSED"]),
        lists: &[List { kinds: &["CONSENT_"], name: EVENTS, fields: &["reason_category", "details", "user_id"] }],
    },
    Shape {
        path: "breaches",
        name: "breach",
        id: "incident_id",
        kinds: &["BREACH_"],
        begins: ("discovery_timestamp", &["BREACH_DISCOVERED"]),
        lists: &[List {
            kinds: &["BREACH_"],
            name: EVENTS,
            fields: &["status", "handler", "reason_category", "details", "notice_channel"],
        }],
    },
    Shape {
        path: "alerts",
        name: "alert",
        id: "alert_id",
        kinds: &["ALERT_"],
        begins: ("raised", &["ALERT_RAISED"]),
        lists: &[List { kinds: &["ALERT_"], name: EVENTS, fields: &["state", "actor", "reason_category"] }],
    },
    Shape {
        path: "cases",
        name: "case",
        id: "case_id",
        kinds: &["CASE_"],
        begins: ("opened", &["CASE_OPENED"]),
        lists: &[List { kinds: &["CASE_"], name: EVENTS, fields: &["state", "actor", "finding", "note"] }],
    },
    Shape {
        path: "reviews",
        name: "review",
        id: "review_id",
        kinds: &["REVIEW_"],
        begins: ("made_due", &["REVIEW_DUE"]),
        lists: &[List { kinds: &["REVIEW_"], name: EVENTS, fields: &["state", "actor", "finding", "note"] }],
    },
];

/// A register by its path or name.
pub fn shape(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.path == name || shape.name == name)
}

pub(super) fn covers(kinds: &[&str], kind: &str) -> bool {
    kinds.iter().any(|one| if one.ends_with('_') { kind.starts_with(one) } else { kind == *one })
}

impl Shape {
    /// Its place in [`SHAPES`], which stands for it in the views.
    pub fn place(&self) -> u8 {
        SHAPES.iter().position(|shape| shape.name == self.name).unwrap_or(SHAPES.len()) as u8
    }

    /// Whether events of this kind belong here.
    pub fn has(&self, kind: &str) -> bool {
        covers(self.kinds, kind)
    }

    pub(super) fn list(&self, kind: &str) -> Option<&'static List> {
        self.lists.iter().find(|list| covers(list.kinds, kind))
    }

    pub(super) fn begins_with(&self, kind: &str) -> bool {
        covers(self.begins.1, kind)
    }
}

/// Whether a field of a thing is one of its lists of events.
pub fn is_history(shape: &Shape, field: &str) -> bool {
    shape.lists.iter().any(|list| list.name == field)
}

/// The state that an event leaves its thing in, if it says anything about it.
pub fn status_of(kind: &str, fields: &Map<String, Value>) -> Option<String> {
    let text = |pointer: &[&str]| {
        let mut value = fields.get(*pointer.first()?)?;
        for name in &pointer[1..] {
            value = value.get(name)?;
        }
        value.as_str().map(str::to_owned)
    };
    let given = |pointer: &[&str], otherwise: &str| text(pointer).or_else(|| Some(otherwise.to_owned()));
    match kind {
        "TICKET_OPENED" => given(&["status"], "open"),
        "TICKET_STATUS_CHANGED" => text(&["new_status"]),
        "TICKET_RESOLVED" => Some(match text(&["resolution_details", "resolution_type"]).as_deref() {
            Some("closed") => "closed".into(),
            Some("escalated") => "escalated".into(),
            _ => "resolved".into(),
        }),
        "CALL_STARTED" => Some("in_progress".into()),
        "CALL_ENDED" | "CALL_LOGGED" | "CALL_FOLLOWED_UP" => given(&["outcome"], "ended"),
        "REVIEW_DUE" => Some("due".into()),
        "REVIEW_SIGNED" => Some("signed".into()),
        "CASE_OPENED" => Some("open".into()),
        "CASE_CLOSED" => Some("closed".into()),
        "REQUEST_RECEIVED" => Some("in_progress".into()),
        "REQUEST_COMPLETED" => Some("completed".into()),
        "REQUEST_REFUSED" => Some("refused".into()),
        "REQUEST_WITHDRAWN" => Some("withdrawn".into()),
        "CONSENT_GIVEN" => Some("active".into()),
        "BREACH_DISCOVERED" => given(&["status"], "open"),
        "BREACH_CLOSED" => Some("closed".into()),
        // Closed is what a closing says, and nothing else.
        _ if kind.starts_with("BREACH_") => text(&["status"]).filter(|status| status != "closed"),
        "EMAIL_DELIVERY_STATUS" | "EMAIL_SEND_ATTEMPT" => text(&["status"]),
        "DATA_MODIFIED" => text(&["approval_status"]),
        // Somebody who is asked again has not lost what they said before.
        "CONSENT_ASKED" => None,
        "SESSION_STARTED" => Some("active".into()),
        "SESSION_ENDED" => Some("ended".into()),
        "ORDER_PAYMENT" | "ORDER_COMMUNICATION" => None,
        "ORDER_CHANGED" => text(&["new_status"]),
        "TEMPLATE_APPROVED" => Some("approved".into()),
        "TEMPLATE_REJECTED" => Some("rejected".into()),
        "TEMPLATE_CREATED" | "TEMPLATE_CHANGED" => given(&["approval_status"], "pending"),
        "DATA_CHANGE_DECIDED" => text(&["approval_status"]),
        _ => {
            let (what, step) = kind.split_once('_')?;
            match what {
                "ORDER" => given(&["new_status"], &step.to_ascii_lowercase()),
                "EMAIL" | "MESSAGE" | "CONSENT" | "ALERT" => Some(step.to_ascii_lowercase()),
                _ => None,
            }
        }
    }
}
