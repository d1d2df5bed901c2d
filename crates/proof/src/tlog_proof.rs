//! The offline inclusion proof (c2sp.org/tlog-proof, draft).

use crate::checkpoint::Checkpoint;
use crate::encoding::{base64, decimal, from_base64, hash_from_base64};
use crate::error::{Error, malformed};
use crate::hash::Hash;
use crate::note::{NOTE_BYTES_MAX, VerifierKey};
use crate::tree::{PROOF_HASHES_MAX, verify_inclusion};

/// Bytes of `extra`, at most: a known reader caps lines at 64 KiB.
pub const EXTRA_BYTES_MAX: usize = 48 << 10;

const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
const WHAT: &str = "tlog-proof";

/// A proof file, read but not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Unauthenticated bytes beside the proof.
    pub extra: Option<Vec<u8>>,
    /// Position of the entry.
    pub index: u64,
    /// The path, from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The checkpoint, verbatim with all signature lines.
    pub checkpoint: String,
}

impl TlogProof {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = String::from(HEADER);
        if let Some(extra) = &self.extra {
            text.push_str(&format!("extra {}\n", base64(extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&base64(&hash.0));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Any deviation from the grammar, or more than 63 hashes.
    pub fn parse(bytes: &[u8]) -> Result<TlogProof, Error> {
        let limit = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX;
        if bytes.len() > limit {
            return Err(Error::Limit { what: WHAT, got: bytes.len() as u64, limit: limit as u64 });
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return malformed(WHAT, "not UTF-8");
        };
        let Some(rest) = text.strip_prefix(HEADER) else {
            return malformed(WHAT, "another first line");
        };
        let Some((head, checkpoint)) = rest.split_once("\n\n") else {
            return malformed(WHAT, "no empty line before the checkpoint");
        };
        let mut lines = head.split('\n').peekable();
        let mut extra = None;
        if let Some(value) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            let bytes = from_base64(value)?;
            if bytes.len() > EXTRA_BYTES_MAX {
                return Err(Error::Limit { what: "extra", got: bytes.len() as u64, limit: EXTRA_BYTES_MAX as u64 });
            }
            extra = Some(bytes);
            lines.next();
        }
        let Some(index) = lines.next().and_then(|line| line.strip_prefix("index ")) else {
            return malformed(WHAT, "no index line");
        };
        let index = decimal(index)?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() == PROOF_HASHES_MAX {
                return Err(Error::Limit { what: "proof hashes", got: 64, limit: PROOF_HASHES_MAX as u64 });
            }
            path.push(hash_from_base64(line)?);
        }
        Ok(TlogProof { extra, index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that `leaf` is in the tree that a log key signed, and gives the checkpoint.
    ///
    /// # Errors
    /// No trusted signature, or the path does not lead to the root.
    pub fn verify(&self, leaf: &Hash, log_keys: &[VerifierKey]) -> Result<Checkpoint, Error> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), log_keys)?;
        verify_inclusion(self.index, checkpoint.size, leaf, &self.path, &checkpoint.root)?;
        Ok(checkpoint)
    }
}
