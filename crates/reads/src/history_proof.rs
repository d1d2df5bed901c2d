//! History proofs: what a person needs to check, alone, that nothing about them was left out
//! (`docs/formats/history-proof.md`).

use std::time::Duration;

use access::policy::Action;
use proof::own_history::{History, Subject};
use record::identifier::{IdentifierType, normalise};
use serde_json::json;

use crate::decide::{Granted, Look, Purpose};
use crate::error::Error;
use crate::guard::Guard;

/// How long the published checkpoint is waited for; it moves once a second.
const PUBLISHED_WAIT: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

impl Guard {
    /// The proof of a person's history: their link key, and which entries are theirs. Whoever has it can tell their
    /// entries, later ones too, so it is for the person alone. That it was made is recorded, and is their newest entry.
    ///
    /// # Errors
    /// As [`Guard::find`]; [`Error::NoSuchThing`] if nobody has this identifier.
    pub fn history_proof(
        &self,
        purpose: &Purpose,
        kind: IdentifierType,
        given: &str,
    ) -> Result<Granted<History>, Error> {
        let indexes = self.entries_of_person(kind, given)?;
        let candidates = indexes.into_iter().map(|index| self.candidate(index)).collect::<Result<Vec<_>, _>>()?;
        if candidates.is_empty() {
            return Err(Error::NoSuchThing);
        }
        let filters = json!({"history": format!("{kind:?}").to_lowercase(), "link_key": true});
        let access = self.grant(purpose, &candidates, Look::new(Action::ReadHistory, filters))?;
        let subjects = {
            let mut store = self.store.lock()?;
            let tag = store.identifier_tag(kind, &normalise(kind, given));
            store.closure(&tag)?
        };
        let proof = self.completeness_proof(&subjects)?;
        Ok(Granted::new(proof, access))
    }

    /// The proof that nothing about these subjects was left out.
    pub(crate) fn completeness_proof(&self, subjects: &[u64]) -> Result<History, Error> {
        let mut histories = Vec::with_capacity(subjects.len());
        for number in subjects {
            let keys = {
                let mut store = self.store.lock()?;
                store.subject(*number)?.zip(store.link_key(*number)?)
            };
            if let Some((subject, link)) = keys {
                histories.push((link, self.reader.entries_of(&subject.tagger, usize::MAX)?));
            }
        }
        wait_published(self, histories.iter().filter_map(|(_, entries)| entries.last()).max().copied().unwrap_or(0));
        let (published, identity) = (self.reader.published(), self.reader.identity());
        let subject = |(link, mut entries): (seal::crypto::Key, Vec<u64>)| {
            entries.retain(|entry| *entry < published.size);
            Subject { link_key: proof::encoding::base64(link.expose()), entries }
        };
        Ok(History {
            format: History::format(&published.key_changes).to_owned(),
            origin: identity.origin.clone(),
            vkey: identity.vkey.clone(),
            key_changes: published.key_changes.to_vec(),
            checkpoint: published.checkpoint.clone(),
            subjects: histories.into_iter().map(subject).collect(),
        })
    }
}

/// Waits until an entry is in the published tree.
pub(crate) fn wait_published(guard: &Guard, entry: u64) {
    let mut waited = Duration::ZERO;
    while guard.reader.published().size <= entry && waited < PUBLISHED_WAIT {
        std::thread::park_timeout(LOOK);
        waited += LOOK;
    }
}
