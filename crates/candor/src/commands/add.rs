//! `candor add`: what was said to a customer outside every system, written down by hand.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use seal::random::RandomPool;
use serde_json::{Value, json};

use super::{Data, Output};
use crate::intake::{Accepted, Worker};
use crate::trail::{OpenMode, Trail};

/// What is written down.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Chat,
    Letter,
    Sms,
    Whatsapp,
    /// A talk in person.
    Talk,
    Call,
    /// A note that nobody outside sees; of a ticket, where one is given.
    Note,
}

/// Which way it went.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Inbound,
    Outbound,
    Internal,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::Internal => "internal",
        }
    }
}

/// Whom it was with: one or more of these.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct With {
    /// The business's own customer number.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// An e-mail address.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// A telephone number.
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
}

/// `candor add`
#[derive(Args)]
pub struct Add {
    #[command(flatten)]
    data: Data,
    /// What it was.
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    with: With,
    /// Which way it went. A talk has both; a note is internal.
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// What it was about, in a few sentences; - reads them from standard input, so that no process list shows them.
    #[arg(long, value_name = "TEXT")]
    summary: String,
    /// When it was, such as 2026-11-01T08:00:00Z. Default: now. The time of writing stands beside it.
    #[arg(long, value_name = "TIME")]
    when: Option<String>,
    /// Who of the staff it was. Default: the user of this system who writes it down, who stands as its author anyway.
    #[arg(long, value_name = "ID")]
    staff: Option<String>,
    /// The ticket that it belongs to.
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// The order that it belongs to.
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Seconds of a call.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u32>,
    /// Name of the source, as in candor.toml.
    #[arg(long, default_value = "local")]
    source: String,
    #[command(flatten)]
    output: Output,
}

impl Add {
    pub fn run(self) -> Result<ExitCode> {
        let now = SystemClock.now();
        let when = super::moment("--when", self.when.as_deref())?.unwrap_or(now);
        if when > now {
            bail!("add: --when is in the future: what has not happened can't be written down");
        }
        if self.duration.is_some() && self.what != What::Call {
            bail!("add: --duration is of a call");
        }
        let (call, note) = (self.what == What::Call, self.what == What::Note && self.ticket.is_some());
        if self.with.customer.is_none() && (note || call && self.with.phone.is_none()) {
            bail!("add: a call is with a --customer or a --phone, a note of a ticket about a --customer: name them");
        }
        if (call || note) && self.with.address.is_some() || note && (self.with.phone.is_some() || self.order.is_some())
        {
            bail!("add: this can't hold an address, a note of a ticket no phone and no order either: leave it out");
        }
        let summary = match self.summary.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()).context("read standard input")?.trim().to_owned(),
            text => text.to_owned(),
        };
        let id = format!("hand-{}", proof::encoding::hex(&RandomPool::default().take::<8>()));
        let trail = Trail::open(&self.data.data, OpenMode::default())?;
        if let Err(error) = trail.intake.recipients(&self.source) {
            trail.close()?;
            return Err(error);
        }
        let line = self.record(&id, (when, now), &summary, &trail.config.environment).to_string();
        let answered = trail.intake.lines(&mut Worker::default(), &self.source, &[(1, line.as_bytes())]);
        trail.close()?;
        let (_, answer) = answered?.pop().context("the record was not answered")?;
        match answer {
            Ok(Accepted::Committed { index, .. } | Accepted::Repeated { index, .. } | Accepted::Conflict { index }) => {
                if self.output.json {
                    println!("{}", json!({"index": index, "id": id}));
                } else {
                    println!("entry {index}, {id}");
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(refused) => bail!("add: {}", refused.refusal),
        }
    }

    fn record(&self, id: &str, (when, now): (UnixMillis, UnixMillis), summary: &str, environment: &str) -> Value {
        let author = super::actor();
        let staff = self.staff.as_deref().unwrap_or(&author);
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
        set("customer_id", json!(self.with.customer));
        match (self.what, &self.ticket) {
            (What::Call, ticket) => {
                set("event_type", json!("CALL_LOGGED"));
                set("call_id", json!(id));
                set("call_timestamp", json!(when.rfc3339()));
                set("call_duration", json!(self.duration));
                set("customer_phone", json!(self.with.phone));
                set("staff_member", json!(staff));
                set("call_summary", json!(summary));
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
                set("content_summary", json!(summary));
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
                set("phone", json!(self.with.phone));
                set("address", json!(self.with.address));
                set("user_id", json!(staff));
                set("content_summary", json!(summary));
                set("ticket_id", json!(ticket));
                set("order_id", json!(self.order));
            }
        }
        record
    }
}
