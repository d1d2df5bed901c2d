//! What becomes of messages by their lines: each test is a piece of log and what it must lead to. Hosts, addresses and
//! networks are reserved ones (RFC 2606, RFC 5737).

use std::collections::BTreeMap;

use proof::time::UnixMillis;
use proptest::prelude::*;
use sources::postfix::correlate::{Correlator, Options, Taken};
use sources::postfix::event::{Event, Kind};

/// 2026-03-01T00:00:00Z.
const SEEN: UnixMillis = UnixMillis(1_772_323_200_000);

fn options() -> Options {
    Options { keep_addresses: true, key: [7; 32], ..Options::default() }
}

/// An event as one line: `kind status reason [xN] [to] [>next]`.
fn told(event: &Event<'_>) -> String {
    let mut out = String::new();
    match event {
        Event::Observed(seen) => {
            let kind = match seen.kind {
                Kind::Routed => "routed",
                Kind::Attempt => "attempt",
                Kind::Sent => "sent",
                Kind::Status => "status",
                Kind::Failed => "failed",
            };
            out.push_str(&format!("{kind} {} {}", seen.status, seen.reason));
            if let Some(count) = seen.recipient_count {
                out.push_str(&format!(" x{count}"));
            }
            if !seen.recipient.is_empty() {
                out.push_str(&format!(" {}", String::from_utf8_lossy(seen.recipient)));
            }
            if !seen.next_queue_id.is_empty() {
                out.push_str(&format!(" >{}", String::from_utf8_lossy(seen.next_queue_id)));
            }
        }
        Event::Gap(gap) => {
            out.push_str(&format!("gap {}", gap.reason));
            if let Some((expected, found)) = gap.recipients {
                out.push_str(&format!(" {found} of {expected}"));
            }
            if let Some(count) = gap.count {
                out.push_str(&format!(" {count} lines"));
            }
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines without their head: second of the day, daemon and process, text.
fn framed(lines: &str) -> Vec<String> {
    let framed = |line: &str| {
        let line = line.trim_start();
        let (second, rest) = line.split_once(' ').expect("a second");
        let second: u32 = second.parse().expect("a number");
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let (head, text) = rest.split_once(": ").expect("a program");
        if head.starts_with("systemd") {
            return format!("Jan 05 {hour:02}:{minute:02}:{second:02} mx1 {head}[9]: {text}");
        }
        format!("Jan 05 {hour:02}:{minute:02}:{second:02} mx1 postfix/{head}[9]: {text}")
    };
    lines.lines().filter(|line| !line.trim().is_empty()).map(framed).collect()
}

fn run(lines: &str) -> Vec<String> {
    let mut correlator = Correlator::new(options());
    let mut found = Vec::new();
    for line in framed(lines) {
        let taken = correlator.line(line.as_bytes(), SEEN, &mut |event| found.push(told(&event)));
        assert_eq!(taken, Taken::Understood, "{line}");
    }
    correlator.end_of_input(&mut |event| found.push(told(&event)));
    found
}

fn check(lines: &str, expected: &[&str]) {
    assert_eq!(run(lines), expected);
}

const OPEN: &str = "1 smtpd: A1B2C3: client=localhost[127.0.0.1]
    1 cleanup: A1B2C3: message-id=<m-1@shop.example>
    1 qmgr: A1B2C3: from=<orders@shop.example>, size=900, nrcpt=1 (queue active)\n";

#[test]
fn a_mail_that_another_server_took_is_sent_and_not_more() {
    check(
        &format!("{OPEN} 2 smtp: A1B2C3: to=<thabo@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1.2, delays=0.1/0/0.5/0.6, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as F00)
        2 qmgr: A1B2C3: removed"),
        &[
            "routed queued x1",
            "attempt sent thabo@mail.example >F00",
            "sent accepted_by_relay thabo@mail.example >F00",
            "status accepted_by_relay thabo@mail.example >F00",
        ],
    );
}

#[test]
fn a_hop_through_a_filter_is_not_a_delivery() {
    check(
        &format!("{OPEN} 2 smtp: A1B2C3: to=<thabo@mail.example>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 from MTA: 250 2.0.0 Ok: queued as D4E5F6)
        2 qmgr: A1B2C3: removed
        2 smtpd: D4E5F6: client=localhost[127.0.0.1], orig_queue_id=A1B2C3
        2 cleanup: D4E5F6: message-id=<m-1@shop.example>
        2 qmgr: D4E5F6: from=<orders@shop.example>, size=1200, nrcpt=1 (queue active)
        3 smtp: D4E5F6: to=<thabo@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)
        3 qmgr: D4E5F6: removed"),
        &[
            "routed queued x1",
            "attempt sent thabo@mail.example >D4E5F6",
            "status relayed thabo@mail.example >D4E5F6",
            "routed queued x1",
            "attempt sent thabo@mail.example",
            "sent accepted_by_relay thabo@mail.example",
            "status accepted_by_relay thabo@mail.example",
        ],
    );
}

#[test]
fn a_host_whose_log_we_read_is_a_hop_too() {
    let mut lines = framed(&format!(
        "{OPEN} 2 smtp: A1B2C3: to=<a@mail.example>, relay=mx2.shop.example[192.0.2.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok: queued as 0B0B0B)"
    ));
    lines.insert(0, "Jan 05 00:00:00 mx2.shop.example postfix/master[1]: daemon started".into());
    let mut correlator = Correlator::new(options());
    let mut found = Vec::new();
    for line in lines {
        correlator.line(line.as_bytes(), SEEN, &mut |event| found.push(told(&event)));
    }
    assert_eq!(found.last().map(String::as_str), Some("status relayed a@mail.example >0B0B0B"));
}

#[test]
fn each_recipient_comes_to_its_own_end() {
    check(
        "1 pickup: A1B2C3: uid=33 from=<www>
        1 cleanup: A1B2C3: message-id=<m@shop.example>
        1 qmgr: A1B2C3: from=<www@shop.example>, size=900, nrcpt=4 (queue active)
        2 smtp: A1B2C3: to=<a@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)
        2 smtp: A1B2C3: to=<b@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.mail.example[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command))
        2 smtp: A1B2C3: to=<c@mail.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx.mail.example[192.0.2.1]:25: Connection timed out)
        2 local: A1B2C3: to=<d@shop.example>, orig_to=<sales@shop.example>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to maildir)
        2 bounce: A1B2C3: sender non-delivery notification: C0FFEE
        300 qmgr: A1B2C3: from=<www@shop.example>, size=900, nrcpt=4 (queue active)
        301 smtp: A1B2C3: to=<c@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=300, delays=299/0/0/1, dsn=2.0.0, status=sent (250 Ok)
        301 qmgr: A1B2C3: removed",
        &[
            "routed queued x4",
            "attempt sent a@mail.example",
            "sent accepted_by_relay a@mail.example",
            "status accepted_by_relay a@mail.example",
            "attempt bounced no_such_recipient b@mail.example",
            "status bounced no_such_recipient b@mail.example",
            "failed bounced no_such_recipient b@mail.example",
            "attempt deferred no_answer c@mail.example",
            "status deferred no_answer c@mail.example",
            "attempt sent sales@shop.example",
            "status delivered_to_mailbox sales@shop.example",
            "status reported non_delivery >C0FFEE",
            "attempt sent c@mail.example",
            "sent accepted_by_relay c@mail.example",
            "status accepted_by_relay c@mail.example",
        ],
    );
}

