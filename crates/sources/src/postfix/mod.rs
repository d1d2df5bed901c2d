//! Postfix by its log: [`frame`] takes off what syslog, journald or Postfix's own logger put around a line, [`line`]
//! takes the text apart.
//!
//! The grammar is that of Postfix 3.0 to 3.12 as its sources and release notes have it.

pub mod frame;
pub mod line;
mod scan;
