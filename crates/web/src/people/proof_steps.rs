//! The proof of one entry, opened step by step: from its bytes to the root of the signed tree.

use proof::checkpoint::Checkpoint;
use proof::encoding::hex;
use proof::hash::{Hash, leaf, node};
use proof::key_change;
use proof::receipt::Receipt;
use proof::tlog_proof::TlogProof;

/// One hash on the way up.
pub(super) struct Step {
    /// Whether the neighbour stands on the left.
    pub(super) left: bool,
    /// The neighbour.
    pub(super) neighbour: String,
    /// What both come to.
    pub(super) result: String,
}

/// See the module.
pub(super) struct Steps {
    pub(super) entry: String,
    pub(super) leaf: String,
    pub(super) steps: Vec<Step>,
    pub(super) size: u64,
    pub(super) root: String,
    /// Whether the steps lead to the root that is signed.
    pub(super) holds: bool,
    pub(super) checkpoint: String,
    pub(super) vkey: String,
}

impl Steps {
    /// The steps of a receipt; none where it does not hold.
    pub(super) fn of(receipt: &Receipt) -> Option<Steps> {
        let keys = key_change::keys(&receipt.origin, &receipt.vkey, &receipt.key_changes).ok()?;
        let proof = TlogProof::parse(receipt.proof.as_bytes()).ok()?;
        let checkpoint = Checkpoint::open(proof.checkpoint.as_bytes(), &keys).ok()?;
        let first = leaf(receipt.entry.as_bytes());
        let (steps, reached) = climb(proof.index, checkpoint.size, first, &proof.path);
        Some(Steps {
            entry: receipt.entry.clone(),
            leaf: first.hex(),
            steps,
            size: checkpoint.size,
            root: checkpoint.root.hex(),
            holds: reached == checkpoint.root && receipt.verify(None).is_ok(),
            checkpoint: proof.checkpoint,
            vkey: keys.last()?.to_string(),
        })
    }
}

/// The way up as RFC 9162, section 2.1.3.2, goes it.
fn climb(index: u64, size: u64, first: Hash, path: &[Hash]) -> (Vec<Step>, Hash) {
    let (mut at, mut last, mut held) = (index, size.saturating_sub(1), first);
    let mut steps = Vec::with_capacity(path.len());
    for neighbour in path {
        let left = at & 1 == 1 || at == last;
        held = if left { node(neighbour, &held) } else { node(&held, neighbour) };
        if left {
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        }
        (at, last) = (at >> 1, last >> 1);
        steps.push(Step { left, neighbour: hex(&neighbour.0), result: held.hex() });
    }
    (steps, held)
}
