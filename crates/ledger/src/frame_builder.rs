//! Building a frame: entries are pushed one by one, then the frame is finished as one piece of bytes.

use proof::entry::{Entry, EntryId, Personal};
use proof::hash::{Hash, leaf, sha256};
use proof::time::UnixMillis;

use crate::entries::ENTRY_RECORD_BYTES;
use crate::frame::{ENTRIES_MAX, FIXED_HEADER_BYTES, MAGIC, SECTION_ROW_BYTES, VERSION};

/// One entry to be written into a frame.
pub(crate) struct NewEntry<'a> {
    /// Kind name.
    pub(crate) kind: &'a str,
    /// Class name.
    pub(crate) class: &'a str,
    /// Period key id.
    pub(crate) period: u32,
    /// Entry id.
    pub(crate) id: EntryId,
    /// Commitment to the facts.
    pub(crate) facts: Hash,
    /// Tag and commitment of the personal body.
    pub(crate) personal: Option<Personal>,
    /// Sealed record.
    pub(crate) sealed: &'a [u8],
    /// H(sealed record).
    pub(crate) digest: Hash,
}

/// What a frame says of its writer and its place.
#[derive(Debug, Clone)]
pub(crate) struct FrameHead {
    /// Frame number.
    pub(crate) number: u64,
    /// Index of the first entry.
    pub(crate) first_index: u64,
    /// Time of the commit.
    pub(crate) at: UnixMillis,
    /// Writer id.
    pub(crate) writer: u64,
    /// Epoch.
    pub(crate) epoch: u32,
    /// Key-store generation needed.
    pub(crate) generation: u64,
    /// H(frame before).
    pub(crate) before: Hash,
    /// Signed checkpoint of the frame before.
    pub(crate) checkpoint: String,
}

struct BodySection {
    class: u8,
    period: u32,
    ends: Vec<u8>,
    data: Vec<u8>,
    digests: Vec<u8>,
}

/// Collects entries and writes the frame.
#[derive(Default)]
pub(crate) struct FrameBuilder {
    kinds: Vec<String>,
    classes: Vec<String>,
    records: Vec<u8>,
    leaves: Vec<u8>,
    bodies: Vec<BodySection>,
    json: Vec<u8>,
}

impl FrameBuilder {
    /// Number of entries collected.
    pub(crate) fn count(&self) -> usize {
        self.records.len() / ENTRY_RECORD_BYTES
    }

    /// The periods that it has bodies of.
    pub(crate) fn periods(&self) -> Vec<u32> {
        self.bodies.iter().map(|body| body.period).collect()
    }

    /// Adds an entry and gives its leaf hash.
    pub(crate) fn push(&mut self, prev: Hash, at: UnixMillis, entry: &NewEntry<'_>) -> Hash {
        let kind = place_of(&mut self.kinds, entry.kind);
        let class = place_of(&mut self.classes, entry.class) as u8;
        let known = self.bodies.iter().position(|body| (body.class, body.period) == (class, entry.period));
        let section = known.unwrap_or_else(|| {
            self.bodies.push(BodySection {
                class,
                period: entry.period,
                ends: Vec::new(),
                data: Vec::new(),
                digests: Vec::new(),
            });
            self.bodies.len() - 1
        });
        let body = &mut self.bodies[section];
        body.data.extend_from_slice(entry.sealed);
        body.ends.extend_from_slice(&(body.data.len() as u32).to_be_bytes());
        body.digests.extend_from_slice(&entry.digest.0);
        let record = &mut self.records;
        record.extend_from_slice(&0u32.to_be_bytes());
        record.extend_from_slice(&(kind as u16).to_be_bytes());
        record.push(class);
        record.push(u8::from(entry.personal.is_some()));
        record.extend_from_slice(&(section as u16).to_be_bytes());
        record.extend_from_slice(&entry.id.0);
        record.extend_from_slice(&entry.personal.map_or([0; 16], |personal| personal.who.0));
        record.extend_from_slice(&entry.facts.0);
        record.extend_from_slice(&entry.personal.map_or([0; 32], |personal| personal.commitment.0));
        let whole = Entry {
            prev,
            at,
            id: entry.id,
            kind: entry.kind,
            class: entry.class,
            personal: entry.personal,
            facts: entry.facts,
            sealed: entry.digest,
        };
        self.json.clear();
        whole.write(&mut self.json);
        let hash = leaf(&self.json);
        self.leaves.extend_from_slice(&hash.0);
        hash
    }

