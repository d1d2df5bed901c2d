//! The frame: one commit (`docs/formats/frame.md`).
//!
//! H(frame) is over header and section table. It stays true when an ended body section is replaced by the digests of
//! its records, since a section's H is over those digests and its length and check sum stand in the section itself.

use std::ops::Range;

use proof::hash::{Hash, sha256, sha256_parts};
use proof::time::UnixMillis;

use crate::entries::{Bodies, ENTRY_RECORD_BYTES, EntrySection};
use crate::wire::Cursor;

/// First bytes of a frame.
pub const MAGIC: &[u8; 8] = b"CNDRFRAM";
/// The version this code writes and reads.
pub const VERSION: u16 = 1;
/// Entries in a frame, at most.
pub const ENTRIES_MAX: usize = 4096;
/// Bytes in a frame at which no further batch is taken into it.
pub const FRAME_BYTES_SOFT_MAX: usize = 8 << 20;
/// Bytes in a frame, at most: the soft limit and one batch of the largest records.
pub const FRAME_BYTES_MAX: usize = 1 << 30;
/// Bytes before the checkpoint.
pub(crate) const FIXED_HEADER_BYTES: usize = 136;
pub(crate) const SECTION_ROW_BYTES: usize = 38;
const SECTIONS_MAX: usize = 4098;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Fixed binary records of the entries.
    Entries,
    /// Leaf hashes.
    Leaves,
    /// Sealed records of one class and period.
    Bodies {
        /// Place of the class in the entry section's table.
        class: u8,
        /// Period key id.
        period: u32,
    },
}

/// One row of the section table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionRow {
    /// What it holds.
    pub kind: SectionKind,
    /// H of the section.
    pub digest: Hash,
}

/// A frame's header, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Frame number, from 0.
    pub number: u64,
    /// Index of its first entry.
    pub first_index: u64,
    /// Number of its entries.
    pub count: u32,
    /// Time of the commit.
    pub at: UnixMillis,
    /// Random id of the writing process.
    pub writer: u64,
    /// Epoch of the writer.
    pub epoch: u32,
    /// Keys that the key store must have made.
    pub generation: u64,
    /// H(frame before).
    pub before: Hash,
    /// Entries in the trail after this frame.
    pub size: u64,
    /// Root after this frame.
    pub root: Hash,
    /// Signed checkpoint of the frame before; empty in frame 0.
    pub checkpoint: String,
    /// The sections.
    pub sections: Vec<SectionRow>,
    /// Bytes that H(frame) is over.
    pub length: usize,
    /// H(frame).
    pub digest: Hash,
}

/// `before` of frame 0.
pub fn first_before(origin: &str, vkey: &str) -> Hash {
    sha256_parts(&[b"candor/v1/first-frame\n", origin.as_bytes(), b"\n", vkey.as_bytes()])
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The bytes end before the frame does.
    Short,
    /// A check sum does not fit.
    CheckSum(&'static str),
    /// The bytes do not follow the format.
    Malformed(&'static str),
    /// A newer version.
    Newer(u16),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Short => f.write_str("the file ends inside it"),
            Broken::CheckSum(what) => write!(f, "the check sum of its {what} does not fit"),
            Broken::Malformed(why) => f.write_str(why),
            Broken::Newer(version) => write!(f, "version {version} is newer than this program"),
        }
    }
}

