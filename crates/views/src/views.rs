//! All views of one trail, kept up by one thread.
//!
//! A commit is findable when [`Views::apply`] returns: it is in the tail, and its owners and registers are in memory.
//! The thread writes them to disk a partition at a time, the index last, so that the index's cursor is the one to
//! follow from after a stop.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ledger::background::{LAST, step_back};
use proof::commitment::Field;
use proof::time::UnixMillis;
use record::kinds::{Catalogue, KindId};
use record::minimal::Minimal;
use record::schema::{FieldClass, Kind};
use record::things::{SHAPES, Shape, columns};
use seal::crypto::Key;
use serde_json::Map;

use crate::cycles::Cycles;
use crate::error::{Error, io};
use crate::expire::Refold;
use crate::file::Vault;
use crate::index::{PARTITION, Query, TextIndex, TextSearcher};
use crate::notes::Notes;
use crate::owners::Owners;
use crate::registers::{Registers, Thing};
use crate::room::Room;
use crate::row::{Change, Row, Wanted};
use crate::states::States;
use crate::tail::{Tail, TailBatch};
use crate::watch::{Alert, Rules, Sighted, Taps, Watch};
use crate::words::{self, KindWords, Words};

/// How long a list waits for what was answered before it was asked for.
const LIST_WAIT: Duration = Duration::from_secs(5);
/// What the views need of one record.
#[derive(Debug, Clone)]
pub struct Document {
    /// The record's own time.
    pub time_ms: u64,
    /// Its words.
    pub words: Words,
    /// Its register keys.
    pub keys: Vec<u64>,
    /// What it changes of a thing that there are lists of.
    pub change: Option<Box<Change>>,
    /// What rules see in it.
    pub sighted: Option<Box<Sighted>>,
}

impl Document {
    /// What is made of a record that nothing can be told of.
    pub fn empty() -> Document {
        Document { time_ms: 0, words: Words::default(), keys: Vec::new(), change: None, sighted: None }
    }
}

/// A document with its place.
#[derive(Debug)]
pub struct Applied {
    /// Entry index.
    pub entry: u64,
    /// When it was accepted.
    pub at_ms: u64,
    /// Whose it is.
    pub subject: Option<u64>,
    /// What it says.
    pub document: Document,
}

enum Command {
    Add(Vec<Applied>),
    Flush(SyncSender<Result<(), Error>>),
    Forget(Vec<u64>, SyncSender<Result<(), Error>>),
    Purge(Vec<u64>, SyncSender<Result<(), Error>>),
    Refold(Box<Refold>, SyncSender<Result<(), Error>>),
}

pub(crate) struct Shared {
    tail: RwLock<Tail>,
    pub(crate) owners: Owners,
    pub(crate) registers: Registers,
    pub(crate) states: States,
    pub(crate) watch: Watch,
    cycles: Cycles,
}

/// Makes documents.
#[derive(Clone)]
pub struct Documents {
    vault: Vault,
    kinds: Arc<Vec<KindPlan>>,
}

/// What the views take from the records of one kind.
struct KindPlan {
    words: KindWords,
    /// The fields whose values are ids of things.
    things: Vec<(u16, Thing)>,
    /// The kind, where lists of a register know such events, and the register's shape.
    listed: Option<(&'static Shape, Kind)>,
    taps: Taps,
}

impl KindPlan {
    fn new(kind: &Kind, rules: &Arc<Rules>) -> KindPlan {
        let shape = SHAPES.iter().find(|shape| shape.is_listed() && shape.has(&kind.name));
        let thing = |(number, pointer): &(u16, String)| Some((*number, Thing::at(pointer, &kind.name)?));
        KindPlan {
            words: KindWords::new(kind),
            things: kind.pointers.iter().filter_map(thing).collect(),
            listed: shape.map(|shape| (shape, kind.clone())),
            taps: Taps::new(kind, rules, shape.map(Shape::place)),
        }
    }
}

impl Documents {
    fn new(vault: Vault, catalogue: &Catalogue, rules: &Arc<Rules>) -> Documents {
        Documents { vault, kinds: Arc::new(catalogue.all().map(|kind| KindPlan::new(kind, rules)).collect()) }
    }

