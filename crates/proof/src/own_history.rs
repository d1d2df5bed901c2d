//! A person's own history as a file (`docs/formats/own-history.md`): entries with their receipts and openings.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commitment::Opening;
use crate::entry::Entry;
use crate::error::{Error, malformed, mismatch};
use crate::note::VerifierKey;
use crate::receipt::Receipt;

/// What the field `format` says.
pub const FORMAT: &str = "candor/own-history/v1";
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
    /// `candor/history/v1`.
    pub format: String,
    /// Name of the trail.
    pub origin: String,
    /// Its verifier key.
    pub vkey: String,
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
        if file.format != FORMAT || file.history.format != "candor/history/v1" {
            return malformed(WHAT, "a version that this program does not know");
        }
        Ok(file)
    }

    /// Whether a text is meant to be such a file.
    pub fn is_meant(bytes: &[u8]) -> bool {
        let format = |value: Value| value.get("format").and_then(Value::as_str) == Some(FORMAT);
        serde_json::from_slice(bytes).is_ok_and(format)
    }

    /// Checks that each entry is in the trail and says what is shown of it, and that the file has the entries that its
    /// history proof names, from the newest down to where it ends. Whether the proof itself is whole takes the trail.
    ///
    /// # Errors
    /// Any part is malformed or does not hold.
    pub fn verify(&self, pinned: Option<&VerifierKey>) -> Result<Verified, Error> {
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
            if let Some(facts) = &own.facts {
                facts.verify(&entry.facts)?;
            }
            match (&own.personal, &entry.personal) {
                (Some(opening), Some(personal)) => drop(opening.verify(&personal.commitment)?),
                (Some(_), None) => return mismatch(WHAT, "an entry has no personal part, and one is shown"),
                (None, _) => {}
            }
        }
        let newest = shown.last().copied();
        let within = |index: &u64| {
            newest.is_some_and(|newest| *index <= newest) && self.next_below.is_none_or(|below| *index >= below)
        };
        let named = self.history.subjects.iter().flat_map(|subject| subject.entries.iter().copied());
        let named: BTreeSet<u64> = named.filter(within).collect();
        if named != shown {
            return mismatch(WHAT, "the entries are not those that the history proof names");
        }
        let pinned = pinned.is_some();
        Ok(Verified { origin: self.history.origin.clone(), entries: shown.len(), key_is_pinned: pinned })
    }
}
