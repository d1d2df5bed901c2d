//! What the counts of a window come to.

use super::engine::Group;
use super::rule::{Bound, What};

/// Parts of a window: counts move on by one of them.
pub(super) const STEPS: u64 = 12;
pub(super) const SECOND_MS: u64 = 1000;
pub(super) const HOUR_MS: u64 = 3_600_000;
pub(super) const WEEK_HOURS: u64 = 168;
/// Weeks that an hour is held against, and of how many there must be one.
pub(super) const WEEKS: u64 = 5;
const WEEKS_MIN: u64 = 3;
/// Between two looks at what waits beyond its time.
pub(super) const OVERDUE_STEP_MS: u64 = 60 * SECOND_MS;

/// Something that was measured of a group.
pub(super) struct Measured {
    pub(super) value: f64,
    pub(super) count: u64,
    pub(super) window: (u64, u64),
}

/// The length of a part of a window.
pub(super) fn step(what: &What) -> u64 {
    match what {
        What::Rate { window_ms, .. }
        | What::Ratio { window_ms, .. }
        | What::Absence { window_ms }
        | What::Sequence { window_ms, .. } => (window_ms / STEPS).clamp(SECOND_MS, HOUR_MS),
        What::Change { .. } => HOUR_MS,
        What::Threshold { .. } | What::Overdue { .. } => OVERDUE_STEP_MS,
    }
}

/// What a window that ends with a part comes to, and whether that is beyond the bound.
pub(super) fn measure(what: &What, group: &Group, part: u64) -> Option<(bool, Measured)> {
    let step = step(what);
    let sum = |from: u64, until: u64| {
        group
            .counts
            .range(from..until)
            .fold((0u64, 0u64), |sum, (_, counts)| (sum.0 + u64::from(counts.0), sum.1 + u64::from(counts.1)))
    };
    let end = part + 1;
    match what {
        What::Rate { window_ms, above } => {
            let from = end.saturating_sub(window_ms.div_ceil(step));
            let count = sum(from, end).0;
            let measured = Measured { value: count as f64, count, window: (from * step, end * step) };
            Some((measured.value > *above, measured))
        }
        What::Ratio { window_ms, lag_ms, bound, at_least } => {
            let from = end.saturating_sub((window_ms + lag_ms).div_ceil(step));
            let whole = sum(from, end.saturating_sub(lag_ms.div_ceil(step))).1;
            let some = sum(from, end).0;
            if whole < *at_least {
                return None;
            }
            let share = some as f64 / whole as f64;
            let measured = Measured { value: share, count: whole, window: (from * step, end * step) };
            Some((bound.holds(share), measured))
        }
        What::Change { bound, at_least } => {
            let first = group.first_ms / HOUR_MS;
            let count = u64::from(group.counts.get(&part).map_or(0, |counts| counts.0));
            let mut before: Vec<u64> = (1..=WEEKS)
                .filter_map(|week| part.checked_sub(week * WEEK_HOURS))
                .filter(|hour| *hour > first)
                .map(|hour| u64::from(group.counts.get(&hour).map_or(0, |counts| counts.0)))
                .collect();
            if (before.len() as u64) < WEEKS_MIN {
                return None;
            }
            // The middle one: a spike of one week must not make the weeks after it look quiet.
            before.sort_unstable();
            let usual = before[before.len() / 2] as f64;
            // An hour in which there was next to nothing says nothing of one in which there is something.
            let enough = if matches!(bound, Bound::Above(_)) { count as f64 } else { usual };
            let times = count as f64 / usual.max(1.0);
            let window = (part * step, end * step);
            Some((enough >= *at_least as f64 && bound.holds(times), Measured { value: times, count, window }))
        }
        _ => None,
    }
}
