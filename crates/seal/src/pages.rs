//! The paged file below the key store: leaf pages under a tree of wrapping keys (`docs/formats/keystore.md`).
//!
//! Every page is AES-256-GCM under its own random key. A leaf's key stands in its parent page, the parent's in its
//! parent, the topmost key of each tree in the meta page, whose key (the root key) stands in the root file, wrapped
//! by the master key. Destroying something rewrites its leaf and the path above it under new keys and then replaces
//! the root key: every older copy of those pages, wherever SQLite or the disk kept one, hangs on keys that no longer
//! exist. Adding something rewrites pages under the keys they have.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{Key, decrypt, encrypt};
use crate::error::{Error, database};
use crate::master::MasterKey;
use crate::random::RandomPool;

/// Children of an inner page.
const FAN_OUT: u64 = 256;
/// Levels of inner pages above a leaf: 2^24 leaves in a tree.
const LEVELS: u8 = 3;
/// Clean pages kept in memory: at about 3 KiB each, 12 MiB.
const CACHED_PAGES_MAX: usize = 4096;
const SLOT_BYTES: usize = 512;
const ROOT_MAGIC: &[u8; 8] = b"CNDRROOT";
const ROOT_VERSION: u16 = 1;

/// Which tree of leaf pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tree {
    Subjects = 0,
    Periods = 1,
    Identifiers = 2,
    Tombstones = 3,
}

pub(crate) const TREES: usize = 4;

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
    dirty: bool,
}

/// The pages, cached and written in groups.
pub(crate) struct Pages {
    database: rusqlite::Connection,
    root_file: std::fs::File,
    root_sequence: u64,
    master: MasterKey,
    root_key: Key,
    tree_keys: [Option<Key>; TREES],
    cache: HashMap<PageId, Page>,
    random: RandomPool,
    /// Paths to rewrite under new keys at the next commit.
    doomed: Vec<PageId>,
}

fn root_path(folder: &Path) -> PathBuf {
    folder.join("root")
}

fn io(action: &'static str, what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { action, what, source }
}

impl Pages {
    pub(crate) fn create(folder: &Path, master: MasterKey) -> Result<Pages, Error> {
        let mut random = RandomPool::default();
        let root_key = Key(random.take());
        let root_file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(root_path(folder))
            .map_err(io("create", "key store root"))?;
        let database = open_database(folder)?;
        let mut pages = Pages {
            database,
            root_file,
            root_sequence: 0,
            master,
            root_key,
            tree_keys: [None, None, None, None],
            cache: HashMap::new(),
            random,
            doomed: Vec::new(),
        };
        pages.write_root(&[pages.root_key.clone()])?;
        pages.write_root(&[pages.root_key.clone()])?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync", "key store folder"))?;
        Ok(pages)
    }

    /// Opens the pages and gives the content of the meta page.
    pub(crate) fn open(folder: &Path, master: MasterKey) -> Result<(Pages, Zeroizing<Vec<u8>>), Error> {
        let root_file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(root_path(folder))
            .map_err(io("open", "key store root"))?;
        let (root_sequence, candidates) = read_root(&root_file, &master)?;
        let database = open_database(folder)?;
        let blob: Vec<u8> = database
            .query_row("SELECT blob FROM page WHERE id = 0", [], |row| row.get(0))
            .map_err(database_error("read"))?;
        for root_key in &candidates {
            let Ok(meta) = open_page(root_key, META_ROW, &blob) else { continue };
            let mut pages = Pages {
                database,
                root_file,
                root_sequence,
                master,
                root_key: root_key.clone(),
                tree_keys: [None, None, None, None],
                cache: HashMap::new(),
                random: RandomPool::default(),
                doomed: Vec::new(),
            };
            let rest = pages.read_tree_keys(&meta)?;
            // A crash between the page commit and the last root write leaves two candidates: settle on the true one.
            if candidates.len() > 1 {
                let key = pages.root_key.clone();
                pages.write_root(std::slice::from_ref(&key))?;
                pages.write_root(&[key])?;
            }
            return Ok((pages, rest));
        }
        Err(Error::Corrupt { what: "key store", why: "its root key does not open its first page" })
    }

