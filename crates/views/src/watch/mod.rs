//! Watch: rules over the stream, and the alerts that they raise (`docs/watch.md`).
//!
//! It holds facts only: counts, times, and the values of the fields that rules group by, which are opaque ids. It
//! writes no alert itself: who has the trail open records what is [pending](Watch::pending).

mod engine;
mod measure;
mod numbers;
mod rule;
mod snapshot;
mod taps;
#[cfg(test)]
mod tests;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub use engine::{Alert, Engine, OTHERS};
pub use rule::{Bound, MatchText, Rule, RuleFile, RuleText, Rules, What};
pub(crate) use taps::Taps;
pub use taps::{Role, Sighted, Signal, Step};
pub use trial::Trial;

use crate::error::{Error, io};
use crate::file::Vault;

/// The rules that ship with the program, as TOML.
pub const SHIPPED: &str = include_str!("shipped.toml");

/// The engine of one trail, with its file.
pub(crate) struct Watch {
    engine: Mutex<Engine>,
    fresh: AtomicBool,
    path: PathBuf,
    vault: Vault,
    rules: Arc<Rules>,
}

impl Watch {
    /// Opens the state in a file. Where there is none, or none that this version reads, it is fresh.
    pub(crate) fn open(path: &Path, vault: Vault, rules: Arc<Rules>) -> Result<Watch, Error> {
        let held = match vault.read(path) {
            Ok(bytes) => snapshot::read(&bytes, Arc::clone(&rules)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read")(error)),
        };
        let fresh = AtomicBool::new(held.is_none());
        let engine = held.unwrap_or_else(|| Engine::new(Arc::clone(&rules), 0));
        Ok(Watch { engine: Mutex::new(engine), fresh, path: path.to_owned(), vault, rules })
    }

    /// Whether nothing is known of a trail of this size: no state, or that of a longer one.
    pub(crate) fn is_fresh(&self, size: u64) -> Result<bool, Error> {
        Ok(self.fresh.swap(false, Ordering::Relaxed) || self.cursor()? > size)
    }

    /// Forgets everything and begins with an entry.
    pub(crate) fn begin(&self, next: u64) -> Result<(), Error> {
        *self.engine.lock().map_err(|_| Error::Stopped)? = Engine::new(Arc::clone(&self.rules), next);
        Ok(())
    }

    /// Drops alerts that are not news any more: those that looking back found.
    pub(crate) fn drop_old(&self) -> Result<(), Error> {
        self.engine.lock().map_err(|_| Error::Stopped)?.drop_old();
        Ok(())
    }

    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    pub(crate) fn cursor(&self) -> Result<u64, Error> {
        Ok(self.engine.lock().map_err(|_| Error::Stopped)?.cursor())
    }

    /// Takes entries in their order: index, time of acceptance, own time, what rules saw.
    pub(crate) fn apply<'s>(
        &self,
        entries: impl Iterator<Item = (u64, u64, u64, Option<&'s Sighted>)>,
    ) -> Result<(), Error> {
        let mut engine = self.engine.lock().map_err(|_| Error::Stopped)?;
        for (entry, at_ms, own_ms, sighted) in entries {
            engine.apply(entry, at_ms, own_ms, sighted);
        }
        Ok(())
    }

    pub(crate) fn streams(&self, source: &str) -> Result<Vec<(String, u64, u64)>, Error> {
        let engine = self.engine.lock().map_err(|_| Error::Stopped)?;
        Ok(engine.streams(source).map(|(name, last, missing)| (name.to_owned(), last, missing)).collect())
    }

    pub(crate) fn pending(&self) -> Result<Vec<Alert>, Error> {
        Ok(self.engine.lock().map_err(|_| Error::Stopped)?.pending().cloned().collect())
    }

    /// Writes the state; a stop before the next time follows from here.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let bytes = snapshot::write(&*self.engine.lock().map_err(|_| Error::Stopped)?);
        self.vault.replace(&self.path, &bytes).map_err(io("write"))
    }
}
