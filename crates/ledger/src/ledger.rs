//! The ledger: opens through recovery, commits batches, keeps what readers need.
//!
//! Longer than most files, since recovery and the normal path must be read side by side: each step of a commit is what
//! recovery finds undone.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use proof::checkpoint::Checkpoint;
use proof::commitment::Opening;
use proof::entry::{EntryId, Personal};
use proof::hash::Hash;
use proof::key_change::{self, CHANGE_BYTES_MAX, KeyChange};
use proof::note::NoteSigner;
use proof::time::UnixMillis;
use proof::tlog_proof::TlogProof;
use proof::tree::{inclusion_proof, range_root};
use seal::crypto::KeyedHash;
use seal::sealed::Sealed;
use seal::tag::Tagger;

use crate::background::Background;
use crate::clock::{Clock, ClockRule};
use crate::counts::{Counts, Known};
use crate::directory::{Scan, cut_tail, read_header, remove_unborn, scan};
use crate::disk::Disk;
use crate::error::{Error, io};
use crate::frame::ENTRIES_MAX;
use crate::frame_builder::{FrameBuilder, FrameHead, NewEntry};
use crate::guard::HighWater;
use crate::home::Home;
use crate::index::{OpenIndex, SegmentIndex, maintain};
use crate::journal::Journal;
use crate::reader::{Published, Reader};
use crate::segment::{Identity, Position};
use crate::tree_store::{LEVELS, TreeStore};
use crate::verify::carried;

/// The high-water mark is moved at most this often while writing.
const HIGH_WATER_EVERY_MS: u64 = 1_000;
/// Entries after which what is known of subjects is kept for the next start, should this process end without a stop.
const COUNTS_EVERY: u64 = 4 << 20;

/// What opening a ledger needs.
pub struct Options {
    /// Where the frames are.
    pub journal: Home,
    /// Folder of derived files (segment indexes, tree).
    pub derived: PathBuf,
    /// The high-water mark and its copies; at least one.
    pub high_water: Vec<PathBuf>,
    /// Code key of the high-water mark.
    pub mac: KeyedHash,
    /// Origin and first key of the trail.
    pub identity: Identity,
    /// What signs checkpoints, the newest last: those that the journal does not know yet wait for [`Ledger::change_key`].
    pub signers: Vec<NoteSigner>,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Whether the clock is taken as it is, whatever the last entry says.
    pub accept_clock: bool,
    /// Keys that the key store has made.
    pub key_generation: u64,
    /// Random id of this process.
    pub writer: u64,
    /// Bytes at which a segment is closed; `None` = the usual ones.
    pub segment_bytes_max: Option<u64>,
}

/// What recovery found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of a torn last frame that were left out; nobody had been answered for them.
    pub torn_bytes: u64,
}

/// A record on its way into the ledger.
#[derive(Debug)]
pub struct Item<C> {
    /// The sealed record.
    pub sealed: Sealed,
    /// Kind name.
    pub kind: Arc<str>,
    /// Class name.
    pub class: &'static str,
    /// Generation of the key store that has its keys; durable before this is handed over.
    pub generation: u64,
    /// What travels beside it to the views.
    pub companion: C,
}

/// What became of an item.
#[derive(Debug)]
pub enum Outcome<C> {
    /// It is entry `index`.
    Committed {
        /// Position.
        index: u64,
        /// Leaf hash.
        leaf: Hash,
    },
    /// An entry of this id stands at `index` already; the caller compares.
    Repeated {
        /// Position of the first.
        index: u64,
        /// Given back.
        companion: C,
    },
    /// Its subject was erased meanwhile, or its period ended: seal it again, without a personal body where the person is
    /// gone.
    KeyGone {
        /// Given back.
        companion: C,
        /// Whose it was, where the person is not who is gone.
        subject: Option<u64>,
        /// Whether it is the person who is gone.
        erased: bool,
    },
}