    /// Writes the frame and gives its bytes and H(frame).
    pub(crate) fn finish(&mut self, head: &FrameHead, size: u64, root: &Hash) -> (Vec<u8>, Hash) {
        let count = self.count();
        assert!(count <= ENTRIES_MAX && head.first_index + count as u64 == size, "the frame fits its place");
        let mut entries = Vec::with_capacity(self.records.len() + 256);
        entries.extend_from_slice(&(self.kinds.len() as u16).to_be_bytes());
        entries.push(self.classes.len() as u8);
        for name in self.kinds.iter().chain(&self.classes) {
            entries.push(name.len() as u8);
            entries.extend_from_slice(name.as_bytes());
        }
        entries.append(&mut self.records);
        let mut rows: Vec<([u8; 6], Hash)> = Vec::new();
        let mut payloads: Vec<Vec<&[u8]>> = Vec::new();
        let body_counts: Vec<[u8; 4]> =
            self.bodies.iter().map(|body| (body.ends.len() as u32 / 4).to_be_bytes()).collect();
        if count > 0 {
            rows.push(([1, 0, 0, 0, 0, 0], sha256(&entries)));
            payloads.push(vec![&entries]);
            rows.push(([2, 0, 0, 0, 0, 0], sha256(&self.leaves)));
            payloads.push(vec![&self.leaves]);
            for (body, body_count) in self.bodies.iter().zip(&body_counts) {
                let period = body.period.to_be_bytes();
                rows.push(([3, body.class, period[0], period[1], period[2], period[3]], sha256(&body.digests)));
                payloads.push(vec![body_count, &body.ends, &body.data]);
            }
        }
        let length = FIXED_HEADER_BYTES + head.checkpoint.len() + 2 + SECTION_ROW_BYTES * rows.len();
        let total: usize = payloads.iter().flatten().map(|part| part.len()).sum();
        let mut out = Vec::with_capacity(length + 4 + total + 9 * rows.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&head.number.to_be_bytes());
        out.extend_from_slice(&head.first_index.to_be_bytes());
        out.extend_from_slice(&(count as u32).to_be_bytes());
        out.extend_from_slice(&head.at.0.to_be_bytes());
        out.extend_from_slice(&head.writer.to_be_bytes());
        out.extend_from_slice(&head.epoch.to_be_bytes());
        out.extend_from_slice(&head.generation.to_be_bytes());
        out.extend_from_slice(&head.before.0);
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&root.0);
        out.extend_from_slice(&(head.checkpoint.len() as u16).to_be_bytes());
        out.extend_from_slice(head.checkpoint.as_bytes());
        out.extend_from_slice(&(rows.len() as u16).to_be_bytes());
        for (kind, digest) in &rows {
            out.extend_from_slice(kind);
            out.extend_from_slice(&digest.0);
        }
        assert_eq!(out.len(), length, "the header has the length it says");
        let digest = sha256(&out);
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        for parts in &payloads {
            let start = out.len();
            out.push(0);
            let length: usize = parts.iter().map(|part| part.len()).sum();
            out.extend_from_slice(&(length as u32).to_be_bytes());
            parts.iter().for_each(|part| out.extend_from_slice(part));
            let sum = crc32c::crc32c(&out[start..]);
            out.extend_from_slice(&sum.to_be_bytes());
        }
        let json = std::mem::take(&mut self.json);
        *self = FrameBuilder { json, ..FrameBuilder::default() };
        (out, digest)
    }
}

fn place_of(names: &mut Vec<String>, name: &str) -> usize {
    match names.iter().position(|held| held == name) {
        Some(at) => at,
        None => {
            names.push(name.to_owned());
            names.len() - 1
        }
    }
}
