//! `candor verify`: a trail or a receipt, without keys.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use ledger::disk::{Disk, RealDisk};
use ledger::guard::HighWater;
use ledger::verify::{self, Report};
use proof::note::VerifierKey;
use proof::own_history::OwnHistory;
use serde_json::json;

use super::Output;
use crate::config::Config;

/// `candor verify`
#[derive(Args)]
pub struct Verify {
    /// A data directory, its journal, a bucket (s3://...), a receipt, or a person's own history.
    #[arg(value_name = "DIR|FILE|URL")]
    path: PathBuf,
    /// The verifier key that you trust; without it the trail or receipt is held against its own key.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// Keep a note of finished segments in this file and go on from it.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Threads; 0 = one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    output: Output,
}

/// A journal, the mark that it is held against, and its bytes where they are known.
struct Found {
    disk: Arc<dyn Disk>,
    mark: Option<HighWater>,
    bytes: Option<u64>,
}

/// Could not be checked.
const UNCHECKED: u8 = 2;

impl Verify {
    pub fn run(self) -> Result<ExitCode> {
        match self.check() {
            Ok(code) => Ok(code),
            Err(error) => {
                eprintln!("candor: {error:#}");
                Ok(ExitCode::from(UNCHECKED))
            }
        }
    }

    /// The URL of a bucket, where one is given.
    fn bucket(&self) -> Option<&str> {
        self.path.to_str().filter(|text| text.starts_with("s3://"))
    }

