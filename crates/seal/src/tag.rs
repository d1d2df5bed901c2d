//! The open tag of the n-th entry of one subject.

use proof::entry::Who;

use crate::crypto::{Key, KeyedHash};

/// Makes the tags of one subject. It holds the link key's schedule and nothing else of the subject.
#[derive(Debug, Clone)]
pub struct Tagger {
    subject: u64,
    link: KeyedHash,
}

impl Tagger {
    /// A tagger for one subject's link key.
    pub fn new(subject: u64, link: &Key) -> Tagger {
        Tagger { subject, link: KeyedHash::new(&link.0) }
    }

    /// The subject's number, for caches in memory. It is never written to the proof plane.
    pub fn subject(&self) -> u64 {
        self.subject
    }

    /// The tag of the subject's n-th entry, n from 1.
    pub fn who(&self, n: u64) -> Who {
        Who(self.link.short(&[b"candor/v1/who\n", &n.to_be_bytes()]))
    }
}
