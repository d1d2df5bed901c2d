//! How many entries each subject has, which the tag of the next one is made from.
//!
//! The log says it too, by its tags: who does not find a count here looks for the last tag, which takes a dozen reads all
//! over a long trail. So counts are kept: four bytes a subject, in pages of subjects that came one after the other, and
//! from one run to the next in a derived file (`docs/formats/counts.md`). What is kept is never more than there is.

use std::collections::HashMap;
use std::path::Path;

use proof::encoding::big_endian;
use proof::hash::Hash;
use seal::crypto::{Key, KeyedHash, decrypt, encrypt};
use seal::random::RandomPool;

const FILE: &str = "counts";
const MAGIC: &[u8; 8] = b"CNDRCNTS";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 8 + 2 + 12;
const IN_PAGE: u64 = 1024;
/// Pages in memory: sixteen million subjects in 64 MiB. Of more, half are looked for again.
const PAGES_MAX: usize = 16_384;
/// A count that is from a file of before the newest entries: there may be more.
const AT_LEAST: u32 = 1 << 31;

/// What is known of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has so many entries.
    Exactly(u64),
    /// It has so many, or more.
    AtLeast(u64),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Counts {
    pages: HashMap<u64, Box<[u32; IN_PAGE as usize]>>,
}

impl Counts {
    pub(crate) fn get(&self, subject: u64) -> Known {
        match self.pages.get(&(subject / IN_PAGE)).map_or(0, |page| page[(subject % IN_PAGE) as usize]) {
            0 => Known::AtLeast(0),
            held if held & AT_LEAST != 0 => Known::AtLeast(u64::from(held & !AT_LEAST)),
            held => Known::Exactly(u64::from(held)),
        }
    }

    /// Forgets half of the pages where they are many. Between batches: the log does not have the counts of the one that is
    /// being made.
    pub(crate) fn trim(&mut self) {
        if self.pages.len() > PAGES_MAX {
            let mut stay = false;
            self.pages.retain(|_, _| {
                stay = !stay;
                stay
            });
        }
    }

    pub(crate) fn set(&mut self, subject: u64, count: u64) {
        let page = self.pages.entry(subject / IN_PAGE).or_insert_with(|| Box::new([0; IN_PAGE as usize]));
        // More than there can be in a trail of this size for two thousand million entries of one person.
        page[(subject % IN_PAGE) as usize] = if count < u64::from(AT_LEAST) { count as u32 } else { 0 };
    }

    pub(crate) fn forget(&mut self, subject: u64) {
        if let Some(page) = self.pages.get_mut(&(subject / IN_PAGE)) {
            page[(subject % IN_PAGE) as usize] = 0;
        }
    }

    /// Keeps what is known of a tree for the next start. It is derived: where this fails the next start looks again.
    pub(crate) fn save(&self, folder: &Path, mac: &KeyedHash, size: u64, root: &Hash) -> std::io::Result<()> {
        let nonce = RandomPool::default().take::<12>();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + 40 + self.pages.len() * (8 + 4 * IN_PAGE as usize) + 16);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&root.0);
        for (number, page) in &self.pages {
            bytes.extend_from_slice(&number.to_be_bytes());
            page.iter().for_each(|count| bytes.extend_from_slice(&count.to_be_bytes()));
        }
        let head = bytes[..HEAD_BYTES].to_vec();
        encrypt(&key(mac), nonce, &head, &mut bytes, HEAD_BYTES);
        let new = folder.join("counts.new");
        std::fs::write(&new, bytes)?;
        std::fs::rename(&new, folder.join(FILE))
    }

    /// Takes what was kept, where it is of this trail and of a tree that this one goes on from. `root_of` gives the root of
    /// a tree of that size. Anything else is nothing.
    pub(crate) fn load(folder: &Path, mac: &KeyedHash, size: u64, root_of: impl FnOnce(u64) -> Option<Hash>) -> Counts {
        let read = || -> Option<Counts> {
            let mut bytes = std::fs::read(folder.join(FILE)).ok()?;
            let (head, sealed) = bytes.split_at_mut_checked(HEAD_BYTES)?;
            if &head[..8] != MAGIC || head[8..10] != VERSION.to_be_bytes() {
                return None;
            }
            let nonce = *head[10..].first_chunk::<12>()?;
            let clear = &*decrypt(&key(mac), nonce, head, sealed).ok()?;
            let (saved, rest) = clear.split_at_checked(8)?;
            let (root, rows) = rest.split_first_chunk::<32>()?;
            let saved = big_endian(saved);
            if saved > size || root_of(saved)? != Hash(*root) {
                return None;
            }
            let (rows, over) = rows.as_chunks::<{ 8 + 4 * IN_PAGE as usize }>();
            let mut counts = Counts::default();
            for row in rows.iter().take(PAGES_MAX) {
                let mut page = Box::new([0; IN_PAGE as usize]);
                for (count, bytes) in page.iter_mut().zip(row[8..].as_chunks::<4>().0) {
                    let held = u32::from_be_bytes(*bytes);
                    // Entries may have come since.
                    *count = if held != 0 && saved < size { held | AT_LEAST } else { held };
                }
                counts.pages.insert(big_endian(&row[..8]), page);
            }
            over.is_empty().then_some(counts)
        };
        read().unwrap_or_default()
    }
}

fn key(mac: &KeyedHash) -> Key {
    Key::from_bytes(mac.digest(&[b"candor/v1/counts\n"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_where_the_trail_goes_on_from_it_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let mac = KeyedHash::new(&[7; 32]);
        let mut counts = Counts::default();
        (1..5000).for_each(|subject| counts.set(subject, subject * 3));
        counts.forget(17);
        let root = Hash([9; 32]);
        counts.save(folder.path(), &mac, 100, &root).expect("saved");
        let load = |mac: &KeyedHash, size, root: Hash| Counts::load(folder.path(), mac, size, |_| Some(root));
        let same = load(&mac, 100, root);
        assert_eq!((same.get(4999), same.get(17)), (Known::Exactly(14_997), Known::AtLeast(0)));
        assert_eq!(same.get(1 << 40), Known::AtLeast(0));
        let mut later = load(&mac, 101, root);
        assert_eq!(later.get(4999), Known::AtLeast(14_997));
        later.set(4999, 15_000);
        assert_eq!(later.get(4999), Known::Exactly(15_000));
        // Kept once more, what is not sure stays so.
        later.save(folder.path(), &mac, 101, &root).expect("saved");
        assert_eq!(load(&mac, 101, root).get(4998), Known::AtLeast(14_994));
        for other in [
            load(&KeyedHash::new(&[8; 32]), 101, root),
            load(&mac, 99, root),
            load(&mac, 101, Hash([1; 32])),
            Counts::load(folder.path(), &mac, 101, |_| None),
        ] {
            assert_eq!(other.get(4999), Known::AtLeast(0));
        }
        let whole = std::fs::read(folder.path().join(FILE)).expect("read");
        for at in [0, 9, 12, 40, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(folder.path().join(FILE), bytes).expect("written");
            assert_eq!(load(&mac, 101, root).get(4999), Known::AtLeast(0), "byte {at}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut counts = Counts::default();
        for page in 0..2 * PAGES_MAX as u64 {
            counts.set(page * IN_PAGE, 1);
            assert_eq!(counts.get(page * IN_PAGE), Known::Exactly(1), "not before the batch has ended");
            counts.trim();
            assert!(counts.pages.len() <= PAGES_MAX);
        }
    }
}
