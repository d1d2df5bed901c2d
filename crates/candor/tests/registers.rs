//! Things come back whole, as they stood, and without what was erased; over HTTP and by command.

mod support;

use serde_json::{Value, json};
use support::http::Server;
use support::{folder, good, ingest};

/// Records of one customer, a minute apart; sample data.
fn records() -> String {
    let events = [
        (
            "TICKET_OPENED",
            json!({"ticket_id": "T-1", "customer_id": "c-1", "subject": "kettle broken", "issue_category": "product", "priority_level": "high", "initial_contact_method": "phone"}),
        ),
        (
            "CALL_LOGGED",
            json!({"call_id": "K-1", "customer_id": "c-1", "customer_phone": "082 555 0100", "call_duration": 95, "call_direction": "inbound", "staff_member": "u-7", "call_summary": "kettle leaks", "ticket_id": "T-1", "outcome": "callback_required", "follow_up_required": "yes"}),
        ),
        (
            "TICKET_STATUS_CHANGED",
            json!({"ticket_id": "T-1", "customer_id": "c-1", "previous_status": "open", "new_status": "in_progress", "changed_by": "u-7", "reason": "asked for a photograph"}),
        ),
        (
            "ORDER_PLACED",
            json!({"order_id": "O-1", "customer_id": "c-1", "order_source": "website", "amount": "R 499,00"}),
        ),
        (
            "ORDER_PAYMENT",
            json!({"order_id": "O-1", "payment_audit": {"payment_method": "credit_card", "payment_status": "captured", "amount": {"value": "499.00", "currency": "ZAR"}}}),
        ),
        (
            "delivered",
            json!({"order_id": "O-1", "customer_id": "c-1", "shipping_audit": {"carrier": "van", "shipping_address": "1 Sample Street"}}),
        ),
        (
            "TICKET_RESOLVED",
            json!({"ticket_id": "T-1", "customer_id": "c-1", "resolution_details": {"resolution_type": "solved", "resolution_summary": "sent another"}}),
        ),
        (
            "SESSION_STARTED",
            json!({"session_id": "S-1", "user_id": "u-7", "login_method": "mfa", "ip_address": "192.0.2.7"}),
        ),
        (
            "SESSION_SECURITY_EVENT",
            json!({"session_id": "S-1", "user_id": "u-7", "security_event": "failed_login", "response": "locked"}),
        ),
        (
            "DATA_MODIFIED",
            json!({"data_id": "D-1", "data_type": "customer_data", "user_id": "u-7", "customer_id": "c-1", "modification_type": "update", "field_changes": [{"field_name": "phone", "previous_value": "a", "new_value": "b", "change_reason": "asked"}], "approval_required": "no"}),
        ),
        (
            "REQUEST_RECEIVED",
            json!({"request_id": "R-1", "request_type": "access", "customer_id": "c-1", "request_channel": "email"}),
        ),
        (
            "CONSENT_GIVEN",
            json!({"consent_id": "G-1", "customer_id": "c-1", "consent_type": "marketing", "consent_method": "opt_in", "wording_version": "w-3"}),
        ),
        (
            "BREACH_DISCOVERED",
            json!({"incident_id": "B-1", "incident_type": "unauthorized_access", "affected_records": {"customers": 12}}),
        ),
        (
            "MESSAGE_SENT",
            json!({"message_id": "M-1", "channel": "sms", "customer_id": "c-1", "phone": "082 555 0100", "content_summary": "on its way"}),
        ),
        ("TEMPLATE_CREATED", json!({"template_id": "P-1", "version_number": "1", "author": "u-7"})),
        (
            "EMAIL_SENT",
            json!({"email_id": "E-1", "recipient_details": {"customer_id": "c-1"}, "message_content": {"subject": "your kettle"}}),
        ),
    ];
    let line = |(minute, (kind, mut fields)): (usize, (&str, Value))| {
        let common = json!({"timestamp": format!("2026-03-02T08:{minute:02}:00Z"), "event_type": kind, "correlation_id": "c", "source_component": "shop", "environment": "test", "severity": "info", "event_id": format!("e-{minute}")});
        for (name, value) in common.as_object().cloned().unwrap_or_default() {
            fields[name] = value;
        }
        fields.to_string() + "\n"
    };
    events.into_iter().enumerate().map(line).collect()
}

