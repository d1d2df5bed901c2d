//! A simulated world, one seed for all of it: clock, disk, store, two writers, crashes. Whatever happens, what was answered
//! stays where it was answered, and no two trees are signed that do not lead one to the other.
//!
//! Each seed is a run of its own and gives the same run each time. `CANDOR_SEED=N cargo test -p candor-ledger --test
//! simulate` runs one alone and says what it does; seeds that found something are kept in [`FOUND`].

mod support;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ledger::clock::Clock;
use ledger::error::Error;
use ledger::home::Home;
use ledger::ledger::{Item, Ledger, Options, Outcome};
use ledger::objects::{Locking, NotMade, Objects, Store, Version};
use proof::hash::Hash;
use proof::time::UnixMillis;
use proof::tree::range_root;
use support::{Fault, SimDisk, change_key, identity, item, mac, signer};

/// Steps in all.
const STEPS: u64 = 200_000;
/// Steps of one seed: a journal of some hundred frames.
const STEPS_OF_SEED: u64 = 800;
/// Seeds that found something once. 1 and 3: after a sync that failed, a start took what memory showed for durable, went on
/// behind it, and lost it with the next power cut.
const FOUND: [u64; 2] = [1, 3];
/// Records of one period.
const RECORDS_OF_PERIOD: u64 = 100;
const FIRST_PERIOD: u32 = 3;
/// Changes of the log's key in one run, at most.
const KEYS: u8 = 6;

/// SplitMix64.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Once in so many.
    fn once_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// Wall clock and time since boot, moved by the world.
#[derive(Default)]
struct Time {
    wall: AtomicU64,
    boot: AtomicU64,
}

impl Time {
    fn go(&self, ms: u64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.boot.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Time {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_763_000_000_000 + self.wall.load(Ordering::SeqCst))
    }

    fn since_boot_ms(&self) -> u64 {
        self.boot.load(Ordering::SeqCst)
    }
}

/// What the store has, and what is still on its way to it.
#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, (String, Bytes)>,
    /// Requests that arrive later, whatever their sender was told.
    late: Vec<(u64, String, Bytes)>,
    /// One more with each call.
    calls: u64,
}

impl Kept {
    fn make(&mut self, name: &str, bytes: &Bytes) -> Option<String> {
        if self.objects.contains_key(name) {
            return None;
        }
        let id = format!("v{}", self.calls);
        self.objects.insert(name.to_owned(), (id.clone(), bytes.clone()));
        Some(id)
    }

    /// Time goes by, and what was on its way arrives.
    fn tick(&mut self, calls: u64) {
        self.calls += calls;
        let due: Vec<_> = {
            let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= self.calls);
            self.late = late;
            due
        };
        for (_, name, bytes) in due {
            self.make(&name, &bytes);
        }
    }
}

/// A client of the store, with troubles of its own.
struct SimStore {
    kept: Arc<Mutex<Kept>>,
    dice: Mutex<Dice>,
    time: Arc<Time>,
    /// One call in so many goes wrong.
    trouble: u64,
}

impl SimStore {
    fn fails(&self) -> bool {
        self.kept.lock().expect("no thread failed").tick(1);
        self.dice.lock().expect("no thread failed").once_in(self.trouble)
    }
}

fn unwell() -> io::Error {
    io::Error::other("the simulated store failed")
}

impl Store for SimStore {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Option<String>, NotMade> {
        let wrong = self.fails().then(|| self.dice.lock().expect("no thread failed").below(4));
        let mut kept = self.kept.lock().expect("no thread failed");
        match wrong {
            None => kept.make(name, bytes).map(Some).ok_or(NotMade::Taken),
            Some(0) => Err(NotMade::Unclear(unwell())),
            // Made, and the answer is lost.
            Some(1) => {
                kept.make(name, bytes);
                Err(NotMade::Unclear(unwell()))
            }
            // On its way for a while, also past the life of who sent it.
            Some(2) => {
                let at = kept.calls + self.dice.lock().expect("no thread failed").below(200);
                kept.late.push((at, name.to_owned(), bytes.clone()));
                Err(NotMade::Unclear(unwell()))
            }
            // A store that retried by itself and says so of its own first try.
            Some(_) => {
                kept.make(name, bytes);
                Err(NotMade::Taken)
            }
        }
    }

    fn create_locked(&self, _: &str, _: &Bytes, _: &str) -> Result<(), NotMade> {
        Err(NotMade::Unclear(unwell()))
    }

