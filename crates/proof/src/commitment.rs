//! Commitments to a body and openings by field (`docs/formats/commitment.md`).
//!
//! A body is a list of fields, each a number and the JSON text of a value. The salts come from the content key and
//! are never stored, so a digest tells nothing once the key is gone.

use serde::{Deserialize, Serialize};

use crate::encoding::{from_hex, hex};
use crate::error::{Error, malformed, mismatch};
use crate::hash::{Hash, sha256, sha256_parts};

/// Fields in a body, at most.
pub const FIELDS_MAX: usize = 64;
/// Bytes of a value's JSON text, at most: a record is at most 64 KiB.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body, at most.
pub const BODY_BYTES_MAX: usize = 256 << 10;

/// The salt of one field.
pub type Salt = [u8; 16];

/// One field of a body, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Number, given by the schema of the kind version.
    pub number: u16,
    /// JSON text of the value.
    pub value: &'a [u8],
}

/// d_i = H(0x02 || salt || number || value).
pub fn field_digest(salt: &Salt, field: Field<'_>) -> Hash {
    // One compression for short values: the parts go into one buffer and one call.
    let length = 19 + field.value.len();
    if length <= 256 {
        let mut bytes = [0u8; 256];
        bytes[0] = 2;
        bytes[1..17].copy_from_slice(salt);
        bytes[17..19].copy_from_slice(&field.number.to_be_bytes());
        bytes[19..length].copy_from_slice(field.value);
        return sha256(&bytes[..length]);
    }
    sha256_parts(&[&[2], salt, &field.number.to_be_bytes(), field.value])
}

/// commit = H(0x03 || count || d_0 || d_1 || ...).
pub fn commit(digests: &[Hash]) -> Hash {
    assert!(digests.len() <= FIELDS_MAX, "a body has at most 64 fields");
    let mut bytes = Vec::with_capacity(2 + 32 * digests.len());
    bytes.extend_from_slice(&[3, digests.len() as u8]);
    for digest in digests {
        bytes.extend_from_slice(&digest.0);
    }
    sha256(&bytes)
}

/// Appends the bytes of a body: count, then number, length (LEB128) and value of each field.
///
/// # Errors
/// More than [`FIELDS_MAX`] fields, a value over [`VALUE_BYTES_MAX`], or numbers that do not rise.
pub fn write_body(out: &mut Vec<u8>, fields: &[Field<'_>]) -> Result<(), Error> {
    if fields.len() > FIELDS_MAX {
        return Err(Error::Limit { what: "body fields", got: fields.len() as u64, limit: FIELDS_MAX as u64 });
    }
    out.push(fields.len() as u8);
    let mut before = None;
    for field in fields {
        if before.is_some_and(|before| before >= field.number) {
            return malformed("body", "field numbers do not rise");
        }
        if field.value.len() > VALUE_BYTES_MAX {
            let (got, limit) = (field.value.len() as u64, VALUE_BYTES_MAX as u64);
            return Err(Error::Limit { what: "field value", got, limit });
        }
        before = Some(field.number);
        out.extend_from_slice(&field.number.to_be_bytes());
        push_varint(out, field.value.len());
        out.extend_from_slice(field.value);
    }
    Ok(())
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a body apart.
///
/// # Errors
/// Anything that [`write_body`] would not have written.
pub fn parse_body(bytes: &[u8]) -> Result<Vec<Field<'_>>, Error> {
    const WHAT: &str = "body";
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Error::Limit { what: WHAT, got: bytes.len() as u64, limit: BODY_BYTES_MAX as u64 });
    }
    let Some((count, mut rest)) = bytes.split_first() else {
        return malformed(WHAT, "no field count");
    };
    if usize::from(*count) > FIELDS_MAX {
        return Err(Error::Limit { what: "body fields", got: u64::from(*count), limit: FIELDS_MAX as u64 });
    }
    let mut fields: Vec<Field<'_>> = Vec::with_capacity(usize::from(*count));
    for _ in 0..*count {
        let Some((number, after)) = rest.split_first_chunk::<2>() else {
            return malformed(WHAT, "ends inside a field number");
        };
        let number = u16::from_be_bytes(*number);
        let (length, after) = read_varint(after)?;
        let Some((value, after)) = after.split_at_checked(length) else {
            return malformed(WHAT, "ends inside a value");
        };
        if fields.last().is_some_and(|last| last.number >= number) {
            return malformed(WHAT, "field numbers do not rise");
        }
        fields.push(Field { number, value });
        rest = after;
    }
    if !rest.is_empty() {
        return malformed(WHAT, "bytes after the last field");
    }
    Ok(fields)
}

