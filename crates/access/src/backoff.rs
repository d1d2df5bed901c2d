//! Back-off: who guesses waits, longer each time, before anything is hashed for them.
//!
//! Counts are held by a keyed hash of what was tried (an address, whether there is such an account or not) and of where
//! from. They are in memory, bounded, and half of them are forgotten each hour: a restart gives a guesser a few guesses more.

use std::collections::HashMap;

/// The first wait, which doubles with each guess.
const WAIT_MS: u64 = 1000;
/// The longest.
const WAIT_MS_MAX: u64 = 15 * 60_000;
const HOUR_MS: u64 = 3_600_000;
/// Who is counted, at most; when it is full, those who have not guessed for longest make room.
const HELD_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Guesses {
    count: u32,
    last_ms: u64,
}

impl Guesses {
    /// How many still count: half of them are forgotten each hour.
    fn counted(&self, now_ms: u64) -> u32 {
        let hours = now_ms.saturating_sub(self.last_ms) / HOUR_MS;
        self.count.checked_shr(u32::try_from(hours).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    /// Milliseconds until the next guess is looked at.
    fn wait_ms(&self, free: u32, now_ms: u64) -> u64 {
        let over = self.counted(now_ms).saturating_sub(free);
        let wait = if over == 0 { 0 } else { (WAIT_MS << (over - 1).min(20)).min(WAIT_MS_MAX) };
        // A clock that was set back makes nobody wait longer than the longest.
        (self.last_ms + wait).saturating_sub(now_ms).min(wait)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Backoff {
    free: u32,
    held: HashMap<u64, Guesses>,
}

impl Backoff {
    /// So many guesses cost no wait.
    pub fn new(free: u32) -> Backoff {
        Backoff { free, held: HashMap::new() }
    }

    /// Milliseconds to wait before a guess is looked at; 0 if none.
    pub fn wait_ms(&self, who: u64, now_ms: u64) -> u64 {
        self.held.get(&who).map_or(0, |guesses| guesses.wait_ms(self.free, now_ms))
    }

    /// Counts a guess as wrong, before it is looked at: of many at once none is free. How many in a row.
    pub fn guess(&mut self, who: u64, now_ms: u64) -> u32 {
        if self.held.len() >= HELD_MAX {
            self.held.retain(|_, guesses| guesses.counted(now_ms) > 0);
        }
        if self.held.len() >= HELD_MAX {
            // The older half goes at once, so that a flood does not pay for it with each guess.
            let mut times: Vec<u64> = self.held.values().map(|guesses| guesses.last_ms).collect();
            let middle = times.len() / 2;
            let middle = *times.select_nth_unstable(middle).1;
            self.held.retain(|_, guesses| guesses.last_ms > middle);
        }
        let guesses = self.held.entry(who).or_insert(Guesses { count: 0, last_ms: now_ms });
        let count = guesses.counted(now_ms).saturating_add(1);
        *guesses = Guesses { count, last_ms: now_ms };
        count
    }

    /// Forgets what was counted: the guess was right.
    pub fn right(&mut self, who: u64) {
        self.held.remove(&who);
    }

    /// Takes one guess back: it was right, and others from there may have been wrong.
    pub fn take_back(&mut self, who: u64) {
        if let Some(guesses) = self.held.get_mut(&who) {
            guesses.count = guesses.count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guess_waits_longer_until_one_is_right() {
        let mut backoff = Backoff::new(5);
        let mut now = 1000 * HOUR_MS;
        for _ in 0..5 {
            assert_eq!(backoff.wait_ms(1, now), 0);
            backoff.guess(1, now);
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            backoff.guess(1, now);
            waits.push(backoff.wait_ms(1, now));
            now += waits.last().expect("one");
            assert_eq!(backoff.wait_ms(1, now), 0);
        }
        assert_eq!(waits[..4], [1000, 2000, 4000, 8000]);
        assert_eq!(waits[11], WAIT_MS_MAX);
        assert_eq!(backoff.wait_ms(3, now), 0, "another is not kept waiting");
        assert!(backoff.wait_ms(1, now - 40 * HOUR_MS / 10) <= WAIT_MS_MAX, "a clock that was set back");
        backoff.right(1);
        assert_eq!(backoff.guess(1, now), 1);
        assert_eq!((0..9).map(|_| backoff.guess(1, now)).max(), Some(10));
        backoff.take_back(1);
        assert_eq!(backoff.guess(1, now), 10);
        assert_eq!(backoff.guess(1, now + 2 * HOUR_MS), 3, "half is forgotten each hour");
        assert_eq!(backoff.guess(1, now + 90 * HOUR_MS), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut backoff = Backoff::new(5);
        for who in 0..HELD_MAX as u64 + 10 {
            backoff.guess(who, who);
        }
        assert!((HELD_MAX / 3..=HELD_MAX).contains(&backoff.held.len()));
        assert!(backoff.held.contains_key(&(HELD_MAX as u64 + 9)) && !backoff.held.contains_key(&0));
    }
}
