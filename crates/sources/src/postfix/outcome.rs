//! What one delivery line proves, and what it does not.
//!
//! `sent` has four meanings: a hop inside our own relay, a mailbox of ours, a program of ours, another server. Only the
//! last is told as sent, and even that means no more than that the next server took responsibility.

use super::line::{Delivery, Status};
use super::messages::State;

/// Where a delivery was made.
pub(super) struct Place<'a> {
    /// The daemon that made it.
    pub(super) daemon: &'a [u8],
    /// Whether its relay is one of ours.
    pub(super) hop: bool,
}

/// See the module.
pub(super) struct Outcome<'a> {
    /// Of the attempt: `sent`, `deferred`, `bounced`.
    pub(super) attempt: &'static str,
    /// Of the recipient: one word of `docs/sources/postfix.md`.
    pub(super) status: &'static str,
    pub(super) severity: &'static str,
    pub(super) evidence: &'static str,
    pub(super) reason: &'static str,
    pub(super) state: State,
    /// A server that is not ours took it.
    pub(super) sent: bool,
    /// It will not arrive.
    pub(super) failed: bool,
    /// The queue it went on to, by the word of who took it.
    pub(super) next: &'a [u8],
}

/// Programs that put mail into mailboxes, by the names under which Postfix runs them.
const MAILBOX_PIPES: [&[u8]; 6] = [b"dovecot", b"cyrus", b"maildrop", b"procmail", b"mailman", b"bsmtp"];

/// What a delivery line proves; nothing for a probe.
pub(super) fn outcome<'a>(delivery: &Delivery<'a>, place: &Place<'_>) -> Option<Outcome<'a>> {
    let category = category(delivery.dsn);
    let said = memchr::memmem::find(delivery.reason, b" said: ").is_some();
    let by_whom = if said { "remote_said" } else { "own_relay" };
    let unsent = |status, severity, state, failed| Outcome {
        attempt: if failed { "bounced" } else { "deferred" },
        status,
        severity,
        evidence: by_whom,
        reason: category,
        state,
        sent: false,
        failed,
        next: b"",
    };
    match delivery.status {
        Status::Probe => None,
        Status::Deferred => Some(unsent("deferred", "notice", State::Deferred, false)),
        Status::SoftBounce => {
            Some(Outcome { reason: "soft_bounce", ..unsent("deferred", "notice", State::Deferred, false) })
        }
        Status::Bounced => Some(unsent("bounced", "warning", State::Final, true)),
        Status::Sent => Some(taken(delivery, place)),
    }
}

fn taken<'a>(delivery: &Delivery<'a>, place: &Place<'_>) -> Outcome<'a> {
    let went = |status, evidence, next| Outcome {
        attempt: "sent",
        status,
        severity: "info",
        evidence,
        reason: "",
        state: State::Final,
        sent: false,
        failed: false,
        next,
    };
    let starts = |words: &[u8]| delivery.reason.starts_with(words);
    let queued = delivery.queued_as();
    match place.daemon {
        // Accepted and thrown away, which the sender never learns.
        b"discard" => {
            Outcome { severity: "error", reason: "discarded", failed: true, ..went("discarded", "own_relay", b"") }
        }
        b"local" if delivery.forwarded_as().is_some() => {
            went("relayed", "own_hop", delivery.forwarded_as().map_or(b"", |id| id.0))
        }
        b"local" if starts(b"delivered to command") => went("handed_to_program", "own_program", b""),
        b"local" | b"virtual" => went("delivered_to_mailbox", "own_mailbox", b""),
        b"pipe" if MAILBOX_PIPES.contains(&delivery.relay.name) => went("delivered_to_mailbox", "own_mailbox", b""),
        b"pipe" => went("handed_to_program", "own_program", b""),
        // By LMTP to a store of ours, unless it passes the mail on.
        b"lmtp" if queued.is_none() => went("delivered_to_mailbox", "own_mailbox", b""),
        _ if place.hop => went("relayed", "own_hop", queued.unwrap_or_default()),
        _ => {
            let verified = delivery.tls.is_some_and(|level| level.to_ascii_lowercase().starts_with(b"verif"));
            let evidence = if verified { "next_server_reply_tls_verified" } else { "next_server_reply" };
            Outcome { sent: true, ..went("accepted_by_relay", evidence, queued.unwrap_or_default()) }
        }
    }
}

/// The kind of trouble that an enhanced status code names (RFC 3463 and the registry of RFC 5248): subject and detail.
fn category(dsn: &[u8]) -> &'static str {
    let mut parts = dsn.splitn(3, |byte| *byte == b'.').skip(1);
    let (subject, detail) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match (subject, detail) {
        (b"1", b"1" | b"2" | b"3" | b"6" | b"10") => "no_such_recipient",
        (b"1", b"7" | b"8" | b"9") => "sender_refused",
        (b"1", _) => "address",
        (b"2", b"1") => "mailbox_disabled",
        (b"2", b"2") => "mailbox_full",
        (b"2", b"3") => "message_too_large",
        (b"2", _) => "mailbox",
        (b"3", b"4") => "message_too_large",
        (b"3", _) => "system",
        (b"4", b"1") => "no_answer",
        (b"4", b"3" | b"4") => "routing",
        (b"4", b"6") => "mail_loop",
        (b"4", b"7") => "expired",
        (b"4", _) => "network",
        (b"5", _) => "protocol",
        (b"6", _) => "content",
        (b"7", b"0" | b"1") => "policy",
        (b"7", _) => "security",
        _ => "unspecified",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_code_names_its_trouble() {
        let codes: [(&[u8], &str); 6] = [
            (b"5.1.1", "no_such_recipient"),
            (b"4.2.2", "mailbox_full"),
            (b"4.4.1", "no_answer"),
            (b"5.7.1", "policy"),
            (b"5.0.0", "unspecified"),
            (b"", "unspecified"),
        ];
        for (code, name) in codes {
            assert_eq!(category(code), name);
        }
    }
}
