//! Things: what the events about one ticket, order or request come to, in the shape of the requirement documents.
//!
//! A thing has no state of its own. It is the fold over its events in the order of their own times, so it can be had as
//! it stood at any moment, and a step that should not have been possible is shown, never refused: the log is what
//! happened. Nothing here reads a trail; who has opened the events hands them in.

mod fold;
mod law;
mod rules;
mod shapes;
mod state;

pub use fold::{Event, fold};
pub use law::time;
pub use shapes::{SHAPES, Shape, is_history, shape, status_of};
pub use state::{Columns, columns};

#[cfg(test)]
mod tests;
