//! A second copy of a journal, taken from a server byte by byte and believed in nothing: each frame is rebuilt, hashed,
//! held against the frame before and the signature that it carries, before it is written. It has no keys.

use std::sync::Arc;

use proof::hash::Hash;
use proof::note::VerifierKey;

use crate::directory::{Scan, cut_tail, read_header, remove_unborn, scan};
use crate::disk::Disk;
use crate::error::{Error, io};
use crate::frame::{Broken, FRAME_BYTES_MAX};
use crate::segment::{HEADER_BYTES_MAX, Identity, Position, SegmentHeader, file_name};
use crate::verify::{FrameCheck, changes_here, check_frame};

/// See the module.
pub struct Mirror {
    disk: Arc<dyn Disk>,
    identity: Identity,
    keys: Vec<VerifierKey>,
    /// The segment that is being copied, once its header is there.
    header: Option<SegmentHeader>,
    number: u32,
    /// What the next segment's header must name.
    before: Hash,
    position: Position,
    /// Bytes of the segment that are written.
    bytes: u64,
    /// What came and is no whole frame yet.
    pending: Vec<u8>,
}

fn what(number: u32) -> String {
    format!("segment {number}")
}

/// The last frame of a copy, where it has entries: what signs them is in the frame after it, which is not here.
pub struct Unsigned {
    found: Scan,
    /// Its segment.
    pub segment: u32,
    /// Where in the segment it begins.
    pub offset: u64,
    /// Its entries.
    pub entries: u32,
    /// It.
    pub bytes: Vec<u8>,
}

impl Unsigned {
    /// Looks for it.
    ///
    /// # Errors
    /// The copy does not read.
    pub fn find(disk: &dyn Disk) -> Result<Option<Unsigned>, Error> {
        let Some(segment) = disk.segments()?.checked_sub(1) else { return Ok(None) };
        let mut found = scan(disk, segment, |_, _| Ok(()))?;
        let Some(last) = found.frames.last().filter(|frame| frame.header.count > 0) else { return Ok(None) };
        let (offset, entries) = (last.location.offset, last.header.count);
        let length = (found.good_bytes - offset) as usize;
        let bytes = disk.read(&file_name(segment), offset, length).map_err(io("read", what(segment)))?;
        found.good_bytes = offset;
        Ok(Some(Unsigned { found, segment, offset, entries, bytes }))
    }

    /// Takes it away.
    ///
    /// # Errors
    /// The disk refuses; the copy stays as it was.
    pub fn cut(&self, disk: &dyn Disk) -> Result<(), Error> {
        cut_tail(disk, &self.found)
    }
}

impl Mirror {
    /// Opens a copy, empty if there is none yet; what a stop left at its end is taken away.
    ///
    /// # Errors
    /// The folder has another trail's journal, or one that does not hold.
    pub fn open(disk: Arc<dyn Disk>, identity: Identity) -> Result<Mirror, Error> {
        let bad = |why: &str| Error::Corrupt { what: "mirror".into(), why: why.into() };
        let keys = identity.keys().map_err(|why| bad(&format!("its verifier key: {why}")))?;
        let mut mirror = Mirror {
            position: Position::genesis(&identity),
            disk,
            identity,
            keys,
            header: None,
            number: 0,
            before: Hash::default(),
            bytes: 0,
            pending: Vec::new(),
        };
        let mut count = mirror.disk.segments()?;
        if let Some(last) = count.checked_sub(1)
            && read_header(mirror.disk.as_ref(), last).is_err()
        {
            let length = mirror.disk.length(&file_name(last)).map_err(io("read", what(last)))?;
            if length > HEADER_BYTES_MAX as u64 {
                return Err(bad("its last segment has no header"));
            }
            remove_unborn(mirror.disk.as_ref(), last)?;
            count = last;
        }
        if let Some(last) = count.checked_sub(1) {
            let found = scan(mirror.disk.as_ref(), last, |_, _| Ok(()))?;
            if !found.header.identity.is_of(&mirror.identity) {
                return Err(bad("it is of another trail"));
            }
            mirror.identity = found.header.identity.clone();
            mirror.keys = mirror.identity.keys().map_err(|why| bad(&format!("its keys: {why}")))?;
            if found.frame_after_tail {
                return Err(bad("whole frames stand after a broken one"));
            }
            // Also where it is whole: the disk may not have what memory shows after a sync that failed.
            cut_tail(mirror.disk.as_ref(), &found)?;
            (mirror.number, mirror.bytes, mirror.position) = (last, found.good_bytes, found.end);
            mirror.before = found.header.before;
            mirror.header = Some(found.header);
        }
        Ok(mirror)
    }

