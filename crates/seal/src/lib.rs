//! Keys: sealing, opening by field, erasing. The only code that touches a subject's key.
//!
//! Owns the key store (a tree of wrapping keys in pages), subjects and their identifiers, tags, sealed records.
//! It decides no order (`ledger`) and no permission (`reads`).
//!
//! Invariants:
//! - secret types have no useful `Debug` and are wiped when dropped;
//! - a key that was destroyed cannot be made again from any file of the store, whatever pages, write-ahead copies or
//!   free pages remain in it;
//! - a period's key ends for every record of it but those that a hold keeps, each by its own keys;
//! - a sealed record opens only to the body that its entry's commitment names.
#![forbid(unsafe_code)]

mod beside;
mod cache;
pub mod crypto;
pub mod elsewhere;
pub mod error;
pub mod holds;
pub mod log_keys;
pub mod master;
mod pages;
pub mod periods;
pub mod random;
pub mod sealed;
pub mod shared;
pub mod store;
mod subjects;
pub mod tag;
