//! The key store's pages in a second place, such as a bucket, of which the folder is a copy
//! (`docs/formats/key-bucket.md`).
//!
//! Each batch of pages is an object there before it is in the folder, made once under a name that follows from its
//! number, so that two writers meet at one name and one of them is told. One object alone is written over, by compare
//! and swap: the head, which has the root slot. So what is destroyed is gone there as it is here: older objects hang on
//! a root key that no longer exists anywhere.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

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
const BASE_BYTES: usize = 8 + 8 + 8 + 4;
const HEAD_BYTES: usize =
    8 + 2 + 16 + BOX_BYTES + 8 + BASE_BYTES + MAC_BYTES + BASE_BYTES + 8 + 8 + SLOT_BYTES + MAC_BYTES;
/// Of one object of a whole copy, about.
pub(crate) const PART_BYTES: u64 = 8 << 20;
/// Batches since the last whole copy before another is made, where they are larger than it.
pub(crate) const CHANGES_MAX: u64 = 4096;
/// Batches that are asked for at once.
const AHEAD: u64 = 8;

/// Authentication code of an object.
pub(crate) type Code = [u8; MAC_BYTES];

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

/// A batch as it stands there: its rows, the code of the one before it, and its own.
pub(crate) struct Change {
    pub rows: Rows,
    pub before: Code,
    pub code: Code,
}

/// A whole copy, made while pages went on
/// being written: a page of it may be of any batch between the two, and with all batches up to the second it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Base {
    /// The last batch that all of it has.
    pub number: u64,
    /// The last batch that any of it has.
    pub until: u64,
    /// In the names of its objects, so that none ever has the name of another.
    pub id: u64,
    /// Its objects; of one that is to be removed, at most.
    pub parts: u32,
}

/// What the head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The store, for ever.
    pub id: [u8; 16],
    boxed: [u8; BOX_BYTES],
    /// Who writes.
    pub writer: u64,
    /// The whole copy.
    pub base: Base,
    /// Code of the last batch that all of it has.
    pub code: Code,
    /// A whole copy that is to be removed: the one of before, or one that was begun.
    pub going: Base,
    /// Up to which number batches are removed.
    pub swept: u64,
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
        let (base, code, slot) = (Base::default(), [0; MAC_BYTES], [0; SLOT_BYTES]);
        Head { id, boxed, writer, base, code, going: base, swept: 0, sequence: 0, slot }
    }

    fn to_bytes(&self, mac: &KeyedHash) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(HEAD_MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.boxed);
        bytes.extend_from_slice(&self.writer.to_be_bytes());
        self.base.put(&mut bytes);
        bytes.extend_from_slice(&self.code);
        self.going.put(&mut bytes);
        bytes.extend_from_slice(&self.swept.to_be_bytes());
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
        let (id, boxed) = (array::<16>(&mut rest)?, array::<BOX_BYTES>(&mut rest)?);
        let mac = KeyedHash::new(&unboxed(&boxed, master, id)?.0);
        check(bytes, &mac)?;
        let writer = number(&mut rest, 8)?;
        let (base, code, going) = (Base::take(&mut rest)?, array(&mut rest)?, Base::take(&mut rest)?);
        let (swept, sequence, slot) = (number(&mut rest, 8)?, number(&mut rest, 8)?, array(&mut rest)?);
        Ok((Head { id, boxed, writer, base, code, going, swept, sequence, slot }, mac))
    }
}

impl Base {
    /// The one that a place begins with. Of a beginning that was cut off its name is all that is known.
    pub(crate) fn first(store: &[u8; 16], parts: u32) -> Base {
        Base { number: 1, until: 1, id: proof::encoding::big_endian(&store[..8]), parts }
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.until.to_be_bytes());
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&self.parts.to_be_bytes());
    }

    fn take(rest: &mut &[u8]) -> Result<Base, Error> {
        let (number, until) = (number(rest, 8)?, number(rest, 8)?);
        Ok(Base { number, until, id: self::number(rest, 8)?, parts: self::number(rest, 4)? as u32 })
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

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let bytes = rest.split_off(..N).and_then(|bytes| bytes.first_chunk::<N>());
    bytes.copied().ok_or_else(|| bad("it ends too early"))
}

/// `name`: what the object is called, so that none can stand for another. `writer`: no two send the same bytes.
/// `before`: what it follows.
fn rows_bytes(name: &str, writer: u64, before: &Code, rows: &[(i64, Vec<u8>)], mac: &KeyedHash) -> Vec<u8> {
    let length: usize = rows.iter().map(|(_, blob)| blob.len() + 12).sum();
    let mut bytes = Vec::with_capacity(length + 192);
    bytes.extend_from_slice(ROWS_MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&(name.len() as u16).to_be_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&writer.to_be_bytes());
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(&(rows.len() as u32).to_be_bytes());
    for (id, blob) in rows {
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&(blob.len() as u32).to_be_bytes());
        bytes.extend_from_slice(blob);
    }
    signed(bytes, mac)
}

