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
            json!({"ticket_id": "T-1", "customer_id": "c-1", "subject": "kettle broken", "issue_category": "product", "priority_level": "high", "initial_contact_method": "phone", "assigned_to": "u-7"}),
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
    good(&["rebuild", "--reference", "CH-1", "--data", text]);
    assert_eq!(first, all());

    {
        let server = Server::start(&data);
        let read = server.read_key();
        for ((register, id), thing) in things.iter().zip(&first) {
            let answer = server.read(&read, &format!("/v1/{register}/{id}?at={now}"));
            assert_eq!((answer.status, &answer.json()["thing"]), (200, thing), "{register}");
        }
        let ids = |query: &str| -> Vec<Value> {
            let answer = server.read(&read, query);
            assert_eq!(answer.status, 200, "{query}: {}", answer.text());
            let field = |thing: &Value| thing.as_object().and_then(|thing| thing.values().next().cloned());
            answer.json()["things"].as_array().into_iter().flatten().filter_map(field).collect()
        };
        assert_eq!(ids("/v1/tickets?open=false&staff=u-7&priority=high"), ["T-1"]);
        assert_eq!(ids("/v1/tickets?open=true"), [""; 0]);
        assert_eq!(ids("/v1/requests?overdue=true&category=access"), ["R-1"]);
        assert_eq!(ids("/v1/orders?customer=c-1"), ["O-1"]);
        assert_eq!(ids("/v1/orders?customer=c-2"), [""; 0]);
        assert_eq!(ids("/v1/tickets?customer=c-1&staff=u-7&status=resolved"), ["T-1"]);
        assert_eq!(ids("/v1/tickets?customer=c-1&staff=u-8"), [""; 0]);
        assert_eq!(ids("/v1/tickets?customer=c-1&overdue=true"), [""; 0]);
        assert_eq!(ids("/v1/requests?customer=c-1&overdue=true"), ["R-1"]);
        let write = server.append_key();
        let more: String = (2..9)
            .map(|n| format!(r#"{{"timestamp":"2026-03-02T09:00:00Z","event_type":"TICKET_OPENED","correlation_id":"c","source_component":"shop","environment":"test","severity":"info","event_id":"t-{n}","ticket_id":"T-{n}"}}"#) + "\n")
            .collect();
        server.lines(&write, &more);
        let page = server.get(&read, "/v1/tickets?open=true&limit=3").json();
        let cursor = page["next"].as_str().expect("there are more");
        assert_eq!(page["things"][2]["ticket_id"], "T-6");
        assert_eq!(ids(&format!("/v1/tickets?open=true&limit=3&cursor={cursor}")), ["T-5", "T-4", "T-3"]);
        assert_eq!(server.get(&read, &format!("/v1/tickets?limit=3&cursor={cursor}")).status, 404, "another list");
        assert_eq!(server.get(&read, "/v1/tickets?open=perhaps").status, 400);
        assert_eq!(server.get(&read, "/v1/tickets/T-9").status, 404);
        assert_eq!(server.read(&read, "/v1/tickets/T-1?at=2026-03-01T00:00:00Z").status, 404, "not yet");
        assert_eq!(server.get(&read, "/v1/tickets/T-1?at=yesterday").status, 400);
        assert_eq!(server.get(&server.append_key(), "/v1/tickets/T-1").status, 403);
        assert!(server.stop());
    }

    let listed = good(&["list", "tickets", "--data", text, "--open", "--json"]);
    assert_eq!(listed.lines().count(), 7, "{listed}");

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

/// One line of sample data.
fn line(id: &str, at: &str, kind: &str, mut fields: Value) -> String {
    let common = json!({"timestamp": at, "event_type": kind, "correlation_id": "c", "source_component": "shop", "environment": "test", "severity": "info", "event_id": id});
    for (name, value) in common.as_object().cloned().unwrap_or_default() {
        fields[name] = value;
    }
    fields.to_string() + "\n"
}

#[test]
fn the_use_of_a_template_is_counted_from_the_entries() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    let mut lines =
        line("p1", "2026-03-01T08:00:00Z", "TEMPLATE_CREATED", json!({"template_id": "P-1", "version_number": "1"}));
    lines +=
        &line("p2", "2026-03-01T08:00:00Z", "TEMPLATE_CHANGED", json!({"template_id": "P-1", "version_number": "2"}));
    let mail = |n: usize, kind: &str, extra: Value| {
        let mut fields = json!({"email_id": format!("E-{n}"), "message_content": {"template_id": "P-1"}, "template_version": if n.is_multiple_of(2) { "2" } else { "1" }});
        for (name, value) in extra.as_object().cloned().unwrap_or_default() {
            fields[name] = value;
        }
        line(&format!("{kind}-{n}-{extra}"), "2026-03-02T08:00:00Z", kind, fields)
    };
    for n in 0..40 {
        lines += &mail(n, "EMAIL_SENT", json!({}));
        lines += &mail(n, if n < 30 { "EMAIL_DELIVERED" } else { "EMAIL_BOUNCED" }, json!({}));
        let by = if n.is_multiple_of(3) { "proxy" } else { "person" };
        if n < 18 {
            lines += &mail(n, "EMAIL_OPENED", json!({"opened_by": by}));
        }
        if n < 6 {
            lines += &mail(n, "EMAIL_CLICKED", json!({"opened_by": "person"}));
        }
    }
    let (status, _, said) = ingest(text, lines.as_bytes(), &[]);
    assert_eq!(status, 0, "{said}");
    // The same from the entries themselves.
    let entries: Vec<Value> = ["EMAIL_SENT", "EMAIL_DELIVERED", "EMAIL_BOUNCED", "EMAIL_OPENED", "EMAIL_CLICKED"]
        .iter()
        .flat_map(|kind| {
            let found = good(&["search", "--data", text, "--kind", kind, "--limit", "200", "--json"]);
            found.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
        })
        .collect();
    let count = |kind: &str, version: &str, by: &str| {
        let fits = |entry: &&Value| {
            let record = &entry["record"];
            entry["kind"] == kind
                && (version.is_empty() || record["template_version"] == version)
                && (by.is_empty() || record["opened_by"] == by)
        };
        entries.iter().filter(fits).count() as f64
    };
    let server = Server::start(&data);
    let found = server.get(&server.read_key(), "/v1/templates/P-1/statistics");
    assert_eq!(found.status, 200, "{}", found.text());
    let found = found.json();
    for (version, part) in [("", &found["all"]), ("1", &found["by_version"]["1"]), ("2", &found["by_version"]["2"])] {
        let (sends, delivered) = (count("EMAIL_SENT", version, ""), count("EMAIL_DELIVERED", version, ""));
        let opens = count("EMAIL_OPENED", version, "") - count("EMAIL_OPENED", version, "proxy");
        let rate = |part: f64, whole: f64| json!((part * 1000.0 / whole).round() / 10.0);
        assert!(sends > 0.0 && delivered > 0.0 && opens > 0.0);
        assert_eq!(part["sends"].as_f64(), Some(sends));
        assert_eq!(part["failed"].as_f64(), Some(count("EMAIL_BOUNCED", version, "")));
        assert_eq!(part["opens_by_proxy"].as_f64(), Some(count("EMAIL_OPENED", version, "proxy")));
        assert_eq!(part["delivery_rate"], rate(delivered, sends));
        assert_eq!(part["open_rate"], rate(opens, delivered));
        assert_eq!(part["click_rate"], rate(count("EMAIL_CLICKED", version, ""), delivered));
    }
    assert_eq!(server.get(&server.read_key(), "/v1/templates/P-9/statistics").status, 404);
    assert!(server.stop());
}

#[test]
fn consent_is_known_at_any_time_and_each_send_says_what_it_rests_on() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    let consent = |fields: Value| {
        let mut all = json!({"customer_id": "c-1", "consent_type": "marketing"});
        for (name, value) in fields.as_object().cloned().unwrap_or_default() {
            all[name] = value;
        }
        all
    };
    let mail = |class: &str| json!({"recipient_details": {"customer_id": "c-1"}, "compliance_data": {"data_classification": class}});
    let mut lines = line(
        "a",
        "2026-03-01T08:00:00Z",
        "CONSENT_GIVEN",
        consent(
            json!({"consent_method": "opt_in", "wording_version": "w-3", "proof_reference": "form-7", "expires": "2026-09-01T00:00:00Z"}),
        ),
    );
    lines += &line("b", "2026-05-01T08:00:00Z", "CONSENT_WITHDRAWN", consent(json!({})));
    lines += &line(
        "c",
        "2026-06-01T08:00:00Z",
        "CONSENT_GIVEN",
        consent(json!({"wording_version": "w-4", "expires": "2026-09-01T00:00:00Z"})),
    );
    for (id, at, class) in [
        ("E-1", "2026-02-01", "marketing"),
        ("E-2", "2026-04-01", "marketing"),
        ("E-3", "2026-05-02", "marketing"),
        ("E-4", "2026-10-01", "marketing"),
        ("E-5", "2026-05-02", "transactional"),
    ] {
        let mut fields = mail(class);
        fields["email_id"] = json!(id);
        lines += &line(id, &format!("{at}T08:00:00Z"), "EMAIL_SENT", fields);
    }
    let (status, _, said) = ingest(text, lines.as_bytes(), &[]);
    assert_eq!(status, 0, "{said}");
    let at = |time: &str| -> Value {
        serde_json::from_str(&good(&["consent", "--data", text, "--customer", "c-1", "--at", time])).expect("JSON")
    };
    let state = |time: &str| (at(time)["marketing"]["state"].clone(), at(time)["marketing"]["wording_version"].clone());
    assert_eq!(at("2026-02-28T00:00:00Z"), json!({}));
    assert_eq!(state("2026-04-01T00:00:00Z"), (json!("active"), json!("w-3")));
    assert_eq!(at("2026-04-01T00:00:00Z")["marketing"]["proof_reference"], "form-7");
    assert_eq!(state("2026-05-01T08:00:00Z").0, "withdrawn");
    assert_eq!(state("2026-08-01T00:00:00Z"), (json!("active"), json!("w-4")));
    assert_eq!(state("2026-09-02T00:00:00Z").0, "expired");
    let basis = |id: &str| shown(text, &["email", id])["consent_basis"]["state"].clone();
    let found = ["E-1", "E-2", "E-3", "E-4", "E-5"].map(basis);
    assert_eq!(found, ["none", "active", "withdrawn", "expired", "not_needed"]);
    good(&["erase", "--data", text, "--customer", "c-1", "--reason", "asked", "--yes"]);
    assert_eq!(shown(text, &["email", "E-2"])["consent_basis"]["state"], "unknown", "nobody can say any more");
}

