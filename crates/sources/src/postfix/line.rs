//! The text of a Postfix line, left to right by the grammar of the daemon that wrote it.
//!
//! What a stranger can write (a reply in parentheses, a header, an address) is cut out by its place. It is kept as it
//! is and never searched for fields: a server that answers `status=sent (queued as ...)` changes nothing.
//!
//! Longer than most files: one grammar, a third of it tests.

use super::scan::Scan;

/// Which message: what stands before the first colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId<'a>(pub &'a [u8]);

impl<'a> QueueId<'a> {
    /// Short ids: six and more capital hexadecimal digits. Long ones: twelve and more letters and digits.
    fn parse(text: &'a [u8]) -> Option<QueueId<'a>> {
        let hex = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'A'..=b'F');
        let short = text.len() >= 6 && text.iter().all(hex);
        let long = text.len() >= 12 && text.iter().all(u8::is_ascii_alphanumeric);
        ((short || long) && text.len() <= 64).then_some(QueueId(text))
    }
}

/// The other end of a connection: `name[address]:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer<'a> {
    /// Its name, `unknown` where the reverse name was not verified, or a transport or path without an address.
    pub name: &'a [u8],
    /// IPv4 or IPv6 address, or the path of a socket; empty if there is none.
    pub address: &'a [u8],
    /// Its port.
    pub port: Option<u16>,
}

/// What became of one recipient at one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The next server took it; nothing more.
    Sent,
    /// To be tried again.
    Deferred,
    /// Given up.
    Bounced,
    /// A bounce that `soft_bounce` made a retry of.
    SoftBounce,
    /// An address probe, not a delivery.
    Probe,
}

/// One attempt for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The recipient, without its angle brackets; empty where the line has none.
    pub to: &'a [u8],
    /// The address before aliases, where it differs.
    pub orig_to: Option<&'a [u8]>,
    /// Who took or refused it.
    pub relay: Peer<'a>,
    /// Seconds since it entered the queue, as written.
    pub delay: &'a [u8],
    /// Its four parts, as written.
    pub delays: &'a [u8],
    /// TLS level, from Postfix 3.11.
    pub tls: Option<&'a [u8]>,
    /// Enhanced status code.
    pub dsn: &'a [u8],
    /// What became of it.
    pub status: Status,
    /// What stands in the parentheses, verbatim: words of a stranger.
    pub reason: &'a [u8],
    /// Whether the line was cut before the last parenthesis.
    pub truncated: bool,
    /// Whether the address could end elsewhere too, since this Postfix does not quote it.
    pub ambiguous: bool,
}

impl<'a> Delivery<'a> {
    /// `queued as ID` at the end of the reason: the next queue's id, by its own word.
    pub fn queued_as(&self) -> Option<&'a [u8]> {
        self.names(b"queued as ")
    }

    /// `forwarded as ID` as the whole reason: a child of this message, by Postfix's own word.
    pub fn forwarded_as(&self) -> Option<QueueId<'a>> {
        QueueId::parse(self.reason.strip_prefix(b"forwarded as ")?)
    }

    fn names(&self, words: &[u8]) -> Option<&'a [u8]> {
        let at = memchr::memmem::rfind(self.reason, words)?;
        let mut scan = Scan::new(&self.reason[at + words.len()..]);
        let id = scan.run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        (!id.is_empty() && id.len() <= 128).then_some(id)
    }
}

/// What a policy, a filter or a header check decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The message, if there is one yet.
    pub id: Option<QueueId<'a>>,
    /// `reject`, `milter-reject`, `hold`, `discard`, ...
    pub action: &'a [u8],
    /// `RCPT`, `END-OF-MESSAGE`, `header`, ...
    pub stage: &'a [u8],
    /// Who had sent it, where that stands before any text of theirs.
    pub client: Option<Peer<'a>>,
    /// The rest, verbatim: words of a stranger.
    pub detail: &'a [u8],
}

