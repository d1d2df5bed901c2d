//! A year of one shop, made from one seed: sample data with reserved names, domains and numbers.
//!
//! It is what a business of this size leaves, with some things planted: gaps, steps that should not have been possible,
//! silences, spikes, beginnings without an end. The generator knows what it planted, and nothing else may be found.

use std::collections::BTreeMap;

use proof::time::UnixMillis;
use serde_json::{Value, json};

/// 2025-01-01T00:00:00Z.
pub const START: u64 = 1_735_689_600_000;
pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;
pub const DAYS: u64 = 365;
/// Events of the year, before those that are planted beside it.
pub const EVENTS: usize = 300_000;
/// Numbers that are skipped.
pub const LOST: u64 = 25;
const CUSTOMERS: u64 = 2_000;
const STAFF: u64 = 24;

/// A year, and what is in it.
#[derive(Default)]
pub struct Year {
    /// Records with their times and in the order in which they were made.
    events: Vec<(u64, usize, Value)>,
    lines: Vec<String>,
    seed: u64,
    /// What rules must raise: rule and group.
    pub alerts: Vec<(&'static str, String)>,
    /// What must stand open: life cycle and id.
    pub open: Vec<(&'static str, String)>,
    /// Steps that should not have been possible: register, id, rule.
    pub flags: Vec<(&'static str, String, &'static str)>,
    /// Things with some of the fields that they must come back with.
    pub things: Vec<(&'static str, String, Value)>,
    /// Events of one customer that are about them.
    pub of_customer: BTreeMap<String, u64>,
}

/// The customer whose history is proved.
pub const CUSTOMER: &str = "c-77";

impl Year {
    pub fn new(seed: u64) -> Year {
        let mut year = Year { seed, ..Year::default() };
        year.ordinary();
        year.planted();
        year.fill();
        year.number();
        year
    }

    /// The records, in the order of their times, each with the next number of its stream.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Gives each record the next number; some numbers are skipped, as if their records were lost on the way.
    fn number(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        events.sort_by_key(|(at, order, _)| (*at, *order));
        let mut number = 0;
        for (place, (_, _, mut record)) in events.into_iter().enumerate() {
            number += if place == EVENTS / 3 { 1 + LOST } else { 1 };
            record["event_id"] = format!("year:{number}").into();
            self.lines.push(record.to_string());
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// A time of a day in working hours.
    fn in_hours(&mut self, day: u64) -> u64 {
        START + day * DAY + 7 * HOUR + self.random(9 * 60) * MINUTE + self.random(60_000)
    }

    fn put(&mut self, at: u64, kind: &str, id: &str, severity: &str, fields: Value) {
        let mut record = json!({
            "timestamp": UnixMillis(at).rfc3339(), "event_type": kind, "correlation_id": id, "source_component": "shop",
            "environment": "test", "severity": severity,
        });
        let named = fields.pointer("/recipient_details/customer_id").or_else(|| fields.get("customer_id"));
        if let Some(customer) = named.and_then(Value::as_str) {
            *self.of_customer.entry(customer.to_owned()).or_default() += 1;
        }
        if let (Value::Object(record), Value::Object(fields)) = (&mut record, fields) {
            record.extend(fields);
        }
        let order = self.events.len();
        self.events.push((at, order, record));
    }

    fn event(&mut self, at: u64, kind: &str, id: &str, fields: Value) {
        self.put(at, kind, id, "info", fields);
    }

    fn customer(&mut self) -> String {
        format!("c-{}", self.random(CUSTOMERS))
    }

    fn staff(&mut self) -> String {
        format!("u-{}", self.random(STAFF))
    }

    /// A mail to a customer, and that it arrived.
    fn mail(&mut self, at: u64, id: &str, customer: &str, template: &str, marketing: bool) {
        let class = if marketing { "marketing" } else { "transactional" };
        let sent = json!({
            "email_id": id, "sender_details": {"department": "shop", "user_id": "u-1"},
            "recipient_details": {"customer_id": customer, "email": format!("{customer}@mail.example")},
            "message_content": {"subject": format!("about {id}"), "template_id": template}, "template_version": "1",
            "compliance_data": {"popia_consent": "verified", "unsubscribe_link": marketing, "data_classification": class},
        });
        self.event(at, "EMAIL_SENT", id, sent);
        let back = json!({"email_id": id, "recipient_details": {"customer_id": customer}, "message_content": {"template_id": template}});
        self.event(at + 5000, "EMAIL_DELIVERED", id, back);
    }

    fn ordinary(&mut self) {
        for template in 0..12 {
            let id = format!("P-{template}");
            let at = START + template * MINUTE;
            self.event(at, "TEMPLATE_CREATED", &id, json!({"template_id": id, "version_number": "1", "author": "u-2"}));
            self.event(at + HOUR, "TEMPLATE_APPROVED", &id, json!({"template_id": id, "actor": "u-3"}));
            self.things.push(("template", id, json!({"status": "approved", "author": "u-2", "version_number": "1"})));
        }
        for day in 0..DAYS {
            self.newsletter(day);
            for number in 0..30 {
                self.order(day, number);
            }
            for number in 0..12 {
                self.ticket(day, number);
            }
            for number in 0..10 {
                self.call(day, number);
                self.text_message(day, number);
            }
            for number in 0..8 {
                self.approval(day, number);
            }
            for number in 0..20 {
                self.session(day, number);
            }
            self.data(day);
            self.consent(day);
            if day % 2 == 0 && day + 25 < DAYS {
                self.request(day);
            }
            for hour in 0..24 {
                // A silence of thirteen hours is planted in this row.
                if day != 210 || !(5..18).contains(&hour) {
                    let observed = json!({"depth": 20 + self.random(30), "oldest_s": 60 + self.random(300), "deferred": 3, "active": 9});
                    self.event(START + day * DAY + hour * HOUR + 7 * MINUTE, "QUEUE_OBSERVED", "queue", observed);
                }
            }
        }
    }

    /// Sixty mails in one hour of every day.
    fn newsletter(&mut self, day: u64) {
        // In one hour nothing goes out: a silence.
        if day == 150 {
            return self.alerts.push(("unusual_quiet", String::new()));
        }
        for number in 0..60 {
            let (id, customer) = (format!("N-{day}-{number}@shop.example"), self.customer());
            let at = START + day * DAY + 5 * HOUR + number * 45_000;
            self.mail(at, &id, &customer, "P-1", true);
            let back = json!({"email_id": id, "recipient_details": {"customer_id": customer}, "message_content": {"template_id": "P-1"}, "opened_by": "person"});
            if self.random(100) < 40 {
                let later = at + HOUR + self.random(6 * 60) * MINUTE;
                self.event(later, "EMAIL_OPENED", &id, back.clone());
                if self.random(100) < 12 {
                    self.event(later + MINUTE, "EMAIL_CLICKED", &id, back);
                }
            }
        }
    }

    fn order(&mut self, day: u64, number: u64) {
        let (id, customer, at) = (format!("O-{day}-{number}"), self.customer(), self.in_hours(day));
        let amount = format!("{}.00", 100 + self.random(900));
        let money = json!({"value": amount, "currency": "ZAR"});
        self.event(
            at,
            "ORDER_PLACED",
            &id,
            json!({"order_id": id, "customer_id": customer, "order_source": "website", "amount": money}),
        );
        let payment = json!({"payment_method": "credit_card", "payment_status": "captured", "amount": money});
        self.event(at + MINUTE, "ORDER_PAYMENT", &id, json!({"order_id": id, "payment_audit": payment}));
        self.event(at + 2 * MINUTE, "ORDER_CONFIRMED", &id, json!({"order_id": id, "triggered_by": "system"}));
        self.mail(at + 3 * MINUTE, &format!("{id}@shop.example"), &customer, "P-2", false);
        let shipped = at + DAY + self.random(120) * MINUTE;
        let shipping = json!({"carrier": "van", "shipping_method": "courier", "shipping_country": "ZA", "shipping_address": "1 Sample Street"});
        self.event(
            shipped,
            "ORDER_SHIPPED",
            &id,
            json!({"order_id": id, "customer_id": customer, "shipping_audit": shipping}),
        );
        let told = json!({"order_id": id, "type": "shipping_notice", "channel": "sms", "delivery_status": "delivered"});
        self.event(shipped + 5 * MINUTE, "ORDER_COMMUNICATION", &id, told);
        self.event(shipped + 2 * DAY, "ORDER_DELIVERED", &id, json!({"order_id": id, "customer_id": customer}));
        if day % 40 == 3 && number == 0 {
            let whole = json!({"status": "delivered", "customer_id": customer, "order_source": "website", "amount": money, "shipping_audit": {"carrier": "van", "shipping_country": "ZA"}});
            self.things.push(("order", id, whole));
        }
    }

    fn ticket(&mut self, day: u64, number: u64) {
        let (id, customer, staff, at) =
            (format!("T-{day}-{number}"), self.customer(), self.staff(), self.in_hours(day));
        let priority = ["low", "medium", "high", "critical"][self.random(4) as usize];
        let about = format!("kettle {number} of day {day}");
        let opened = json!({
            "ticket_id": id, "customer_id": customer, "issue_category": "product", "priority_level": priority, "subject": about,
            "initial_contact_method": "email", "assigned_to": staff, "resolve_by": UnixMillis(at + 5 * DAY).rfc3339(),
        });
        self.event(at, "TICKET_OPENED", &id, opened);
        let said = |direction: &str| json!({"ticket_id": id, "customer_id": customer, "type": "email", "direction": direction, "content_summary": "about the kettle"});
        let (outbound, inbound) = (said("outbound"), said("inbound"));
        self.event(at + 2 * HOUR, "TICKET_COMMUNICATION", &id, outbound);
        self.event(at + 4 * HOUR, "TICKET_COMMUNICATION", &id, inbound);
        let moved =
            json!({"ticket_id": id, "previous_status": "open", "new_status": "in_progress", "changed_by": staff});
        self.event(at + 3 * HOUR, "TICKET_STATUS_CHANGED", &id, moved);
        let solved = json!({"resolution_type": "solved", "resolution_summary": "sent another"});
        self.event(
            at + DAY,
            "TICKET_RESOLVED",
            &id,
            json!({"ticket_id": id, "customer_id": customer, "changed_by": staff, "resolution_details": solved}),
        );
        if day % 40 == 3 && number == 0 {
            let whole = json!({"status": "resolved", "customer_id": customer, "priority_level": priority, "subject": about, "assigned_to": staff, "resolution_details": {"resolution_type": "solved", "resolution_summary": "sent another"}});
            self.things.push(("ticket", id, whole));
        }
    }

    fn call(&mut self, day: u64, number: u64) {
        let (id, customer, staff, at) =
            (format!("K-{day}-{number}"), self.customer(), self.staff(), self.in_hours(day));
        let seconds = 30 + self.random(600);
        let logged = json!({
            "call_id": id, "customer_id": customer, "call_direction": "inbound", "staff_member": staff, "call_duration": seconds,
            "call_purpose": "order", "call_summary": "asked where it is", "outcome": "resolved", "recording_notice": "yes",
        });
        self.event(at, "CALL_LOGGED", &id, logged);
        if day % 60 == 5 && number == 0 {
            let whole = json!({"status": "resolved", "customer_id": customer, "call_duration": seconds, "staff_member": staff, "call_summary": "asked where it is"});
            self.things.push(("call", id, whole));
        }
    }

    fn text_message(&mut self, day: u64, number: u64) {
        let (id, customer, at) = (format!("M-{day}-{number}"), self.customer(), self.in_hours(day));
        let message = json!({"message_id": id, "channel": "sms", "direction": "outbound", "customer_id": customer, "content_summary": "on its way", "data_classification": "transactional"});
        for (kind, later) in [("MESSAGE_SENT", 0), ("MESSAGE_DELIVERED", 4000), ("MESSAGE_READ", 90_000)] {
            self.event(at + later, kind, &id, message.clone());
        }
        if day % 60 == 5 && number == 0 {
            self.things.push((
                "message",
                id,
                json!({"status": "read", "channel": "sms", "customer_id": customer, "content_summary": "on its way"}),
            ));
        }
    }

    /// A decision by mail, as document 2 has it.
    fn approval(&mut self, day: u64, number: u64) {
        let (id, at) = (format!("w-{day}-{number}"), self.in_hours(day));
        let step = json!({"document_id": format!("D-{day}"), "document_version": "1", "workflow_step_id": "s1", "approver_group": "finance", "recipient_count": 1});
        let message = format!("{id}@relay.example");
        let with = |more: Value| {
            let mut fields = step.clone();
            for (name, value) in more.as_object().cloned().unwrap_or_default() {
                fields[name] = value;
            }
            fields
        };
        let sent = with(json!({"message_id": message, "dsn": "2.0.0", "delay_ms": 900, "status": "sent"}));
        for (kind, later, fields) in [
            ("NOTIF_CREATED", 0, step.clone()),
            ("NOTIF_ROUTED", 1, with(json!({"message_id": message}))),
            ("EMAIL_SEND_ATTEMPT", 2, with(json!({"message_id": message, "attempt": 1}))),
            ("EMAIL_SENT", 3, sent),
            ("ACTION_TOKEN_ISSUED", 0, step.clone()),
            ("ACTION_LINK_CLICKED", 600, step.clone()),
            ("ACTION_AUTH_SUCCESS", 601, step.clone()),
        ] {
            self.event(at + later * 1000, kind, &id, fields);
        }
        let decision = if self.random(5) == 0 { "APPROVAL_DECISION_REJECTED" } else { "APPROVAL_DECISION_APPROVED" };
        self.event(at + 700_000, decision, &id, with(json!({"reason_category": "checked"})));
    }

    fn session(&mut self, day: u64, number: u64) {
        let (id, user, at) = (format!("S-{day}-{number}"), self.staff(), self.in_hours(day));
        let method = ["mfa", "password", "sso"][self.random(3) as usize];
        self.event(
            at,
            "SESSION_STARTED",
            &id,
            json!({"session_id": id, "user_id": user, "login_method": method, "ip_address": "192.0.2.7"}),
        );
        for step in 1..3 {
            self.event(
                at + step * MINUTE,
                "SESSION_ACTIVITY",
                &id,
                json!({"session_id": id, "user_id": user, "action": "view", "resource": "order", "outcome": "success"}),
            );
        }
        self.event(at + HOUR, "SESSION_ENDED", &id, json!({"session_id": id, "user_id": user}));
        if day % 60 == 5 && number == 0 {
            self.things.push(("session", id, json!({"status": "ended", "user_id": user, "login_method": method})));
        }
    }

    fn data(&mut self, day: u64) {
        for number in 0..10 {
            let (id, customer, user, at) =
                (format!("D-{day}-{number}"), self.customer(), self.staff(), self.in_hours(day));
            let change =
                json!({"field_name": "phone", "previous_value": "a", "new_value": "b", "change_reason": "asked"});
            let modified = json!({"data_id": id, "data_type": "customer_data", "user_id": user, "customer_id": customer, "modification_type": "update", "field_changes": [change], "approval_required": "no"});
            self.event(at, "DATA_MODIFIED", &id, modified);
            self.event(
                at + HOUR,
                "DATA_ACCESSED",
                &id,
                json!({"data_id": id, "user_id": user, "access_type": "view", "reason_category": "ticket"}),
            );
            if day % 60 == 5 && number == 0 {
                self.things.push(("data", id, json!({"data_type": "customer_data", "customer_id": customer})));
            }
        }
    }

    fn consent(&mut self, day: u64) {
        for number in 0..5 {
            let (id, customer, at) =
                (format!("G-{day}-{number}"), format!("c-{}", 5 * day + number), self.in_hours(day));
            let given = json!({"consent_id": id, "customer_id": customer, "consent_type": "marketing", "consent_method": "opt_in", "wording_version": "w-1"});
            self.event(at, "CONSENT_GIVEN", &id, given);
            if day % 60 == 5 && number == 0 {
                self.things.push((
                    "consent",
                    id,
                    json!({"status": "active", "customer_id": customer, "wording_version": "w-1"}),
                ));
            }
        }
    }

    fn request(&mut self, day: u64) {
        let (id, customer, staff, at) = (format!("R-{day}"), self.customer(), self.staff(), self.in_hours(day));
        let received =
            json!({"request_id": id, "request_type": "access", "customer_id": customer, "request_channel": "email"});
        self.event(at, "REQUEST_RECEIVED", &id, received);
        self.event(
            at + DAY,
            "REQUEST_VERIFIED",
            &id,
            json!({"request_id": id, "handler": staff, "verification_status": "verified"}),
        );
        self.event(
            at + 12 * DAY,
            "REQUEST_COMPLETED",
            &id,
            json!({"request_id": id, "handler": staff, "response_details": {"response_method": "portal"}}),
        );
        if day % 60 == 6 {
            self.things.push((
                "request",
                id,
                json!({"status": "completed", "request_type": "access", "customer_id": customer}),
            ));
        }
    }

    /// What should be found, and nothing else.
    fn planted(&mut self) {
        let noon = |day: u64| START + day * DAY + 12 * HOUR;
        self.alerts.push(("queue_silent", "local".into()));
        // Spikes.
        for number in 0..300 {
            let customer = self.customer();
            self.mail(noon(100) + number * 4000, &format!("X-{number}@shop.example"), &customer, "P-3", false);
        }
        self.alerts.push(("unusual_volume", String::new()));
        for number in 0..20 {
            let id = format!("X-{number}@shop.example");
            self.event(
                noon(100) + HOUR / 2,
                "EMAIL_BOUNCED",
                &id,
                json!({"email_id": id, "reason_category": "mailbox_full"}),
            );
        }
        self.alerts.push(("bounce_spike", String::new()));
        for number in 0..8 {
            self.event(
                noon(120) + number * MINUTE,
                "TOKEN_REPLAY_BLOCKED",
                "w-120-0",
                json!({"workflow_step_id": "s1"}),
            );
        }
        self.alerts.push(("token_replays", String::new()));
        for number in 0..15 {
            let id = format!("F-{number}");
            let failed = json!({"message_id": id, "channel": "sms", "reason_category": "no_route"});
            self.event(noon(130) + number * 10_000, "MESSAGE_SENT", &id, json!({"message_id": id, "channel": "sms"}));
            self.event(noon(130) + number * 10_000 + 1000, "MESSAGE_FAILED", &id, failed);
        }
        self.alerts.push(("failed_communications", "local".into()));
        for number in 0..3 {
            let observed = json!({"depth": 4000, "oldest_s": 7200, "deferred": 3000, "active": 900});
            self.event(noon(140) + number * 15 * MINUTE, "QUEUE_OBSERVED", "queue", observed);
        }
        self.alerts.extend([("queue_depth", "local".to_owned()), ("queue_age", "local".to_owned())]);
        for number in 0..90 {
            let id = format!("z-{number}");
            self.event(noon(160) + number * MINUTE, "ACTION_TOKEN_ISSUED", &id, json!({"workflow_step_id": "s9"}));
        }
        self.alerts.push(("decision_conversion", String::new()));
        // Security.
        for number in 0..6 {
            let failed =
                json!({"session_id": "S-x", "user_id": "u-90", "security_event": "failed_login", "response": "none"});
            self.put(noon(170) + number * MINUTE, "SESSION_SECURITY_EVENT", "S-x", "low", failed);
        }
        self.event(
            noon(170) + 8 * MINUTE,
            "SESSION_STARTED",
            "S-y",
            json!({"session_id": "S-y", "user_id": "u-90", "login_method": "password"}),
        );
        self.alerts.extend([("failed_sign_ins", "u-90".to_owned()), ("sign_in_after_failures", "u-90".to_owned())]);
        let raised = json!({"session_id": "S-z", "user_id": "u-91", "security_event": "privilege_escalation", "response": "blocked"});
        self.put(noon(171), "SESSION_SECURITY_EVENT", "S-z", "critical", raised);
        self.alerts.push(("security_incident", "u-91".into()));
        for (id, told) in [("B-1", 30 * HOUR), ("B-2", 100 * HOUR)] {
            let found = json!({"incident_id": id, "incident_type": "unauthorized_access", "affected_records": {"customers": 3}});
            self.event(noon(180), "BREACH_DISCOVERED", id, found);
            self.event(noon(180) + told, "BREACH_REGULATOR_NOTIFIED", id, json!({"incident_id": id}));
            self.event(noon(195), "BREACH_CLOSED", id, json!({"incident_id": id}));
            self.alerts.push(("breach", id.into()));
            self.things.push((
                "breach",
                id.into(),
                json!({"status": "closed", "incident_type": "unauthorized_access"}),
            ));
        }
        self.alerts.push(("breach_notice_overdue", "B-2".into()));
        self.law(noon(200));
        self.steps(noon(220));
        self.halves(noon(230));
    }

    /// What the law does not allow.
    fn law(&mut self, at: u64) {
        let marketing = |id: &str, consent: &str, way_out: bool| {
            json!({
                "email_id": id, "recipient_details": {"customer_id": "c-5"}, "message_content": {"template_id": "P-4"},
                "delivery_tracking": {"delivery_status": "successful"},
                "compliance_data": {"popia_consent": consent, "unsubscribe_link": way_out, "data_classification": "marketing"},
            })
        };
        let (without, no_way) =
            (marketing("V-1@shop.example", "withdrawn", true), marketing("V-2@shop.example", "verified", false));
        self.event(at, "EMAIL_SENT", "V-1", without);
        self.event(at + DAY, "EMAIL_SENT", "V-2", no_way);
        self.alerts
            .extend([("marketing_without_consent", String::new()), ("marketing_without_way_out", String::new())]);
        let consent = json!({"consent_id": "G-x", "customer_id": "c-1999", "consent_type": "marketing", "consent_method": "opt_in"});
        self.event(at, "CONSENT_GIVEN", "G-x", consent.clone());
        self.event(at + DAY, "CONSENT_WITHDRAWN", "G-x", consent);
        let sent = json!({"email_id": "V-3@shop.example", "recipient_details": {"customer_id": "c-1999"}, "consent_id": "G-x", "delivery_tracking": {"delivery_status": "successful"}});
        self.event(at + 4 * DAY, "EMAIL_SENT", "V-3", sent);
        self.alerts.push(("sent_after_withdrawal", "G-x".into()));
        let request = json!({"request_id": "R-late", "request_type": "deletion", "customer_id": "c-9", "request_channel": "email"});
        self.event(at, "REQUEST_RECEIVED", "R-late", request);
        self.event(at + 45 * DAY, "REQUEST_COMPLETED", "R-late", json!({"request_id": "R-late"}));
        self.alerts.push(("request_overdue", "R-late".into()));
        let ticket = json!({"ticket_id": "T-late", "customer_id": "c-9", "issue_category": "product", "priority_level": "low", "resolve_by": UnixMillis(at + 3 * DAY).rfc3339()});
        self.event(at, "TICKET_OPENED", "T-late", ticket);
        self.event(
            at + HOUR,
            "TICKET_COMMUNICATION",
            "T-late",
            json!({"ticket_id": "T-late", "type": "email", "direction": "outbound"}),
        );
        self.event(at + 9 * DAY, "TICKET_RESOLVED", "T-late", json!({"ticket_id": "T-late"}));
        self.alerts.push(("ticket_overdue", "T-late".into()));
    }

    /// Steps that should not have been possible.
    fn steps(&mut self, at: u64) {
        let order = |id: &str| json!({"order_id": id, "customer_id": "c-3"});
        self.event(at, "ORDER_PLACED", "O-x", order("O-x"));
        self.event(at + DAY, "ORDER_DELIVERED", "O-x", order("O-x"));
        self.flags.push(("order", "O-x".into(), "delivered_before_shipped"));
        let consent =
            json!({"consent_id": "G-y", "customer_id": "c-3", "consent_type": "marketing", "consent_method": "opt_in"});
        self.event(at, "CONSENT_GIVEN", "G-y", consent.clone());
        for later in [1, 2] {
            self.event(at + later * DAY, "CONSENT_WITHDRAWN", "G-y", consent.clone());
        }
        self.flags.push(("consent", "G-y".into(), "withdrawn_twice"));
    }

    /// Beginnings without an end, ends without a beginning.
    fn halves(&mut self, at: u64) {
        self.event(at, "NOTIF_CREATED", "n-open", json!({"recipient_count": 1}));
        self.event(
            at,
            "EMAIL_SENT",
            "E-open",
            json!({"email_id": "E-open@shop.example", "recipient_details": {"customer_id": "c-4"}}),
        );
        self.event(at, "EMAIL_DELIVERED", "E-none", json!({"email_id": "E-none@shop.example"}));
        self.event(at, "TICKET_RESOLVED", "T-none", json!({"ticket_id": "T-none"}));
        self.event(at, "ORDER_SHIPPED", "O-none", json!({"order_id": "O-none"}));
        self.event(
            at + HOUR,
            "ORDER_COMMUNICATION",
            "O-none",
            json!({"order_id": "O-none", "type": "shipping_notice"}),
        );
        self.event(at, "ACTION_LINK_CLICKED", "w-none", json!({"workflow_step_id": "s1"}));
        self.event(at, "ORDER_PLACED", "O-silent", json!({"order_id": "O-silent", "customer_id": "c-4"}));
        self.event(at + DAY, "ORDER_SHIPPED", "O-silent", json!({"order_id": "O-silent"}));
        let ticket = json!({"ticket_id": "T-silent", "customer_id": "c-4", "issue_category": "product", "priority_level": "low"});
        self.event(at, "TICKET_OPENED", "T-silent", ticket);
        self.open = [
            ("created_not_sent", "n-open"),
            ("sent_not_ended", "E-open@shop.example"),
            ("ended_not_begun", "E-none@shop.example"),
            ("resolved_not_opened", "T-none"),
            ("delivered_not_placed", "O-none"),
            ("clicked_without_token", "w-none"),
            ("shipped_not_told", "O-silent"),
            ("ticket_not_answered", "T-silent"),
        ]
        .map(|(cycle, id)| (cycle, id.to_owned()))
        .into();
    }

    /// Jobs of the business's own systems, until the year is full.
    fn fill(&mut self) {
        while self.events.len() < EVENTS {
            let day = self.random(DAYS);
            let at = self.in_hours(day);
            let job = json!({"system_event": "job", "component": "stock", "outcome": "success", "duration_s": self.random(900)});
            self.event(at, "SYSTEM_EVENT", "job", job);
        }
    }
}