#[test]
fn what_is_written_down_by_hand_says_who_wrote_it_and_when() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    let add = |arguments: &[&str]| -> String {
        let mut all = vec!["add", "--data", text, "--json"];
        all.extend(arguments);
        let said: Value = serde_json::from_str(&good(&all)).expect("JSON");
        said["id"].as_str().expect("an id").to_owned()
    };
    let call = add(&[
        "call",
        "--customer",
        "c-1",
        "--phone",
        "082 555 0100",
        "--summary",
        "asked for the price",
        "--duration",
        "61",
    ]);
    let letter = add(&[
        "letter",
        "--customer",
        "c-1",
        "--summary",
        "a complaint",
        "--when",
        "2026-03-01T08:00:00Z",
        "--ticket",
        "T-1",
    ]);
    add(&["note", "--customer", "c-1", "--summary", "seems content", "--ticket", "T-1"]);
    let call = shown(text, &["call", &call]);
    assert_eq!((&call["call_duration"], &call["call_summary"]), (&json!(61), &json!("asked for the price")));
    assert!(
        call["author"].as_str().is_some_and(|author| author.starts_with("os-user-")) && call.get("flags").is_none()
    );
    let letter = shown(text, &["message", &letter]);
    assert_eq!((&letter["channel"], &letter["status"]), (&json!("letter"), &json!("received")));
    assert_eq!(letter["flags"][0]["rule"], "written_late");
    let ticket = shown(text, &["ticket", "T-1"]);
    assert_eq!(ticket["communication_log"][0]["content_summary"], "seems content");
    assert_eq!(good(&["history", "--data", text, "--customer", "c-1"]).lines().count(), 6, "and three looks at it");
    {
        // Over HTTP it is the same record; its author is the key.
        std::fs::write(data.join("tested"), "").expect("written");
        let key = good(&["apikey", "add", "--data", text, "--scope", "append", "--source", "local"]).trim().to_owned();
        let server = Server::start(&data);
        let add = |body: Value| {
            let headers = [support::http::bearer(&key), ("Content-Type", "application/json".into())];
            server.send("POST", "/v1/add", &headers, body.to_string().as_bytes())
        };
        let note = json!({"what": "note", "customer": "c-1", "ticket": "T-1", "summary": "called back"});
        let reply = add(note);
        assert_eq!((reply.status, &reply.json()["status"]), (201, &json!("committed")), "{}", reply.text());
        for (body, why) in [
            (json!({"what": "chat", "summary": "x"}), "nobody is named"),
            (json!({"what": "chat", "summary": "x", "customer": "c-1", "duration": 3}), "a duration is of a call"),
            (
                json!({"what": "chat", "summary": "x", "customer": "c-1", "when": "2999-01-01T00:00:00Z"}),
                "in the future",
            ),
            (json!({"what": "song", "summary": "x", "customer": "c-1"}), "what and summary are needed"),
            (json!({"what": "chat", "summary": "x", "customer": "c-1", "author": "me"}), "a field is not known"),
        ] {
            let reply = add(body);
            assert!(reply.status == 400 && reply.text().contains(why), "{why}: {}", reply.text());
        }
        assert!(server.stop());
        let ticket = shown(text, &["ticket", "T-1"]);
        assert_eq!(ticket["communication_log"][1]["content_summary"], "called back");
        assert!(ticket["communication_log"][1]["author"].as_str().is_none_or(|author| author.starts_with("api-key-")));
    }
    let future = support::bad(
        1,
        &["add", "--data", text, "chat", "--customer", "c-1", "--summary", "x", "--when", "2999-01-01T00:00:00Z"],
    );
    assert!(future.contains("in the future"), "{future}");
}

