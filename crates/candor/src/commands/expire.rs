//! `candor expire` and `candor hold`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Data, Output, interrupts, moment};
use crate::ending::{self, Row};
use crate::hold::{self, Asked, Filter};
use crate::progress::Progress;
use crate::trail::{OpenMode, Trail};

/// `candor expire`
#[derive(Args)]
pub struct Expire {
    #[command(subcommand)]
    command: ExpireCommand,
}

#[derive(Subcommand)]
enum ExpireCommand {
    /// Say what would end, and end nothing.
    Preview {
        #[command(flatten)]
        data: Data,
        /// What will have to end by this day, such as 2027-01-31. Default: today.
        #[arg(long, value_name = "DATE")]
        by: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// End what is due: its keys are destroyed for ever.
    Run {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        output: Output,
    },
    /// List what has ended, and by which entry.
    Report {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        output: Output,
    },
}

fn opened<T>(data: &Data, work: impl FnOnce(&Trail) -> Result<T>) -> Result<T> {
    let trail = Trail::open(&data.data, OpenMode::default())?;
    let result = work(&trail);
    let closed = trail.close();
    let value = result?;
    closed?;
    Ok(value)
}

impl Expire {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            ExpireCommand::Preview { data, by, output } => {
                let text = by.map(|day| format!("{day}T00:00:00Z"));
                let by = moment("--by", text.as_deref())?.map_or_else(ending::today, |by| by.day());
                let rows = opened(&data, |trail| {
                    let mut progress = Progress::new("looking", None);
                    ending::preview(&trail.sources(), by, |done| progress.set(done))
                })?;
                print(&rows, output)?;
                if !output.json {
                    println!("{} would end by {}; nothing was ended", periods(rows.len()), ending::date(by));
                }
            }
            ExpireCommand::Run { data, output } => {
                let stop = interrupts()?;
                let rows = opened(&data, |trail| {
                    let mut progress = Progress::new("ending", None);
                    ending::of(trail, &super::actor())?.run(ending::today(), &stop, |done| progress.set(done))
                })?;
                print(&rows, output)?;
                if !output.json {
                    println!("{} ended; copies made outside this directory are yours to end", periods(rows.len()));
                }
            }
            ExpireCommand::Report { data, output } => {
                let rows = opened(&data, |trail| ending::report(&trail.sources()))?;
                for (row, at) in &rows {
                    if output.json {
                        let mut value = serde_json::to_value(row)?;
                        value["ended_at"] = at.as_deref().map_or(Value::Null, Value::from);
                        println!("{value}");
                    } else {
                        println!("{}  {}", at.as_deref().unwrap_or("-"), line(row));
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn periods(count: usize) -> String {
    if count == 1 { "1 period".into() } else { format!("{count} periods") }
}

fn line(row: &Row) -> String {
    let held = row.held.filter(|held| *held > 0).map(|held| format!(", {held} of them held")).unwrap_or_default();
    let by = row.ended_by.map(|by| format!(", ended by entry {by}")).unwrap_or_default();
    let entries = if row.entries == 1 { "entry" } else { "entries" };
    format!("{:<14} {} to {}  {:>9} {entries}{held}{by}", row.class, row.from, row.until, row.entries)
}

fn print(rows: &[Row], output: Output) -> Result<()> {
    for row in rows {
        if output.json {
            println!("{}", serde_json::to_string(row)?);
        } else {
            println!("{}", line(row));
        }
    }
    Ok(())
}

/// `candor hold`
#[derive(Args)]
pub struct Hold {
    #[command(subcommand)]
    command: HoldCommand,
}

#[derive(Subcommand)]
enum HoldCommand {
    /// Keep what fits, whatever ends beside it.
    ///
    /// An entry is held if it fits everything that is given. While a hold covers anything of a person, they cannot be
    /// erased.
    Place {
        #[command(flatten)]
        data: Data,
        /// Everything about the customer with this number.
        #[arg(long, value_name = "ID", group = "person")]
        customer: Option<String>,
        /// Everything about the person with this e-mail address.
        #[arg(long, value_name = "ADDRESS", group = "person")]
        address: Option<String>,
        /// Everything about the person with this telephone number.
        #[arg(long, value_name = "NUMBER", group = "person")]
        phone: Option<String>,
        /// Everything of this correlation id.
        #[arg(long, value_name = "ID")]
        correlation: Option<String>,
        /// Entries of this kind; may be given more than once.
        #[arg(long, value_name = "KIND")]
        kind: Vec<String>,
        /// Records whose own time is not before this one.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Records whose own time is before this one.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Why, such as the number of the matter; it stays in the trail, so it must not name the person.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// List the holds, those released too.
    List {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        output: Output,
    },
    /// Release a hold: what only it kept is gone.
    Release {
        #[command(flatten)]
        data: Data,
        /// The hold, as `candor hold list` names it.
        id: String,
        /// Why, such as the number of the matter.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
}

impl Hold {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            HoldCommand::Place { data, customer, address, phone, correlation, kind, from, until, reason, output } => {
                let time = |option, given: Option<String>| -> Result<Option<String>> {
                    Ok(moment(option, given.as_deref())?.map(|at| at.rfc3339()))
                };
                let (from, until) = (time("--from", from)?, time("--until", until)?);
                if from.as_ref().zip(until.as_ref()).is_some_and(|(from, until)| from >= until) {
                    bail!("hold: --from must be before --until");
                }
                let filter = Filter { correlation_id: correlation, kinds: kind, from, until, ..Filter::default() };
                let person = super::Person { customer, address, phone };
                let named = person.customer.is_some() || person.address.is_some() || person.phone.is_some();
                let person = named.then(|| super::look::identifier(&person)).transpose()?;
                let (id, entry) =
                    opened(&data, |trail| hold::place(trail, Asked { person, filter, reason }, &super::actor()))?;
                if output.json {
                    println!("{}", json!({"hold_id": id, "entry": entry}));
                } else {
                    println!("{id} holds from now on (entry {entry}); `candor hold release {id}` ends it");
                }
            }
            HoldCommand::List { data, output } => {
                let holds = opened(&data, |trail| Ok(trail.store.lock()?.holds().to_vec()))?;
                for hold in holds {
                    let filter: Value = serde_json::from_str(&hold.filter).unwrap_or_default();
                    if output.json {
                        println!(
                            "{}",
                            json!({"hold_id": hold.id, "live": hold.is_live(), "placed_by": hold.placed_by, "filter": filter, "kept": hold.ring_entries()})
                        );
                    } else {
                        let state = if hold.is_live() { "holds" } else { "released" };
                        println!("{}  {state:<8}  keeps {} entries  {filter}", hold.id, hold.ring_entries());
                    }
                }
            }
            HoldCommand::Release { data, id, reason, output } => {
                let entry = opened(&data, |trail| hold::release(trail, &id, &reason, &super::actor()))?;
                if output.json {
                    println!("{}", json!({"hold_id": id, "entry": entry}));
                } else {
                    println!("{id} is released (entry {entry}); what only it kept is gone");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
