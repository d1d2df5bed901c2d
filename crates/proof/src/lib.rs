//! What a stranger needs to check a Candor trail, and nothing else.
//!
//! Owns the bytes that outlive us: entries and their strict grammar, the hash chain, the RFC 6962 tree, inclusion
//! and consistency proofs, commitments and openings, C2SP signed notes, checkpoints, cosignatures, `tlog-proof`,
//! tiles, bundles and receipts. It does not encrypt (that is `seal`), store or order (that is `ledger`).
//!
//! Invariants:
//! - no clock, no file, no network, no randomness, no async: the same input gives the same answer for ever;
//! - a parser accepts exactly one spelling of each value and has a limit on everything;
//! - no input makes it panic or allocate more than a small multiple of the input's length.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod checkpoint;
pub mod commitment;
pub mod cosignature;
pub mod encoding;
pub mod entry;
pub mod error;
pub mod hash;
pub mod key_change;
pub mod note;
pub mod own_history;
pub mod receipt;
pub mod tile;
pub mod time;
pub mod tlog_proof;
pub mod tree;