impl Header {
    /// Reads the header at the start of `bytes`, its check sum included.
    ///
    /// # Errors
    /// The bytes are no whole header.
    pub fn parse(bytes: &[u8]) -> Result<Header, Broken> {
        let mut cursor = Cursor::new(bytes);
        let short = Broken::Short;
        if bytes.len() >= 8 && &bytes[..8] != MAGIC {
            return Err(Broken::Malformed("it does not begin with the mark of a frame"));
        }
        cursor.take(8).ok_or(short)?;
        let version = cursor.u16().ok_or(short)?;
        if version > VERSION {
            return Err(Broken::Newer(version));
        }
        let length = cursor.u32().ok_or(short)? as usize;
        if version == 0 || !(FIXED_HEADER_BYTES + 2..FRAME_BYTES_MAX).contains(&length) {
            return Err(Broken::Malformed("its version or header length is out of range"));
        }
        let covered = bytes.get(..length).ok_or(short)?;
        let stored = Cursor { bytes, at: length }.u32().ok_or(short)?;
        if crc32c::crc32c(covered) != stored {
            return Err(Broken::CheckSum("header"));
        }
        let mut cursor = Cursor { bytes: covered, at: 14 };
        let bad = Broken::Malformed("its header is shorter than its fields");
        let number = cursor.u64().ok_or(bad)?;
        let first_index = cursor.u64().ok_or(bad)?;
        let count = cursor.u32().ok_or(bad)?;
        let at = UnixMillis(cursor.u64().ok_or(bad)?);
        let writer = cursor.u64().ok_or(bad)?;
        let epoch = cursor.u32().ok_or(bad)?;
        let generation = cursor.u64().ok_or(bad)?;
        let before = cursor.hash().ok_or(bad)?;
        let size = cursor.u64().ok_or(bad)?;
        let root = cursor.hash().ok_or(bad)?;
        let checkpoint_bytes = usize::from(cursor.u16().ok_or(bad)?);
        let checkpoint = std::str::from_utf8(cursor.take(checkpoint_bytes).ok_or(bad)?).map_err(|_| bad)?.to_owned();
        let section_count = usize::from(cursor.u16().ok_or(bad)?);
        if count as usize > ENTRIES_MAX || section_count > SECTIONS_MAX {
            return Err(Broken::Malformed("it has more entries or sections than a frame may"));
        }
        let mut sections = Vec::with_capacity(section_count);
        for _ in 0..section_count {
            let kind = (cursor.u8().ok_or(bad)?, cursor.u8().ok_or(bad)?, cursor.u32().ok_or(bad)?);
            let digest = cursor.hash().ok_or(bad)?;
            let kind = match kind {
                (1, 0, 0) => SectionKind::Entries,
                (2, 0, 0) => SectionKind::Leaves,
                (3, class, period) => SectionKind::Bodies { class, period },
                _ => return Err(Broken::Malformed("a section of a kind that this program does not know")),
            };
            sections.push(SectionRow { kind, digest });
        }
        if cursor.at != length {
            return Err(Broken::Malformed("its header is longer than its fields"));
        }
        let shape = sections.iter().take(2).map(|row| row.kind).collect::<Vec<_>>();
        let bodies = sections.iter().skip(2).all(|row| matches!(row.kind, SectionKind::Bodies { .. }));
        let fits = if count == 0 {
            sections.is_empty()
        } else {
            shape == [SectionKind::Entries, SectionKind::Leaves] && bodies && sections.len() > 2
        };
        if !fits || first_index.checked_add(u64::from(count)) != Some(size) {
            return Err(Broken::Malformed("its sections or size do not fit its entries"));
        }
        let digest = sha256(covered);
        Ok(Header {
            number,
            first_index,
            count,
            at,
            writer,
            epoch,
            generation,
            before,
            size,
            root,
            checkpoint,
            sections,
            length,
            digest,
        })
    }

    /// The periods that it has bodies of, as often as it has sections of them.
    pub fn periods(&self) -> impl Iterator<Item = u32> + '_ {
        self.sections.iter().filter_map(|row| match row.kind {
            SectionKind::Bodies { period, .. } => Some(period),
            _ => None,
        })
    }
}

/// One section's place in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The row of the table.
    pub row: SectionRow,
    /// Whether the bodies were replaced by digests.
    pub ended: bool,
    /// Where the payload stands.
    pub payload: Range<usize>,
    /// Whether the check sum fits.
    pub sound: bool,
}

/// A frame taken apart.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// All its bytes.
    pub bytes: &'a [u8],
    /// The header.
    pub header: Header,
    /// The sections in the order of the table.
    pub sections: Vec<Section>,
}

