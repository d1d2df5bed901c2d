//! Completeness in the background: life cycles are followed, and once a day their counts are recorded.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use reads::guard::Guard;
use views::cycles::SETTLE_MS;
use views::open;
use views::words;

use crate::beat::beat;
use crate::intake::Intake;

/// After the start, so that what waits for the server is served first.
const FIRST: Duration = Duration::from_secs(30);
/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;

/// Follows life cycles until `stop` is set.
pub fn run(guard: &Arc<Guard>, intake: &Intake, stop: &AtomicBool) {
    step_back(LAST);
    beat(stop, FIRST, || {
        let next = Instant::now() + EVERY;
        let followed = follow(guard, SETTLE_MS, stop);
        let done = followed.and_then(|more| if more { Ok(()) } else { record_day(guard, intake).map(drop) });
        if let Err(error) = done {
            eprintln!("candor: life cycles could not be followed: {error:#}");
        }
        next
    });
}

/// Judges what is to be judged by now; whether it was stopped before that.
pub fn follow(guard: &Guard, settle_ms: u64, stop: &AtomicBool) -> Result<bool> {
    Ok(guard.views.cycles().follow(&guard.follow(SystemClock.now(), settle_ms), stop)?)
}

/// Records the counts at the end of yesterday (UTC), where that was not done yet; the entry.
pub fn record_day(guard: &Guard, intake: &Intake) -> Result<Option<u64>> {
    let now = SystemClock.now();
    let day = UnixMillis(now.0.saturating_sub(DAY_MS)).rfc3339()[..10].to_owned();
    let newest = guard.views.newest(vec![words::filter("kind", "COMPLETENESS")], 1)?;
    if let Some(entry) = newest.first().copied() {
        let stored = guard.reader.entry(entry)?;
        let facts = open::facts(&stored, &mut *guard.store.lock()?, &guard.catalogue)?;
        let recorded = facts.and_then(|(_, facts)| Some(facts.get("day")?.as_str()?.to_owned()));
        if recorded.is_some_and(|recorded| recorded >= day) {
            return Ok(None);
        }
    }
    intake.own_one("COMPLETENESS", guard.completeness_record(&day, now)?).map(Some)
}
