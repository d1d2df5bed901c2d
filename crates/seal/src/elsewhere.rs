//! The key store's pages in a second place, such as a bucket, of which the folder is a copy
//! (`docs/formats/key-bucket.md`).
//!
//! Each batch of pages is an object there before it is in the folder, made once under a name that follows from its
//! number, so that two writers meet at one name and one of them is told. One object alone is written over, by compare
//! and swap: the head, which has the root slot. So what is destroyed is gone there as it is here: older objects hang on
//! a root key that no longer exists anywhere.

use std::io;
use std::sync::{Mutex, MutexGuard};

use crate::crypto::{Key, KeyedHash, decrypt, encrypt};
use crate::error::Error;
use crate::master::MasterKey;
use crate::random::RandomPool;

const HEAD: &str = "head";
const HEAD_MAGIC: &[u8; 8] = b"CNDRKEYS";
const ROWS_MAGIC: &[u8; 8] = b"CNDRKROW";
const VERSION: u16 = 1;
pub(crate) const SLOT_BYTES: usize = 512;
/// Nonce and box of the key that everything there is authenticated by.
const BOX_BYTES: usize = 12 + 32 + 16;
const MAC_BYTES: usize = 32;
const HEAD_BYTES: usize = 8 + 2 + 16 + BOX_BYTES + 8 + 8 + 4 + 8 + 8 + 4 + 8 + SLOT_BYTES + MAC_BYTES;
/// Of one object of a whole copy, about.
const PART_BYTES: usize = 8 << 20;
/// Batches since the last whole copy before another is made, where they are larger than it.
pub(crate) const CHANGES_MAX: u64 = 4096;

/// An object and what its next version must name.
#[derive(Debug)]
pub struct Held {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the place calls this version.
    pub tag: String,
}

/// A place with named objects, of which it keeps the newest alone: what is destroyed must not stay.
///
/// What was sent once may arrive later: where an answer is lost, a call asks what is there before it sends the same again,
/// and only that.
pub trait Elsewhere: Send + Sync {
    /// Makes an object where there is none. `false`: something else stands there.
    ///
    /// # Errors
    /// It is not known whether it was made.
    fn make(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool>;

    /// The object, if there is one.
    ///
    /// # Errors
    /// The place does not answer.
    fn get(&self, name: &str) -> io::Result<Option<Held>>;

    /// Writes over the version that `before` names, or makes the object where there is none. Gives the new tag; none where
    /// another version stands there.
    ///
    /// # Errors
    /// It is not known whether it was written.
    fn swap(&self, name: &str, bytes: Vec<u8>, before: Option<&str>) -> io::Result<Option<String>>;

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// The place refuses.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Rows of the table of pages.
pub(crate) type Rows = Vec<(i64, Vec<u8>)>;

/// What the head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The store, for ever.
    pub id: [u8; 16],
    boxed: [u8; BOX_BYTES],
    /// Who writes.
    pub writer: u64,
    /// Number of the last batch in the whole copy.
    pub base: u64,
    /// The objects of the whole copy.
    pub parts: u32,
    /// Up to which batches of before it are removed.
    pub swept: u64,
    /// The whole copy of before, while it is not removed.
    pub old_base: u64,
    /// Its objects.
    pub old_parts: u32,
    /// How often it was written.
    pub sequence: u64,
    /// Newest slot of the root file.
    pub slot: [u8; SLOT_BYTES],
}

/// The key that objects are authenticated by, wrapped by the master key.
fn boxed(mac: &Key, master: &MasterKey, id: [u8; 16]) -> [u8; BOX_BYTES] {
    let nonce = RandomPool::default().take::<12>();
    let mut bytes = nonce.to_vec();
    bytes.extend_from_slice(&mac.0);
    encrypt(&master.0, nonce, &id, &mut bytes, 12);
    let mut boxed = [0; BOX_BYTES];
    boxed.copy_from_slice(&bytes);
    boxed
}

fn unboxed(boxed: &[u8; BOX_BYTES], master: &MasterKey, id: [u8; 16]) -> Result<Key, Error> {
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&boxed[..12]);
    let mut bytes = zeroize::Zeroizing::new(boxed[12..].to_vec());
    let plain = decrypt(&master.0, nonce, &id, &mut bytes).map_err(|_| Error::WrongMasterKey)?;
    let mut key = [0; 32];
    key.copy_from_slice(plain);
    Ok(Key(key))
}

impl Head {
    fn new(id: [u8; 16], boxed: [u8; BOX_BYTES], writer: u64) -> Head {
        let slot = [0; SLOT_BYTES];
        Head { id, boxed, writer, base: 0, parts: 0, swept: 0, old_base: 0, old_parts: 0, sequence: 0, slot }
    }

