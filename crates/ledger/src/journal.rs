//! What the sequencer needs of a journal: a place in order that is durable, or an error.

use crate::error::Error;
use crate::segment::{Identity, Position};

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Segment number.
    pub segment: u32,
    /// Offset in the segment.
    pub offset: u64,
    /// Bytes of the frame.
    pub length: u64,
}

/// A sequence of frames. The directory journal is one; the object store is to be another.
pub trait Journal: Send {
    /// Makes the frame that follows `position` durable.
    ///
    /// # Errors
    /// The frame may or may not be there afterwards: the writer MUST stop and re-enter through recovery.
    fn append(&mut self, position: &Position, frame: &[u8]) -> Result<Location, Error>;

    /// Begins the next segment, so that the one written to so far changes no more; gives its number, or none where the
    /// open one has no frame yet or nothing is ever replaced.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn next_segment(&mut self, position: &Position) -> Result<Option<u32>, Error> {
        let _ = position;
        Ok(None)
    }

    /// Whether a segment may begin at this position: else frames without entries are written until it may.
    fn may_change_key(&self, position: &Position) -> bool;

    /// Begins a segment whose header has another key change; gives its number where it is begun before its first frame.
    ///
    /// # Errors
    /// As [`Journal::append`].
    fn change_key(&mut self, position: &Position, identity: Identity) -> Result<Option<u32>, Error>;
}
