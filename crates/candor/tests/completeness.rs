//! What is missing shows: life cycles that were planted open are found, and no others.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::http::Server;
use support::{bad, folder, good, ingest, lines};

fn record(kind: &str, time: &str, more: Value) -> String {
    let mut record = json!({
        "timestamp": time, "event_type": kind, "correlation_id": "none", "source_component": "shop",
        "environment": "test", "severity": "info",
    });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        record[name] = value;
    }
    record["event_id"] = proof::hash::sha256(record.to_string().as_bytes()).hex()[..32].into();
    format!("{record}\n")
}

/// What ends and what does not, of each cycle, in 2025; sample data.
fn planted() -> String {
    let at = |hour: u32| format!("2025-06-02T{hour:02}:00:00Z");
    let mut all = String::new();
    let mut add = |kind: &str, hour: u32, more: Value| all += &record(kind, &at(hour), more);
    for id in ["n-1", "n-2", "n-open"] {
        add("NOTIF_CREATED", 1, json!({"correlation_id": id}));
    }
    add("EMAIL_SENT", 2, json!({"correlation_id": "n-1", "message_id": "m-1@shop.example", "dsn": "2.0.0"}));
    add("NOTIF_FAILED", 2, json!({"correlation_id": "n-2"}));
    let mail = |id: &str| json!({"email_id": id, "message_content": {"template_id": "t"}});
    for id in ["E-1", "E-2", "E-open"] {
        add("EMAIL_SENT", 3, mail(id));
    }
    add("EMAIL_SENT", 3, json!({"email_id": "E-told", "delivery_tracking": {"delivery_status": "successful"}}));
    add("EMAIL_DELIVERED", 4, mail("E-1"));
    add("EMAIL_BOUNCED", 4, mail("E-2"));
    add("EMAIL_OPENED", 5, mail("E-1"));
    add("EMAIL_DELIVERED", 5, mail("E-unknown"));
    let message = |id: &str, channel: &str| json!({"message_id": id, "channel": channel});
    add("MESSAGE_SENT", 3, message("S-1", "sms"));
    add("MESSAGE_DELIVERED", 3, message("S-1", "sms"));
    add("MESSAGE_SENT", 3, message("S-open", "sms"));
    add("MESSAGE_SENT", 3, message("L-1", "letter"));
    add("ACTION_TOKEN_ISSUED", 6, json!({"correlation_id": "w-1"}));
    add("ACTION_LINK_CLICKED", 7, json!({"correlation_id": "w-1"}));
    add("ACTION_LINK_CLICKED", 7, json!({"correlation_id": "w-unknown"}));
    for id in ["O-1", "O-2"] {
        add("ORDER_PLACED", 1, json!({"order_id": id, "customer_id": "c-1"}));
        add("ORDER_COMMUNICATION", 1, json!({"order_id": id, "type": "confirmation"}));
        add("ORDER_SHIPPED", 9, json!({"order_id": id}));
    }
    add("ORDER_COMMUNICATION", 10, json!({"order_id": "O-1", "type": "shipping_notice"}));
    add("ORDER_DELIVERED", 20, json!({"order_id": "O-unknown"}));
    for id in ["T-1", "T-2", "T-open"] {
        add("TICKET_OPENED", 8, json!({"ticket_id": id, "customer_id": "c-1"}));
    }
    add("TICKET_COMMUNICATION", 9, json!({"ticket_id": "T-1", "type": "email", "direction": "outbound"}));
    add("TICKET_COMMUNICATION", 9, json!({"ticket_id": "T-open", "type": "email", "direction": "inbound"}));
    add("TICKET_RESOLVED", 9, json!({"ticket_id": "T-2"}));
    add("TICKET_RESOLVED", 9, json!({"ticket_id": "T-unknown"}));
    all
}

