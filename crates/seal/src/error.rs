//! The error of this crate.

/// Why a key operation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of the store could not be read or written.
    #[error("{action} {what}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file's role (never a path with content in it).
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The database below the store failed.
    #[error("{action} key store: {source}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The master key does not open this key store.
    #[error("open key store: the master key does not open it: give the key that `candor init` made for this trail")]
    WrongMasterKey,
    /// The master key's text is not a key.
    #[error("read master key: it must be 64 lower-case hexadecimal digits")]
    BadMasterKey,
    /// Bytes on disk do not follow the format.
    #[error("read {what}: {why}")]
    Corrupt {
        /// The structure.
        what: &'static str,
        /// The rule broken.
        why: &'static str,
    },
    /// A write before this one failed, or another thread while it held the store: the next start reads what is true.
    #[error("use key store: something failed before, and what came of it is read at the next start")]
    Stopped,
    /// Another process writes the keys elsewhere.
    #[error("write keys elsewhere: another writer has taken them over, and this process ends")]
    TakenOver,
    /// The key is gone: the subject was erased or the period has ended.
    #[error("open record: its key was destroyed")]
    KeyDestroyed,
    /// A ciphertext that its key does not open, or a body that its commitment does not name.
    #[error("open record: {why}")]
    NotAuthentic {
        /// What does not fit.
        why: &'static str,
    },
    /// A body could not be written.
    #[error("seal record: {0}")]
    Body(#[from] proof::error::Error),
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Try again, or mend the disk.
    Retry,
    /// The input or the key is not the right one.
    Invalid,
    /// What was asked for no longer exists.
    Missing,
    /// Treat as tampering.
    Corrupt,
}

impl Error {
    /// Sorts the error by what the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } | Error::Database { .. } | Error::Stopped => Kind::Retry,
            Error::WrongMasterKey | Error::BadMasterKey | Error::Body(_) => Kind::Invalid,
            Error::KeyDestroyed => Kind::Missing,
            Error::TakenOver => Kind::Retry,
            Error::Corrupt { .. } | Error::NotAuthentic { .. } => Kind::Corrupt,
        }
    }
}

pub(crate) fn database(action: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::Database { action, source }
}
