//! Checkpoints (c2sp.org/tlog-checkpoint v1.0.0): origin, size and root as a signed note.

use crate::encoding::{base64, decimal, hash_from_base64};
use crate::error::{Error, malformed, mismatch};
use crate::hash::{Hash, empty_root};
use crate::note::{Note, NoteSigner, TYPE_ED25519, VerifierKey, is_key_name};

/// Bytes in an origin, at most: the ML-DSA cosignature has one length byte for it.
pub const ORIGIN_BYTES_MAX: usize = 255;

const WHAT: &str = "checkpoint";

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; opaque.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// Further lines. Candor writes none; other logs' are kept as read.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    pub fn new(origin: &str, size: u64, root: Hash) -> Checkpoint {
        Checkpoint { origin: origin.to_owned(), size, root, extensions: Vec::new() }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, base64(&self.root.0));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// Fewer than three lines, an empty one, a number or digest spelt otherwise, or a size of 0 with another root
    /// than H("").
    pub fn parse_text(text: &str) -> Result<Checkpoint, Error> {
        let Some(body) = text.strip_suffix('\n') else {
            return malformed(WHAT, "the text does not end with a newline");
        };
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return malformed(WHAT, "fewer than three lines");
        };
        if origin.is_empty() || origin.len() > ORIGIN_BYTES_MAX {
            return malformed(WHAT, "the origin is empty or over 255 bytes");
        }
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size: decimal(size)?,
            root: hash_from_base64(root)?,
            extensions: lines.map(str::to_owned).collect(),
        };
        if checkpoint.extensions.iter().any(String::is_empty) {
            return malformed(WHAT, "an empty line");
        }
        if checkpoint.size == 0 && checkpoint.root != empty_root() {
            return mismatch(WHAT, "size 0 with another root than that of the empty tree");
        }
        Ok(checkpoint)
    }

    /// The signed note.
    pub fn sign(&self, signer: &NoteSigner) -> String {
        let text = self.text();
        let line = signer.sign_line(&text);
        format!("{text}\n{line}")
    }

    /// Reads a signed checkpoint and checks it against the log's keys, whose name MUST be the origin.
    ///
    /// # Errors
    /// It does not parse, or is not signed by one of these keys.
    pub fn open(bytes: &[u8], log_keys: &[VerifierKey]) -> Result<Checkpoint, Error> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::parse_text(note.text)?;
        let keys: Vec<VerifierKey> = log_keys
            .iter()
            .filter(|key| key.name() == checkpoint.origin && key.kind() == TYPE_ED25519)
            .cloned()
            .collect();
        note.verify(&keys)?;
        Ok(checkpoint)
    }
}

/// Whether `origin` may name a trail: a key name of at most [`ORIGIN_BYTES_MAX`] bytes.
pub fn is_origin(origin: &str) -> bool {
    is_key_name(origin) && origin.len() <= ORIGIN_BYTES_MAX
}
