//! Steps that should not have been possible, by name. They are recorded like any other, since the log is what happened;
//! the thing shows them (docs/registers.md lists the rules).

use std::collections::BTreeMap;

use proof::time::UnixMillis;
use serde_json::{Map, Value};

use super::fold::Event;
use super::shapes::{Shape, status_of};
use crate::standards::{Money, yes};

const DAY_MS: u64 = 86_400_000;

/// What has happened to a thing before an event.
#[derive(Debug, Default)]
pub(super) struct Past {
    kinds: Vec<String>,
    status: Option<String>,
    /// Captured and given back by currency, in ten-thousandths.
    paid: BTreeMap<String, (i128, i128)>,
    /// Who made the template or the change.
    author: Option<String>,
    /// Whether the change was approved.
    approved: bool,
    /// Whether who asks was verified.
    verified: bool,
}

fn text<'f>(fields: &'f Map<String, Value>, name: &str) -> Option<&'f str> {
    fields.get(name).and_then(Value::as_str)
}

/// What is written down by hand more than a day after it was is marked.
fn written_late(event: &Event) -> Option<&'static str> {
    let written = UnixMillis::parse(text(&event.fields, "written_at")?.as_bytes()).ok()?;
    (written.0 > event.at.0 + DAY_MS).then_some("written_late")
}

impl Past {
    fn had(&self, kind: &str) -> bool {
        self.kinds.iter().any(|held| held == kind)
    }

    fn is(&self, states: &[&str]) -> bool {
        self.status.as_deref().is_some_and(|status| states.contains(&status))
    }

