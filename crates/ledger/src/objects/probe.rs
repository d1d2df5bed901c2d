//! Whether a store keeps what the journal rests on, tried in the real bucket: an object is made once, however many try.

use std::sync::Barrier;

use bytes::Bytes;
use proof::time::UnixMillis;

use super::Objects;
use super::bucket::{Locking, NotMade};
use crate::error::{Error, io as at};

/// Writers that race for one name.
const RACERS: usize = 16;
/// A probe in a bucket that locks is locked for so long.
const LOCKED_MS: u64 = 86_400_000;

impl Objects {
    /// Races sixteen writers for one name, and tries once more after them. `nonce` is random.
    ///
    /// # Errors
    /// The store does not answer, or it let two of them make the same object.
    pub fn probe(&self, nonce: u64, now: UnixMillis) -> Result<Locking, Error> {
        let store = self.store();
        let unread = |error| at("try", "the object store")(error);
        let locking = store.locking().map_err(unread)?;
        let name = format!("probe/{nonce:016x}");
        let until = UnixMillis(now.0 + LOCKED_MS).rfc3339();
        let make = |racer: usize| {
            let bytes = Bytes::from(format!("{nonce:016x} {racer:02}\n"));
            match locking {
                Locking::None => store.create(&name, &bytes).map(drop),
                _ => store.create_locked(&name, &bytes, &until),
            }
        };
        let gate = Barrier::new(RACERS);
        let ends: Vec<Result<(), NotMade>> = std::thread::scope(|scope| {
            let (gate, make) = (&gate, &make);
            let running: Vec<_> = (0..RACERS)
                .map(|racer| {
                    scope.spawn(move || {
                        gate.wait();
                        make(racer)
                    })
                })
                .collect();
            running.into_iter().filter_map(|one| one.join().ok()).collect()
        });
        let refused = |why: &str| {
            Err(Error::Unfit { why: format!("{why}: the journal needs a store that keeps `If-None-Match: *`") })
        };
        let made: Vec<usize> = ends.iter().enumerate().filter(|(_, end)| end.is_ok()).map(|(racer, _)| racer).collect();
        if made.len() > 1 {
            return refused(&format!("{} of {RACERS} writers were told that they made one object", made.len()));
        }
        if made.is_empty()
            && let Some(NotMade::Unclear(error)) =
                ends.into_iter().find_map(|end| end.err().filter(|why| matches!(why, NotMade::Unclear(_))))
        {
            // Such as a right that is missing: s3:PutObject, or s3:PutObjectRetention of a bucket that locks.
            return Err(unread(error));
        }
        let held = store.get(&name, None, None).map_err(unread)?;
        let Some(held) = held else { return refused("an object that was made cannot be read") };
        if let Some(racer) = made.first()
            && !held.ends_with(format!(" {racer:02}\n").as_bytes())
        {
            return refused("another writer's bytes stand where one was told that it made the object");
        }
        match make(RACERS) {
            Err(NotMade::Taken) => {}
            Err(NotMade::Unclear(error)) => return Err(unread(error)),
            Ok(()) => return refused("an object that was there was made again"),
        }
        if store.get(&name, None, None).map_err(unread)? != Some(held) {
            return refused("an object changed after it was made");
        }
        if locking == Locking::None {
            // Nothing hangs on it: what stays is forty bytes.
            let _ = store.delete(&name);
        }
        Ok(locking)
    }
}
