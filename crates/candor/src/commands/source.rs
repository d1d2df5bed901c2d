//! `candor source`: what is known of each source, and adding one.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ledger::clock::{Clock, SystemClock};
use reads::guard::Guard;
use reads::sources::Expected;
use serde_json::{Value, json};

use super::{Data, Output, Why, look};
use crate::config::{Config, Recipients, Source as Configured};
use crate::trail::{OpenMode, Trail};

/// `candor source`
#[derive(Args)]
pub struct Source {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the sources: state, when each spoke last, what is missing.
    List {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        output: Output,
    },
    /// Show one source with its newest gaps.
    Show {
        #[command(flatten)]
        data: Data,
        /// Its name, as in candor.toml.
        name: String,
        #[command(flatten)]
        why: Why,
    },
    /// Add a source to candor.toml, and record that it was added. A running server knows it from its next start on.
    Add {
        #[command(flatten)]
        data: Data,
        /// Its name: 1 to 64 letters, digits or _.:+-.
        name: String,
        /// How recipients of document 2's mail events are kept.
        #[arg(long, value_enum, default_value = "count")]
        recipients: Recipients,
        /// Seconds of silence after which an alert is raised.
        #[arg(long, value_name = "SECONDS")]
        quiet_after: Option<u64>,
    },
}

/// What is expected of a source by its configuration.
pub fn expected(source: &Configured) -> Expected {
    Expected { quiet_after_s: source.quiet_after_s, out_of_use: source.out_of_use }
}

fn state(guard: &Guard, trail: &Trail, why: &Why, name: &str) -> Result<Value> {
    let configured = trail.config.sources.get(name);
    let configured = configured.with_context(|| format!("source: there is none called {name} in candor.toml"))?;
    let purpose = look::purpose(why, "source");
    Ok(guard.source(&purpose, name, &expected(configured), SystemClock.now())?.into_inner())
}

impl Source {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::List { data, why, output } => {
                let states = look::guarded(&data.data, |guard, trail| {
                    trail.config.sources.keys().map(|name| state(guard, trail, &why, name)).collect::<Result<Vec<_>>>()
                })?;
                for state in states {
                    if output.json {
                        println!("{state}");
                    } else {
                        let text = |name: &str| state[name].as_str().unwrap_or("-").to_owned();
                        let number = |name: &str| state[name].as_u64().unwrap_or(0);
                        println!(
                            "{:<20} {:<11} last {:<26} {} in 24 h, {} gaps",
                            text("source"),
                            text("state"),
                            text("last_seen"),
                            number("entries_24h"),
                            number("gaps")
                        );
                    }
                }
            }
            Command::Show { data, name, why } => {
                let state = look::guarded(&data.data, |guard, trail| state(guard, trail, &why, &name))?;
                println!("{}", serde_json::to_string_pretty(&state)?);
            }
            Command::Add { data, name, recipients, quiet_after } => {
                let trail = Trail::open(&data.data, OpenMode::default())?;
                let added = add(&trail, &name, recipients, quiet_after);
                trail.close()?;
                println!("added, entry {}", added?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Recorded first: a source that is in the file is in the trail too.
fn add(trail: &Trail, name: &str, recipients: Recipients, quiet_after: Option<u64>) -> Result<u64> {
    if trail.config.sources.contains_key(name) {
        bail!("source add: there is one called {name} already: change it in candor.toml");
    }
    if crate::settings::binds(&trail.settled.settings, trail.past()?)? {
        bail!(
            "source add: changing sources takes two people here: write [sources.{name:?}] into candor.toml while the server runs, and propose it at /changes"
        );
    }
    let path = trail.paths.data.join("candor.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let mut section = format!("\n[sources.{name:?}]\nrecipients = \"{}\"\n", recipients.name());
    if let Some(seconds) = quiet_after {
        section.push_str(&format!("quiet_after_s = {seconds}\n"));
    }
    Config::parse(&(before + &section)).context("source add")?;
    let fields = json!({"source_name": name, "recipients": recipients.name(), "actor": super::actor()});
    let index = trail.intake.own_one("SOURCE_CHANGED", fields)?;
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(section.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(index)
}
