//! What the correlator tells: observations about one message, as native records, and gaps.

use std::borrow::Cow;
use std::fmt::Write as _;

use proof::time::UnixMillis;

/// Which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It is in the queue, to be sent.
    Routed,
    /// One attempt for one recipient.
    Attempt,
    /// A server that is not ours took it.
    Sent,
    /// Where one recipient's mail stands.
    Status,
    /// It will not arrive.
    Failed,
}

impl Kind {
    /// Its name in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Routed => "NOTIF_ROUTED",
            Kind::Attempt => "EMAIL_SEND_ATTEMPT",
            Kind::Sent => "EMAIL_SENT",
            Kind::Status => "EMAIL_DELIVERY_STATUS",
            Kind::Failed => "NOTIF_FAILED",
        }
    }

    /// Sets the records of one line apart.
    pub(super) fn letter(self) -> char {
        match self {
            Kind::Routed => 'r',
            Kind::Attempt => 'a',
            Kind::Sent => 's',
            Kind::Status => 'd',
            Kind::Failed => 'f',
        }
    }
}

/// One observation.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// Which record.
    pub kind: Kind,
    /// When the line was written.
    pub at: UnixMillis,
    /// The same for the same line read again: 16 bytes of a keyed hash.
    pub id: [u8; 16],
    /// What ties it to the others about this message.
    pub correlation: Cow<'a, str>,
    /// `info`, `notice`, `warning`, `error`.
    pub severity: &'static str,
    /// In which queue.
    pub queue_id: &'a [u8],
    /// Without brackets; empty if none was seen.
    pub message_id: &'a [u8],
    /// One word of `docs/sources/postfix.md`.
    pub status: &'static str,
    /// Why, as one word; empty if there is nothing to say.
    pub reason: &'static str,
    /// What the observation rests on, as one word.
    pub evidence: &'static str,
    /// The recipient, where there is one.
    pub recipient: &'a [u8],
    /// How many recipients, where that is what is known.
    pub recipient_count: Option<u32>,
    /// Enhanced status code; empty if there is none.
    pub dsn: &'a [u8],
    /// Who took or refused it; empty if there is none.
    pub relay: &'a [u8],
    /// Milliseconds since it came into the queue.
    pub delay_ms: Option<u64>,
    /// Bytes of the message.
    pub size_bytes: Option<u64>,
    /// Which time round, from 1.
    pub attempt: u16,
    /// The queue that it went on to, or the report about it.
    pub next_queue_id: &'a [u8],
    /// `line_cut`, `address_ambiguous`, `time_inferred`.
    pub marks: Marks,
}

/// What to know when reading an observation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The line was cut.
    pub line_cut: bool,
    /// The address could end elsewhere too.
    pub address_ambiguous: bool,
    /// Year and zone are inferred.
    pub time_inferred: bool,
}

/// Something is missing, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// When it showed.
    pub at: UnixMillis,
    /// The same for the same gap found again.
    pub id: [u8; 16],
    /// One word of `docs/sources/postfix.md`.
    pub reason: &'static str,
    /// Lines lost, where that is known.
    pub count: Option<u64>,
    /// Since when.
    pub from: UnixMillis,
    /// Whether it is inferred from what is missing, not said by who lost it.
    pub suspected: bool,
    /// Of which message.
    pub queue_id: Vec<u8>,
    /// Recipients that should have been seen, and that were.
    pub recipients: Option<(u32, u32)>,
}

/// What one line leads to.
#[derive(Debug)]
pub enum Event<'a> {
    /// A record of the source.
    Observed(Observation<'a>),
    /// A record of Candor's own.
    Gap(Gap),
}

/// What every record of a source says.
#[derive(Debug, Clone)]
pub struct Common {
    /// Name of the program that is spoken of.
    pub component: String,
    /// `production` and the like.
    pub environment: String,
}

impl Observation<'_> {
    /// Its client id.
    pub fn event_id(&self) -> String {
        format!("postfix-{}-{}", proof::encoding::hex(&self.id), self.kind.letter())
    }

    /// Appends the native record, one line of JSON without its end.
    pub fn write(&self, common: &Common, out: &mut Vec<u8>) {
        let mut json = Json { out, first: true };
        json.raw("timestamp", format_args!("\"{}\"", self.at.rfc3339()));
        json.word("event_type", self.kind.name());
        json.word("correlation_id", &self.correlation);
        json.word("source_component", &common.component);
        json.word("environment", &common.environment);
        json.word("severity", self.severity);
        json.word("event_id", &self.event_id());
        json.word("status", self.status);
        json.word("evidence", self.evidence);
        json.word("reason_category", self.reason);
        json.bytes("queue_id", self.queue_id);
        json.bytes("message_id", self.message_id);
        json.bytes("recipient", self.recipient);
        json.bytes("dsn", self.dsn);
        json.bytes("relay", self.relay);
        json.bytes("next_queue_id", self.next_queue_id);
        json.number("recipient_count", self.recipient_count.map(u64::from));
        json.number("delay_ms", self.delay_ms);
        json.number("size_bytes", self.size_bytes);
        json.number("attempt", (self.attempt > 0).then_some(u64::from(self.attempt)));
        let Marks { line_cut, address_ambiguous, time_inferred } = self.marks;
        let marks =
            [(line_cut, "line_cut"), (address_ambiguous, "address_ambiguous"), (time_inferred, "time_inferred")];
        let marks: Vec<&str> = marks.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        if !marks.is_empty() {
            json.raw("marks", format_args!("[\"{}\"]", marks.join("\",\"")));
        }
        json.out.push(b'}');
    }
}

/// Writes an object; empty values are left out.
struct Json<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl Json<'_> {
    fn raw(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        self.out.push(if std::mem::take(&mut self.first) { b'{' } else { b',' });
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        let _ = std::io::Write::write_fmt(self.out, value);
    }

    /// A value that is text already.
    fn word(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.raw(name, format_args!("\"{}\"", escaped(value)));
        }
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.word(name, &text(value));
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.raw(name, format_args!("{value}"));
        }
    }
}

fn escaped(value: &str) -> Cow<'_, str> {
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        return value.into();
    }
    let mut out = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.into()
}

/// Bytes of a log as text: what is no UTF-8, and what no terminal should be sent, as `\xNN`, so that nothing is lost.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    let plain = |c: char| !c.is_control();
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(plain) => text.into(),
        _ => {
            let mut out = String::with_capacity(bytes.len() + 8);
            for chunk in bytes.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if plain(c) {
                        out.push(c);
                    } else {
                        let mut buffer = [0; 4];
                        c.encode_utf8(&mut buffer).bytes().for_each(|byte| push_hex(&mut out, byte));
                    }
                }
                chunk.invalid().iter().for_each(|byte| push_hex(&mut out, *byte));
            }
            out.into()
        }
    }
}

fn push_hex(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_and_not_lost() {
        assert_eq!(text("thabo@shöp.example".as_bytes()), "thabo@shöp.example");
        assert_eq!(text(b"caf\xe9\x00\x1b[2J@x.example"), "caf\\xe9\\x00\\x1b[2J@x.example");
    }
}
