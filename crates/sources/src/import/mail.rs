//! Stored mail: envelope, hashes and nothing else of a message.

use std::collections::BTreeSet;

use mail_parser::{Address, MessageParser, MimeHeaders};
use proof::hash::sha256;
use serde_json::{Map, Value, json};

/// Recipients of one message that get a record each, at most.
const RECIPIENTS_MAX: usize = 500;
/// Attachments that are told, at most: what a record has room for.
const ATTACHMENTS_MAX: usize = 50;
const SUBJECT_CHARS_MAX: usize = 998;
const ID_CHARS_MAX: usize = 256;

/// What is the same for all records of one archive.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// Domains of the business, in lower case: what they send is sent, everything else was received.
    pub own_domains: Vec<String>,
    /// Environment of the records.
    pub environment: String,
}

/// Why a message makes no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is no message.
    #[error("it is no mail message")]
    NoMessage,
    /// When it was is not known.
    #[error("it has no date that can be read")]
    NoDate,
    /// Who wrote it is not known.
    #[error("it has no sender")]
    NoSender,
    /// Whom it was for is not known.
    #[error("it has no recipient")]
    NoRecipient,
}

struct Person {
    address: String,
    name: Option<String>,
}

fn persons(address: Option<&Address<'_>>) -> Vec<Person> {
    let Some(address) = address else { return Vec::new() };
    let one = |addr: &mail_parser::Addr<'_>| {
        let address = addr.address()?.trim();
        let usable = address.contains('@') && address.len() <= 254 && !address.contains(char::is_whitespace);
        usable.then(|| Person { address: address.to_owned(), name: addr.name().map(|name| short(name, 256)) })
    };
    address.iter().filter_map(one).collect()
}

fn short(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

/// The records of a message: one for each recipient.
///
/// # Errors
/// The message lacks what every record needs.
pub fn records(raw: &[u8], archive: &Archive) -> Result<Vec<Map<String, Value>>, Unread> {
    let message = MessageParser::default().parse(raw).ok_or(Unread::NoMessage)?;
    let date = message.date().filter(|date| date.is_valid()).ok_or(Unread::NoDate)?;
    let sender = persons(message.from()).into_iter().next().ok_or(Unread::NoSender)?;
    let mut seen = BTreeSet::new();
    let recipients: Vec<Person> = [message.to(), message.cc(), message.bcc()]
        .into_iter()
        .flat_map(persons)
        .filter(|person| seen.insert(person.address.to_lowercase()))
        .take(RECIPIENTS_MAX)
        .collect();
    if recipients.is_empty() {
        return Err(Unread::NoRecipient);
    }
    let digest = sha256(raw).hex();
    // A message without an id is known by what it is.
    let id = message.message_id().map(|id| short(id, ID_CHARS_MAX)).filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| format!("sha256:{digest}"));
    let mut attachments =
        vec![json!({"name": "message", "size": raw.len(), "media_type": "message/rfc822", "sha256": digest})];
    for part in message.attachments().take(ATTACHMENTS_MAX - 1) {
        let contents = part.contents();
        let mut one = json!({
            "name": part.attachment_name().map_or_else(|| "attachment".to_owned(), |name| short(name, 256)),
            "size": contents.len(), "sha256": sha256(contents).hex(),
        });
        if let Some(sort) = part.content_type() {
            one["media_type"] =
                short(&format!("{}/{}", sort.ctype(), sort.subtype().unwrap_or("octet-stream")), 128).into();
        }
        attachments.push(one);
    }
    let subject = message.subject().map(|subject| short(subject, SUBJECT_CHARS_MAX));
    let domain = sender.address.rsplit('@').next().unwrap_or_default().to_lowercase();
    let sent = archive.own_domains.contains(&domain);
    let correlation = format!("mid:{id}");
    let correlation =
        if correlation.len() <= 128 { correlation } else { format!("mid-sha256:{}", sha256(id.as_bytes()).hex()) };
    let record = |recipient: &Person| {
        let kind = if sent { "EMAIL_SENT" } else { "EMAIL_RECEIVED" };
        let event = sha256(format!("{kind}\n{id}\n{}", recipient.address.to_lowercase()).as_bytes());
        let mut content = json!({"attachments": attachments});
        if let Some(subject) = &subject {
            content["subject"] = subject.as_str().into();
        }
        let person = |person: &Person| {
            let mut value = json!({"email": person.address});
            if let Some(name) = person.name.as_ref().filter(|name| !name.is_empty()) {
                value["name"] = name.as_str().into();
            }
            value
        };
        let record = json!({
            "timestamp": proof::time::UnixMillis((date.to_timestamp().max(0) as u64) * 1000).rfc3339(),
            "event_type": kind, "correlation_id": correlation, "source_component": "mail-archive",
            "environment": archive.environment, "severity": "info", "event_id": event.hex()[..32],
            "email_id": id, "sender_details": person(&sender), "recipient_details": person(recipient),
            "message_content": content,
        });
        match record {
            Value::Object(record) => record,
            _ => Map::new(),
        }
    };
    Ok(recipients.iter().map(record).collect())
}
