//! The directory journal: segments of frames, one sync for each frame.

use std::sync::Arc;

use proof::hash::Hash;

use crate::disk::Disk;
use crate::error::{Error, io};
use crate::frame::{Broken, Frame, Header};
use crate::journal::{Journal, Location};
use crate::segment::{
    HEADER_BYTES_MAX, Identity, PLAIN_BYTES_MAX, Position, SEGMENT_BYTES_MAX, SegmentHeader, file_name, parse_file_name,
};

/// The segments of a folder, the last one open for appending.
pub struct DirectoryJournal {
    disk: Arc<dyn Disk>,
    header: SegmentHeader,
    bytes: u64,
    frames: u64,
    segment_bytes_max: u64,
    failed: bool,
}

/// One frame found by a scan.
#[derive(Debug, Clone)]
pub struct FoundFrame {
    /// Where it stands.
    pub location: Location,
    /// Its header.
    pub header: Header,
}

/// A segment read from end to end.
pub struct Scan {
    /// Its header.
    pub header: SegmentHeader,
    /// Its frames.
    pub frames: Vec<FoundFrame>,
    /// State after the last whole frame.
    pub end: Position,
    /// Bytes up to the end of the last whole frame.
    pub good_bytes: u64,
    /// What stands after them, if anything.
    pub tail: Option<Broken>,
    /// Whether a whole frame stands somewhere after the broken one.
    pub frame_after_tail: bool,
}

fn corrupt(segment: u32, frame: Option<u64>, why: impl Into<String>) -> Error {
    let what = match frame {
        Some(frame) => format!("segment {segment}, frame {frame}"),
        None => format!("segment {segment}"),
    };
    Error::Corrupt { what, why: why.into() }
}

/// How many segments the names of a folder are, which must be 0, 1, 2, ... without a gap.
///
/// # Errors
/// A name is no segment's, or one is missing.
pub fn count(names: &[String]) -> Result<u32, Error> {
    let mut numbers = Vec::with_capacity(names.len());
    for name in names {
        match parse_file_name(name) {
            Some(number) => numbers.push(number),
            // What a stop in the middle of a repair leaves behind: its segment is still there.
            None if name.ends_with(".seg.new") => {}
            None => {
                return Err(Error::Corrupt { what: "folder journal".into(), why: "a file that is no segment".into() });
            }
        }
    }
    numbers.sort_unstable();
    match numbers.iter().zip(0..).find(|(found, expected)| **found != *expected) {
        Some((_, expected)) => Err(corrupt(expected, None, "the segment is missing")),
        None => Ok(numbers.len() as u32),
    }
}

/// Reads a segment's header.
///
/// # Errors
/// It cannot be read or is broken.
pub fn read_header(disk: &dyn Disk, number: u32) -> Result<(SegmentHeader, usize), Error> {
    let read = |most| disk.read(&file_name(number), 0, most).map_err(io("read", format!("segment {number}")));
    let mut bytes = read(PLAIN_BYTES_MAX + 4)?;
    let mut parsed = SegmentHeader::parse(&bytes);
    if bytes.len() > PLAIN_BYTES_MAX && matches!(parsed, Err(Broken::Short)) {
        bytes = read(HEADER_BYTES_MAX + 4)?;
        parsed = SegmentHeader::parse(&bytes);
    }
    match parsed {
        Ok((header, _)) if header.number != number => Err(corrupt(number, None, "its header names another segment")),
        Ok(found) => Ok(found),
        Err(Broken::Newer(version)) => Err(Error::NewerVersion { what: "segment", version }),
        Err(broken) => Err(corrupt(number, None, broken.to_string())),
    }
}

