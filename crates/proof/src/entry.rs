//! The entry: one line of JSON, the Merkle leaf (`docs/formats/entry.md`).
//!
//! There is exactly one spelling of each entry. [`Entry::write`] makes it, [`Entry::parse`] refuses every other.

use crate::encoding::{from_hex, push_hex};
use crate::error::{Error, malformed};
use crate::hash::{self, Hash};
use crate::time::UnixMillis;

/// Characters in a kind name, at most.
pub const KIND_CHARS_MAX: usize = 64;
/// Characters in a class name, at most.
pub const CLASS_CHARS_MAX: usize = 32;
/// The longest entry: 477 fixed bytes with `who` and `personal`, rounded up, and the two names.
pub const ENTRY_BYTES_MAX: usize = 544 + KIND_CHARS_MAX + CLASS_CHARS_MAX;

/// The first 16 bytes of the keyed hash of source and client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EntryId(pub [u8; 16]);

/// The unlinkable tag of one entry of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Who(pub [u8; 16]);

/// The subject's half of an entry: its tag and the commitment to what is about them. Both or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Personal {
    /// The tag.
    pub who: Who,
    /// The commitment to the personal body.
    pub commitment: Hash,
}

/// One entry, borrowed from the bytes it was read from or the record it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Leaf hash of the entry before; of entry 0 [`hash::genesis`].
    pub prev: Hash,
    /// Time of acceptance.
    pub at: UnixMillis,
    /// Keyed hash of source and client id.
    pub id: EntryId,
    /// Kind, `[A-Z0-9_]{1,64}`.
    pub kind: &'a str,
    /// Class, `[a-z0-9_]{1,32}`.
    pub class: &'a str,
    /// Tag and commitment of the personal body, where there is one.
    pub personal: Option<Personal>,
    /// Commitment to the facts body.
    pub facts: Hash,
    /// H(sealed record).
    pub sealed: Hash,
}