/// What an operator or Postfix itself did to a message in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueAction {
    /// Its life ends.
    Removed,
    /// It died before it entered the queue.
    Canceled,
    /// It goes through the queue again.
    Requeued,
    /// It waits for an operator.
    Held,
    /// It no longer waits.
    Released,
    /// An operator made it expire.
    Expired,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// smtpd: a message begins.
    Client {
        /// Which.
        id: QueueId<'a>,
        /// From where.
        client: Peer<'a>,
        /// Who signed in.
        sasl_username: Option<&'a [u8]>,
        /// Its queue id before a content filter.
        orig_queue_id: Option<QueueId<'a>>,
    },
    /// pickup: a message begins on this host.
    Pickup {
        /// Which.
        id: QueueId<'a>,
        /// Of which user.
        uid: u64,
    },
    /// cleanup: its Message-ID, without brackets; may be empty or junk.
    MessageId {
        /// Which.
        id: QueueId<'a>,
        /// The id.
        message_id: &'a [u8],
    },
    /// qmgr: it is in the active queue; again at each retry.
    Active {
        /// Which.
        id: QueueId<'a>,
        /// Its envelope sender; empty for bounces.
        from: &'a [u8],
        /// Bytes.
        size: u64,
        /// Recipients after expansion.
        nrcpt: u64,
    },
    /// qmgr: all recipients still deferred fail now.
    Expired {
        /// Which.
        id: QueueId<'a>,
    },
    /// One recipient, one attempt.
    Delivery {
        /// Which.
        id: QueueId<'a>,
        /// What came of it.
        delivery: Delivery<'a>,
    },
    /// bounce: a report about a message became a message.
    Report {
        /// The message reported on.
        id: QueueId<'a>,
        /// The report.
        child: QueueId<'a>,
        /// `sender non-delivery`, `postmaster non-delivery`, `sender delay`, ...
        sort: &'a [u8],
    },
    /// Something was done to a message in the queue.
    Queue {
        /// Which.
        id: QueueId<'a>,
        /// What.
        action: QueueAction,
        /// Whether it was an operator's doing.
        operator: bool,
    },
    /// A policy, filter or check spoke.
    Verdict(Verdict<'a>),
    /// smtpd: a connection begins or ends, in order or not.
    Connection {
        /// Who.
        client: Peer<'a>,
        /// Whether it begins.
        begins: bool,
    },
    /// A logger says that it dropped lines.
    Suppressed {
        /// How many, where it says so.
        count: Option<u64>,
    },
    /// Anything else.
    Other,
}

/// Takes a line's text apart. `daemon` is the last label of the program's name.
pub fn parse<'a>(daemon: &[u8], text: &'a [u8]) -> Line<'a> {
    let found = match daemon {
        b"systemd-journald" | b"systemd-journal" | b"rsyslogd" | b"imjournal" => suppressed(text),
        b"smtpd" => connection(text).or_else(|| with_id(daemon, text)),
        _ => with_id(daemon, text),
    };
    found.unwrap_or(Line::Other)
}

fn suppressed(text: &[u8]) -> Option<Line<'static>> {
    let mut scan = Scan::new(text);
    if scan.eat(b"Suppressed ").is_some() {
        let count = scan.number()?;
        scan.eat(b" messages")?;
        return Some(Line::Suppressed { count: Some(count) });
    }
    // "imjournal: 123 messages lost due to rate-limiting", "imuxsock[pid 1]: begin to drop messages due to ..."
    scan.until(b": ")?;
    if scan.eat(b"begin to drop messages due to rate-limiting").is_some() {
        return Some(Line::Suppressed { count: None });
    }
    let count = scan.number()?;
    scan.eat(b" messages lost due to rate-limiting")?;
    Some(Line::Suppressed { count: Some(count) })
}