    fn get(&self, name: &str, version: Option<&str>, range: Option<Range<u64>>) -> io::Result<Option<Bytes>> {
        if self.fails() {
            return Err(unwell());
        }
        let kept = self.kept.lock().expect("no thread failed");
        let Some((id, bytes)) = kept.objects.get(name) else { return Ok(None) };
        assert!(version.is_none_or(|version| version == id), "a version that never was is asked for");
        Ok(Some(match range {
            Some(range) => bytes.slice(range.start as usize..(range.end as usize).min(bytes.len())),
            None => bytes.clone(),
        }))
    }

    fn versions(&self, begin: &str) -> io::Result<Vec<Version>> {
        if self.fails() {
            return Err(unwell());
        }
        let kept = self.kept.lock().expect("no thread failed");
        let found = kept.objects.range(begin.to_owned()..).take_while(|(name, _)| name.starts_with(begin));
        Ok(found
            .map(|(name, (id, bytes))| Version {
                name: name.clone(),
                id: Some(id.clone()),
                length: Some(bytes.len() as u64),
            })
            .collect())
    }

    fn delete(&self, _: &str) -> io::Result<()> {
        Err(unwell())
    }

    fn locking(&self) -> io::Result<Locking> {
        Ok(Locking::None)
    }

    fn pause(&self, time: Duration) {
        self.kept.lock().expect("no thread failed").tick(20);
        self.time.go(time.as_millis() as u64);
    }
}

/// One process that may write.
struct Writer {
    ledger: Option<Ledger>,
    folder: tempfile::TempDir,
}

/// Where the trail of a world is.
enum Place {
    Folder(Arc<SimDisk>),
    Bucket(Arc<Mutex<Kept>>),
}

struct World {
    dice: Dice,
    time: Arc<Time>,
    place: Place,
    writers: Vec<Writer>,
    /// Which record was answered at which index, and with which leaf where it was told.
    answered: HashMap<u64, u64>,
    leaves: HashMap<u64, Hash>,
    /// Periods that have ended, with the entry that is said to have ended them.
    ended: BTreeMap<u32, u64>,
    /// Every tree that was ever signed.
    signed: BTreeMap<u64, Hash>,
    next: u64,
    keys: u8,
    told: bool,
    done: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    commits: u64,
    broken: u64,
    fenced: u64,
    crashes: u64,
    opened: u64,
    refused: u64,
    keys: u64,
    replaced: u64,
}

/// Which period a record is of: they go on with the records. Others than the entry has that changes a key.
fn period_of(record: u64) -> u32 {
    FIRST_PERIOD + (record / RECORDS_OF_PERIOD) as u32
}

fn record(number: u64) -> Item<u64> {
    let mut item = item(number);
    item.sealed.period = period_of(number);
    item
}

impl World {
    fn new(seed: u64, told: bool) -> World {
        let mut dice = Dice(seed);
        let folder = || tempfile::tempdir().expect("a folder");
        let bucket = dice.once_in(2);
        let place = if bucket { Place::Bucket(Arc::default()) } else { Place::Folder(SimDisk::new()) };
        let count = if bucket { 2 } else { 1 };
        let writers = (0..count).map(|_| Writer { ledger: None, folder: folder() }).collect();
        let time = Arc::new(Time::default());
        let mut world = World {
            dice,
            time,
            place,
            writers,
            answered: HashMap::new(),
            leaves: HashMap::new(),
            ended: BTreeMap::new(),
            signed: BTreeMap::new(),
            next: 0,
            keys: 1,
            told,
            done: Counts::default(),
        };
        let home = world.home(u64::MAX);
        Ledger::create(&home, &identity(1)).expect("made");
        world
    }

