//! An encrypted file (`docs/formats/view-file.md`): 4 KiB blocks, each AES-256-GCM under the file's own key.
//!
//! The key is derived from the view key and a salt in the header; the nonce is the block number and whether it is the
//! last, so that neither a moved nor a missing block goes unseen.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use seal::crypto::{Key, KeyedHash, TAG_BYTES, decrypt, encrypt};
use seal::random::RandomPool;

const MAGIC: &[u8; 8] = b"CNDRVIEW";
const VERSION: u16 = 1;
const HEADER_BYTES: u64 = 32;
const BLOCK: usize = 4096;
const SEALED_BLOCK: u64 = (BLOCK + TAG_BYTES) as u64;
/// Blocks written before they are synced: 2 MiB. A merge's gigabyte synced at once would hold up the journal's syncs.
const SYNC_BLOCKS: u64 = 512;
/// Blocks kept in clear, in two halves: 2 x 2048 x 4 KiB = 16 MiB.
const CACHED_HALF: usize = 2048;

fn corrupt() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an encrypted view file does not open")
}

fn nonce(block: u64, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&block.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

/// Clear blocks of all open files, bounded.
#[derive(Default)]
pub(crate) struct BlockCache {
    halves: Mutex<[HashMap<(u64, u64), Arc<Vec<u8>>>; 2]>,
    next_file: AtomicU64,
}

impl BlockCache {
    fn get(&self, key: (u64, u64)) -> Option<Arc<Vec<u8>>> {
        let mut halves = self.halves.lock().ok()?;
        if let Some(block) = halves[0].get(&key) {
            return Some(Arc::clone(block));
        }
        let block = halves[1].remove(&key)?;
        insert(&mut halves, key, Arc::clone(&block));
        Some(block)
    }

    fn put(&self, key: (u64, u64), block: Arc<Vec<u8>>) {
        if let Ok(mut halves) = self.halves.lock() {
            insert(&mut halves, key, block);
        }
    }
}

fn insert(halves: &mut [HashMap<(u64, u64), Arc<Vec<u8>>>; 2], key: (u64, u64), block: Arc<Vec<u8>>) {
    if halves[0].len() >= CACHED_HALF {
        halves.swap(0, 1);
        halves[0].clear();
    }
    halves[0].insert(key, block);
}

/// What files of a folder share.
#[derive(Clone)]
pub struct Vault {
    key: KeyedHash,
    cache: Arc<BlockCache>,
}

impl Vault {
    /// Files under keys that are derived from `view_key`.
    pub fn new(view_key: &Key) -> Vault {
        Vault { key: KeyedHash::new(view_key.expose()), cache: Arc::default() }
    }

    /// A keyed hash under the view key, for ids in registers.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> u64 {
        proof::encoding::big_endian(&self.key.short(parts)[..8])
    }

    /// A key of its own purpose under the view key.
    pub(crate) fn key(&self, info: &[u8]) -> Key {
        Key::from_bytes(self.key.digest(&[info]))
    }

    fn file_key(&self, salt: &[u8]) -> Key {
        Key::from_bytes(self.key.digest(&[b"candor/v1/view-file\n", salt]))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// It can't be read, or is no such file.
    pub fn open(&self, path: &Path) -> io::Result<EncryptedFile> {
        let file = File::open(path)?;
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, 0).map_err(|_| corrupt())?;
        if &header[..8] != MAGIC || header[8..10] != VERSION.to_be_bytes() {
            return Err(corrupt());
        }
        let sealed = file.metadata()?.len() - HEADER_BYTES;
        let blocks = sealed.div_ceil(SEALED_BLOCK).max(1);
        let length = sealed.checked_sub(blocks * TAG_BYTES as u64).ok_or_else(corrupt)?;
        let id = self.cache.next_file.fetch_add(1, Ordering::Relaxed);
        Ok(EncryptedFile {
            file,
            key: self.file_key(&header[16..]),
            id,
            length,
            blocks,
            cache: Arc::clone(&self.cache),
        })
    }

    /// Makes a file, which MUST NOT be there.
    ///
    /// # Errors
    /// It is there, or can't be written.
    pub fn create(&self, path: &Path) -> io::Result<EncryptedWriter> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let salt = RandomPool::default().take::<16>();
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&[0; 6]);
        header.extend_from_slice(&salt);
        file.write_all(&header)?;
        Ok(EncryptedWriter { file, key: self.file_key(&salt), block: 0, buffer: Vec::with_capacity(BLOCK + TAG_BYTES) })
    }

    /// Makes a file anew: one that an unfinished attempt left is taken away.
    ///
    /// # Errors
    /// It can't be written.
    pub fn create_anew(&self, path: &Path) -> io::Result<EncryptedWriter> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.create(path),
        }
    }

    /// Writes a whole file beside and renames it.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut writer = self.create_anew(&new)?;
        writer.write_all(bytes)?;
        writer.finish()?;
        std::fs::rename(&new, path)?;
        // What comes after it may rest on its name.
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    /// Reads a whole file.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        // An empty file has one empty block, whose tag must fit too.
        if file.length == 0 {
            file.block(0)?;
        }
        file.read(0, file.length as usize)
    }
}

