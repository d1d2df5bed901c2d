//! The error of this crate and what a caller must do about it.

/// Why the ledger could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("{action} {what}: {cause}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Which file, by its role and number.
        what: String,
        /// The cause; the sentence has it already.
        cause: std::io::Error,
    },
    /// Bytes in the journal are not what they must be. Nothing is mended: `candor verify` says more.
    #[error("read journal: {what}: {why}: run `candor verify` and restore from a copy")]
    Corrupt {
        /// The place: segment, frame, entry.
        what: String,
        /// What does not fit.
        why: String,
    },
    /// The journal ends before what was signed.
    #[error("open journal: {missing} signed entries are missing: restore the journal from its newest copy")]
    RolledBack {
        /// Entries that the high-water mark knows and the journal does not.
        missing: u64,
    },
    /// The high-water mark and the journal name different frames.
    #[error("open journal: frame {frame} is not the one that was signed: the journal was replaced")]
    Forked {
        /// The frame.
        frame: u64,
    },
    /// The key store is older than the journal.
    #[error(
        "open key store: {missing} keys that this trail needs are missing: restore the newest copy of the key store"
    )]
    KeysMissing {
        /// How many keys.
        missing: u64,
    },
    /// Another process has the directory.
    #[error("lock {0}: another candor process uses this directory: stop it or use its API")]
    Locked(String),
    /// A file system that does not keep its promises about syncing and locking.
    #[error("open {0}: network file systems are not supported: put the data directory on a local disk")]
    NetworkFileSystem(String),
    /// The clock went back or jumped.
    #[error("append: the clock is {behind_ms} ms behind the last entry: set the clock, or run `candor clock accept`")]
    ClockBehind {
        /// How far behind, in milliseconds.
        behind_ms: u64,
    },
    /// The clock moved against the time since boot.
    #[error("append: the clock jumped by {jump_ms} ms while running: set the clock, or run `candor clock accept`")]
    ClockJumped {
        /// The jump, in milliseconds.
        jump_ms: u64,
    },
    /// The clock stands far ahead of the last entry at start.
    #[error(
        "open journal: the clock is {days} days ahead of the last entry: if that is true, run `candor clock accept`"
    )]
    ClockAhead {
        /// Days.
        days: u64,
    },
    /// What the records need could not be made durable, so they were not written.
    #[error("append: the keys of the records could not be made durable: {why}")]
    NotReady {
        /// The cause.
        why: String,
    },
    /// Another writer has taken the trail over.
    #[error("append: another writer has made frame {frame}: it has taken this trail over, and this process ends")]
    Fenced {
        /// The frame that both wanted to make.
        frame: u64,
    },
    /// The object store does not keep what the journal rests on.
    #[error("open object store: {why}")]
    Unfit {
        /// What it did.
        why: String,
    },
    /// The writer has stopped after a failure and takes nothing more.
    #[error("append: the writer stopped after an earlier failure: restart")]
    Stopped,
    /// There is no such entry.
    #[error("read entry {index}: the trail has {size} entries")]
    NoSuchEntry {
        /// What was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// A format newer than this program.
    #[error("read {what}: version {version} is newer than this program: update candor")]
    NewerVersion {
        /// The structure.
        what: &'static str,
        /// The version found.
        version: u16,
    },
    /// A proof structure refused.
    #[error(transparent)]
    Proof(#[from] proof::error::Error),
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mend the disk or the clock and start again.
    Retry,
    /// Ask for something else.
    Missing,
    /// Another process or setting stands in the way.
    Denied,
    /// Treat as tampering or loss.
    Corrupt,
}

impl Error {
    /// Sorts the error by what the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. }
            | Error::ClockBehind { .. }
            | Error::ClockJumped { .. }
            | Error::ClockAhead { .. }
            | Error::NotReady { .. }
            | Error::Stopped => Kind::Retry,
            Error::NoSuchEntry { .. } => Kind::Missing,
            Error::Locked(_)
            | Error::NetworkFileSystem(_)
            | Error::NewerVersion { .. }
            | Error::Fenced { .. }
            | Error::Unfit { .. } => Kind::Denied,
            Error::Corrupt { .. }
            | Error::RolledBack { .. }
            | Error::Forked { .. }
            | Error::KeysMissing { .. }
            | Error::Proof(_) => Kind::Corrupt,
        }
    }
}

pub(crate) fn io(action: &'static str, what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |cause| Error::Io { action, what, cause }
}