/// An entry as the views get it.
#[derive(Debug)]
pub struct Committed<C> {
    /// Position.
    pub index: u64,
    /// Time of acceptance.
    pub at: UnixMillis,
    /// Subject, for views that count.
    pub subject: Option<u64>,
    /// The companion.
    pub companion: C,
}

/// The single writer of a trail.
pub struct Ledger {
    journal: Box<dyn Journal>,
    disk: Arc<dyn Disk>,
    position: Position,
    clock: Arc<dyn Clock>,
    rule: ClockRule,
    identity: Identity,
    signers: Vec<NoteSigner>,
    checkpoint: String,
    closed: bool,
    index: Arc<RwLock<SegmentIndex>>,
    tree: Arc<TreeStore>,
    published: Arc<RwLock<Published>>,
    reader: Arc<Reader>,
    high_water: Vec<PathBuf>,
    high_water_at: u64,
    mac: KeyedHash,
    writer: u64,
    epoch: u32,
    counts: Counts,
    counts_saved_at: u64,
    derived: PathBuf,
    /// From which entry on nothing signs what was found.
    unsigned_from: u64,
    dead: HashSet<u64>,
    ended: HashSet<u32>,
    builder: FrameBuilder,
    recovered: Recovered,
    background: Background,
}

fn maintain_beside(background: &Background, index: &Arc<RwLock<SegmentIndex>>) {
    let index = Arc::clone(index);
    background.nudge(move |stop| maintain(&index, stop).unwrap_or(false));
}

/// Those of the signers that the journal knows, which must be the newest that it has.
fn known_signers(signers: Vec<NoteSigner>, identity: &Identity) -> Result<Vec<NoteSigner>, Error> {
    let keys = identity.keys()?;
    let known: Vec<NoteSigner> = signers.into_iter().filter(|signer| keys.contains(signer.verifier())).collect();
    if known.last().map(NoteSigner::verifier) == keys.last() {
        return Ok(known);
    }
    let why = "it is signed by a key that the key store does not have: a newer copy of the key store has it".into();
    Err(Error::Corrupt { what: "the journal".into(), why })
}

impl Ledger {
    /// Makes the journal of a new trail, still without entries.
    ///
    /// # Errors
    /// There is a journal already, or it cannot be written.
    pub fn create(home: &Home, identity: &Identity) -> Result<(), Error> {
        home.create(identity)
    }

