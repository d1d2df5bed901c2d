//! The error of this crate.

use access::policy::{Action, Explanation};
use access::role::Role;

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The access could not be recorded.
    #[error("record access: {0}: nothing was read")]
    NotRecorded(String),
    /// The rule that refused.
    #[error("read: {0}")]
    Refused(&'static str),
    /// The policies refused.
    #[error("{}: {}", .0.words(), sentence(.1))]
    Denied(Action, Box<Explanation>),
    /// There was no such thing, or not yet.
    #[error("read: there is nothing of this id in the register, or was not at that time")]
    NoSuchThing,
    /// The views refused.
    #[error(transparent)]
    Views(#[from] views::error::Error),
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] ledger::error::Error),
    /// The key store refused.
    #[error(transparent)]
    Seal(#[from] seal::error::Error),
    /// Another thread failed while it held something this read needs.
    #[error("read: another thread failed: restart")]
    Poisoned,
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Try again later.
    Retry,
    /// Ask for a grant.
    Denied,
}

impl Error {
    /// Whether a view has not followed yet.
    pub fn is_behind(&self) -> bool {
        matches!(self, Error::Views(views::error::Error::Behind))
    }

    /// Whether what was asked for is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::NoSuchThing | Error::Ledger(ledger::error::Error::NoSuchEntry { .. }))
    }

    /// Sorts the error by what the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Refused(_) | Error::Denied(..) => Kind::Denied,
            _ => Kind::Retry,
        }
    }
}

/// Why it was refused, what to do instead, and who may do it.
pub fn sentence(why: &Explanation) -> String {
    let mut text = match why.rules.as_slice() {
        [] => "no rule lets this role do it".to_owned(),
        rules => rules.iter().map(|(rule, says)| format!("{says} ({rule})")).collect::<Vec<_>>().join("; "),
    };
    if !why.instead.is_empty() {
        text.push_str(&format!(": {}", why.instead.join(", or ")));
    }
    if !why.roles.is_empty() {
        text.push_str(&format!("; these roles may: {}", Role::list(&why.roles)));
    }
    text
}