    /// The rules that an event breaks; then it is part of the past.
    pub(super) fn check(&mut self, shape: &Shape, event: &Event) -> Vec<&'static str> {
        let mut broken = Vec::new();
        let begins = shape.begins_with(&event.kind);
        if shape.name != "data" && shape.name != "template" {
            if self.kinds.is_empty() && !begins && !self.may_stand_first(&event.kind) {
                broken.push("not_begun");
            }
            if self.had(&event.kind) && begins && !matches!(shape.name, "message" | "email" | "consent") {
                broken.push("begun_twice");
            }
        }
        broken.extend(self.follows(event));
        broken.extend(written_late(event));
        broken.extend(match shape.name {
            "ticket" => self.ticket(event),
            "order" => self.order(event),
            "consent" => self.consent(event),
            "session" => self.session(event),
            "call" => self.call(event),
            "request" => self.request(event),
            "email" | "message" => self.message(event),
            "data" => self.data(event),
            "template" => self.template(event),
            "breach" => self.breach(event),
            _ => None,
        });
        self.kinds.push(event.kind.clone());
        self.status = status_of(&event.kind, &event.fields).or(self.status.take());
        broken
    }

    /// A relay's word about a mail may be all that there is of it.
    fn may_stand_first(&self, kind: &str) -> bool {
        matches!(kind, "EMAIL_SEND_ATTEMPT" | "EMAIL_DELIVERY_STATUS" | "CALL_ENDED" | "SESSION_SECURITY_EVENT")
    }

    /// The state that an event says it comes from is the one that the thing had.
    fn follows(&self, event: &Event) -> Option<&'static str> {
        let said = text(&event.fields, "previous_status")?;
        let held = self.status.as_deref()?;
        (said != held).then_some("state_does_not_follow")
    }

    fn ticket(&self, event: &Event) -> Option<&'static str> {
        let ended = self.is(&["resolved", "closed"]);
        match event.kind.as_str() {
            "TICKET_COMMUNICATION" if ended && text(&event.fields, "direction") == Some("outbound") => {
                Some("answered_after_resolution")
            }
            // A change of state to resolved and the resolution are one step told twice.
            "TICKET_RESOLVED" if ended && self.had("TICKET_RESOLVED") => Some("resolved_twice"),
            "TICKET_RATED" if !ended => Some("rated_before_resolution"),
            _ => None,
        }
    }

    fn order(&mut self, event: &Event) -> Option<&'static str> {
        let cancelled = self.is(&["cancelled"]);
        match event.kind.as_str() {
            "ORDER_PAYMENT" => self.payment(event.fields.get("payment_audit")?),
            "ORDER_SHIPPED" | "ORDER_DELIVERED" | "ORDER_PROCESSED" | "ORDER_CONFIRMED" if cancelled => {
                Some("step_after_cancellation")
            }
            "ORDER_DELIVERED" if !self.had("ORDER_SHIPPED") => Some("delivered_before_shipped"),
            "ORDER_CANCELLED" if self.had("ORDER_DELIVERED") => Some("cancelled_after_delivery"),
            "ORDER_RETURNED" if !self.had("ORDER_DELIVERED") => Some("returned_before_delivered"),
            _ => None,
        }
    }

    fn payment(&mut self, payment: &Value) -> Option<&'static str> {
        let money = Money::read(payment.get("amount")?)?;
        let paid = self.paid.entry(money.currency).or_default();
        match payment.get("payment_status")?.as_str()? {
            "captured" => paid.0 += money.value,
            "refunded" | "charged_back" => {
                paid.1 += money.value;
                if paid.1 > paid.0 {
                    return Some("refund_above_captured");
                }
            }
            _ => {}
        }
        None
    }

    fn consent(&self, event: &Event) -> Option<&'static str> {
        match event.kind.as_str() {
            "CONSENT_WITHDRAWN" if self.is(&["withdrawn"]) => Some("withdrawn_twice"),
            "CONSENT_WITHDRAWN" if !self.had("CONSENT_GIVEN") => Some("withdrawn_without_consent"),
            // POPIA, section 69(2): a person may be asked once.
            "CONSENT_ASKED" if self.had("CONSENT_ASKED") => Some("asked_twice"),
            "CONSENT_ASKED" if self.had("CONSENT_REFUSED") || self.had("CONSENT_OBJECTED") => {
                Some("asked_after_refusal")
            }
            _ => None,
        }
    }

    fn session(&self, event: &Event) -> Option<&'static str> {
        match event.kind.as_str() {
            "SESSION_ACTIVITY" if self.is(&["ended"]) => Some("activity_after_end"),
            "SESSION_ENDED" if self.is(&["ended"]) => Some("ended_twice"),
            _ => None,
        }
    }

    fn call(&self, event: &Event) -> Option<&'static str> {
        match event.kind.as_str() {
            "CALL_ENDED" if self.had("CALL_ENDED") => Some("ended_twice"),
            "CALL_ENDED" if !self.had("CALL_STARTED") => Some("end_without_start"),
            _ => None,
        }
    }

    fn request(&mut self, event: &Event) -> Option<&'static str> {
        if let Some(status) = text(&event.fields, "verification_status") {
            self.verified = status == "verified";
        }
        match event.kind.as_str() {
            "REQUEST_COMPLETED" if self.had("REQUEST_COMPLETED") => Some("completed_twice"),
            "REQUEST_COMPLETED" if !self.verified => Some("completed_without_verification"),
            "REQUEST_EXTENDED" if self.had("REQUEST_EXTENDED") => Some("extended_twice"),
            _ => None,
        }
    }

    fn message(&self, event: &Event) -> Option<&'static str> {
        let (what, step) = event.kind.split_once('_')?;
        let sent = || self.kinds.iter().any(|kind| kind == &format!("{what}_SENT") || kind.ends_with("_STATUS"));
        match step {
            "DELIVERED" | "OPENED" | "READ" | "CLICKED" if !self.kinds.is_empty() && !sent() => {
                Some("delivered_without_sending")
            }
            "OPENED" | "READ" | "CLICKED" if self.is(&["bounced", "failed"]) => Some("opened_after_failure"),
            "SENT" if self.had("EMAIL_UNSUBSCRIBED") => Some("sent_after_unsubscribing"),
            _ => None,
        }
    }

    fn data(&mut self, event: &Event) -> Option<&'static str> {
        let required = event.fields.get("approval_required").and_then(yes) == Some(true);
        let status = text(&event.fields, "approval_status");
        match event.kind.as_str() {
            "DATA_MODIFIED" if status == Some("rejected") => Some("changed_though_rejected"),
            "DATA_MODIFIED" if required && status.is_none() && !self.approved => Some("changed_without_approval"),
            "DATA_MODIFIED" => {
                // An approval is of one change.
                self.approved = false;
                self.author = text(&event.fields, "user_id").map(str::to_owned).or(self.author.take());
                None
            }
            "DATA_CHANGE_DECIDED" => {
                let own =
                    text(&event.fields, "approver").is_some_and(|who| text(&event.fields, "user_id") == Some(who));
                own.then_some("approved_by_the_author")
            }
            _ => None,
        }
    }

    fn template(&mut self, event: &Event) -> Option<&'static str> {
        let author = text(&event.fields, "author").map(str::to_owned);
        self.author = author.or(self.author.take());
        let actor = text(&event.fields, "actor");
        let own = actor.is_some() && self.author.as_deref() == actor;
        (event.kind == "TEMPLATE_APPROVED" && own).then_some("approved_by_the_author")
    }

    fn breach(&self, event: &Event) -> Option<&'static str> {
        match event.kind.as_str() {
            "BREACH_CLOSED" if !self.had("BREACH_REGULATOR_NOTIFIED") => Some("closed_without_notice"),
            "BREACH_CLOSED" if self.is(&["closed"]) => Some("closed_twice"),
            _ => None,
        }
    }
}