    /// Opens the journal through recovery.
    ///
    /// # Errors
    /// It is not the journal that was signed, the key store is too old, or the clock is wrong.
    pub fn open(options: Options) -> Result<Ledger, Error> {
        let disk = options.journal.disk();
        let mut marks = Vec::with_capacity(options.high_water.len());
        for path in &options.high_water {
            marks.extend(HighWater::read(path, Some(&options.mac))?);
        }
        let newest = marks.iter().max_by_key(|mark| mark.frame);
        if let (Home::Objects(objects), Some(mark)) = (&options.journal, newest) {
            objects.reaches(mark.frame);
        }
        let (scan, open_index, recovered) = read_tail(&options.journal, newest, &options.identity)?;
        for mark in &marks {
            check_mark(disk.as_ref(), &scan, mark)?;
        }
        check_last(&scan)?;
        let position = scan.end.clone();
        if position.generation > options.key_generation {
            return Err(Error::KeysMissing { missing: position.generation - options.key_generation });
        }
        let epoch = position.epoch.checked_add(1).ok_or_else(|| Error::Corrupt {
            what: "the last frame".into(),
            why: "its epoch is the last that there can be".into(),
        })?;
        let rule = ClockRule::start(options.clock.as_ref(), position.at, options.accept_clock)?;
        let rebuild = |segment: u32| rebuild_index(disk.as_ref(), segment);
        let mut index = SegmentIndex::load(&options.derived, scan.header.number, rebuild)?;
        index.open = open_index;
        let index = Arc::new(RwLock::new(index));
        let background = Background::new("segment-index");
        maintain_beside(&background, &index);
        let tree = Arc::new(TreeStore::open(&options.derived)?);
        let size = position.range.size();
        let identity = scan.header.identity.clone();
        let signers = known_signers(options.signers, &identity)?;
        let root = position.range.root();
        // Signed again, not stored: Ed25519 is deterministic, so these are the bytes signed before a crash.
        let checkpoint = key_change::sign(&Checkpoint::new(&identity.origin, size, root), &signers);
        let key_changes = Arc::clone(&identity.key_changes);
        let published = Published { size, root, at: position.at, checkpoint: checkpoint.clone(), key_changes };
        let published = Arc::new(RwLock::new(published));
        let reader = Arc::new(Reader::new(
            Arc::clone(&disk),
            identity.clone(),
            Arc::clone(&index),
            Arc::clone(&tree),
            Arc::clone(&published),
        ));
        fill_tree(&tree, &reader, size)?;
        let root_of = |size: u64| if size > 0 { range_root(reader.as_ref(), 0, size).ok() } else { None };
        let counts = Counts::load(&options.derived, &options.mac, size, root_of);
        let marked = newest.map_or(0, |mark| mark.size);
        let unsigned_from = unsigned_from(disk.as_ref(), &scan, marked)?;
        let journal = options.journal.writer(&scan, options.segment_bytes_max);
        let closed = scan.frames.last().is_some_and(|frame| frame.header.count == 0) || size == 0;
        Ok(Ledger {
            journal,
            disk,
            epoch,
            position,
            clock: options.clock,
            rule,
            identity,
            signers,
            checkpoint,
            closed,
            index,
            tree,
            published,
            reader,
            high_water: options.high_water,
            high_water_at: 0,
            mac: options.mac,
            writer: options.writer,
            counts,
            counts_saved_at: size,
            derived: options.derived,
            unsigned_from,
            dead: HashSet::new(),
            ended: HashSet::new(),
            builder: FrameBuilder::default(),
            recovered,
            background,
        })
    }

    /// From which entry on nothing signed what recovery found: no frame of the journal, and no high-water mark. The size,
    /// where all is signed.
    pub fn unsigned_from(&self) -> u64 {
        self.unsigned_from
    }

    /// What recovery found.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Epoch of this writer's frames.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The shared reader.
    pub fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    /// From now on, what was sealed under these subjects is given back.
    pub fn bury(&mut self, subjects: &[u64]) {
        self.dead.extend(subjects);
        subjects.iter().for_each(|subject| {
            self.counts.forget(*subject);
        });
        // What is kept says nothing of them either.
        self.save_counts();
    }

    /// From now on, what was sealed under these periods is given back, and nothing written so far changes any more but by
    /// [`Reader::replace`].
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub fn bury_periods(&mut self, periods: &[u32]) -> Result<(), Error> {
        self.ended.extend(periods);
        if let Some(segment) = self.journal.next_segment(&self.position)? {
            let size = self.position.range.size();
            self.index.write().map_err(|_| Error::Stopped)?.rotate(segment, size);
            maintain_beside(&self.background, &self.index);
        }
        Ok(())
    }

