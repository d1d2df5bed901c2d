//! What was said to a customer outside every system, written down by hand: by command or over HTTP, the same record.

use proof::time::UnixMillis;
use serde::Deserialize;
use serde_json::{Value, json};

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A chat.
    Chat,
    /// A letter.
    Letter,
    /// A text message.
    Sms,
    /// A WhatsApp message.
    Whatsapp,
    /// A talk in person.
    Talk,
    /// A telephone call.
    Call,
    /// A note that nobody outside sees; of a ticket, where one is given.
    Note,
}

/// Which way it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the customer.
    Inbound,
    /// To the customer.
    Outbound,
    /// Both ways, or within the business.
    Internal,
}

impl What {
    /// Every one by its name.
    pub const NAMES: [(&'static str, What); 7] = [
        ("chat", What::Chat),
        ("letter", What::Letter),
        ("sms", What::Sms),
        ("whatsapp", What::Whatsapp),
        ("talk", What::Talk),
        ("call", What::Call),
        ("note", What::Note),
    ];
}

impl Direction {
    /// Every one by its name.
    pub const NAMES: [(&'static str, Direction); 3] =
        [("inbound", Direction::Inbound), ("outbound", Direction::Outbound), ("internal", Direction::Internal)];

    fn name(self) -> &'static str {
        Direction::NAMES.iter().find(|(_, held)| *held == self).map_or("", |(name, _)| name)
    }
}

/// What somebody writes down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByHand {
    /// What it was.
    pub what: What,
    /// The business's own customer number.
    pub customer: Option<String>,
    /// An e-mail address.
    pub address: Option<String>,
    /// A telephone number.
    pub phone: Option<String>,
    /// Which way it went; a talk and a note are internal unless it is said, all else inbound.
    pub direction: Option<Direction>,
    /// What it was about, in a few sentences.
    pub summary: String,
    /// When it was (RFC 3339); now, if it is left out.
    pub when: Option<String>,
    /// Who of the staff it was; the author, if it is left out.
    pub staff: Option<String>,
    /// The ticket that it belongs to.
    pub ticket: Option<String>,
    /// The order that it belongs to.
    pub order: Option<String>,
    /// Seconds of a call.
    pub duration: Option<u32>,
}

impl ByHand {
    /// Its fields.
    pub const FIELDS: [&'static str; 11] = [
        "what",
        "customer",
        "address",
        "phone",
        "direction",
        "summary",
        "when",
        "staff",
        "ticket",
        "order",
        "duration",
    ];
}

/// Under which id, when, by whom and where it is written down.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Id of the record, and of the thing where it makes one.
    pub id: &'a str,
    /// The time of writing.
    pub now: UnixMillis,
    /// Who writes.
    pub author: &'a str,
    /// Environment of the deployment.
    pub environment: &'a str,
}

impl ByHand {
    /// The record, as a source may send it.
    ///
    /// # Errors
    /// One sentence that says what does not go together.
    pub fn record(&self, written: &Written<'_>) -> Result<Value, &'static str> {
        let when = match &self.when {
            None => written.now,
            Some(text) => {
                UnixMillis::parse(text.as_bytes()).map_err(|_| "when must be a time such as 2026-11-01T08:00:00Z")?
            }
        };
        if when > written.now {
            return Err("the time is in the future: what has not happened can't be written down");
        }
        if self.duration.is_some() && self.what != What::Call {
            return Err("a duration is of a call");
        }
        let (call, note) = (self.what == What::Call, self.what == What::Note && self.ticket.is_some());
        if [&self.customer, &self.address, &self.phone].into_iter().all(Option::is_none) {
            return Err("nobody is named: give a customer, an address or a phone");
        }
        if self.customer.is_none() && (note || call && self.phone.is_none()) {
            return Err("a call is with a customer or a phone, a note of a ticket about a customer: name them");
        }
        if (call || note) && self.address.is_some() || note && (self.phone.is_some() || self.order.is_some()) {
            return Err("this can't hold an address, a note of a ticket no phone and no order either: leave it out");
        }
        Ok(self.fields(when, written))
    }

    fn fields(&self, when: UnixMillis, written: &Written<'_>) -> Value {
        let Written { id, now, author, environment } = *written;
        let staff = self.staff.as_deref().unwrap_or(author);
        let otherwise = match self.what {
            What::Talk | What::Note => Direction::Internal,
            _ => Direction::Inbound,
        };
        let direction = self.direction.unwrap_or(otherwise);
        let mut record = json!({
            "timestamp": when.rfc3339(), "correlation_id": id, "source_component": "candor-add",
            "environment": environment, "severity": "info", "event_id": id, "author": author,
            "written_at": now.rfc3339(),
        });
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                record[name] = value;
            }
        };
        set("customer_id", json!(self.customer));
        match (self.what, &self.ticket) {
            (What::Call, ticket) => {
                set("event_type", json!("CALL_LOGGED"));
                set("call_id", json!(id));
                set("call_timestamp", json!(when.rfc3339()));
                set("call_duration", json!(self.duration));
                set("customer_phone", json!(self.phone));
                set("staff_member", json!(staff));
                set("call_summary", json!(self.summary));
                set("ticket_id", json!(ticket));
                set("order_id", json!(self.order));
                if direction != Direction::Internal {
                    set("call_direction", json!(direction.name()));
                }
            }
            (What::Note, Some(ticket)) => {
                set("event_type", json!("TICKET_COMMUNICATION"));
                set("ticket_id", json!(ticket));
                set("type", json!("note"));
                set("direction", json!(direction.name()));
                set("user", json!(staff));
                set("content_summary", json!(self.summary));
            }
            (what, ticket) => {
                let kind = match (what, direction) {
                    (What::Talk | What::Note, _) | (_, Direction::Internal) => "MESSAGE_NOTED",
                    (_, Direction::Inbound) => "MESSAGE_RECEIVED",
                    (_, Direction::Outbound) => "MESSAGE_SENT",
                };
                let channel = match what {
                    What::Chat => "chat",
                    What::Letter => "letter",
                    What::Sms => "sms",
                    What::Whatsapp => "whatsapp",
                    What::Talk => "in_person",
                    What::Note | What::Call => "note",
                };
                set("event_type", json!(kind));
                set("message_id", json!(id));
                set("channel", json!(channel));
                set("direction", json!(direction.name()));
                set("phone", json!(self.phone));
                set("address", json!(self.address));
                set("user_id", json!(staff));
                set("content_summary", json!(self.summary));
                set("ticket_id", json!(ticket));
                set("order_id", json!(self.order));
            }
        }
        record
    }
}
