//! The error of this crate.

/// Why a record was not taken, or a spool not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spool holds as much as it may. Nothing was taken: slow down, or hand over later.
    #[error("the spool may hold {limit} bytes: slow down, or raise its limit")]
    Full {
        /// Its limit.
        limit: u64,
    },
    /// A record, a stream or an address is not in its form.
    #[error("{0}")]
    Invalid(String),
    /// Another process has the spool.
    #[error("{0}: another process has this spool")]
    Locked(String),
    /// The spool is of another version, of another stream, under another key, or damaged.
    #[error("{path}: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// What does not fit.
        why: &'static str,
    },
    /// The disk refuses.
    #[error("{operation} the spool: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The random generator of the system failed, or another thread did.
    #[error("the client has stopped: open it again")]
    Stopped,
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Hand over later.
    Retry,
    /// Mend the record or the configuration.
    Invalid,
    /// Look at the disk.
    Corrupt,
}

impl Error {
    /// Sorts the error by what the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Full { .. } | Error::Locked(_) | Error::Io { .. } | Error::Stopped => Kind::Retry,
            Error::Invalid(_) => Kind::Invalid,
            Error::Damaged { .. } => Kind::Corrupt,
        }
    }
}

pub(crate) fn io(operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { operation, source }
}
