//! `candor expire` and `candor hold`.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Data, Output, moment};
use crate::control::{On, OnTrail};
use crate::ending::{self, Row};
use crate::hold::{self, Asked, Filter};
use crate::progress::Progress;

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

impl OnTrail for Expire {
    fn data(&self) -> &Path {
        match &self.command {
            ExpireCommand::Preview { data, .. }
            | ExpireCommand::Run { data, .. }
            | ExpireCommand::Report { data, .. } => &data.data,
        }
    }

    fn work(&self, on: &On<'_>, out: &mut dyn Write) -> Result<()> {
        let trail = on.trail;
        match &self.command {
            ExpireCommand::Preview { by, output, .. } => {
                let text = by.as_ref().map(|day| format!("{day}T00:00:00Z"));
                let by = moment("--by", text.as_deref())?.map_or_else(ending::today, |by| by.day());
                let mut progress = Progress::new("looking", None);
                let rows = ending::preview(&trail.sources(), by, |done| progress.set(done))?;
                print(&rows, *output, out)?;
                if !output.json {
                    writeln!(out, "{} would end by {}; nothing was ended", periods(rows.len()), ending::date(by))?;
                }
            }
            ExpireCommand::Run { output, .. } => {
                let mut progress = Progress::new("ending", None);
                let ending = ending::of(trail, &on.actor)?;
                let rows = ending.run(ending::today(), on.stop, |done| progress.set(done))?;
                print(&rows, *output, out)?;
                if !output.json {
                    let ended = periods(rows.len());
                    writeln!(out, "{ended} ended; copies made outside this directory are yours to end")?;
                }
            }
            ExpireCommand::Report { output, .. } => {
                for (row, at) in ending::report(&trail.sources())? {
                    if output.json {
                        let mut value = serde_json::to_value(row)?;
                        value["ended_at"] = at.map_or(Value::Null, Value::from);
                        writeln!(out, "{value}")?;
                    } else {
                        writeln!(out, "{}  {}", at.as_deref().unwrap_or("-"), line(&row))?;
                    }
                }
            }
        }
        Ok(())
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

fn print(rows: &[Row], output: Output, out: &mut dyn Write) -> Result<()> {
    for row in rows {
        if output.json {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        } else {
            writeln!(out, "{}", line(row))?;
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

impl OnTrail for Hold {
    fn data(&self) -> &Path {
        match &self.command {
            HoldCommand::Place { data, .. } | HoldCommand::List { data, .. } | HoldCommand::Release { data, .. } => {
                &data.data
            }
        }
    }

    fn work(&self, on: &On<'_>, out: &mut dyn Write) -> Result<()> {
        let trail = on.trail;
        match &self.command {
            HoldCommand::Place { customer, address, phone, correlation, kind, from, until, reason, output, .. } => {
                let time = |option, given: &Option<String>| -> Result<Option<String>> {
                    Ok(moment(option, given.as_deref())?.map(|at| at.rfc3339()))
                };
                let (from, until) = (time("--from", from)?, time("--until", until)?);
                if from.as_ref().zip(until.as_ref()).is_some_and(|(from, until)| from >= until) {
                    bail!("hold: --from must be before --until");
                }
                let filter = Filter {
                    correlation_id: correlation.clone(),
                    kinds: kind.clone(),
                    from,
                    until,
                    ..Filter::default()
                };
                let person =
                    super::Person { customer: customer.clone(), address: address.clone(), phone: phone.clone() };
                let named = person.customer.is_some() || person.address.is_some() || person.phone.is_some();
                let person = named.then(|| super::look::identifier(&person)).transpose()?;
                let asked = Asked { person, filter, reason: reason.clone() };
                let (id, entry) = hold::place(trail, asked, &on.actor)?;
                if output.json {
                    writeln!(out, "{}", json!({"hold_id": id, "entry": entry}))?;
                } else {
                    writeln!(out, "{id} holds from now on (entry {entry}); `candor hold release {id}` ends it")?;
                }
            }
            HoldCommand::List { output, .. } => {
                let holds = trail.store.lock()?.holds().to_vec();
                for hold in holds {
                    let filter: Value = serde_json::from_str(&hold.filter).unwrap_or_default();
                    if output.json {
                        let row = json!({"hold_id": hold.id, "live": hold.is_live(), "placed_by": hold.placed_by, "filter": filter, "kept": hold.ring_entries()});
                        writeln!(out, "{row}")?;
                    } else {
                        let state = if hold.is_live() { "holds" } else { "released" };
                        writeln!(out, "{}  {state:<8}  keeps {} entries  {filter}", hold.id, hold.ring_entries())?;
                    }
                }
            }
            HoldCommand::Release { id, reason, output, .. } => {
                let entry = hold::release(trail, id, reason, &on.actor)?;
                if output.json {
                    writeln!(out, "{}", json!({"hold_id": id, "entry": entry}))?;
                } else {
                    writeln!(out, "{id} is released (entry {entry}); what only it kept is gone")?;
                }
            }
        }
        Ok(())
    }
}
