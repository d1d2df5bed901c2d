//! The error of this crate.

/// Why a view could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("{action} view file: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The index refused.
    #[error("{action} index: {source}")]
    Index {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: tantivy::TantivyError,
    },
    /// The states refused.
    #[error("{action} states: {source}")]
    States {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: rusqlite::Error,
    },
    /// A file does not follow its format; rebuilding mends it.
    #[error("read view file: {0}: run `candor rebuild`")]
    Corrupt(&'static str),
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] ledger::error::Error),
    /// The key store refused.
    #[error(transparent)]
    Seal(#[from] seal::error::Error),
    /// The states did not follow in time.
    #[error("read states: they are behind the trail: ask again")]
    Behind,
    /// The thread that writes the views has ended.
    #[error("write views: the view writer stopped after an earlier failure: restart")]
    Stopped,
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mend the disk and start again.
    Retry,
    /// Rebuild the view.
    Corrupt,
}

impl Error {
    /// Sorts the error by what the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Corrupt(_) => Kind::Corrupt,
            _ => Kind::Retry,
        }
    }
}

pub(crate) fn io(action: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { action, source }
}

pub(crate) fn index(action: &'static str) -> impl Fn(tantivy::TantivyError) -> Error {
    move |source| Error::Index { action, source }
}

pub(crate) fn states(action: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::States { action, source }
}
