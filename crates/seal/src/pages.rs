//! The paged file below the key store: leaf pages under a tree of wrapping keys (`docs/formats/keystore.md`).
//!
//! Every page is AES-256-GCM under its own random key. A leaf's key stands in its parent page, the parent's in its
//! parent, the topmost key of each tree in the meta page, whose key (the root key) stands in the root file, wrapped
//! by the master key. Destroying something rewrites its leaf and the path above it under new keys and then replaces
//! the root key: every older copy of those pages, wherever SQLite or the disk kept one, hangs on keys that no longer
//! exist. Adding something rewrites pages under the keys they have.
//!
//! Longer than most files: pages, their batches and the root file fail together or not at all.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use crate::beside::{Beside, Place, catch_up, note, parts_max, place_of, put_base, put_rows, unnote};
use crate::crypto::{Key, decrypt, encrypt};
use crate::elsewhere::{Base, CHANGES_MAX, Elsewhere, Left, PART_BYTES, Remote, SLOT_BYTES};
use crate::error::{Error, database};
use crate::master::MasterKey;
use crate::random::RandomPool;

/// Children of an inner page.
const FAN_OUT: u64 = 256;
/// Levels of inner pages above a leaf: 2^24 leaves in a tree.
const LEVELS: u8 = 3;
/// Pages kept in memory before half of the clean leaves go: at about 2.5 KiB each, 15 MiB.
const CACHED_PAGES_MAX: usize = 6_144;
/// SQLite pages in the write-ahead log before they are copied to their places, beside the writing: 32 MiB. Identifiers
/// fall on pages at random, so the longer the log, the more changes of one page are copied once.
const LOG_PAGES_MAX: u64 = 8192;
/// Where nobody copies beside the writing, the writer does it at so many pages.
const LOG_PAGES_HARD_MAX: u64 = 4 * LOG_PAGES_MAX;
const DATABASE_PAGE_BYTES: usize = 4096;
/// Pages of SQLite that a copy takes at once.
const COPIED_AT_ONCE: std::ffi::c_int = 1024;
const ROOT_MAGIC: &[u8; 8] = b"CNDRROOT";
const ROOT_VERSION: u16 = 1;

/// Which tree of leaf pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tree {
    Subjects = 0,
    Periods = 1,
    Identifiers = 2,
    Tombstones = 3,
    Holds = 4,
    Held = 5,
}

const TREES: usize = 6;
/// Trees of version 1: their keys stand at the beginning of the meta page, those of later ones at its end.
const TREES_FIRST: usize = 4;
const TREE_KEY_BYTES: usize = 33;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageId {
    tree: u8,
    level: u8,
    number: u64,
}

impl PageId {
    fn row(self) -> i64 {
        (i64::from(self.tree) + 1) << 56 | i64::from(self.level) << 48 | self.number as i64
    }
}

const META_ROW: i64 = 0;

struct Page {
    key: Key,
    bytes: Zeroizing<Vec<u8>>,
    /// Number of the batch that will carry the newest change; 0 if what is on disk is the same.
    changed_in: u64,
}

/// The connection that writes, and the last batch that it made durable.
struct Database {
    connection: rusqlite::Connection,
    written: u64,
    /// About how many pages went into the write-ahead log since it was last copied.
    log_pages: u64,
    beside: Option<Beside>,
    /// A batch is in the second place of which it is not known whether it is here: nothing more is written.
    unsettled: bool,
}

/// The write-ahead log of the pages, to be copied to their places beside the writing: a copy takes tens of
/// milliseconds, for which nobody who waits for a key should have to wait.
#[derive(Clone)]
pub(crate) struct Log {
    folder: PathBuf,
    database: Arc<Mutex<Database>>,
}

impl Log {
    /// Copies the log if it is long: most of it while others write, the little that came meanwhile while they wait, so
    /// that the log can begin again.
    pub(crate) fn copy(&self) -> Result<(), Error> {
        let held = || self.database.lock().map_err(|_| Error::Stopped);
        if held()?.log_pages < LOG_PAGES_MAX {
            return Ok(());
        }
        checkpoint(&open_database(&self.folder)?, "PASSIVE")?;
        let mut held = held()?;
        checkpoint(&held.connection, "PASSIVE")?;
        held.log_pages = 0;
        Ok(())
    }