#[test]
fn silence_is_told_once_and_ends_when_the_source_speaks() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    good(&["source", "add", "--data", text, "shop", "--quiet-after", "1"]);
    assert!(support::bad(1, &["source", "add", "--data", text, "shop"]).contains("already"));
    assert!(support::bad(1, &["source", "add", "--data", text, "a/b"]).contains("a source's name"));
    let note = |id: &str| line(id, "2026-03-02T08:00:00Z", "SYSTEM_EVENT", json!({"system_event": "deploy"}));
    let (status, _, said) = ingest(text, note("a").as_bytes(), &["--source", "shop"]);
    assert_eq!(status, 0, "{said}");
    let count = |server: &Server, kind: &str| {
        let found = server.get(&server.read_key(), &format!("/v1/search?kind={kind}"));
        found.json()["entries"].as_array().map_or(0, Vec::len)
    };
    let wait = |server: &Server, kind: &str, wanted: usize| {
        for _ in 0..100 {
            if count(server, kind) == wanted {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(100));
        }
        panic!("{kind}: {} instead of {wanted}", count(server, kind));
    };
    {
        let server = Server::start(&data);
        wait(&server, "ALERT_RAISED", 1);
        let state = server.get(&server.read_key(), "/v1/sources/shop").json();
        assert_eq!((&state["state"], &state["entries_24h"]), (&json!("quiet"), &json!(0)), "the record is of March");
        assert!(state["lag_ms"].as_i64().is_some_and(|lag| lag > 86_400_000));
        assert_eq!((&state["clock"]["records"], &state["clock"]["skew_ms"]), (&json!(1), &state["lag_ms"]));
        assert_eq!(server.get(&server.read_key(), "/v1/sources").json()["sources"].as_array().map(Vec::len), Some(2));
        assert_eq!(server.get(&server.read_key(), "/v1/sources/none").status, 404);
        assert!(server.stop());
    }
    {
        // After a restart it is not told again.
        let server = Server::start(&data);
        std::thread::park_timeout(std::time::Duration::from_secs(2));
        assert_eq!((count(&server, "ALERT_RAISED"), count(&server, "ALERT_RESOLVED")), (1, 0));
        assert!(server.stop());
    }
    let (status, _, said) = ingest(text, note("b").as_bytes(), &["--source", "shop"]);
    assert_eq!(status, 0, "{said}");
    {
        // It spoke: within a second that ends the alert; then it is quiet again, which is another silence.
        let server = Server::start(&data);
        wait(&server, "ALERT_RAISED", 2);
        assert!(server.stop());
    }
    // What came again is counted in one record.
    let (_, said, _) = ingest(text, note("b").as_bytes(), &["--source", "shop"]);
    assert!(said.contains("1 repeated"), "{said}");
    let seen = good(&["search", "--data", text, "--kind", "SIGHTINGS", "--json"]);
    let seen: Value = serde_json::from_str(seen.trim()).expect("one");
    assert_eq!((&seen["record"]["count"], &seen["record"]["from_source"]), (&json!(1), &json!("shop")));
    let listed = good(&["source", "list", "--data", text]);
    assert!(listed.contains("shop") && listed.contains("quiet"), "{listed}");
}