/// Ids that stand open, by cycle.
fn open(text: &str) -> BTreeMap<String, Vec<String>> {
    let counts = lines(&good(&["completeness", "--json", "--data", text]));
    let mut found = BTreeMap::new();
    for count in counts {
        let name = count["cycle"].as_str().expect("a name").to_owned();
        let list = lines(&good(&["completeness", &name, "--json", "--data", text]));
        assert_eq!(count["open"], json!(list.len()), "{name}");
        let ids: Vec<String> = list.iter().filter_map(|line| line["id"].as_str().map(str::to_owned)).collect();
        if !ids.is_empty() {
            found.insert(name, ids);
        }
    }
    found
}

fn expected() -> BTreeMap<String, Vec<String>> {
    let all: [(&str, &[&str]); 8] = [
        ("created_not_sent", &["n-open"]),
        ("sent_not_ended", &["E-open", "S-open"]),
        ("ended_not_begun", &["E-unknown"]),
        ("resolved_not_opened", &["T-unknown"]),
        ("delivered_not_placed", &["O-unknown"]),
        ("clicked_without_token", &["w-unknown"]),
        ("shipped_not_told", &["O-2"]),
        ("ticket_not_answered", &["T-open"]),
    ];
    all.into_iter().map(|(name, ids)| (name.to_owned(), ids.iter().map(|id| (*id).to_owned()).collect())).collect()
}

#[test]
fn what_was_planted_open_is_found_and_nothing_else() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    let (status, _, errors) = ingest(text, planted().as_bytes(), &[]);
    assert_eq!(status, 0, "{errors}");
    assert_eq!(open(text), expected());
    good(&["rebuild", "--reference", "CH-1", "--data", text]);
    assert_eq!(open(text), expected(), "made again from the log");
    // What ends late leaves the register.
    let late = [
        record("EMAIL_DELIVERED", "2025-07-01T00:00:00Z", json!({"email_id": "E-open"})),
        record(
            "TICKET_COMMUNICATION",
            "2025-07-01T00:00:00Z",
            json!({"ticket_id": "T-open", "type": "email", "direction": "outbound"}),
        ),
        record("ORDER_COMMUNICATION", "2025-07-01T00:00:00Z", json!({"order_id": "O-2", "type": "shipping_notice"})),
    ];
    ingest(text, late.concat().as_bytes(), &[]);
    let mut left = expected();
    left.remove("ticket_not_answered");
    left.remove("shipped_not_told");
    left.insert("sent_not_ended".into(), vec!["S-open".into()]);
    assert_eq!(open(text), left);
    let error = bad(1, &["completeness", "no_such", "--data", text]);
    assert!(error.contains("one of created_not_sent"), "{error}");
}

#[test]
fn the_counts_of_a_day_are_recorded_once() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    ingest(text, planted().as_bytes(), &[]);
    for _ in 0..2 {
        good(&["completeness", "--record", "--data", text]);
    }
    let recorded = lines(&good(&["search", "--kind", "COMPLETENESS", "--json", "--data", text]));
    assert_eq!(recorded.len(), 1);
    assert_eq!(
        (&recorded[0]["record"]["open"], &recorded[0]["record"]["counts"]["sent_not_ended"]),
        (&json!(9), &json!(2))
    );
    let server = Server::start(&data);
    let read = server.read_key();
    let all = server.get(&read, "/v1/completeness").json();
    assert_eq!(all["cycles"][1]["open"], 2, "{all}");
    let first = server.get(&read, "/v1/completeness/sent_not_ended?limit=1").json();
    assert_eq!(first["open"][0]["id"], "E-open");
    let next = first["next"].as_str().expect("a cursor");
    let second = server.get(&read, &format!("/v1/completeness/sent_not_ended?limit=1&cursor={next}")).json();
    assert_eq!((&second["open"][0]["id"], &second["next"]), (&json!("S-open"), &Value::Null));
    assert_eq!(server.get(&read, "/v1/completeness/none").status, 404);
    assert!(server.stop());
}

#[test]
fn what_may_still_end_is_not_called_open() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    use ledger::clock::{Clock, SystemClock};
    let now = SystemClock.now().rfc3339();
    ingest(text, record("EMAIL_SENT", &now, json!({"email_id": "E-new"})).as_bytes(), &[]);
    assert_eq!(open(text), BTreeMap::new());
}
