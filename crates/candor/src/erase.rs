//! Erasing a person, in steps that are each safe to do again.

use anyhow::{Context, Result, bail};
use ledger::reader::Reader;
use record::identifier::{IdentifierType, normalise};
use record::kinds::Catalogue;
use seal::shared::SharedStore;
use seal::tag::Tagger;
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

/// Erases the person that an identifier names, and all joined to them. Others may write meanwhile.
pub fn erase(trail: &Trail, kind: IdentifierType, given: &str, reason: &str, actor: &str) -> Result<Certificate> {
    let views = trail.views()?;
    let erasure_id = proof::encoding::hex(&seal::random::RandomPool::default().take::<12>());
    let (mut subjects, mut entries, mut erased_entry) = (Vec::new(), Vec::new(), None);
    loop {
        let mut store = trail.store.lock()?;
        let tag = store.identifier_tag(kind, &normalise(kind, given));
        let more: Vec<u64> = store.closure(&tag)?.into_iter().filter(|number| !subjects.contains(number)).collect();
        if more.is_empty() && !subjects.is_empty() {
            // Under the lock that the last look was under: nobody was joined to them since.
            let today = ledger::clock::Clock::now(&ledger::clock::SystemClock).day();
            store.destroy_subjects(&subjects, today)?;
            break;
        }
        let mut taggers = Vec::new();
        for number in &more {
            taggers.extend(store.subject(*number)?.map(|subject| subject.tagger));
        }
        drop(store);
        if more.is_empty() {
            bail!(
                "erase: nobody is known under this identifier: check its spelling; an address that two customers use names neither"
            );
        }
        let mut theirs = entries_of(trail, &taggers)?;
        if let Some(hold) = crate::hold::against(&trail.sources(), &theirs)? {
            bail!(
                "erase: {hold} keeps something of this person: nothing was erased; `candor hold release {hold}` comes first"
            );
        }
        // 1. The decision is durable. A stop after this line is made good at the next start.
        let fields = json!({"erasure_id": erasure_id, "actor": actor, "reason": reason, "entries": theirs.len(), "subjects": more});
        let entry = trail.intake.own_one("SUBJECT_ERASED", fields)?;
        erased_entry.get_or_insert(entry);
        // What was sealed before and is not committed yet comes back and loses its personal body.
        trail.intake.submitter().bury(more.clone())?;
        theirs.extend(entries_of(trail, &taggers)?);
        entries.append(&mut theirs);
        entries.sort_unstable();
        entries.dedup();
        // 2. The views' note before the keys go: it is made of tags that end with them.
        views.note_forget(&entries)?;
        subjects.extend(more);
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
        erased_entry: erased_entry.unwrap_or_default(),
        completed_entry,
        places,
        beyond_recovery_after: beyond,
    })
}

fn entries_of(trail: &Trail, taggers: &[Tagger]) -> Result<Vec<u64>> {
    let mut entries = Vec::new();
    for tagger in taggers {
        entries.extend(trail.intake.reader().entries_of(tagger, usize::MAX)?);
    }
    Ok(entries)
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