#[test]
fn what_expires_fails_for_each_that_was_deferred() {
    check(
        &format!("{OPEN} 2 smtp: A1B2C3: to=<c@mail.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx[192.0.2.1]:25: Connection timed out)
        400000 qmgr: A1B2C3: from=<orders@shop.example>, status=expired, returned to sender
        400001 bounce: A1B2C3: sender non-delivery notification: C0FFEE
        400001 qmgr: A1B2C3: removed").replace("400000", "40000").replace("400001", "40001"),
        &[
            "routed queued x1",
            "attempt deferred no_answer c@mail.example",
            "status deferred no_answer c@mail.example",
            "failed expired expired x1 c@mail.example",
            "status expired expired x1 c@mail.example",
            "status reported non_delivery >C0FFEE",
        ],
    );
}

#[test]
fn a_report_is_not_the_customers_mail() {
    check(
        "1 cleanup: C0FFEE: message-id=<20260105.C0FFEE@mx1.shop.example>
        1 qmgr: C0FFEE: from=<>, size=2900, nrcpt=1 (queue active)
        2 smtp: C0FFEE: to=<orders@partner.example>, relay=mx.partner.example[192.0.2.7]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)
        2 qmgr: C0FFEE: removed",
        &["status accepted_by_relay report orders@partner.example"],
    );
}

