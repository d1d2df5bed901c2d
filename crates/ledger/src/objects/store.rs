//! What the journal needs of a store: few calls, so that a simulated one can take its place and fail at every turn.

use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::bucket::{Bucket, Locking, NotMade, Version};

/// A store of objects that are made once.
pub trait Store: Send + Sync {
    /// Makes an object where there is none; gives the id of its version where the store keeps versions.
    ///
    /// # Errors
    /// Something stands there, or it is not known whether it was made.
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Option<String>, NotMade>;

    /// The same, locked in compliance mode until a time (RFC 3339).
    ///
    /// # Errors
    /// As [`Store::create`].
    fn create_locked(&self, name: &str, bytes: &Bytes, until: &str) -> Result<(), NotMade>;

    /// Bytes of an object, or of a part of it; none where there is no such object.
    ///
    /// # Errors
    /// The store does not answer.
    fn get(&self, name: &str, version: Option<&str>, range: Option<Range<u64>>) -> io::Result<Option<Bytes>>;

    /// All versions and delete markers of the objects whose names begin so; of each object the newest first.
    ///
    /// # Errors
    /// The store does not answer.
    fn versions(&self, begin: &str) -> io::Result<Vec<Version>>;

    /// Removes an object that nothing locks: what a probe left.
    ///
    /// # Errors
    /// The store refuses.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// How it locks what is made.
    ///
    /// # Errors
    /// The store does not answer.
    fn locking(&self) -> io::Result<Locking>;

    /// Lets time go by before the next try.
    fn pause(&self, time: Duration) {
        std::thread::park_timeout(time);
    }
}

impl Store for Bucket {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Option<String>, NotMade> {
        Bucket::create(self, name, bytes)
    }

    fn create_locked(&self, name: &str, bytes: &Bytes, until: &str) -> Result<(), NotMade> {
        Bucket::create_locked(self, name, bytes, until)
    }

    fn get(&self, name: &str, version: Option<&str>, range: Option<Range<u64>>) -> io::Result<Option<Bytes>> {
        Bucket::get(self, name, version, range)
    }

    fn versions(&self, begin: &str) -> io::Result<Vec<Version>> {
        Bucket::versions(self, begin)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        Bucket::delete(self, name)
    }

    fn locking(&self) -> io::Result<Locking> {
        Bucket::locking(self)
    }
}