    /// Makes a whole copy of the pages in the second place when the batches since the last one are many and larger, so
    /// that a new machine has not much to read, and removes what the last one made needless; others write meanwhile.
    pub(crate) fn copy_elsewhere(&self) -> Result<(), Error> {
        let held = || self.database.lock().map_err(|_| Error::Stopped);
        let Some((remote, place)) =
            held()?.beside.as_ref().map(|beside| (Arc::clone(&beside.remote), beside.place.clone()))
        else {
            return Ok(());
        };
        remote.sweep()?;
        let base = remote.base()?;
        let is_due = place.applied.saturating_sub(base.number) >= CHANGES_MAX
            && place.sent >= u64::from(base.parts) * PART_BYTES;
        if !is_due {
            return Ok(());
        }
        let begun_at = put_base(&self.folder, &remote)?;
        if let Some(beside) = &mut held()?.beside {
            beside.place.sent -= begun_at.sent;
        }
        remote.sweep()
    }
}

pub(crate) fn checkpoint(connection: &rusqlite::Connection, mode: &str) -> Result<(), Error> {
    let _busy: i64 = connection
        .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0))
        .map_err(database("checkpoint"))?;
    Ok(())
}

/// A state of the store to be copied beside the writing.
pub struct Snapshot {
    connection: rusqlite::Connection,
    root: Vec<u8>,
}

impl Snapshot {
    /// Writes the store's two files into a folder; synced.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut copy = rusqlite::Connection::open(folder.join("store.db")).map_err(database("copy"))?;
        rusqlite::backup::Backup::new(&self.connection, &mut copy)
            .and_then(|backup| backup.run_to_completion(COPIED_AT_ONCE, std::time::Duration::ZERO, None))
            .map_err(database("copy"))?;
        copy.close().map_err(|(_, error)| database("copy")(error))?;
        let write = || -> std::io::Result<()> {
            let mut root = std::fs::File::create(root_path(folder))?;
            root.write_all(&self.root)?;
            root.sync_all()?;
            std::fs::File::open(folder.join("store.db"))?.sync_all()
        };
        write().map_err(io("write", "copy of the key store"))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

/// What one commit writes: gathered under the store's lock, written outside it.
pub(crate) struct Batch {
    number: u64,
    rows: Vec<(i64, Vec<u8>)>,
    database: Arc<Mutex<Database>>,
    durable: Arc<AtomicU64>,
}

impl Batch {
    /// Makes the batch durable: one transaction, one sync. A batch that was overtaken by a later one, which had
    /// everything of it, writes nothing.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let mut held = self.database.lock().map_err(|_| Error::Stopped)?;
        if held.written >= self.number {
            return Ok(());
        }
        if held.unsettled {
            return Err(Error::Stopped);
        }
        let mut place = None;
        if let Some(Beside { remote, place: before }) = &held.beside {
            let code = remote.change(before.applied + 1, &before.code, &self.rows)?;
            // If we stop before the commit below: the next start takes the batch from there.
            place = Some(before.next(code, &self.rows));
            held.unsettled = true;
        }
        let transaction = held.connection.transaction().map_err(database("begin"))?;
        put_rows(&transaction, &self.rows)?;
        if let Some(place) = &place {
            note(&transaction, place)?;
        }
        transaction.commit().map_err(database("commit"))?;
        held.unsettled = false;
        held.written = self.number;
        if let (Some(beside), Some(place)) = (&mut held.beside, place) {
            beside.place = place;
        }
        held.log_pages += self.rows.iter().map(|(_, blob)| (blob.len() / DATABASE_PAGE_BYTES + 1) as u64).sum::<u64>();
        self.durable.store(self.number, Ordering::Release);
        Ok(())
    }

