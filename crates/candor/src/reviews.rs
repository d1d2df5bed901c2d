//! The monthly review of who read what: due when a month has ended, for each manager.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use access::role::Role;
use access::user::{Standing, Users};
use anyhow::{Result, anyhow};
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use reads::guard::Guard;
use reads::review::Month;

use crate::beat::beat;
use crate::intake::Intake;

/// After the start, so that what waits for the server is served first.
const FIRST: Duration = Duration::from_secs(45);
/// Between two looks.
const EVERY: Duration = Duration::from_secs(3600);

/// Who reviews: management; where nobody has that role, the compliance officer.
pub fn reviewers(users: &Users) -> Vec<String> {
    let of = |role: Role| -> Vec<String> {
        let fits = |user: &&access::user::User| user.standing == Standing::Active && user.roles.contains(&role);
        users.iter().filter(fits).map(|user| user.id.clone()).collect()
    };
    let managers = of(Role::Management);
    if managers.is_empty() { of(Role::ComplianceOfficer) } else { managers }
}

/// Makes the month that ended due, month after month, until `stop` is set.
pub fn run(guard: &Arc<Guard>, intake: &Intake, users: impl Fn() -> Vec<String>, stop: &AtomicBool) {
    step_back(LAST);
    beat(stop, FIRST, || {
        let next = Instant::now() + EVERY;
        if let Some(month) = Month::before(SystemClock.now())
            && let Err(error) = due(guard, intake, &month, &users())
        {
            eprintln!("candor: the review of reads could not be made: {error:#}");
        }
        next
    });
}

/// Makes a month due for those reviewers for whom it is not yet; how many.
pub fn due(guard: &Guard, intake: &Intake, month: &Month, reviewers: &[String]) -> Result<usize> {
    let mut missing = Vec::new();
    for reviewer in reviewers {
        if !guard.is_reviewed(month, reviewer)? {
            missing.push(reviewer.clone());
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let readers = guard.readers(month)?;
    let records = Guard::review_due(month, &readers, &missing, SystemClock.now());
    intake.own(records).map_err(|why| anyhow!("{why}"))?;
    Ok(missing.len())
}