    fn to_bytes(&self, mac: &KeyedHash) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(HEAD_MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.boxed);
        bytes.extend_from_slice(&self.writer.to_be_bytes());
        bytes.extend_from_slice(&self.base.to_be_bytes());
        bytes.extend_from_slice(&self.parts.to_be_bytes());
        bytes.extend_from_slice(&self.swept.to_be_bytes());
        bytes.extend_from_slice(&self.old_base.to_be_bytes());
        bytes.extend_from_slice(&self.old_parts.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.slot);
        signed(bytes, mac)
    }

    /// Gives the key too that it and all other objects are authenticated by.
    fn parse(bytes: &[u8], master: &MasterKey) -> Result<(Head, KeyedHash), Error> {
        let short = || Error::Corrupt { what: "head of the keys elsewhere", why: "it is not as long as a head is" };
        if bytes.len() != HEAD_BYTES {
            return Err(short());
        }
        let mut rest = body(bytes, HEAD_MAGIC)?;
        let id = *rest.split_off(..16).and_then(|id| id.first_chunk::<16>()).ok_or_else(short)?;
        let boxed = *rest.split_off(..BOX_BYTES).and_then(|id| id.first_chunk::<BOX_BYTES>()).ok_or_else(short)?;
        let mac = KeyedHash::new(&unboxed(&boxed, master, id)?.0);
        check(bytes, &mac)?;
        let (writer, base, parts) = (number(&mut rest, 8)?, number(&mut rest, 8)?, number(&mut rest, 4)? as u32);
        let (swept, old_base, old_parts) = (number(&mut rest, 8)?, number(&mut rest, 8)?, number(&mut rest, 4)? as u32);
        let sequence = number(&mut rest, 8)?;
        let mut slot = [0; SLOT_BYTES];
        slot.copy_from_slice(rest);
        Ok((Head { id, boxed, writer, base, parts, swept, old_base, old_parts, sequence, slot }, mac))
    }
}

fn bad(why: &'static str) -> Error {
    Error::Corrupt { what: "object of the keys elsewhere", why }
}

fn signed(mut bytes: Vec<u8>, mac: &KeyedHash) -> Vec<u8> {
    let code = mac.digest(&[&bytes]);
    bytes.extend_from_slice(&code);
    bytes
}

fn check(bytes: &[u8], mac: &KeyedHash) -> Result<(), Error> {
    let (body, code) = bytes.split_last_chunk::<MAC_BYTES>().ok_or_else(|| bad("it is too short"))?;
    let fits = mac.digest(&[body]) == *code;
    if fits { Ok(()) } else { Err(bad("its authentication code does not fit: it was not written by this trail")) }
}

/// What stands between the version and the code.
fn body<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Result<&'a [u8], Error> {
    let (body, _) = bytes.split_last_chunk::<MAC_BYTES>().ok_or_else(|| bad("it is too short"))?;
    let body = body.strip_prefix(magic).ok_or_else(|| bad("it does not begin with its mark"))?;
    let body = body.strip_prefix(&VERSION.to_be_bytes());
    body.ok_or_else(|| bad("it is of a version that this program does not know"))
}

fn number(rest: &mut &[u8], bytes: usize) -> Result<u64, Error> {
    let bytes = rest.split_off(..bytes).ok_or_else(|| bad("it ends too early"))?;
    Ok(proof::encoding::big_endian(bytes))
}

/// `name`: what the object is called, so that none can stand for another.
fn rows_bytes(name: &str, rows: &[(i64, Vec<u8>)], mac: &KeyedHash) -> Vec<u8> {
    let length: usize = rows.iter().map(|(_, blob)| blob.len() + 12).sum();
    let mut bytes = Vec::with_capacity(length + 80);
    bytes.extend_from_slice(ROWS_MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&(name.len() as u16).to_be_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&(rows.len() as u32).to_be_bytes());
    for (id, blob) in rows {
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&(blob.len() as u32).to_be_bytes());
        bytes.extend_from_slice(blob);
    }
    signed(bytes, mac)
}

fn parse_rows(bytes: &[u8], name: &str, mac: &KeyedHash) -> Result<Rows, Error> {
    check(bytes, mac)?;
    let mut rest = body(bytes, ROWS_MAGIC)?;
    let length = number(&mut rest, 2)? as usize;
    if rest.split_off(..length) != Some(name.as_bytes()) {
        return Err(bad("it stands under the name of another"));
    }
    let count = number(&mut rest, 4)?;
    let mut rows = Vec::new();
    for _ in 0..count {
        let id = number(&mut rest, 8)? as i64;
        let length = number(&mut rest, 4)? as usize;
        let blob = rest.split_off(..length).ok_or_else(|| bad("it ends too early"))?;
        rows.push((id, blob.to_vec()));
    }
    if rest.is_empty() { Ok(rows) } else { Err(bad("it goes on after its last row")) }
}

