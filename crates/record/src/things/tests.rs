use proof::time::UnixMillis;
use serde_json::{Map, Value, json};

use super::{Event, SHAPES, fold, shape};

/// Events of one thing, a minute apart, from 2026-03-02 08:00 in South Africa.
fn events(list: &[(&str, Value)]) -> Vec<Event> {
    let start = UnixMillis::parse(b"2026-03-02T06:00:00Z").expect("a time").0;
    let event = |(place, (kind, fields)): (usize, &(&str, Value))| Event {
        entry: place as u64 + 10,
        at: UnixMillis(start + place as u64 * 60_000),
        kind: (*kind).to_owned(),
        fields: fields.as_object().cloned().unwrap_or_else(Map::new),
    };
    list.iter().enumerate().map(event).collect()
}

fn folded(name: &str, list: &[(&str, Value)], now: &str) -> Value {
    let now = UnixMillis::parse(now.as_bytes()).expect("a time");
    fold(shape(name).expect("a register"), "T-1", events(list), Some(now), now).expect("there is one")
}

fn rules(thing: &Value) -> Vec<(String, u64)> {
    let flags = thing["flags"].as_array().cloned().unwrap_or_default();
    flags
        .iter()
        .map(|flag| (flag["rule"].as_str().unwrap_or_default().to_owned(), flag["entry"].as_u64().unwrap_or(0)))
        .collect()
}

const LATER: &str = "2027-01-01T00:00:00Z";

#[test]
fn a_ticket_comes_back_as_the_document_shows_it() {
    let list = [
        (
            "TICKET_OPENED",
            json!({"ticket_id": "T-1", "customer_id": "c-1", "issue_category": "billing", "priority_level": "high", "initial_contact_method": "email"}),
        ),
        (
            "TICKET_STATUS_CHANGED",
            json!({"previous_status": "open", "new_status": "in_progress", "changed_by": "u-1", "reason": "taken"}),
        ),
        (
            "TICKET_COMMUNICATION",
            json!({"type": "email", "direction": "outbound", "user": "u-1", "content_summary": "asked for the number"}),
        ),
        (
            "TICKET_RESOLVED",
            json!({"resolution_details": {"resolution_type": "solved", "resolution_summary": "paid back"}}),
        ),
        ("TICKET_COMMUNICATION", json!({"type": "email", "direction": "outbound", "user": "u-1"})),
        ("TICKET_RATED", json!({"customer_satisfaction": "4"})),
    ];
    let thing = folded("ticket", &list, LATER);
    assert_eq!(thing["creation_timestamp"], "2026-03-02T06:00:00.000Z");
    assert_eq!(thing["status_history"][0]["new_status"], "in_progress");
    assert_eq!(thing["status_history"][0]["entry"], 11);
    assert_eq!(thing["communication_log"].as_array().map(Vec::len), Some(2));
    assert_eq!(thing["resolution_details"]["customer_satisfaction"], "4");
    assert_eq!(thing["resolution_details"]["resolution_timestamp"], "2026-03-02T06:03:00.000Z");
    assert_eq!(thing["status"], "resolved");
    assert_eq!(rules(&thing), [("answered_after_resolution".to_owned(), 14)]);
    // As it stood two minutes after it was opened.
    let before = folded("ticket", &list, "2026-03-02T06:02:00Z");
    assert_eq!((before["status"].as_str(), before.get("resolution_details")), (Some("in_progress"), None));
    assert_eq!(before["entries"], json!([10, 11, 12]));
    let none = fold(shape("ticket").expect("a register"), "T-1", events(&list), Some(UnixMillis(0)), UnixMillis(0));
    assert!(none.is_none());
    // The order in which events came in makes no difference.
    let mut turned = events(&list);
    turned.reverse();
    let now = UnixMillis::parse(LATER.as_bytes()).expect("a time");
    assert_eq!(fold(shape("tickets").expect("a register"), "T-1", turned, Some(now), now), Some(thing));
}

