//! Holds: what must be kept although its time is over. What a hold covers is decided here, when a period ends; the keys of
//! what it keeps are the key store's (`seal::holds`).
//!
//! Order: the entry first, then the key store, then the views; each safe to do again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ledger::reader::StoredEntry;
use proof::time::UnixMillis;
use record::identifier::{IdentifierType, normalise};
use seal::holds::{FILTER_BYTES_MAX, HELD_MAX, Held};
use seal::sealed::{OpeningKeys, Parts, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use views::expire::Sources;
use views::views::Views;

use crate::trail::Trail;

/// The hold that is always there: of these kinds the facts say what still is so, however long ago it was said. Who may
/// come in, and who does not want to be written to, would be unsaid with them.
pub const STANDING: &str = "standing";
const STANDING_KINDS: [&str; 4] = ["USER_INVITED", "USER_CHANGED", "CONSENT_OBJECTED", "CONSENT_WITHDRAWN"];

/// How long views may be behind the log, and between two looks.
const BEHIND: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(5);

/// What a hold covers: entries that fit all of it. It names no person: subjects are numbers of the key store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whether only facts are kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub facts_only: bool,
}

impl Filter {
    fn fits_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }

    fn looks_at_facts(&self) -> bool {
        self.correlation_id.is_some() || self.from.is_some() || self.until.is_some()
    }

    fn fits_facts(&self, facts: &Map<String, Value>) -> bool {
        let said = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default();
        let time = |text: &str| UnixMillis::parse(text.as_bytes()).unwrap_or_default();
        let at = time(said("timestamp"));
        self.correlation_id.as_ref().is_none_or(|wanted| wanted == said("correlation_id"))
            && self.from.as_ref().is_none_or(|from| at >= time(from))
            && self.until.as_ref().is_none_or(|until| at < time(until))
    }
}

/// A living hold as it is looked through.
struct Looking {
    id: String,
    filter: Filter,
    /// The entries of its subjects, where it names any.
    theirs: Option<BTreeSet<u64>>,
    found: Vec<Held>,
}

impl Looking {
    /// Whether it covers an entry; its facts are opened where they are looked at.
    fn covers(&self, sources: &Sources, stored: &StoredEntry) -> Result<bool> {
        let subject = self.theirs.as_ref().is_none_or(|theirs| theirs.contains(&stored.index));
        if !subject || !self.filter.fits_kind(stored.entry()?.kind) {
            return Ok(false);
        }
        if !self.filter.looks_at_facts() {
            return Ok(true);
        }
        match sources.facts(stored)? {
            Some(facts) => Ok(self.filter.fits_facts(&facts)),
            // Of a kind that nobody knows any more: while its key lives it may be what is meant.
            None => is_living(sources, stored),
        }
    }
}

/// Whether the key of an entry's period lives.
fn is_living(sources: &Sources, stored: &StoredEntry) -> Result<bool> {
    let Some(sealed) = stored.sealed.as_deref() else { return Ok(false) };
    Ok(sources.store.lock()?.period_by_id(Parts::parse(sealed)?.period).is_ok())
}

fn looking(sources: &Sources) -> Result<Vec<Looking>> {
    let mut store = sources.store.lock()?;
    let living: Vec<(String, String)> =
        store.holds().iter().filter(|hold| hold.is_live()).map(|hold| (hold.id.clone(), hold.filter.clone())).collect();
    let mut all = Vec::with_capacity(living.len());
    for (id, text) in living {
        let filter: Filter = serde_json::from_str(&text).with_context(|| format!("read hold {id}"))?;
        let mut theirs = None;
        if !filter.subjects.is_empty() {
            let held = theirs.insert(BTreeSet::new());
            for number in &filter.subjects {
                // Who was joined to them since is the same person.
                for joined in store.closure_of(*number)? {
                    if let Some(subject) = store.subject(joined)? {
                        held.extend(sources.reader.entries_of(&subject.tagger, usize::MAX)?);
                    }
                }
            }
        }
        all.push(Looking { id, filter, theirs, found: Vec::new() });
    }
    Ok(all)
}

/// Whose an entry is, the views say: what they have not taken yet would be kept without its personal body.
fn wait_for(views: &Views, size: u64) -> Result<()> {
    let end = Instant::now() + BEHIND;
    while views.applied() < size {
        if Instant::now() >= end {
            bail!("hold: the views are behind the log, and nothing ends before they have followed: start it again");
        }
        std::thread::park_timeout(TICK);
    }
    Ok(())
}

