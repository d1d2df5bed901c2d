//! A real Postfix with a content-filter hop and a second one as the remote side: what Candor says of fifty mails is what
//! the queues and mailboxes themselves say. Needs root and Postfix, which `.ci/run` installs.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::Server;
use support::{folder, good, python, root};

fn relay(folder: &Path, what: &str) -> String {
    let script = root().join("crates/candor/tests/support/relay.py");
    let output = Command::new("python3").arg(script).arg(folder).arg(what).output().expect("python3 runs");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Stops the relays also where the test fails.
struct Relays<'f>(&'f Path);

impl Drop for Relays<'_> {
    fn drop(&mut self) {
        relay(self.0, "stop");
    }
}

/// Every record of a kind, by (status, reason).
fn counts(server: &Server, key: &str, kind: &str) -> BTreeMap<(String, String), u64> {
    let mut found = BTreeMap::new();
    let mut path = format!("/v1/search?kind={kind}&limit=100");
    loop {
        let page = server.read(key, &path).json();
        for hit in page["entries"].as_array().expect("entries") {
            let word = |name: &str| hit["record"][name].as_str().unwrap_or_default().to_owned();
            *found.entry((word("status"), word("reason_category"))).or_insert(0) += 1;
        }
        let Some(cursor) = page["next"].as_str() else { return found };
        path = format!("/v1/search?kind={kind}&limit=100&cursor={cursor}");
    }
}

fn numbers(of: &Value) -> u64 {
    of.as_object().expect("mailboxes").values().filter_map(Value::as_u64).sum()
}

#[test]
fn what_became_of_fifty_mails_is_what_queues_and_mailboxes_say() {
    let folder = folder();
    let (mails, data) = (folder.path().join("mails"), folder.path().join("trail"));
    std::fs::create_dir(&mails).expect("made");
    relay(&mails, "start");
    let relays = Relays(&mails);
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text, "--origin", "audit.example/relay"]);
    std::fs::write(data.join("tested"), "").expect("written");
    let log = mails.join("near/mail.log");
    std::fs::write(
        data.join("candor.toml"),
        format!("[sources.relay]\nrecipients = \"full_address\"\nlog = {log:?}\n"),
    )
    .expect("written");
    let read =
        good(&["apikey", "add", "--data", text, "--scope", "read", "--role", "compliance_officer"]).trim().to_owned();
    let server = Server::start(&data);
    relay(&mails, "send");
    let truth: Value = serde_json::from_str(&relay(&mails, "truth")).expect("JSON");
    // The log is written a moment after the queue; what is asked for is the sum of all fates.
    let start = Instant::now();
    let expected = json!({"removed": 2, "expired": 2});
    loop {
        let failed = counts(&server, &read, "NOTIF_FAILED");
        let of = |status: &str| failed.iter().filter(|((s, _), _)| s == status).map(|(_, n)| n).sum::<u64>();
        if json!({"removed": of("removed"), "expired": of("expired")}) == expected {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{failed:?}");
        let (_never, timer) = std::sync::mpsc::channel::<()>();
        let _ = timer.recv_timeout(Duration::from_millis(200));
    }
    let statuses = counts(&server, &read, "EMAIL_DELIVERY_STATUS");
    let status = |status: &str, reason: &str| statuses.get(&(status.into(), reason.into())).copied().unwrap_or(0);
    println!("{truth}\n{statuses:?}");
    assert_eq!(status("accepted_by_relay", ""), numbers(&truth["far_mailboxes"]));
    assert_eq!(counts(&server, &read, "EMAIL_SENT").values().sum::<u64>(), numbers(&truth["far_mailboxes"]));
    assert_eq!(status("delivered_to_mailbox", ""), numbers(&truth["near_mailboxes"]));
    assert_eq!(status("bounced", "no_such_recipient"), 14);
    assert_eq!(counts(&server, &read, "NOTIF_FAILED")[&("bounced".into(), "no_such_recipient".into())], 14);
    assert_eq!((status("held", ""), status("released", ""), status("expired", "expired")), (3, 3, 2));
    assert_eq!(counts(&server, &read, "INGEST_GAP"), BTreeMap::new());
    // Ten waited; two were deleted, two expired.
    assert_eq!(truth["near_queue"], 6);

    // One recipient: what was said to them, a receipt that a stranger checks, and then they are forgotten.
    let hits = server.read(&read, "/v1/search?q=known7&kind=EMAIL_SENT").json();
    let index = hits["entries"][0]["index"].as_u64().expect("the mail to known7");
    let correlation = hits["entries"][0]["record"]["correlation_id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/correlations/{}/history", correlation.replace(':', "%3A").replace('@', "%40"));
    let history = server.read(&read, &path).json();
    assert!(history["entries"].as_array().is_some_and(|entries| entries.len() >= 6), "{history}");
    let receipt = folder.path().join("receipt.json");
    std::fs::write(&receipt, server.get(&read, &format!("/v1/receipts/{index}")).body).expect("written");
    assert!(server.stop());
    drop(relays);
    let address = ["--address", "known7@remote.example"];
    let known = good(&["history", "--data", text, address[0], address[1]]);
    assert!(known.contains("accepted_by_relay") && known.contains("relayed"), "{known}");
    good(&["erase", "--data", text, address[0], address[1], "--reason", "asked", "--yes"]);
    assert_eq!(good(&["history", "--data", text, address[0], address[1]]), "");
    good(&["verify", text]);
    assert_eq!(python(&receipt).0, 0);
    assert_eq!(python(&data).0, 0);
}
