//! Published log lines with their expected fields (testdata/postfix, BSD-3-Clause): what we read of a line must be what
//! another parser's authors expect of it.

use std::collections::BTreeMap;
use std::path::Path;

use sources::postfix::line::{Line, Peer, QueueAction, Status, parse};

/// What a line says, under the names of the fixture.
fn fields(line: &Line<'_>) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    let mut put = |name, bytes: &[u8]| {
        found.insert(name, String::from_utf8_lossy(bytes).into_owned());
    };
    let peer = |put: &mut dyn FnMut(&'static str, &[u8]), names: [&'static str; 3], peer: &Peer<'_>| {
        put(names[0], peer.name);
        if !peer.address.is_empty() && !peer.address.contains(&b'/') {
            put(names[1], peer.address);
        }
        if let Some(port) = peer.port {
            put(names[2], port.to_string().as_bytes());
        }
    };
    const CLIENT: [&str; 3] = ["postfix_client_hostname", "postfix_client_ip", "postfix_client_port"];
    const RELAY: [&str; 3] = ["postfix_relay_hostname", "postfix_relay_ip", "postfix_relay_port"];
    match line {
        Line::Delivery { id, delivery } => {
            put("postfix_queueid", id.0);
            peer(&mut put, RELAY, &delivery.relay);
            let status = match delivery.status {
                Status::Sent => "sent",
                Status::Deferred => "deferred",
                Status::Bounced => "bounced",
                Status::SoftBounce => "SOFTBOUNCE",
                Status::Probe => "undeliverable-but-not-cached",
            };
            put("postfix_status", status.as_bytes());
        }
        Line::Report { id, child, sort } => {
            put("postfix_queueid", id.0);
            put("postfix_bounce_queueid", child.0);
            let mut words = sort.splitn(2, |byte| *byte == b' ');
            put("postfix_bounce_recipient", words.next().unwrap_or_default());
            put("postfix_bounce_reason", words.next().unwrap_or_default());
        }
        Line::Queue { id, action, operator } => {
            put("postfix_queueid", id.0);
            if *operator && *action == QueueAction::Held {
                put("postfix_postsuper_action", b"placed on hold");
            }
        }
        Line::Verdict(verdict) => {
            if let Some(id) = verdict.id {
                put("postfix_queueid", id.0);
            }
            put("postfix_action", verdict.action);
            put("postfix_smtp_stage", verdict.stage);
            if let Some(client) = &verdict.client {
                peer(&mut put, CLIENT, client);
            }
        }
        Line::Connection { client, .. } => peer(&mut put, CLIENT, client),
        Line::Active { id, .. } | Line::Expired { id } | Line::MessageId { id, .. } => put("postfix_queueid", id.0),
        Line::Pickup { id, uid } => {
            put("postfix_queueid", id.0);
            put("postfix_uid", uid.to_string().as_bytes());
        }
        Line::Client { id, client, .. } => {
            put("postfix_queueid", id.0);
            peer(&mut put, CLIENT, client);
        }
        Line::Suppressed { .. } | Line::Other => {}
    }
    found
}

#[test]
fn published_lines_are_read_as_their_authors_expect() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/postfix/lines.jsonl");
    let text = std::fs::read_to_string(path).expect("the fixture");
    let (mut lines, mut compared) = (0, 0);
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (daemon, log) = (case["daemon"].as_str().expect("a daemon"), case["text"].as_str().expect("a text"));
        // Fragments of lines test patterns that are no lines.
        let daemon = match daemon {
            "tls_features" => "smtp",
            other => other,
        };
        let found = fields(&parse(daemon.as_bytes(), log.as_bytes()));
        lines += usize::from(!found.is_empty());
        for (name, value) in &found {
            let Some(expected) = case["expected"].get(*name) else { continue };
            let expected = expected.as_str().map_or_else(|| expected.to_string(), str::to_owned);
            assert_eq!(*value, expected, "{name} of {log}");
            compared += 1;
        }
    }
    println!("{lines} of {} lines understood, {compared} fields compared", text.lines().count());
    assert!(lines >= 25 && compared >= 50, "{lines} lines, {compared} fields");
}
