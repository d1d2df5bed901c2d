//! Roots of complete tiles, so that a proof reads a few hundred hashes at most whatever the size of the trail.
//!
//! File `tree.k` holds, for each complete subtree of 256^k leaves in order, its root: 32 bytes. The files are derived
//! from the leaf hashes in the journal and made longer or shorter at start to fit it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use proof::hash::{Hash, node};

use crate::error::{Error, io};

/// Levels kept: 256^4 leaves is over four thousand million.
pub const LEVELS: usize = 4;

/// The files of one trail.
#[derive(Debug)]
pub struct TreeStore {
    files: Vec<File>,
}

impl TreeStore {
    /// Opens or makes the files.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(folder: &Path) -> Result<TreeStore, Error> {
        let open = |level: usize| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(folder.join(format!("tree.{level}")))
        };
        let files = (1..=LEVELS).map(open).collect::<std::io::Result<Vec<File>>>().map_err(io("open", "tree"))?;
        Ok(TreeStore { files })
    }

    /// Complete subtrees that the file of a level (from 1) holds.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn count(&self, level: usize) -> Result<u64, Error> {
        self.files
            .get(level - 1)
            .map_or(Ok(0), |file| file.metadata().map(|meta| meta.len() / 32).map_err(io("read", "tree")))
    }

    /// Cuts what lies beyond a trail of this size.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn truncate(&self, size: u64) -> Result<(), Error> {
        for (place, file) in self.files.iter().enumerate() {
            let count = size >> (8 * (place + 1));
            if file.metadata().map_err(io("read", "tree"))?.len() > count * 32 {
                file.set_len(count * 32).map_err(io("cut", "tree"))?;
            }
        }
        Ok(())
    }

    /// Keeps a node that an append completed, if its level is one of ours.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn put(&self, level: u32, index: u64, hash: &Hash) -> Result<(), Error> {
        match self.files.get((level / 8) as usize - 1) {
            Some(file) if level.is_multiple_of(8) => {
                file.write_all_at(&hash.0, index * 32).map_err(io("write", "tree"))
            }
            _ => Ok(()),
        }
    }

    /// Root of the complete subtree of 2^level leaves, level at least 8.
    ///
    /// # Errors
    /// The disk refuses or the file is too short.
    pub fn subtree(&self, level: u32, index: u64) -> Result<Hash, Error> {
        let place = ((level / 8) as usize).min(LEVELS);
        let width = 1usize << (level as usize - 8 * place);
        let file = self.files.get(place - 1).ok_or(Error::Stopped)?;
        let mut bytes = vec![0; 32 * width];
        file.read_exact_at(&mut bytes, index * width as u64 * 32).map_err(io("read", "tree"))?;
        Ok(fold(
            bytes
                .chunks_exact(32)
                .map(|b| {
                    let mut h = [0; 32];
                    h.copy_from_slice(b);
                    Hash(h)
                })
                .collect(),
        ))
    }
}

/// Root of a power of two of hashes.
pub fn fold(mut row: Vec<Hash>) -> Hash {
    while row.len() > 1 {
        row = row.chunks_exact(2).map(|pair| node(&pair[0], &pair[1])).collect();
    }
    row.first().copied().unwrap_or_default()
}
