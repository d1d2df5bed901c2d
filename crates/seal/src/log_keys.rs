//! The log's signing keys while one follows another (`docs/formats/keystore.md`).
//!
//! A new key is in the store before the entry that names it, and signs from a segment on whose header says how it follows;
//! the old one signs beside it until a day, and is destroyed then. A stop between any two steps is made good by the next
//! start, which reads in the trail how far it came.

use crate::crypto::Key;
use crate::error::Error;
use crate::store::{KeyStore, MetaReader, Named};

/// How far a change of the key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogKeyState {
    /// One key signs.
    #[default]
    One = 0,
    /// Another is made; nothing is signed by it yet.
    Asked = 1,
    /// Both sign.
    Both = 2,
}

/// See the module.
#[derive(Default)]
pub(crate) struct LogKeys {
    state: LogKeyState,
    /// The first verifier key of the trail, once it has had another.
    first: String,
    /// The new key while it waits, the old one while both sign.
    other: Option<Key>,
    until_ms: u64,
    entry: Option<u64>,
}

/// What signs, and what is known of the change under way.
#[derive(Debug)]
pub struct LogKeyView {
    /// How far it has come.
    pub state: LogKeyState,
    /// The trail's first verifier key, where the key in use is another.
    pub first: Option<String>,
    /// Seeds, the newest last; while it is asked for, the new one is among them.
    pub seeds: Vec<Key>,
    /// Until when both sign, in ms since 1970.
    pub until_ms: u64,
    /// The entry that names the new key, once it is known.
    pub entry: Option<u64>,
}

fn bad(why: &'static str) -> Error {
    Error::Corrupt { what: "key store", why }
}

impl LogKeys {
    pub(crate) fn is_unrecorded(&self) -> bool {
        self.state == LogKeyState::Asked && self.entry.is_none()
    }

    pub(crate) fn read(reader: &mut MetaReader<'_>) -> Result<LogKeys, Error> {
        let state = match reader.number(1)? {
            0 => LogKeyState::One,
            1 => LogKeyState::Asked,
            2 => LogKeyState::Both,
            _ => return Err(bad("a state of the log's keys that this program does not know")),
        };
        let length = reader.number(2)? as usize;
        let first = String::from_utf8(reader.take(length)?.to_vec()).map_err(|_| bad("a key that is not text"))?;
        let until_ms = reader.number(8)?;
        let entry = reader.number(8)?;
        let mut other = [0; 32];
        other.copy_from_slice(reader.take(32)?);
        let other = (state != LogKeyState::One).then_some(Key(other));
        Ok(LogKeys { state, first, other, until_ms, entry: entry.checked_sub(1) })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.state as u8);
        out.extend_from_slice(&(self.first.len() as u16).to_be_bytes());
        out.extend_from_slice(self.first.as_bytes());
        out.extend_from_slice(&self.until_ms.to_be_bytes());
        out.extend_from_slice(&self.entry.map_or(0, |entry| entry + 1).to_be_bytes());
        out.extend_from_slice(self.other.as_ref().map_or(&[0; 32], |key| &key.0));
    }
}

impl KeyStore {
    /// What signs.
    pub fn log_keys(&self) -> LogKeyView {
        let keys = &self.log_keys;
        let current = self.named(Named::LogSigning);
        let seeds = match (keys.state, &keys.other) {
            (LogKeyState::Asked, Some(new)) => vec![current, new.clone()],
            (LogKeyState::Both, Some(old)) => vec![old.clone(), current],
            _ => vec![current],
        };
        let first = Some(keys.first.clone()).filter(|first| !first.is_empty());
        LogKeyView { state: keys.state, first, seeds, until_ms: keys.until_ms, entry: keys.entry }
    }

    /// Makes a new log key, which signs nothing yet; durable when it returns. `first` is the trail's first verifier key.
    ///
    /// # Errors
    /// A change is under way, or the store cannot be written.
    pub fn ask_log_key(&mut self, first: &str, until_ms: u64) -> Result<Key, Error> {
        if self.log_keys.state != LogKeyState::One {
            return Err(bad("a change of the log key is under way"));
        }
        let key = Key(self.random.take());
        let first = if self.log_keys.first.is_empty() { first.to_owned() } else { self.log_keys.first.clone() };
        self.log_keys = LogKeys { state: LogKeyState::Asked, first, other: Some(key.clone()), until_ms, entry: None };
        self.generation += 1;
        self.pages.touch_meta();
        self.commit()?;
        Ok(key)
    }

    /// The entry that names the new key; durable when it returns.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn note_log_key(&mut self, entry: u64) -> Result<(), Error> {
        self.log_keys.entry = Some(entry);
        self.pages.touch_meta();
        self.commit()
    }

    /// The new key signs, the old one beside it; durable when it returns. Doing it again does nothing.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn take_log_key(&mut self) -> Result<(), Error> {
        if self.log_keys.state != LogKeyState::Asked {
            return Ok(());
        }
        if let Some(other) = &mut self.log_keys.other {
            std::mem::swap(other, &mut self.named[Named::LogSigning as usize]);
        }
        self.log_keys.state = LogKeyState::Both;
        self.pages.touch_meta();
        self.commit()
    }

    /// The new key is not taken; durable when it returns.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn drop_log_key(&mut self) -> Result<(), Error> {
        if self.log_keys.state != LogKeyState::Asked {
            return Ok(());
        }
        // `first` says what it said: before a first change it is the key in use.
        (self.log_keys.state, self.log_keys.other) = (LogKeyState::One, None);
        self.pages.doom_meta();
        self.commit()
    }

    /// Destroys the old key of the log; durable when it returns. Doing it again does nothing.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn end_old_log_key(&mut self) -> Result<(), Error> {
        if self.log_keys.state != LogKeyState::Both {
            return Ok(());
        }
        (self.log_keys.state, self.log_keys.other) = (LogKeyState::One, None);
        self.pages.doom_meta();
        self.commit()
    }
}
