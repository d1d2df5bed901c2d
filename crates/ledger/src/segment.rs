//! The segment header: everything a reader needs to begin at this file (`docs/formats/segment.md`).

use std::ops::Range;
use std::sync::Arc;

use proof::hash::{Hash, sha256_parts};
use proof::key_change::{self, CHANGE_BYTES_MAX, CHANGES_MAX, KeyChange};
use proof::note::VerifierKey;
use proof::time::UnixMillis;
use proof::tree::CompactRange;

use crate::frame::{Broken, first_before};
use crate::wire::Cursor;

/// First bytes of a segment.
pub const MAGIC: &[u8; 8] = b"CNDRSEGM";
/// The version of a segment of a trail whose key has not changed.
pub const VERSION: u16 = 1;
/// The version with key changes, the newest that this code writes and reads.
pub const VERSION_CHANGED: u16 = 2;
/// Bytes at which a segment is closed: two of them are read at start.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a header without key changes, at most: 64 nodes, an origin of 255 and a verifier key of 512 bytes, and the
/// rest.
pub const PLAIN_BYTES_MAX: usize = 4096;
/// Bytes of a header, at most.
pub const HEADER_BYTES_MAX: usize = PLAIN_BYTES_MAX + CHANGES_MAX * (CHANGE_BYTES_MAX + 4);

/// Who the trail is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the trail.
    pub origin: String,
    /// Its first verifier key.
    pub vkey: String,
    /// How its other keys followed.
    pub key_changes: Arc<[KeyChange]>,
}

impl Identity {
    /// A trail whose key has not changed.
    pub fn new(origin: String, vkey: String) -> Identity {
        Identity { origin, vkey, key_changes: Arc::default() }
    }

    /// Its keys in order, each change checked.
    ///
    /// # Errors
    /// One does not follow from those before it.
    pub fn keys(&self) -> Result<Vec<VerifierKey>, proof::error::Error> {
        key_change::keys(&self.origin, &self.vkey, &self.key_changes)
    }

    /// Whether both are of one trail, whatever its keys did meanwhile.
    pub fn is_of(&self, other: &Identity) -> bool {
        self.origin == other.origin && self.vkey == other.vkey
    }
}

/// The state of a trail between two frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Number of the next frame.
    pub frame: u64,
    /// H(frame before).
    pub before: Hash,
    /// The tree.
    pub range: CompactRange,
    /// Leaf hash of the last entry.
    pub last_leaf: Hash,
    /// Time of the last frame.
    pub at: UnixMillis,
    /// Epoch of the last frame.
    pub epoch: u32,
    /// Generation of the last frame.
    pub generation: u64,
}

impl Position {
    /// The empty trail.
    pub fn genesis(identity: &Identity) -> Position {
        Position {
            frame: 0,
            before: first_before(&identity.origin, &identity.vkey),
            range: CompactRange::new(),
            last_leaf: proof::hash::genesis(&identity.origin, &identity.vkey),
            at: UnixMillis(0),
            epoch: 0,
            generation: 0,
        }
    }
}

/// A segment's header, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Number of the segment, from 0.
    pub number: u32,
    /// State before its first frame.
    pub position: Position,
    /// H(header of the segment before || H(its last frame)); zero for segment 0.
    pub before: Hash,
    /// Who the trail is.
    pub identity: Identity,
}

/// The file name of a segment.
pub fn file_name(number: u32) -> String {
    format!("{number:010}.seg")
}

/// The segment that a file name names.
pub fn parse_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg")?;
    let number = digits.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

