//! What views do when a period's keys end: its words leave the index, and lists are folded again from what is left.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use ledger::reader::Reader;
use record::kinds::Catalogue;
use record::things::SHAPES;
use seal::shared::SharedStore;

use crate::error::Error;
use crate::follow::document_of;
use crate::notes::{Notes, Touched};
use crate::open;
use crate::registers::Thing;
use crate::row::Change;
use crate::views::{Documents, Shared, Views};

/// Entries purged in one go: their index segments are written anew after each.
const ENTRIES_AT_ONCE: usize = 1 << 20;
/// Entries of one thing that are folded again, at most.
const OF_THING_MAX: usize = 100_000;

/// What reading entries again takes.
#[derive(Clone)]
pub struct Sources {
    /// The journal.
    pub reader: Arc<Reader>,
    /// The keys.
    pub store: Arc<SharedStore>,
    /// The kinds.
    pub catalogue: Arc<Catalogue>,
}

impl Sources {
    fn change(&self, entry: u64, documents: &Documents) -> Result<Option<Change>, Error> {
        let stored = self.reader.entry(entry)?;
        let keys = open::keys(&stored, None, &mut *self.store.lock()?)?;
        let document = document_of(&open::open(&stored, &keys, &self.catalogue)?, documents);
        Ok(document.change.map(|change| *change))
    }

    /// The things of lists that these entries changed.
    ///
    /// # Errors
    /// The journal or the key store cannot be read.
    pub fn touched_by(&self, entries: &[u64], documents: &Documents) -> Result<Vec<Touched>, Error> {
        let mut things = BTreeSet::new();
        for entry in entries {
            things.extend(self.change(*entry, documents)?.map(|change| (change.register, change.id)));
        }
        Ok(things.into_iter().collect())
    }

    /// The things of lists that entries of a period changed: to be noted before its key ends.
    ///
    /// # Errors
    /// The journal or the key store cannot be read.
    pub fn touched(&self, period: u32, documents: &Documents) -> Result<Vec<Touched>, Error> {
        let mut things = BTreeSet::new();
        self.reader.each_of_period(period, |stored| {
            let listed = {
                let entry = stored.entry()?;
                SHAPES.iter().any(|shape| shape.is_listed() && shape.has(entry.kind))
            };
            if listed && let Some(change) = self.change(stored.index, documents)? {
                things.insert((change.register, change.id));
            }
            Ok::<(), Error>(())
        })?;
        Ok(things.into_iter().collect())
    }
}

/// Things to be folded again, and how.
pub(crate) struct Refold {
    pub(crate) things: Vec<Touched>,
    sources: Sources,
    documents: Documents,
}

impl Refold {
    /// The changes that are left of a thing, oldest first.
    pub(crate) fn left(&self, shared: &Shared, register: u8, id: &str) -> Result<Vec<(u64, Change)>, Error> {
        let thing = SHAPES.get(usize::from(register)).and_then(|shape| Thing::of_register(shape.name));
        let Some(thing) = thing else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        for entry in shared.registers.find(thing, id, 0, OF_THING_MAX)? {
            let change = self.sources.change(entry, &self.documents)?;
            changes
                .extend(change.filter(|change| (change.register, &*change.id) == (register, id)).map(|c| (entry, c)));
        }
        Ok(changes)
    }
}

impl Views {
    /// The notes of what is to be purged.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Purges the words of the entries of noted periods, but for those that a hold keeps, and folds what lists knew by them
    /// again; done when it returns. Without a note it does nothing. `done` is told how many entries were purged.
    ///
    /// # Errors
    /// The disk refuses; the purge is to be done again.
    pub fn expire_noted(&self, sources: &Sources, mut done: impl FnMut(u64)) -> Result<(), Error> {
        let noted = self.notes.to_expire()?;
        if noted.is_empty() {
            return Ok(());
        }
        let mut count = 0;
        for expiry in noted {
            let held = sources.store.lock()?.holds_of_period(expiry.period);
            let mut entries: Vec<u64> = Vec::new();
            sources.reader.entries_of_period(expiry.period, |some| {
                for entry in some {
                    if !held || sources.store.lock()?.held(*entry, expiry.period)?.is_none() {
                        entries.push(*entry);
                    }
                }
                if entries.len() >= ENTRIES_AT_ONCE {
                    count += entries.len() as u64;
                    self.purge(std::mem::take(&mut entries))?;
                    done(count);
                }
                Ok::<_, Error>(ControlFlow::Continue(()))
            })?;
            count += entries.len() as u64;
            self.purge(entries)?;
            done(count);
            let documents = self.documents(&sources.catalogue);
            self.refold(Refold { things: expiry.things, sources: sources.clone(), documents })?;
        }
        self.notes.expired_done()
    }
}
