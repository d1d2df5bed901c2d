//! What remains of a period that has ended: which entries it has, and its bodies replaced in closed segments.
//!
//! A section keeps its length: digests, then zeros, which take no room on the disk. So nothing of a segment moves, and
//! every index, proof and running reader stays right. The new segment is written beside the old one, read back, verified
//! in whole and then takes its name.

use std::collections::{BTreeMap, BTreeSet};

use crate::directory::scan;
use crate::entries::Bodies;
use crate::error::{Error, io};
use crate::frame::{Frame, SectionKind};
use crate::reader::{Reader, StoredEntry};
use crate::segment::{HEADER_BYTES_MAX, SegmentHeader, file_name};
use crate::verify;

/// Zeros from so many on are given back to the file system.
const HOLE_BYTES_MIN: usize = 4096;

impl Reader {
    /// The entries of a period in order, a frame's at a time; of these kinds alone, where any are named.
    ///
    /// # Errors
    /// The journal cannot be read in whole, or `each` fails.
    pub fn entries_of_period<E: From<Error>>(
        &self,
        period: u32,
        kinds: &[String],
        mut each: impl FnMut(&[u64]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (size, mut failed) = (self.size(), None);
        for segment in self.segments_with(period)? {
            let scanned = scan(self.disk(), segment, |frame, _| {
                if failed.is_none() && frame.header.periods().any(|held| held == period) {
                    let mut found = of_period(frame, period, kinds)?;
                    found.retain(|index| *index < size);
                    failed = each(&found).err();
                }
                Ok(())
            })?;
            if let Some(error) = failed.take() {
                return Err(error);
            }
            // What stands behind a frame that does not read is not known: nothing may be decided by what was found so far.
            // At the end of the open segment a frame may be on its way.
            let ends = scanned.tail.filter(|_| segment < self.open_segment() || scanned.end.range.size() < size);
            if let Some(tail) = ends {
                let what = format!("segment {segment}, frame {}", scanned.end.frame);
                return Err(Error::Corrupt { what, why: tail.to_string() }.into());
            }
        }
        Ok(())
    }

    /// The same from an entry on, each as it is stored.
    ///
    /// # Errors
    /// As [`Reader::entries_of_period`].
    pub fn each_of_period<E: From<Error>>(
        &self,
        period: u32,
        from: u64,
        kinds: &[String],
        mut each: impl FnMut(StoredEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries_of_period(period, kinds, |entries| {
            for index in entries.iter().filter(|index| **index >= from) {
                each(self.entry(*index)?)?;
            }
            Ok(())
        })
    }

    /// Replaces the bodies of ended periods, given with the entries that ended them, by their digests in every closed
    /// segment. Whether none is left; a stop at any point leaves each segment as it was or replaced.
    ///
    /// # Errors
    /// The disk refuses, or a segment is not what was written.
    pub fn replace(&self, ended: &BTreeMap<u32, u64>) -> Result<bool, Error> {
        if !self.disk().replaces() {
            return Ok(false);
        }
        let mut segments = BTreeSet::new();
        for period in ended.keys() {
            segments.extend(self.segments_with(*period)?);
        }
        let open = self.open_segment();
        let (mut whole, mut bad) = (true, None);
        for segment in segments {
            if segment >= open {
                whole = false;
                continue;
            }
            match self.replace_in(segment, ended) {
                // It keeps nothing from the others.
                Err(error @ Error::Corrupt { .. }) => bad = bad.or(Some(error)),
                done => done?,
            }
        }
        bad.map_or(Ok(whole), Err)
    }

    fn replace_in(&self, segment: u32, ended: &BTreeMap<u32, u64>) -> Result<(), Error> {
        let (name, what) = (file_name(segment), format!("segment {segment}"));
        let disk = self.disk();
        let length = disk.length(&name).map_err(io("read", &what))?;
        let old = disk.read(&name, 0, length as usize).map_err(io("read", &what))?;
        let mut new = old.clone();
        let holes = replace_bytes(segment, &mut new, ended)?;
        if new == old {
            return Ok(());
        }
        let temporary = format!("{name}.new");
        if disk.list().map_err(io("list", "journal"))?.contains(&temporary) {
            disk.remove(&temporary).map_err(io("remove", &what))?;
        }
        disk.create(&temporary).map_err(io("create", &what))?;
        disk.append(&temporary, &new).map_err(io("write", &what))?;
        for (offset, length) in holes {
            disk.punch(&temporary, offset, length).map_err(io("write", &what))?;
        }
        disk.sync(&temporary).map_err(io("sync", &what))?;
        // If we stop before the new name: the old segment is there, and this is done again.
        let back = disk.read(&temporary, 0, new.len()).map_err(io("read", &what))?;
        let same = back == new && verify::same_trail(segment, &old, &back)?;
        if !same {
            let why = "what replaces it would not be of the same trail: it was left as it was".to_owned();
            return Err(Error::Corrupt { what, why });
        }
        disk.rename(&temporary, &name).map_err(io("rename", &what))?;
        disk.sync_folder().map_err(io("sync", "journal"))?;
        self.forget_segment(segment);
        Ok(())
    }
}

/// The entries of a frame whose bodies are of a period, of these kinds alone where any are named.
fn of_period(frame: &Frame<'_>, period: u32, kinds: &[String]) -> Result<Vec<u64>, Error> {
    let number = frame.header.number;
    let corrupt = |why: String| Error::Corrupt { what: format!("frame {number}"), why };
    let entries = frame.entries().map_err(|why| corrupt(why.to_string()))?;
    let mut found = Vec::new();
    let wanted = |kind: &str| kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind);
    if !entries.kinds.iter().any(|kind| wanted(kind)) {
        return Ok(found);
    }
    for place in 0..entries.len() {
        let record = entries.record(place).map_err(|why| corrupt(why.to_string()))?;
        let section = frame.sections.get(2 + usize::from(record.section));
        if wanted(record.kind)
            && section.is_some_and(
                |section| matches!(section.row.kind, SectionKind::Bodies { period: held, .. } if held == period),
            )
        {
            found.push(frame.header.first_index + place as u64);
        }
    }
    Ok(found)
}

/// Replaces in the bytes of a whole segment; gives where zeros stand now.
fn replace_bytes(segment: u32, bytes: &mut [u8], ended: &BTreeMap<u32, u64>) -> Result<Vec<(u64, u64)>, Error> {
    let corrupt = |why: String| Error::Corrupt { what: format!("segment {segment}"), why };
    let head = &bytes[..bytes.len().min(HEADER_BYTES_MAX + 4)];
    let (_, mut at) = SegmentHeader::parse(head).map_err(|why| corrupt(why.to_string()))?;
    let mut holes = Vec::new();
    while at < bytes.len() {
        let frame = Frame::parse(&bytes[at..]).and_then(Frame::sound).map_err(|why| corrupt(why.to_string()))?;
        let mut changes = Vec::new();
        for section in &frame.sections {
            let SectionKind::Bodies { period, .. } = section.row.kind else { continue };
            let bodies = frame.bodies(section).map_err(|why| corrupt(why.to_string()))?;
            let by = match (&bodies, ended.get(&period)) {
                // Its zeros would take room again.
                (Bodies::Ended { by, .. }, _) | (Bodies::Present { .. }, Some(by)) => *by,
                (Bodies::Present { .. }, None) => continue,
            };
            changes.push((section.payload.clone(), ended_payload(&bodies, by, section.payload.len())));
        }
        let length = frame.bytes.len();
        for (place, (payload, used)) in changes {
            let (start, end) = (at + place.start, at + place.end);
            bytes[start - 5] = 1;
            bytes[start..end].copy_from_slice(&payload);
            let sum = crc32c::crc32c(&bytes[start - 5..end]);
            bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
            if payload.len() - used >= HOLE_BYTES_MIN {
                holes.push(((start + used) as u64, (payload.len() - used) as u64));
            }
        }
        at += length;
    }
    Ok(holes)
}

/// The payload of an ended section and how much of it is no zeros. It always fits: a sealed record is longer than its
/// digest by more than the places it loses.
fn ended_payload(bodies: &Bodies<'_>, by: u64, length: usize) -> (Vec<u8>, usize) {
    let mut payload = Vec::with_capacity(length);
    payload.extend_from_slice(&by.to_be_bytes());
    payload.extend_from_slice(&(bodies.count() as u32).to_be_bytes());
    for place in 0..bodies.count() {
        payload.extend_from_slice(&bodies.digest(place).unwrap_or_default().0);
    }
    let used = payload.len();
    assert!(used <= length, "digests are shorter than the records they stand for");
    payload.resize(length, 0);
    (payload, used)
}
