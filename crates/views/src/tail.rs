//! What was committed and is not in the index yet, searched directly.

use std::collections::VecDeque;
use std::sync::Arc;

/// Commits of single records are joined up to so many: a search looks at each batch.
const JOINED_MAX: usize = 512;

/// Some commits' documents, flat: no allocation for each.
#[derive(Default)]
pub(crate) struct TailBatch {
    pub(crate) entries: Vec<u64>,
    pub(crate) times: Vec<u64>,
    ends: Vec<u32>,
    hashes: Vec<u32>,
}

impl TailBatch {
    pub(crate) fn push(&mut self, entry: u64, time: u64, hashes: &[u32]) {
        self.entries.push(entry);
        self.times.push(time);
        self.hashes.extend_from_slice(hashes);
        self.ends.push(self.hashes.len() as u32);
    }

    fn append(&mut self, other: TailBatch) {
        let offset = self.hashes.len() as u32;
        self.entries.extend(other.entries);
        self.times.extend(other.times);
        self.ends.extend(other.ends.iter().map(|end| end + offset));
        self.hashes.extend(other.hashes);
    }

    fn hashes(&self, place: usize) -> &[u32] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        &self.hashes[start..self.ends[place] as usize]
    }
}

/// The batches, oldest first.
#[derive(Default, Clone)]
pub(crate) struct Tail {
    batches: VecDeque<Arc<TailBatch>>,
}

impl Tail {
    /// Takes a commit: into the batch before where that is short and nobody is reading it, or as a batch of its own.
    pub(crate) fn push(&mut self, batch: TailBatch) {
        if let Some(last) = self.batches.back_mut().and_then(Arc::get_mut)
            && last.entries.len() + batch.entries.len() <= JOINED_MAX
        {
            return last.append(batch);
        }
        self.batches.push_back(Arc::new(batch));
    }

    /// The first entry that the tail has.
    pub(crate) fn first(&self) -> Option<u64> {
        self.batches.front().and_then(|batch| batch.entries.first()).copied()
    }

    /// Forgets batches that lie wholly before `entry`.
    pub(crate) fn drop_before(&mut self, entry: u64) {
        while self.batches.front().is_some_and(|batch| batch.entries.last().is_none_or(|last| *last < entry)) {
            self.batches.pop_front();
        }
    }

    /// Entries that have all words, newest first, until `take` has had enough.
    pub(crate) fn search(&self, words: &[u32], mut take: impl FnMut(u64, u64) -> bool) -> bool {
        for batch in self.batches.iter().rev() {
            for place in (0..batch.entries.len()).rev() {
                let held = batch.hashes(place);
                if words.iter().all(|word| held.contains(word)) && !take(batch.entries[place], batch.times[place]) {
                    return false;
                }
            }
        }
        true
    }
}
