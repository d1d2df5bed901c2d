//! The only way out: every read is decided, then recorded, then opened.
//!
//! Owns queries, histories and what is shown of an entry. It decides by one rule for now: an offline command runs as
//! the operator of the machine, for the purpose it names. Roles and policies are to come in `access`; the seam is
//! [`decide`].
//!
//! Invariants:
//! - a [`decide::Granted`] can be made only here, and only after its ACCESS entry and a SUBJECT_SEEN entry for each
//!   person shown are durable: if they cannot be recorded, nothing is read;
//! - every line shown was read from the ledger, hashed to its leaf, and opened to its commitments.
//!
//! Nobody outside can make a grant, so what takes one cannot be given something that was not recorded:
//!
//! ```compile_fail,E0451
//! let forged = reads::decide::Granted { value: "a name", access: 0 };
//! ```
//!
//! ```
//! fn render(granted: &reads::decide::Granted<&str>) -> String {
//!     format!("{} (access entry {})", granted.get(), granted.access())
//! }
//! ```
#![forbid(unsafe_code)]

pub mod alerts;
pub mod cases;
pub mod completeness;
pub mod decide;
pub mod error;
pub mod guard;
pub mod history_proof;
pub mod mirrors;
pub mod own;
pub mod proofs;
pub mod quarantine;
pub mod registers;
pub mod review;
pub mod shown;
pub mod sources;
pub mod sums;