fn change_name(number: u64) -> String {
    format!("change/{number:020}")
}

fn part_name(base: u64, part: u32) -> String {
    format!("base/{base:020}/{part:06}")
}

fn io(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { action, what: "keys elsewhere", source }
}

/// Whether a place has keys.
///
/// # Errors
/// It does not answer.
pub fn is_begun(place: &dyn Elsewhere) -> io::Result<bool> {
    Ok(place.get(HEAD)?.is_some())
}

struct State {
    head: Head,
    tag: Option<String>,
    /// Something was sent of which it is not known whether it arrived, or another writer came: nothing more is sent.
    failed: bool,
}

/// The place, as the one who writes there.
pub(crate) struct Remote {
    place: Box<dyn Elsewhere>,
    mac: KeyedHash,
    state: Mutex<State>,
}

impl Remote {
    /// Reads the head, if there is one; nothing is written.
    pub(crate) fn find(place: Box<dyn Elsewhere>, master: &MasterKey) -> Result<(Remote, Option<Head>), Error> {
        let mut random = RandomPool::default();
        let writer = u64::from_be_bytes(random.take());
        let (head, mac, tag, found) = match place.get(HEAD).map_err(io("read"))? {
            Some(held) => {
                let (found, mac) = Head::parse(&held.bytes, master)?;
                (Head { writer, ..found.clone() }, mac, Some(held.tag), Some(found))
            }
            None => {
                let (id, key) = (random.take(), Key(random.take()));
                (Head::new(id, boxed(&key, master, id), writer), KeyedHash::new(&key.0), None, None)
            }
        };
        let state = Mutex::new(State { head, tag, failed: false });
        Ok((Remote { place, mac, state }, found))
    }

    /// The next head is wrapped by another master key.
    pub(crate) fn rewrap(&self, old: &MasterKey, new: &MasterKey) -> Result<(), Error> {
        let mut state = self.state()?;
        let key = unboxed(&state.head.boxed, old, state.head.id)?;
        state.head.boxed = boxed(&key, new, state.head.id);
        Ok(())
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state.lock().map_err(|_| Error::Stopped)?;
        if state.failed { Err(Error::Stopped) } else { Ok(state) }
    }

    pub(crate) fn id(&self) -> Result<[u8; 16], Error> {
        Ok(self.state()?.head.id)
    }

    fn swap(&self, change: impl FnOnce(&mut Head)) -> Result<(), Error> {
        let mut state = self.state()?;
        let mut head = state.head.clone();
        change(&mut head);
        head.sequence += 1;
        // Until it is known what stands there.
        state.failed = true;
        let tag = self.place.swap(HEAD, head.to_bytes(&self.mac), state.tag.as_deref()).map_err(io("write"))?;
        let tag = tag.ok_or(Error::TakenOver)?;
        *state = State { head, tag: Some(tag), failed: false };
        Ok(())
    }

    /// What the head will say of the root, when it is made.
    pub(crate) fn begin(&self, slot: [u8; SLOT_BYTES]) -> Result<(), Error> {
        self.state()?.head.slot = slot;
        Ok(())
    }

    /// What the head says of the root.
    pub(crate) fn slot(&self) -> Result<[u8; SLOT_BYTES], Error> {
        Ok(self.state()?.head.slot)
    }

    /// Number of the last batch in the whole copy.
    pub(crate) fn base(&self) -> Result<u64, Error> {
        Ok(self.state()?.head.base)
    }

    /// Says who writes from now on.
    pub(crate) fn take_over(&self) -> Result<(), Error> {
        self.swap(|_| {})
    }

    /// Puts the newest slot of the root file in the place of the one before.
    pub(crate) fn put_root(&self, slot: [u8; SLOT_BYTES]) -> Result<(), Error> {
        self.swap(|head| head.slot = slot)
    }

    /// Makes a batch durable there. `false`: another writer made one of this number.
    pub(crate) fn try_change(&self, number: u64, rows: &[(i64, Vec<u8>)]) -> Result<bool, Error> {
        let mut state = self.state()?;
        state.failed = true;
        let name = change_name(number);
        let made = self.place.make(&name, rows_bytes(&name, rows, &self.mac)).map_err(io("write"))?;
        state.failed = false;
        Ok(made)
    }