    /// Commits up to [`ENTRIES_MAX`] items as one frame.
    ///
    /// # Errors
    /// After any error but those of the clock the state on disk is unknown: drop the ledger and open it again.
    pub fn commit<C>(&mut self, items: Vec<Item<C>>) -> Result<(Vec<Outcome<C>>, Vec<Committed<C>>), Error> {
        assert!(items.len() <= ENTRIES_MAX, "a batch fits a frame");
        let at = self.rule.next(self.clock.as_ref())?;
        self.counts.trim();
        let mut outcomes = Vec::with_capacity(items.len());
        let mut committed = Vec::with_capacity(items.len());
        let first_index = self.position.range.size();
        let mut after = self.position.clone();
        let mut in_batch: HashMap<EntryId, u64> = HashMap::with_capacity(items.len());
        let mut nodes = Vec::new();
        let mut rows: Vec<([u8; 16], Option<[u8; 16]>)> = Vec::with_capacity(items.len());
        let mut generation = after.generation;
        for item in items {
            let Item { sealed, kind, class, companion, generation: needed } = item;
            if let Some(index) = self.find(&sealed.id, &in_batch)? {
                outcomes.push(Outcome::Repeated { index, companion });
                continue;
            }
            let subject = sealed.personal.as_ref().map(|(_, tagger)| tagger.subject());
            if subject.is_some_and(|subject| self.dead.contains(&subject)) || self.ended.contains(&sealed.period) {
                let erased = subject.is_some_and(|subject| self.dead.contains(&subject));
                let subject = subject.filter(|_| !erased);
                outcomes.push(Outcome::KeyGone { companion, subject, erased });
                continue;
            }
            let personal = match &sealed.personal {
                Some((commitment, tagger)) => {
                    let n = self.next_n(tagger)?;
                    Some(Personal { who: tagger.who(n), commitment: *commitment })
                }
                None => None,
            };
            let entry = NewEntry {
                kind: &kind,
                class,
                period: sealed.period,
                id: sealed.id,
                facts: sealed.facts,
                personal,
                sealed: &sealed.bytes,
                digest: sealed.digest,
            };
            let leaf = self.builder.push(after.last_leaf, at, &entry);
            let index = after.range.size();
            after.range.push(leaf, |level, place, hash| {
                if level.is_multiple_of(8) && level > 0 {
                    nodes.push((level, place, *hash));
                }
            });
            after.last_leaf = leaf;
            generation = generation.max(needed);
            in_batch.insert(sealed.id, index);
            rows.push((sealed.id.0, personal.map(|personal| personal.who.0)));
            outcomes.push(Outcome::Committed { index, leaf });
            committed.push(Committed { index, at, subject, companion });
        }
        if rows.is_empty() {
            return Ok((outcomes, committed));
        }
        after.generation = generation;
        self.write_frame(after, at, first_index)?;
        self.publish(first_index, &rows, &nodes)?;
        if self.position.range.size() - self.counts_saved_at >= COUNTS_EVERY {
            self.save_counts();
        }
        Ok((outcomes, committed))
    }

    fn find(&self, id: &EntryId, in_batch: &HashMap<EntryId, u64>) -> Result<Option<u64>, Error> {
        match in_batch.get(id) {
            Some(index) => Ok(Some(*index)),
            None => self.reader.find_id(&id.0),
        }
    }

    /// Number of the subject's next entry. Counts not in memory are found again by galloping over tags: O(log n).
    fn next_n(&mut self, tagger: &Tagger) -> Result<u64, Error> {
        let count = match self.counts.get(tagger.subject()) {
            Known::Exactly(count) => count,
            Known::AtLeast(low) => self.count_entries(tagger, low)?,
        };
        self.counts.set(tagger.subject(), count + 1);
        Ok(count + 1)
    }

    /// Its entries, of which it has at least `low`.
    fn count_entries(&self, tagger: &Tagger, low: u64) -> Result<u64, Error> {
        let hinted = |n: u64| self.reader.hint_tag(&tagger.who(low + n).0);
        let more = last_of(|n| Ok(hinted(n)?.is_some()))?;
        // The index keeps half of each tag: make sure of the one that counts.
        if more == 0 || self.has_tag(tagger, low + more)? {
            return Ok(low + more);
        }
        Ok(low + last_of(|n| self.has_tag(tagger, low + n))?)
    }

    fn save_counts(&mut self) {
        let (size, root) = (self.position.range.size(), self.position.range.root());
        // Derived: without it the next start looks for what it needs.
        let _ = self.counts.save(&self.derived, &self.mac, size, &root);
        self.counts_saved_at = size;
    }