#[test]
fn lost_lines_show() {
    // A recipient without an end.
    check(&format!("{OPEN} 2 qmgr: A1B2C3: removed"), &["routed queued x1", "gap recipients_missing 0 of 1"]);
    // A queue id used again while its message is open.
    check(
        &format!("{OPEN} 2000 smtpd: A1B2C3: client=localhost[127.0.0.1]"),
        &["routed queued x1", "gap queue_id_reused 0 of 1"],
    );
    // A logger that says so.
    check("5 systemd-journald: Suppressed 41 messages from postfix.service", &["gap lines_suppressed 41 lines"]);
    // The same after its end is a new message and nothing is missing.
    let sent = "2 smtp: A1B2C3: to=<a@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)\n2 qmgr: A1B2C3: removed\n";
    let again =
        format!("{OPEN}{sent}").replace("\n2 ", "\n22 ").replace("\n    1 ", "\n    21 ").replacen("1 ", "21 ", 1);
    let all = run(&format!("{OPEN}{sent}{again}"));
    assert!(all.iter().all(|told| !told.starts_with("gap")), "{all:?}");
}

#[test]
fn a_message_of_which_nothing_is_heard_any_more_is_told() {
    let mut correlator = Correlator::new(options());
    let mut found = Vec::new();
    for line in framed(OPEN) {
        correlator.line(line.as_bytes(), SEEN, &mut |event| found.push(told(&event)));
    }
    correlator.idle(UnixMillis(SEEN.0), &mut |event| found.push(told(&event)));
    assert_eq!(found, ["routed queued x1", "gap never_ended 0 of 1"]);
    assert_eq!(correlator.held(), 0);
}

#[test]
fn an_operator_who_takes_mail_out_is_seen() {
    check(
        &format!(
            "{OPEN} 2 postsuper: A1B2C3: placed on hold
        3 postsuper: A1B2C3: released from hold
        4 postsuper: A1B2C3: removed"
        ),
        &["routed queued x1", "status held x1", "status released x1", "failed removed operator_deleted x1"],
    );
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    let mut correlator = Correlator::new(options());
    let mut found = Vec::new();
    let lines = framed(
        "1 smtpd: A1B2C3: client=mail.example[192.0.2.1]\n 2 cleanup: A1B2C4: canceled\n 80000 qmgr: 0F0F0F: removed",
    );
    for line in lines {
        correlator.line(line.as_bytes(), SEEN, &mut |event| found.push(told(&event)));
    }
    assert_eq!((found.len(), correlator.held()), (0, 0));
}

#[test]
fn only_our_own_mail_is_told_as_refused() {
    check(
        "1 smtpd: NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 554 5.7.1 <x@mail.example>: Relay access denied; from=<a@shop.example> to=<x@mail.example> proto=ESMTP helo=<app>
        1 smtpd: NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 554 5.7.1 <y@mail.example>: Relay access denied; from=<a@shop.example> to=<y@mail.example> proto=ESMTP helo=<app>
        1 smtpd: NOQUEUE: reject: RCPT from spammer.example[198.51.100.4]: 554 5.7.1 no; from=<a@b.example> to=<c@shop.example> proto=ESMTP helo=<x>",
        &["failed rejected policy_reject", "failed rejected policy_reject"],
    );
    check(
        "1 pickup: A1B2C3: uid=0 from=<root>
        1 cleanup: A1B2C3: message-id=<m@shop.example>
        1 cleanup: A1B2C3: milter-discard: END-OF-MESSAGE from localhost[127.0.0.1]: milter triggers DISCARD action; from=<root@shop.example> to=<c@shop.example>",
        &["failed discarded discarded"],
    );
}