fn connection(text: &[u8]) -> Option<Line<'_>> {
    let mut scan = Scan::new(text);
    let begins = match (scan.eat(b"connect from "), scan.eat(b"disconnect from ")) {
        (Some(()), _) => true,
        (None, Some(())) => false,
        _ => {
            scan.eat(b"lost connection after ").or_else(|| scan.eat(b"timeout after "))?;
            scan.word();
            // "DATA (0 bytes) from"
            if scan.eat(b" (").is_some() {
                scan.number()?;
                scan.eat(b" bytes)")?;
            }
            scan.eat(b" from ")?;
            false
        }
    };
    Some(Line::Connection { client: peer(&mut scan)?, begins })
}

/// `warning: ` and its like stand before the queue id or after it.
fn level(scan: &mut Scan<'_>) {
    for word in [&b"warning: "[..], b"error: ", b"fatal: ", b"panic: ", b"info: "] {
        if scan.eat(word).is_some() {
            return;
        }
    }
}

fn with_id<'a>(daemon: &[u8], text: &'a [u8]) -> Option<Line<'a>> {
    let mut scan = Scan::new(text);
    level(&mut scan);
    // Before Postfix 3.10 a proxy's verdict has no id at all.
    if scan.eat(b"NOQUEUE: ").is_some() || text.starts_with(b"proxy-") {
        return verdict(None, scan);
    }
    let id = QueueId::parse(scan.until(b": ")?)?;
    // A verdict "warning: header ..." has the same word as a level; what follows tells them apart.
    if let Some(verdict) = verdict(Some(id), scan) {
        return Some(verdict);
    }
    level(&mut scan);
    match daemon {
        b"smtpd" => client(id, scan),
        b"pickup" => {
            scan.eat(b"uid=")?;
            Some(Line::Pickup { id, uid: scan.number()? })
        }
        b"cleanup" => cleanup(id, scan),
        b"qmgr" | b"oqmgr" => qmgr(id, scan),
        b"bounce" => bounce(id, scan),
        b"postsuper" => postsuper(id, scan),
        _ => Some(Line::Delivery { id, delivery: delivery(scan)? }),
    }
}

/// `name[address]:port`, the port where there is one; `local`, `none` and the like stand alone.
fn peer<'a>(scan: &mut Scan<'a>) -> Option<Peer<'a>> {
    let name = scan.run(|byte| !matches!(byte, b'[' | b',' | b' ' | b';'));
    if scan.eat(b"[").is_none() {
        return (!name.is_empty()).then_some(Peer { name, address: b"", port: None });
    }
    let address = scan.until(b"]")?;
    let mut port = None;
    let mut after = *scan;
    if after.eat(b":").is_some()
        && let Some(number) = after.number()
    {
        port = Some(u16::try_from(number).ok()?);
        *scan = after;
    }
    Some(Peer { name, address, port })
}

fn client<'a>(id: QueueId<'a>, mut scan: Scan<'a>) -> Option<Line<'a>> {
    scan.eat(b"client=")?;
    let client = peer(&mut scan)?;
    let mut sasl_username = None;
    let mut orig_queue_id = None;
    // In this order and no other, each at most once.
    if scan.eat(b", sasl_method=").is_some() {
        scan.word();
    }
    if scan.eat(b", sasl_username=").is_some() {
        sasl_username = Some(scan.run(|byte| byte != b','));
    }
    if scan.eat(b", sasl_sender=").is_some() {
        scan.run(|byte| byte != b',');
    }
    if scan.eat(b", orig_queue_id=").is_some() {
        orig_queue_id = QueueId::parse(scan.word());
    }
    Some(Line::Client { id, client, sasl_username, orig_queue_id })
}

