//! A client of Candor: what was handed over is recorded, once, whatever dies meanwhile.
//!
//! [`Client::record`] returns when a record is on this machine's disk, sealed. It is then sent until the server has it,
//! over restarts of both, under an id that never changes. Where too much waits, the caller is told.

pub mod client;
pub mod error;
pub mod spool;