    /// The same, of the writer that nobody has taken the place over from.
    pub(crate) fn change(&self, number: u64, rows: &[(i64, Vec<u8>)]) -> Result<(), Error> {
        if self.try_change(number, rows)? {
            return Ok(());
        }
        self.state()?.failed = true;
        Err(Error::TakenOver)
    }

    /// Rows of a batch, if it was made.
    pub(crate) fn read_change(&self, number: u64) -> Result<Option<Rows>, Error> {
        let name = change_name(number);
        let held = self.place.get(&name).map_err(io("read"))?;
        held.map(|held| parse_rows(&held.bytes, &name, &self.mac)).transpose()
    }

    /// Gives the rows of a whole copy, object by object.
    pub(crate) fn read_base(&self, head: &Head, mut take: impl FnMut(Rows) -> Result<(), Error>) -> Result<(), Error> {
        for part in 0..head.parts {
            let name = part_name(head.base, part);
            let held = self.place.get(&name).map_err(io("read"))?;
            let missing = || Error::Corrupt { what: "keys elsewhere", why: "an object of the whole copy is missing" };
            take(parse_rows(&held.ok_or_else(missing)?.bytes, &name, &self.mac)?)?;
        }
        Ok(())
    }

    /// Writes a whole copy as of batch `base`, and removes what it makes needless. `rows` gives the next row.
    pub(crate) fn write_base(
        &self,
        base: u64,
        rows: &mut dyn FnMut() -> Result<Option<(i64, Vec<u8>)>, Error>,
    ) -> Result<(), Error> {
        let (mut part, mut held, mut bytes) = (0, Vec::new(), 0);
        loop {
            let row = rows()?;
            let last = row.is_none();
            if let Some(row) = row {
                bytes += row.1.len();
                held.push(row);
            }
            if bytes >= PART_BYTES || (last && !held.is_empty()) {
                // One that a stop left under this name has other nonces: it is none of ours, and no head names it.
                let name = part_name(base, part);
                self.place.remove(&name).map_err(io("remove"))?;
                if !self.place.make(&name, rows_bytes(&name, &held, &self.mac)).map_err(io("write"))? {
                    return Err(Error::TakenOver);
                }
                (part, bytes) = (part + 1, 0);
                held.clear();
            }
            if last {
                break;
            }
        }
        self.swap(|head| {
            (head.old_base, head.old_parts) = (head.base, head.parts);
            (head.base, head.parts) = (base, part);
        })?;
        // If we stop before this line: the next start does it.
        self.sweep()
    }

    /// Removes the whole copy of before, and the batches that the one of now has.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let head = self.state()?.head.clone();
        if head.swept >= head.base {
            return Ok(());
        }
        for part in 0..head.old_parts {
            self.place.remove(&part_name(head.old_base, part)).map_err(io("remove"))?;
        }
        for number in head.swept + 1..=head.base {
            self.place.remove(&change_name(number)).map_err(io("remove"))?;
        }
        self.swap(|held| (held.swept, held.old_parts) = (head.base, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_rows_come_back_and_every_changed_byte_is_noticed() {
        let master = MasterKey::generate(&mut RandomPool::default());
        let (id, key) = ([7; 16], Key([3; 32]));
        let (swept, old_base, old_parts, slot) = (3, 8, 9, [6; SLOT_BYTES]);
        let boxed = boxed(&key, &master, id);
        let head = Head { id, boxed, writer: 1, base: 2, parts: 4, swept, old_base, old_parts, sequence: 5, slot };
        let mac = KeyedHash::new(&key.0);
        let bytes = head.to_bytes(&mac);
        assert_eq!(Head::parse(&bytes, &master).expect("it reads").0, head);
        let other = MasterKey::generate(&mut RandomPool::default());
        assert!(matches!(Head::parse(&bytes, &other), Err(Error::WrongMasterKey)));
        let rows = vec![(0, vec![1, 2]), (1 << 56 | 9, Vec::new())];
        let change = rows_bytes("change/8", &rows, &mac);
        assert_eq!(parse_rows(&change, "change/8", &mac).expect("it reads"), rows);
        assert!(parse_rows(&change, "change/9", &mac).is_err());
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Head::parse(&other, &master).is_err(), "byte {at}");
        }
        for at in 0..change.len() {
            let mut other = change.clone();
            other[at] ^= 1;
            assert!(parse_rows(&other, "change/8", &mac).is_err(), "byte {at}");
            assert!(parse_rows(&change[..at], "change/8", &mac).is_err());
        }
    }
}
