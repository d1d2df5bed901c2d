//! `candor quarantine`: refused input that was kept, and taking it in again.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use reads::guard::Guard;
use reads::quarantine::Kept;
use serde_json::Value;
use web::submit::{NotReplayed, Unavailable};

use super::{Data, Output, Why, look};
use crate::quarantine;
use crate::trail::Trail;

/// `candor quarantine`
#[derive(Args)]
pub struct Quarantine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Which {
    #[command(flatten)]
    data: Data,
    /// Only of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only what was refused for this reason, such as unknown_field.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Only entries below this index: the next page.
    #[arg(long, value_name = "INDEX")]
    below: Option<u64>,
    /// Lines looked at, at most, the newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// List what is kept: source, reason, size. What was sent is not opened; `candor show ENTRY` does that.
    List(Which),
    /// Take in again what is kept: as if its source sent it now.
    ///
    /// It adds records and alters none: what was taken in before is a repeat, what is refused again stays where it is.
    /// Each is recorded (QUARANTINE_REPLAYED).
    Replay {
        /// Entries, as the list shows them; without them what the filters leave.
        entries: Vec<u64>,
        #[command(flatten)]
        which: Which,
    },
}

impl Which {
    fn list(&self, guard: &Guard) -> Result<Vec<Value>> {
        let kept = Kept {
            source: self.source.clone(),
            code: self.code.clone(),
            below: self.below,
            limit: usize::from(self.limit),
        };
        Ok(guard.quarantined(&look::purpose(&self.why, "quarantine"), &kept)?.into_inner().lines)
    }
}

impl Quarantine {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::List(which) => {
                let lines = look::guarded(&which.data.data, |guard, _| which.list(guard))?;
                for line in &lines {
                    if which.output.json {
                        println!("{line}");
                    } else {
                        let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
                        let number = |name: &str| line[name].as_u64().unwrap_or(0);
                        println!(
                            "{:>8}  {}  {:<16} {:<16} {:<24} {} bytes",
                            number("entry"),
                            text("at"),
                            text("from_source"),
                            text("code"),
                            text("kind_name"),
                            number("size_bytes")
                        );
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Command::Replay { entries, which } => {
                let outcomes = look::guarded(&which.data.data, |guard, trail| {
                    let entries = if entries.is_empty() {
                        which.list(guard)?.iter().filter_map(|line| line["entry"].as_u64()).collect()
                    } else {
                        entries
                    };
                    // The oldest first, as they came.
                    let mut entries: Vec<u64> = entries;
                    entries.sort_unstable();
                    entries.into_iter().map(|entry| replay(guard, trail, &which.why, entry)).collect::<Result<Vec<_>>>()
                })?;
                let refused = outcomes.iter().filter(|outcome| outcome["outcome"] == "refused").count();
                for outcome in &outcomes {
                    if which.output.json {
                        println!("{outcome}");
                    } else {
                        let text = |name: &str| outcome[name].as_str().unwrap_or_default().to_owned();
                        let entry = outcome["entry"].as_u64().unwrap_or(0);
                        let as_what = match outcome["new_entry"].as_u64() {
                            Some(new) => format!("entry {new}"),
                            None => text("why"),
                        };
                        println!("{entry:>8}  {:<9} {as_what}", text("outcome"));
                    }
                }
                Ok(if refused > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
            }
        }
    }
}

fn replay(guard: &Guard, trail: &Trail, why: &Why, entry: u64) -> Result<Value> {
    let purpose = look::purpose(why, "quarantine-replay");
    quarantine::replay(guard, &trail.intake, &purpose, entry).map_err(|why| match why {
        NotReplayed::NotRead(why) => why.into(),
        NotReplayed::NotKept(why) => anyhow!("quarantine replay: entry {entry}: {why}"),
        NotReplayed::Unavailable(Unavailable::Now(why)) => anyhow!("quarantine replay: entry {entry}: {why}"),
        NotReplayed::Unavailable(Unavailable::NoSource) => {
            anyhow!("quarantine replay: entry {entry}: its source is not in candor.toml any more: add [sources.NAME]")
        }
    })
}