#[test]
fn every_rule_finds_its_step_and_a_good_life_breaks_none() {
    let paid = |status: &str, amount: &str| json!({"payment_audit": {"payment_status": status, "amount": amount}});
    let broken: &[(&str, &[(&str, Value)], &str)] = &[
        ("order", &[("ORDER_PLACED", json!({})), ("ORDER_DELIVERED", json!({}))], "delivered_before_shipped"),
        (
            "order",
            &[("ORDER_PLACED", json!({})), ("ORDER_CANCELLED", json!({})), ("ORDER_SHIPPED", json!({}))],
            "step_after_cancellation",
        ),
        (
            "order",
            &[
                ("ORDER_PLACED", json!({})),
                ("ORDER_PAYMENT", paid("captured", "ZAR 100")),
                ("ORDER_PAYMENT", paid("refunded", "R 100,01")),
            ],
            "refund_above_captured",
        ),
        ("order", &[("ORDER_SHIPPED", json!({}))], "not_begun"),
        ("order", &[("ORDER_PLACED", json!({})), ("ORDER_PLACED", json!({}))], "begun_twice"),
        (
            "consent",
            &[("CONSENT_GIVEN", json!({})), ("CONSENT_WITHDRAWN", json!({})), ("CONSENT_WITHDRAWN", json!({}))],
            "withdrawn_twice",
        ),
        (
            "consent",
            &[("CONSENT_ASKED", json!({})), ("CONSENT_REFUSED", json!({})), ("CONSENT_ASKED", json!({}))],
            "asked_twice",
        ),
        (
            "session",
            &[("SESSION_STARTED", json!({})), ("SESSION_ENDED", json!({})), ("SESSION_ACTIVITY", json!({}))],
            "activity_after_end",
        ),
        ("session", &[("SESSION_ENDED", json!({}))], "not_begun"),
        ("call", &[("CALL_ENDED", json!({}))], "end_without_start"),
        (
            "request",
            &[("REQUEST_RECEIVED", json!({})), ("REQUEST_COMPLETED", json!({}))],
            "completed_without_verification",
        ),
        ("message", &[("MESSAGE_RECEIVED", json!({})), ("MESSAGE_DELIVERED", json!({}))], "delivered_without_sending"),
        (
            "email",
            &[("EMAIL_SENT", json!({})), ("EMAIL_BOUNCED", json!({})), ("EMAIL_CLICKED", json!({}))],
            "opened_after_failure",
        ),
        ("data", &[("DATA_MODIFIED", json!({"approval_required": "yes"}))], "changed_without_approval"),
        ("data", &[("DATA_MODIFIED", json!({"approval_status": "rejected"}))], "changed_though_rejected"),
        ("template", &[("TEMPLATE_APPROVED", json!({"author": "u-1", "actor": "u-1"}))], "approved_by_the_author"),
        ("breach", &[("BREACH_DISCOVERED", json!({})), ("BREACH_CLOSED", json!({}))], "closed_without_notice"),
        (
            "ticket",
            &[
                ("TICKET_OPENED", json!({})),
                ("TICKET_STATUS_CHANGED", json!({"previous_status": "waiting", "new_status": "closed"})),
            ],
            "state_does_not_follow",
        ),
        (
            "ticket",
            &[("TICKET_OPENED", json!({})), ("TICKET_RATED", json!({"customer_satisfaction": "1"}))],
            "rated_before_resolution",
        ),
    ];
    for (name, list, rule) in broken {
        let found = rules(&folded(name, list, LATER));
        assert!(found.iter().any(|(held, entry)| held == rule && *entry == 9 + list.len() as u64), "{rule}: {found:?}");
    }
    let good: &[(&str, &[(&str, Value)])] = &[
        (
            "order",
            &[
                ("ORDER_PLACED", json!({})),
                ("ORDER_PAYMENT", paid("captured", "ZAR 100")),
                ("ORDER_SHIPPED", json!({})),
                ("ORDER_DELIVERED", json!({})),
                ("ORDER_RETURNED", json!({})),
                ("ORDER_PAYMENT", paid("refunded", "100,00 ZAR")),
            ],
        ),
        (
            "email",
            &[
                ("EMAIL_SENT", json!({})),
                ("EMAIL_DELIVERY_STATUS", json!({})),
                ("EMAIL_DELIVERED", json!({})),
                ("EMAIL_OPENED", json!({})),
            ],
        ),
        (
            "consent",
            &[
                ("CONSENT_ASKED", json!({})),
                ("CONSENT_GIVEN", json!({})),
                ("CONSENT_WITHDRAWN", json!({})),
                ("CONSENT_GIVEN", json!({})),
            ],
        ),
        ("call", &[("CALL_LOGGED", json!({"outcome": "resolved"}))]),
        (
            "request",
            &[
                ("REQUEST_RECEIVED", json!({})),
                ("REQUEST_VERIFIED", json!({"verification_status": "verified"})),
                ("REQUEST_COMPLETED", json!({})),
            ],
        ),
        ("data", &[("DATA_ACCESSED", json!({})), ("DATA_MODIFIED", json!({"approval_required": "no"}))]),
    ];
    for (name, list) in good {
        assert_eq!(rules(&folded(name, list, LATER)), [], "{name}");
    }
}

