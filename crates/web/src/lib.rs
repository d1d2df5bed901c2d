//! Candor over HTTP: the API, the published proof plane, the pages.
//!
//! Owns what a request may look like, who may send it, and how an answer reads. It decides nothing about records (they
//! leave through [`submit::Submit`]) and opens nothing (every read goes through `reads`).
//!
//! Invariants:
//! - nothing that a request holds is repeated in an answer or a log but its id: an error names the field and the limit;
//! - bodies, queues, waits and connections are bounded; who comes over a bound is told when to come again;
//! - what was taken is answered, also when the server is told to stop.
#![forbid(unsafe_code)]

mod alerts;
pub mod app;
mod auth;
mod body;
mod cases;
mod changes;
mod completeness;
mod cursor;
mod grants;
mod keys;
mod lock;
pub mod metrics;
pub mod mirrors;
pub mod openapi;
mod page;
mod params;
pub mod people;
mod problem;
mod quarantine;
mod records;
mod refusals;
mod registers;
mod search;
pub mod server;
pub mod settings;
pub mod submit;
mod trail;