    /// The number to [`Pages::settle`] after the write.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// The pages, cached and written in groups.
///
/// Two connections: one writes, outside the store's lock, the other reads pages that are not in memory. A page leaves
/// memory only when its newest change is durable, so the reading one never sees an older page than it should.
pub(crate) struct Pages {
    folder: PathBuf,
    database: Arc<Mutex<Database>>,
    reading: rusqlite::Connection,
    /// Batches gathered so far; the next one's number is one more.
    gathered: u64,
    durable: Arc<AtomicU64>,
    /// Pages whose newest change is not known to be durable.
    dirty: HashSet<PageId>,
    /// Whether anything changed since the last batch was gathered.
    changed: bool,
    root_file: std::fs::File,
    root_sequence: u64,
    remote: Option<Arc<Remote>>,
    master: MasterKey,
    root_key: Key,
    tree_keys: [Option<Key>; TREES],
    cache: HashMap<PageId, Page>,
    random: RandomPool,
    /// Paths to rewrite under new keys at the next commit.
    doomed: Vec<PageId>,
    /// Whether the next commit destroys the first page as it was.
    meta_doomed: bool,
    /// A destruction failed half-way: what is on disk decides, so nothing more is written before the next start.
    failed: bool,
}

pub(crate) fn root_path(folder: &Path) -> PathBuf {
    folder.join("root")
}

fn io(action: &'static str, what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { action, what, source }
}

impl Pages {
    pub(crate) fn create(folder: &Path, master: MasterKey) -> Result<Pages, Error> {
        let root_key = Key(RandomPool::default().take());
        let root_file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(root_path(folder))
            .map_err(io("create", "key store root"))?;
        let mut pages = Pages::assemble(folder, open_database(folder)?, root_file, master, root_key)?;
        pages.settle_root()?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync", "key store folder"))?;
        Ok(pages)
    }

    /// Opens the pages and gives the content of the meta page.
    pub(crate) fn open(
        folder: &Path,
        master: MasterKey,
        elsewhere: Option<Box<dyn Elsewhere>>,
    ) -> Result<(Pages, Zeroizing<Vec<u8>>), Error> {
        let Some(elsewhere) = elsewhere else {
            let (pages, meta) = Pages::open_here(folder, master)?;
            // What was begun there is none of this folder's any more: from here on it would lack what comes.
            if pages.place()?.is_some_and(|place| !place.whole) {
                unnote(&pages.database.lock().map_err(|_| Error::Stopped)?.connection)?;
            }
            return Ok((pages, meta));
        };
        let (remote, head) = Remote::find(elsewhere, &master)?;
        let place = head.map(|head| catch_up(folder, &remote, &head, &master)).transpose()?;
        let (mut pages, meta) = Pages::open_here(folder, master)?;
        match place {
            Some(place) => pages.follow(Arc::new(remote), place)?,
            None => pages.begin_elsewhere(remote)?,
        }
        // Opening settled on the true root key here; the head may still have the one before.
        let there = pages.remote.as_ref().map(|remote| remote.slot()).transpose()?;
        if read_slots(&pages.root_file).first().map(|(_, slot)| *slot) != there {
            pages.settle_root()?;
        }
        Ok((pages, meta))
    }

    /// Which store elsewhere the folder notes that it follows.
    fn place(&self) -> Result<Option<Place>, Error> {
        place_of(&self.reading)
    }

    /// Whether the folder is a copy of pages elsewhere, which this process does not write to.
    pub(crate) fn is_copy(&self) -> Result<bool, Error> {
        Ok(self.remote.is_none() && self.place()?.is_some_and(|place| place.whole))
    }

    pub(crate) fn has_elsewhere(&self) -> bool {
        self.remote.is_some()
    }

    /// All that is here goes to a place that has nothing yet. The head comes last: until it stands there is nothing there.
    pub(crate) fn begin_elsewhere(&mut self, remote: Remote) -> Result<(), Error> {
        let before = self.place()?;
        if before.as_ref().is_some_and(|place| place.whole) {
            let why = "there are none, and this folder follows those of another place: set `keys` as it was";
            return Err(Error::Corrupt { what: "keys elsewhere", why });
        }
        if let Some(Place { store, .. }) = before {
            remote.remove_base(&store, &Base::first(&store, parts_max(&self.reading)?))?;
        }
        let slots = read_slots(&self.root_file);
        let (_, slot) = slots.first().ok_or(Error::Stopped)?;
        remote.begin(*slot)?;
        let place = Place::first(remote.id);
        note(&self.database.lock().map_err(|_| Error::Stopped)?.connection, &place)?;
        put_base(&self.folder, &remote)?;
        self.follow(Arc::new(remote), Place { whole: true, ..place })
    }