    /// Whether rules look at kinds of this name.
    pub(crate) fn watches(&self, name: &str, catalogue: &Catalogue) -> bool {
        catalogue.all().zip(self.kinds.iter()).any(|(kind, plan)| kind.name == name && plan.taps.look())
    }

    /// The document of a record about to be sealed.
    pub fn of(&self, minimal: &Minimal) -> Document {
        let facts = minimal.fields(FieldClass::Fact);
        self.make(minimal.kind, facts, minimal.fields(FieldClass::Personal), minimal.timestamp.0)
    }

    pub(crate) fn make<'a>(
        &self,
        kind: KindId,
        facts: impl Iterator<Item = Field<'a>> + Clone,
        personal: impl Iterator<Item = Field<'a>>,
        time_ms: u64,
    ) -> Document {
        let plan = &self.kinds[usize::from(kind.0)];
        let words = plan.words.of(facts.clone(), personal);
        let listed = plan.listed.as_ref();
        let change = listed.and_then(|(shape, kind)| change(shape, kind, facts.clone(), time_ms));
        let mut keys = Vec::with_capacity(plan.things.len());
        for field in facts.clone() {
            if let Some((_, thing)) = plan.things.iter().find(|(number, _)| *number == field.number) {
                let id = record::minimal::string(field.value);
                keys.push(self.vault.hash(&[b"candor/v1/register\n", &[*thing as u8], id.as_bytes()]));
            }
        }
        let sighted = plan.taps.of(facts, change.as_ref());
        Document { time_ms, words, keys, change: change.map(Box::new), sighted }
    }
}

/// What an event changes of its thing; `None` where it names none.
fn change<'a>(shape: &Shape, kind: &Kind, facts: impl Iterator<Item = Field<'a>>, time_ms: u64) -> Option<Change> {
    let mut record = Map::new();
    facts.for_each(|field| kind.put(&mut record, field.number, field.value));
    let (id, at) = (record.get(shape.id)?.as_str()?.to_owned(), UnixMillis(time_ms));
    Some(Change { register: shape.place(), id, at, columns: columns(shape, &kind.name, &record, at) })
}

/// The open views.
pub struct Views {
    pub(crate) shared: Arc<Shared>,
    pub(crate) notes: Notes,
    searcher: TextSearcher,
    vault: Vault,
    queue: Option<Sender<Command>>,
    room: Arc<Room>,
    thread: Option<std::thread::JoinHandle<()>>,
    pub(crate) cursor: u64,
    /// Entries that were taken, all below it.
    applied: AtomicU64,
}

impl Views {
    /// Opens the views in a folder, empty if there are none.
    ///
    /// # Errors
    /// The disk refuses, or a file does not open under the view key.
    pub fn open(folder: &Path, view_key: &Key, rules: Arc<Rules>) -> Result<Views, Error> {
        std::fs::create_dir_all(folder).map_err(io("create"))?;
        let vault = Vault::new(view_key);
        // The index's own threads, for writing and merging, are started by this one and step back with it.
        let index = std::thread::scope(|scope| {
            let open = || {
                step_back(LAST);
                TextIndex::open(&folder.join("index"), &vault)
            };
            scope.spawn(open).join().map_err(|_| Error::Stopped)?
        })?;
        let owners = Owners::open(&folder.join("owners"), vault.clone())?;
        let registers = Registers::open(&folder.join("registers"), vault.clone())?;
        let states = States::open(&folder.join("states.db"), vault.clone())?;
        let watch = Watch::open(&folder.join("watch.state"), vault.clone(), rules)?;
        let cycles = Cycles::open(&folder.join("cycles.state"), vault.clone())?;
        let shared = Arc::new(Shared { tail: RwLock::default(), owners, registers, states, watch, cycles });
        let (searcher, cursor) = (index.searcher(), index.cursor());
        let (queue, commands) = channel();
        let room = Arc::new(Room::new());
        let writer = Writer { shared: Arc::clone(&shared), index, next: cursor, room: Arc::clone(&room) };
        let thread = std::thread::Builder::new()
            .name("views".into())
            .spawn(move || writer.run(&commands))
            .map_err(io("start"))?;
        let notes = Notes::of(folder, vault.clone());
        Ok(Views {
            shared,
            notes,
            searcher,
            vault,
            queue: Some(queue),
            room,
            thread: Some(thread),
            cursor,
            applied: cursor.into(),
        })
    }

