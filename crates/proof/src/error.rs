//! The one error type of this crate and what a caller must do about it.

/// Why something could not be accepted as proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes do not follow the grammar; `what` names the structure, `why` the first rule broken.
    #[error("parse {what}: {why}")]
    Malformed {
        /// The structure that was being read.
        what: &'static str,
        /// The rule that was broken.
        why: &'static str,
    },
    /// A limit of the format was passed.
    #[error("parse {what}: {got} is over the limit of {limit}")]
    Limit {
        /// The structure or field.
        what: &'static str,
        /// The size found.
        got: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// The bytes are well formed, but the proof does not hold.
    #[error("verify {what}: {why}")]
    Mismatch {
        /// What was being checked.
        what: &'static str,
        /// What does not fit.
        why: &'static str,
    },
    /// No signature by a key that the caller trusts.
    #[error("verify note: no signature by a trusted key")]
    NoTrustedSignature,
    /// Two trusted keys share a name and a key id, so a signature cannot be told apart.
    #[error("verify note: two trusted keys share one name and key id")]
    AmbiguousKey,
}

/// What the caller must do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The input is not what it claims to be; asking again will not help.
    Invalid,
    /// The input is well formed and false: treat as tampering.
    Corrupt,
}

impl Error {
    /// Sorts the error by what the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Malformed { .. } | Error::Limit { .. } | Error::AmbiguousKey => Kind::Invalid,
            Error::Mismatch { .. } | Error::NoTrustedSignature => Kind::Corrupt,
        }
    }
}

/// Shorthand used by the parsers of this crate.
pub(crate) fn malformed<T>(what: &'static str, why: &'static str) -> Result<T, Error> {
    Err(Error::Malformed { what, why })
}

/// Shorthand used by the verifiers of this crate.
pub(crate) fn mismatch<T>(what: &'static str, why: &'static str) -> Result<T, Error> {
    Err(Error::Mismatch { what, why })
}