fn code_of(bytes: &[u8]) -> Result<Code, Error> {
    bytes.last_chunk::<MAC_BYTES>().copied().ok_or_else(|| bad("it is too short"))
}

fn parse_rows(bytes: &[u8], name: &str, mac: &KeyedHash) -> Result<Change, Error> {
    check(bytes, mac)?;
    let mut rest = body(bytes, ROWS_MAGIC)?;
    let length = number(&mut rest, 2)? as usize;
    if rest.split_off(..length) != Some(name.as_bytes()) {
        return Err(bad("it stands under the name of another"));
    }
    let (_writer, before) = (number(&mut rest, 8)?, array(&mut rest)?);
    let count = number(&mut rest, 4)?;
    let mut rows = Vec::new();
    for _ in 0..count {
        let id = number(&mut rest, 8)? as i64;
        let length = number(&mut rest, 4)? as usize;
        let blob = rest.split_off(..length).ok_or_else(|| bad("it ends too early"))?;
        rows.push((id, blob.to_vec()));
    }
    let whole = rest.is_empty();
    if whole { Ok(Change { rows, before, code: code_of(bytes)? }) } else { Err(bad("it goes on after its last row")) }
}

/// Names have the store: what one of before left under the same prefix stands in nobody's way.
fn change_name(store: &[u8; 16], number: u64) -> String {
    format!("{}/change/{number:020}", proof::encoding::hex(store))
}

fn part_name(store: &[u8; 16], base: &Base, part: u32) -> String {
    format!("{}/base/{:020}-{:016x}/{part:06}", proof::encoding::hex(store), base.number, base.id)
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
    pub id: [u8; 16],
    writer: u64,
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
        let id = head.id;
        let state = Mutex::new(State { head, tag, failed: false });
        Ok((Remote { place, id, writer, mac, state }, found))
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

    /// The whole copy that is there.
    pub(crate) fn base(&self) -> Result<Base, Error> {
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

    /// Whether nobody took the place over since we did.
    fn is_ours(&self) -> Result<bool, Error> {
        let held = self.place.get(HEAD).map_err(io("read"))?;
        Ok(held.map(|held| held.tag) == self.state()?.tag)
    }

    /// Makes a batch durable there, after the one with the code `before`; gives its code. None: another writer made one of
    /// this number.
    fn try_change(&self, number: u64, before: &Code, rows: &[(i64, Vec<u8>)]) -> Result<Option<Code>, Error> {
        let mut state = self.state()?;
        state.failed = true;
        let name = change_name(&self.id, number);
        let bytes = rows_bytes(&name, self.writer, before, rows, &self.mac);
        let code = code_of(&bytes)?;
        let made = self.place.make(&name, bytes).map_err(io("write"))?;
        state.failed = false;
        Ok(made.then_some(code))
    }

    /// An empty batch of our own: a writer of before who still comes finds its place taken. None: somebody else's stands
    /// there.
    pub(crate) fn fence(&self, number: u64, before: &Code) -> Result<Option<Code>, Error> {
        // Who came after us has written the head before its batch: two who start at one time do not put each other out.
        if self.is_ours()? { self.try_change(number, before, &[]) } else { Err(Error::TakenOver) }
    }

    /// The same, of the writer that nobody has taken the place over from.
    pub(crate) fn change(&self, number: u64, before: &Code, rows: &[(i64, Vec<u8>)]) -> Result<Code, Error> {
        if let Some(code) = self.try_change(number, before, rows)? {
            return Ok(code);
        }
        self.state()?.failed = true;
        Err(Error::TakenOver)
    }

    /// A batch, if it was made.
    pub(crate) fn read_change(&self, number: u64) -> Result<Option<Change>, Error> {
        let name = change_name(&self.id, number);
        let held = self.place.get(&name).map_err(io("read"))?;
        held.map(|held| parse_rows(&held.bytes, &name, &self.mac)).transpose()
    }

    /// The next few batches from a number on, up to the first that was not made.
    pub(crate) fn read_changes(&self, from: u64) -> Result<Vec<Change>, Error> {
        let asked: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (from..from + AHEAD).map(|number| scope.spawn(move || self.read_change(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Stopped))).collect()
        });
        asked.into_iter().map_while(Result::transpose).collect()
    }

    /// Gives the rows of the whole copy, object by object.
    pub(crate) fn read_base(&self, base: &Base, mut take: impl FnMut(Rows) -> Result<(), Error>) -> Result<(), Error> {
        for part in 0..base.parts {
            let name = part_name(&self.id, base, part);
            let held = self.place.get(&name).map_err(io("read"))?;
            let missing = || Error::Corrupt { what: "keys elsewhere", why: "an object of the whole copy is missing" };
            take(parse_rows(&held.ok_or_else(missing)?.bytes, &name, &self.mac)?.rows)?;
        }
        Ok(())
    }

    /// Writes a whole copy with all of the batch `number`, which has the code `code`. `rows` gives the next part, and none
    /// at the end, and which batch is the newest that it has seen. `parts_max`: how many they are at most.
    ///
    /// What it makes needless is removed by [`Remote::sweep`], which must have been done before.
    pub(crate) fn write_base(
        &self,
        (number, code): (u64, Code),
        parts_max: u32,
        mut rows: impl FnMut() -> Result<(Rows, u64), Error>,
    ) -> Result<(), Error> {
        let first = self.state()?.tag.is_none();
        let mut base = Base::first(&self.id, parts_max);
        if !first {
            base = Base { number, id: u64::from_be_bytes(RandomPool::default().take()), ..base };
            // If we stop from here on: the next sweep removes what we made of it.
            self.swap(|head| head.going = base)?;
        }
        let mut codes = Vec::new();
        loop {
            let (held, newest) = rows()?;
            base.until = newest;
            if held.is_empty() {
                break;
            }
            let name = part_name(&self.id, &base, codes.len() as u32);
            let bytes = rows_bytes(&name, self.writer, &[0; MAC_BYTES], &held, &self.mac);
            codes.push(code_of(&bytes)?);
            if !self.place.make(&name, bytes).map_err(io("write"))? {
                return Err(Error::TakenOver);
            }
        }
        base.parts = codes.len() as u32;
        // Batches will be removed because of it: so what stands there is read, not believed.
        let mut codes = codes.into_iter();
        for part in 0..base.parts {
            let held = self.place.get(&part_name(&self.id, &base, part)).map_err(io("read"))?;
            if held.map(|held| code_of(&held.bytes)).transpose()? != codes.next() {
                return Err(bad("a part of a whole copy is not as it was written"));
            }
        }
        self.swap(|head| {
            (head.going, head.base, head.code) = (head.base, base, code);
            if first {
                head.swept = number;
            }
        })
    }

    /// Removes the whole copy of before or what was begun of one, and the batches that the one of now has.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let head = self.state()?.head.clone();
        if head.swept >= head.base.number && head.going.parts == 0 {
            return Ok(());
        }
        self.remove_base(&self.id, &head.going)?;
        self.remove_changes(head.swept + 1..=head.base.number)?;
        self.swap(|held| (held.swept, held.going) = (head.base.number, Base::default()))
    }

    /// Removes the head: nobody goes on from what is there, and it can be removed ([`Remote::clear`]).
    pub(crate) fn give_up(&self) -> Result<Head, Error> {
        if !self.is_ours()? {
            return Err(Error::TakenOver);
        }
        let mut state = self.state()?;
        state.failed = true;
        self.place.remove(HEAD).map_err(io("remove"))?;
        Ok(state.head.clone())
    }

    /// Removes what hung on a head that is gone. `applied`: the last batch.
    pub(crate) fn clear(&self, head: &Head, applied: u64) -> Result<(), Error> {
        self.remove_base(&self.id, &head.base)?;
        self.remove_base(&self.id, &head.going)?;
        self.remove_changes(head.swept + 1..=applied)
    }

    fn remove_changes(&self, numbers: std::ops::RangeInclusive<u64>) -> Result<(), Error> {
        for number in numbers {
            self.place.remove(&change_name(&self.id, number)).map_err(io("remove"))?;
        }
        Ok(())
    }

    /// Removes the objects of a whole copy that no head names.
    pub(crate) fn remove_base(&self, store: &[u8; 16], base: &Base) -> Result<(), Error> {
        for part in 0..base.parts {
            self.place.remove(&part_name(store, base, part)).map_err(io("remove"))?;
        }
        Ok(())
    }
}