    fn has_tag(&self, tagger: &Tagger, n: u64) -> Result<bool, Error> {
        let tag = tagger.who(n);
        match self.reader.hint_tag(&tag.0)? {
            Some(index) => Ok(self.reader.tag(index)? == tag.0),
            None => Ok(false),
        }
    }

    fn write_frame(&mut self, mut after: Position, at: UnixMillis, first_index: u64) -> Result<(), Error> {
        let head = FrameHead {
            number: self.position.frame,
            first_index,
            at,
            writer: self.writer,
            epoch: self.epoch,
            generation: after.generation,
            before: self.position.before,
            checkpoint: if self.position.frame == 0 { String::new() } else { self.checkpoint.clone() },
        };
        let root = after.range.root();
        let periods = self.builder.periods();
        let (bytes, digest) = self.builder.finish(&head, after.range.size(), &root);
        after.frame += 1;
        after.before = digest;
        (after.at, after.epoch) = (at, self.epoch);
        let location = self.journal.append(&self.position, &bytes)?;
        // Durable from here on. Signing comes after: a tree that was signed and then lost would be a fork.
        let mut rotated = false;
        let mut index = self.index.write().map_err(|_| Error::Stopped)?;
        if location.segment != index.open_segment() {
            index.rotate(location.segment, first_index);
            rotated = true;
        }
        if after.range.size() > first_index {
            index.open.add_location(first_index, location);
            index.open.add_periods(periods.into_iter());
        }
        drop(index);
        if rotated {
            maintain_beside(&self.background, &self.index);
        }
        self.closed = after.range.size() == first_index;
        self.position = after;
        Ok(())
    }

    fn publish(
        &mut self,
        first_index: u64,
        rows: &[([u8; 16], Option<[u8; 16]>)],
        nodes: &[(u32, u64, Hash)],
    ) -> Result<(), Error> {
        for (level, place, hash) in nodes {
            self.tree.put(*level, *place, hash)?;
        }
        {
            let mut index = self.index.write().map_err(|_| Error::Stopped)?;
            for (place, (id, who)) in rows.iter().enumerate() {
                index.open.add_entry(first_index + place as u64, id, who.as_ref());
            }
        }
        self.sign()?;
        let now = self.clock.since_boot_ms();
        if now.saturating_sub(self.high_water_at) >= HIGH_WATER_EVERY_MS {
            self.move_high_water()?;
            self.high_water_at = now;
        }
        Ok(())
    }

    /// Signs the tree as it is, for readers and the next frame.
    fn sign(&mut self) -> Result<(), Error> {
        let (size, root) = (self.position.range.size(), self.position.range.root());
        self.checkpoint = key_change::sign(&Checkpoint::new(&self.identity.origin, size, root), &self.signers);
        let (checkpoint, key_changes) = (self.checkpoint.clone(), Arc::clone(&self.identity.key_changes));
        let published = Published { size, root, at: self.position.at, checkpoint, key_changes };
        *self.published.write().map_err(|_| Error::Stopped)? = published;
        Ok(())
    }

    /// The keys that the trail has had, the newest last, each but the first named by an entry.
    pub fn key_changes(&self) -> &[KeyChange] {
        &self.identity.key_changes
    }