    /// Everything below this entry was taken. It stands still from the first commit on that could not be: what owners and
    /// registers say of entries from there on is not the whole.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Entries below this index were in the index when it was opened: follow from here.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Makes documents for other rules: those that are tried.
    pub(crate) fn documents_for(&self, catalogue: &Catalogue, rules: &Arc<Rules>) -> Documents {
        Documents::new(self.vault.clone(), catalogue, rules)
    }

    /// Makes documents.
    pub fn documents(&self, catalogue: &Catalogue) -> Documents {
        Documents::new(self.vault.clone(), catalogue, self.shared.watch.rules())
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        let queue = self.queue.as_ref().ok_or(Error::Stopped)?;
        queue.send(command).map_err(|_| Error::Stopped)
    }

    /// Takes a commit; findable when this returns. Doing it again for the same entries changes nothing.
    ///
    /// # Errors
    /// The thread that writes the views has ended.
    pub fn apply(&self, documents: Vec<Applied>) -> Result<(), Error> {
        // Without the thread nothing would leave memory again: it is noticed here.
        self.room.take(documents.len())?;
        let mut batch = TailBatch::default();
        let mut owned = Vec::new();
        for applied in &documents {
            batch.push(applied.entry, applied.document.time_ms, applied.document.words.hashes());
            owned.extend(applied.subject.map(|subject| (applied.entry, subject)));
        }
        self.shared.owners.add(&owned)?;
        let rows = |applied: &Applied| {
            let entry = applied.entry;
            applied.document.keys.clone().into_iter().map(move |key| (key, entry))
        };
        self.shared.registers.add(documents.iter().flat_map(rows))?;
        self.shared.tail.write().map_err(|_| Error::Stopped)?.push(batch);
        self.shared.watch.apply(documents.iter().map(|applied| {
            let document = &applied.document;
            (applied.entry, applied.at_ms, document.time_ms, document.sighted.as_deref())
        }))?;
        let range = documents.first().zip(documents.last()).map(|(first, last)| first.entry..last.entry + 1);
        self.send(Command::Add(documents))?;
        if let Some(range) = range.filter(|range| range.start <= self.applied()) {
            self.applied.fetch_max(range.end, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Entries that match, newest first. A hit is a hint: the caller opens the entry and looks at its words.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn search(&self, query: &Query, mut take: impl FnMut(u64) -> bool) -> Result<(), Error> {
        let tail = self.shared.tail.read().map_err(|_| Error::Stopped)?.clone();
        let wanted: Vec<u32> = query.words.iter().map(|word| words::hash(word)).collect();
        let whole = tail.search(&wanted, |entry, time| !query.fits(entry, time) || take(entry));
        if !whole {
            return Ok(());
        }
        // What the tail had may have reached the index meanwhile.
        let below = [tail.first(), query.below].into_iter().flatten().min();
        self.searcher.search(&Query { below, ..query.clone() }, take)
    }

    /// The newest entries that have all these words and filters; hints, as those of [`Views::search`].
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn newest(&self, words: Vec<String>, limit: usize) -> Result<Vec<u64>, Error> {
        let mut found = Vec::new();
        self.search(&Query { words, limit, ..Query::default() }, |entry| {
            found.push(entry);
            found.len() < limit
        })?;
        Ok(found)
    }

    /// The times of all entries that match, in milliseconds: for counting. What is not in the index yet is counted by
    /// hashes of its words, so a count of the newest may be over by a collision.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn times(&self, query: &Query, mut take: impl FnMut(u64)) -> Result<(), Error> {
        self.matches(query, |_, time| take(time))
    }

    /// All entries that match with their times, in no order of use; newest ones as [`Views::times`] has them.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn matches(&self, query: &Query, mut take: impl FnMut(u64, u64)) -> Result<(), Error> {
        let tail = self.shared.tail.read().map_err(|_| Error::Stopped)?.clone();
        let wanted: Vec<u32> = query.words.iter().map(|word| words::hash(word)).collect();
        tail.search(&wanted, |entry, time| {
            if query.fits(entry, time) {
                take(entry, time);
            }
            true
        });
        let below = [tail.first(), query.below].into_iter().flatten().min();
        self.searcher.each(&Query { below, ..query.clone() }, take)
    }

    /// Whose an entry is.
    ///
    /// # Errors
    /// The owners cannot be read.
    pub fn owner(&self, entry: u64) -> Result<Option<u64>, Error> {
        self.shared.owners.get(entry)
    }

    /// The newest `limit` entries of a thing, oldest first.
    ///
    /// # Errors
    /// The registers cannot be read.
    pub fn find(&self, thing: Thing, id: &str, limit: usize) -> Result<Vec<u64>, Error> {
        self.shared.registers.find(thing, id, 0, limit)
    }

    /// The same from an entry on, such as a thing's first: what was written before it is not looked at.
    ///
    /// # Errors
    /// The registers cannot be read.
    pub fn find_since(&self, thing: Thing, id: &str, since: u64, limit: usize) -> Result<Vec<u64>, Error> {
        self.shared.registers.find(thing, id, since, limit)
    }

    /// Things of a register that fit, those that began last first. Everything before `size` is in it, or the answer is
    /// [`Error::Behind`].
    ///
    /// # Errors
    /// The states cannot be read.
    pub fn list(&self, shape: &Shape, wanted: &Wanted, size: u64) -> Result<Vec<Row>, Error> {
        if !self.shared.states.wait(size, LIST_WAIT)? {
            return Err(Error::Behind);
        }
        self.shared.states.list(shape, wanted)
    }

    /// Life cycles that stand open.
    pub fn cycles(&self) -> &Cycles {
        &self.shared.cycles
    }

    /// Alerts that are to be recorded: each until its own entry was applied.
    ///
    /// # Errors
    /// Another thread failed.
    pub fn alerts(&self) -> Result<Vec<Alert>, Error> {
        self.shared.watch.pending()
    }

    /// Entries below this index were seen by the rules.
    ///
    /// # Errors
    /// Another thread failed.
    pub fn seen(&self) -> Result<u64, Error> {
        self.shared.watch.cursor()
    }

    /// Streams of a source that numbers what it sends: name, the last number, how many are missing.
    ///
    /// # Errors
    /// Another thread failed.
    pub fn streams(&self, source: &str) -> Result<Vec<(String, u64, u64)>, Error> {
        self.shared.watch.streams(source)
    }

    /// The rules that are watched.
    pub fn rules(&self) -> &Arc<Rules> {
        self.shared.watch.rules()
    }

    fn ask(&self, command: impl FnOnce(SyncSender<Result<(), Error>>) -> Command) -> Result<(), Error> {
        let (answer, receiver) = sync_channel(1);
        self.send(command(answer))?;
        receiver.recv().map_err(|_| Error::Stopped)?
    }

    /// Writes everything to disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn flush(&self) -> Result<(), Error> {
        self.ask(Command::Flush)
    }