#[test]
fn a_strangers_text_changes_nothing() {
    let trap = r#"250 2.0.0 Ok: status=bounced (x) to=<victim@mail.example>, relay=evil, dsn=5.0.0, status=bounced (y) queued as D00D"#;
    let line = format!(
        "{OPEN} 2 smtp: A1B2C3: to=<\"a>, relay=evil\"@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent ({trap})"
    );
    let found = run(&line);
    assert_eq!(found[2], "sent accepted_by_relay \"a>, relay=evil\"@mail.example >D00D");
    assert_eq!(found.len(), 4);
}

#[test]
fn two_instances_with_one_queue_id_are_two_messages() {
    let one = framed(OPEN);
    let two: Vec<String> = one.iter().map(|line| line.replace("postfix/", "postfix-out/")).collect();
    let mut correlator = Correlator::new(options());
    let mut ids = std::collections::BTreeSet::new();
    for line in one.iter().zip(&two).flat_map(|(a, b)| [a, b]) {
        correlator.line(line.as_bytes(), SEEN, &mut |event| {
            if let Event::Observed(seen) = event {
                ids.insert(seen.id);
            }
        });
    }
    assert_eq!((ids.len(), correlator.held()), (2, 2));
}

#[test]
fn the_table_is_bounded_and_says_what_it_gave_up() {
    let mut correlator = Correlator::new(Options { messages_max: 10, ..options() });
    let mut gaps = 0;
    for n in 0..25u32 {
        let line = format!("Jan 05 00:00:01 mx1 postfix/smtpd[9]: {:06X}: client=localhost[127.0.0.1]", n + 0xA0_0000);
        correlator.line(line.as_bytes(), SEEN, &mut |event| gaps += u32::from(matches!(event, Event::Gap(_))));
        assert!(correlator.held() <= 10);
    }
    assert_eq!(gaps, 15);
}

/// A log of several messages at once, in an order that respects each message's own.
fn mixed() -> Vec<String> {
    let parts = [
        "client=localhost[127.0.0.1]",
        "message-id=<ID@shop.example>",
        "from=<orders@shop.example>, size=900, nrcpt=2 (queue active)",
        "to=<a@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)",
        "to=<b@mail.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (timed out)",
        "from=<orders@shop.example>, status=expired, returned to sender",
        "removed",
    ];
    let daemons = ["smtpd", "cleanup", "qmgr", "smtp", "smtp", "qmgr", "qmgr"];
    let mut lines = Vec::new();
    for step in 0..parts.len() + 6 {
        for message in 0..6usize {
            let Some(at) = step.checked_sub(message).filter(|at| *at < parts.len()) else { continue };
            // Every other message loses its second recipient's line.
            if at == 4 && message % 2 == 1 {
                continue;
            }
            let text = parts[at].replace("ID", &format!("m-{message}"));
            let second = step * 130 + message;
            let (minute, second) = (second / 60, second % 60);
            lines.push(format!(
                "Jan 05 00:{minute:02}:{second:02} mx1 postfix/{}[9]: {:06X}: {text}",
                daemons[at],
                0xAB_0000 + message
            ));
        }
    }
    lines
}

fn full(event: &Event<'_>) -> String {
    match event {
        Event::Observed(seen) => {
            let mut out = Vec::new();
            let common = sources::postfix::event::Common { component: "c".into(), environment: "e".into() };
            seen.write(&common, &mut out);
            String::from_utf8(out).expect("JSON is text")
        }
        Event::Gap(gap) => format!("{gap:?}"),
    }
}

#[test]
fn a_restart_after_any_line_gives_the_same_records() {
    let lines = mixed();
    let all = |stop: usize| {
        let mut found = Vec::new();
        let mut correlator = Correlator::new(options());
        for (number, line) in lines.iter().enumerate() {
            if number == stop {
                let mut bytes = Vec::new();
                correlator.write(&mut bytes).expect("a Vec takes all");
                correlator = Correlator::read(options(), &mut bytes.as_slice()).expect("it reads back");
                let mut again = Vec::new();
                correlator.write(&mut again).expect("a Vec takes all");
                assert_eq!(bytes.len(), again.len());
            }
            correlator.line(line.as_bytes(), SEEN, &mut |event| found.push(full(&event)));
        }
        correlator.idle(SEEN, &mut |event| found.push(full(&event)));
        found
    };
    let straight = all(usize::MAX);
    assert!(straight.iter().any(|event| event.contains("recipients_missing")));
    for stop in 0..lines.len() {
        assert_eq!(all(stop), straight, "restart before line {stop}");
    }
}