/// LEB128 of at most three bytes, no longer than needed: 2^21 is over any body.
fn read_varint(bytes: &[u8]) -> Result<(usize, &[u8]), Error> {
    let mut value = 0usize;
    for (place, byte) in bytes.iter().take(3).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            if place > 0 && *byte == 0 {
                return malformed("body", "a length spelt longer than needed");
            }
            return Ok((value, &bytes[place + 1..]));
        }
    }
    malformed("body", "a length that does not end")
}

/// One field of an opening: shown, or kept back as its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OpeningField {
    /// A shown field.
    Shown {
        /// Field number.
        n: u16,
        /// JSON text of the value.
        value: String,
        /// Salt, 32 hex digits.
        salt: String,
    },
    /// A field kept back: its digest, 64 hex digits.
    Kept {
        /// The digest.
        d: String,
    },
}

/// What is handed out to show some fields of a body and prove them against the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// All fields of the body in their order.
    pub fields: Vec<OpeningField>,
}

impl Opening {
    /// Opens the fields that `show` picks, keeping the others back.
    pub fn new(fields: &[Field<'_>], salts: &[Salt], show: impl Fn(u16) -> bool) -> Opening {
        assert_eq!(fields.len(), salts.len(), "one salt for each field");
        let open = |(field, salt): (&Field<'_>, &Salt)| match std::str::from_utf8(field.value) {
            Ok(value) if show(field.number) => {
                OpeningField::Shown { n: field.number, value: value.to_owned(), salt: hex(salt) }
            }
            _ => OpeningField::Kept { d: field_digest(salt, *field).hex() },
        };
        Opening { fields: fields.iter().zip(salts).map(open).collect() }
    }

    /// Checks the opening against a commitment and gives the shown fields.
    ///
    /// # Errors
    /// Too many fields, a digest spelt otherwise, shown numbers that do not rise, or another commitment.
    pub fn verify(&self, commitment: &Hash) -> Result<Vec<(u16, &str)>, Error> {
        if self.fields.len() > FIELDS_MAX {
            let (got, limit) = (self.fields.len() as u64, FIELDS_MAX as u64);
            return Err(Error::Limit { what: "opening fields", got, limit });
        }
        let mut digests = Vec::with_capacity(self.fields.len());
        let mut shown: Vec<(u16, &str)> = Vec::new();
        for field in &self.fields {
            digests.push(match field {
                OpeningField::Kept { d } => Hash(from_hex(d.as_bytes())?),
                OpeningField::Shown { n, value, salt } => {
                    if shown.last().is_some_and(|(before, _)| before >= n) {
                        return malformed("opening", "shown field numbers do not rise");
                    }
                    shown.push((*n, value));
                    field_digest(&from_hex(salt.as_bytes())?, Field { number: *n, value: value.as_bytes() })
                }
            });
        }
        if commit(&digests) != *commitment {
            return mismatch("opening", "the fields do not lead to the commitment");
        }
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics_and_what_parses_is_canonical(bytes: Vec<u8>) {
            if let Ok(fields) = parse_body(&bytes) {
                let mut again = Vec::new();
                write_body(&mut again, &fields).expect("parsed fields are valid");
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn any_choice_of_fields_opens_and_no_changed_one_does(
            values in prop::collection::btree_map(any::<u16>(), "[ -~]{0,300}", 0..64), shown: u64, secret: [u8; 16], at: usize
        ) {
            let fields: Vec<Field<'_>> =
                values.iter().map(|(number, value)| Field { number: *number, value: value.as_bytes() }).collect();
            let salts: Vec<Salt> = (0..fields.len()).map(|i| { let mut s = secret; s[0] ^= i as u8; s }).collect();
            let digests: Vec<Hash> = fields.iter().zip(&salts).map(|(f, s)| field_digest(s, *f)).collect();
            let commitment = commit(&digests);
            let opening = Opening::new(&fields, &salts, |n| shown >> (n % 64) & 1 == 1);
            let text = serde_json::to_string(&opening).expect("an opening is JSON");
            let mut read: Opening = serde_json::from_str(&text).expect("it reads back");
            prop_assert_eq!(&read, &opening);
            let seen = read.verify(&commitment).expect("it opens");
            for (number, value) in &seen { prop_assert_eq!(values[number].as_str(), *value); }
            if !read.fields.is_empty() {
                let at = at % read.fields.len();
                match &mut read.fields[at] {
                    OpeningField::Shown { value, .. } => value.push('x'),
                    OpeningField::Kept { d } => *d = Hash([7; 32]).hex(),
                }
                prop_assert!(read.verify(&commitment).is_err());
            }
        }
    }
}