    /// Notes which entries are to be purged, before the keys that could tell are destroyed.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn note_forget(&self, entries: &[u64]) -> Result<(), Error> {
        self.notes.forget(entries)
    }

    /// Removes the words of these entries, in order, for good.
    pub(crate) fn purge(&self, entries: Vec<u64>) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        self.ask(|answer| Command::Purge(entries, answer))
    }

    /// Folds things of lists again from what is left of them.
    pub(crate) fn refold(&self, refold: Refold) -> Result<(), Error> {
        if refold.things.is_empty() {
            return Ok(());
        }
        self.ask(|answer| Command::Refold(Box::new(refold), answer))
    }

    /// Purges the words and owners of the noted entries from every file of the views, and the note; done when it
    /// returns. Without a note it does nothing.
    ///
    /// # Errors
    /// The disk refuses; the purge is to be done again.
    pub fn forget_noted(&self) -> Result<(), Error> {
        let Some(entries) = self.notes.to_forget()? else { return Ok(()) };
        self.ask(|answer| Command::Forget(entries, answer))?;
        self.notes.forgotten_done()
    }

    /// Writes everything and ends the thread.
    ///
    /// # Errors
    /// The disk refuses; the next start follows from the older cursor.
    pub fn stop(mut self) -> Result<(), Error> {
        self.flush().and_then(|()| {
            self.queue = None;
            match self.thread.take().map(std::thread::JoinHandle::join) {
                Some(Err(_)) => Err(Error::Stopped),
                _ => Ok(()),
            }
        })
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    index: TextIndex,
    next: u64,
    room: Arc<Room>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Writer {
    fn run(mut self, commands: &Receiver<Command>) {
        for command in commands {
            let done = match command {
                Command::Add(documents) => {
                    let added = self.add(&documents);
                    self.room.give(documents.len());
                    added
                }
                Command::Flush(answer) => {
                    let result = self.flush();
                    let _ = answer.send(result);
                    Ok(())
                }
                Command::Forget(entries, answer) => {
                    let result = self.forget(&entries);
                    let _ = answer.send(result);
                    Ok(())
                }
                Command::Purge(entries, answer) => {
                    let result = self.flush().and_then(|()| self.index.purge(entries));
                    let _ = answer.send(result);
                    Ok(())
                }
                Command::Refold(refold, answer) => {
                    let result = self.refold(&refold);
                    let _ = answer.send(result);
                    Ok(())
                }
            };
            // The queue closes with this thread, and whoever adds next is told.
            if done.is_err() {
                return;
            }
        }
    }

    fn add(&mut self, documents: &[Applied]) -> Result<(), Error> {
        for applied in documents {
            if applied.entry < self.next {
                continue;
            }
            // A commit that could not be applied before this one: the next start follows from the cursor.
            if applied.entry > self.next {
                return Err(Error::Stopped);
            }
            self.index.add(applied.entry, applied.document.time_ms, applied.document.words.text())?;
            self.next = applied.entry + 1;
        }
        let changes = documents.iter().filter_map(|applied| Some((applied.entry, applied.document.change.as_deref()?)));
        self.shared.states.add(changes, self.next)?;
        if self.next - self.index.cursor() >= PARTITION {
            self.flush()?;
            self.index.merge_small()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.next == self.index.cursor() {
            return Ok(());
        }
        self.shared.owners.flush(self.next)?;
        self.shared.registers.flush(self.next)?;
        self.shared.states.flush(self.next)?;
        self.index.commit(self.next)?;
        self.shared.watch.flush()?;
        self.shared.tail.write().map_err(|_| Error::Stopped)?.drop_before(self.next);
        Ok(())
    }

    /// What arrives meanwhile waits in the queue and is applied after it; what is found here already is applied twice,
    /// which changes nothing.
    fn refold(&mut self, refold: &Refold) -> Result<(), Error> {
        self.flush()?;
        for (register, id) in &refold.things {
            let changes = refold.left(&self.shared, *register, id)?;
            self.shared.states.forget(*register, id)?;
            self.shared.states.add(changes.iter().map(|(entry, change)| (*entry, change)), self.next)?;
        }
        self.shared.states.flush(self.next)
    }

    fn forget(&mut self, entries: &[u64]) -> Result<(), Error> {
        self.flush()?;
        self.shared.owners.forget(entries, self.next)?;
        self.index.forget(entries)
    }
}
