//! The key store: named keys, period keys, subjects and their identifiers (`docs/formats/keystore.md`).
//!
//! Longer than most files: what names a person, what seals their records and what destroys both are one state machine.
//!
//! A key is durable before anything sealed under it is written to the journal: who takes keys takes a [`Ticket`] with
//! them, and the writer asks [`crate::shared::SharedStore::ensure`] before it appends. The generation counts the keys ever made; a
//! frame carries the generation it needs, so a store restored from an old copy is noticed and says how many keys are
//! missing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use record::identifier::IdentifierType;

use crate::cache::Generations;
use crate::crypto::{Key, KeyedHash, subkey};
use crate::elsewhere::{Elsewhere, Left, Remote};
use crate::error::Error;
use crate::holds::Holds;
use crate::log_keys::LogKeys;
use crate::master::MasterKey;
pub use crate::pages::Snapshot;
use crate::pages::{Batch, Log, Pages, Tree};
use crate::periods::Periods;
use crate::random::RandomPool;
use crate::shared::Ticket;
pub use crate::subjects::IdentifierTag;
use crate::subjects::{
    BUCKET_LOAD, Pointer, SUBJECTS_IN_LEAF, Slot, bucket_of, find, put, read_leaf, remove, split, write_leaf,
};
use crate::tag::Tagger;

/// Subjects and identifiers kept in memory, half of each bound: 64 bytes each, so at most 64 MiB.
const CACHE_HALF: usize = 250_000;
/// Version 1 had no holds, version 2 no other key of the log.
const META_VERSION: u16 = 3;
/// Identifiers of one subject, at most; further ones are not attached.
const IDENTIFIERS_MAX: usize = 64;
/// Subjects that one is joined to directly, at most.
const LINKS_MAX: usize = 255;
/// Days that a tombstone tells intake to drop what is late about an erased person.
pub const TOMBSTONE_DAYS: u32 = 400;

/// The keys that exist once in a trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Seed of the log's Ed25519 key.
    LogSigning = 0,
    /// Entry ids.
    Id = 1,
    /// Identifiers of persons.
    Identifier = 2,
    /// Index and registers.
    View = 3,
    /// Action tokens and API keys.
    Token = 4,
    /// Tombstones of erased persons' identifiers.
    Tombstone = 5,
    /// State of intake (correlators).
    Intake = 6,
}

const NAMED: usize = 7;

/// A subject as sealing needs it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its number in the store.
    pub number: u64,
    /// Its sealing key.
    pub sealing: Key,
    /// Its tags.
    pub tagger: Tagger,
}

/// How two subjects stand to each other.
enum Meeting {
    /// They were joined before.
    Joined,
    /// Both are customers: what brings them together is nobody's own.
    Apart,
    /// They can be joined.
    New,
}

/// Who a record is about.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// This subject. `linked` names an address-only subject found to be the same person, to be recorded.
    Subject {
        /// The subject.
        subject: Subject,
        /// Newly joined subject, if any.
        linked: Option<u64>,
    },
    /// A person who was erased: the record goes on without a personal body.
    Erased,
}

/// The open key store. One for each process; [`crate::shared::SharedStore`] shares it.
pub struct KeyStore {
    pub(crate) pages: Pages,
    pub(crate) random: RandomPool,
    pub(crate) named: Vec<Key>,
    pub(crate) log_keys: LogKeys,
    identifier: KeyedHash,
    tombstone: KeyedHash,
    pub(crate) generation: u64,
    subjects: u64,
    buckets: [u64; 2],
    bucket_entries: [u64; 2],
    erased_up_to: u64,
    origin: String,
    pub(crate) periods: Periods,
    pub(crate) holds: Holds,
    pointers: Generations<[u8; 16], Pointer>,
    secrets: Generations<u64, Key>,
}

impl std::fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyStore(generation {})", self.generation)
    }
}

impl KeyStore {
    /// Makes a new store in an empty folder.
    ///
    /// # Errors
    /// The folder has a store already or cannot be written.
    pub fn create(folder: &Path, master: MasterKey, origin: &str) -> Result<KeyStore, Error> {
        KeyStore::create_with(folder, master, origin, None)
    }