/// An encrypted file open for reading.
pub struct EncryptedFile {
    file: File,
    key: Key,
    id: u64,
    pub(crate) length: u64,
    blocks: u64,
    cache: Arc<BlockCache>,
}

impl EncryptedFile {
    pub(crate) fn read(&self, from: u64, count: usize) -> io::Result<Vec<u8>> {
        let to = from.checked_add(count as u64).filter(|to| *to <= self.length).ok_or_else(corrupt)?;
        let mut out = Vec::with_capacity(count);
        let mut at = from;
        while at < to {
            let block = at / BLOCK as u64;
            let skip = (at % BLOCK as u64) as usize;
            let clear = self.block(block)?;
            let take = (clear.len().saturating_sub(skip)).min((to - at) as usize);
            if take == 0 {
                return Err(corrupt());
            }
            out.extend_from_slice(&clear[skip..skip + take]);
            at += take as u64;
        }
        Ok(out)
    }

    /// The file from its start to its end.
    pub fn stream(&self) -> Stream<'_> {
        Stream { file: self, at: 0 }
    }

    fn block(&self, block: u64) -> io::Result<Arc<Vec<u8>>> {
        let key = (self.id, block);
        if let Some(clear) = self.cache.get(key) {
            return Ok(clear);
        }
        let last = block + 1 == self.blocks;
        let start = block * BLOCK as u64;
        let clear_length = if last { (self.length - start) as usize } else { BLOCK };
        let mut sealed = vec![0; clear_length + TAG_BYTES];
        self.file.read_exact_at(&mut sealed, HEADER_BYTES + block * SEALED_BLOCK)?;
        let length = decrypt(&self.key, nonce(block, last), MAGIC, &mut sealed).map_err(|_| corrupt())?.len();
        sealed.truncate(length);
        let clear = Arc::new(sealed);
        self.cache.put(key, Arc::clone(&clear));
        Ok(clear)
    }
}

/// Reads a file block by block.
pub struct Stream<'f> {
    file: &'f EncryptedFile,
    at: u64,
}

impl io::Read for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(BLOCK).min((self.file.length - self.at) as usize);
        if count > 0 {
            out[..count].copy_from_slice(&self.file.read(self.at, count)?);
            self.at += count as u64;
        }
        Ok(count)
    }
}

/// An encrypted file being written.
pub struct EncryptedWriter {
    file: File,
    key: Key,
    block: u64,
    buffer: Vec<u8>,
}

impl EncryptedWriter {
    fn put_block(&mut self, last: bool) -> io::Result<()> {
        encrypt(&self.key, nonce(self.block, last), MAGIC, &mut self.buffer, 0);
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        self.block += 1;
        if self.block.is_multiple_of(SYNC_BLOCKS) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Writes the last block and syncs; without it the file does not open.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.put_block(true)?;
        self.file.sync_data()
    }
}

impl Write for EncryptedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full block is written only when more follows, so that the last one can be marked as such.
        if self.buffer.len() == BLOCK {
            self.put_block(false)?;
        }
        let take = bytes.len().min(BLOCK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_reads_back_and_no_altered_file_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = Vault::new(&Key::from_bytes([7; 32]));
        for length in [0, 1, 4095, 4096, 4097, 8192, 20_000] {
            let path = folder.path().join(format!("f{length}"));
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            vault.replace(&path, &bytes).expect("written");
            assert_eq!(vault.read(&path).expect("read"), bytes);
            let file = vault.open(&path).expect("open");
            for from in [0, 1, 4000, 4096, 5000] {
                if from < length {
                    assert_eq!(file.read(from as u64, 1).expect("read"), bytes[from..from + 1]);
                }
            }
            let sealed = std::fs::read(&path).expect("raw");
            for at in [16, 40, sealed.len() - 1] {
                let mut other = sealed.clone();
                other[at] ^= 1;
                std::fs::write(&path, &other).expect("altered");
                assert!(vault.read(&path).is_err(), "{length} {at}");
            }
            if length > 4096 {
                std::fs::write(&path, &sealed[..HEADER_BYTES as usize + SEALED_BLOCK as usize]).expect("cut");
                assert!(vault.read(&path).is_err(), "a cut at a block's end");
            }
        }
    }
}