    /// The folder has its keys alone from now on. Gives what is to be removed elsewhere, if this process writes there.
    pub(crate) fn leave_elsewhere(&mut self) -> Result<Option<Left>, Error> {
        self.failed = true;
        let mut held = self.database.lock().map_err(|_| Error::Stopped)?;
        let mut left = None;
        if let (Some(Beside { place, .. }), Some(remote)) = (held.beside.take(), self.remote.take()) {
            // If we stop from here on: with the head there the folder still follows, and without it it does not.
            note(&held.connection, &Place { whole: false, ..place })?;
            left = Some(Left { head: remote.give_up()?, remote, applied: place.applied });
        }
        unnote(&held.connection)?;
        self.failed = false;
        Ok(left)
    }

    /// From now on what is written goes there first. `place`: what of it is here.
    fn follow(&mut self, remote: Arc<Remote>, place: Place) -> Result<(), Error> {
        let mut held = self.database.lock().map_err(|_| Error::Stopped)?;
        note(&held.connection, &place)?;
        held.beside = Some(Beside { remote: Arc::clone(&remote), place });
        drop(held);
        self.remote = Some(remote);
        Ok(())
    }

    fn open_here(folder: &Path, master: MasterKey) -> Result<(Pages, Zeroizing<Vec<u8>>), Error> {
        let root_file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(root_path(folder))
            .map_err(io("open", "key store root"))?;
        let Root { sequence: root_sequence, keys: candidates, alone } = read_root(&root_file, &master)?;
        let reading = open_database(folder)?;
        let blob: Vec<u8> =
            reading.query_row("SELECT blob FROM page WHERE id = 0", [], |row| row.get(0)).map_err(database("read"))?;
        for root_key in &candidates {
            let Ok(meta) = open_page(root_key, META_ROW, &blob) else { continue };
            let mut pages = Pages::assemble(folder, reading, root_file, master, root_key.clone())?;
            pages.root_sequence = root_sequence;
            let rest = pages.read_tree_keys(&meta)?;
            // A crash while something was destroyed leaves two candidates, or an old root key in the other slot: settle
            // on the true one in both.
            if !alone {
                pages.settle_root()?;
            }
            return Ok((pages, rest));
        }
        Err(Error::Corrupt { what: "key store", why: "its root key does not open its first page" })
    }

    fn assemble(
        folder: &Path,
        reading: rusqlite::Connection,
        root_file: std::fs::File,
        master: MasterKey,
        root_key: Key,
    ) -> Result<Pages, Error> {
        let database =
            Database { connection: open_database(folder)?, written: 0, log_pages: 0, beside: None, unsettled: false };
        Ok(Pages {
            folder: folder.to_owned(),
            database: Arc::new(Mutex::new(database)),
            reading,
            gathered: 0,
            durable: Arc::default(),
            dirty: HashSet::new(),
            changed: false,
            root_file,
            root_sequence: 0,
            remote: None,
            master,
            root_key,
            tree_keys: [const { None }; TREES],
            cache: HashMap::new(),
            random: RandomPool::default(),
            doomed: Vec::new(),
            meta_doomed: false,
            failed: false,
        })
    }