    /// The same, with its pages in a second place too, which must have none yet.
    ///
    /// # Errors
    /// As [`KeyStore::create`].
    pub fn create_with(
        folder: &Path,
        master: MasterKey,
        origin: &str,
        elsewhere: Option<Box<dyn Elsewhere>>,
    ) -> Result<KeyStore, Error> {
        let remote = elsewhere.map(|place| Remote::find(place, &master)).transpose()?;
        if remote.as_ref().is_some_and(|(_, head)| head.is_some()) {
            let why = "there are keys already: give these a place of their own";
            return Err(Error::Corrupt { what: "keys elsewhere", why });
        }
        let pages = Pages::create(folder, master)?;
        let mut random = RandomPool::default();
        let named = (0..NAMED).map(|_| Key(random.take())).collect();
        let mut store = KeyStore::assemble(pages, random, named, origin.to_owned());
        store.generation = NAMED as u64;
        store.pages.touch_meta();
        store.commit()?;
        if let Some((remote, _)) = remote {
            store.pages.begin_elsewhere(remote)?;
        }
        Ok(store)
    }

    /// Opens a store.
    ///
    /// # Errors
    /// There is none, the master key is another, or its bytes do not follow the format.
    pub fn open(folder: &Path, master: MasterKey) -> Result<KeyStore, Error> {
        KeyStore::open_with(folder, master, None)
    }

    /// The same, with its pages in a second place too: the folder follows what is there, and where nothing is there yet,
    /// what is in the folder goes there.
    ///
    /// # Errors
    /// As [`KeyStore::open`].
    pub fn open_with(
        folder: &Path,
        master: MasterKey,
        elsewhere: Option<Box<dyn Elsewhere>>,
    ) -> Result<KeyStore, Error> {
        let (pages, meta) = Pages::open(folder, master, elsewhere)?;
        let mut reader = MetaReader { rest: &meta };
        let version = reader.number(2)?;
        if !(1..=u64::from(META_VERSION)).contains(&version) {
            return Err(Error::Corrupt { what: "key store", why: "a version that this program does not know" });
        }
        let generation = reader.number(8)?;
        let subjects = reader.number(8)?;
        let periods = reader.number(4)?;
        let buckets = [reader.number(8)?, reader.number(8)?];
        let bucket_entries = [reader.number(8)?, reader.number(8)?];
        let erased_up_to = reader.number(8)?;
        let origin_bytes = reader.number(2)? as usize;
        let origin = String::from_utf8(reader.take(origin_bytes)?.to_vec())
            .map_err(|_| Error::Corrupt { what: "key store", why: "an origin that is not text" })?;
        let named = (0..NAMED).map(|_| reader.take(32).map(key_of)).collect::<Result<Vec<Key>, Error>>()?;
        let holds = if version == 1 { [0; 2] } else { [reader.number(8)?, reader.number(8)?] };
        let log_keys = if version < 3 { LogKeys::default() } else { LogKeys::read(&mut reader)? };
        let mut store = KeyStore::assemble(pages, RandomPool::default(), named, origin);
        store.generation = generation;
        (store.subjects, store.buckets, store.bucket_entries) = (subjects, buckets, bucket_entries);
        (store.erased_up_to, store.log_keys) = (erased_up_to, log_keys);
        store.read_periods(periods as u32)?;
        store.read_holds(holds)?;
        Ok(store)
    }

    fn assemble(pages: Pages, random: RandomPool, named: Vec<Key>, origin: String) -> KeyStore {
        KeyStore {
            identifier: KeyedHash::new(&named[Named::Identifier as usize].0),
            tombstone: KeyedHash::new(&named[Named::Tombstone as usize].0),
            pages,
            random,
            named,
            log_keys: LogKeys::default(),
            generation: 0,
            subjects: 0,
            buckets: [1, 1],
            bucket_entries: [0, 0],
            erased_up_to: 0,
            origin,
            periods: Periods::default(),
            holds: Holds::default(),
            pointers: Generations::new(CACHE_HALF),
            secrets: Generations::new(CACHE_HALF),
        }
    }

