//! Time as the ledger takes it: a wall clock, held against the time since boot.

use proof::time::UnixMillis;

use crate::error::Error;

/// How far behind the last entry the clock may be.
pub const BEHIND_MS_MAX: u64 = 5_000;
/// How far the clock may move against the time since boot.
pub const JUMP_MS_MAX: u64 = 60_000;
/// How far ahead of the last entry the clock may be at start.
pub const AHEAD_DAYS_MAX: u64 = 30;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> UnixMillis;
    /// Milliseconds since boot, suspended time included.
    fn since_boot_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        read(rustix::time::ClockId::Realtime)
    }

    fn since_boot_ms(&self) -> u64 {
        read(rustix::time::ClockId::Boottime).0
    }
}

fn read(clock: rustix::time::ClockId) -> UnixMillis {
    let time = rustix::time::clock_gettime(clock);
    UnixMillis(u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Turns the clock into times of acceptance that never step back.
#[derive(Debug)]
pub struct ClockRule {
    last: UnixMillis,
    /// The wall clock when it was last found good; behind `last` where the operator accepted that.
    seen: UnixMillis,
    /// Wall clock less time since boot, when last seen.
    offset: i128,
}

impl ClockRule {
    /// Starts from the last entry's time.
    ///
    /// # Errors
    /// The clock is far ahead of it, or behind it.
    pub fn start(clock: &dyn Clock, last: UnixMillis, accept: bool) -> Result<ClockRule, Error> {
        let now = clock.now();
        if !accept && last.0 > 0 {
            if now.0 + BEHIND_MS_MAX < last.0 {
                return Err(Error::ClockBehind { behind_ms: last.0 - now.0 });
            }
            let days = now.0.saturating_sub(last.0) / 86_400_000;
            if days > AHEAD_DAYS_MAX {
                return Err(Error::ClockAhead { days });
            }
        }
        Ok(ClockRule { last, seen: if accept { now } else { last }, offset: offset(clock) })
    }

    /// The time of acceptance of the next frame: max(now, last).
    ///
    /// # Errors
    /// The clock is more than 5 s behind the last entry or moved more than 60 s against the time since boot.
    pub fn next(&mut self, clock: &dyn Clock) -> Result<UnixMillis, Error> {
        let now = clock.now();
        if now.0 + BEHIND_MS_MAX < self.seen.0 {
            return Err(Error::ClockBehind { behind_ms: self.seen.0 - now.0 });
        }
        let jump = (offset(clock) - self.offset).unsigned_abs();
        if jump > u128::from(JUMP_MS_MAX) {
            return Err(Error::ClockJumped { jump_ms: jump as u64 });
        }
        self.seen = self.seen.max(now);
        self.last = self.last.max(now);
        Ok(self.last)
    }
}

fn offset(clock: &dyn Clock) -> i128 {
    i128::from(clock.now().0) - i128::from(clock.since_boot_ms())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Hands {
        wall: AtomicU64,
        boot: AtomicU64,
    }

    impl Hands {
        fn set(&self, wall: u64, boot: u64) {
            self.wall.store(wall, Ordering::Relaxed);
            self.boot.store(boot, Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.wall.load(Ordering::Relaxed))
        }
        fn since_boot_ms(&self) -> u64 {
            self.boot.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn time_never_steps_back_and_a_jump_stops_the_writer() {
        let hands = Hands::default();
        hands.set(1_000_000, 500);
        let mut rule = ClockRule::start(&hands, UnixMillis(1_000_000), false).expect("it fits");
        hands.set(996_000, 600);
        assert_eq!(rule.next(&hands).expect("4 s behind"), UnixMillis(1_000_000));
        hands.set(994_000, 700);
        assert!(matches!(rule.next(&hands), Err(Error::ClockBehind { behind_ms: 6_000 })));
        hands.set(1_059_000, 700);
        rule.next(&hands).expect("58.8 s of jump are allowed");
        hands.set(1_062_000, 700);
        assert!(matches!(rule.next(&hands), Err(Error::ClockJumped { .. })));
    }

    #[test]
    fn a_start_far_ahead_needs_consent() {
        let hands = Hands::default();
        hands.set(40 * 86_400_000, 0);
        assert!(matches!(ClockRule::start(&hands, UnixMillis(1), false), Err(Error::ClockAhead { days: 39 })));
        ClockRule::start(&hands, UnixMillis(1), true).expect("accepted");
        ClockRule::start(&hands, UnixMillis(0), false).expect("an empty trail");
    }
}