    fn read_tree_keys(&mut self, meta: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bad = || Error::Corrupt { what: "key store meta page", why: "shorter than its tree keys" };
        let (keys, rest) = meta.split_at_checked(TREE_KEY_BYTES * TREES_FIRST).ok_or_else(bad)?;
        let (rest, later) = if rest.starts_with(&[0, 1]) {
            (rest, &[][..])
        } else {
            let end = rest.len().checked_sub(TREE_KEY_BYTES * (TREES - TREES_FIRST)).ok_or_else(bad)?;
            rest.split_at(end)
        };
        let all = keys.chunks_exact(TREE_KEY_BYTES).chain(later.chunks_exact(TREE_KEY_BYTES));
        for (slot, bytes) in self.tree_keys.iter_mut().zip(all) {
            if bytes[0] == 1 {
                let mut key = [0; 32];
                key.copy_from_slice(&bytes[1..]);
                *slot = Some(Key(key));
            }
        }
        Ok(Zeroizing::new(rest.to_vec()))
    }

    /// Content of a leaf, empty if it was never written.
    pub(crate) fn leaf(&mut self, tree: Tree, number: u64) -> Result<&[u8], Error> {
        Ok(&self.page(PageId { tree: tree as u8, level: 0, number })?.bytes)
    }

    /// The leaf's content to be changed; it is written at the next commit.
    pub(crate) fn leaf_mut(&mut self, tree: Tree, number: u64) -> Result<&mut Vec<u8>, Error> {
        Ok(&mut self.page_mut(PageId { tree: tree as u8, level: 0, number })?.bytes)
    }

    /// The page, to be changed: it goes with the next batch.
    fn page_mut(&mut self, id: PageId) -> Result<&mut Page, Error> {
        self.page(id)?;
        self.dirty.insert(id);
        self.changed = true;
        let page = self.cache.get_mut(&id).expect("it was loaded above");
        page.changed_in = self.gathered + 1;
        Ok(page)
    }

    /// Something in the meta page changed: it goes with the next batch.
    pub(crate) fn touch_meta(&mut self) {
        self.changed = true;
    }

    /// Rewrites the leaf and its path under new keys at the next commit, so that no older copy can be opened.
    pub(crate) fn doom(&mut self, tree: Tree, number: u64) {
        self.doomed.push(PageId { tree: tree as u8, level: 0, number });
        self.changed = true;
    }

    fn page(&mut self, id: PageId) -> Result<&mut Page, Error> {
        if !self.cache.contains_key(&id) {
            let page = self.load(id)?;
            self.trim();
            self.cache.insert(id, page);
        }
        Ok(self.cache.get_mut(&id).expect("it was loaded above"))
    }

    fn load(&mut self, id: PageId) -> Result<Page, Error> {
        match self.key_of(id)? {
            None => {
                let key = Key(self.random.take());
                self.set_key_of(id, &key)?;
                self.dirty.insert(id);
                self.changed = true;
                Ok(Page { key, bytes: Zeroizing::new(Vec::new()), changed_in: self.gathered + 1 })
            }
            Some(key) => {
                let blob: Vec<u8> = self
                    .reading
                    .prepare_cached("SELECT blob FROM page WHERE id = ?1")
                    .and_then(|mut statement| statement.query_row([id.row()], |row| row.get(0)))
                    .map_err(database("read"))?;
                let bytes = open_page(&key, id.row(), &blob)?;
                Ok(Page { key, bytes, changed_in: 0 })
            }
        }
    }

    fn key_of(&mut self, id: PageId) -> Result<Option<Key>, Error> {
        if id.level == LEVELS {
            return Ok(self.tree_keys[usize::from(id.tree)].clone());
        }
        let parent = PageId { tree: id.tree, level: id.level + 1, number: id.number / FAN_OUT };
        let at = (id.number % FAN_OUT) as usize * 32;
        let page = self.page(parent)?;
        Ok(page.bytes.get(at..at + 32).filter(|key| key.iter().any(|b| *b != 0)).map(|bytes| {
            let mut key = [0; 32];
            key.copy_from_slice(bytes);
            Key(key)
        }))
    }

    fn set_key_of(&mut self, id: PageId, key: &Key) -> Result<(), Error> {
        if id.level == LEVELS {
            self.tree_keys[usize::from(id.tree)] = Some(key.clone());
            return Ok(());
        }
        let parent = PageId { tree: id.tree, level: id.level + 1, number: id.number / FAN_OUT };
        let at = (id.number % FAN_OUT) as usize * 32;
        let page = self.page_mut(parent)?;
        if page.bytes.len() < at + 32 {
            page.bytes.resize(at + 32, 0);
        }
        page.bytes[at..at + 32].copy_from_slice(&key.0);
        Ok(())
    }