    /// Whether the folder is a copy of keys elsewhere that was opened without them: nothing may be decided by it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_copy(&self) -> Result<bool, Error> {
        self.pages.is_copy()
    }

    /// The folder has the keys alone from now on. Gives what is to be removed elsewhere, if the store was opened with it.
    ///
    /// # Errors
    /// The place or the disk refuses: the next start goes on from what came of it.
    pub fn leave_elsewhere(&mut self) -> Result<Option<Left>, Error> {
        self.commit()?;
        self.pages.leave_elsewhere()
    }

    /// Whether what is written goes elsewhere first.
    pub fn has_elsewhere(&self) -> bool {
        self.pages.has_elsewhere()
    }

    /// Name of the trail that the store belongs to.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// One of the keys that exist once.
    pub fn named(&self, name: Named) -> Key {
        self.named[name as usize].clone()
    }

    /// Number of keys ever made.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of subjects ever made.
    pub fn subject_count(&self) -> u64 {
        self.subjects
    }

    /// All erasures in entries below this index have been carried out.
    pub fn erased_up_to(&self) -> u64 {
        self.erased_up_to
    }

    /// Moves the erasure cursor; durable with the next commit. It waits for an entry that a start would look for.
    pub fn set_erased_up_to(&mut self, index: u64) {
        if self.log_keys.is_unrecorded() {
            return;
        }
        if self.erased_up_to != index {
            self.pages.touch_meta();
        }
        self.erased_up_to = index;
    }

    /// The keyed hash of a normalised identifier, version 1.
    pub fn identifier_tag(&self, kind: IdentifierType, normal: &str) -> IdentifierTag {
        identifier_tag(&self.identifier, kind, normal)
    }

    /// A copy of the identifier hash for use without the store's lock.
    pub fn identifier_hash(&self) -> KeyedHash {
        self.identifier.clone()
    }

    /// Who a record with these identifiers (strongest first) is about; makes a subject if there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn resolve(&mut self, identifiers: &[IdentifierTag], today: u32) -> Result<Resolved, Error> {
        const CUSTOMER: u8 = IdentifierType::CustomerId as u8;
        let mut known = Vec::with_capacity(identifiers.len());
        for identifier in identifiers {
            known.push(self.pointer(&identifier.tag)?);
        }
        let strongest = identifiers.iter().zip(&known).find(|(_, p)| p.is_some_and(|p| !p.shared));
        if strongest.is_none() && self.is_tombstoned(identifiers, today)? {
            return Ok(Resolved::Erased);
        }
        let names_customer = identifiers.first().is_some_and(|identifier| identifier.kind == CUSTOMER);
        let number = match (names_customer, known.first().copied().flatten()) {
            // A customer is who their number says, whatever address stands beside it.
            (true, Some(pointer)) if !pointer.shared => pointer.subject,
            (true, _) if self.is_tombstoned(&identifiers[..1], today)? => return Ok(Resolved::Erased),
            (true, _) => self.new_subject()?,
            (false, _) => match strongest {
                Some((_, Some(pointer))) => pointer.subject,
                _ => self.new_subject()?,
            },
        };
        let mut linked = None;
        for (place, (identifier, pointer)) in identifiers.iter().zip(&known).enumerate() {
            // A number is one customer's: a second one beside it names somebody else, and is never taken for shared.
            if identifier.kind == CUSTOMER && place > 0 {
                continue;
            }
            match pointer.filter(|pointer| identifier.kind != CUSTOMER || !pointer.shared) {
                None => self.attach(number, *identifier)?,
                Some(pointer) if pointer.subject == number || pointer.shared => {}
                Some(pointer) => match self.meeting(number, pointer.subject)? {
                    Meeting::Joined => {}
                    Meeting::Apart => self.share(identifier)?,
                    Meeting::New => {
                        if self.link(number, pointer.subject)? {
                            linked = Some(pointer.subject);
                        }
                    }
                },
            }
        }
        Ok(Resolved::Subject { subject: self.subject(number)?.ok_or(Error::KeyDestroyed)?, linked })
    }

    fn pointer(&mut self, tag: &[u8; 16]) -> Result<Option<Pointer>, Error> {
        if let Some(pointer) = self.pointers.get(tag) {
            return Ok(Some(pointer));
        }
        let bucket = bucket_of(tag, self.buckets[0]);
        let pointer = find(self.pages.leaf(Tree::Identifiers, bucket)?, tag);
        if let Some(pointer) = pointer {
            self.pointers.insert(*tag, pointer);
        }
        Ok(pointer)
    }

    fn new_subject(&mut self) -> Result<u64, Error> {
        let number = self.subjects + 1;
        let secret = Key(self.random.take());
        self.with_slots(number, |slots, place| {
            slots.resize(slots.len().max(place + 1), Slot::Free);
            slots[place] = Slot::Live { secret: secret.clone(), identifiers: Vec::new(), links: Vec::new() };
        })?;
        self.secrets.insert(number, secret);
        self.subjects = number;
        self.generation += 1;
        self.pages.touch_meta();
        Ok(number)
    }

    fn with_slots<T>(&mut self, number: u64, change: impl FnOnce(&mut Vec<Slot>, usize) -> T) -> Result<T, Error> {
        let (leaf, place) = (number / SUBJECTS_IN_LEAF, (number % SUBJECTS_IN_LEAF) as usize);
        let bytes = self.pages.leaf_mut(Tree::Subjects, leaf)?;
        let mut slots = read_leaf(bytes)?;
        let answer = change(&mut slots, place);
        write_leaf(&slots, bytes);
        self.pages.touch_meta();
        Ok(answer)
    }

    fn slot(&mut self, number: u64) -> Result<Slot, Error> {
        let (leaf, place) = (number / SUBJECTS_IN_LEAF, (number % SUBJECTS_IN_LEAF) as usize);
        Ok(read_leaf(self.pages.leaf(Tree::Subjects, leaf)?)?.get(place).cloned().unwrap_or(Slot::Free))
    }

    fn attach(&mut self, number: u64, identifier: IdentifierTag) -> Result<(), Error> {
        let attached = self.with_slots(number, |slots, place| match slots.get_mut(place) {
            Some(Slot::Live { identifiers, .. }) if identifiers.len() < IDENTIFIERS_MAX => {
                identifiers.push(identifier);
                true
            }
            _ => false,
        })?;
        if attached {
            self.put(0, Tree::Identifiers, &identifier.tag, Pointer { subject: number, shared: false })?;
            self.pointers.insert(identifier.tag, Pointer { subject: number, shared: false });
        }
        Ok(())
    }

    fn share(&mut self, identifier: &IdentifierTag) -> Result<(), Error> {
        let pointer = Pointer { subject: 0, shared: true };
        self.put(0, Tree::Identifiers, &identifier.tag, pointer)?;
        self.pointers.insert(identifier.tag, pointer);
        Ok(())
    }

    /// Joins two subjects; false if they were joined before.
    fn link(&mut self, a: u64, b: u64) -> Result<bool, Error> {
        let mut new = false;
        // Both ways or not at all: who is seen from one side only would be joined to a second customer.
        for number in [a, b] {
            let Slot::Live { links, .. } = self.slot(number)? else { return Ok(false) };
            if links.len() >= LINKS_MAX {
                return Ok(false);
            }
        }
        for (from, to) in [(a, b), (b, a)] {
            new |= self.with_slots(from, |slots, place| match slots.get_mut(place) {
                Some(Slot::Live { links, .. }) if !links.contains(&to) && links.len() < LINKS_MAX => {
                    links.push(to);
                    true
                }
                _ => false,
            })?;
        }
        Ok(new)
    }

    /// How two subjects stand that an identifier brings together. Two customers are never joined, not by way of a third
    /// either: who shares an address with another would read the other's history.
    fn meeting(&mut self, number: u64, other: u64) -> Result<Meeting, Error> {
        let own = self.closure_of(number)?;
        if own.contains(&other) {
            return Ok(Meeting::Joined);
        }
        let others = self.closure_of(other)?;
        let customers = self.has_customer(&own)? && self.has_customer(&others)?;
        Ok(if customers { Meeting::Apart } else { Meeting::New })
    }

    fn has_customer(&mut self, numbers: &[u64]) -> Result<bool, Error> {
        for number in numbers {
            if self.has_customer_id(*number)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_customer_id(&mut self, number: u64) -> Result<bool, Error> {
        Ok(match self.slot(number)? {
            Slot::Live { identifiers, .. } => identifiers.iter().any(|i| i.kind == IdentifierType::CustomerId as u8),
            _ => false,
        })
    }

    fn put(&mut self, which: usize, tree: Tree, tag: &[u8; 16], pointer: Pointer) -> Result<(), Error> {
        let bucket = bucket_of(tag, self.buckets[which]);
        if put(self.pages.leaf_mut(tree, bucket)?, tag, pointer) {
            self.bucket_entries[which] += 1;
        }
        self.pages.touch_meta();
        if self.bucket_entries[which] > self.buckets[which] * BUCKET_LOAD {
            let high = self.buckets[which];
            let low = high - (1 << (63 - high.leading_zeros()));
            let moved = split(self.pages.leaf_mut(tree, low)?, high);
            *self.pages.leaf_mut(tree, high)? = moved;
            self.buckets[which] += 1;
        }
        Ok(())
    }

    /// The keys of a live subject.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn subject(&mut self, number: u64) -> Result<Option<Subject>, Error> {
        let secret = match self.secrets.get(&number) {
            Some(secret) => secret,
            None => match self.slot(number)? {
                Slot::Live { secret, .. } => {
                    self.secrets.insert(number, secret.clone());
                    secret
                }
                _ => return Ok(None),
            },
        };
        let tagger = Tagger::new(number, &subkey(&secret, "candor/v1/link\n"));
        Ok(Some(Subject { number, sealing: subkey(&secret, "candor/v1/subject\n"), tagger }))
    }

    /// The link key of a live subject, for the person alone: whoever has it can tell their entries.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn link_key(&mut self, number: u64) -> Result<Option<Key>, Error> {
        // It brings the secret into memory.
        let living = self.subject(number)?.is_some();
        Ok(self.secrets.get(&number).filter(|_| living).map(|secret| subkey(&secret, "candor/v1/link\n")))
    }

    /// The subject that an identifier names, and all joined to it; empty if there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn closure(&mut self, identifier: &IdentifierTag) -> Result<Vec<u64>, Error> {
        match self.pointer(&identifier.tag)? {
            Some(pointer) if !pointer.shared => self.closure_of(pointer.subject),
            _ => Ok(Vec::new()),
        }
    }

    /// A subject and all joined to it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn closure_of(&mut self, number: u64) -> Result<Vec<u64>, Error> {
        let mut found = vec![number];
        let mut at = 0;
        while at < found.len() {
            if let Slot::Live { links, .. } = self.slot(found[at])? {
                found.extend(links.into_iter().filter(|link| !found.contains(link)).collect::<Vec<_>>());
            }
            at += 1;
        }
        Ok(found)
    }

    fn tombstone_tag(&self, identifier: &IdentifierTag) -> [u8; 16] {
        self.tombstone.short(&[b"candor/v1/tombstone\n", &[identifier.kind], &identifier.tag])
    }

    /// Whether one of these was erased so recently that what is late about it must still be told apart. After that its
    /// tombstone says nothing any more: somebody who comes back is a new subject.
    fn is_tombstoned(&mut self, identifiers: &[IdentifierTag], today: u32) -> Result<bool, Error> {
        if self.bucket_entries[1] == 0 {
            return Ok(false);
        }
        for identifier in identifiers {
            let tag = self.tombstone_tag(identifier);
            let bucket = bucket_of(&tag, self.buckets[1]);
            let tombstone = find(self.pages.leaf(Tree::Tombstones, bucket)?, &tag);
            if tombstone.is_some_and(|until| u64::from(today) < until.subject) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an identifier was an erased person's, and what is late about them is still to be dropped.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn is_erased(&mut self, identifier: &IdentifierTag, today: u32) -> Result<bool, Error> {
        self.is_tombstoned(std::slice::from_ref(identifier), today)
    }

    /// Destroys the keys and identifiers of these subjects and leaves tombstones; durable when it returns. Doing it
    /// again does nothing.
    ///
    /// # Errors
    /// The store cannot be written; then nothing may be assumed, and the erasure is done again at the next start.
    pub fn destroy_subjects(&mut self, numbers: &[u64], today: u32) -> Result<(), Error> {
        for number in numbers {
            let Slot::Live { identifiers, .. } = self.slot(*number)? else { continue };
            for identifier in identifiers {
                let bucket = bucket_of(&identifier.tag, self.buckets[0]);
                let held = find(self.pages.leaf(Tree::Identifiers, bucket)?, &identifier.tag);
                if held.is_some_and(|pointer| pointer.subject == *number) {
                    remove(self.pages.leaf_mut(Tree::Identifiers, bucket)?, &identifier.tag);
                    self.bucket_entries[0] = self.bucket_entries[0].saturating_sub(1);
                    self.pages.doom(Tree::Identifiers, bucket);
                    let tombstone = self.tombstone_tag(&identifier);
                    let until = Pointer { subject: u64::from(today + TOMBSTONE_DAYS), shared: false };
                    self.put(1, Tree::Tombstones, &tombstone, until)?;
                }
                self.pointers.remove(&identifier.tag);
            }
            self.with_slots(*number, |slots, place| {
                if let Some(slot) = slots.get_mut(place) {
                    *slot = Slot::Erased;
                }
            })?;
            self.pages.doom(Tree::Subjects, number / SUBJECTS_IN_LEAF);
            self.secrets.remove(number);
        }
        self.commit()
    }

    /// Makes everything changed durable. Cheap if nothing changed.
    ///
    /// # Errors
    /// The store cannot be written; nothing sealed under its new keys may be submitted.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.is_durable(self.ticket()) {
            return Ok(());
        }
        let meta = self.meta();
        self.pages.commit(&meta)
    }

    /// The store as it is now, to be copied without its lock.
    ///
    /// # Errors
    /// The store cannot be written or read.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.commit()?;
        self.pages.snapshot()
    }

    /// The text of the master key that wraps the store, for a backup that is encrypted itself.
    pub fn master_text(&self) -> zeroize::Zeroizing<String> {
        self.pages.master_text()
    }

    /// What has to be durable before anything sealed under the keys taken up to now is written to the journal.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.pages.newest())
    }

    fn is_durable(&self, ticket: Ticket) -> bool {
        self.durable().load(Ordering::Acquire) >= ticket.0
    }

    /// The newest durable ticket, to be read without the store's lock.
    pub(crate) fn durable(&self) -> Arc<AtomicU64> {
        self.pages.durable()
    }

    /// The store's log, to be copied without the store's lock.
    pub(crate) fn log(&self) -> Log {
        self.pages.log()
    }

    /// What is not durable yet, to be written outside the store's lock.
    pub(crate) fn gather(&mut self) -> Result<Batch, Error> {
        let meta = self.meta();
        self.pages.gather(&meta)
    }

    /// The batch was written.
    pub(crate) fn settle(&mut self, batch: &Batch) {
        self.pages.settle(batch.number());
    }

    fn meta(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut meta = zeroize::Zeroizing::new(Vec::with_capacity(512));
        meta.extend_from_slice(&META_VERSION.to_be_bytes());
        meta.extend_from_slice(&self.generation.to_be_bytes());
        meta.extend_from_slice(&self.subjects.to_be_bytes());
        meta.extend_from_slice(&self.periods.count().to_be_bytes());
        for number in self.buckets.iter().chain(&self.bucket_entries).chain([&self.erased_up_to]) {
            meta.extend_from_slice(&number.to_be_bytes());
        }
        meta.extend_from_slice(&(self.origin.len() as u16).to_be_bytes());
        meta.extend_from_slice(self.origin.as_bytes());
        self.named.iter().for_each(|key| meta.extend_from_slice(&key.0));
        self.holds.counts().iter().for_each(|count| meta.extend_from_slice(&count.to_be_bytes()));
        self.log_keys.write(&mut meta);
        meta
    }

    /// Wraps the store by another master key. The old one opens nothing from then on.
    ///
    /// # Errors
    /// The root file cannot be written.
    pub fn rewrap(&mut self, master: MasterKey) -> Result<(), Error> {
        self.pages.rewrap(master)
    }
}

/// The keyed hash of a normalised identifier under a copy of the identifier key's schedule.
pub fn identifier_tag(hash: &KeyedHash, kind: IdentifierType, normal: &str) -> IdentifierTag {
    IdentifierTag { kind: kind as u8, tag: hash.short(&[&[1, kind as u8], normal.as_bytes()]) }
}

pub(crate) fn key_of(bytes: &[u8]) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(bytes);
    Key(key)
}

pub(crate) struct MetaReader<'a> {
    rest: &'a [u8],
}

impl<'a> MetaReader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let bad = Error::Corrupt { what: "key store meta page", why: "ends too early" };
        let (head, rest) = self.rest.split_at_checked(count).ok_or(bad)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn number(&mut self, bytes: usize) -> Result<u64, Error> {
        Ok(proof::encoding::big_endian(self.take(bytes)?))
    }
}