/// Puts what living holds cover of a period into their rings, while its key lives, from entry `from` on; how many entries
/// that are. Doing it again does nothing.
pub fn keep(sources: &Sources, views: &Views, period: u32, from: u64) -> Result<u64> {
    wait_for(views, sources.reader.size())?;
    let standing = Filter { kinds: STANDING_KINDS.map(str::to_owned).to_vec(), facts_only: true, ..Filter::default() };
    let key = {
        let mut store = sources.store.lock()?;
        store.place_hold(STANDING, &serde_json::to_string(&standing)?, 0)?;
        store.period_by_id(period)?
    };
    let mut holds = looking(sources)?;
    // Which kinds a period has is what its entries say: a source's settings and the kinds' schemas change.
    let any_kind = holds.iter().any(|hold| hold.filter.kinds.is_empty());
    let kinds: Vec<String> =
        if any_kind { Vec::new() } else { holds.iter().flat_map(|hold| hold.filter.kinds.clone()).collect() };
    let origin = sources.store.lock()?.origin().to_owned();
    let mut count = 0;
    sources.reader.each_of_period(period, from, &kinds, |stored: StoredEntry| -> Result<()> {
        let entry = stored.entry()?;
        // A journal that is newer than the keys: its bodies are gone already.
        let Some(sealed) = stored.sealed.as_deref() else { return Ok(()) };
        let mut keys = None;
        for hold in &mut holds {
            if !hold.covers(sources, &stored)? {
                continue;
            }
            let (facts, personal) = match &keys {
                Some(keys) => keys,
                None => {
                    let parts = Parts::parse(sealed)?;
                    let owner = views.owner(stored.index)?;
                    let subject = match owner {
                        Some(number) => sources.store.lock()?.subject(number)?.map(|subject| subject.sealing),
                        None => None,
                    };
                    let opening =
                        OpeningKeys { origin: &origin, id: entry.id, period: &key, subject: subject.as_ref() };
                    let personal = (entry.personal.is_some() && subject.is_some())
                        .then(|| parts.content_key(&opening, Role::Personal));
                    count += 1;
                    &*keys.insert((parts.content_key(&opening, Role::Facts), personal))
                }
            };
            let personal = personal.clone().filter(|_| !hold.filter.facts_only);
            hold.found.push(Held { entry: stored.index, facts: facts.clone(), personal });
            if hold.found.len() == HELD_MAX {
                sources.store.lock()?.hold_entries(&hold.id, period, &std::mem::take(&mut hold.found))?;
            }
        }
        Ok(())
    })?;
    let mut store = sources.store.lock()?;
    for hold in holds.iter().filter(|hold| !hold.found.is_empty()) {
        store.hold_entries(&hold.id, period, &hold.found)?;
    }
    Ok(count)
}

/// The hold that stands against forgetting these entries of a person, if there is one.
pub fn against(sources: &Sources, entries: &[u64]) -> Result<Option<String>> {
    let mut holds = looking(sources)?;
    holds.retain(|hold| hold.id != STANDING);
    if holds.is_empty() {
        return Ok(None);
    }
    for index in entries {
        let stored = sources.reader.entry(*index)?;
        for hold in &holds {
            if hold.covers(sources, &stored)? {
                return Ok(Some(hold.id.clone()));
            }
        }
    }
    Ok(None)
}

/// What is asked to be held.
pub struct Asked {
    pub person: Option<(IdentifierType, String)>,
    pub filter: Filter,
    pub reason: String,
}

/// Places a hold; its id and entry.
pub fn place(trail: &Trail, asked: Asked, actor: &str) -> Result<(String, u64)> {
    let Asked { person, mut filter, reason } = asked;
    if let Some((kind, given)) = person {
        let mut store = trail.store.lock()?;
        let tag = store.identifier_tag(kind, &normalise(kind, &given));
        filter.subjects = store.closure(&tag)?;
        if filter.subjects.is_empty() {
            bail!("hold: nobody is known under this identifier: check its spelling");
        }
    }
    if filter == Filter::default() {
        bail!("hold: say what is held: a person, --correlation, --kind, --from or --until");
    }
    if let Some(kind) = filter.kinds.iter().find(|kind| !trail.catalogue.all().any(|known| known.name == **kind)) {
        bail!("hold: there is no kind {kind}: `candor search` names the kinds of what it finds");
    }
    let text = serde_json::to_string(&filter)?;
    if text.len() > FILTER_BYTES_MAX {
        bail!("hold: it would have {} bytes as text, {FILTER_BYTES_MAX} at most: name fewer kinds", text.len());
    }
    let id = format!("hold-{}", proof::encoding::hex(&seal::random::RandomPool::default().take::<6>()));
    let fields = json!({"hold_id": id, "filter": text, "reason": reason, "actor": actor});
    let entry = trail.intake.own_one("HOLD_PLACED", fields)?;
    // If we stop after this line: the next start finds the entry and does the rest.
    trail.store.lock()?.place_hold(&id, &text, entry)?;
    Ok((id, entry))
}

/// Releases a hold: what it kept of periods that have ended is gone, what it kept of others ends on time.
pub fn release(trail: &Trail, id: &str, reason: &str, actor: &str) -> Result<u64> {
    if id == STANDING {
        bail!("hold: {STANDING} is always there: it keeps what would otherwise be unsaid, facts only");
    }
    let live = trail.store.lock()?.holds().iter().any(|hold| hold.id == id && hold.is_live());
    if !live {
        bail!("hold: there is no living hold {id}: `candor hold list` has them");
    }
    let fields = json!({"hold_id": id, "reason": reason, "actor": actor});
    let entry = trail.intake.own_one("HOLD_RELEASED", fields)?;
    // If we stop after this line: the next start finds the entry and does the rest.
    carry_out_release(&trail.sources(), trail.views()?, id)?;
    crate::ending::replace(&trail.sources(), Some(trail.intake.submitter()))?;
    Ok(entry)
}

/// Destroys a hold's ring, and what views have by it.
pub fn carry_out_release(sources: &Sources, views: &Views, id: &str) -> Result<()> {
    let mut entries: std::collections::BTreeMap<u32, Vec<u64>> = std::collections::BTreeMap::new();
    sources.store.lock()?.each_held(id, |period, some| {
        entries.entry(period).or_default().extend(some.iter().map(|held| held.entry));
        Ok::<(), seal::error::Error>(())
    })?;
    let documents = views.documents(&sources.catalogue);
    for (period, entries) in &entries {
        // What was kept before an ending that did not come about is still there by its own key.
        if sources.store.lock()?.ended_by(*period).is_none() {
            continue;
        }
        views.notes().expire(*period, sources.touched_by(entries, &documents)?)?;
    }
    sources.store.lock()?.release_hold(id)?;
    Ok(views.expire_noted(sources)?)
}