    /// Signs with another key from now on, and with the one before it until [`Ledger::sign_alone`]: entry `index`, whose
    /// `facts` these are, says so. The segment that begins says how it follows.
    ///
    /// # Errors
    /// As [`Ledger::commit`]. Durable when it returns.
    pub fn change_key(&mut self, index: u64, facts: Opening, signer: NoteSigner) -> Result<(), Error> {
        // An empty segment has its header already, and one in a bucket begins with a certain frame.
        while !self.journal.may_change_key(&self.position) {
            let at = self.rule.next(self.clock.as_ref())?;
            self.write_frame(self.position.clone(), at, self.position.range.size())?;
        }
        let (size, root) = (self.position.range.size(), self.position.range.root());
        let mut signers = std::mem::take(&mut self.signers);
        // Of the keys before it, the last one alone goes on.
        let mut both: Vec<NoteSigner> = signers.pop().into_iter().collect();
        both.push(signer);
        self.signers = both;
        let checkpoint = key_change::sign(&Checkpoint::new(&self.identity.origin, size, root), &self.signers);
        let path = inclusion_proof(self.reader.as_ref(), index, size)?;
        let proof = TlogProof { extra: None, index, path, checkpoint }.to_text();
        let corrupt = |why: &str| Error::Corrupt { what: format!("entry {index}"), why: why.into() };
        let entry = String::from_utf8(self.reader.entry(index)?.bytes).map_err(|_| corrupt("it is not text"))?;
        let change = KeyChange { index, entry, facts, proof };
        if change.to_text().len() > CHANGE_BYTES_MAX {
            return Err(corrupt("what it says of the key is too long"));
        }
        let changes: Vec<KeyChange> = self.identity.key_changes.iter().cloned().chain([change]).collect();
        self.identity.key_changes = changes.into();
        // What is written must be what everybody accepts.
        self.identity.keys()?;
        if let Some(segment) = self.journal.change_key(&self.position, self.identity.clone())? {
            self.index.write().map_err(|_| Error::Stopped)?.rotate(segment, size);
            maintain_beside(&self.background, &self.index);
        }
        self.sign()?;
        // If we stop before this line: the old key's trail, which the next start does it in again. In a bucket the header
        // comes with this frame.
        self.closed = false;
        self.close()
    }

    /// The newest key signs alone from now on.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub fn sign_alone(&mut self) -> Result<(), Error> {
        self.signers.drain(..self.signers.len().saturating_sub(1));
        self.sign()
    }

    /// After idleness and at stop: a frame without entries carries the last checkpoint, and the mark is moved.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub fn close(&mut self) -> Result<(), Error> {
        if !self.closed {
            let at = self.rule.next(self.clock.as_ref())?;
            let first_index = self.position.range.size();
            self.write_frame(self.position.clone(), at, first_index)?;
        }
        self.move_high_water()?;
        // The next entry moves the mark before anybody is answered: one that names a frame without entries is the newest.
        self.high_water_at = 0;
        Ok(())
    }

    /// The same at a stop, with what makes the next start quick.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub fn stop(&mut self) -> Result<(), Error> {
        self.close()?;
        self.save_counts();
        Ok(())
    }

    fn move_high_water(&self) -> Result<(), Error> {
        if self.position.frame == 0 {
            return Ok(());
        }
        let mark = HighWater {
            size: self.position.range.size(),
            root: self.position.range.root(),
            frame: self.position.frame - 1,
            digest: self.position.before,
            checkpoint: self.checkpoint.clone(),
        };
        self.high_water.iter().try_for_each(|path| mark.write(path, &self.mac))
    }

    /// The journal's disk, for verification in the same process.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }
}

