//! Candor's vocabulary: which records there are, and what of a record may be kept.
//!
//! Owns kinds (versioned JSON Schemas with annotations), classes, validation, minimising and the detection of
//! secrets and identifiers. It encrypts nothing (`seal`), orders nothing (`ledger`), reads no file but a folder of
//! kinds that it is given.
//!
//! Invariants:
//! - a [`minimal::Minimal`] holds no forbidden content and only fields that its kind's schema numbers;
//! - no refusal repeats a value, nor a name that may be one;
//! - parsing borrows: memory is bounded by the line, whose length is bounded.
#![forbid(unsafe_code)]

pub mod by_hand;
pub mod calendar;
pub mod class;
pub mod detect;
pub mod error;
pub mod identifier;
pub mod json;
pub mod kinds;
pub mod minimal;
pub mod schema;
pub mod standards;
pub mod things;
mod walk;