#[test]
fn requests_and_breaches_carry_their_clocks() {
    let request = |extra: Value| vec![("REQUEST_RECEIVED", extra)];
    let thing = folded("request", &request(json!({"request_type": "access"})), "2026-03-03T00:00:00Z");
    // 30 days from 2 March is 1 April, a Wednesday.
    assert_eq!(thing["processing_timeline"]["target_completion"], "2026-04-01");
    assert_eq!((thing["clock"]["state"].as_str(), thing["clock"]["days_left"].as_i64()), (Some("running"), Some(29)));
    let over = folded("request", &request(json!({"request_type": "access"})), "2026-04-01T22:00:00Z");
    assert_eq!(
        (over["clock"]["state"].as_str(), over["processing_timeline"]["status"].as_str()),
        (Some("overdue"), Some("overdue"))
    );
    let gdpr = folded("request", &request(json!({"law": "gdpr"})), "2026-03-03T00:00:00Z");
    assert_eq!(gdpr["processing_timeline"]["target_completion"], "2026-04-02");
    let done = [
        ("REQUEST_RECEIVED", json!({})),
        ("REQUEST_COMPLETED", json!({"response_details": {"response_method": "email"}})),
    ];
    assert_eq!(folded("request", &done, LATER)["clock"]["state"], "met");
    let extended = [("REQUEST_RECEIVED", json!({})), ("REQUEST_EXTENDED", json!({"extension_ground": "many_records"}))];
    assert_eq!(folded("request", &extended, LATER)["processing_timeline"]["target_completion"], "2026-05-02");
    let breach = folded("breach", &[("BREACH_DISCOVERED", json!({}))], "2026-03-05T06:00:01Z");
    assert_eq!(
        (breach["clock"]["state"].as_str(), breach["clock"]["hours_until_regulator"].as_u64()),
        (Some("overdue"), Some(72))
    );
    let told = [("BREACH_DISCOVERED", json!({})), ("BREACH_REGULATOR_NOTIFIED", json!({"regulator_reference": "R-1"}))];
    assert_eq!(folded("breach", &told, LATER)["clock"]["state"], "met");
}

#[test]
fn normal_forms_stand_beside_what_was_given() {
    let thing = folded(
        "call",
        &[("CALL_LOGGED", json!({"customer_phone": "082 555 0100", "language": "AF_za", "follow_up_required": "yes"}))],
        LATER,
    );
    assert_eq!(thing["customer_phone"], "082 555 0100");
    assert_eq!(
        thing["normal"],
        json!({"customer_phone": "+27825550100", "language": "af-ZA", "follow_up_required": true})
    );
    let order = folded(
        "order",
        &[("ORDER_PLACED", json!({"amount": "R 1 234,50", "shipping_audit": {"shipping_country": "za"}}))],
        LATER,
    );
    assert_eq!(order["normal"]["amount"], json!({"value": "1234.50", "currency": "ZAR"}));
    assert_eq!(order["normal"]["shipping_audit.shipping_country"], "ZA");
}

#[test]
fn every_kind_of_a_register_has_its_id() {
    let catalogue = crate::kinds::Catalogue::shipped().expect("shipped");
    for kind in catalogue.current() {
        for shape in SHAPES.iter().filter(|shape| shape.has(&kind.name)) {
            // The relay knows a mail by its Message-ID alone.
            let named = |field: &str| kind.number(&format!("/{field}")).is_some();
            assert!(named(shape.id) || shape.name == "email" && named("message_id"), "{} in {}", kind.name, shape.path);
        }
    }
}

/// One event of a kind at a time of its own.
fn at(entry: u64, time: &str, kind: &str, fields: Value) -> Event {
    let fields = fields.as_object().cloned().unwrap_or_else(Map::new);
    Event { entry, at: UnixMillis::parse(time.as_bytes()).expect("a time"), kind: kind.to_owned(), fields }
}

