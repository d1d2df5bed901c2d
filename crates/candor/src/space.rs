//! Room on the disk: a file of 64 MiB is kept in reserve, so that a full disk still lets people read and erase.
//!
//! When room runs short, what sources send is refused; Candor's own records (reads, erasures) go on. When even they
//! would not fit, the reserve is given up for them. It is made again once there is room, and only then do sources go on.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Size of the reserve: 16,000 records of reads and erasures of 4 KiB each, all told.
const RESERVE_BYTES: u64 = 64 << 20;
/// Below this much room beside the reserve nothing of a source is taken: a second of frames, a segment's index and the
/// merges of several partitions must still fit.
const LOW_BYTES: u64 = 256 << 20;
/// How often the disk is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Asks how many bytes are free.
type Free = Box<dyn Fn() -> std::io::Result<u64> + Send + Sync>;

/// See the module.
pub struct Space {
    folder: PathBuf,
    free: Free,
    state: Mutex<State>,
}

struct State {
    asked: Option<Instant>,
    free_bytes: u64,
    reserved: bool,
}

impl Space {
    /// Keeps a reserve in this folder, if there is room for one.
    pub fn new(folder: &Path) -> Space {
        let asked = folder.to_owned();
        let free = move || statvfs(&asked).map(|fs| fs.f_bavail * fs.f_frsize).map_err(std::io::Error::from);
        Space::with(folder, Box::new(free))
    }

    fn with(folder: &Path, free: Free) -> Space {
        let state = Mutex::new(State { asked: None, free_bytes: 0, reserved: false });
        Space { folder: folder.to_owned(), free, state }
    }

    fn reserve(&self) -> PathBuf {
        self.folder.join("reserve")
    }

    /// Asks the disk if that was not done lately, and makes the reserve if it is missing and fits.
    fn look(&self, state: &mut State) -> Result<()> {
        if state.asked.is_some_and(|asked| asked.elapsed() < EVERY) {
            return Ok(());
        }
        let say = || format!("look at {}", self.folder.display());
        state.reserved = std::fs::metadata(self.reserve()).is_ok_and(|file| file.len() == RESERVE_BYTES);
        state.free_bytes = (self.free)().with_context(say)?;
        if !state.reserved && state.free_bytes >= RESERVE_BYTES + LOW_BYTES {
            let file = std::fs::File::create(self.reserve()).with_context(say)?;
            match fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
                Ok(()) => {}
                // A file system that cannot allocate ahead: the room is then only watched.
                Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(RESERVE_BYTES).with_context(say)?,
                Err(error) => return Err(std::io::Error::from(error)).with_context(say),
            }
            state.reserved = true;
            state.free_bytes = (self.free)().with_context(say)?;
        }
        state.asked = Some(Instant::now());
        Ok(())
    }

    /// Whether a source's records may be taken.
    pub fn for_sources(&self) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| anyhow::anyhow!("another thread failed"))?;
        self.look(&mut state)?;
        if !state.reserved || state.free_bytes < LOW_BYTES {
            bail!(
                "append: {} MiB are left on the disk of {}, {} are needed: make room; until then only reads and erasures are recorded",
                state.free_bytes >> 20,
                self.folder.display(),
                (LOW_BYTES + if state.reserved { 0 } else { RESERVE_BYTES }) >> 20,
            );
        }
        Ok(())
    }

    /// Makes room for Candor's own records, at the cost of the reserve if need be.
    pub fn for_own(&self) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| anyhow::anyhow!("another thread failed"))?;
        // A disk that cannot be asked must not keep anybody from reading; whether it takes the record shows in a moment.
        if self.look(&mut state).is_err() {
            return Ok(());
        }
        if state.reserved && state.free_bytes < LOW_BYTES / 8 {
            std::fs::remove_file(self.reserve())
                .with_context(|| format!("release the reserve of {}", self.folder.display()))?;
            state.reserved = false;
            state.asked = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_full_disk_refuses_sources_then_gives_up_the_reserve_and_makes_it_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let free = Arc::new(AtomicU64::new(1 << 30));
        let (asked, reserve) = (Arc::clone(&free), folder.path().join("reserve"));
        let new = || {
            let asked = Arc::clone(&asked);
            Space::with(folder.path(), Box::new(move || Ok(asked.load(Ordering::Relaxed))))
        };
        new().for_sources().expect("there is room");
        assert_eq!(std::fs::metadata(&reserve).expect("made").len(), RESERVE_BYTES);
        free.store(LOW_BYTES - 1, Ordering::Relaxed);
        let refused = new().for_sources().expect_err("no room").to_string();
        assert!(refused.contains("make room"), "{refused}");
        new().for_own().expect("reads go on");
        assert!(reserve.exists(), "there is still room beside it");
        free.store(LOW_BYTES / 16, Ordering::Relaxed);
        new().for_own().expect("reads go on");
        assert!(!reserve.exists(), "given up");
        free.store(LOW_BYTES, Ordering::Relaxed);
        assert!(new().for_sources().is_err(), "room without a reserve is none");
        free.store(1 << 30, Ordering::Relaxed);
        new().for_sources().expect("there is room again");
        assert!(reserve.exists());
    }
}
