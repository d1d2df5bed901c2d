//! A person's own history as a file (`docs/formats/own-history.md`): entries with their receipts and openings.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::commitment::{Opening, OpeningField};
use crate::encoding::from_base64;
use crate::entry::Entry;
use crate::error::{Error, malformed, mismatch};
use crate::hash::sha256_parts;
use crate::key_change::{self, KeyChange};
use crate::note::VerifierKey;
use crate::receipt::Receipt;

/// What the field `format` says.
pub const FORMAT: &str = "candor/own-history/v1";
/// What the field `format` of a history proof says.
pub const HISTORY_FORMAT: &str = "candor/history/v1";
/// The same, of a trail whose key has changed.
pub const HISTORY_FORMAT_CHANGED: &str = "candor/history/v2";
/// Bytes of a file, at most.
pub const FILE_BYTES_MAX: u64 = 512 << 20;
const WHAT: &str = "own history";

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnHistory {
    /// [`FORMAT`].
    pub format: String,
    /// When it was made.
    pub made_at: String,
    /// The entry that says so.
    pub access: u64,
    /// The index below which it was asked for; none where it begins with the newest entry.
    pub below: Option<u64>,
    /// Older entries are in a file that begins below this one; none where there are none.
    pub next_below: Option<u64>,
    /// The proof that nothing was left out.
    pub history: History,
    /// For `KIND.VERSION`, what the number of each field stands for: a JSON Pointer.
    pub names: BTreeMap<String, BTreeMap<String, String>>,
    /// Entries, the newest first.
    pub entries: Vec<OwnEntry>,
}

/// A history proof (`docs/formats/history-proof.md`); whether it holds is seen over the whole trail.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// [`HISTORY_FORMAT`], or [`HISTORY_FORMAT_CHANGED`] where there are key changes.
    pub format: String,
    /// Name of the trail.
    pub origin: String,
    /// Its first verifier key.
    pub vkey: String,
    /// How the key that signed follows from the first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_changes: Vec<KeyChange>,
    /// A signed checkpoint.
    pub checkpoint: String,
    /// What the person is joined from.
    pub subjects: Vec<Subject>,
}

/// One subject of a history proof.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Base64 of the link key.
    pub link_key: String,
    /// Its entries.
    pub entries: Vec<u64>,
}

/// One entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnEntry {
    /// Position.
    pub index: u64,
    /// Time of acceptance.
    pub at: String,
    /// Kind.
    pub kind: String,
    /// Class.
    pub class: String,
    /// `whole`, `erased` or `ended`.
    pub state: String,
    /// That it is in the trail.
    pub receipt: Receipt,
    /// What the business did; none where its time has ended.
    pub facts: Option<Opening>,
    /// What is about the person; none where there was nothing, or it is gone.
    pub personal: Option<Opening>,
}

/// What a file that holds shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Name of the trail.
    pub origin: String,
    /// Entries, each in the trail as it is shown.
    pub entries: usize,
    /// Where a file with older ones goes on.
    pub next_below: Option<u64>,
    /// Whether the key came from the caller; if not, the file vouches for itself only.
    pub key_is_pinned: bool,
}