fn cleanup<'a>(id: QueueId<'a>, mut scan: Scan<'a>) -> Option<Line<'a>> {
    if scan.eat(b"message-id=").or_else(|| scan.eat(b"resent-message-id=")).is_some() {
        let text = scan.rest;
        let inner = text.strip_prefix(b"<").and_then(|text| text.strip_suffix(b">"));
        return Some(Line::MessageId { id, message_id: inner.unwrap_or(text) });
    }
    let action = match scan.rest {
        b"removed (canceled)" | b"removed (discarded)" | b"canceled" => QueueAction::Canceled,
        b"removed" => QueueAction::Removed,
        _ => return None,
    };
    Some(Line::Queue { id, action, operator: false })
}

fn qmgr<'a>(id: QueueId<'a>, mut scan: Scan<'a>) -> Option<Line<'a>> {
    if scan.rest == b"removed" {
        return Some(Line::Queue { id, action: QueueAction::Removed, operator: false });
    }
    scan.eat(b"from=")?;
    let (from, _) = address(&mut scan)?;
    scan.eat(b", ")?;
    if scan.eat(b"status=expired").or_else(|| scan.eat(b"status=force-expired")).is_some() {
        return Some(Line::Expired { id });
    }
    scan.eat(b"size=")?;
    let size = scan.number()?;
    scan.eat(b", nrcpt=")?;
    Some(Line::Active { id, from, size, nrcpt: scan.number()? })
}

fn bounce<'a>(id: QueueId<'a>, mut scan: Scan<'a>) -> Option<Line<'a>> {
    let sort = scan.until(b" notification: ").or_else(|| scan.until(b": "))?;
    Some(Line::Report { id, child: QueueId::parse(scan.rest)?, sort })
}

fn postsuper<'a>(id: QueueId<'a>, scan: Scan<'a>) -> Option<Line<'a>> {
    let action = match scan.rest {
        b"removed" => QueueAction::Removed,
        b"requeued" => QueueAction::Requeued,
        b"placed on hold" => QueueAction::Held,
        b"released from hold" => QueueAction::Released,
        b"expired" => QueueAction::Expired,
        _ => return None,
    };
    Some(Line::Queue { id, action, operator: true })
}

/// `<address>` or a bare word; whether its end is certain. A quoted local part may hold anything, so quotes are gone
/// over with their escapes; without them the first `>` that the grammar allows to end it does.
fn address<'a>(scan: &mut Scan<'a>) -> Option<(&'a [u8], bool)> {
    if scan.eat(b"<").is_none() {
        let bare = scan.run(|byte| byte != b',' && byte != b' ');
        return (!bare.is_empty()).then_some((bare, true));
    }
    let text = scan.rest;
    let mut at = 0;
    if text.first() == Some(&b'"') {
        at = 1;
        while *text.get(at)? != b'"' {
            at += if text[at] == b'\\' { 2 } else { 1 };
        }
    }
    loop {
        at += memchr::memchr(b'>', text.get(at..)?)?;
        let after = &text[at + 1..];
        if after.is_empty() || after.starts_with(b", ") || after.starts_with(b" ") {
            // An unquoted address with a space or comma is of the form that older releases logged as it was.
            let certain = text.first() == Some(&b'"') || !text[..at].iter().any(|b| matches!(b, b' ' | b',' | b'>'));
            scan.rest = after;
            return Some((&text[..at], certain));
        }
        at += 1;
    }
}

