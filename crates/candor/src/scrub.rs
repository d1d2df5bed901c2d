//! The scrub: one verification of the whole journal a minute after the start and then every so many days, beside the
//! writing and behind it in priority. Each run is a record; what does not hold is told on standard error too.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use ledger::disk::Disk;
use ledger::verify::{self, Options, Progress};
use proof::time::UnixMillis;
use serde_json::json;

use crate::beat::beat;
use crate::intake::Intake;

/// After the start, so that what waits for the server is served first.
const FIRST: Duration = Duration::from_secs(60);
/// Between two looks at a last frame that is being written.
const SETTLE: Duration = Duration::from_millis(100);

/// Result of the newest run: when, and whether everything held.
pub type Newest = Arc<Mutex<Option<(UnixMillis, bool)>>>;

/// What a scrub needs.
pub struct Scrub<'a> {
    /// Opens the journal anew for each run: what memory has of it proves nothing.
    pub journal: Box<dyn Fn() -> Result<Arc<dyn Disk>> + Send + Sync + 'a>,
    pub intake: Intake,
    pub every: Duration,
    pub newest: Newest,
}

impl Scrub<'_> {
    /// Runs until `stop` is set.
    pub fn run(&self, stop: &AtomicBool) {
        step_back(LAST);
        let mut next = Instant::now() + FIRST;
        beat(stop, FIRST, || {
            next += self.every;
            self.once();
            next
        });
    }

    fn once(&self) {
        let start = Instant::now();
        let settle = || std::thread::park_timeout(SETTLE);
        let options = Options { threads: 1, settle: Some(&settle), ..Options::default() };
        let run = (self.journal)()
            .and_then(|disk| Ok(verify::verify(disk.as_ref(), &options, &Progress::default(), &|_, _| {})?));
        let (result, size, first_bad) = match run {
            Ok(report) => match &report.finding {
                None => ("holds", report.entries, None),
                Some(finding) => ("tampered", report.entries, Some(finding.to_string())),
            },
            Err(error) => ("incomplete", 0, Some(format!("{error:#}"))),
        };
        if let Some(finding) = &first_bad {
            eprintln!(
                "candor: the verification of the journal says {result}: {finding}: keep a copy of the disk and compare with a backup"
            );
        }
        let mut fields = json!({"result": result, "size": size, "duration_ms": start.elapsed().as_millis() as u64, "actor": "scrub"});
        if result != "holds" {
            fields["severity"] = "critical".into();
        }
        if let Some(finding) = first_bad {
            fields["first_bad"] = finding.chars().take(1024).collect::<String>().into();
        }
        if let Err(why) = self.intake.own_one("VERIFICATION_RUN", fields) {
            eprintln!("candor: a verification could not be recorded: {why:#}");
        }
        if let Ok(mut newest) = self.newest.lock() {
            *newest = Some((SystemClock.now(), result == "holds"));
        }
    }
}
