//! All views of one trail, kept up by one thread.
//!
//! A commit is findable when [`Views::apply`] returns: it is in the tail, and its owners and registers are in memory.
//! The thread writes them to disk a partition at a time, the index last, so that the index's cursor is the one to
//! follow from after a stop.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ledger::background::{LAST, step_back};
use ledger::reader::Reader;
use proof::commitment::Field;
use proof::time::UnixMillis;
use record::kinds::{Catalogue, KindId};
use record::minimal::{Minimal, number};
use record::schema::{FieldClass, Kind};
use record::things::{SHAPES, Shape, columns};
use seal::crypto::Key;
use seal::shared::SharedStore;
use serde_json::Map;

use crate::error::{Error, io};
use crate::file::Vault;
use crate::index::{PARTITION, Query, TextIndex, TextSearcher};
use crate::open::{self, value};
use crate::owners::Owners;
use crate::registers::{Registers, Thing};
use crate::room::Room;
use crate::row::{Change, Row, Wanted};
use crate::states::States;
use crate::tail::{Tail, TailBatch};
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
}

/// A document with its place.
#[derive(Debug)]
pub struct Applied {
    /// Entry index.
    pub entry: u64,
    /// Whose it is.
    pub subject: Option<u64>,
    /// What it says.
    pub document: Document,
}

enum Command {
    Add(Vec<Applied>),
    Flush(SyncSender<Result<(), Error>>),
    Forget(Vec<u64>, SyncSender<Result<(), Error>>),
}

struct Shared {
    tail: RwLock<Tail>,
    owners: Owners,
    registers: Registers,
    states: States,
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
}

impl KindPlan {
    fn new(kind: &Kind) -> KindPlan {
        let shape = SHAPES.iter().find(|shape| shape.is_listed() && shape.has(&kind.name));
        let thing = |(number, pointer): &(u16, String)| Some((*number, Thing::at(pointer, &kind.name)?));
        KindPlan {
            words: KindWords::new(kind),
            things: kind.pointers.iter().filter_map(thing).collect(),
            listed: shape.map(|shape| (shape, kind.clone())),
        }
    }
}

impl Documents {
    fn new(vault: Vault, catalogue: &Catalogue) -> Documents {
        Documents { vault, kinds: Arc::new(catalogue.all().map(KindPlan::new).collect()) }
    }

    /// The document of a record about to be sealed.
    pub fn of(&self, minimal: &Minimal) -> Document {
        let facts = minimal.fields(FieldClass::Fact);
        self.make(minimal.kind, facts, minimal.fields(FieldClass::Personal), minimal.timestamp.0)
    }

    fn make<'a>(
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
        for field in facts {
            if let Some((_, thing)) = plan.things.iter().find(|(number, _)| *number == field.number) {
                let id = record::minimal::string(field.value);
                keys.push(self.vault.hash(&[b"candor/v1/register\n", &[*thing as u8], id.as_bytes()]));
            }
        }
        Document { time_ms, words, keys, change: change.map(Box::new) }
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
    shared: Arc<Shared>,
    pending: std::path::PathBuf,
    searcher: TextSearcher,
    vault: Vault,
    queue: Option<Sender<Command>>,
    room: Arc<Room>,
    thread: Option<std::thread::JoinHandle<()>>,
    cursor: u64,
}

impl Views {
    /// Opens the views in a folder, empty if there are none.
    ///
    /// # Errors
    /// The disk refuses, or a file does not open under the view key.
    pub fn open(folder: &Path, view_key: &Key) -> Result<Views, Error> {
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
        let shared = Arc::new(Shared { tail: RwLock::default(), owners, registers, states });
        let (searcher, cursor) = (index.searcher(), index.cursor());
        let (queue, commands) = channel();
        let room = Arc::new(Room::new());
        let writer = Writer { shared: Arc::clone(&shared), index, next: cursor, room: Arc::clone(&room) };
        let thread = std::thread::Builder::new()
            .name("views".into())
            .spawn(move || writer.run(&commands))
            .map_err(io("start"))?;
        let pending = folder.join("forget.pending");
        Ok(Views { shared, pending, searcher, vault, queue: Some(queue), room, thread: Some(thread), cursor })
    }

