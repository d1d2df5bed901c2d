//! Where prefixes of tokens stand in a text: one look at each three neighbouring bytes.
//!
//! An automaton walks from byte to byte, each step waiting for the one before; here the looks do not depend on each
//! other. A set of hashes of three bytes (8 KiB, so that it stays near the processor) says where something may begin;
//! what its first two bytes may begin is then compared in full. A prefix that begins with a letter or digit counts only
//! where a word begins.

use super::rules::Prefix;

/// The pair begins prefixes that count anywhere.
const ANYWHERE: u8 = 0x80;

/// The prefixes by their first bytes.
#[derive(Debug)]
pub(super) struct Heads {
    /// Bit set of the hashes of the first three bytes.
    threes: Box<[u64; 1 << 10]>,
    /// For each pair of bytes that a prefix begins with: 0, or one more than the place of its list, with [`ANYWHERE`].
    places: Vec<u8>,
    lists: Vec<Vec<&'static Prefix>>,
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(u16::from_be_bytes([first, second]))
}

/// Hash of the three low bytes, 16 bits (Fibonacci hashing; Knuth, volume 3, section 6.4).
fn hash_of_three(three: u32) -> usize {
    ((three & 0xff_ffff).wrapping_mul(0x9e37_79b1) >> 16) as usize
}

impl Heads {
    pub(super) fn new(prefixes: impl Iterator<Item = &'static Prefix>) -> Heads {
        let mut heads = Heads { threes: Box::new([0; 1 << 10]), places: vec![0; 1 << 16], lists: Vec::new() };
        for prefix in prefixes {
            let bytes = prefix.text.as_bytes();
            assert!(bytes.len() >= 2, "a prefix has two bytes at least");
            let thirds = bytes.get(2).map_or(0..=255, |third| *third..=*third);
            for third in thirds {
                let hash = hash_of_three(u32::from_be_bytes([0, bytes[0], bytes[1], third]));
                heads.threes[hash >> 6] |= 1 << (hash & 63);
            }
            let place = &mut heads.places[pair(bytes[0], bytes[1])];
            if *place == 0 {
                heads.lists.push(Vec::new());
                assert!(heads.lists.len() < usize::from(ANYWHERE), "the places fit beside the mark");
                *place = heads.lists.len() as u8 | if bytes[0].is_ascii_alphanumeric() { 0 } else { ANYWHERE };
            }
            heads.lists[usize::from(*place & !ANYWHERE) - 1].push(prefix);
        }
        heads
    }

    /// Tells every prefix with its first byte, until `each` has had enough.
    pub(super) fn find(&self, text: &[u8], mut each: impl FnMut(&'static Prefix, usize) -> bool) {
        let mut from = 0;
        while let Some(at) = self.candidate(text, from) {
            from = at + 1;
            let place = self.places[pair(text[at], text[at + 1])];
            let inside = at > 0 && text[at - 1].is_ascii_alphanumeric();
            if place == 0 || inside && place & ANYWHERE == 0 {
                continue;
            }
            for prefix in &self.lists[usize::from(place & !ANYWHERE) - 1] {
                if text[at..].starts_with(prefix.text.as_bytes()) && !each(prefix, at) {
                    return;
                }
            }
        }
    }

    /// The next place at which three bytes stand that a prefix may begin with. Apart from its caller, so that this loop
    /// keeps its few values in registers.
    #[inline(never)]
    fn candidate(&self, text: &[u8], from: usize) -> Option<usize> {
        let threes: &[u64; 1 << 10] = &self.threes;
        let begins = |three: u64| {
            let hash = hash_of_three(three as u32);
            threes[hash >> 6 & 1023] >> (hash & 63) & 1 == 1
        };
        let mut at = from;
        // Six places of one word at a time: the looks wait neither for each other nor for a branch.
        while let Some(eight) = text.get(at..)?.first_chunk::<8>() {
            let word = u64::from_be_bytes(*eight);
            let [a, b, c, d, e, f] = [40, 32, 24, 16, 8, 0].map(|shift| begins(word >> shift));
            if a | b | c | d | e | f {
                break;
            }
            at += 6;
        }
        let three = |window: &[u8]| u64::from(window[0]) << 16 | u64::from(window[1]) << 8 | u64::from(window[2]);
        let found = text[at..].windows(3).position(|window| begins(three(window)));
        found.map(|found| at + found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::PREFIXES;
    use super::*;

    #[test]
    fn every_prefix_is_found_at_the_start_of_a_word_and_only_there_if_it_begins_with_a_letter() {
        let heads = Heads::new(PREFIXES.iter());
        for prefix in PREFIXES {
            for (before, after) in [("", ""), ("a b ", ""), ("\"", "x"), ("ab", "yz")] {
                let text = format!("{before}{}{after} ", prefix.text);
                let mut found = false;
                heads.find(text.as_bytes(), |hit, at| {
                    found |= hit.text == prefix.text && at == before.len();
                    true
                });
                let inside = before == "ab" && prefix.text.as_bytes()[0].is_ascii_alphanumeric();
                assert_eq!(found, !inside, "{} in {text}", prefix.text);
            }
        }
    }
}
