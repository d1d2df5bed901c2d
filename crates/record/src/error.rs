//! Why a record or a kind was refused: one sentence, no value in it.

/// The place in a record: a JSON Pointer of names that are safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(pub String);

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "the record" } else { &self.0 })
    }
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The line is over the limit.
    #[error("the record is {got} bytes, the limit is {limit}: split it or leave content out")]
    TooLarge {
        /// Bytes found.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not UTF-8, at this byte.
    #[error("byte {at} is not UTF-8: send the record as UTF-8")]
    NotUtf8 {
        /// Offset in the line.
        at: usize,
    },
    /// Not JSON, at this byte.
    #[error("byte {at} is not valid JSON: {why}")]
    NotJson {
        /// Offset in the line.
        at: usize,
        /// The rule broken.
        why: &'static str,
    },
    /// A value has the wrong type.
    #[error("{path} must be {expected}")]
    WrongType {
        /// Where.
        path: Path,
        /// The type or types allowed.
        expected: String,
    },
    /// A value is outside its limits.
    #[error("{path} {rule}")]
    OutOfBounds {
        /// Where.
        path: Path,
        /// The limit, in words, with what to do.
        rule: String,
    },
    /// A mandatory field is missing.
    #[error("{path} is missing: it is mandatory for this kind")]
    Missing {
        /// Where.
        path: Path,
    },
    /// The same name twice in one object.
    #[error("{path} stands twice: each field may be given once")]
    Duplicate {
        /// Where.
        path: Path,
    },
    /// A field that the kind does not have. Its name is shown only if it cannot be a secret.
    #[error("{shown} is not a field of this kind{}", near(.nearest))]
    UnknownField {
        /// The path, or "a field of N bytes".
        shown: String,
        /// The nearest field that exists.
        nearest: Option<String>,
    },
    /// No kind of this name, or not for this sender.
    #[error("{shown} is not a kind that this trail knows{}", near(.nearest))]
    UnknownKind {
        /// The name, or "a kind name of N bytes".
        shown: String,
        /// The nearest kind that exists.
        nearest: Option<String>,
    },
    /// A kind that only Candor itself or a signed-in person may record.
    #[error("/event_type {kind} may not be sent by a source: its authority is {authority}")]
    NotForSources {
        /// The kind.
        kind: String,
        /// Who may.
        authority: &'static str,
    },
    /// A field that Candor sets.
    #[error("{path} is set by Candor: leave it out")]
    SetByCandor {
        /// Where.
        path: Path,
    },
    /// The whole value is forbidden content.
    #[error("{path} is forbidden content (rule {rule}): send the record without it")]
    Forbidden {
        /// Where.
        path: Path,
        /// The rule of the detector.
        rule: &'static str,
    },
}

fn near(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" (nearest: {name})")).unwrap_or_default()
}

impl Refusal {
    /// The rule of the detector that fired, where one did.
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            Refusal::Forbidden { rule, .. } => Some(rule),
            _ => None,
        }
    }

    /// A short stable code for counting refusals; it has no content in it.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::TooLarge { .. } => "too_large",
            Refusal::NotUtf8 { .. } => "not_utf8",
            Refusal::NotJson { .. } => "not_json",
            Refusal::WrongType { .. } => "wrong_type",
            Refusal::OutOfBounds { .. } => "out_of_bounds",
            Refusal::Missing { .. } => "missing",
            Refusal::Duplicate { .. } => "duplicate",
            Refusal::UnknownField { .. } => "unknown_field",
            Refusal::UnknownKind { .. } => "unknown_kind",
            Refusal::NotForSources { .. } => "not_for_sources",
            Refusal::SetByCandor { .. } => "set_by_candor",
            Refusal::Forbidden { .. } => "forbidden",
        }
    }
}

/// Why a kind's schema was refused at start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read kind {kind}: {at}: {why}")]
pub struct SchemaError {
    /// The kind or file.
    pub kind: String,
    /// JSON Pointer into the schema.
    pub at: String,
    /// What is wrong.
    pub why: String,
}
