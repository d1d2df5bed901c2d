//! The life cycles: what begins, what ends it, and after how long (`docs/completeness.md` has the table for people).

use serde_json::{Map, Value};

use crate::registers::Thing;

pub(super) const HOUR_MS: u64 = 3_600_000;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;

/// An end: a kind, and where it needs one a fact that must have one of these values.
type End = (&'static str, Option<(&'static str, &'static [&'static str])>);

/// One life cycle.
#[derive(Debug)]
pub struct Cycle {
    /// Its name.
    pub name: &'static str,
    /// What stands open.
    pub title: &'static str,
    pub(super) begins: &'static [&'static str],
    pub(super) thing: Thing,
    /// Facts with the id, the first that is there.
    pub(super) id: &'static [&'static str],
    pub(super) ends: &'static [End],
    /// The end must not be before the beginning.
    pub(super) in_order: bool,
    pub(super) grace_ms: u64,
}

const fn any(kind: &'static str) -> End {
    (kind, None)
}

const fn outbound(kind: &'static str, field: &'static str) -> End {
    (kind, Some((field, &["outbound", "outgoing"])))
}

/// All life cycles.
pub const CYCLES: &[Cycle] = &[
    Cycle {
        name: "created_not_sent",
        title: "a notification was created and neither sent nor failed within an hour",
        begins: &["NOTIF_CREATED"],
        thing: Thing::Correlation,
        id: &["correlation_id"],
        ends: &[
            any("EMAIL_SENT"),
            any("MESSAGE_SENT"),
            any("NOTIF_FAILED"),
            any("EMAIL_FAILED"),
            any("MESSAGE_FAILED"),
        ],
        in_order: false,
        grace_ms: HOUR_MS,
    },
    Cycle {
        name: "sent_not_ended",
        title: "a mail or message was sent and nothing is known of its end after five days",
        begins: &["EMAIL_SENT", "MESSAGE_SENT"],
        thing: Thing::Message,
        id: &["email_id", "message_id"],
        ends: &[
            any("EMAIL_DELIVERED"),
            any("EMAIL_BOUNCED"),
            any("EMAIL_FAILED"),
            any("EMAIL_OPENED"),
            any("EMAIL_CLICKED"),
            any("EMAIL_COMPLAINED"),
            any("EMAIL_UNSUBSCRIBED"),
            ("EMAIL_DELIVERY_STATUS", Some(("status", &["delivered", "sent", "bounced", "expired", "failed"]))),
            any("NOTIF_FAILED"),
            any("MESSAGE_DELIVERED"),
            any("MESSAGE_READ"),
            any("MESSAGE_FAILED"),
        ],
        in_order: false,
        grace_ms: 5 * DAY_MS,
    },
    Cycle {
        name: "ended_not_begun",
        title: "something ended of which no beginning is known",
        begins: &[
            "EMAIL_DELIVERED",
            "EMAIL_BOUNCED",
            "EMAIL_FAILED",
            "EMAIL_OPENED",
            "EMAIL_CLICKED",
            "EMAIL_COMPLAINED",
            "EMAIL_UNSUBSCRIBED",
            "MESSAGE_DELIVERED",
            "MESSAGE_READ",
            "MESSAGE_FAILED",
        ],
        thing: Thing::Message,
        id: &["email_id", "message_id"],
        ends: &[any("EMAIL_SENT"), any("EMAIL_SEND_ATTEMPT"), any("MESSAGE_SENT"), any("NOTIF_CREATED")],
        in_order: false,
        grace_ms: HOUR_MS,
    },
    Cycle {
        name: "resolved_not_opened",
        title: "a ticket was resolved of which no opening is known",
        begins: &["TICKET_RESOLVED"],
        thing: Thing::Ticket,
        id: &["ticket_id"],
        ends: &[any("TICKET_OPENED")],
        in_order: false,
        grace_ms: HOUR_MS,
    },
    Cycle {
        name: "delivered_not_placed",
        title: "an order was shipped or delivered of which no placing is known",
        begins: &["ORDER_SHIPPED", "ORDER_DELIVERED"],
        thing: Thing::Order,
        id: &["order_id"],
        ends: &[any("ORDER_PLACED")],
        in_order: false,
        grace_ms: HOUR_MS,
    },
    Cycle {
        name: "clicked_without_token",
        title: "a link was followed for which no token was issued",
        begins: &["ACTION_LINK_CLICKED"],
        thing: Thing::Correlation,
        id: &["correlation_id"],
        ends: &[any("ACTION_TOKEN_ISSUED")],
        in_order: false,
        grace_ms: HOUR_MS,
    },
    Cycle {
        name: "shipped_not_told",
        title: "an order was shipped and the customer not told within a day",
        begins: &["ORDER_SHIPPED"],
        thing: Thing::Order,
        id: &["order_id"],
        ends: &[any("ORDER_COMMUNICATION"), any("MESSAGE_SENT"), outbound("CALL_LOGGED", "call_direction")],
        in_order: true,
        grace_ms: DAY_MS,
    },
    Cycle {
        name: "ticket_not_answered",
        title: "a ticket was opened and not answered within a day",
        begins: &["TICKET_OPENED"],
        thing: Thing::Ticket,
        id: &["ticket_id"],
        ends: &[
            outbound("TICKET_COMMUNICATION", "direction"),
            any("TICKET_RESOLVED"),
            any("MESSAGE_SENT"),
            outbound("CALL_LOGGED", "call_direction"),
        ],
        in_order: false,
        grace_ms: DAY_MS,
    },
];

impl Cycle {
    /// The id of the thing that an entry with these facts begins.
    pub fn id_of<'f>(&self, facts: &'f Map<String, Value>) -> Option<&'f str> {
        self.id.iter().find_map(|name| facts.get(*name).and_then(Value::as_str))
    }

    /// Whether it needs no end: a delivery that the beginning tells itself, a channel that tells none.
    pub(super) fn ends_itself(&self, facts: &Map<String, Value>) -> bool {
        if self.name != "sent_not_ended" {
            return false;
        }
        let text = |name: &str| facts.get(name).and_then(Value::as_str);
        let told =
            facts.get("delivery_tracking").and_then(|tracking| tracking.get("delivery_status")).and_then(Value::as_str);
        let taken = text("dsn").is_some_and(|dsn| dsn.starts_with("2."));
        let silent = text("channel").is_some_and(|channel| !matches!(channel, "sms" | "whatsapp" | "push"));
        told.is_some_and(|told| !matches!(told, "pending" | "queued" | "sent" | "deferred")) || taken || silent
    }
}