    #[expect(clippy::print_stdout, reason = "a seed that is run alone says what it does")]
    fn say(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{}", what());
        }
    }

    fn home(&mut self, trouble: u64) -> Home {
        match &self.place {
            Place::Folder(disk) => Home::Directory(Arc::clone(disk) as _),
            Place::Bucket(kept) => {
                let (kept, time) = (Arc::clone(kept), Arc::clone(&self.time));
                let dice = Mutex::new(Dice(self.dice.next()));
                Home::Objects(Objects::new(SimStore { kept, dice, time, trouble }, 1 << 20))
            }
        }
    }

    fn options(&mut self, folder: &Path) -> Options {
        let trouble = [25, 100, 1000][self.dice.below(3) as usize];
        Options {
            journal: self.home(trouble),
            derived: folder.to_owned(),
            high_water: vec![folder.join("highwater")],
            mac: mac(),
            identity: identity(1),
            // The one before, which may still sign, the newest, and the one that waits.
            signers: (self.keys.saturating_sub(1).max(1)..=self.keys + 1).map(signer).collect(),
            clock: Arc::clone(&self.time) as Arc<dyn Clock>,
            accept_clock: false,
            key_generation: u64::MAX,
            writer: self.dice.next(),
            segment_bytes_max: Some(20_000),
        }
    }

    /// A process starts. Trouble of the moment is tried again later; anything else is a fault of ours.
    fn start(&mut self, which: usize) {
        let folder = self.writers[which].folder.path().to_owned();
        let options = self.options(&folder);
        match Ledger::open(options) {
            Ok(ledger) => {
                self.done.opened += 1;
                self.say(|| format!("writer {which} opens at {}", ledger.reader().size()));
                self.look_at(&ledger);
                self.writers[which].ledger = Some(ledger);
            }
            Err(error @ (Error::ClockBehind { .. } | Error::ClockAhead { .. })) => {
                self.say(|| format!("writer {which} does not open: {error}"));
                self.done.refused += 1;
                self.time.go(120_000);
            }
            Err(error @ Error::Io { .. }) => {
                self.say(|| format!("writer {which} does not open: {error}"));
                self.done.refused += 1;
            }
            Err(error) => panic!("writer {which} does not open: {error}"),
        }
    }

    /// What was answered is there, and every tree that was signed leads to this one.
    fn look_at(&mut self, ledger: &Ledger) {
        let reader = ledger.reader();
        let (size, root) = (reader.size(), reader.published().root);
        if let Some((last, _)) = self.signed.last_key_value() {
            assert!(*last <= size, "a tree of {last} entries was signed, and the trail opens with {size}");
        }
        let mut places: Vec<u64> = self.signed.keys().copied().collect();
        while places.len() > 6 {
            let at = self.dice.below(places.len() as u64) as usize;
            places.swap_remove(at);
        }
        for place in places {
            match range_root(reader.as_ref(), 0, place) {
                Ok(root) => assert_eq!(root, self.signed[&place], "another tree of {place} entries was signed"),
                Err(Error::Io { .. }) => return,
                Err(error) => panic!("the tree does not read: {error}"),
            }
        }
        self.sign(size, root);
        for _ in 0..4 {
            if self.next == 0 {
                return;
            }
            let record = self.dice.below(self.next);
            let Some(index) = self.answered.get(&record) else { continue };
            match reader.entry(*index) {
                Ok(entry) => {
                    let leaf = self.leaves.get(index);
                    assert!(leaf.is_none_or(|leaf| *leaf == entry.leaf), "entry {index} is another");
                }
                Err(Error::Io { .. }) => return,
                Err(error) => panic!("entry {index} was answered and does not read: {error}"),
            }
            match reader.find_id(&item(record).sealed.id.0) {
                Ok(found) => assert_eq!(found, Some(*index), "record {record} was answered at {index}"),
                Err(Error::Io { .. }) => return,
                Err(error) => panic!("record {record} was answered and is not looked up: {error}"),
            }
        }
    }

    fn sign(&mut self, size: u64, root: Hash) {
        let before = *self.signed.entry(size).or_insert(root);
        assert_eq!(before, root, "two trees of {size} entries were signed");
    }

    /// Records, new ones and some from before, go into one frame.
    fn commit(&mut self, which: usize) {
        let Some(mut ledger) = self.writers[which].ledger.take() else { return self.start(which) };
        let count = 1 + self.dice.below(6);
        let mut records: Vec<u64> = (self.next..self.next + count).collect();
        self.next += count;
        if self.dice.once_in(3) {
            records.push(self.dice.below(self.next));
        }
        let result = ledger.commit(records.iter().map(|number| record(*number)).collect());
        match result {
            Ok((outcomes, _)) => {
                self.done.commits += 1;
                for (record, outcome) in records.iter().zip(outcomes) {
                    let ended = self.ended.contains_key(&period_of(*record));
                    let index = match outcome {
                        Outcome::Committed { index, leaf } => {
                            let before = self.leaves.insert(index, leaf);
                            assert!(before.is_none_or(|before| before == leaf), "entry {index} was answered twice");
                            index
                        }
                        Outcome::Repeated { index, .. } => index,
                        // It was never answered, and comes too late.
                        Outcome::KeyGone { .. } if ended => continue,
                        Outcome::KeyGone { .. } => panic!("nobody was erased"),
                    };
                    let before = *self.answered.entry(*record).or_insert(index);
                    assert_eq!(before, index, "record {record} was answered at two places");
                }
                let published = ledger.reader().published();
                self.sign(published.size, published.root);
                self.writers[which].ledger = Some(ledger);
            }
            Err(error) => self.broke(which, ledger, &error),
        }
    }

    /// A commit failed: by the clock it may go on, after anything else the process ends.
    fn broke(&mut self, which: usize, ledger: Ledger, error: &Error) {
        self.say(|| format!("writer {which}: {error}"));
        match error {
            Error::ClockBehind { .. } | Error::ClockJumped { .. } => {
                self.done.refused += 1;
                self.time.go(120_000);
                // Whoever set the clock starts it again.
                drop(ledger);
            }
            Error::Fenced { .. } => self.done.fenced += 1,
            Error::Io { .. } | Error::Stopped => self.done.broken += 1,
            other => panic!("writer {which}: {other}"),
        }
    }

    fn close(&mut self, which: usize) {
        let Some(mut ledger) = self.writers[which].ledger.take() else { return };
        match ledger.close() {
            Ok(()) => self.writers[which].ledger = Some(ledger),
            Err(error) => self.broke(which, ledger, &error),
        }
    }

    fn rotate(&mut self, which: usize) {
        let Some(mut ledger) = self.writers[which].ledger.take() else { return };
        match ledger.bury_periods(&[9_999]) {
            Ok(()) => self.writers[which].ledger = Some(ledger),
            Err(error) => self.broke(which, ledger, &error),
        }
    }

    /// A period of before ends, and the journal gives its bodies back: those of all that have ended, in every closed segment.
    fn end_period(&mut self, which: usize) {
        let newest = period_of(self.next);
        let ends = matches!(self.place, Place::Folder(_)) && newest > FIRST_PERIOD + 1;
        if !ends || self.writers[which].ledger.is_none() {
            return;
        }
        let period = FIRST_PERIOD + self.dice.below(u64::from(newest - FIRST_PERIOD) - 1) as u32;
        let Some(mut ledger) = self.writers[which].ledger.take() else { return };
        if let Err(error) = ledger.bury_periods(&[period]) {
            return self.broke(which, ledger, &error);
        }
        let reader = ledger.reader();
        let Some(by) = reader.size().checked_sub(1) else { return };
        self.ended.entry(period).or_insert(by);
        match reader.replace(&self.ended) {
            Ok(_) => self.done.replaced += 1,
            // It is done again, by this process or the next.
            Err(error @ Error::Io { .. }) => self.say(|| format!("writer {which} does not replace: {error}")),
            Err(error) => panic!("writer {which} does not replace: {error}"),
        }
        self.writers[which].ledger = Some(ledger);
    }

    /// Only where nothing goes wrong: the entry is answered before the key changes.
    fn change_key(&mut self, which: usize) {
        let quiet = matches!(self.place, Place::Folder(_)) && self.keys < KEYS;
        let Some(mut ledger) = self.writers[which].ledger.take().filter(|_| quiet) else { return };
        change_key(&mut ledger, self.keys, self.keys + 1);
        if self.dice.once_in(2) {
            ledger.sign_alone().expect("the old one signs no more");
        }
        self.keys += 1;
        self.done.keys += 1;
        let published = ledger.reader().published();
        self.sign(published.size, published.root);
        self.writers[which].ledger = Some(ledger);
    }

    /// The machine of a writer stops: memory is gone, and of a disk what was not synced.
    fn crash(&mut self, which: usize) {
        self.writers[which].ledger = None;
        self.done.crashes += 1;
        let cut = self.dice.next();
        if let Place::Folder(disk) = &mut self.place {
            *disk = if cut.is_multiple_of(3) { disk.copy() } else { disk.power_cut(cut) };
        }
        if cut.is_multiple_of(5) {
            // The derived files are lost too; the mark is not.
            let folder = self.writers[which].folder.path();
            for item in std::fs::read_dir(folder).expect("there").filter_map(Result::ok) {
                if item.file_name() != "highwater" {
                    std::fs::remove_file(item.path()).expect("removed");
                }
            }
        }
        self.say(|| format!("writer {which} crashes"));
    }

    fn step(&mut self) {
        let which = self.dice.below(self.writers.len() as u64) as usize;
        let wait = self.dice.below(400);
        self.time.go(wait);
        match self.dice.below(1000) {
            0..=13 => self.crash(which),
            14..=19 => {
                // The wall clock is set: forward, or back.
                let by = self.dice.below(200_000);
                let wall = self.time.wall.load(Ordering::SeqCst);
                let set = if by.is_multiple_of(2) { wall + by } else { wall.saturating_sub(by) };
                self.say(|| format!("the clock is set by {}", set as i64 - wall as i64));
                self.time.wall.store(set, Ordering::SeqCst);
            }
            20..=39 => {
                if let Place::Folder(disk) = &self.place {
                    let fault = [Fault::NotDone, Fault::DoneButFailed, Fault::Half][self.dice.below(3) as usize];
                    let call = self.dice.below(8);
                    disk.fail_at(call, fault);
                }
            }
            40..=89 => self.close(which),
            90..=104 => self.rotate(which),
            105..=106 => {
                if let Place::Folder(disk) = &self.place {
                    disk.fail_at(u64::MAX, Fault::NotDone);
                }
                self.change_key(which);
            }
            107..=116 => self.end_period(which),
            _ => self.commit(which),
        }
    }

    /// All is quiet again: everything that was answered is there, and the whole trail verifies.
    fn end(&mut self) {
        self.writers.iter_mut().for_each(|writer| writer.ledger = None);
        self.time.go(3_600_000);
        match &self.place {
            Place::Folder(disk) => disk.fail_at(u64::MAX, Fault::NotDone),
            Place::Bucket(kept) => kept.lock().expect("no thread failed").tick(1_000),
        }
        let folder = tempfile::tempdir().expect("a folder");
        let home = self.home(u64::MAX);
        let options = Options { journal: home.clone(), accept_clock: true, ..self.options(folder.path()) };
        let mut ledger = Ledger::open(options).expect("it opens");
        let reader = ledger.reader();
        for (record, index) in &self.answered {
            assert_eq!(reader.find_id(&item(*record).sealed.id.0).expect("read"), Some(*index), "record {record}");
        }
        for (size, root) in &self.signed {
            assert_eq!(range_root(reader.as_ref(), 0, *size).expect("read"), *root, "the tree of {size} entries");
        }
        ledger.close().expect("closed");
        if matches!(self.place, Place::Folder(_)) {
            // Nothing is left of what has ended, once the last segment is closed too.
            ledger.bury_periods(&[u32::MAX]).expect("closed");
            assert!(reader.replace(&self.ended).expect("replaced"));
            for (number, index) in &self.answered {
                let ended = self.ended.contains_key(&period_of(*number));
                let held = reader.entry(*index).expect("read").sealed.is_some();
                assert_eq!(held, !ended, "the body of entry {index}");
            }
        }
        let report = ledger::verify::verify(home.disk().as_ref(), &Default::default(), &Default::default(), &|_, _| {});
        let report = report.expect("readable");
        assert!(report.holds(), "{:?}", report.finding);
        assert_eq!(report.entries, reader.size());
    }
}

