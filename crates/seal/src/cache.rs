//! A bounded map in two generations: what is not asked for during one generation is forgotten.

use std::collections::HashMap;
use std::hash::Hash;

/// Holds at most `2 * half` pairs.
pub(crate) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Generations<K, V> {
    pub(crate) fn new(half: usize) -> Self {
        Generations { young: HashMap::new(), old: HashMap::new(), half }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_keeps_what_is_asked_for() {
        let mut cache = Generations::new(10);
        for i in 0..1000 {
            cache.insert(i, i);
            assert_eq!(cache.get(&0), (i < 1000).then_some(0));
            assert!(cache.young.len() + cache.old.len() <= 21);
        }
        assert_eq!(cache.get(&500), None);
    }
}
