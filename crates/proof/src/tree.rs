//! The RFC 6962 Merkle tree: appending, roots, inclusion and consistency proofs (RFC 9162 2.1.3 and 2.1.4).

use crate::error::{Error, malformed, mismatch};
use crate::hash::{Hash, empty_root, node};

/// Hashes in a proof, at most (`tlog-proof`, `tlog-witness`).
pub const PROOF_HASHES_MAX: usize = 63;

/// Position of an entry in the log, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeafIndex(pub u64);

/// Number of entries in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreeSize(pub u64);

/// The right edge of a tree: the roots of its complete subtrees, largest first. Enough to append and to know the
/// root, in O(log n) space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactRange {
    size: u64,
    nodes: Vec<Hash>,
}

impl CompactRange {
    /// The empty tree.
    pub fn new() -> CompactRange {
        CompactRange::default()
    }

    /// A range from its parts, as stored in a segment header.
    ///
    /// # Errors
    /// The number of nodes is not the number of one bits of `size`.
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Result<CompactRange, Error> {
        if nodes.len() != size.count_ones() as usize {
            return malformed("compact range", "one node for each one bit of the size is needed");
        }
        Ok(CompactRange { size, nodes })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends a leaf. `completed(level, index, hash)` is told every interior node that this leaf completes, from
    /// the lowest up.
    pub fn push(&mut self, leaf: Hash, mut completed: impl FnMut(u32, u64, &Hash)) {
        let mut hash = leaf;
        let merges = self.size.trailing_ones();
        for level in 1..=merges {
            let left = self.nodes.pop().expect("one node for each one bit of the size");
            hash = node(&left, &hash);
            completed(level, self.size >> level, &hash);
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            None => empty_root(),
            Some(last) => nodes.fold(*last, |right, left| node(left, &right)),
        }
    }
}

/// Where a proof takes the roots of complete subtrees from.
pub trait Nodes {
    /// The error of the store behind it.
    type Error;

    /// Root of the complete subtree of 2^level leaves that starts at leaf `index * 2^level`.
    ///
    /// # Errors
    /// The store could not be read.
    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The hashes that prove leaf `index` in the tree of `size` leaves, from the leaf's sibling up.
///
/// `index` MUST be below `size`.
///
/// # Errors
/// Those of `nodes`.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    assert!(index < size, "the leaf is in the tree");
    let mut path = Vec::new();
    let (mut low, mut high) = (0, size);
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(range_root(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(range_root(nodes, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The hashes that prove that the tree of `old` leaves is a prefix of the tree of `new` leaves.
///
/// `old` MUST be at most `new`.
///
/// # Errors
/// Those of `nodes`.
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    assert!(old <= new, "the old tree is not the larger one");
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut low, mut high) = (0, new);
    // RFC 9162 2.1.4.1: `low == 0` is the flag b, that the old root itself need not be given.
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            path.push(range_root(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(range_root(nodes, low, middle)?);
            low = middle;
        }
    }
    if low != 0 {
        path.push(range_root(nodes, low, high)?);
    }
    path.reverse();
    Ok(path)
}

/// Root over the leaves `low..high`, where `low` is a multiple of the smallest power of two not below the length.
///
/// # Errors
/// Those of `nodes`.
pub fn range_root<N: Nodes>(nodes: &N, low: u64, high: u64) -> Result<Hash, N::Error> {
    let count = high - low;
    if count == 0 {
        return Ok(empty_root());
    }
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return nodes.subtree(level, low >> level);
    }
    let middle = low + split(count);
    Ok(node(&range_root(nodes, low, middle)?, &range_root(nodes, middle, high)?))
}

/// The largest power of two strictly below `count`, for `count` over 1.
fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// Checks that `leaf` stands at `index` in the tree of `size` leaves with this root.
///
/// # Errors
/// It does not, or the path is longer than any tree needs.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, path: &[Hash], root: &Hash) -> Result<(), Error> {
    const WHAT: &str = "inclusion proof";
    if path.len() > PROOF_HASHES_MAX {
        return Err(Error::Limit { what: WHAT, got: path.len() as u64, limit: PROOF_HASHES_MAX as u64 });
    }
    if index >= size {
        return mismatch(WHAT, "the index is not in the tree");
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return mismatch(WHAT, "the path is too long");
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at != 0 && at & 1 == 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return mismatch(WHAT, "the path is too short");
    }
    if hash != *root {
        return mismatch(WHAT, "the path does not lead to the root");
    }
    Ok(())
}

/// Checks that the tree of `old` leaves is a prefix of the tree of `new` leaves.
///
/// # Errors
/// It is not, or the path is longer than any tree needs.
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> Result<(), Error> {
    const WHAT: &str = "consistency proof";
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if path.len() > PROOF_HASHES_MAX {
        return Err(Error::Limit { what: WHAT, got: path.len() as u64, limit: PROOF_HASHES_MAX as u64 });
    }
    if old_size > new_size {
        return mismatch(WHAT, "the old tree is the larger one");
    }
    if old_size == new_size || old_size == 0 {
        if !path.is_empty() {
            return mismatch(WHAT, "the path should be empty");
        }
        if old_size == new_size && old_root != new_root {
            return mismatch(WHAT, "one size, two roots");
        }
        if old_size == 0 && *old_root != empty_root() {
            return mismatch(WHAT, "the root of the empty tree is another");
        }
        return Ok(());
    }
    let mut path = path.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else {
        return mismatch(WHAT, "the path is empty");
    };
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return mismatch(WHAT, "the path is too long");
        }
        if at & 1 == 1 || at == last {
            old_hash = node(sibling, &old_hash);
            new_hash = node(sibling, &new_hash);
            while at != 0 && at & 1 == 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return mismatch(WHAT, "the path is too short");
    }
    if old_hash != *old_root || new_hash != *new_root {
        return mismatch(WHAT, "the path does not lead to both roots");
    }
    Ok(())
}

/// All leaves in memory; for tests and for small trees.
#[derive(Debug, Clone, Default)]
pub struct Leaves(pub Vec<Hash>);

impl Nodes for Leaves {
    type Error = std::convert::Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let (low, high) = ((index << level) as usize, ((index + 1) << level) as usize);
        let mut row = self.0[low..high].to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node(&pair[0], &pair[1])).collect();
        }
        Ok(row[0])
    }
}
