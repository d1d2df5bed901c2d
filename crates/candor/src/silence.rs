//! Silence as evidence: a source that says nothing for longer than it should raises an alert, once for each silence; the
//! alert is resolved when it speaks again. Both are records; what is open is found in the trail after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use ledger::clock::{Clock, SystemClock};
use reads::guard::Guard;
use serde_json::json;

use crate::beat::beat;
use crate::intake::Intake;

/// Between looks at the sources, at most.
const LOOK: Duration = Duration::from_secs(30);

/// Watches the sources that have a rhythm.
pub struct Silence {
    guard: Arc<Guard>,
    intake: Intake,
    /// Seconds of silence that are allowed, by source.
    limits: BTreeMap<String, u64>,
    started_ms: u64,
}

impl Silence {
    pub fn new(guard: Arc<Guard>, intake: Intake, limits: BTreeMap<String, u64>) -> Silence {
        Silence { guard, intake, limits, started_ms: SystemClock.now().0 }
    }

    /// Runs until `stop` is set.
    pub fn run(&self, stop: &AtomicBool) {
        let Some(shortest) = self.limits.values().min() else { return };
        let every = LOOK.min(Duration::from_millis(shortest * 500));
        let mut next = Instant::now() + every;
        beat(stop, every, || {
            next += every;
            for (source, limit) in &self.limits {
                if let Err(error) = self.look(source, *limit) {
                    eprintln!("candor: whether source {source} is quiet could not be told: {error:#}");
                }
            }
            next
        });
    }

    fn look(&self, source: &str, limit_s: u64) -> Result<()> {
        let now = SystemClock.now().0;
        let last = self.guard.last_of_source(source)?;
        // A source that never spoke is quiet from the start of this run on.
        let (entry, since) = last.map_or((None, self.started_ms), |(entry, at)| (Some(entry), at.0));
        let quiet_s = now.saturating_sub(since) / 1000;
        let open = self.guard.open_alert_about(source)?;
        match open {
            None if quiet_s > limit_s => {
                // Named by the silence it is about: told again after a restart it would be the same record.
                let id =
                    format!("source_quiet-{source}-{}", entry.map_or("never".to_owned(), |entry| entry.to_string()));
                let fields = json!({
                    "event_id": id, "alert_id": id, "rule": "source_quiet", "state": "raised", "severity": "warning",
                    "group": source, "value": quiet_s, "threshold": limit_s, "about": "source", "about_id": source,
                });
                self.intake.own_one("ALERT_RAISED", fields)?;
            }
            Some((raised, id)) if quiet_s <= limit_s && entry.is_some_and(|entry| entry > raised) => {
                let fields = json!({
                    "event_id": format!("{id}-resolved"), "alert_id": id, "rule": "source_quiet", "state": "resolved", "group": source,
                    "first_entry": raised, "about": "source", "about_id": source,
                });
                self.intake.own_one("ALERT_RESOLVED", fields)?;
            }
            _ => {}
        }
        Ok(())
    }
}
