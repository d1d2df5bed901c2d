//! Commands over registers: lists of things, consent at a time.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use ledger::clock::{Clock, SystemClock};
use reads::registers::{Listing, Wanted};
use record::things;

use super::look::{guarded, purpose};
use super::{Data, Output, Why};

/// `candor consent`
#[derive(Args)]
pub struct Consent {
    #[command(flatten)]
    data: Data,
    /// The customer.
    #[arg(long, value_name = "ID")]
    customer: String,
    /// As it stood at this time, such as 2026-11-01T08:00:00Z, instead of now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    why: Why,
}

impl Consent {
    pub fn run(self) -> Result<ExitCode> {
        let (why, at) = (
            purpose(&self.why, "consent"),
            super::moment("--at", self.at.as_deref())?.unwrap_or_else(|| SystemClock.now()),
        );
        let states = guarded(&self.data.data, |guard, _| Ok(guard.consents(&why, &self.customer, at)?.into_inner()))?;
        println!("{}", serde_json::to_string_pretty(&states)?);
        Ok(ExitCode::SUCCESS)
    }
}

/// `candor list`
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    data: Data,
    /// Register: templates, tickets, calls, orders, sessions, data, requests, consents, breaches.
    register: String,
    /// Only what waits for somebody.
    #[arg(long, conflicts_with = "ended")]
    open: bool,
    /// Only what waits for nobody.
    #[arg(long)]
    ended: bool,
    /// Only what waits and whose time is over.
    #[arg(long)]
    overdue: bool,
    /// Only in this state.
    #[arg(long)]
    status: Option<String>,
    /// Only of this category, type or purpose.
    #[arg(long)]
    category: Option<String>,
    /// Only of this priority.
    #[arg(long)]
    priority: Option<String>,
    /// Only what this person has in charge.
    #[arg(long, value_name = "ID")]
    staff: Option<String>,
    /// Only of this customer.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Things, at most, those that began last first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

impl List {
    pub fn run(self) -> Result<ExitCode> {
        let shape = things::shape(&self.register).with_context(|| {
            let names: Vec<&str> =
                things::SHAPES.iter().filter(|shape| shape.is_listed()).map(|shape| shape.path).collect();
            format!("list: there is no such register: one of {}", names.join(", "))
        })?;
        let now = SystemClock.now();
        let wanted = Wanted {
            open: if self.open { Some(true) } else { self.ended.then_some(false) },
            due_before: self.overdue.then_some(now.0),
            status: self.status,
            category: self.category,
            priority: self.priority,
            staff: self.staff,
            below: None,
            limit: usize::from(self.limit),
        };
        let (listing, why) = (Listing { wanted, customer: self.customer }, purpose(&self.why, "list"));
        let page = guarded(&self.data.data, |guard, _| Ok(guard.list(&why, shape, &listing, now)?.into_inner()))?;
        let text = |thing: &serde_json::Value, name: &str| thing[name].as_str().unwrap_or("-").to_owned();
        for thing in &page.things {
            if self.output.json {
                println!("{thing}");
            } else {
                let due = thing["clock"]["due"].as_str().map(|due| format!("  due {due}")).unwrap_or_default();
                let rules = thing["flags"].as_array().into_iter().flatten().filter_map(|flag| flag["rule"].as_str());
                let rules: String = rules.map(|rule| format!("  ! {rule}")).collect();
                println!(
                    "{:<24} {:<16} {}{due}{rules}",
                    text(thing, shape.id),
                    text(thing, "status"),
                    text(thing, "last_change")
                );
            }
        }
        if page.next_below.is_some() {
            eprintln!("candor: there are more: raise --limit, or narrow the list");
        }
        Ok(ExitCode::SUCCESS)
    }
}
