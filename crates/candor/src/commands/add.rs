//! `candor add`: what was said to a customer outside every system, written down by hand.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ledger::clock::{Clock, SystemClock};
use record::by_hand::{ByHand, Direction, What, Written};
use seal::random::RandomPool;
use serde_json::json;

use super::{Data, Output};
use crate::intake::{Accepted, Worker};
use crate::trail::{OpenMode, Trail};

/// One of these, by its name.
fn named<T: Copy + Send + Sync + 'static>(names: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    let find = move |given: String| names.iter().find(|(name, _)| **name == given).map(|(_, one)| *one);
    PossibleValuesParser::new(names.iter().map(|(name, _)| *name)).try_map(move |given| find(given).ok_or("unknown"))
}

/// Whom it was with: one or more of these.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct With {
    /// The business's own customer number.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// An e-mail address.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// A telephone number.
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
}

/// `candor add`
#[derive(Args)]
pub struct Add {
    #[command(flatten)]
    data: Data,
    /// What it was: a talk is one in person; a note is what nobody outside sees, of a ticket where one is given.
    #[arg(value_parser = named(&What::NAMES))]
    what: What,
    #[command(flatten)]
    with: With,
    /// Which way it went. A talk has both; a note is internal.
    #[arg(long, value_parser = named(&Direction::NAMES))]
    direction: Option<Direction>,
    /// What it was about, in a few sentences; - reads them from standard input, so that no process list shows them.
    #[arg(long, value_name = "TEXT")]
    summary: String,
    /// When it was, such as 2026-11-01T08:00:00Z. Default: now. The time of writing stands beside it.
    #[arg(long, value_name = "TIME")]
    when: Option<String>,
    /// Who of the staff it was. Default: the user of this system who writes it down, who stands as its author anyway.
    #[arg(long, value_name = "ID")]
    staff: Option<String>,
    /// The ticket that it belongs to.
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// The order that it belongs to.
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Seconds of a call.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u32>,
    /// Name of the source, as in candor.toml.
    #[arg(long, default_value = "local")]
    source: String,
    #[command(flatten)]
    output: Output,
}

impl Add {
    pub fn run(self) -> Result<ExitCode> {
        let now = SystemClock.now();
        let when = super::moment("--when", self.when.as_deref())?;
        let summary = match self.summary.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()).context("read standard input")?.trim().to_owned(),
            text => text.to_owned(),
        };
        let by_hand = ByHand {
            what: self.what,
            customer: self.with.customer,
            address: self.with.address,
            phone: self.with.phone,
            direction: self.direction,
            summary,
            when: when.map(|when| when.rfc3339()),
            staff: self.staff,
            ticket: self.ticket,
            order: self.order,
            duration: self.duration,
        };
        let id = format!("hand-{}", proof::encoding::hex(&RandomPool::default().take::<8>()));
        let author = super::actor();
        let line = |environment: &str| {
            by_hand.record(&Written { id: &id, now, author: &author, environment }).map(|record| record.to_string())
        };
        // What does not go together is said before the trail is opened.
        line("").map_err(|why| anyhow!("add: {why}"))?;
        let trail = Trail::open(&self.data.data, OpenMode::default())?;
        if let Err(error) = trail.intake.recipients(&self.source) {
            trail.close()?;
            return Err(error);
        }
        let line = line(&trail.config.environment).map_err(|why| anyhow!("add: {why}"))?;
        let answered = trail.intake.lines(&mut Worker::default(), &self.source, &[(1, line.as_bytes())]);
        trail.close()?;
        let (_, answer) = answered?.pop().context("the record was not answered")?;
        match answer {
            Ok(Accepted::Committed { index, .. } | Accepted::Repeated { index, .. } | Accepted::Conflict { index }) => {
                if self.output.json {
                    println!("{}", json!({"index": index, "id": id}));
                } else {
                    println!("entry {index}, {id}");
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(refused) => bail!("add: {}", refused.refusal),
        }
    }
}
