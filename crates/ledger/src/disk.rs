//! The few things the directory journal asks of a file system, so that tests can refuse each of them; and what reads
//! segments asks of whatever keeps them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::Error;

/// One flat folder.
pub trait Disk: Send + Sync {
    /// Names of all files.
    ///
    /// # Errors
    /// Those of the file system, as for every call below.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a new file; an existing one is an error.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Writes at the end. After an error any part of the bytes may have been written.
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Makes the folder's list of files durable.
    fn sync_folder(&self) -> io::Result<()>;
    /// Reads up to `length` bytes; fewer only at the end of the file.
    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Length of a file.
    fn length(&self, name: &str) -> io::Result<u64>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// How many segments there are: 0, 1, 2, ... without a gap.
    ///
    /// # Errors
    /// The folder cannot be read, a file in it is no segment, or one is missing.
    fn segments(&self) -> Result<u32, Error> {
        crate::directory::count(&self.list().map_err(crate::error::io("list", "journal"))?)
    }

    /// Gives the room of zeros back to the file system, where it can do that; what is read stays the same.
    fn punch(&self, name: &str, offset: u64, length: u64) -> io::Result<()> {
        let _ = (name, offset, length);
        Ok(())
    }

    /// Whether a closed segment may be replaced by one that says the same of the trail: a file may, objects never are.
    fn replaces(&self) -> bool {
        true
    }

    /// What stands beside a segment and should not, by frame. A folder has nothing of the kind.
    fn odd(&self, segment: u32) -> io::Result<BTreeMap<u64, String>> {
        let _ = segment;
        Ok(BTreeMap::new())
    }
}

/// A folder of the machine's file system.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    read_only: bool,
    open: Mutex<HashMap<String, Arc<File>>>,
}

/// Files kept open, at most: half of the smallest usual limit of a process is 512.
const OPEN_FILES_MAX: usize = 256;

impl RealDisk {
    /// The folder, which exists.
    pub fn new(folder: &Path) -> RealDisk {
        RealDisk { folder: folder.to_owned(), read_only: false, open: Mutex::default() }
    }

    /// The folder, of which nothing is written: for verification on read-only media.
    pub fn read_only(folder: &Path) -> RealDisk {
        RealDisk { folder: folder.to_owned(), read_only: true, open: Mutex::default() }
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().map_err(|_| io::Error::other("another thread failed"))?;
        if let Some(file) = open.get(name) {
            return Ok(Arc::clone(file));
        }
        if open.len() >= OPEN_FILES_MAX {
            open.clear();
        }
        let file = OpenOptions::new().read(true).append(!self.read_only).open(self.folder.join(name))?;
        let file = Arc::new(file);
        open.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn forget(&self, name: &str) {
        if let Ok(mut open) = self.open.lock() {
            open.remove(name);
        }
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in std::fs::read_dir(&self.folder)? {
            match item?.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(_) => names.push("(a name that is not UTF-8)".to_owned()),
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.folder.join(name)).map(drop)
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &*self.file(name)?, bytes)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.file(name)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        std::fs::remove_file(self.folder.join(name))
    }

    fn punch(&self, name: &str, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let file = self.file(name)?;
        match fallocate(&*file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
            // A file system without holes keeps the zeros.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }
}

/// Whether a path lies on a file system that is shared over a network, by the magic numbers of `statfs(2)`.
///
/// # Errors
/// The path cannot be looked at.
pub fn is_network_file_system(path: &Path) -> io::Result<bool> {
    const NETWORK: [u32; 8] =
        [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x517b, 0x5346_414f, 0x0102_1997, 0x00c3_6400, 0x6573_5543];
    let stat = rustix::fs::statfs(path)?;
    Ok(NETWORK.contains(&(stat.f_type as u32)))
}
