//! `candor watch` and `candor alert`: the rules, a trial of them over the past, and what people do with alerts.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use reads::alerts::{Past, PersonStep};
use serde_json::{Value, json};
use views::watch::{Alert as Raised, Rules, SHIPPED, Step};

use super::{Data, Output, Why, look};
use crate::alerts::{read_rules, rules};
use crate::config::Config;
use crate::progress::Progress;

const DAY_MS: u64 = 86_400_000;

/// `candor watch`
#[derive(Args)]
pub struct Watch {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the rules that ship with the program, as a file of rules.
    Rules,
    /// Check the rules of a deployment, and list them.
    Check {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        output: Output,
    },
    /// Try rules over the past: what they would have raised. Nothing is raised; that it was tried is recorded.
    ///
    /// Events count at their own times, so history that was taken in later is looked at as if it had come as it
    /// happened.
    Try {
        #[command(flatten)]
        data: Data,
        /// Rules to try instead of the deployment's own.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
        /// Only this rule.
        #[arg(long, value_name = "NAME")]
        rule: Option<String>,
        /// From this time on. Default: 30 days ago.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Until this time. Default: now.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        output: Output,
    },
}

impl Watch {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Rules => print!("{SHIPPED}"),
            Command::Check { data, output } => {
                let config = Config::read(&data.data)?;
                let catalogue = crate::trail::catalogue(&data.data, &config)?;
                for rule in rules(&data.data, &config, &catalogue)?.all() {
                    let text = &rule.text;
                    if output.json {
                        let line = json!({"name": text.name, "type": text.sort, "severity": text.severity, "title": text.title, "origin": text.origin, "sha256": rule.digest.hex()});
                        println!("{line}");
                    } else {
                        println!("{:<26} {:<10} {:<9} {}", text.name, text.sort, text.severity, text.title);
                    }
                }
            }
            Command::Try { data, rules, rule, from, until, why, output } => {
                let config = Config::read(&data.data)?;
                let catalogue = crate::trail::catalogue(&data.data, &config)?;
                let tried = match &rules {
                    None => crate::alerts::rules(&data.data, &config, &catalogue)?,
                    Some(path) => {
                        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                        let file = read_rules(&text).with_context(|| format!("read {}", path.display()))?;
                        let rules = Rules::new([file]).map_err(|why| anyhow!("{why}"))?;
                        rules.fit(&catalogue).map_err(|why| anyhow!("{why}"))?;
                        rules
                    }
                };
                let tried = match &rule {
                    None => tried,
                    Some(name) => tried.only(name).with_context(|| format!("watch try: there is no rule {name}"))?,
                };
                let until = super::moment("--until", until.as_deref())?.unwrap_or_else(|| SystemClock.now());
                let month_ago = || UnixMillis(until.0.saturating_sub(30 * DAY_MS));
                let from = super::moment("--from", from.as_deref())?.unwrap_or_else(month_ago);
                let past = Past { rules: &tried, from, until };
                let why = look::purpose(&why, "watch-try");
                let alerts = look::guarded(&data.data, |guard, _| {
                    let mut bar: Option<Progress> = None;
                    let mut progress = |done: u64, total: u64| {
                        bar.get_or_insert_with(|| Progress::new("trying events", Some(total))).set(done);
                    };
                    Ok(guard.try_rules(&why, &past, &mut progress)?.into_inner())
                })?;
                alerts.iter().for_each(|alert| print_tried(alert, output));
                let raised = alerts.iter().filter(|alert| alert.step == Step::Raised).count();
                eprintln!(
                    "candor: {} rules from {} to {}: {raised} alerts",
                    tried.all().len(),
                    from.rfc3339(),
                    until.rfc3339()
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_tried(alert: &Raised, output: Output) {
    let time = |ms: u64| UnixMillis(ms).rfc3339();
    let state = match alert.step {
        Step::Raised => "raised",
        Step::Resolved => "resolved",
        Step::Gap => "gap",
    };
    if output.json {
        let line = json!({
            "at": time(alert.at), "state": state, "rule": alert.rule, "severity": alert.severity, "group": alert.group,
            "value": alert.value, "threshold": alert.threshold, "count": alert.count,
            "window_from": time(alert.window.0), "window_to": time(alert.window.1), "entry": alert.entry,
        });
        println!("{line}");
    } else if alert.step == Step::Raised {
        let group = if alert.group.is_empty() { "-" } else { &alert.group };
        println!(
            "{}  raised    {:<26} {:<24} {:.3} against {}, entry {}",
            time(alert.at),
            alert.rule,
            group,
            alert.value,
            alert.threshold,
            alert.entry
        );
    } else {
        println!("{}  resolved  {:<26} {}", time(alert.at), alert.rule, alert.group);
    }
}

/// `candor alert`
#[derive(Args)]
pub struct Alert {
    #[command(subcommand)]
    command: AlertCommand,
}

#[derive(Args)]
struct Taken {
    #[command(flatten)]
    data: Data,
    /// Id of the alert, as `candor list alerts` shows it.
    id: String,
    /// Why, a short token such as known_campaign.
    #[arg(long, value_name = "TOKEN")]
    reason: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
enum AlertCommand {
    /// Say that somebody has it in hand.
    Acknowledge(Taken),
    /// Say that it is over.
    Resolve(Taken),
}

impl Alert {
    pub fn run(self) -> Result<ExitCode> {
        let (taken, step) = match self.command {
            AlertCommand::Acknowledge(taken) => (taken, PersonStep::Acknowledge),
            AlertCommand::Resolve(taken) => (taken, PersonStep::Resolve),
        };
        let why = Why { purpose: "local-operator".into(), justification: None };
        let purpose = look::purpose(&why, "alert");
        let entry = look::guarded(&taken.data.data, |guard, _| {
            let entry = guard.alert_step(&purpose, &taken.id, step, taken.reason.as_deref());
            entry.with_context(|| format!("alert {}", taken.id))
        })?;
        let line: Value = json!({"alert_id": taken.id, "entry": entry});
        if taken.output.json {
            println!("{line}")
        } else {
            println!("entry {entry}")
        }
        Ok(ExitCode::SUCCESS)
    }
}
