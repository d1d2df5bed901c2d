//! History proofs: what a person needs to check, alone, that nothing about them was left out
//! (`docs/formats/history-proof.md`).

use std::time::Duration;

use access::policy::Action;
use record::identifier::{IdentifierType, normalise};
use serde_json::{Value, json};

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
    pub fn history_proof(&self, purpose: &Purpose, kind: IdentifierType, given: &str) -> Result<Granted<Value>, Error> {
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
            let mut subjects = Vec::new();
            for number in store.closure(&tag)? {
                if let (Some(subject), Some(link)) = (store.subject(number)?, store.link_key(number)?) {
                    subjects.push((subject.tagger, link));
                }
            }
            subjects
        };
        let mut histories = Vec::with_capacity(subjects.len());
        for (tagger, link) in subjects {
            histories.push((link, self.reader.entries_of(&tagger, usize::MAX)?));
        }
        let newest = histories.iter().filter_map(|(_, entries)| entries.last()).max().copied().unwrap_or(0);
        let mut waited = Duration::ZERO;
        while self.reader.published().size <= newest && waited < PUBLISHED_WAIT {
            std::thread::park_timeout(LOOK);
            waited += LOOK;
        }
        let (published, identity) = (self.reader.published(), self.reader.identity());
        let subjects: Vec<Value> = histories
            .into_iter()
            .map(|(link, mut entries)| {
                entries.retain(|entry| *entry < published.size);
                json!({"link_key": proof::encoding::base64(link.expose()), "entries": entries})
            })
            .collect();
        let proof = json!({
            "format": "candor/history/v1", "origin": identity.origin, "vkey": identity.vkey,
            "checkpoint": published.checkpoint, "subjects": subjects,
        });
        Ok(Granted::new(proof, access))
    }
}