fn clock(name: &str, events: Vec<Event>) -> (String, Value) {
    let now = UnixMillis::parse(LATER.as_bytes()).expect("a time");
    let thing = fold(shape(name).expect("a register"), "x", events, None, now).expect("there is one");
    (thing["clock"]["state"].as_str().unwrap_or_default().to_owned(), thing["clock"]["due"].clone())
}

#[test]
fn a_clock_goes_by_the_first_notice_and_the_first_end() {
    let received = || at(0, "2026-03-02T06:00:00Z", "REQUEST_RECEIVED", json!({}));
    let refused = at(1, "2026-06-01T06:00:00Z", "REQUEST_REFUSED", json!({}));
    assert_eq!(clock("request", vec![received(), refused]).0, "late");
    let extension = |time: &str| at(1, time, "REQUEST_EXTENDED", json!({}));
    assert_eq!(clock("request", vec![received(), extension("2026-03-20T06:00:00Z")]).1, "2026-05-02T21:59:59.999Z");
    let too_late = clock("request", vec![received(), extension("2026-04-20T06:00:00Z")]);
    assert_eq!(too_late, ("overdue".to_owned(), json!("2026-04-01T21:59:59.999Z")));
    let breach = vec![
        at(0, "2026-03-02T06:00:00Z", "BREACH_DISCOVERED", json!({})),
        at(1, "2026-03-02T16:00:00Z", "BREACH_REGULATOR_NOTIFIED", json!({})),
        at(2, "2026-03-12T06:00:00Z", "BREACH_REGULATOR_NOTIFIED", json!({"regulator_reference": "R-1"})),
    ];
    assert_eq!(clock("breach", breach).0, "met");
}

#[test]
fn states_say_what_the_events_say() {
    let now = UnixMillis::parse(LATER.as_bytes()).expect("a time");
    let status = |name: &str, list: &[(&str, Value)]| {
        let thing = fold(shape(name).expect("a register"), "x", events(list), None, now).expect("there is one");
        thing["status"].as_str().unwrap_or_default().to_owned()
    };
    let closing = [("BREACH_DISCOVERED", json!({})), ("BREACH_CLOSED", json!({"status": "resolved"}))];
    assert_eq!(status("breach", &closing), "closed");
    let contained = [("BREACH_DISCOVERED", json!({})), ("BREACH_CHANGED", json!({"status": "contained"}))];
    assert_eq!(status("breach", &contained), "contained");
    let bounced = [("EMAIL_SENT", json!({})), ("EMAIL_DELIVERY_STATUS", json!({"status": "bounced"}))];
    assert_eq!(status("email", &bounced), "bounced");
    assert_eq!(status("data", &[("DATA_MODIFIED", json!({"approval_status": "pending"}))]), "pending");
    let asked_again = [("CONSENT_GIVEN", json!({})), ("CONSENT_ASKED", json!({}))];
    assert_eq!(status("consent", &asked_again), "active");
    assert_eq!(status("consent", &[("CONSENT_ASKED", json!({}))]), "asked");
    let twice = [
        ("TICKET_OPENED", json!({})),
        ("TICKET_STATUS_CHANGED", json!({"new_status": "resolved"})),
        ("TICKET_RESOLVED", json!({})),
    ];
    assert_eq!(rules(&folded("ticket", &twice, LATER)), []);
    let own = [("TEMPLATE_CREATED", json!({"author": "u-1"})), ("TEMPLATE_APPROVED", json!({"actor": "u-1"}))];
    assert_eq!(rules(&folded("template", &own, LATER)), [("approved_by_the_author".to_owned(), 11)]);
    let rejected = [
        ("REQUEST_RECEIVED", json!({})),
        ("REQUEST_VERIFIED", json!({"verification_status": "rejected"})),
        ("REQUEST_COMPLETED", json!({})),
    ];
    assert_eq!(rules(&folded("request", &rejected, LATER)), [("completed_without_verification".to_owned(), 12)]);
    // A sender whose clock is ahead has its thing all the same.
    let ahead = at(0, "2027-01-01T00:00:03Z", "TICKET_OPENED", json!({}));
    assert!(fold(shape("ticket").expect("a register"), "x", vec![ahead], None, now).is_some());
}
