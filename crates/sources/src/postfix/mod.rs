//! Postfix by its log: [`frame`] takes off what syslog, journald or Postfix's own logger put around a line, [`line`]
//! takes the text apart, [`correlate`] puts the lines of a message together and tells what became of it.
//!
//! The grammar is that of Postfix 3.0 to 3.12 as its sources and release notes have it.

pub mod correlate;
pub mod event;
pub mod frame;
pub mod line;
mod messages;
mod outcome;
pub mod queue;
mod scan;
pub mod snapshot;
