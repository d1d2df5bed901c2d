//! What views do when a period's keys end: its words leave the index, and lists are folded again from what is left.

use std::collections::BTreeSet;
use std::sync::Arc;

use ledger::reader::{Reader, StoredEntry};
use record::kinds::Catalogue;
use record::things::SHAPES;
use seal::shared::SharedStore;
use serde_json::{Map, Value};

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
    /// The facts of an entry by the names of their fields; `None` if they are gone.
    ///
    /// # Errors
    /// As [`open::open`].
    pub fn facts(&self, stored: &StoredEntry) -> Result<Option<Map<String, Value>>, Error> {
        Ok(open::facts(stored, &mut *self.store.lock()?, &self.catalogue)?.map(|(_, facts)| facts))
    }

    fn change(&self, stored: &StoredEntry, documents: &Documents) -> Result<Option<Change>, Error> {
        let keys = open::keys(stored, None, &mut *self.store.lock()?)?;
        let document = document_of(&open::open(stored, &keys, &self.catalogue)?, documents);
        Ok(document.change.map(|change| *change))
    }

    /// The things of lists that these entries changed.
    ///
    /// # Errors
    /// The journal or the key store cannot be read.
    pub fn touched_by(&self, entries: &[u64], documents: &Documents) -> Result<Vec<Touched>, Error> {
        let mut things = BTreeSet::new();
        for entry in entries {
            things.extend(
                self.change(&self.reader.entry(*entry)?, documents)?.map(|change| (change.register, change.id)),
            );
        }
        Ok(things.into_iter().collect())
    }

    /// The things of lists that entries of a period changed: to be noted before its key ends.
    ///
    /// # Errors
    /// The journal or the key store cannot be read.
    pub fn touched(&self, period: u32, documents: &Documents) -> Result<Vec<Touched>, Error> {
        let mut things = BTreeSet::new();
        self.reader.each_of_period(period, 0, &[], |stored| {
            let listed = {
                let entry = stored.entry()?;
                SHAPES.iter().any(|shape| shape.is_listed() && shape.has(entry.kind))
            };
            if listed && let Some(change) = self.change(&stored, documents)? {
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
            let change = self.sources.change(&self.sources.reader.entry(entry)?, &self.documents)?;
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
    /// again; done when it returns. Without a note it does nothing.
    ///
    /// # Errors
    /// The disk refuses; the purge is to be done again.
    pub fn expire_noted(&self, sources: &Sources) -> Result<(), Error> {
        let noted = self.notes.to_expire()?;
        if noted.is_empty() {
            return Ok(());
        }
        for expiry in noted {
            let held = sources.store.lock()?.holds_of_period(expiry.period);
            let mut entries: Vec<u64> = Vec::new();
            sources.reader.entries_of_period(expiry.period, &[], |some| {
                for entry in some {
                    if !held || sources.store.lock()?.held(*entry, expiry.period)?.is_none() {
                        entries.push(*entry);
                    }
                }
                if entries.len() >= ENTRIES_AT_ONCE {
                    self.purge(std::mem::take(&mut entries))?;
                }
                Ok::<_, Error>(())
            })?;
            self.purge(entries)?;
            let documents = self.documents(&sources.catalogue);
            self.refold(Refold { things: expiry.things, sources: sources.clone(), documents })?;
        }
        self.notes.expired_done()
    }
}
