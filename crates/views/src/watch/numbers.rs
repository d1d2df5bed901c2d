//! Numbers of sources that count what they send: what is missing is a gap.
//!
//! A source that numbers gives its records ids of the form STREAM:NUMBER, each stream counting from 1 (a stream is one
//! client of the source, say). A number that comes later fills its place; what is missing for a minute is told, once.

use std::collections::BTreeMap;

/// Streams of one trail, at most; further ones are not watched.
const STREAMS_MAX: usize = 10_000;
/// Ranges that are missing of one stream, at most; of more the oldest are dropped once they are told.
const RANGES_MAX: usize = 1_000;
/// How long a number may be on its way behind a later one.
const WAIT_MS: u64 = 60_000;

/// Numbers that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    /// The last of them.
    pub(super) to: u64,
    /// When it showed, by the log's time.
    pub(super) noticed_ms: u64,
    pub(super) told: bool,
}

/// One stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stream {
    /// The number that comes next.
    pub(super) next: u64,
    /// What is missing before it, by its first number.
    pub(super) missing: BTreeMap<u64, Missing>,
}

/// A gap that is to be told.
pub(super) struct Gap {
    pub(super) source: String,
    pub(super) stream: String,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) noticed_ms: u64,
}

/// All streams by source and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) streams: BTreeMap<(String, String), Stream>,
}

/// Stream and number of an id.
pub(super) fn parse(id: &str) -> Option<(&str, u64)> {
    let (stream, number) = id.rsplit_once(':')?;
    let digits = !number.is_empty() && number.len() <= 18 && number.bytes().all(|byte| byte.is_ascii_digit());
    if stream.is_empty() || !digits {
        return None;
    }
    number.parse().ok().filter(|number| *number > 0).map(|number| (stream, number))
}

impl Numbers {
    /// Takes a number. `adopt`: what came before the first number of a new stream is not missed, since nobody looked.
    pub(super) fn see(&mut self, source: &str, stream: &str, number: u64, now_ms: u64, adopt: bool) {
        let key = (source.to_owned(), stream.to_owned());
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&key) {
            return;
        }
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| Stream { next: if adopt { number } else { 1 }, missing: BTreeMap::new() });
        if number < stream.next {
            return stream.fill(number);
        }
        if number > stream.next {
            stream.missing.insert(stream.next, Missing { to: number - 1, noticed_ms: now_ms, told: false });
        }
        stream.next = number + 1;
        if stream.missing.len() > RANGES_MAX
            && let Some(oldest) = stream.missing.iter().find(|(_, missing)| missing.told).map(|(from, _)| *from)
        {
            stream.missing.remove(&oldest);
        }
    }

    /// What has been missing for long enough and was not told yet; it is told now.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for ((source, name), stream) in &mut self.streams {
            for (from, missing) in &mut stream.missing {
                if !missing.told && missing.noticed_ms + WAIT_MS <= now_ms {
                    missing.told = true;
                    gaps.push(Gap {
                        source: source.clone(),
                        stream: name.clone(),
                        from: *from,
                        to: missing.to,
                        noticed_ms: missing.noticed_ms,
                    });
                }
            }
        }
        gaps
    }
}

impl Stream {
    fn fill(&mut self, number: u64) {
        let Some((from, missing)) = self.missing.range(..=number).next_back().map(|(from, missing)| (*from, *missing))
        else {
            return;
        };
        if number > missing.to {
            return;
        }
        self.missing.remove(&from);
        if from < number {
            self.missing.insert(from, Missing { to: number - 1, ..missing });
        }
        if number < missing.to {
            self.missing.insert(number + 1, missing);
        }
    }

    /// How many numbers are missing.
    pub(super) fn count(&self) -> u64 {
        self.missing.iter().map(|(from, missing)| missing.to - from + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(numbers: &mut Numbers, now: u64) -> Vec<(u64, u64)> {
        numbers.due(now).into_iter().map(|gap| (gap.from, gap.to)).collect()
    }

    #[test]
    fn what_is_missing_for_a_minute_is_told_once() {
        let mut numbers = Numbers::default();
        for number in [1, 2, 5, 9, 7] {
            numbers.see("shop", "a", number, 1000, false);
        }
        assert_eq!(gaps(&mut numbers, 30_000), []);
        numbers.see("shop", "a", 3, 40_000, false);
        assert_eq!(gaps(&mut numbers, 61_000), [(4, 4), (6, 6), (8, 8)]);
        assert_eq!(gaps(&mut numbers, 99_000), []);
        for number in [4, 6, 8, 8, 1] {
            numbers.see("shop", "a", number, 99_000, false);
        }
        let stream = numbers.streams.values().next().expect("a stream");
        assert_eq!((stream.next, stream.count()), (10, 0));
    }

    #[test]
    fn a_stream_begins_with_one_unless_nobody_looked_before() {
        let mut numbers = Numbers::default();
        numbers.see("shop", "new", 4, 0, false);
        numbers.see("shop", "old", 4, 0, true);
        assert_eq!(gaps(&mut numbers, 60_000), [(1, 3)]);
    }

    #[test]
    fn an_id_of_a_stream_ends_with_its_number() {
        assert_eq!(parse("till-3:0017"), Some(("till-3", 17)));
        assert_eq!(parse("a:b:2"), Some(("a:b", 2)));
        for id in ["17", ":17", "a:", "a:0", "a:-1", "a:1x", "a:1234567890123456789"] {
            assert_eq!(parse(id), None, "{id}");
        }
    }
}