    fn read_tree_keys(&mut self, meta: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bad = Error::Corrupt { what: "key store meta page", why: "shorter than its tree keys" };
        let (keys, rest) = meta.split_at_checked(33 * TREES).ok_or(bad)?;
        for (slot, bytes) in self.tree_keys.iter_mut().zip(keys.chunks_exact(33)) {
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
        let page = self.page(PageId { tree: tree as u8, level: 0, number })?;
        page.dirty = true;
        Ok(&mut page.bytes)
    }

    /// Rewrites the leaf and its path under new keys at the next commit, so that no older copy can be opened.
    pub(crate) fn doom(&mut self, tree: Tree, number: u64) {
        self.doomed.push(PageId { tree: tree as u8, level: 0, number });
    }

    fn page(&mut self, id: PageId) -> Result<&mut Page, Error> {
        if !self.cache.contains_key(&id) {
            let page = self.load(id)?;
            self.cache.insert(id, page);
        }
        Ok(self.cache.get_mut(&id).expect("it was loaded above"))
    }

    fn load(&mut self, id: PageId) -> Result<Page, Error> {
        match self.key_of(id)? {
            None => {
                let key = Key(self.random.take());
                self.set_key_of(id, &key)?;
                Ok(Page { key, bytes: Zeroizing::new(Vec::new()), dirty: true })
            }
            Some(key) => {
                let blob: Vec<u8> = self
                    .database
                    .prepare_cached("SELECT blob FROM page WHERE id = ?1")
                    .and_then(|mut statement| statement.query_row([id.row()], |row| row.get(0)))
                    .map_err(database("read"))?;
                let bytes = open_page(&key, id.row(), &blob)?;
                Ok(Page { key, bytes, dirty: false })
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
        let page = self.page(parent)?;
        if page.bytes.len() < at + 32 {
            page.bytes.resize(at + 32, 0);
        }
        page.bytes[at..at + 32].copy_from_slice(&key.0);
        page.dirty = true;
        Ok(())
    }

    /// Whether a commit would write anything.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.doomed.is_empty() || self.cache.values().any(|page| page.dirty)
    }

    /// Makes everything changed durable, with the meta page; one transaction and one sync.
    pub(crate) fn commit(&mut self, meta: &[u8]) -> Result<(), Error> {
        let destroying = !self.doomed.is_empty();
        if destroying {
            self.rekey_doomed()?;
        }
        let root_key = if destroying { Key(self.random.take()) } else { self.root_key.clone() };
        if destroying {
            // Either key may be the true one until the page commit below is known to have happened.
            self.write_root(&[self.root_key.clone(), root_key.clone()])?;
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(33 * TREES + meta.len()));
        for key in &self.tree_keys {
            bytes.push(u8::from(key.is_some()));
            bytes.extend_from_slice(key.as_ref().map_or(&[0; 32], |key| &key.0));
        }
        bytes.extend_from_slice(meta);
        let transaction = self.database.transaction().map_err(database("begin"))?;
        {
            let mut put = transaction
                .prepare_cached(
                    "INSERT INTO page(id, blob) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET blob = excluded.blob",
                )
                .map_err(database("write"))?;
            put.execute((META_ROW, seal_page(&mut self.random, &root_key, META_ROW, &bytes)))
                .map_err(database("write"))?;
            for (id, page) in self.cache.iter().filter(|(_, page)| page.dirty) {
                let blob = seal_page(&mut self.random, &page.key, id.row(), &page.bytes);
                put.execute((id.row(), blob)).map_err(database("write"))?;
            }
        }
        transaction.commit().map_err(database("commit"))?;
        self.cache.values_mut().for_each(|page| page.dirty = false);
        if destroying {
            // Both slots: neither may hold the old root key any more.
            self.write_root(std::slice::from_ref(&root_key))?;
            self.write_root(std::slice::from_ref(&root_key))?;
            self.root_key = root_key;
            let _busy: i64 = self
                .database
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .map_err(database("checkpoint"))?;
        }
        if self.cache.len() > CACHED_PAGES_MAX {
            self.cache.retain(|id, _| id.level > 0);
        }
        Ok(())
    }

    fn rekey_doomed(&mut self) -> Result<(), Error> {
        let mut row: Vec<PageId> = std::mem::take(&mut self.doomed);
        for level in 0..=LEVELS {
            row.sort_by_key(|id| (id.tree, id.number));
            row.dedup();
            for id in &row {
                let key = Key(self.random.take());
                let page = self.page(*id)?;
                page.key = key.clone();
                page.dirty = true;
                self.set_key_of(*id, &key)?;
            }
            row =
                row.iter().map(|id| PageId { tree: id.tree, level: level + 1, number: id.number / FAN_OUT }).collect();
        }
        Ok(())
    }

    /// Wraps the root key by another master key.
    pub(crate) fn rewrap(&mut self, master: MasterKey) -> Result<(), Error> {
        self.master = master;
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
        let at = self.root_sequence % 2 * SLOT_BYTES as u64;
        self.root_file
            .write_all_at(&slot, at)
            .and_then(|()| self.root_file.flush())
            .and_then(|()| self.root_file.sync_all())
            .map_err(io("write", "key store root"))
    }
}

fn database_error(action: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    database(action)
}

fn open_database(folder: &Path) -> Result<rusqlite::Connection, Error> {
    let connection = rusqlite::Connection::open(folder.join("store.db")).map_err(database("open"))?;
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cache_size = -4096;
             CREATE TABLE IF NOT EXISTS page(id INTEGER PRIMARY KEY, blob BLOB NOT NULL);",
        )
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

/// The newest whole slot: its sequence number and the root keys it holds.
fn read_root(file: &std::fs::File, master: &MasterKey) -> Result<(u64, Vec<Key>), Error> {
    let mut whole = Vec::new();
    for place in 0..2u64 {
        let mut slot = [0u8; SLOT_BYTES];
        if file.read_exact_at(&mut slot, place * SLOT_BYTES as u64).is_ok() {
            whole.extend(read_slot(slot));
        }
    }
    whole.sort_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
    let Some((sequence, slot)) = whole.first() else {
        return Err(Error::Corrupt { what: "key store root", why: "neither slot is whole" });
    };
    let mut boxed = slot[30..111].to_vec();
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&slot[18..30]);
    let plain = decrypt(&master.0, nonce, &slot[..30], &mut boxed).map_err(|_| Error::WrongMasterKey)?;
    let count = usize::from(plain[0]);
    let keys = plain[1..].chunks_exact(32).take(count).map(|bytes| {
        let mut key = [0; 32];
        key.copy_from_slice(bytes);
        Key(key)
    });
    Ok((*sequence, keys.collect()))
}

fn read_slot(slot: [u8; SLOT_BYTES]) -> Option<(u64, [u8; SLOT_BYTES])> {
    let stored = u32::from_be_bytes([slot[111], slot[112], slot[113], slot[114]]);
    let version = u16::from_be_bytes([slot[8], slot[9]]);
    let whole = &slot[..8] == ROOT_MAGIC && version == ROOT_VERSION && crc32c::crc32c(&slot[..111]) == stored;
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&slot[10..18]);
    whole.then_some((u64::from_be_bytes(sequence), slot))
}
