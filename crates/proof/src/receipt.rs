//! The receipt: one entry with the proof that a signed tree holds it (`docs/formats/receipt.md`).

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::{Error, malformed, mismatch};
use crate::hash;
use crate::key_change::{self, KeyChange};
use crate::note::{NOTE_BYTES_MAX, VerifierKey};
use crate::tlog_proof::TlogProof;

/// Bytes of a receipt file, at most: the proof and its JSON escapes.
pub const RECEIPT_BYTES_MAX: usize = 3 * NOTE_BYTES_MAX;

/// The version of a receipt from before the trail's key changed; this code writes and reads it.
pub const RECEIPT_VERSION: u64 = 1;
/// The version with the changes of the trail's key; this code writes and reads it.
pub const RECEIPT_VERSION_CHANGED: u64 = 2;

const WHAT: &str = "receipt";

/// The JSON file `{v, origin, vkey, index, entry, proof}`, and `key_changes` where the trail has had another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Format version: 2 where there are key changes, else 1.
    pub v: u64,
    /// Name of the trail.
    pub origin: String,
    /// The trail's first verifier key.
    pub vkey: String,
    /// Position of the entry.
    pub index: u64,
    /// The exact entry.
    pub entry: String,
    /// The text of the `tlog-proof`.
    pub proof: String,
    /// How the key that signed follows from the first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_changes: Vec<KeyChange>,
}

/// What a receipt that holds shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Position of the entry.
    pub index: u64,
    /// The signed tree that holds it.
    pub checkpoint: Checkpoint,
    /// Whether the key came from the caller; if not, the receipt vouches for itself only.
    pub key_is_pinned: bool,
}

impl Receipt {
    /// Reads a file.
    ///
    /// # Errors
    /// It is too large, not JSON, has a field missing, twice or unknown, or is of another version.
    pub fn parse(bytes: &[u8]) -> Result<Receipt, Error> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(Error::Limit { what: WHAT, got: bytes.len() as u64, limit: RECEIPT_BYTES_MAX as u64 });
        }
        let receipt: Receipt =
            serde_json::from_slice(bytes).or_else(|_| malformed(WHAT, "not the JSON of a receipt"))?;
        let version = if receipt.key_changes.is_empty() { RECEIPT_VERSION } else { RECEIPT_VERSION_CHANGED };
        if receipt.v != version {
            return malformed(WHAT, "a version that this program does not know");
        }
        Ok(receipt)
    }

    /// The text of the file, ending in a newline.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers are JSON");
        text.push('\n');
        text
    }

    /// Checks everything the receipt says. `pinned` is the key that the reader trusts, any that the trail ever had: what
    /// it signed counts, and what keys after it did. Without one the receipt's own keys are used, which shows only that
    /// the receipt agrees with itself.
    ///
    /// # Errors
    /// Any part is malformed, or does not lead to a tree signed by that key.
    pub fn verify(&self, pinned: Option<&VerifierKey>) -> Result<Verified, Error> {
        let keys = key_change::keys(&self.origin, &self.vkey, &self.key_changes)?;
        let keys = key_change::trusted(&keys, pinned)?;
        let entry = Entry::parse(self.entry.as_bytes())?;
        if self.index == 0 && entry.prev != hash::genesis(&self.origin, &self.vkey) {
            return mismatch(WHAT, "the first entry does not begin this trail");
        }
        let proof = TlogProof::parse(self.proof.as_bytes())?;
        if proof.index != self.index {
            return mismatch(WHAT, "the proof is for another index");
        }
        let checkpoint = proof.verify(&hash::leaf(self.entry.as_bytes()), keys)?;
        if checkpoint.origin != self.origin {
            return mismatch(WHAT, "the checkpoint is of another origin");
        }
        Ok(Verified { index: self.index, checkpoint, key_is_pinned: pinned.is_some() })
    }
}