/// Pages elsewhere on which nothing hangs any more.
pub struct Left {
    pub(crate) remote: Arc<Remote>,
    pub(crate) head: Head,
    pub(crate) applied: u64,
}

impl std::fmt::Debug for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Left")
    }
}

impl Left {
    /// Removes them.
    ///
    /// # Errors
    /// The place refuses: they stay, and nobody goes on from them.
    pub fn remove(&self) -> Result<(), Error> {
        self.remote.clear(&self.head, self.applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_rows_come_back_and_every_changed_byte_is_noticed() {
        let master = MasterKey::generate(&mut RandomPool::default());
        let (id, key) = ([7; 16], Key([3; 32]));
        let (base, going) =
            (Base { number: 2, until: 5, id: 6, parts: 4 }, Base { number: 7, until: 8, id: 9, parts: 3 });
        let (boxed, slot) = (boxed(&key, &master, id), [6; SLOT_BYTES]);
        let head = Head { id, boxed, writer: 1, base, code: [4; 32], going, swept: 3, sequence: 5, slot };
        let mac = KeyedHash::new(&key.0);
        let bytes = head.to_bytes(&mac);
        assert_eq!(Head::parse(&bytes, &master).expect("it reads").0, head);
        let other = MasterKey::generate(&mut RandomPool::default());
        assert!(matches!(Head::parse(&bytes, &other), Err(Error::WrongMasterKey)));
        let rows = vec![(0, vec![1, 2]), (1 << 56 | 9, Vec::new())];
        let change = rows_bytes("change/8", 3, &[2; 32], &rows, &mac);
        let read = parse_rows(&change, "change/8", &mac).expect("it reads");
        assert_eq!((read.rows, read.before), (rows, [2; 32]));
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