    /// The file as it is now, whatever is written to it afterwards: pages and the root that opens them.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        let connection = open_database(&self.folder)?;
        connection.execute_batch("BEGIN").map_err(database("begin"))?;
        // The first read decides which state is seen.
        let _: i64 = connection
            .query_row("SELECT count(*) FROM page WHERE id = 0", [], |row| row.get(0))
            .map_err(database("read"))?;
        let root = std::fs::read(root_path(&self.folder)).map_err(io("read", "key store root"))?;
        Ok(Snapshot { connection, root })
    }

    /// See [`Log`].
    pub(crate) fn log(&self) -> Log {
        Log { folder: self.folder.clone(), database: Arc::clone(&self.database) }
    }

    /// The batch that carries what has changed up to now: once the one of this number is durable, so is all of it.
    pub(crate) fn newest(&self) -> u64 {
        self.gathered + u64::from(self.changed)
    }

    /// The number of the newest durable batch, to be read without the store's lock.
    pub(crate) fn durable(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.durable)
    }

    /// Everything changed and not known to be durable, sealed, with the meta page.
    pub(crate) fn gather(&mut self, meta: &[u8]) -> Result<Batch, Error> {
        if self.failed {
            return Err(Error::Stopped);
        }
        let root_key = self.root_key.clone();
        Ok(self.gather_under(&root_key, meta))
    }

    fn gather_under(&mut self, root_key: &Key, meta: &[u8]) -> Batch {
        self.gathered += 1;
        self.changed = false;
        let mut bytes = Zeroizing::new(Vec::with_capacity(TREE_KEY_BYTES * TREES + meta.len()));
        for (tree, key) in self.tree_keys.iter().enumerate() {
            if tree == TREES_FIRST {
                bytes.extend_from_slice(meta);
            }
            bytes.push(u8::from(key.is_some()));
            bytes.extend_from_slice(key.as_ref().map_or(&[0; 32], |key| &key.0));
        }
        let mut rows = Vec::with_capacity(1 + self.dirty.len());
        rows.push((META_ROW, seal_page(&mut self.random, root_key, META_ROW, &bytes)));
        for id in &self.dirty {
            let page = &self.cache[id];
            rows.push((id.row(), seal_page(&mut self.random, &page.key, id.row(), &page.bytes)));
        }
        Batch { number: self.gathered, rows, database: Arc::clone(&self.database), durable: Arc::clone(&self.durable) }
    }

    /// Pages of a written batch that were not changed since may leave memory.
    pub(crate) fn settle(&mut self, batch: u64) {
        let cache = &mut self.cache;
        self.dirty.retain(|id| {
            let Some(page) = cache.get_mut(id) else { return false };
            let done = page.changed_in <= batch;
            if done {
                page.changed_in = 0;
            }
            !done
        });
        self.trim();
    }

    /// Half of the leaves that are on disk as they are leave memory when there are too many.
    fn trim(&mut self) {
        if self.cache.len() > CACHED_PAGES_MAX {
            let dirty = &self.dirty;
            let mut stay = false;
            self.cache.retain(|id, _| {
                stay = !stay;
                stay || id.level > 0 || dirty.contains(id)
            });
        }
    }

    /// The next commit destroys what the first page had before, though no other page changes.
    pub(crate) fn doom_meta(&mut self) {
        self.meta_doomed = true;
        self.touch_meta();
    }

    /// Makes everything changed durable now, also what was to be destroyed; a batch that is being written elsewhere is
    /// overtaken.
    pub(crate) fn commit(&mut self, meta: &[u8]) -> Result<(), Error> {
        if self.doomed.is_empty() && !self.meta_doomed {
            let batch = self.gather(meta)?;
            batch.write()?;
            self.settle(batch.number);
            return Ok(());
        }
        // Whether a step that failed was done is unknown. Written over, the newest root slot could name a key that the
        // first page is not under: so nothing more is written, and the next start reads what is true.
        self.failed = true;
        self.destroy(meta)?;
        self.failed = false;
        Ok(())
    }

    fn destroy(&mut self, meta: &[u8]) -> Result<(), Error> {
        self.rekey_doomed()?;
        let root_key = Key(self.random.take());
        // Either key may be the true one until the page commit below is known to have happened.
        self.write_root(&[self.root_key.clone(), root_key.clone()])?;
        let batch = self.gather_under(&root_key, meta);
        batch.write()?;
        self.settle(batch.number);
        self.meta_doomed = false;
        self.root_key = root_key;
        self.settle_root()?;
        let held = self.database.lock().map_err(|_| Error::Stopped)?;
        checkpoint(&held.connection, "TRUNCATE")
    }

    fn rekey_doomed(&mut self) -> Result<(), Error> {
        let mut row: Vec<PageId> = std::mem::take(&mut self.doomed);
        for level in 0..=LEVELS {
            row.sort_by_key(|id| (id.tree, id.number));
            row.dedup();
            for id in &row {
                let key = Key(self.random.take());
                self.page_mut(*id)?.key = key.clone();
                self.set_key_of(*id, &key)?;
            }
            row =
                row.iter().map(|id| PageId { tree: id.tree, level: level + 1, number: id.number / FAN_OUT }).collect();
        }
        Ok(())
    }

    pub(crate) fn master_text(&self) -> Zeroizing<String> {
        Zeroizing::new(proof::encoding::hex(&self.master.0.0))
    }

    /// Wraps the root key by another master key.
    pub(crate) fn rewrap(&mut self, master: MasterKey) -> Result<(), Error> {
        if let Some(remote) = &self.remote {
            remote.rewrap(&self.master, &master)?;
        }
        self.master = master;
        self.settle_root()
    }

    /// Both slots: neither may hold another root key, or the same under another master key. If we stop between them, the
    /// next start does it.
    fn settle_root(&mut self) -> Result<(), Error> {
        let key = self.root_key.clone();
        self.write_root(std::slice::from_ref(&key))?;
        self.write_root(&[key])
    }

    /// Writes the next of the two slots and syncs it; the other slot stays whole meanwhile.
    fn write_root(&mut self, keys: &[Key]) -> Result<(), Error> {
        self.root_sequence += 1;
        let nonce = self.random.take::<12>();
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(ROOT_MAGIC);
        slot.extend_from_slice(&ROOT_VERSION.to_be_bytes());
        slot.extend_from_slice(&self.root_sequence.to_be_bytes());
        slot.extend_from_slice(&nonce);
        let header = slot.clone();
        let from = slot.len();
        slot.push(keys.len() as u8);
        for place in 0..2 {
            slot.extend_from_slice(keys.get(place).map_or(&[0; 32], |key| &key.0));
        }
        encrypt(&self.master.0, nonce, &header, &mut slot, from);
        slot.extend_from_slice(&crc32c::crc32c(&slot).to_be_bytes());
        slot.resize(SLOT_BYTES, 0);
        if let Some(remote) = &self.remote {
            let mut whole = [0; SLOT_BYTES];
            whole.copy_from_slice(&slot);
            remote.put_root(whole)?;
            // If we stop before this line: the next start takes the slot from there.
        }
        let at = self.root_sequence % 2 * SLOT_BYTES as u64;
        self.root_file
            .write_all_at(&slot, at)
            .and_then(|()| self.root_file.flush())
            .and_then(|()| self.root_file.sync_all())
            .map_err(io("write", "key store root"))
    }
}

