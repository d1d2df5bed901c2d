//! Erasing a person, in steps that are each safe to do again.

use anyhow::{Context, Result, bail};
use ledger::reader::Reader;
use record::identifier::{IdentifierType, normalise};
use record::kinds::Catalogue;
use seal::shared::SharedStore;
use serde_json::json;
use views::notes::Notes;
use views::open;

use crate::trail::Trail;

/// What an erasure did.
#[derive(Debug, serde::Serialize)]
pub struct Certificate {
    pub erasure_id: String,
    pub entries: usize,
    pub subjects: usize,
    pub erased_entry: u64,
    pub completed_entry: u64,
    pub places: Vec<String>,
    /// When the last backup that has their keys is removed.
    pub beyond_recovery_after: String,
}

/// Erases the person that an identifier names, and all joined to them.
pub fn erase(trail: &Trail, kind: IdentifierType, given: &str, reason: &str, actor: &str) -> Result<Certificate> {
    let views = trail.views()?;
    let (subjects, taggers) = {
        let mut store = trail.store.lock()?;
        let tag = store.identifier_tag(kind, &normalise(kind, given));
        let subjects = store.closure(&tag)?;
        let mut taggers = Vec::new();
        for number in &subjects {
            taggers.extend(store.subject(*number)?.map(|subject| subject.tagger));
        }
        (subjects, taggers)
    };
    if subjects.is_empty() {
        bail!(
            "erase: nobody is known under this identifier: check its spelling; an address that two customers use names neither"
        );
    }
    let mut entries = Vec::new();
    for tagger in &taggers {
        entries.extend(trail.intake.reader().entries_of(tagger, usize::MAX)?);
    }
    if let Some(hold) = crate::hold::against(&trail.sources(), &entries)? {
        bail!(
            "erase: {hold} keeps something of this person: nothing was erased; `candor hold release {hold}` comes first"
        );
    }
    let erasure_id = proof::encoding::hex(&seal::random::RandomPool::default().take::<12>());
    // 1. The decision is durable. A stop after this line is made good at the next start.
    let fields = json!({"erasure_id": erasure_id, "actor": actor, "reason": reason, "entries": entries.len(), "subjects": subjects});
    let erased_entry = trail.intake.own_one("SUBJECT_ERASED", fields)?;
    // What was sealed before and is not committed yet comes back and loses its personal body.
    trail.intake.submitter().bury(subjects.clone())?;
    for tagger in &taggers {
        entries.extend(trail.intake.reader().entries_of(tagger, usize::MAX)?);
    }
    entries.sort_unstable();
    entries.dedup();
    // 2. The views' note first: it is made of tags that the next line ends.
    views.note_forget(&entries)?;
    {
        let mut store = trail.store.lock()?;
        let today = ledger::clock::Clock::now(&ledger::clock::SystemClock).day();
        store.destroy_subjects(&subjects, today)?;
    }
    // 3. The views.
    views.forget_noted()?;
    crate::source_state::forget_erased(trail)?;
    // 4. The certificate.
    let places = ["keys", "identifiers", "index", "owners", "sources"].map(str::to_owned).to_vec();
    let now = ledger::clock::Clock::now(&ledger::clock::SystemClock);
    let completed = now.rfc3339();
    let beyond = crate::backup::last_expiry(trail)?.filter(|expires| *expires > now).unwrap_or(now).rfc3339();
    let fields =
        json!({"erasure_id": erasure_id, "places": places, "completed": completed, "beyond_recovery_after": beyond});
    let completed_entry = trail.intake.own_one("ERASURE_COMPLETED", fields)?;
    Ok(Certificate {
        erasure_id,
        entries: entries.len(),
        subjects: subjects.len(),
        erased_entry,
        completed_entry,
        places,
        beyond_recovery_after: beyond,
    })
}

/// Does an erasure again that the key store may not have seen: its entry says whose keys. What a stop left in the views is
/// noted first.
pub fn again(reader: &Reader, store: &SharedStore, catalogue: &Catalogue, notes: &Notes, index: u64) -> Result<()> {
    let mut store = store.lock()?;
    let Some((_, facts)) = open::facts(&reader.entry(index)?, &mut store, catalogue)? else { return Ok(()) };
    let subjects = facts.get("subjects").context("an erasure has no subjects")?;
    let subjects: Vec<u64> = serde_json::from_value(subjects.clone()).context("read the subjects of an erasure")?;
    let mut entries = Vec::new();
    for number in &subjects {
        if let Some(subject) = store.subject(*number)? {
            entries.extend(reader.entries_of(&subject.tagger, usize::MAX)?);
        }
    }
    if !entries.is_empty() {
        notes.forget(&entries)?;
    }
    store.destroy_subjects(&subjects, ledger::clock::Clock::now(&ledger::clock::SystemClock).day())?;
    Ok(())
}
