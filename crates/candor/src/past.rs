//! Records of Candor's own that an opening trail already has: read before anything is taken in.

use anyhow::{Result, anyhow};
use ledger::reader::Reader;
use record::kinds::Catalogue;
use seal::shared::SharedStore;
use serde_json::{Map, Value};
use views::open;
use views::registers::Thing;
use views::views::Views;
use views::words;

/// Records of a register that are read at start, at most.
pub const RECORDS_MAX: usize = 1_000_000;

/// See the module.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    pub reader: &'a Reader,
    pub views: &'a Views,
    pub store: &'a SharedStore,
    pub catalogue: &'a Catalogue,
}

impl Past<'_> {
    /// Kind and facts of an entry; none where they are gone.
    pub fn facts(&self, index: u64) -> Result<Option<(&str, Map<String, Value>)>> {
        let stored = self.reader.entry(index)?;
        let facts = open::facts(&stored, &mut *self.store.lock()?, self.catalogue)?;
        Ok(facts.map(|(kind, facts)| (kind.name.as_str(), facts)))
    }

    /// The newest record of a kind, with its entry.
    pub fn newest(&self, kind: &str) -> Result<Option<(u64, Map<String, Value>)>> {
        let Some(index) = self.views.newest(vec![words::filter("kind", kind)], 1)?.first().copied() else {
            return Ok(None);
        };
        let (_, facts) = self.facts(index)?.ok_or_else(|| anyhow!("entry {index}: its facts cannot be opened"))?;
        Ok(Some((index, facts)))
    }

    /// The records of a register of Candor's own, the oldest first.
    pub fn each(&self, register: &str, mut take: impl FnMut(&str, &Value, u64) -> Result<()>) -> Result<()> {
        for index in self.views.find(Thing::Own, register, RECORDS_MAX)? {
            if let Some((kind, facts)) = self.facts(index)? {
                take(kind, &Value::Object(facts), index)?;
            }
        }
        Ok(())
    }
}