impl<'a> Frame<'a> {
    /// Takes the frame at the start of `bytes` apart. Sections' check sums are looked at, but do not refuse the frame,
    /// so that verification can name the entry that is wrong: callers that need a sound frame call [`Frame::sound`].
    ///
    /// # Errors
    /// The header is broken, or the bytes end before the frame does.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, Broken> {
        let header = Header::parse(bytes)?;
        let mut cursor = Cursor { bytes, at: header.length + 4 };
        let mut sections = Vec::with_capacity(header.sections.len());
        for row in &header.sections {
            let start = cursor.at;
            let form = cursor.u8().ok_or(Broken::Short)?;
            let length = cursor.u32().ok_or(Broken::Short)? as usize;
            let payload = cursor.at..cursor.at + length;
            cursor.take(length).ok_or(Broken::Short)?;
            let covered = &bytes[start..cursor.at];
            let stored = cursor.u32().ok_or(Broken::Short)?;
            let known = form == 0 || form == 1 && matches!(row.kind, SectionKind::Bodies { .. });
            let sound = known && crc32c::crc32c(covered) == stored;
            sections.push(Section { row: *row, ended: form == 1, payload, sound });
        }
        Ok(Frame { bytes: &bytes[..cursor.at], header, sections })
    }

    /// Refuses a frame one of whose sections has a wrong check sum.
    ///
    /// # Errors
    /// As said.
    pub fn sound(self) -> Result<Frame<'a>, Broken> {
        match self.sections.iter().find(|section| !section.sound) {
            Some(section) => Err(Broken::CheckSum(match section.row.kind {
                SectionKind::Entries => "entry section",
                SectionKind::Leaves => "leaf section",
                SectionKind::Bodies { .. } => "body section",
            })),
            None => Ok(self),
        }
    }

    /// The payload of a section.
    pub fn payload(&self, section: &Section) -> &'a [u8] {
        self.bytes.get(section.payload.clone()).unwrap_or_default()
    }

    /// The entries, without `prev` and `sealed`.
    ///
    /// # Errors
    /// The entry section does not follow the format.
    pub fn entries(&self) -> Result<EntrySection<'a>, Broken> {
        match self.sections.first() {
            Some(section) => EntrySection::parse(self.payload(section), self.header.count as usize),
            None => Ok(EntrySection::empty()),
        }
    }

    /// The leaf hash of the entry at this place in the frame, as stored.
    pub fn leaf(&self, place: usize) -> Option<Hash> {
        let payload = self.payload(self.sections.get(1)?);
        Cursor { bytes: payload, at: place * 32 }.hash()
    }

    /// The records of a body section: sealed bytes, or their digests where the period has ended.
    ///
    /// # Errors
    /// The section does not follow the format.
    pub fn bodies(&self, section: &Section) -> Result<Bodies<'a>, Broken> {
        let payload = self.payload(section);
        let bad = Broken::Malformed("a body section does not follow its format");
        let mut cursor = Cursor::new(payload);
        if section.ended {
            let by = cursor.u64().ok_or(bad)?;
            let count = cursor.u32().ok_or(bad)? as usize;
            let digests = cursor.take(count.checked_mul(32).ok_or(bad)?).ok_or(bad)?;
            // Nothing of the bodies may be left, and no byte is free to change.
            if payload[cursor.at..].iter().any(|byte| *byte != 0) {
                return Err(bad);
            }
            let digests = digests.chunks_exact(32).map(|b| Cursor::new(b).hash().unwrap_or_default()).collect();
            return Ok(Bodies::Ended { by, digests });
        }
        let count = cursor.u32().ok_or(bad)? as usize;
        let ends = cursor.take(count.checked_mul(4).ok_or(bad)?).ok_or(bad)?;
        let data = &payload[cursor.at..];
        let ends: Vec<usize> = ends.chunks_exact(4).map(|b| Cursor::new(b).u32().unwrap_or(0) as usize).collect();
        let rise = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        if !rise || ends.last().copied().unwrap_or(0) != data.len() {
            return Err(bad);
        }
        Ok(Bodies::Present { ends, data })
    }

    /// The records of every body section.
    ///
    /// # Errors
    /// As [`Frame::bodies`].
    pub fn all_bodies(&self) -> Result<Vec<Bodies<'a>>, Broken> {
        self.sections.iter().skip(2).map(|section| self.bodies(section)).collect()
    }

    /// Every byte of the frame by the name of the field it belongs to: what verification must cover.
    pub fn layout(&self) -> Vec<(&'static str, Range<usize>)> {
        let fixed = [
            ("magic", 8),
            ("version", 2),
            ("header length", 4),
            ("number", 8),
            ("first index", 8),
            ("count", 4),
            ("at", 8),
            ("writer", 8),
            ("epoch", 4),
            ("generation", 8),
            ("frame before", 32),
            ("size", 8),
            ("root", 32),
            ("checkpoint length", 2),
            ("checkpoint", self.header.checkpoint.len()),
            ("section count", 2),
        ];
        let mut fields = Vec::new();
        let mut at = 0;
        let mut add = |name: &'static str, length: usize| {
            fields.push((name, at..at + length));
            at += length;
        };
        fixed.iter().for_each(|(name, length)| add(name, *length));
        for _ in &self.sections {
            [("section kind", 1), ("section class", 1), ("section period", 4), ("section digest", 32)]
                .iter()
                .for_each(|(n, l)| add(n, *l));
        }
        add("header check sum", 4);
        for section in &self.sections {
            add("section form", 1);
            add("section length", 4);
            let length = section.payload.len();
            match (section.row.kind, section.ended) {
                (SectionKind::Entries, _) => {
                    let table = length - ENTRY_RECORD_BYTES * self.header.count as usize;
                    add("entry table", table);
                    for _ in 0..self.header.count {
                        [
                            ("entry at", 4),
                            ("entry kind", 2),
                            ("entry class", 1),
                            ("entry flags", 1),
                            ("entry section", 2),
                            ("entry id", 16),
                            ("entry who", 16),
                            ("entry facts", 32),
                            ("entry personal", 32),
                        ]
                        .iter()
                        .for_each(|(n, l)| add(n, *l));
                    }
                }
                (SectionKind::Leaves, _) => add("leaf hashes", length),
                (SectionKind::Bodies { .. }, true) => {
                    let at = section.payload.start + 8;
                    let count = Cursor { bytes: self.bytes, at }.u32().unwrap_or(0) as usize;
                    add("ended by", 8);
                    add("ended count", 4);
                    add("ended digests", 32 * count);
                    add("ended zeros", length - 12 - 32 * count);
                }
                (SectionKind::Bodies { .. }, false) => {
                    let count = Cursor { bytes: self.bytes, at: section.payload.start }.u32().unwrap_or(0) as usize;
                    add("body count", 4);
                    add("body ends", 4 * count);
                    add("sealed records", length - 4 - 4 * count);
                }
            }
            add("section check sum", 4);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use proof::entry::{EntryId, Personal, Who};

    use super::*;
    use crate::frame_builder::{FrameBuilder, FrameHead, NewEntry};
    use proptest::prelude::*;

    pub(crate) fn sample(count: usize) -> Vec<u8> {
        let mut builder = FrameBuilder::default();
        let mut prev = Hash([9; 32]);
        for i in 0..count {
            let sealed = vec![i as u8; 40 + i];
            let personal = (i % 2 == 0).then_some(Personal { who: Who([1; 16]), commitment: Hash([2; 32]) });
            let entry = NewEntry {
                kind: if i % 3 == 0 { "A" } else { "B" },
                class: "trail",
                period: i as u32 % 2 + 1,
                id: EntryId([i as u8; 16]),
                facts: Hash([3; 32]),
                personal,
                sealed: &sealed,
                digest: sha256(&sealed),
            };
            prev = builder.push(prev, UnixMillis(5), &entry);
        }
        let head = FrameHead {
            number: 1,
            first_index: 10,
            at: UnixMillis(5),
            writer: 1,
            epoch: 1,
            generation: 3,
            before: Hash([4; 32]),
            checkpoint: "c".into(),
        };
        builder.finish(&head, 10 + count as u64, &Hash([5; 32])).0
    }

    #[test]
    fn a_frame_reads_back_and_every_byte_has_a_name() {
        for count in [0, 1, 7] {
            let bytes = sample(count);
            let frame = Frame::parse(&bytes).expect("whole").sound().expect("sound");
            assert_eq!(frame.bytes.len(), bytes.len());
            let layout = frame.layout();
            let end = layout.iter().fold(0, |at, (name, range)| {
                assert_eq!(range.start, at, "{name}");
                range.end
            });
            assert_eq!(end, bytes.len());
            let entries = frame.entries().expect("entries");
            let mut prev = Hash([9; 32]);
            for place in 0..count {
                let record = entries.record(place).expect("a record");
                let bodies = frame.bodies(&frame.sections[2 + usize::from(record.section)]).expect("bodies");
                let digest = bodies.digest(entries.place_in_section(place)).expect("there");
                prev = record.entry(prev, frame.header.at, digest).leaf_hash();
                assert_eq!(frame.leaf(place), Some(prev));
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), at: usize, change: u8) {
            if let Ok(frame) = Frame::parse(&bytes) { let _ = frame.entries(); }
            bytes = sample(3);
            let at = at % bytes.len();
            bytes[at] ^= change;
            if let Ok(frame) = Frame::parse(&bytes) {
                if let Ok(entries) = frame.entries() { for i in 0..entries.len() { let _ = entries.record(i); } }
                for section in frame.sections.iter().skip(2) { let _ = frame.bodies(section); }
            }
        }
    }
}
