//! Parts of objects in memory, bounded by bytes: the newest half and the half before it.

use std::collections::HashMap;

use bytes::Bytes;

/// Bytes of a part.
pub(super) const BLOCK_BYTES: u64 = 256 << 10;

type Key = (u32, u8, u64);

/// See the module.
pub(super) struct Blocks {
    half: usize,
    bytes: usize,
    newer: HashMap<Key, Bytes>,
    older: HashMap<Key, Bytes>,
}

impl Blocks {
    pub(super) fn new(bytes_max: usize) -> Blocks {
        Blocks { half: bytes_max / 2, bytes: 0, newer: HashMap::new(), older: HashMap::new() }
    }

    pub(super) fn get(&mut self, segment: u32, place: u8, block: u64) -> Option<Bytes> {
        let key = (segment, place, block);
        if let Some(held) = self.newer.get(&key) {
            return Some(held.clone());
        }
        let held = self.older.remove(&key)?;
        self.insert(key, held.clone());
        Some(held)
    }

    pub(super) fn put(&mut self, segment: u32, place: u8, block: u64, bytes: Bytes) {
        self.insert((segment, place, block), bytes);
    }

    /// All parts of an object that was just made.
    pub(super) fn put_object(&mut self, segment: u32, place: u8, bytes: &Bytes) {
        for (number, at) in (0..bytes.len()).step_by(BLOCK_BYTES as usize).enumerate() {
            let end = bytes.len().min(at + BLOCK_BYTES as usize);
            // A slice of a large object would keep all of it.
            let block = match bytes.len() > BLOCK_BYTES as usize {
                true => Bytes::copy_from_slice(&bytes[at..end]),
                false => bytes.clone(),
            };
            self.insert((segment, place, number as u64), block);
        }
    }

    fn insert(&mut self, key: Key, bytes: Bytes) {
        if self.bytes + bytes.len() > self.half {
            self.older = std::mem::take(&mut self.newer);
            self.bytes = 0;
        }
        self.bytes += bytes.len();
        if let Some(before) = self.newer.insert(key, bytes) {
            self.bytes -= before.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_no_more_is_held_than_is_said() {
        let mut blocks = Blocks::new(1000);
        for block in 0..100 {
            blocks.put(0, 0, block, Bytes::from(vec![0; 100]));
            assert!(blocks.get(0, 0, 0).is_some(), "{block}");
            let held: usize = blocks.newer.values().chain(blocks.older.values()).map(Bytes::len).sum();
            assert!(held <= 1000, "{held}");
        }
        assert!(blocks.get(0, 0, 1).is_none());
    }
}