/// Reads a segment and follows its frames: numbers, chain, tree and roots must fit. Entries are not re-hashed, their
/// stored leaf hashes are; `verify` does the rest.
///
/// # Errors
/// A frame is whole and does not fit. A broken tail is no error here.
pub fn scan(
    disk: &dyn Disk,
    number: u32,
    mut each: impl FnMut(&Frame<'_>, &FoundFrame) -> Result<(), Error>,
) -> Result<Scan, Error> {
    let (header, header_bytes) = read_header(disk, number)?;
    let name = file_name(number);
    let length = disk.length(&name).map_err(io("read", format!("segment {number}")))?;
    let bytes = disk.read(&name, 0, length as usize).map_err(io("read", format!("segment {number}")))?;
    let mut scan = Scan {
        end: header.position.clone(),
        header,
        frames: Vec::new(),
        good_bytes: header_bytes as u64,
        tail: None,
        frame_after_tail: false,
    };
    while (scan.good_bytes as usize) < bytes.len() {
        let rest = &bytes[scan.good_bytes as usize..];
        let frame = match Frame::parse(rest).and_then(Frame::sound) {
            Ok(frame) => frame,
            Err(Broken::Newer(version)) => return Err(Error::NewerVersion { what: "frame", version }),
            Err(broken) => {
                scan.tail = Some(broken);
                scan.frame_after_tail = whole_frame_in(&rest[1..]);
                break;
            }
        };
        apply(&mut scan.end, &frame).map_err(|why| corrupt(number, Some(frame.header.number), why))?;
        let location = Location { segment: number, offset: scan.good_bytes, length: frame.bytes.len() as u64 };
        let found = FoundFrame { location, header: frame.header.clone() };
        each(&frame, &found)?;
        scan.good_bytes += location.length;
        scan.frames.push(found);
    }
    Ok(scan)
}

/// Whether a whole and sound frame begins anywhere in `bytes`.
fn whole_frame_in(bytes: &[u8]) -> bool {
    bytes
        .windows(8)
        .enumerate()
        .filter(|(_, window)| *window == crate::frame::MAGIC)
        .any(|(at, _)| Frame::parse(&bytes[at..]).and_then(Frame::sound).is_ok())
}

/// Moves a position over a frame, checking that the frame follows it. The normal path and recovery both use this.
///
/// # Errors
/// What does not fit, in words.
pub fn apply(position: &mut Position, frame: &Frame<'_>) -> Result<(), String> {
    let header = &frame.header;
    let fits = [
        (header.number == position.frame, "its number does not follow"),
        (header.before == position.before, "it does not name the frame before"),
        (header.first_index == position.range.size(), "its first index does not follow"),
        (header.at >= position.at, "its time lies before the frame before"),
        (header.epoch >= position.epoch, "its epoch lies before the frame before"),
        (header.generation >= position.generation, "its key-store generation lies before the frame before"),
    ];
    if let Some((_, why)) = fits.iter().find(|(fits, _)| !fits) {
        return Err((*why).to_owned());
    }
    for place in 0..header.count as usize {
        let leaf = frame.leaf(place).ok_or("its leaf section is too short")?;
        position.range.push(leaf, |_, _, _| {});
        position.last_leaf = leaf;
    }
    if position.range.root() != header.root {
        return Err("its root is not that of its leaf hashes".to_owned());
    }
    position.frame += 1;
    position.before = header.digest;
    (position.at, position.epoch, position.generation) = (header.at, header.epoch, header.generation);
    Ok(())
}

impl DirectoryJournal {
    /// Makes segment 0 of a new trail.
    ///
    /// # Errors
    /// The folder has files already or cannot be written.
    pub fn create(disk: Arc<dyn Disk>, identity: &Identity) -> Result<DirectoryJournal, Error> {
        let position = Position::genesis(identity);
        let header = SegmentHeader { number: 0, position, before: Hash::default(), identity: identity.clone() };
        let mut journal =
            DirectoryJournal { disk, header, bytes: 0, frames: 0, segment_bytes_max: SEGMENT_BYTES_MAX, failed: false };
        journal.start_segment()?;
        Ok(journal)
    }

    /// Goes on after a scan of the last segment.
    pub fn resume(disk: Arc<dyn Disk>, scan: &Scan) -> DirectoryJournal {
        DirectoryJournal {
            disk,
            header: scan.header.clone(),
            bytes: scan.good_bytes,
            frames: scan.frames.len() as u64,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            failed: false,
        }
    }

    /// Closes segments earlier, for tests.
    pub fn set_segment_bytes_max(&mut self, bytes: u64) {
        self.segment_bytes_max = bytes;
    }

    fn start_segment(&mut self) -> Result<(), Error> {
        let name = file_name(self.header.number);
        let what = format!("segment {}", self.header.number);
        let bytes = self.header.to_bytes();
        self.disk.create(&name).map_err(io("create", &what))?;
        // If we stop after this line: an empty last segment, which recovery removes.
        self.disk.append(&name, &bytes).map_err(io("write", &what))?;
        // If we stop after this line: a last segment whose header is whole, torn or absent; without a frame it says
        // nothing that the segment before does not, so recovery removes it if it is not whole.
        self.disk.sync(&name).map_err(io("sync", &what))?;
        self.disk.sync_folder().map_err(io("sync", "journal"))?;
        // If we stop after this line: a whole segment without frames, which recovery goes on with.
        (self.bytes, self.frames) = (bytes.len() as u64, 0);
        Ok(())
    }

    fn rotate(&mut self, position: &Position, identity: Identity) -> Result<(), Error> {
        let before = self.header.chain(&position.before);
        self.header = SegmentHeader { number: self.header.number + 1, position: position.clone(), before, identity };
        self.start_segment()
    }

    fn try_append(&mut self, position: &Position, frame: &[u8]) -> Result<Location, Error> {
        if self.frames > 0 && self.bytes + frame.len() as u64 > self.segment_bytes_max {
            self.rotate(position, self.header.identity.clone())?;
        }
        let name = file_name(self.header.number);
        let what = format!("segment {}", self.header.number);
        self.disk.append(&name, frame).map_err(io("write", &what))?;
        // If we stop after this line: the frame may be whole, torn or absent. Nobody was answered, so each is right;
        // a whole one counts, since recovery cannot tell it from an answered one.
        self.disk.sync(&name).map_err(io("sync", &what))?;
        // If we stop after this line: the frame counts. Clients that were not answered will send again and be told
        // that it is a repeat.
        let location = Location { segment: self.header.number, offset: self.bytes, length: frame.len() as u64 };
        self.bytes += frame.len() as u64;
        self.frames += 1;
        Ok(location)
    }
}

impl Journal for DirectoryJournal {
    fn append(&mut self, position: &Position, frame: &[u8]) -> Result<Location, Error> {
        if self.failed {
            return Err(Error::Stopped);
        }
        // After a failed sync the kernel may have dropped the pages and call them clean: what a later read shows is
        // no evidence, so nothing is tried again in this process.
        self.try_append(position, frame).inspect_err(|_| self.failed = true)
    }

    fn next_segment(&mut self, position: &Position) -> Result<Option<u32>, Error> {
        if self.failed {
            return Err(Error::Stopped);
        }
        if self.frames == 0 {
            return Ok(None);
        }
        self.rotate(position, self.header.identity.clone()).inspect_err(|_| self.failed = true)?;
        Ok(Some(self.header.number))
    }

    fn may_change_key(&self, _: &Position) -> bool {
        self.frames > 0
    }

    fn change_key(&mut self, position: &Position, identity: Identity) -> Result<Option<u32>, Error> {
        if self.failed {
            return Err(Error::Stopped);
        }
        self.rotate(position, identity).inspect_err(|_| self.failed = true)?;
        Ok(Some(self.header.number))
    }
}

/// Writes a segment's good part anew and puts it in its place: without the tail that a crash left, and surely on the disk.
///
/// # Errors
/// The disk refuses; the segment is then as it was.
pub fn cut_tail(disk: &dyn Disk, scan: &Scan) -> Result<(), Error> {
    let number = scan.header.number;
    let (name, new) = (file_name(number), format!("{}.new", file_name(number)));
    let what = format!("segment {number}");
    if disk.list().map_err(io("list", "journal"))?.contains(&new) {
        disk.remove(&new).map_err(io("remove", &what))?;
    }
    let good = disk.read(&name, 0, scan.good_bytes as usize).map_err(io("read", &what))?;
    disk.create(&new).map_err(io("create", &what))?;
    disk.append(&new, &good).map_err(io("write", &what))?;
    disk.sync(&new).map_err(io("sync", &what))?;
    // If we stop before this line: the torn segment is still there and this is done again.
    disk.rename(&new, &name).map_err(io("rename", &what))?;
    disk.sync_folder().map_err(io("sync", "journal"))
}

/// Removes a last segment without a whole header, which a crash leaves while a segment is begun.
///
/// # Errors
/// The disk refuses.
pub fn remove_unborn(disk: &dyn Disk, number: u32) -> Result<(), Error> {
    disk.remove(&file_name(number)).map_err(io("remove", format!("segment {number}")))?;
    disk.sync_folder().map_err(io("sync", "journal"))
}
