//! Where a trail's frames are kept: a folder of segments, or a bucket of objects.

use std::sync::Arc;

use crate::directory::{DirectoryJournal, Scan};
use crate::disk::Disk;
use crate::error::Error;
use crate::journal::Journal;
use crate::objects::{ObjectJournal, Objects};
use crate::segment::Identity;

/// See the module.
#[derive(Clone)]
pub enum Home {
    /// A folder.
    Directory(Arc<dyn Disk>),
    /// A bucket.
    Objects(Arc<Objects>),
}

impl Home {
    /// Whence segments are read.
    pub fn disk(&self) -> Arc<dyn Disk> {
        match self {
            Home::Directory(disk) => Arc::clone(disk),
            Home::Objects(objects) => Arc::clone(objects) as Arc<dyn Disk>,
        }
    }

    /// Whether what a crash left at the end may be taken away: a file may be torn, an object is whole or not there.
    pub(crate) fn is_mended(&self) -> bool {
        matches!(self, Home::Directory(_))
    }

    pub(crate) fn create(&self, identity: &Identity) -> Result<(), Error> {
        match self {
            Home::Directory(disk) => DirectoryJournal::create(Arc::clone(disk), identity).map(drop),
            Home::Objects(objects) => objects.create(identity),
        }
    }

    /// The writer that goes on after a scan of the last segment; `bytes_max` closes the segments of a folder earlier.
    pub(crate) fn writer(&self, scan: &Scan, bytes_max: Option<u64>) -> Box<dyn Journal> {
        match self {
            Home::Directory(disk) => {
                let mut journal = DirectoryJournal::resume(Arc::clone(disk), scan);
                if let Some(bytes) = bytes_max {
                    journal.set_segment_bytes_max(bytes);
                }
                Box::new(journal)
            }
            Home::Objects(objects) => Box::new(ObjectJournal::resume(Arc::clone(objects), scan)),
        }
    }
}
