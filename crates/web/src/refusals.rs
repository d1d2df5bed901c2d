//! What is kept of refusals until it is recorded: counts, so that one bad client can't fill the trail.

use std::collections::BTreeMap;

use proof::time::UnixMillis;

use crate::submit::RefusalCount;

/// Refusals of one source that are told apart within a minute; further ones are counted together.
const DETAILED_MAX: u64 = 10;
/// Sources told apart within a minute.
const SOURCES_MAX: usize = 1000;

/// Counts by source, code, kind and rule.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: BTreeMap<RefusalCount, u64>,
    of_source: BTreeMap<String, u64>,
    /// First uses of keys on a day, to be recorded.
    pub(crate) used: Vec<(String, UnixMillis)>,
}

impl Refusals {
    /// Counts one refusal; its own `count` is how often.
    pub(crate) fn add(&mut self, mut refusal: RefusalCount) {
        if self.of_source.len() >= SOURCES_MAX && !self.of_source.contains_key(&refusal.source) {
            "others".clone_into(&mut refusal.source);
        }
        let count = std::mem::take(&mut refusal.count);
        let seen = self.of_source.entry(refusal.source.clone()).or_default();
        *seen += count;
        if *seen > DETAILED_MAX && !self.counts.contains_key(&refusal) {
            (refusal.code, refusal.kind, refusal.rule) = ("further", None, None);
        }
        *self.counts.entry(refusal).or_default() += count;
    }

    /// What was counted; begins anew.
    pub(crate) fn take(&mut self) -> Vec<RefusalCount> {
        self.of_source.clear();
        let counts = std::mem::take(&mut self.counts);
        counts.into_iter().map(|(refusal, count)| RefusalCount { count, ..refusal }).collect()
    }

    pub(crate) fn put_back(&mut self, counts: Vec<RefusalCount>) {
        counts.into_iter().for_each(|refusal| self.add(refusal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_counts() {
        let mut held = Refusals::default();
        for n in 0..5000u64 {
            let kind = Some(format!("KIND_{n}"));
            held.add(RefusalCount { source: "shop".into(), code: "unknown_kind", kind, rule: None, count: 1 });
        }
        let counts = held.take();
        assert_eq!(counts.len(), 11);
        assert_eq!(counts.iter().map(|refusal| refusal.count).sum::<u64>(), 5000);
        assert!(held.take().is_empty());
    }
}
