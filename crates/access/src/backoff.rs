//! Back-off: who guesses waits, longer each time, before anything is hashed for them.
//!
//! Counts are held by a keyed hash of what was tried (an address, whether there is such an account or not) and of where
//! from. They are in memory, bounded, and forgotten after a while: a restart gives a guesser a few guesses more.

use std::collections::HashMap;

/// The first wait, which doubles with each guess.
const WAIT_MS: u64 = 1000;
/// The longest.
const WAIT_MS_MAX: u64 = 15 * 60_000;
/// After so long without a guess all is forgotten.
const FORGET_MS: u64 = 24 * 3_600_000;
/// Who is counted, at most; when it is full, those who have not guessed for longest make room.
const HELD_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Guesses {
    count: u32,
    last_ms: u64,
}

impl Guesses {
    /// From when on the next guess is looked at.
    fn free_at(&self, free: u32) -> u64 {
        let over = self.count.saturating_sub(free);
        if over == 0 { 0 } else { self.last_ms + (WAIT_MS << (over - 1).min(20)).min(WAIT_MS_MAX) }
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
        self.held.get(&who).map_or(0, |guesses| guesses.free_at(self.free)).saturating_sub(now_ms)
    }

    /// Counts a wrong guess; how many in a row.
    pub fn wrong(&mut self, who: u64, now_ms: u64) -> u32 {
        if self.held.len() >= HELD_MAX {
            self.held.retain(|_, guesses| now_ms.saturating_sub(guesses.last_ms) < FORGET_MS);
        }
        if self.held.len() >= HELD_MAX {
            // The older half goes at once, so that a flood does not pay for it with each guess.
            let mut times: Vec<u64> = self.held.values().map(|guesses| guesses.last_ms).collect();
            let middle = times.len() / 2;
            let middle = *times.select_nth_unstable(middle).1;
            self.held.retain(|_, guesses| guesses.last_ms > middle);
        }
        let guesses = self.held.entry(who).or_insert(Guesses { count: 0, last_ms: now_ms });
        if now_ms.saturating_sub(guesses.last_ms) >= FORGET_MS {
            guesses.count = 0;
        }
        (guesses.count, guesses.last_ms) = (guesses.count.saturating_add(1), now_ms);
        guesses.count
    }

    /// Forgets what was counted: the guess was right.
    pub fn right(&mut self, who: u64) {
        self.held.remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guess_waits_longer_until_one_is_right() {
        let mut backoff = Backoff::new(5);
        let mut now = 1_000_000;
        for _ in 0..5 {
            assert_eq!(backoff.wait_ms(1, now), 0);
            backoff.wrong(1, now);
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            backoff.wrong(1, now);
            waits.push(backoff.wait_ms(1, now));
            now += waits.last().expect("one");
            assert_eq!(backoff.wait_ms(1, now), 0);
        }
        assert_eq!(waits[..4], [1000, 2000, 4000, 8000]);
        assert_eq!(waits[11], WAIT_MS_MAX);
        assert_eq!(backoff.wait_ms(3, now), 0, "another is not kept waiting");
        backoff.right(1);
        assert_eq!(backoff.wrong(1, now), 1);
        assert_eq!(backoff.wait_ms(1, now), 0);
        assert_eq!((0..9).map(|_| backoff.wrong(1, now)).max(), Some(10));
        assert_eq!(backoff.wrong(1, now + FORGET_MS), 1, "after a day it is forgotten");
    }

    #[test]
    fn memory_is_bounded() {
        let mut backoff = Backoff::new(5);
        for who in 0..HELD_MAX as u64 + 10 {
            backoff.wrong(who, who);
        }
        assert!((HELD_MAX / 3..=HELD_MAX).contains(&backoff.held.len()));
        assert!(backoff.held.contains_key(&(HELD_MAX as u64 + 9)) && !backoff.held.contains_key(&0));
    }
}