impl SegmentHeader {
    /// The bytes of the header.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(MAGIC);
        let changes = &self.identity.key_changes;
        let version = if changes.is_empty() { VERSION } else { VERSION_CHANGED };
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.number.to_be_bytes());
        let position = &self.position;
        out.extend_from_slice(&position.frame.to_be_bytes());
        out.extend_from_slice(&position.range.size().to_be_bytes());
        out.push(position.range.nodes().len() as u8);
        position.range.nodes().iter().for_each(|node| out.extend_from_slice(&node.0));
        out.extend_from_slice(&position.last_leaf.0);
        out.extend_from_slice(&position.at.0.to_be_bytes());
        out.extend_from_slice(&position.epoch.to_be_bytes());
        out.extend_from_slice(&position.generation.to_be_bytes());
        out.extend_from_slice(&position.before.0);
        out.extend_from_slice(&self.before.0);
        for text in [&self.identity.origin, &self.identity.vkey] {
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        if !changes.is_empty() {
            out.push(changes.len() as u8);
            for change in changes.iter() {
                let text = change.to_text();
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        let length = out.len() as u32;
        out[10..14].copy_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        out
    }

    /// Reads the header at the start of `bytes`; gives it and the bytes it takes.
    ///
    /// # Errors
    /// The bytes are no whole header.
    pub fn parse(bytes: &[u8]) -> Result<(SegmentHeader, usize), Broken> {
        let short = Broken::Short;
        let bad = Broken::Malformed("its header does not follow the format");
        let mut cursor = Cursor::new(bytes);
        if cursor.take(8).ok_or(short)? != MAGIC {
            return Err(Broken::Malformed("it does not begin with the mark of a segment"));
        }
        let version = cursor.u16().ok_or(short)?;
        if version > VERSION_CHANGED {
            return Err(Broken::Newer(version));
        }
        let length = cursor.u32().ok_or(short)? as usize;
        let most = if version == VERSION { PLAIN_BYTES_MAX } else { HEADER_BYTES_MAX };
        if version == 0 || length > most {
            return Err(bad);
        }
        let covered = bytes.get(..length).ok_or(short)?;
        if (Cursor { bytes, at: length }).u32().ok_or(short)? != crc32c::crc32c(covered) {
            return Err(Broken::CheckSum("header"));
        }
        let mut cursor = Cursor { bytes: covered, at: 14 };
        let mut read = || -> Option<SegmentHeader> {
            let number = cursor.u32()?;
            let frame = cursor.u64()?;
            let size = cursor.u64()?;
            let count = cursor.u8()?;
            let nodes = (0..count).map(|_| cursor.hash()).collect::<Option<Vec<Hash>>>()?;
            let last_leaf = cursor.hash()?;
            let at = UnixMillis(cursor.u64()?);
            let epoch = cursor.u32()?;
            let generation = cursor.u64()?;
            let frame_before = cursor.hash()?;
            let before = cursor.hash()?;
            let mut text = || -> Option<String> {
                let length = usize::from(cursor.u16()?);
                String::from_utf8(cursor.take(length)?.to_vec()).ok()
            };
            let (origin, vkey) = (text()?, text()?);
            let count = if version == VERSION { 0 } else { usize::from(cursor.u8()?) };
            let mut key_changes = Vec::new();
            for _ in 0..count {
                let length = cursor.u32()? as usize;
                let text = std::str::from_utf8(cursor.take(length)?).ok()?;
                key_changes.push(KeyChange::parse(text).ok()?);
            }
            let identity = Identity { origin, vkey, key_changes: key_changes.into() };
            let range = CompactRange::from_parts(size, nodes).ok()?;
            let position = Position { frame, before: frame_before, range, last_leaf, at, epoch, generation };
            Some(SegmentHeader { number, position, before, identity })
        };
        let header = read().ok_or(bad)?;
        if header.to_bytes() != bytes[..length + 4] {
            return Err(bad);
        }
        Ok((header, length + 4))
    }

    /// `before` of the segment after this one.
    pub fn chain(&self, last_frame: &Hash) -> Hash {
        sha256_parts(&[&self.to_bytes(), &last_frame.0])
    }

    /// Every byte of the header by the name of its field.
    pub fn layout(&self) -> Vec<(&'static str, Range<usize>)> {
        let nodes = self.position.range.nodes().len() * 32;
        let mut rows = vec![
            ("segment magic", 8),
            ("segment version", 2),
            ("segment header length", 4),
            ("segment number", 4),
            ("segment first frame", 8),
            ("segment size", 8),
            ("segment range count", 1),
            ("segment range", nodes),
            ("segment last leaf", 32),
            ("segment at", 8),
            ("segment epoch", 4),
            ("segment generation", 8),
            ("segment frame before", 32),
            ("segment before", 32),
            ("segment origin length", 2),
            ("segment origin", self.identity.origin.len()),
            ("segment vkey length", 2),
            ("segment vkey", self.identity.vkey.len()),
        ];
        if !self.identity.key_changes.is_empty() {
            rows.push(("segment change count", 1));
        }
        for change in self.identity.key_changes.iter() {
            rows.extend([("segment change length", 4), ("segment change", change.to_text().len())]);
        }
        rows.push(("segment check sum", 4));
        let mut at = 0;
        rows.iter()
            .map(|(name, length)| {
                at += length;
                (*name, at - length..at)
            })
            .collect()
    }
}