pub(crate) fn open_database(folder: &Path) -> Result<rusqlite::Connection, Error> {
    open_at(&folder.join("store.db"))
}

pub(crate) fn open_at(path: &Path) -> Result<rusqlite::Connection, Error> {
    let connection = rusqlite::Connection::open(path).map_err(database("open"))?;
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cache_size = -4096;
             PRAGMA wal_autocheckpoint = {LOG_PAGES_HARD_MAX};
             CREATE TABLE IF NOT EXISTS page(id INTEGER PRIMARY KEY, blob BLOB NOT NULL);",
        ))
        .map_err(database("open"))?;
    Ok(connection)
}

fn seal_page(random: &mut RandomPool, key: &Key, row: i64, bytes: &[u8]) -> Vec<u8> {
    let nonce = random.take::<12>();
    let mut blob = nonce.to_vec();
    blob.extend_from_slice(bytes);
    encrypt(key, nonce, &row.to_be_bytes(), &mut blob, 12);
    blob
}

fn open_page(key: &Key, row: i64, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bad = Error::Corrupt { what: "key store page", why: "shorter than its nonce" };
    let (nonce, sealed) = blob.split_first_chunk::<12>().ok_or(bad)?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let length = decrypt(key, *nonce, &row.to_be_bytes(), &mut buffer)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// What the two slots of the root file say.
struct Root {
    sequence: u64,
    /// The root keys that the newest slot holds; one of them is the true one.
    keys: Vec<Key>,
    /// Whether there is one, and the other slot holds the same.
    alone: bool,
}

/// The slots that are whole, the newest first.
fn read_slots(file: &std::fs::File) -> Vec<(u64, [u8; SLOT_BYTES])> {
    let mut whole = Vec::new();
    for place in 0..2u64 {
        let mut slot = [0u8; SLOT_BYTES];
        if file.read_exact_at(&mut slot, place * SLOT_BYTES as u64).is_ok() {
            whole.extend(read_slot(slot));
        }
    }
    whole.sort_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
    whole
}

/// Whether a root slot has a key that opens the first page of a database.
pub(crate) fn opens(
    database: &rusqlite::Connection,
    slot: &[u8; SLOT_BYTES],
    master: &MasterKey,
) -> Result<bool, Error> {
    let blob: Vec<u8> = database
        .query_row("SELECT blob FROM page WHERE id = 0", [], |row| row.get(0))
        .map_err(crate::error::database("read"))?;
    Ok(open_slot(slot, master)?.iter().any(|key| open_page(key, META_ROW, &blob).is_ok()))
}

/// Puts a slot into both places of the root file: what they had may be of another root.
pub(crate) fn put_root(folder: &Path, slot: &[u8; SLOT_BYTES]) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(root_path(folder))?;
        for place in 0..2u64 {
            file.write_all_at(slot, place * SLOT_BYTES as u64)?;
            file.sync_all()?;
        }
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(io("write", "key store root"))
}