    /// Which segment and which byte of it come next.
    pub fn next(&self) -> (u32, u64) {
        (self.number, self.bytes + self.pending.len() as u64)
    }

    /// Entries that it has.
    pub fn size(&self) -> u64 {
        self.position.range.size()
    }

    /// Root of their tree.
    pub fn root(&self) -> Hash {
        self.position.range.root()
    }

    /// Takes what comes next; `closed` says that the segment ends with it. Durable when it returns.
    ///
    /// # Errors
    /// It does not go on from what is here, or the disk refuses; what is here stays.
    pub fn take(&mut self, bytes: &[u8], closed: bool) -> Result<(), Error> {
        if self.pending.len() > FRAME_BYTES_MAX {
            let why = "a frame of it is longer than frames are".to_owned();
            return Err(Error::Corrupt { what: what(self.number), why });
        }
        self.pending.extend_from_slice(bytes);
        if self.header.is_none() && !self.take_header()? {
            return Ok(());
        }
        let mut at = 0;
        while at < self.pending.len() {
            match check_frame(&self.pending[at..], &mut self.position, &self.keys)? {
                FrameCheck::Whole(length) => at += length,
                FrameCheck::Short => break,
                FrameCheck::Wrong(why) => {
                    let what = format!("segment {}, frame {}", self.number, self.position.frame);
                    return Err(Error::Corrupt { what, why });
                }
            }
        }
        let name = file_name(self.number);
        if at > 0 {
            self.disk.append(&name, &self.pending[..at]).map_err(io("write", what(self.number)))?;
            self.disk.sync(&name).map_err(io("sync", what(self.number)))?;
            // If we stop before this line: a torn or whole frame at the end, which the next start cuts or keeps.
            self.bytes += at as u64;
            self.pending.drain(..at);
        }
        if closed {
            if !self.pending.is_empty() {
                let why = "it ends in the middle of a frame".to_owned();
                return Err(Error::Corrupt { what: what(self.number), why });
            }
            if let Some(header) = self.header.take() {
                self.before = header.chain(&self.position.before);
            }
            (self.number, self.bytes) = (self.number + 1, 0);
        }
        Ok(())
    }

    /// The segment begins with another key: it must follow from those that are here, at the entries that are here.
    fn take_key(&mut self, header: &SegmentHeader) -> Result<(), Error> {
        let corrupt = |why: String| Error::Corrupt { what: what(self.number), why };
        let keys = header.identity.keys().map_err(|why| corrupt(format!("its keys: {why}")))?;
        let new = header.identity.key_changes.strip_prefix(&*self.identity.key_changes);
        if new.is_none_or(|new| new.len() != 1) || !changes_here(header, &keys) {
            return Err(corrupt("its key does not follow from what is here".into()));
        }
        (self.identity, self.keys) = (header.identity.clone(), keys);
        Ok(())
    }

    /// Whether the header is whole: then it is the one that must come, and its file is begun.
    fn take_header(&mut self) -> Result<bool, Error> {
        let (header, length) = match SegmentHeader::parse(&self.pending[..self.pending.len().min(HEADER_BYTES_MAX + 4)])
        {
            Ok(found) => found,
            Err(Broken::Short) => return Ok(false),
            Err(Broken::Newer(version)) => return Err(Error::NewerVersion { what: "segment", version }),
            Err(why) => return Err(Error::Corrupt { what: what(self.number), why: why.to_string() }),
        };
        let fits = header.number == self.number
            && header.identity.is_of(&self.identity)
            && header.position == self.position
            && header.before == self.before;
        if !fits {
            let why = "its header does not follow what is here".to_owned();
            return Err(Error::Corrupt { what: what(self.number), why });
        }
        if header.identity != self.identity {
            self.take_key(&header)?;
        }
        let name = file_name(self.number);
        self.disk.create(&name).map_err(io("create", what(self.number)))?;
        self.disk.append(&name, &self.pending[..length]).map_err(io("write", what(self.number)))?;
        self.disk.sync(&name).map_err(io("sync", what(self.number)))?;
        self.disk.sync_folder().map_err(io("sync", "journal"))?;
        self.pending.drain(..length);
        (self.header, self.bytes) = (Some(header), length as u64);
        Ok(true)
    }
}