fn run(seed: u64, told: bool) -> Counts {
    let mut world = World::new(seed, told);
    for _ in 0..STEPS_OF_SEED {
        world.step();
    }
    world.end();
    world.done
}

#[test]
fn whatever_happens_what_was_answered_stays_and_nothing_is_signed_twice() {
    let one = std::env::vars().find(|(name, _)| name == "CANDOR_SEED").and_then(|(_, seed)| seed.parse().ok());
    let seeds: Vec<u64> = match one {
        Some(seed) => vec![seed],
        None => FOUND.into_iter().chain(1..=STEPS / STEPS_OF_SEED).collect(),
    };
    let next = AtomicU64::new(0);
    let total = Mutex::new(Counts::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    let done = std::panic::catch_unwind(|| run(*seed, one.is_some()));
                    let done = done.unwrap_or_else(|_| panic!("seed {seed} found something: CANDOR_SEED={seed}"));
                    let mut total = total.lock().expect("no thread failed");
                    total.commits += done.commits;
                    total.broken += done.broken;
                    total.fenced += done.fenced;
                    total.crashes += done.crashes;
                    total.opened += done.opened;
                    total.refused += done.refused;
                    total.keys += done.keys;
                    total.replaced += done.replaced;
                }
            });
        }
    });
    let total = total.into_inner().expect("no thread failed");
    println!("{} steps of {} seeds: {total:?}", seeds.len() as u64 * STEPS_OF_SEED, seeds.len());
    if one.is_none() {
        // A simulator in which nothing goes wrong shows nothing.
        assert!(total.broken > 500 && total.fenced > 200 && total.crashes > 1_000 && total.keys > 50, "{total:?}");
        assert!(total.replaced > 500, "{total:?}");
    }
}
