//! What a leaf page of subjects holds, and what a bucket of identifiers holds.

use crate::crypto::Key;
use crate::error::Error;

/// Subjects in a leaf page: the page that a new subject rewrites, so smaller than the fan-out of wrapping keys.
pub(crate) const SUBJECTS_IN_LEAF: u64 = 64;
/// Identifiers in a bucket, on average, before buckets are split.
pub(crate) const BUCKET_LOAD: u64 = 64;
/// tag, subject, flags.
const BUCKET_ENTRY_BYTES: usize = 25;

/// An identifier as the store knows it: its type and keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdentifierTag {
    /// [`record::identifier::IdentifierType`] as a byte.
    pub kind: u8,
    /// HMAC under the identifier key over the typed normal form, version 1.
    pub tag: [u8; 16],
}

/// One subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Never used.
    Free,
    /// Keys are there.
    Live { secret: Key, identifiers: Vec<IdentifierTag>, links: Vec<u64> },
    /// Keys were destroyed.
    Erased,
}

fn corrupt(why: &'static str) -> Error {
    Error::Corrupt { what: "key store subjects", why }
}

pub(crate) fn read_leaf(bytes: &[u8]) -> Result<Vec<Slot>, Error> {
    let mut slots = Vec::with_capacity(SUBJECTS_IN_LEAF as usize);
    let mut rest = bytes;
    while let Some((state, after)) = rest.split_first() {
        rest = after;
        slots.push(match state {
            0 => Slot::Free,
            2 => Slot::Erased,
            1 => {
                let (secret, after) = rest.split_first_chunk::<32>().ok_or(corrupt("ends inside a secret"))?;
                let (count, after) = after.split_first().ok_or(corrupt("ends before its identifiers"))?;
                let (tags, after) =
                    after.split_at_checked(usize::from(*count) * 17).ok_or(corrupt("ends inside an identifier"))?;
                let (count, after) = after.split_first().ok_or(corrupt("ends before its links"))?;
                let (links, after) =
                    after.split_at_checked(usize::from(*count) * 8).ok_or(corrupt("ends inside a link"))?;
                rest = after;
                Slot::Live {
                    secret: Key(*secret),
                    identifiers: tags
                        .chunks_exact(17)
                        .map(|b| IdentifierTag { kind: b[0], tag: array(&b[1..]) })
                        .collect(),
                    links: links.chunks_exact(8).map(|b| u64::from_be_bytes(array(b))).collect(),
                }
            }
            _ => return Err(corrupt("a state that this program does not know")),
        });
    }
    Ok(slots)
}

pub(crate) fn write_leaf(slots: &[Slot], out: &mut Vec<u8>) {
    out.clear();
    for slot in slots {
        match slot {
            Slot::Free => out.push(0),
            Slot::Erased => out.push(2),
            Slot::Live { secret, identifiers, links } => {
                out.push(1);
                out.extend_from_slice(&secret.0);
                out.push(identifiers.len() as u8);
                for identifier in identifiers {
                    out.push(identifier.kind);
                    out.extend_from_slice(&identifier.tag);
                }
                out.push(links.len() as u8);
                links.iter().for_each(|link| out.extend_from_slice(&link.to_be_bytes()));
            }
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

/// What an identifier points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) subject: u64,
    /// Two customers used it: it names nobody any more.
    pub(crate) shared: bool,
}

pub(crate) fn find(bucket: &[u8], tag: &[u8; 16]) -> Option<Pointer> {
    bucket
        .chunks_exact(BUCKET_ENTRY_BYTES)
        .find(|entry| &entry[..16] == tag)
        .map(|entry| Pointer { subject: u64::from_be_bytes(array(&entry[16..24])), shared: entry[24] & 1 == 1 })
}

pub(crate) fn put(bucket: &mut Vec<u8>, tag: &[u8; 16], pointer: Pointer) -> bool {
    let added = !remove(bucket, tag);
    bucket.extend_from_slice(tag);
    bucket.extend_from_slice(&pointer.subject.to_be_bytes());
    bucket.push(u8::from(pointer.shared));
    added
}

pub(crate) fn remove(bucket: &mut Vec<u8>, tag: &[u8; 16]) -> bool {
    match bucket.chunks_exact(BUCKET_ENTRY_BYTES).position(|entry| &entry[..16] == tag) {
        Some(at) => {
            bucket.drain(at * BUCKET_ENTRY_BYTES..(at + 1) * BUCKET_ENTRY_BYTES);
            true
        }
        None => false,
    }
}

/// Moves the entries that belong to bucket `high` once there are `high + 1` buckets.
pub(crate) fn split(bucket: &mut Vec<u8>, high: u64) -> Vec<u8> {
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for entry in bucket.chunks_exact(BUCKET_ENTRY_BYTES) {
        let target = bucket_of(&array(&entry[..16]), high + 1);
        if target == high { go.extend_from_slice(entry) } else { stay.extend_from_slice(entry) }
    }
    *bucket = stay;
    go
}

/// Linear hashing (Litwin, 1980): with `count` buckets and 2^l the largest power of two not above it, a tag belongs to
/// its low l+1 bits, or to its low l bits if there is no such bucket yet.
pub(crate) fn bucket_of(tag: &[u8; 16], count: u64) -> u64 {
    let hash = u64::from_be_bytes(array(&tag[..8]));
    let level = 63 - count.leading_zeros();
    let wide = hash & ((2u64 << level) - 1);
    if wide < count { wide } else { hash & ((1u64 << level) - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_one_bucket_at_a_time_keeps_every_tag_findable() {
        let mut buckets = vec![Vec::new()];
        let tags: Vec<[u8; 16]> = (0..500u32)
            .map(|i| {
                let mut t = [0; 16];
                t[..8].copy_from_slice(&proof::hash::sha256(&i.to_be_bytes()).0[..8]);
                t
            })
            .collect();
        for (i, tag) in tags.iter().enumerate() {
            let count = buckets.len() as u64;
            put(&mut buckets[bucket_of(tag, count) as usize], tag, Pointer { subject: i as u64, shared: false });
            if i % 7 == 0 {
                let high = buckets.len() as u64;
                let low = high - (1 << (63 - high.leading_zeros()));
                let moved = split(&mut buckets[low as usize], high);
                buckets.push(moved);
            }
        }
        for (i, tag) in tags.iter().enumerate() {
            let bucket = &buckets[bucket_of(tag, buckets.len() as u64) as usize];
            assert_eq!(find(bucket, tag).map(|p| p.subject), Some(i as u64));
        }
    }
}
