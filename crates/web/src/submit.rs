//! How records leave: handed in by who owns the intake.

use proof::hash::Hash;

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

/// Takes records in. Calls block until all is durable: they are made from threads that may wait.
pub trait Submit: Send + Sync {
    /// Lines of one source with their numbers; each is answered.
    ///
    /// # Errors
    /// Nothing of them was taken.
    fn submit(&self, source: &str, lines: &[(u64, &[u8])]) -> Result<Vec<(u64, Answer)>, Unavailable>;

    /// Records of Candor's own about keys: kind and facts.
    ///
    /// # Errors
    /// They are not durable.
    fn own(&self, kind: &'static str, facts: serde_json::Value) -> Result<u64, String>;

    /// Records what was refused.
    ///
    /// # Errors
    /// It is not durable.
    fn refused(&self, counts: Vec<RefusalCount>) -> Result<(), String>;
}