    /// Entries below this index were in the index when it was opened: follow from here.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Makes documents.
    pub fn documents(&self, catalogue: &Catalogue) -> Documents {
        Documents::new(self.vault.clone(), catalogue)
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
        self.send(Command::Add(documents))
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

    /// The times of all entries that match, in milliseconds: for counting. What is not in the index yet is counted by
    /// hashes of its words, so a count of the newest may be over by a collision.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn times(&self, query: &Query, mut take: impl FnMut(u64)) -> Result<(), Error> {
        let tail = self.shared.tail.read().map_err(|_| Error::Stopped)?.clone();
        let wanted: Vec<u32> = query.words.iter().map(|word| words::hash(word)).collect();
        tail.search(&wanted, |entry, time| {
            if query.fits(entry, time) {
                take(time);
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
        self.shared.registers.find(thing, id, limit)
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
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.vault.replace(&self.pending, &bytes).map_err(io("write"))
    }

    /// Purges the words and owners of the noted entries from every file of the views, and the note; done when it
    /// returns. Without a note it does nothing.
    ///
    /// # Errors
    /// The disk refuses; the purge is to be done again.
    pub fn forget_noted(&self) -> Result<(), Error> {
        let bytes = match self.vault.read(&self.pending) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io("read")(error)),
        };
        let entries = bytes.chunks_exact(8).map(proof::encoding::big_endian).collect();
        self.ask(|answer| Command::Forget(entries, answer))?;
        std::fs::remove_file(&self.pending).map_err(io("remove"))
    }

    /// Follows the ledger to its head: after a stop, or from nothing. `progress` is told of every entry.
    ///
    /// # Errors
    /// The ledger or the key store cannot be read.
    pub fn catch_up(
        &self,
        reader: &Reader,
        store: &SharedStore,
        catalogue: &Catalogue,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let end = reader.size();
        let documents = self.documents(catalogue);
        self.catch_up_states(reader, store, catalogue, &documents)?;
        let missing = self.missing_owners(reader, store)?;
        let mut pending = Vec::new();
        reader.each_entry(self.cursor, |stored| {
            let entry = stored.index;
            if entry >= end {
                return Ok(());
            }
            let owner = match missing.get(&entry) {
                Some(subject) => Some(*subject),
                None => self.owner(entry)?,
            };
            let keys = open::keys(&stored, owner, &mut *store.lock()?)?;
            let opened = open::open(&stored, &keys, catalogue)?;
            let document = document_of(&opened, &documents);
            pending.push(Applied { entry, subject: owner.filter(|_| opened.personal.is_ok()), document });
            if pending.len() == 1024 || entry + 1 == end {
                self.apply(std::mem::take(&mut pending))?;
            }
            progress(entry + 1);
            Ok::<(), Error>(())
        })
    }

    /// States that are behind the index, as those of another version are, follow alone.
    fn catch_up_states(
        &self,
        reader: &Reader,
        store: &SharedStore,
        catalogue: &Catalogue,
        documents: &Documents,
    ) -> Result<(), Error> {
        let states = &self.shared.states;
        let from = states.cursor();
        if from >= self.cursor {
            return Ok(());
        }
        reader.each_entry(from, |stored| {
            let (entry, kind) = (stored.index, stored.entry()?.kind.to_owned());
            // What is in memory is bounded, and a stop goes on from here.
            if entry.is_multiple_of(PARTITION) && entry > from && entry < self.cursor {
                states.flush(entry)?;
            }
            if entry >= self.cursor || !SHAPES.iter().any(|shape| shape.is_listed() && shape.has(&kind)) {
                return Ok(());
            }
            let keys = open::keys(&stored, None, &mut *store.lock()?)?;
            let document = document_of(&open::open(&stored, &keys, catalogue)?, documents);
            states.add(document.change.iter().map(|change| (entry, &**change)), entry + 1)
        })?;
        states.add(std::iter::empty(), self.cursor)?;
        states.flush(self.cursor)
    }

    /// Owners that are not in the files: after a loss of power, or when rebuilding. Found through the tags of every
    /// living subject.
    fn missing_owners(&self, reader: &Reader, store: &SharedStore) -> Result<HashMap<u64, u64>, Error> {
        let mut unknown = std::collections::HashSet::new();
        let owners = &self.shared.owners;
        let mut failed = None;
        reader.follow(self.cursor, |frame| {
            let corrupt = |why: ledger::frame::Broken| ledger::error::Error::Corrupt {
                what: format!("frame {}", frame.header.number),
                why: why.to_string(),
            };
            let entries = frame.entries().map_err(corrupt)?;
            for place in 0..entries.len() {
                let entry = frame.header.first_index + place as u64;
                if entry < self.cursor || entries.record(place).map_err(corrupt)?.personal.is_none() {
                    continue;
                }
                match owners.get(entry) {
                    Ok(None) => drop(unknown.insert(entry)),
                    Ok(Some(_)) => {}
                    Err(error) => failed = Some(error),
                }
            }
            Ok(failed.is_none())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut found = HashMap::new();
        if unknown.is_empty() {
            return Ok(found);
        }
        let count = store.lock()?.subject_count();
        for number in 1..=count {
            let subject = store.lock()?.subject(number)?;
            if let Some(subject) = subject {
                for entry in reader.entries_of(&subject.tagger, usize::MAX)? {
                    if unknown.contains(&entry) {
                        found.insert(entry, number);
                    }
                }
            }
        }
        Ok(found)
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

fn document_of(opened: &open::Opened, documents: &Documents) -> Document {
    let (Some(kind), Ok(facts)) = (opened.kind, &opened.facts) else {
        return Document { time_ms: 0, words: Words::default(), keys: Vec::new(), change: None };
    };
    let facts = facts.fields();
    let personal = opened.personal.as_ref().map(|body| body.fields()).unwrap_or_default();
    let time = value(&facts, number::TIMESTAMP).and_then(|text| UnixMillis::parse(text.as_bytes()).ok());
    documents.make(kind, facts.iter().copied(), personal.into_iter(), time.unwrap_or_default().0)
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
        self.shared.tail.write().map_err(|_| Error::Stopped)?.drop_before(self.next);
        Ok(())
    }

    fn forget(&mut self, entries: &[u64]) -> Result<(), Error> {
        self.flush()?;
        self.shared.owners.forget(entries, self.next)?;
        self.index.forget(entries)
    }
}