impl OwnHistory {
    /// Reads a file.
    ///
    /// # Errors
    /// It is no such file, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<OwnHistory, Error> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Error::Limit { what: WHAT, got: bytes.len() as u64, limit: FILE_BYTES_MAX });
        }
        let file: OwnHistory =
            serde_json::from_slice(bytes).or_else(|_| malformed(WHAT, "not the JSON of a person's own history"))?;
        if file.format != FORMAT || file.history.format != History::format(&file.history.key_changes) {
            return malformed(WHAT, "a version that this program does not know");
        }
        Ok(file)
    }

    /// Whether a text is meant to be such a file.
    pub fn is_meant(bytes: &[u8]) -> bool {
        let format = |value: Value| value.get("format").and_then(Value::as_str) == Some(FORMAT);
        serde_json::from_slice(bytes).is_ok_and(format)
    }

    /// Checks that each entry is in the trail, says what is shown of it and is about the person by its tag, and that the
    /// file has all entries that its history proof names between its ends. Whether that proof is whole takes the trail.
    ///
    /// # Errors
    /// Any part is malformed or does not hold.
    pub fn verify(&self, pinned: Option<&VerifierKey>) -> Result<Verified, Error> {
        let keys = key_change::keys(&self.history.origin, &self.history.vkey, &self.history.key_changes)?;
        let keys = key_change::trusted(&keys, pinned)?;
        let checkpoint = Checkpoint::open(self.history.checkpoint.as_bytes(), keys)?;
        let mut named = BTreeMap::new();
        for subject in &self.history.subjects {
            let link = from_base64(&subject.link_key)?;
            for (index, n) in subject.entries.iter().zip(1u64..) {
                let tag = hmac(&link, &[b"candor/v1/who\n".as_slice(), &n.to_be_bytes()].concat());
                if *index >= checkpoint.size || named.insert(*index, tag).is_some() {
                    return mismatch(WHAT, "the history proof names an entry twice, or beyond its checkpoint");
                }
            }
        }
        let within = |index: u64| {
            self.below.is_none_or(|below| index < below) && self.next_below.is_none_or(|below| index >= below)
        };
        let wanted: BTreeSet<u64> = named.keys().copied().filter(|index| within(*index)).collect();
        let mut shown = BTreeSet::new();
        for own in &self.entries {
            if own.receipt.origin != self.history.origin || own.receipt.vkey != self.history.vkey {
                return mismatch(WHAT, "an entry is of another trail");
            }
            let verified = own.receipt.verify(pinned)?;
            let entry = Entry::parse(own.receipt.entry.as_bytes())?;
            let same = verified.index == own.index
                && entry.kind == own.kind
                && entry.class == own.class
                && entry.at.rfc3339() == own.at;
            if !same || !shown.insert(own.index) {
                return mismatch(WHAT, "an entry is not what stands beside its receipt, or stands twice");
            }
            let tag = named.get(&own.index).map(|tag| &tag[..16]);
            if tag.is_none() || tag != entry.personal.as_ref().map(|personal| personal.who.0.as_slice()) {
                return mismatch(WHAT, "an entry is not about the person");
            }
            own.verify_bodies(&entry)?;
        }
        if wanted != shown {
            return mismatch(WHAT, "the entries are not those that the history proof names");
        }
        Ok(Verified {
            origin: self.history.origin.clone(),
            entries: shown.len(),
            next_below: self.next_below,
            key_is_pinned: pinned.is_some(),
        })
    }
}

impl History {
    /// What `format` says of a trail with these changes.
    pub fn format(changes: &[KeyChange]) -> &'static str {
        if changes.is_empty() { HISTORY_FORMAT } else { HISTORY_FORMAT_CHANGED }
    }
}

impl OwnEntry {
    fn verify_bodies(&self, entry: &Entry<'_>) -> Result<(), Error> {
        let whole = |opening: &Opening| opening.fields.iter().all(|field| matches!(field, OpeningField::Shown { .. }));
        if let Some(facts) = &self.facts {
            facts.verify(&entry.facts)?;
        }
        match (&self.personal, &entry.personal) {
            (Some(opening), Some(personal)) => drop(opening.verify(&personal.commitment)?),
            (Some(_), None) => return mismatch(WHAT, "an entry has no personal part, and one is shown"),
            (None, _) => {}
        }
        let all = self.facts.as_ref().is_some_and(whole)
            && (entry.personal.is_none() || self.personal.as_ref().is_some_and(whole));
        match self.state.as_str() {
            "whole" if all => Ok(()),
            "whole" => mismatch(WHAT, "an entry is said to be whole, and a part of it is not shown"),
            "erased" | "ended" => Ok(()),
            _ => malformed(WHAT, "a state that this program does not know"),
        }
    }
}

/// HMAC-SHA-256 (RFC 2104); the key has 64 bytes at most.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = sha256_parts(&[&padded(0x36), message]);
    sha256_parts(&[&padded(0x5c), &inner.0]).0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 1 and 2.
    #[test]
    fn the_keyed_hash_is_that_of_the_standard() {
        let hex = |key: &[u8], message: &[u8]| crate::encoding::hex(&hmac(key, message));
        assert_eq!(hex(&[0x0b; 20], b"Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_eq!(
            hex(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