fn shown(data: &str, what: &[&str]) -> Value {
    let mut arguments = vec!["show", "--data", data, "--json"];
    arguments.extend(what);
    serde_json::from_str(&good(&arguments)).expect("JSON")
}

#[test]
fn things_come_back_whole_at_any_time_and_without_who_was_erased() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    let (status, _, said) = ingest(text, records().as_bytes(), &[]);
    assert_eq!(status, 0, "{said}");

    let ticket = shown(text, &["ticket", "T-1"]);
    assert_eq!((&ticket["subject"], &ticket["status"]), (&json!("kettle broken"), &json!("resolved")));
    assert_eq!(ticket["status_history"][0]["reason"], "asked for a photograph");
    let entry = ticket["status_history"][0]["entry"].to_string();
    assert_eq!(shown(text, &[&entry])["record"]["new_status"], "in_progress");
    let before = shown(text, &["ticket", "T-1", "--at", "2026-03-02T08:01:30Z"]);
    assert_eq!((before["status"].as_str(), before.get("resolution_details")), (Some("open"), None));
    let order = shown(text, &["order", "O-1"]);
    assert_eq!(order["flags"][0]["rule"], "delivered_before_shipped");
    assert_eq!(order["normal"]["amount"], json!({"value": "499.00", "currency": "ZAR"}));
    assert_eq!(shown(text, &["session", "S-1"])["security_events"][0]["event_type"], "failed_login");
    assert_eq!(shown(text, &["request", "R-1"])["processing_timeline"]["target_completion"], "2026-04-01");
    let missing = support::bad(1, &["show", "--data", text, "ticket", "T-2"]);
    assert!(missing.contains("nothing of this id"), "{missing}");

    // Made again from the log it is the same, byte for byte.
    let things = [
        ("emails", "E-1"),
        ("templates", "P-1"),
        ("tickets", "T-1"),
        ("calls", "K-1"),
        ("messages", "M-1"),
        ("orders", "O-1"),
        ("sessions", "S-1"),
        ("data", "D-1"),
        ("requests", "R-1"),
        ("consents", "G-1"),
        ("breaches", "B-1"),
    ];
    let now = "2026-11-20T00:00:00Z";
    let all = || things.map(|(register, id)| shown(text, &[register, id, "--at", now]));
    let first = all();
    good(&["rebuild", "--data", text]);
    assert_eq!(first, all());

    {
        let server = Server::start(&data);
        let read = server.read_key();
        for ((register, id), thing) in things.iter().zip(&first) {
            let answer = server.get(&read, &format!("/v1/{register}/{id}?at={now}"));
            assert_eq!((answer.status, &answer.json()["thing"]), (200, thing), "{register}");
        }
        assert_eq!(server.get(&read, "/v1/tickets/T-9").status, 404);
        assert_eq!(server.get(&read, "/v1/tickets/T-1?at=2026-03-01T00:00:00Z").status, 404, "not yet");
        assert_eq!(server.get(&read, "/v1/tickets/T-1?at=yesterday").status, 400);
        assert_eq!(server.get(&server.append_key(), "/v1/tickets/T-1").status, 403);
        assert!(server.stop());
    }

    good(&["erase", "--data", text, "--customer", "c-1", "--reason", "asked", "--yes"]);
    let ticket = shown(text, &["ticket", "T-1"]);
    assert_eq!(
        (&ticket["status"], &ticket["status_history"][0]["new_status"]),
        (&json!("resolved"), &json!("in_progress"))
    );
    let all = all().map(|thing| thing.to_string()).concat();
    for word in ["kettle", "photograph", "555 0100", "Sample Street", "c-1"] {
        assert!(!all.contains(word), "{word} is still there");
    }
    assert!(all.contains("192.0.2.7"), "the member of staff was not erased");
}