#[test]
fn the_same_lines_twice_have_the_same_ids() {
    let lines = mixed();
    let mut ids = BTreeMap::new();
    let mut correlator = Correlator::new(options());
    for line in lines.iter().flat_map(|line| [line, line]) {
        correlator.line(line.as_bytes(), SEEN, &mut |event| {
            if let Event::Observed(seen) = &event {
                *ids.entry(seen.event_id()).or_insert(0) += 1;
            }
        });
    }
    let once: BTreeMap<String, i32> = {
        let mut ids = BTreeMap::new();
        let mut correlator = Correlator::new(options());
        for line in &lines {
            correlator.line(line.as_bytes(), SEEN, &mut |event| {
                if let Event::Observed(seen) = &event {
                    assert!(ids.insert(seen.event_id(), 0).is_none(), "{event:?}");
                }
            });
        }
        ids
    };
    assert_eq!(ids.keys().collect::<Vec<_>>(), once.keys().collect::<Vec<_>>());
}

#[test]
fn a_snapshot_that_is_cut_or_of_another_version_is_refused() {
    let mut correlator = Correlator::new(options());
    for line in mixed().iter().take(20) {
        correlator.line(line.as_bytes(), SEEN, &mut |_| {});
    }
    let mut bytes = Vec::new();
    correlator.write(&mut bytes).expect("a Vec takes all");
    for end in 0..bytes.len() {
        assert!(Correlator::read(options(), &mut &bytes[..end]).is_err(), "cut at {end}");
    }
    let mut other = bytes.clone();
    other[9] = 2;
    assert!(Correlator::read(options(), &mut other.as_slice()).is_err());
    bytes.push(0);
    assert!(Correlator::read(options(), &mut bytes.as_slice()).is_err());
}

#[test]
fn an_erased_address_leaves_the_state() {
    let mut correlator = Correlator::new(options());
    for line in mixed().iter().take(14) {
        correlator.line(line.as_bytes(), SEEN, &mut |_| {});
    }
    let holds = |correlator: &Correlator| {
        let mut bytes = Vec::new();
        correlator.write(&mut bytes).expect("a Vec takes all");
        bytes.windows(14).any(|window| window == b"b@mail.example")
    };
    assert!(holds(&correlator));
    assert!(correlator.forget(&mut |address| address == b"b@mail.example"));
    assert!(!holds(&correlator));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_every_record_is_json(lines: Vec<Vec<u8>>, cut in 0usize..400, noise: [u8; 4]) {
        let mut correlator = Correlator::new(Options { messages_max: 3, ..options() });
        let common = sources::postfix::event::Common { component: "c".into(), environment: "e".into() };
        let altered = mixed().into_iter().map(|line| {
            let mut bytes = line.into_bytes();
            let at = cut % bytes.len();
            bytes.splice(at..at, noise);
            bytes
        });
        for line in lines.into_iter().chain(altered) {
            correlator.line(&line, SEEN, &mut |event| {
                if let Event::Observed(seen) = event {
                    let mut out = Vec::new();
                    seen.write(&common, &mut out);
                    serde_json::from_slice::<serde_json::Value>(&out).expect("JSON");
                }
            });
        }
    }
}

#[test]
fn version_1_of_the_snapshot_reads_and_is_written_the_same() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/v1");
    let golden = std::fs::read(folder.join("correlator.bin")).expect("the golden file");
    let log = std::fs::read_to_string(folder.join("correlator.log")).expect("the log");
    let mut correlator = Correlator::new(options());
    for line in log.lines() {
        correlator.line(line.as_bytes(), SEEN, &mut |_| {});
    }
    let mut written = Vec::new();
    correlator.write(&mut written).expect("a Vec takes all");
    assert!(written == golden, "the snapshot is written otherwise");
    let read = Correlator::read(options(), &mut golden.as_slice()).expect("it reads");
    assert_eq!((read.held(), read.open()), (2, 1));
    let mut again = Vec::new();
    read.write(&mut again).expect("a Vec takes all");
    assert!(again == golden, "what was read is written otherwise");
}