fn delivery<'a>(mut scan: Scan<'a>) -> Option<Delivery<'a>> {
    let (mut to, mut orig_to, mut certain) = (&b""[..], None, true);
    let mut relay = Peer { name: b"none", address: b"", port: None };
    let (mut delay, mut delays, mut tls, mut dsn) = (&b""[..], &b""[..], None, &b""[..]);
    if scan.eat(b"to=").is_some() {
        (to, certain) = address(&mut scan)?;
        scan.eat(b", ")?;
        if scan.eat(b"orig_to=").is_some() {
            let (address, sure) = address(&mut scan)?;
            (orig_to, certain) = (Some(address), certain && sure);
            scan.eat(b", ")?;
        }
        scan.eat(b"relay=")?;
        relay = peer(&mut scan)?;
        scan.eat(b", ")?;
        if scan.eat(b"conn_use=").is_some() {
            scan.until(b", ")?;
        }
        scan.eat(b"delay=")?;
        delay = scan.until(b", ")?;
        scan.eat(b"delays=")?;
        delays = scan.until(b", ")?;
        if scan.eat(b"tls=").is_some() {
            tls = Some(scan.until(b", ")?);
        }
        scan.eat(b"dsn=")?;
        dsn = scan.until(b", ")?;
    }
    scan.eat(b"status=")?;
    let status = match scan.word() {
        b"sent" => Status::Sent,
        b"deferred" => Status::Deferred,
        b"bounced" => Status::Bounced,
        b"SOFTBOUNCE" => Status::SoftBounce,
        word if word.starts_with(b"deliverable") || word.starts_with(b"undeliverable") => Status::Probe,
        _ => return None,
    };
    scan.eat(b" (")?;
    let reason = scan.rest.strip_suffix(b")");
    Some(Delivery {
        to,
        orig_to,
        relay,
        delay,
        delays,
        tls,
        dsn,
        status,
        reason: reason.unwrap_or(scan.rest),
        truncated: reason.is_none(),
        ambiguous: !certain,
    })
}

