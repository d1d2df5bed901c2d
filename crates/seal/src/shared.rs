//! The key store as many threads use it.
//!
//! Keys are taken under a short lock. One thread at a time makes what all have taken durable, outside that lock: a group
//! commit. Who writes to the journal asks [`SharedStore::ensure`] first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Error;
use crate::pages::Log;
use crate::store::KeyStore;

/// A moment in the store's life: everything before it, once durable, can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub u64);

/// The store as many threads use it: keys are taken under a short lock, and one thread at a time makes what all have
/// taken durable, outside that lock.
pub struct SharedStore {
    store: Mutex<KeyStore>,
    durable: Arc<AtomicU64>,
    writing: Mutex<()>,
    log: Log,
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedStore")
    }
}

impl SharedStore {
    /// Shares a store.
    pub fn new(store: KeyStore) -> SharedStore {
        SharedStore { durable: store.durable(), log: store.log(), store: Mutex::new(store), writing: Mutex::new(()) }
    }

    /// The store, for short work in memory.
    ///
    /// # Errors
    /// Another thread panicked while it held the store.
    pub fn lock(&self) -> Result<MutexGuard<'_, KeyStore>, Error> {
        self.store.lock().map_err(|_| Error::Stopped)
    }

    /// Copies the store's own write-ahead log to its places where that is due. Takes tens of milliseconds in which
    /// others go on: for a thread that nobody waits for.
    ///
    /// # Errors
    /// The disk refuses; nothing is lost by it, and the log grows until it can be copied.
    pub fn tidy(&self) -> Result<(), Error> {
        self.log.copy()
    }

    /// Makes a whole copy of the keys in the second place, where that is due, and removes what it made needless. May take
    /// minutes, in which others go on: for a thread that nobody waits for.
    ///
    /// # Errors
    /// The place or the disk refuses; nothing is lost by it.
    pub fn copy_elsewhere(&self) -> Result<(), Error> {
        self.log.copy_elsewhere()
    }

    /// Returns when everything up to the ticket is durable, by somebody else's write or by one of its own.
    ///
    /// # Errors
    /// The store cannot be written; nothing sealed under its new keys may be written to the journal.
    pub fn ensure(&self, ticket: Ticket) -> Result<(), Error> {
        while self.durable.load(Ordering::Acquire) < ticket.0 {
            let writing = self.writing.lock().map_err(|_| Error::Stopped)?;
            if self.durable.load(Ordering::Acquire) >= ticket.0 {
                break;
            }
            let batch = self.lock()?.gather()?;
            batch.write()?;
            self.lock()?.settle(&batch);
            drop(writing);
        }
        Ok(())
    }
}