    fn check(&self) -> Result<ExitCode> {
        let key = self.key.as_deref().map(VerifierKey::parse).transpose().context("read --key")?;
        if self.bucket().is_some() {
            return self.trail(key.as_ref());
        }
        let meta = std::fs::metadata(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        if meta.is_dir() { self.trail(key.as_ref()) } else { self.receipt(key.as_ref()) }
    }

    fn receipt(&self, key: Option<&VerifierKey>) -> Result<ExitCode> {
        let bytes = std::fs::read(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        if OwnHistory::is_meant(&bytes) {
            return self.own_history(&bytes, key);
        }
        let result = proof::receipt::Receipt::parse(&bytes).and_then(|receipt| receipt.verify(key));
        match result {
            Ok(verified) => {
                if self.output.json {
                    println!(
                        "{}",
                        json!({"holds": true, "index": verified.index, "size": verified.checkpoint.size, "origin": verified.checkpoint.origin, "key_is_pinned": verified.key_is_pinned})
                    );
                } else {
                    println!(
                        "holds: entry {} is in the tree of {} entries signed by {}",
                        verified.index, verified.checkpoint.size, verified.checkpoint.origin
                    );
                    if !verified.key_is_pinned {
                        println!(
                            "note: held against the key in the receipt itself; give --key to hold it against the one you trust"
                        );
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => Ok(self.not_holding(&error)),
        }
    }

    fn not_holding(&self, error: &proof::error::Error) -> ExitCode {
        if self.output.json {
            println!("{}", json!({"holds": false, "finding": error.to_string()}));
        } else {
            println!("does not hold: {error}");
        }
        ExitCode::FAILURE
    }

    fn own_history(&self, bytes: &[u8], key: Option<&VerifierKey>) -> Result<ExitCode> {
        let verified = match OwnHistory::parse(bytes).and_then(|file| file.verify(key)) {
            Ok(verified) => verified,
            Err(error) => return Ok(self.not_holding(&error)),
        };
        if self.output.json {
            println!(
                "{}",
                json!({"holds": true, "entries": verified.entries, "next_below": verified.next_below, "origin": verified.origin, "key_is_pinned": verified.key_is_pinned})
            );
        } else {
            println!("holds: {} entries are in the trail {} as they are shown", verified.entries, verified.origin);
            if !verified.key_is_pinned {
                println!(
                    "note: held against the key in the file itself; give --key to hold it against the one you trust"
                );
            }
            if let Some(below) = verified.next_below {
                println!("note: older entries are in another file, below {below}");
            }
            println!("note: that none was left out is seen over the trail: verifier/verify.py --history");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn trail(&self, key: Option<&VerifierKey>) -> Result<ExitCode> {
        let Found { disk, mark, bytes: total } = self.journal()?;
        let done = match &self.resume {
            Some(path) if path.exists() => {
                serde_json::from_slice(&std::fs::read(path)?).with_context(|| format!("read {}", path.display()))?
            }
            _ => std::collections::BTreeMap::new(),
        };
        let settle = || std::thread::park_timeout(SETTLE);
        let written = crate::trail::is_open(&self.path);
        let options = verify::Options {
            key,
            mark: mark.as_ref(),
            threads: self.threads,
            done,
            settle: written.then_some(&settle as &(dyn Fn() + Sync)),
        };
        let progress = verify::Progress::default();
        let kept = std::sync::Mutex::new(options.done.clone());
        let each = |number: u32, state: &verify::SegmentState| {
            if let (Some(path), Ok(mut kept)) = (&self.resume, kept.lock()) {
                kept.insert(number, state.clone());
                if let Ok(text) = serde_json::to_vec(&*kept) {
                    let _ = std::fs::write(path, text);
                }
            }
        };
        let finished = std::sync::atomic::AtomicBool::new(false);
        let start = std::time::Instant::now();
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut line = crate::progress::Progress::new("verifying bytes", total);
                while !finished.load(std::sync::atomic::Ordering::Relaxed) {
                    line.set(progress.bytes.load(std::sync::atomic::Ordering::Relaxed));
                    std::thread::park_timeout(std::time::Duration::from_millis(100));
                }
            });
            let report = verify::verify(disk.as_ref(), &options, &progress, &each);
            finished.store(true, std::sync::atomic::Ordering::Relaxed);
            report
        })?;
        self.print(&report, mark.is_some(), start.elapsed())?;
        Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The journal that is meant.
    fn journal(&self) -> Result<Found> {
        let mark = || HighWater::read(&self.path.join("keys/highwater"), None).context("read the high-water mark");
        // A bucket is verified by its URL, or by the data directory of which it is the journal.
        if let Some(url) = self.bucket() {
            let disk = crate::home::objects(Path::new("."), &Config::default(), url)?;
            return Ok(Found { disk, mark: None, bytes: None });
        }
        let config = if self.path.join("keys").is_dir() { Config::read(&self.path)? } else { Config::default() };
        if config.journal.is_some() {
            let paths = crate::trail::Paths { data: self.path.clone() };
            return Ok(Found { disk: crate::home::to_read(&paths, &config)?, mark: mark()?, bytes: None });
        }
        let (journal, mark) = match self.path.join("journal") {
            journal if journal.is_dir() => (journal, mark()?),
            _ => (self.path.clone(), None),
        };
        let files = std::fs::read_dir(&journal)?;
        let bytes = files.filter_map(|item| item.ok()?.metadata().ok()).map(|meta| meta.len()).sum();
        Ok(Found { disk: Arc::new(RealDisk::read_only(&journal)), mark, bytes: Some(bytes) })
    }

    /// What is signed, what somebody else has, and what could be written anew: each apart.
    fn print_standing(&self, report: &Report) {
        println!("signed: {} entries, as the journal itself shows", report.signed_size);
        if !self.path.join("journal").is_dir() {
            return;
        }
        let copies = crate::mirrors::known(&self.path);
        let mirrored = copies.iter().map(|copy| copy.size).max().unwrap_or(0).min(report.entries);
        match copies.iter().map(|copy| &copy.told_at).max() {
            None => println!("mirrored: no copy elsewhere is known"),
            Some(told_at) => println!("mirrored: {mirrored} entries, as of {told_at}"),
        }
        if mirrored < report.entries {
            println!(
                "could be written anew: the newest {} entries, by who has this disk and its keys, unseen by all but who holds a receipt or checkpoint",
                report.entries - mirrored
            );
        }
    }

    fn print(&self, report: &Report, marked: bool, took: std::time::Duration) -> Result<()> {
        if self.output.json {
            let mut value = serde_json::to_value(report)?;
            value["holds"] = json!(report.holds());
            value["high_water_checked"] = json!(marked);
            value["seconds"] = json!(took.as_secs_f64());
            println!("{value}");
        } else if let Some(finding) = &report.finding {
            println!("does not hold: {finding}");
            // A kill in the middle of a write leaves the same end as a cut; only a start may judge and mend it.
            if finding.to_string().ends_with(&ledger::frame::Broken::Short.to_string()) {
                println!(
                    "note: a writer that was killed can leave such an end: if one was, start candor once on this trail (it says what it leaves out, or refuses) and verify again"
                );
            }
        } else {
            println!(
                "holds: {} entries in {} frames, {} bytes hashed again in {:.2} s",
                report.entries,
                report.frames,
                report.bytes,
                took.as_secs_f64()
            );
            println!("trail: {}", report.vkey);
            if let Some(key) = report.keys.last().filter(|_| report.keys.len() > 1) {
                println!("signed by its key number {}, which follows from the first: {key}", report.keys.len());
            }
            self.print_standing(report);
            for (by, count) in &report.ended {
                println!("note: the bodies of {count} entries were ended by entry {by}");
            }
            if report.unsigned_tail > 0 {
                println!(
                    "note: the last {} entries are chained, but the journal does not carry their signature yet",
                    report.unsigned_tail
                );
            }
            if !marked {
                println!(
                    "note: without the high-water mark a cut tail cannot be seen: compare size and root with a receipt or another copy"
                );
            }
        }
        Ok(())
    }
}

/// How long a verification beside a running writer waits before it reads an unfinished last frame again.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(100);
