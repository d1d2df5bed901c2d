//! `candor completeness`: what began and did not end in time.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ledger::clock::{Clock, SystemClock};
use serde_json::Value;
use views::cycles::CYCLES;

use super::{Data, Output, Why, look};
use crate::completeness;

/// `candor completeness`
#[derive(Args)]
pub struct Completeness {
    #[command(flatten)]
    data: Data,
    /// List what stands open of this life cycle; without it each one's count is shown.
    #[arg(value_name = "CYCLE")]
    cycle: Option<String>,
    /// Only from this entry on: the next page.
    #[arg(long, value_name = "INDEX", default_value_t = 0, requires = "cycle")]
    from: u64,
    /// Lines, at most, the oldest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Record the counts of yesterday, as `candor serve` does once a day.
    #[arg(long, conflicts_with = "cycle")]
    record: bool,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

impl Completeness {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(name) = &self.cycle
            && !CYCLES.iter().any(|cycle| cycle.name == name)
        {
            let names: Vec<&str> = CYCLES.iter().map(|cycle| cycle.name).collect();
            bail!("completeness: there is no such life cycle: one of {}", names.join(", "));
        }
        let stop = super::interrupts()?;
        let (why, now) = (look::purpose(&self.why, "completeness"), SystemClock.now());
        let (lines, next, stopped) = look::guarded(&self.data.data, |guard, trail| {
            // Nobody writes beside this command: what was taken in is all there is.
            let mut more = true;
            while more {
                more = completeness::follow(guard, 0, &stop)?;
                if more && stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return Ok((Vec::new(), None, true));
                }
            }
            if self.record {
                match completeness::record_day(guard, &trail.intake)? {
                    Some(entry) => eprintln!("candor: recorded, entry {entry}"),
                    None => eprintln!("candor: yesterday's counts are recorded already"),
                }
            }
            Ok(match &self.cycle {
                None => {
                    let all = guard.open_cycles(&why, now)?.into_inner();
                    (all.as_array().cloned().unwrap_or_default(), None, false)
                }
                Some(name) => {
                    let page = guard.open_of_cycle(&why, name, self.from, usize::from(self.limit), now)?.into_inner();
                    (page.open, page.next_from, false)
                }
            })
        })?;
        if stopped {
            bail!("completeness: interrupted: what was looked at is kept, ask again to go on");
        }
        for line in &lines {
            if self.output.json { println!("{line}") } else { print(line) }
        }
        if let Some(next) = next {
            eprintln!("candor: there are more: --from {next}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(line: &Value) {
    let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
    let age = |name: &str| line[name].as_u64().map_or("-".to_owned(), age);
    let number = |name: &str| line[name].as_u64().unwrap_or(0);
    if line["entry"].is_null() {
        println!("{:>8}  {:<22} known for {:<10} {}", number("open"), text("cycle"), age("oldest_s"), text("title"));
    } else {
        println!(
            "{:>8}  {:<10} {:<24} {:<36} {}",
            number("entry"),
            age("age_s"),
            text("kind"),
            text("id"),
            text("since")
        );
    }
}

/// The two largest units of a length of time.
fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes}"),
        _ => format!("{days} d {hours} h"),
    }
}
