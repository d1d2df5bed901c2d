//! How records leave: handed in by who owns the intake.

use bytes::Bytes;
use proof::hash::Hash;
use reads::decide::Purpose;
use serde_json::Value;

/// What became of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is durable and can be found.
    Committed {
        /// Its position.
        index: u64,
        /// Its leaf hash.
        leaf: Hash,
    },
    /// It was there already.
    Repeated {
        /// Position of the first.
        index: u64,
    },
    /// Its id was used for something else.
    Conflict {
        /// Position of the first.
        index: u64,
    },
    /// It was refused.
    Refused {
        /// Stable code.
        code: &'static str,
        /// One sentence, with nothing of the record in it.
        detail: String,
        /// Its kind, where that was known.
        kind: Option<String>,
        /// The rule of the detector, where one fired.
        rule: Option<&'static str>,
    },
}

/// Why nothing of a request was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// The disk is full, the clock is off, the writer stopped: one sentence.
    Now(String),
    /// There is no such source.
    NoSource,
}

/// Why nothing was taken in again.
#[derive(Debug)]
pub enum NotReplayed {
    /// The entry could not be read.
    NotRead(reads::error::Error),
    /// The entry is no refused input, or what was sent is not there any more: one sentence.
    NotKept(&'static str),
    /// As for what is sent.
    Unavailable(Unavailable),
}

/// What of refusals is recorded: what was counted of one source in one minute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusalCount {
    /// Name of the source, or of who was turned away.
    pub source: String,
    /// Stable code.
    pub code: &'static str,
    /// Kind, where it was known.
    pub kind: Option<String>,
    /// Rule of the detector.
    pub rule: Option<&'static str>,
    /// How often.
    pub count: u64,
}

/// What became of a request's lines, each with its number; an error if nothing of them was taken for sure.
pub type Answers = Result<Vec<(u64, Answer)>, Unavailable>;

/// Told once, from any thread.
pub type Done = Box<dyn FnOnce(Answers) + Send>;

/// Takes records in.
pub trait Submit: Send + Sync {
    /// Hands over lines of one source with their numbers, in ascending order; `done` is told when all are durable. It
    /// does not wait: how much may be under way is for the caller to bound.
    fn submit(&self, source: &str, lines: Vec<(u64, Bytes)>, done: Done);

    /// A record of Candor's own: kind and facts. Waits until they are durable, as [`Submit::refused`] does.
    ///
    /// # Errors
    /// They are not durable.
    fn own(&self, kind: &'static str, facts: Value) -> Result<u64, String> {
        self.own_about(kind, facts, None)
    }

    /// The same of a record that is about a person.
    ///
    /// # Errors
    /// It is not durable.
    fn own_about(&self, kind: &'static str, facts: Value, subject: Option<u64>) -> Result<u64, String> {
        let entries = self.own_all(vec![(kind, facts, subject)])?;
        entries.first().copied().ok_or_else(|| "the record has no index".to_owned())
    }

    /// The same of several, in one step: all are durable or none is.
    ///
    /// # Errors
    /// They are not durable.
    fn own_all(&self, records: Vec<(&'static str, Value, Option<u64>)>) -> Result<Vec<u64>, String>;

    /// Takes in again what is kept in the quarantine, as if its source sent it now; what became of it. Waits until it is
    /// durable.
    ///
    /// # Errors
    /// It is not there, or was not taken for sure.
    fn replay(&self, entry: u64, purpose: &Purpose) -> Result<Value, NotReplayed>;

    /// Records what was refused.
    ///
    /// # Errors
    /// It is not durable.
    fn refused(&self, counts: Vec<RefusalCount>) -> Result<(), String>;
}