fn read_root(file: &std::fs::File, master: &MasterKey) -> Result<Root, Error> {
    let whole = read_slots(file);
    let Some((sequence, slot)) = whole.first() else {
        return Err(Error::Corrupt { what: "key store root", why: "neither slot is whole" });
    };
    let keys = open_slot(slot, master)?;
    let other = whole.get(1).and_then(|(_, slot)| open_slot(slot, master).ok());
    let alone = keys.len() == 1 && other.as_ref() == Some(&keys);
    Ok(Root { sequence: *sequence, keys, alone })
}

fn open_slot(slot: &[u8; SLOT_BYTES], master: &MasterKey) -> Result<Vec<Key>, Error> {
    let mut boxed = Zeroizing::new(slot[30..111].to_vec());
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&slot[18..30]);
    let plain = decrypt(&master.0, nonce, &slot[..30], &mut boxed).map_err(|_| Error::WrongMasterKey)?;
    let count = usize::from(plain[0]);
    Ok(plain[1..]
        .chunks_exact(32)
        .take(count)
        .map(|bytes| {
            let mut key = [0; 32];
            key.copy_from_slice(bytes);
            Key(key)
        })
        .collect())
}

fn read_slot(slot: [u8; SLOT_BYTES]) -> Option<(u64, [u8; SLOT_BYTES])> {
    let stored = u32::from_be_bytes([slot[111], slot[112], slot[113], slot[114]]);
    let version = u16::from_be_bytes([slot[8], slot[9]]);
    let whole = &slot[..8] == ROOT_MAGIC && version == ROOT_VERSION && crc32c::crc32c(&slot[..111]) == stored;
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&slot[10..18]);
    whole.then_some((u64::from_be_bytes(sequence), slot))
}
