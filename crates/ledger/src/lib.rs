//! Order and durability: the one place where a record becomes an entry.
//!
//! Owns the sequencer, frames and segments, the journal behind them, the segment index, the rollback guard, the clock
//! rule, recovery, and the verification of a whole trail. It takes only sealed records; what travels beside them to
//! the views is opaque to it.
//!
//! Invariants:
//! - nothing is answered before its frame is durable, and no tree is signed before it;
//! - a failed or unclear append ends the writer: what is true then is what recovery reads;
//! - verification re-hashes every byte below `journal/` and writes nothing.
//!
//! A raw record cannot be appended, only one that was sealed:
//!
//! ```compile_fail,E0308
//! fn append(writer: &ledger::sequencer::Submitter<()>, minimal: record::minimal::Minimal) {
//!     let item = ledger::ledger::Item {
//!         sealed: minimal,
//!         kind: "EMAIL_SENT".into(),
//!         class: "communication",
//!         generation: 0,
//!         companion: (),
//!     };
//!     let _ = writer.submit(ledger::sequencer::Batch { items: vec![item], needs: 0 });
//! }
//! ```
//!
//! ```
//! fn append(writer: &ledger::sequencer::Submitter<()>, sealed: seal::sealed::Sealed) {
//!     let item = ledger::ledger::Item {
//!         sealed,
//!         kind: "EMAIL_SENT".into(),
//!         class: "communication",
//!         generation: 0,
//!         companion: (),
//!     };
//!     let _ = writer.submit(ledger::sequencer::Batch { items: vec![item], needs: 0 });
//! }
//! ```
#![forbid(unsafe_code)]

pub mod background;
pub mod clock;
mod counts;
pub mod directory;
pub mod disk;
mod ending;
pub mod entries;
pub mod error;
pub mod frame;
mod frame_builder;
pub mod guard;
pub mod home;
pub mod index;
mod index_file;
pub mod journal;
pub mod ledger;
pub mod mirror;
pub mod objects;
pub mod reader;
pub mod segment;
pub mod sequencer;
pub mod tree_store;
pub mod verify;
mod wire;
