//! Commands that write records: init, ingest.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use ledger::clock::{Clock, SystemClock};
use ledger::guard::HighWater;

use super::{Data, Output};
use crate::config::Config;
use crate::ingest::{Input, Shown};
use crate::postfix::PostfixLog;
use crate::trail::{OpenMode, Trail};

/// `candor init`
#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    data: Data,
    /// Name of the trail, a URL without scheme such as audit.example/trail; fixed for ever. Default: a random name.
    #[arg(long)]
    origin: Option<String>,
    /// The trail that this one goes on from, where its journal was restored short and can't go on itself: its data
    /// directory, or a file with its last signed checkpoint or a copy of its high-water mark. The first entry of the new trail names it.
    #[arg(long, value_name = "PATH")]
    succeeds: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// The signed checkpoint that a data directory or a file has.
fn checkpoint_of(path: &Path) -> Result<String> {
    let text = if path.is_dir() {
        match crate::backup::last_checkpoint(path)? {
            Some(checkpoint) => checkpoint,
            None => {
                let mark = HighWater::read(&path.join("keys/highwater"), None)?;
                mark.with_context(|| format!("read {}: it has no high-water mark", path.display()))?.checkpoint
            }
        }
    } else if let Ok(Some(mark)) = HighWater::read(path, None) {
        mark.checkpoint
    } else {
        std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
    };
    let note = proof::note::Note::parse(text.as_bytes()).with_context(|| format!("read {}", path.display()))?;
    proof::checkpoint::Checkpoint::parse_text(note.text).with_context(|| format!("read {}", path.display()))?;
    Ok(text)
}

impl Init {
    pub fn run(self) -> Result<ExitCode> {
        let succeeds = self.succeeds.as_deref().map(checkpoint_of).transpose()?;
        let trail = Trail::create(&self.data.data, self.origin, succeeds)?;
        let identity = trail.intake.reader().identity().clone();
        let saved = trail.to_back_up();
        trail.close()?;
        if self.output.json {
            println!(
                "{}",
                serde_json::json!({"origin": identity.origin, "vkey": identity.vkey, "data": self.data.data})
            );
        } else {
            println!("trail    {}", identity.origin);
            println!("key      {}", identity.vkey);
            println!("data     {}", self.data.data.display());
            println!("back up  {saved}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The record of a queue's listing.
fn queue_record(mut input: impl BufRead, config: &Config) -> Result<String> {
    let now = SystemClock.now();
    let queue = sources::postfix::queue::observe(&mut input, now).context("read the queue's listing")?;
    if queue.unknown_lines > 0 {
        eprintln!(
            "candor: {} lines of the listing are no messages: is it the output of postqueue -j?",
            queue.unknown_lines
        );
    }
    let record = serde_json::json!({
        "timestamp": now.rfc3339(), "event_type": "QUEUE_OBSERVED", "correlation_id": format!("queue-{}", now.0),
        "source_component": "smtp-relay", "environment": config.environment, "severity": "info",
        "depth": queue.depth, "deferred": queue.deferred, "active": queue.active, "incoming": queue.incoming,
        "hold": queue.hold, "oldest_s": queue.oldest_s, "size_bytes": queue.size_bytes,
    });
    Ok(record.to_string())
}

/// Input formats.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Format {
    /// One JSON record a line.
    Jsonl,
    /// The log of a Postfix relay, in any framing: what became of each message is made a record.
    Postfix,
    /// The listing of a relay's queue, as `postqueue -j` prints it: one record of its depth and age.
    Postqueue,
}

/// `candor ingest`
#[derive(Args)]
pub struct Ingest {
    #[command(flatten)]
    data: Data,
    /// Format of the input.
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// Name of the source, as in candor.toml.
    #[arg(long, default_value = "local")]
    source: String,
    /// Make the trail first if there is none.
    #[arg(long)]
    init: bool,
    /// Print the number of each line that is in the trail and the index of its entry, as soon as it is durable.
    #[arg(long)]
    answers: bool,
    /// Lines in a batch, committed and answered together; fewer are answered sooner and cost more.
    #[arg(long, default_value_t = crate::ingest::BATCH_LINES, value_parser = clap::value_parser!(u16).range(1..=2048))]
    batch_lines: u16,
    /// Go on reading as the log grows, over rotation by renaming or copying, until interrupted. Only for logs.
    #[arg(long)]
    follow: bool,
    /// File to read, or - for standard input. Of a log the place where reading ended is remembered, by source.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Ingest {
    pub fn run(self) -> Result<ExitCode> {
        if self.follow && (self.format == Format::Jsonl || self.file.as_os_str() == "-") {
            bail!("ingest: --follow is for a log file: give --format postfix and its path");
        }
        let stop = super::interrupts()?;
        let trail = if self.init && !self.data.data.join("journal").exists() {
            Trail::create(&self.data.data, None, None)?
        } else {
            Trail::open(&self.data.data, OpenMode::default())?
        };
        let batches = Input {
            source: &self.source,
            workers: trail.config.workers,
            stop: &stop,
            shown: if self.answers { Shown::Answers } else { Shown::Refusals },
            batch_lines: self.batch_lines,
            derived_ids: self.format == Format::Postfix,
            bytes: None,
        };
        let open = || -> Result<Box<dyn std::io::Read + Send>> {
            if self.file.as_os_str() == "-" {
                return Ok(Box::new(std::io::stdin()));
            }
            let file = std::fs::File::open(&self.file);
            Ok(Box::new(file.with_context(|| format!("open {}", self.file.display()))?))
        };
        let summary = match self.format {
            Format::Jsonl => {
                crate::ingest::ingest(&trail.intake, &batches, BufReader::with_capacity(1 << 20, open()?))?
            }
            Format::Postqueue => {
                let line = queue_record(BufReader::new(open()?), &trail.config)?;
                crate::ingest::ingest(&trail.intake, &batches, BufReader::new(line.as_bytes()))?
            }
            Format::Postfix => {
                trail.intake.recipients(&self.source)?;
                let log = PostfixLog::open(&trail, &self.source, &self.file, self.follow)?;
                crate::ingest::ingest_log(&trail.intake, &batches, log)?
            }
        };
        trail.close()?;
        if self.output.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            println!("{} accepted, {} repeated, {} refused", summary.accepted, summary.repeated, summary.refused);
            if let Some(log) = &summary.log {
                println!(
                    "{} lines, {} of other programs, {} not understood, {} gaps, {} messages open",
                    log.log_lines, log.other_lines, log.unknown_lines, log.gaps, log.open_messages
                );
            }
        }
        let unknown = summary.log.as_ref().map_or(0, |log| log.unknown_lines);
        if summary.interrupted {
            eprintln!("candor: interrupted: everything counted above is in the trail, nothing after it was read");
        }
        Ok(if summary.refused + unknown > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
    }
}