/// The largest n from 1 on for which all up to it exist, by galloping; 0 if there is none.
fn last_of(exists: impl Fn(u64) -> Result<bool, Error>) -> Result<u64, Error> {
    if !exists(1)? {
        return Ok(0);
    }
    let (mut low, mut high) = (1, 2);
    while exists(high)? {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if exists(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

/// Scans the last segment and takes away a tail that a crash left.
fn read_tail(
    home: &Home,
    mark: Option<&HighWater>,
    identity: &Identity,
) -> Result<(Scan, OpenIndex, Recovered), Error> {
    let disk = home.disk();
    let disk = disk.as_ref();
    let mut recovered = Recovered::default();
    let Some(mut last) = disk.segments()?.checked_sub(1) else {
        return Err(Error::Corrupt { what: "the journal".into(), why: "no segment".into() });
    };
    if let (Err(error), Some(before)) = (read_header(disk, last), last.checked_sub(1).filter(|_| home.is_mended())) {
        // A segment that was being begun has at most a header; anything longer is no crash.
        let length = disk.length(&crate::segment::file_name(last)).map_err(io("read", format!("segment {last}")))?;
        let (header, _) = read_header(disk, before)?;
        if length > (header.to_bytes().len() + 64 * 32 + CHANGE_BYTES_MAX) as u64 {
            return Err(error);
        }
        remove_unborn(disk, last)?;
        recovered.torn_bytes += length;
        last = before;
    }
    let (header, _) = read_header(disk, last)?;
    if !header.identity.is_of(identity) {
        return Err(Error::Corrupt {
            what: format!("segment {last}"),
            why: "it belongs to another trail: the key store and the journal do not fit together".into(),
        });
    }
    let mut open = OpenIndex::new(header.position.range.size());
    let scan = scan(
        disk,
        last,
        |frame, found| if frame.header.count > 0 { open.add_frame(frame, found.location) } else { Ok(()) },
    )?;
    if let Some(tail) = &scan.tail {
        let marked = mark.is_some_and(|mark| mark.frame >= scan.end.frame);
        if !home.is_mended() {
            let why = format!("{tail}, and an object is whole or not there");
            return Err(Error::Corrupt { what: format!("segment {last}, frame {}", scan.end.frame), why });
        }
        if scan.frame_after_tail || marked {
            let why = if scan.frame_after_tail {
                format!("{tail}, and whole frames stand after it")
            } else {
                format!("{tail}, and it was signed")
            };
            return Err(Error::Corrupt { what: format!("segment {last}, frame {}", scan.end.frame), why });
        }
        let length = disk.length(&crate::segment::file_name(last)).map_err(io("read", format!("segment {last}")))?;
        recovered.torn_bytes += length - scan.good_bytes;
        cut_tail(disk, &scan)?;
    } else if home.is_mended() && (scan.frames.is_empty() || mark.is_none_or(|mark| mark.frame + 1 < scan.end.frame)) {
        // Beyond the mark nobody knows that the disk has what was just read: after a sync that failed, memory goes on
        // showing what will be gone when the power goes, and the next sync says nothing of it. The same of a segment's
        // name. So it is written anew before anything follows it.
        cut_tail(disk, &scan)?;
    }
    if let Home::Objects(objects) = home {
        objects.check_tail(&scan)?;
    }
    if last > 0 {
        let (before, _) = read_header(disk, last - 1)?;
        // Objects are made by who has the bucket's credentials, so their header is held against what it goes on from.
        let goes_on = match home {
            Home::Directory(_) => true,
            Home::Objects(_) => crate::directory::scan(disk, last - 1, |_, _| Ok(()))?.end == header.position,
        };
        if before.chain(&header.position.before) != header.before || !goes_on {
            return Err(Error::Corrupt {
                what: format!("segment {last}"),
                why: "it does not follow the segment before".into(),
            });
        }
    }
    Ok((scan, open, recovered))
}

/// The first entry that neither a frame of the journal signs nor the mark names: those of the last commit at most, unless
/// somebody else wrote there.
fn unsigned_from(disk: &dyn Disk, last: &Scan, marked: u64) -> Result<u64, Error> {
    if marked >= last.end.range.size() {
        return Ok(marked);
    }
    let mut older;
    let mut here = last;
    loop {
        // As they were when it was written.
        let keys = here.header.identity.keys()?;
        for (place, frame) in here.frames.iter().enumerate().rev() {
            let header = &frame.header;
            let before = match place.checked_sub(1) {
                Some(before) => here.frames[before].header.root,
                None => here.header.position.range.root(),
            };
            let signed = carried(&header.checkpoint, &keys);
            if signed.is_ok_and(|signed| (signed.size, signed.root) == (header.first_index, before)) {
                return Ok(marked.max(header.first_index));
            }
            if header.first_index <= marked {
                return Ok(marked);
            }
        }
        let Some(before) = here.header.number.checked_sub(1) else { return Ok(marked) };
        older = scan(disk, before, |_, _| Ok(()))?;
        here = &older;
    }
}

/// The last frame is signed by none. Whoever wrote it, it must carry the signed state before it, as every frame does, and
/// cannot ask for more than the trail can go on from; one without entries changes nothing.
fn check_last(last: &Scan) -> Result<(), Error> {
    let Some((frame, before)) = last.frames.split_last() else { return Ok(()) };
    let (header, from) = (&frame.header, &last.header.position);
    let (root, epoch, generation) = match before.last() {
        Some(before) => (before.header.root, before.header.epoch, before.header.generation),
        None => (from.range.root(), from.epoch, from.generation),
    };
    let signed = || -> Result<bool, Error> {
        let carried = carried(&header.checkpoint, &last.header.identity.keys()?);
        Ok(carried.is_ok_and(|signed| (signed.size, signed.root) == (header.first_index, root)))
    };
    let why = if header.number > 0 && !signed()? {
        "it does not carry the signed state before it"
    } else if header.count == 0 && header.generation != generation {
        "it has no entries and names other keys than the frame before it"
    } else if header.epoch > epoch.saturating_add(1) {
        "its epoch is not the one that comes next"
    } else {
        return Ok(());
    };
    Err(Error::Corrupt {
        what: format!("frame {}, the last", header.number),
        why: format!(
            "{why}: this trail did not write it. Keep it as evidence, and open a successor (candor init --succeeds)"
        ),
    })
}

/// The journal must have the frame that the mark names.
fn check_mark(disk: &dyn Disk, last: &Scan, mark: &HighWater) -> Result<(), Error> {
    if mark.frame >= last.end.frame {
        let missing = mark.size.saturating_sub(last.end.range.size());
        return Err(Error::RolledBack { missing });
    }
    let mut segment = last.header.number;
    while read_header(disk, segment)?.0.position.frame > mark.frame {
        segment = segment.checked_sub(1).ok_or(Error::Forked { frame: mark.frame })?;
    }
    let older;
    let frames = if segment == last.header.number {
        &last.frames
    } else {
        older = scan(disk, segment, |_, _| Ok(()))?;
        &older.frames
    };
    match frames.iter().find(|frame| frame.header.number == mark.frame) {
        Some(frame) if frame.header.digest == mark.digest => Ok(()),
        _ => Err(Error::Forked { frame: mark.frame }),
    }
}

fn rebuild_index(disk: &dyn Disk, segment: u32) -> Result<(OpenIndex, u64), Error> {
    let (header, _) = read_header(disk, segment)?;
    let mut open = OpenIndex::new(header.position.range.size());
    let scan =
        scan(
            disk,
            segment,
            |frame, found| if frame.header.count > 0 { open.add_frame(frame, found.location) } else { Ok(()) },
        )?;
    if let Some(tail) = scan.tail {
        return Err(Error::Corrupt { what: format!("segment {segment}"), why: tail.to_string() });
    }
    Ok((open, scan.end.range.size()))
}

/// Makes the tree files fit the journal: cuts what is too long, adds what is missing.
fn fill_tree(tree: &TreeStore, reader: &Reader, size: u64) -> Result<(), Error> {
    tree.truncate(size)?;
    for index in tree.count(1)?..size >> 8 {
        let hash = crate::tree_store::fold(reader.leaves(index << 8, (index + 1) << 8)?);
        tree.put(8, index, &hash)?;
    }
    for level in 2..=LEVELS {
        for index in tree.count(level)?..size >> (8 * level) {
            // Levels between are folded from the file below.
            let mut row = Vec::with_capacity(256);
            for child in index << 8..(index + 1) << 8 {
                row.push(tree.subtree(8 * (level as u32 - 1), child)?);
            }
            tree.put(8 * level as u32, index, &crate::tree_store::fold(row))?;
        }
    }
    Ok(())
}

/// Takes the derived files away; who opens the ledger next makes their folder and them again.
///
/// # Errors
/// The disk refuses.
pub fn reset_derived(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", "derived files")(error)),
        _ => Ok(()),
    }
}