/// `ACTION: STAGE from h[ip]: detail`, or `ACTION: header TEXT ...` by cleanup.
fn verdict<'a>(id: Option<QueueId<'a>>, mut scan: Scan<'a>) -> Option<Line<'a>> {
    const ACTIONS: [&[u8]; 17] = [
        b"reject",
        b"reject_warning",
        b"accept",
        b"defer",
        b"discard",
        b"filter",
        b"hold",
        b"redirect",
        b"bcc",
        b"prepend",
        b"replace",
        b"strip",
        b"warn",
        b"warning",
        b"info",
        b"proxy-accept",
        b"proxy-reject",
    ];
    const STAGES: [&[u8]; 16] = [
        b"CONNECT",
        b"EHLO",
        b"HELO",
        b"MAIL",
        b"RCPT",
        b"DATA",
        b"BDAT",
        b"END-OF-MESSAGE",
        b"VRFY",
        b"ETRN",
        b"UNKNOWN",
        b"header",
        b"body",
        b"mime-error",
        b"mime-header",
        b"nested-header",
    ];
    let action = scan.run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !ACTIONS.contains(&action) && !action.starts_with(b"milter-") {
        return None;
    }
    scan.eat(b": ")?;
    let stage = scan.word();
    if !STAGES.contains(&stage) {
        return None;
    }
    let mut client = None;
    if scan.eat(b" from ").is_some() {
        client = Some(peer(&mut scan)?);
    }
    let _ = scan.eat(b": ").or_else(|| scan.eat(b" "));
    Some(Line::Verdict(Verdict { id, action, stage, client, detail: scan.rest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delivery(text: &str) -> Delivery<'_> {
        match parse(b"smtp", text.as_bytes()) {
            Line::Delivery { delivery, .. } => delivery,
            other => panic!("{text}: {other:?}"),
        }
    }

    const HEAD: &str = "relay=mx.example[192.0.2.1]:25, delay=1.5, delays=0.1/0/1/0.4, dsn=2.0.0, status=";

    #[test]
    fn a_delivery_is_read_left_to_right() {
        let line = "4XyzAB1234cdz5F: to=<a@mail.example>, orig_to=<info>, relay=mx.example[2001:db8::1]:25, conn_use=3, delay=1.5, delays=0.1/0/1/0.4, tls=dane/requiretls, dsn=2.1.5, status=sent (250 2.0.0 Ok: queued as 153053D)";
        let found = delivery(line);
        assert_eq!((found.to, found.orig_to), (&b"a@mail.example"[..], Some(&b"info"[..])));
        assert_eq!(
            (found.relay.name, found.relay.address, found.relay.port),
            (&b"mx.example"[..], &b"2001:db8::1"[..], Some(25))
        );
        assert_eq!(
            (found.tls, found.dsn, found.delays),
            (Some(&b"dane/requiretls"[..]), &b"2.1.5"[..], &b"0.1/0/1/0.4"[..])
        );
        assert_eq!(
            (found.status, found.queued_as(), found.truncated, found.ambiguous),
            (Status::Sent, Some(&b"153053D"[..]), false, false)
        );
    }

    #[test]
    fn what_a_stranger_wrote_changes_nothing() {
        for reason in [
            "host mx said: 550 (nested (twice)) see http://x.example/?a=1&status=sent",
            "550-5.7.1 first 550 5.7.1 last (in reply to RCPT TO command)",
            "x), to=<b@mail.example>, relay=evil[192.0.2.9]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (ok",
            "ABCDEF: removed",
            "",
        ] {
            let line = format!("ABCDEF: to=<a@mail.example>, {HEAD}bounced ({reason})");
            let found = delivery(&line);
            assert_eq!(
                (found.status, found.to, found.reason),
                (Status::Bounced, &b"a@mail.example"[..], reason.as_bytes()),
                "{reason}"
            );
        }
        for (address, certain) in [
            (r#""a>, relay=evil"@mail.example"#, true),
            (r#""a\">, relay=evil"@mail.example"#, true),
            ("a b@mail.example", false),
            ("a,b@mail.example", false),
            ("müller@mail.example", true),
            ("", true),
        ] {
            let line = format!("ABCDEF: to=<{address}>, {HEAD}sent (ok)");
            let found = delivery(&line);
            assert_eq!((found.to, found.ambiguous), (address.as_bytes(), !certain), "{address}");
        }
    }

    #[test]
    fn cut_lines_probes_and_lines_without_a_recipient() {
        let cut = format!("ABCDEF: to=<a@mail.example>, {HEAD}deferred (host mx said: 4");
        assert_eq!((delivery(&cut).status, delivery(&cut).truncated), (Status::Deferred, true));
        let probe = format!("ABCDEF: to=<a@mail.example>, {HEAD}undeliverable-but-not-cached (User unknown)");
        assert_eq!(delivery(&probe).status, Status::Probe);
        let bare = delivery("ABCDEF: status=deferred (bounce failed)");
        assert_eq!((bare.to, bare.status), (&b""[..], Status::Deferred));
        let soft = format!("ABCDEF: to=<a@mail.example>, {HEAD}SOFTBOUNCE (no)");
        assert_eq!(delivery(&soft).status, Status::SoftBounce);
        let child = format!("ABCDEF: to=<a@mail.example>, {HEAD}sent (forwarded as 123456)");
        assert_eq!(delivery(&child).forwarded_as(), Some(QueueId(b"123456")));
        let socket = delivery(
            "ABCDEF: to=<a@mail.example>, relay=1.example[private/dovecot-lmtp], delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (ok)",
        );
        assert_eq!((socket.relay.address, socket.relay.port), (&b"private/dovecot-lmtp"[..], None));
    }

    #[test]
    fn each_daemon_has_its_lines() {
        let id = QueueId(b"ABCDEF12");
        let peer = |name: &'static str, address: &'static str| Peer {
            name: name.as_bytes(),
            address: address.as_bytes(),
            port: None,
        };
        let cases: Vec<(&str, &str, Line<'_>)> = vec![
            (
                "smtpd",
                "connect from unknown[192.0.2.7]",
                Line::Connection { client: peer("unknown", "192.0.2.7"), begins: true },
            ),
            (
                "smtpd",
                "disconnect from a.example[2001:db8::7] ehlo=1 quit=1 commands=2",
                Line::Connection { client: peer("a.example", "2001:db8::7"), begins: false },
            ),
            (
                "smtpd",
                "lost connection after DATA (0 bytes) from unknown[192.0.2.7]",
                Line::Connection { client: peer("unknown", "192.0.2.7"), begins: false },
            ),
            (
                "smtpd",
                "ABCDEF12: client=app.example[192.0.2.7], sasl_method=PLAIN, sasl_username=u-1, orig_queue_id=FEDCBA, orig_client=x[192.0.2.8]",
                Line::Client {
                    id,
                    client: peer("app.example", "192.0.2.7"),
                    sasl_username: Some(b"u-1"),
                    orig_queue_id: Some(QueueId(b"FEDCBA")),
                },
            ),
            ("pickup", "ABCDEF12: uid=0 from=<root>", Line::Pickup { id, uid: 0 }),
            (
                "cleanup",
                "ABCDEF12: message-id=<m-1@relay.example>",
                Line::MessageId { id, message_id: b"m-1@relay.example" },
            ),
            ("cleanup", "ABCDEF12: message-id=<>", Line::MessageId { id, message_id: b"" }),
            (
                "cleanup",
                "ABCDEF12: resent-message-id=junk, status=sent",
                Line::MessageId { id, message_id: b"junk, status=sent" },
            ),
            (
                "cleanup",
                "ABCDEF12: removed (canceled)",
                Line::Queue { id, action: QueueAction::Canceled, operator: false },
            ),
            ("cleanup", "ABCDEF12: canceled", Line::Queue { id, action: QueueAction::Canceled, operator: false }),
            (
                "qmgr",
                "ABCDEF12: from=<a@shop.example>, size=1234, nrcpt=2 (queue active)",
                Line::Active { id, from: b"a@shop.example", size: 1234, nrcpt: 2 },
            ),
            ("qmgr", "ABCDEF12: from=<>, status=expired, returned to sender", Line::Expired { id }),
            ("qmgr", "ABCDEF12: from=<>, status=force-expired, returned to sender", Line::Expired { id }),
            ("qmgr", "ABCDEF12: removed", Line::Queue { id, action: QueueAction::Removed, operator: false }),
            ("qmgr", "ABCDEF12: skipped, still being delivered", Line::Other),
            (
                "bounce",
                "ABCDEF12: sender non-delivery notification: FEDCBA",
                Line::Report { id, child: QueueId(b"FEDCBA"), sort: b"sender non-delivery" },
            ),
            ("postsuper", "ABCDEF12: placed on hold", Line::Queue { id, action: QueueAction::Held, operator: true }),
            ("postsuper", "Deleted: 3 messages", Line::Other),
            (
                "systemd-journald",
                "Suppressed 1234 messages from postfix.service",
                Line::Suppressed { count: Some(1234) },
            ),
            ("rsyslogd", "imjournal: begin to drop messages due to rate-limiting", Line::Suppressed { count: None }),
            (
                "rsyslogd",
                "imjournal: 21333 messages lost due to rate-limiting",
                Line::Suppressed { count: Some(21333) },
            ),
            ("local", "ABCDEF12: passing <r> to transport=lmtp", Line::Other),
            ("anvil", "statistics: max connection rate 1/60s for (smtp:192.0.2.1) at Oct 26 18:13:50", Line::Other),
        ];
        for (daemon, text, expected) in cases {
            assert_eq!(parse(daemon.as_bytes(), text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(daemon in "smtpd|smtp|qmgr|cleanup|bounce|pickup|postsuper|local|rsyslogd", text: Vec<u8>, cut in 0usize..400) {
            let _ = parse(daemon.as_bytes(), &text);
            let line = format!(r#"ABCDEF: to=<"a>"@x>, orig_to=<b>, {HEAD}sent (queued as X)"#);
            let _ = parse(daemon.as_bytes(), &line.as_bytes()[..cut.min(line.len())]);
        }
    }
}
