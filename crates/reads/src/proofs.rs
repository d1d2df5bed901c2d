//! The published proof plane: checkpoints, tiles and bundles (c2sp.org/tlog-tiles). It holds nothing personal, so these
//! reads write no ACCESS entry.

use std::sync::Arc;

use ledger::reader::{Published, Reader};
use proof::bundle;
use proof::key_change;
use proof::tile::{TILE_WIDTH, TilePath};
use proof::tree::Nodes;

use crate::error::Error;

/// An entry as the proof plane has it.
#[derive(Debug, Clone)]
pub struct Line {
    /// Position.
    pub index: u64,
    /// Time of acceptance.
    pub at: String,
    /// Kind.
    pub kind: String,
    /// Class.
    pub class: String,
    /// Leaf hash.
    pub leaf: String,
}

/// See the module.
#[derive(Clone)]
pub struct Proofs {
    reader: Arc<Reader>,
}

impl Proofs {
    /// Over a trail.
    pub fn new(reader: Arc<Reader>) -> Proofs {
        Proofs { reader }
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    /// Origin and first verifier key.
    pub fn identity(&self) -> (String, String) {
        let identity = self.reader.identity();
        (identity.origin.clone(), identity.vkey.clone())
    }

    /// The keys that the trail has had, the newest last.
    ///
    /// # Errors
    /// One does not follow from those before it.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        let identity = self.reader.identity();
        let changes = self.reader.published().key_changes;
        let keys = key_change::keys(&identity.origin, &identity.vkey, &changes).map_err(ledger::error::Error::from)?;
        Ok(keys.iter().map(ToString::to_string).collect())
    }

    /// The newest state: size, signed checkpoint and how the keys that signed it follow from the first one.
    pub fn published(&self) -> Published {
        self.reader.published()
    }

    /// A piece of a segment of the journal, sealed as it lies there, for who keeps a copy; see [`Reader::piece`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn piece(&self, segment: u32, offset: u64, most: usize) -> Result<Option<(Vec<u8>, bool)>, Error> {
        Ok(self.reader.piece(segment, offset, most)?)
    }

    /// The newest entries, at most `count`, as the proof plane has them: nothing of what a sender wrote.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn newest(&self, count: u64) -> Result<Vec<Line>, Error> {
        let size = self.size();
        let mut lines = Vec::new();
        for index in (size.saturating_sub(count)..size).rev() {
            let stored = self.reader.entry(index)?;
            let entry = stored.entry()?;
            lines.push(Line {
                index,
                at: entry.at.rfc3339(),
                kind: entry.kind.to_owned(),
                class: entry.class.to_owned(),
                leaf: stored.leaf.hex(),
            });
        }
        Ok(lines)
    }

    /// A file of the tree of `size` entries; `None` if that tree has no such file.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn tile(&self, path: &TilePath, size: u64) -> Result<Option<Vec<u8>>, Error> {
        let (level, index, width) = match *path {
            TilePath::Hashes { level, index, width } => (u32::from(level), index, width),
            TilePath::Entries { index, width } => (0, index, width),
        };
        let width = width.map_or(TILE_WIDTH, u64::from);
        // Level n of tiles has the hashes of level 8n of the tree.
        let have = if level >= 8 { 0 } else { size >> (8 * level) };
        let Some(first) = index.checked_mul(TILE_WIDTH) else { return Ok(None) };
        let last = first.checked_add(width);
        if last.is_none_or(|last| last > have) {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(width as usize * 32);
        match path {
            TilePath::Entries { .. } => {
                for index in first..first + width {
                    let entry = self.reader.entry(index)?;
                    bundle::push(&mut bytes, &entry.bytes).map_err(ledger::error::Error::from)?;
                }
            }
            TilePath::Hashes { .. } if level == 0 => {
                self.reader.leaves(first, first + width)?.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
            }
            TilePath::Hashes { .. } => {
                for index in first..first + width {
                    bytes.extend_from_slice(&self.reader.subtree(8 * level, index)?.0);
                }
            }
        }
        Ok(Some(bytes))
    }
}
