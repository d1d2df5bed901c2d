//! Everything that can be made again from the trail and the key store.
//!
//! Owns the full-text index, the registers (which entries belong to a message, a correlation, a template) and the
//! owners (which subject an entry is about). A view says *where*; what is shown is read from the ledger and checked
//! by `reads`.
//!
//! Invariants:
//! - every file is encrypted in blocks, its meta data included, and none is whole in clear in memory;
//! - each view has a cursor; deleting the folder loses nothing that `candor rebuild` does not bring back;
//! - after a period has ended no file of a view has its words;
//! - after `forget` no file of a view names the person or connects entries to them.
#![forbid(unsafe_code)]

mod bytes;
pub mod cycles;
pub mod error;
pub mod expire;
pub mod file;
mod folder;
mod follow;
pub mod index;
pub mod inspect;
pub mod notes;
pub mod open;
mod open_rows;
mod owners;
pub mod registers;
mod room;
pub mod row;
mod states;
mod tail;
pub mod views;
pub mod watch;
pub mod words;
