//! The part of `candor bench` that measures registers: tickets beside the workload, read whole and listed, with the
//! access entry that each read writes.

use std::collections::BTreeSet;
use std::time::Instant;

use access::policy::{Action, Asked, Policy, SHIPPED};
use access::role::Role;
use anyhow::{Context, Result};
use ledger::clock::{Clock, SystemClock};
use reads::guard::Of;
use reads::registers::{Listing, Wanted};
use record::things::shape;
use serde_json::{Value, json};

use crate::bench::quantiles;
use crate::commands::Why;
use crate::ingest::BATCH_LINES;
use crate::intake::Worker;
use crate::trail::Trail;

/// Events of each ticket.
const EVENTS: u64 = 4;
/// Reads of each sort.
const READS: u64 = 200;
/// Customers that the tickets are of.
const CUSTOMERS: u64 = 5000;
/// Decisions that are measured.
const DECISIONS: usize = 10_000;

fn event(ticket: u64, step: u64) -> String {
    let at = SystemClock.now().rfc3339();
    let (kind, more) = match step {
        0 => (
            "TICKET_OPENED",
            format!(r#","issue_category":"billing","priority_level":"high","assigned_to":"u-{}""#, ticket % 50),
        ),
        1 => ("TICKET_STATUS_CHANGED", format!(r#","new_status":"in_progress","changed_by":"u-{}""#, ticket % 50)),
        2 => ("TICKET_COMMUNICATION", r#","type":"email","direction":"outbound","content_summary":"asked""#.to_owned()),
        // One in twenty stays open.
        _ if ticket.is_multiple_of(20) => ("TICKET_CHANGED", r#","reason_category":"waiting""#.to_owned()),
        _ => ("TICKET_RESOLVED", r#","resolution_details":{"resolution_type":"solved"}"#.to_owned()),
    };
    format!(
        r#"{{"timestamp":"{at}","event_type":"{kind}","correlation_id":"t-{ticket}","source_component":"bench","environment":"test","severity":"info","event_id":"t-{ticket}-{step}","ticket_id":"T-{ticket}","customer_id":"c-{}"{more}}}"#,
        ticket % CUSTOMERS
    )
}

/// Microseconds of a decision by the policies that ship.
fn decisions() -> Result<Value> {
    let policy = Policy::new(SHIPPED)?;
    let roles = [Role::CustomerService];
    let plain = Asked::plain(&roles, Action::ReadHistory);
    let asked = Asked { persons: 1, justified: true, classes: BTreeSet::from(["communication"]), ..plain };
    let mut taken = Vec::new();
    for _ in 0..DECISIONS {
        let start = Instant::now();
        anyhow::ensure!(policy.decide(&asked).permitted, "customer service reads one history");
        taken.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(quantiles(taken))
}

/// Writes so many tickets and reads them.
pub fn measure(trail: &Trail, tickets: u64) -> Result<Value> {
    let mut worker = Worker::default();
    let lines: Vec<String> = (0..EVENTS).flat_map(|step| (0..tickets).map(move |ticket| event(ticket, step))).collect();
    let start = Instant::now();
    for some in lines.chunks(usize::from(BATCH_LINES)) {
        let some: Vec<(u64, &[u8])> = some.iter().zip(1..).map(|(line, number)| (number, line.as_bytes())).collect();
        trail.intake.lines(&mut worker, "local", &some)?;
    }
    let rate = lines.len() as f64 / start.elapsed().as_secs_f64();
    let guard = crate::commands::look::guard(trail)?;
    let purpose = crate::commands::look::purpose(&Why { purpose: "bench".into(), justification: None }, "bench");
    let ticket = shape("ticket").context("there are tickets")?;
    let timed = |read: &dyn Fn(u64) -> Result<()>| -> Result<Value> {
        let mut taken = Vec::new();
        for number in 0..READS {
            let start = Instant::now();
            read(number)?;
            taken.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(quantiles(taken))
    };
    let list = |wanted: Wanted| -> Result<()> {
        let listing = Listing { wanted: Wanted { limit: 50, ..wanted }, customer: None };
        guard.list(&purpose, ticket, &listing, SystemClock.now()).map(drop).context("list")
    };
    let whole = timed(&|number| {
        let id = format!("T-{}", number * 7919 % tickets);
        guard.thing(&purpose, ticket, &id, None, SystemClock.now()).map(drop).context("show")
    })?;
    let open = timed(&|_| list(Wanted { open: Some(true), ..Wanted::default() }))?;
    let staff = timed(&|number| {
        list(Wanted { open: Some(true), staff: Some(format!("u-{}", number % 50)), ..Wanted::default() })
    })?;
    let history = timed(&|number| {
        let of = Of::customer(&format!("c-{}", number * 31 % CUSTOMERS));
        guard.history(&purpose, &of).map(drop).context("history")
    })?;
    Ok(json!({
        "history_of_one_ms": history, "policy_decision_us": decisions()?,
        "tickets": tickets, "events_a_second_one_at_a_time": rate, "whole_ms": whole, "list_of_50_open_ms": open,
        "list_of_50_open_of_one_ms": staff,
    }))
}