/// Whether `name` is a kind name.
pub fn is_kind_name(name: &str) -> bool {
    (1..=KIND_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

/// Whether `name` is a class name.
pub fn is_class_name(name: &str) -> bool {
    (1..=CLASS_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

impl<'a> Entry<'a> {
    /// Appends the exact bytes of the entry to `out`.
    ///
    /// The names MUST satisfy [`is_kind_name`] and [`is_class_name`].
    pub fn write(&self, out: &mut Vec<u8>) {
        debug_assert!(is_kind_name(self.kind) && is_class_name(self.class));
        out.extend_from_slice(b"{\"v\":1,\"prev\":\"");
        push_hex(out, &self.prev.0);
        out.extend_from_slice(b"\",\"at\":\"");
        out.extend_from_slice(&self.at.rfc3339_bytes());
        out.extend_from_slice(b"\",\"id\":\"");
        push_hex(out, &self.id.0);
        out.extend_from_slice(b"\",\"kind\":\"");
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(b"\",\"class\":\"");
        out.extend_from_slice(self.class.as_bytes());
        if let Some(personal) = &self.personal {
            out.extend_from_slice(b"\",\"who\":\"");
            push_hex(out, &personal.who.0);
        }
        out.extend_from_slice(b"\",\"facts\":\"");
        push_hex(out, &self.facts.0);
        if let Some(personal) = &self.personal {
            out.extend_from_slice(b"\",\"personal\":\"");
            push_hex(out, &personal.commitment.0);
        }
        out.extend_from_slice(b"\",\"sealed\":\"");
        push_hex(out, &self.sealed.0);
        out.extend_from_slice(b"\"}");
    }

    /// The exact bytes of the entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENTRY_BYTES_MAX);
        self.write(&mut out);
        out
    }

    /// Leaf hash of the entry.
    pub fn leaf_hash(&self) -> Hash {
        hash::leaf(&self.to_bytes())
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// Any spelling but the one that [`Entry::write`] makes.
    pub fn parse(bytes: &'a [u8]) -> Result<Entry<'a>, Error> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(Error::Limit { what: "entry", got: bytes.len() as u64, limit: ENTRY_BYTES_MAX as u64 });
        }
        let mut cursor = Cursor { rest: bytes };
        cursor.expect(b"{\"v\":1,\"prev\":\"")?;
        let prev = Hash(cursor.hex()?);
        cursor.expect(b"\",\"at\":\"")?;
        let at = UnixMillis::parse_canonical(cursor.take(24)?)?;
        cursor.expect(b"\",\"id\":\"")?;
        let id = EntryId(cursor.hex()?);
        cursor.expect(b"\",\"kind\":\"")?;
        let kind = cursor.text("kind")?;
        cursor.expect(b"\",\"class\":\"")?;
        let class = cursor.text("class")?;
        if !is_kind_name(kind) || !is_class_name(class) {
            return malformed("entry", "kind or class is not a name");
        }
        let who = if cursor.rest.starts_with(b"\",\"who\":\"") {
            cursor.expect(b"\",\"who\":\"")?;
            Some(Who(cursor.hex()?))
        } else {
            None
        };
        cursor.expect(b"\",\"facts\":\"")?;
        let facts = Hash(cursor.hex()?);
        let personal = match who {
            Some(who) => {
                cursor.expect(b"\",\"personal\":\"")?;
                Some(Personal { who, commitment: Hash(cursor.hex()?) })
            }
            None => None,
        };
        cursor.expect(b"\",\"sealed\":\"")?;
        let sealed = Hash(cursor.hex()?);
        cursor.expect(b"\"}")?;
        if !cursor.rest.is_empty() {
            return malformed("entry", "bytes after the closing brace");
        }
        Ok(Entry { prev, at, id, kind, class, personal, facts, sealed })
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        match self.rest.split_at_checked(count) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => malformed("entry", "ends too early"),
        }
    }

    fn expect(&mut self, literal: &'static [u8]) -> Result<(), Error> {
        if self.take(literal.len())? != literal {
            return malformed("entry", "a field is missing, out of order or spelt otherwise");
        }
        Ok(())
    }

    fn hex<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        from_hex(self.take(2 * N)?)
    }

    fn text(&mut self, _field: &'static str) -> Result<&'a str, Error> {
        let end = self.rest.iter().position(|byte| *byte == b'"').unwrap_or(self.rest.len());
        std::str::from_utf8(self.take(end)?).or_else(|_| malformed("entry", "a name is not ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(personal: bool) -> Entry<'static> {
        Entry {
            prev: Hash([0xab; 32]),
            at: UnixMillis(1_763_764_207_611),
            id: EntryId([1; 16]),
            kind: "EMAIL_SENT",
            class: "communication",
            personal: personal.then_some(Personal { who: Who([2; 16]), commitment: Hash([3; 32]) }),
            facts: Hash([4; 32]),
            sealed: Hash([5; 32]),
        }
    }

    #[test]
    fn the_longest_entry_fits_its_limit() {
        let (kind, class) = ("K".repeat(KIND_CHARS_MAX), "c".repeat(CLASS_CHARS_MAX));
        let entry = Entry { kind: &kind, class: &class, ..sample(true) };
        let bytes = entry.to_bytes();
        assert!(bytes.len() <= ENTRY_BYTES_MAX, "{}", bytes.len());
        assert_eq!(Entry::parse(&bytes), Ok(entry));
        let kind = "K".repeat(KIND_CHARS_MAX + 1);
        let text = String::from_utf8(bytes).expect("ASCII").replace(&"K".repeat(KIND_CHARS_MAX), &kind);
        assert!(Entry::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn half_a_subject_is_refused() {
        let text = String::from_utf8(sample(true).to_bytes()).expect("ASCII");
        let without_who = text.replace(&format!(",\"who\":\"{}\"", "02".repeat(16)), "");
        let without_personal = text.replace(&format!(",\"personal\":\"{}\"", "03".repeat(32)), "");
        assert!(Entry::parse(without_who.as_bytes()).is_err());
        assert!(Entry::parse(without_personal.as_bytes()).is_err());
    }

    #[test]
    fn every_single_byte_change_is_refused_or_read_back_as_itself() {
        for personal in [false, true] {
            let bytes = sample(personal).to_bytes();
            assert_eq!(Entry::parse(&bytes).map(|entry| entry.to_bytes()), Ok(bytes.clone()));
            for at in 0..bytes.len() {
                for change in [0x01, 0x20, 0x80] {
                    let mut other = bytes.clone();
                    other[at] ^= change;
                    if let Ok(entry) = Entry::parse(&other) {
                        assert_eq!(entry.to_bytes(), other);
                        assert_ne!(entry.leaf_hash(), hash::leaf(&bytes));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes: Vec<u8>) { let _ = Entry::parse(&bytes); }

        #[test]
        fn what_is_written_is_read(prev: [u8; 32], ms in 0..=crate::time::UNIX_MILLIS_MAX, id: [u8; 16],
            kind in "[A-Z0-9_]{1,64}", class in "[a-z0-9_]{1,32}", who: Option<[u8; 16]>, digest: [u8; 32]) {
            let personal = who.map(|who| Personal { who: Who(who), commitment: Hash(digest) });
            let entry = Entry { prev: Hash(prev), at: UnixMillis(ms), id: EntryId(id), kind: &kind, class: &class,
                personal, facts: Hash(digest), sealed: Hash(prev) };
            let bytes = entry.to_bytes();
            prop_assert_eq!(Entry::parse(&bytes), Ok(entry));
        }
    }
}
