//! What an old system left: tables, mailboxes. What of them becomes a record; who reads the files is the binary.

pub mod mail;
pub mod mapping;
pub mod mbox;
