//! How much may wait between the writer and the thread that keeps the views.

use std::sync::{Condvar, Mutex};

use crate::error::Error;

/// Documents waiting for the thread, at most: about 1 KiB each. While it writes a partition, single records must not
/// have to wait, however many commits they make.
const WAITING_MAX: usize = 24 << 10;

/// How many documents wait for the thread.
pub(crate) struct Room {
    /// The count; `None` once the thread has ended.
    waiting: Mutex<Option<usize>>,
    freed: Condvar,
}

impl Room {
    pub(crate) fn new() -> Room {
        Room { waiting: Mutex::new(Some(0)), freed: Condvar::new() }
    }

    /// Waits for room. A commit that is larger than all of it waits until nothing else does.
    pub(crate) fn take(&self, count: usize) -> Result<(), Error> {
        let full = |waiting: &mut Option<usize>| waiting.is_some_and(|held| held > 0 && held + count > WAITING_MAX);
        let held = self.waiting.lock().map_err(|_| Error::Stopped)?;
        let mut held = self.freed.wait_while(held, full).map_err(|_| Error::Stopped)?;
        *held.as_mut().ok_or(Error::Stopped)? += count;
        Ok(())
    }

    pub(crate) fn give(&self, count: usize) {
        if let Ok(mut held) = self.waiting.lock() {
            *held = held.map(|held| held - count);
        }
        self.freed.notify_all();
    }

    pub(crate) fn close(&self) {
        if let Ok(mut held) = self.waiting.lock() {
            *held = None;
        }
        self.freed.notify_all();
    }
}
