//! What outside programs emit: bytes of strangers in, typed observations out.
//!
//! Owns the framing and grammar of log lines. It knows no keys, files, clocks or network, and what it makes of a line
//! is still only a claim: `record` validates and minimises it like any other input.
//!
//! Invariants:
//! - no input panics, and none is refused: what is not understood is [`postfix::line::Line::Other`];
//! - text that a stranger wrote (a server's reply, a header, an address) is cut out by its place and never searched
//!   for fields;
//! - bytes stay bytes: nothing is made into text by guessing.
#![forbid(unsafe_code)]

pub mod import;
pub mod postfix;
