//! Registers: a thing whole, and lists of things.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use access::policy::Action;
use proof::time::UnixMillis;
use record::identifier::IdentifierType;
use record::things::{Event, Shape, fold, is_history, shape};
use serde_json::{Map, Value, json};
use views::index::Query;
use views::registers::Thing;
pub use views::row::Wanted;
use views::words;

use crate::decide::{Granted, Look, Narrowing, Purpose};
use crate::error::Error;
use crate::guard::{Candidate, Guard, HISTORY_MAX};
use crate::shown::Shown;

/// Entries of a page that are kept from the access record to the showing; more are read twice.
const KEPT_MAX: usize = 4096;

/// What is listed.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Columns, page and number.
    pub wanted: Wanted,
    /// Only things of this customer.
    pub customer: Option<String>,
}

/// A page of things.
#[derive(Debug)]
pub struct ThingPage {
    /// The facts of each without its history, those that began last first.
    pub things: Vec<Value>,
    /// Where the next page begins; `None` if there is none.
    pub next_below: Option<u64>,
}

/// Whether an opened record is of this thing. A view only says where to look; the relay knows a mail by its Message-ID
/// alone.
fn is_of(shape: &Shape, id: &str, fields: &Map<String, Value>) -> bool {
    let named = |name: &str| fields.get(name).and_then(Value::as_str) == Some(id);
    named(shape.id) || shape.name == "email" && named("message_id")
}

impl Guard {
    /// A thing as it stands, or stood at a time: what its events until then come to, in the shape of its register.
    ///
    /// # Errors
    /// As [`Guard::find`]; [`Error::NoSuchThing`] if there was no event of it.
    pub fn thing(
        &self,
        purpose: &Purpose,
        shape: &Shape,
        id: &str,
        at: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<Granted<Value>, Error> {
        let mut candidates = self.of_thing(shape, id)?;
        let own = candidates.len();
        if matches!(shape.name, "email" | "message") {
            let behind = self.consents_behind(&candidates)?;
            candidates.extend(behind);
        }
        let access =
            self.grant(purpose, &candidates, Look::new(Action::ReadThing, json!({"register": shape.path})).of(shape))?;
        let events = self.events(shape, id, &candidates[..own])?;
        let sent = events.iter().filter(|event| event.kind.ends_with("_SENT")).max_by_key(|event| event.entry);
        let owner = |entry: u64| candidates.iter().find(|one| one.stored.index == entry).and_then(|one| one.owner);
        let sent = sent.map(|event| (event.at, owner(event.entry)));
        let folded = folded(shape, id, events, own, (at, at.unwrap_or(now)));
        let mut value = folded.ok_or(Error::NoSuchThing)?;
        if let Some((sent, owner)) = sent {
            value["consent_basis"] = self.basis(&value, sent, owner, &candidates[own..])?;
        }
        Ok(Granted::new(value, access))
    }

    /// The consent that a sent mail or message rests on, as it stood when it was sent, or that there was none.
    fn basis(
        &self,
        value: &Value,
        sent: UnixMillis,
        owner: Option<u64>,
        consents: &[Candidate],
    ) -> Result<Value, Error> {
        let class = value["compliance_data"]["data_classification"].as_str().or(value["data_classification"].as_str());
        if class.is_some_and(|class| class != "marketing") {
            return Ok(json!({"state": "not_needed", "data_classification": class}));
        }
        let about = value["purpose"].as_str().unwrap_or("marketing");
        let mut basis = match owner {
            // Whom it went to is not known here any more, or never was: nothing can be said.
            None => json!({"state": "unknown"}),
            Some(_) => {
                let mut events = Vec::new();
                for candidate in consents {
                    let of_purpose =
                        |event: &Event| event.fields.get("consent_type").and_then(Value::as_str) == Some(about);
                    events.extend(event(self.open(candidate)?.0).filter(of_purpose));
                }
                consent_at(events, sent).unwrap_or_else(|| json!({"state": "none"}))
            }
        };
        basis["purpose"] = about.into();
        Ok(basis)
    }

    /// Lists things by their facts; nothing personal is opened. Of one customer, it is recorded that they were seen.
    ///
    /// # Errors
    /// As [`Guard::find`]; a register that has no lists is refused.
    pub fn list(
        &self,
        purpose: &Purpose,
        shape: &Shape,
        listing: &Listing,
        now: UnixMillis,
    ) -> Result<Granted<ThingPage>, Error> {
        if !shape.is_listed() {
            return Err(Error::Refused("mails and messages have no lists: search for them by kind and status"));
        }
        let (filters, limit) = (filters(shape, listing), listing.wanted.limit);
        let narrowing = self.narrowing(purpose, &Look::new(Action::ListThings, filters.clone()).of(shape))?;
        // Entries that were read for the access record, by thing.
        let (mut held, mut kept): (Vec<Candidate>, HashMap<String, Range<usize>>) = Default::default();
        let (ids, access): (Vec<(u64, String)>, u64) = match &listing.customer {
            None => {
                let more = Wanted { limit: limit + 1, ..listing.wanted.clone() };
                let rows = self.views.list(shape, &more, self.reader.size())?;
                let mut candidates = Vec::new();
                for row in rows.iter().take(limit) {
                    let mut of_row = self.facts_of_thing(shape, &row.id, row.first)?;
                    if candidates.len() + of_row.len() > KEPT_MAX {
                        // Which entries they are is all that the access record needs; they are read again to be shown.
                        of_row.iter_mut().for_each(|candidate| candidate.stored.sealed = None);
                    } else {
                        kept.insert(row.id.clone(), candidates.len()..candidates.len() + of_row.len());
                    }
                    candidates.extend(of_row);
                }
                let access = self.grant(purpose, &candidates, Look::new(Action::ListThings, filters).of(shape))?;
                held = candidates;
                (rows.into_iter().map(|row| (row.first, row.id)).collect(), access)
            }
            Some(customer) => self.things_of_customer(purpose, shape, (customer, narrowing.as_ref()), filters)?,
        };
        let below = |first: u64| listing.wanted.below.is_none_or(|below| first < below);
        let mut page = ThingPage { things: Vec::new(), next_below: None };
        let (mut looked_at, mut last) = (0, None);
        for (first, id) in ids.into_iter().filter(|(first, _)| below(*first)) {
            // Of states at most as many are looked at as were asked for: one that does not fit any more shortens its
            // page, and the next page goes on behind it. Of a customer's things all are.
            let full = if listing.customer.is_none() { looked_at == limit } else { page.things.len() == limit };
            if full {
                page.next_below = last;
                break;
            }
            (looked_at, last) = (looked_at + 1, Some(first));
            let read;
            let candidates = match kept.get(&id) {
                Some(range) => &held[range.clone()],
                None => {
                    // What first names the customer may come after what began the thing.
                    let since = if listing.customer.is_none() { first } else { 0 };
                    let found = self.facts_of_thing(shape, &id, since)?;
                    let count = found.len();
                    read = Narrowing::of(narrowing.as_ref(), found)?;
                    // A thing that a grant covers in part would say what it was, not what it is.
                    if read.len() < count {
                        continue;
                    }
                    &read
                }
            };
            let events = self.events(shape, &id, candidates)?;
            let thing = folded(shape, &id, events, candidates.len(), (None, now));
            if let Some(Value::Object(thing)) = thing
                && fits(shape, &thing, &listing.wanted, now)
            {
                page.things.push(summary(shape, thing, first));
            }
        }
        Ok(Granted::new(page, access))
    }

    /// How often a template was used and what came of it, by version: events counted in the index, nothing opened.
    ///
    /// # Errors
    /// As [`Guard::find`]; [`Error::NoSuchThing`] if no event names the template.
    pub fn template_statistics(&self, purpose: &Purpose, id: &str) -> Result<Granted<Value>, Error> {
        let shape = shape("template").ok_or(Error::NoSuchThing)?;
        let candidates = self.facts_of_thing(shape, id, 0)?;
        let access =
            self.grant(purpose, &candidates, Look::new(Action::ReadStatistics, json!({"statistics": shape.path})))?;
        let mut versions: BTreeSet<String> = BTreeSet::new();
        for candidate in &candidates {
            let (shown, _) = self.open(candidate)?;
            versions.extend(shown.record["version_number"].as_str().map(str::to_owned));
        }
        let exact = self.sees_persons(purpose)?;
        let mut all = self.usage(id, None, exact)?;
        if candidates.is_empty() && all["sends"] == 0 {
            return Err(Error::NoSuchThing);
        }
        let mut by_version = Map::new();
        for version in versions {
            by_version.insert(version.clone(), self.usage(id, Some(&version), exact)?);
        }
        // What is left out of a version is not told by the whole either.
        for version in by_version.values() {
            for (name, value) in version.as_object().into_iter().flatten() {
                if value.is_null() && !exact {
                    all[name] = Value::Null;
                }
            }
        }
        Ok(Granted::new(json!({"template_id": id, "all": all, "by_version": by_version}), access))
    }

    /// Who may not see persons is told no count over a few of them: it is left out, and the others are rounded.
    fn usage(&self, id: &str, version: Option<&str>, exact: bool) -> Result<Value, Error> {
        let count = |kinds: &[&str], by: Option<&str>| -> Result<Option<u64>, Error> {
            let mut count = 0;
            for kind in kinds {
                let mut words = vec![words::filter("kind", kind), words::filter("template", id)];
                words.extend(version.map(|version| words::filter("version", version)));
                words.extend(by.map(|by| words::filter("by", by)));
                let query = Query { words, ..Query::default() };
                if exact {
                    self.views.times(&query, |_| count += 1)?;
                    continue;
                }
                match self.guarded_count(&query)? {
                    Some(told) => count += told,
                    None => return Ok(None),
                }
            }
            Ok(Some(count))
        };
        let sends = count(&["EMAIL_SENT", "MESSAGE_SENT"], None)?;
        let delivered = count(&["EMAIL_DELIVERED", "MESSAGE_DELIVERED"], None)?;
        let failed = count(&["EMAIL_BOUNCED", "EMAIL_FAILED", "MESSAGE_FAILED"], None)?;
        let opens = count(&["EMAIL_OPENED", "MESSAGE_READ"], None)?;
        let both = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        let proxies = both(count(&["EMAIL_OPENED"], Some("proxy"))?, count(&["EMAIL_OPENED"], Some("scanner"))?);
        let clicks = count(&["EMAIL_CLICKED"], None)?;
        let scanned = both(count(&["EMAIL_CLICKED"], Some("proxy"))?, count(&["EMAIL_CLICKED"], Some("scanner"))?);
        let share = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
            (Some(part), Some(whole)) if whole > 0 => json!((part as f64 * 1000.0 / whole as f64).round() / 10.0),
            _ => Value::Null,
        };
        let by_people = |all: Option<u64>, machines: Option<u64>| Some(all?.saturating_sub(machines?));
        Ok(json!({
            "sends": sends, "delivered": delivered, "failed": failed, "opens": opens, "opens_by_proxy": proxies,
            "clicks": clicks, "clicks_by_proxy": scanned,
            "delivery_rate": share(delivered, sends), "open_rate": share(by_people(opens, proxies), delivered),
            "click_rate": share(by_people(clicks, scanned), delivered),
            "complaints": count(&["EMAIL_COMPLAINED"], None)?, "unsubscribed": count(&["EMAIL_UNSUBSCRIBED"], None)?,
        }))
    }

    /// What a customer consented to at a time: for each purpose its state, the wording, the method and the proof.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn consents(&self, purpose: &Purpose, customer: &str, at: UnixMillis) -> Result<Granted<Value>, Error> {
        let indexes = self.all_entries_of_person(IdentifierType::CustomerId, customer)?;
        let look = Look::new(Action::ReadConsents, json!({"register": "consents", "of_customer": true}));
        let candidates = Narrowing::of(self.narrowing(purpose, &look)?.as_ref(), self.consent_events(indexes)?)?;
        let access = self.grant(purpose, &candidates, look)?;
        let mut by_purpose: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for candidate in &candidates {
            if let Some(event) = event(self.open(candidate)?.0) {
                let about = event.fields.get("consent_type").and_then(Value::as_str).unwrap_or_default().to_owned();
                by_purpose.entry(about).or_default().push(event);
            }
        }
        let states: Map<String, Value> =
            by_purpose.into_iter().filter_map(|(about, events)| Some((about, consent_at(events, at)?))).collect();
        Ok(Granted::new(states.into(), access))
    }

    /// The entries about consent among these, with whose they are.
    fn consent_events(&self, indexes: Vec<u64>) -> Result<Vec<Candidate>, Error> {
        let mut candidates = Vec::new();
        for index in indexes {
            let candidate = self.candidate(index)?;
            if candidate.stored.entry()?.kind.starts_with("CONSENT_") {
                candidates.push(candidate);
            }
        }
        Ok(candidates)
    }

    /// Entries about the consent of the persons that sent mails or messages among these are about.
    fn consents_behind(&self, candidates: &[Candidate]) -> Result<Vec<Candidate>, Error> {
        let mut found = Vec::new();
        let mut owners = BTreeSet::new();
        for candidate in candidates {
            if candidate.stored.entry()?.kind.ends_with("_SENT") {
                owners.extend(candidate.owner);
            }
        }
        // Consent may have been given under another identifier of the same person.
        let mut taggers = Vec::new();
        for owner in owners {
            let mut store = self.store.lock()?;
            for number in store.closure_of(owner)? {
                taggers.extend(store.subject(number)?.map(|subject| subject.tagger));
            }
        }
        for tagger in taggers {
            found.extend(self.consent_events(self.reader.entries_of(&tagger, usize::MAX)?)?);
        }
        Ok(found)
    }

    /// Ids of a customer's things with the first entry that names them, those that began last first.
    fn things_of_customer(
        &self,
        purpose: &Purpose,
        shape: &Shape,
        (customer, narrowing): (&str, Option<&Narrowing>),
        filters: Value,
    ) -> Result<(Vec<(u64, String)>, u64), Error> {
        let mut candidates = Vec::new();
        for index in self.entries_of_person(IdentifierType::CustomerId, customer)? {
            let candidate = self.candidate(index)?;
            if shape.has(candidate.stored.entry()?.kind) {
                candidates.push(candidate);
            }
        }
        let candidates = Narrowing::of(narrowing, candidates)?;
        let access = self.grant(purpose, &candidates, Look::new(Action::ListThings, filters).of(shape))?;
        let (mut seen, mut ids) = (HashSet::new(), Vec::new());
        for candidate in candidates {
            let facts = Candidate { stored: candidate.stored, owner: None };
            let (shown, _) = self.open(&facts)?;
            let id = shown.record.get(shape.id).and_then(Value::as_str).map(str::to_owned);
            if let Some(id) = id.filter(|id| seen.insert(id.clone())) {
                ids.push((shown.index, id));
            }
        }
        ids.reverse();
        Ok((ids, access))
    }

    /// Entries about a thing with whose they are.
    fn of_thing(&self, shape: &Shape, id: &str) -> Result<Vec<Candidate>, Error> {
        let thing = Thing::of_register(shape.name).ok_or(Error::NoSuchThing)?;
        let mut candidates = Vec::new();
        for index in self.views.find(thing, id, HISTORY_MAX)? {
            let candidate = self.candidate(index)?;
            if shape.has(candidate.stored.entry()?.kind) {
                candidates.push(candidate);
            }
        }
        Ok(candidates)
    }

    /// Entries about a thing that began with entry `first`, without whose they are.
    fn facts_of_thing(&self, shape: &Shape, id: &str, first: u64) -> Result<Vec<Candidate>, Error> {
        let thing = Thing::of_register(shape.name).ok_or(Error::NoSuchThing)?;
        let mut candidates = Vec::new();
        for index in self.views.find_since(thing, id, first, HISTORY_MAX)? {
            let candidate = Candidate { stored: self.reader.entry(index)?, owner: None };
            if shape.has(candidate.stored.entry()?.kind) {
                candidates.push(candidate);
            }
        }
        Ok(candidates)
    }

    /// Entries of a thing, opened.
    fn events(&self, shape: &Shape, id: &str, candidates: &[Candidate]) -> Result<Vec<Event>, Error> {
        let mut events = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            events.extend(event(self.open(candidate)?.0).filter(|event| is_of(shape, id, &event.fields)));
        }
        Ok(events)
    }
}

/// What events come to, of `looked_at` entries: until a time, with clocks of law read at another.
fn folded(
    shape: &Shape,
    id: &str,
    events: Vec<Event>,
    looked_at: usize,
    (until, now): (Option<UnixMillis>, UnixMillis),
) -> Option<Value> {
    let mut thing = fold(shape, id, events, until, now);
    // Of more entries than that only the newest are here: what rests on the first of them can't be said.
    if looked_at >= HISTORY_MAX
        && let Some(Value::Object(thing)) = &mut thing
    {
        thing.remove("flags");
        thing.remove("clock");
        thing.insert("truncated".into(), true.into());
    }
    thing
}

/// An opened entry as the fold takes it.
fn event(shown: Shown) -> Option<Event> {
    let Value::Object(fields) = shown.record else { return None };
    let time = fields.get("timestamp").and_then(Value::as_str).unwrap_or_default();
    let at = UnixMillis::parse(time.as_bytes()).ok()?;
    Some(Event { entry: shown.index, at, kind: shown.kind, fields })
}

/// A consent as it stood; one whose time is over has expired, also where no event says so.
fn consent_at(events: Vec<Event>, at: UnixMillis) -> Option<Value> {
    let folded = fold(shape("consent")?, "", events, Some(at), at)?;
    let expires = folded["expires"].as_str().and_then(|text| UnixMillis::parse(text.as_bytes()).ok());
    let over = folded["status"] == "active" && expires.is_some_and(|expires| expires <= at);
    let mut state = json!({"state": if over { json!("expired") } else { folded["status"].clone() }});
    let names = [
        "consent_id",
        "consent_method",
        "consent_timestamp",
        "withdrawal_timestamp",
        "expires",
        "wording_version",
        "wording_sha256",
        "proof_reference",
        "recording_sha256",
        "channel",
        "flags",
        "entries",
    ];
    for name in names {
        if let Some(value) = folded.get(name).filter(|value| **value != "") {
            state[name] = value.clone();
        }
    }
    Some(state)
}

/// The filters as the trail keeps them; that it was of a customer, not of which.
fn filters(shape: &Shape, listing: &Listing) -> Value {
    let wanted = &listing.wanted;
    let mut filters = json!({"list": shape.path});
    for (name, value) in [
        ("status", &wanted.status),
        ("category", &wanted.category),
        ("priority", &wanted.priority),
        ("staff", &wanted.staff),
    ] {
        if let Some(value) = value {
            filters[name] = value.as_str().into();
        }
    }
    if let Some(open) = wanted.open {
        filters["open"] = open.into();
    }
    if wanted.due_before.is_some() {
        filters["overdue"] = true.into();
    }
    if listing.customer.is_some() {
        filters["of_customer"] = true.into();
    }
    filters
}

/// Whether a thing fits, by what its events say: a state says where to look, and of one customer's things nothing else
/// has looked before.
fn fits(shape: &Shape, thing: &Map<String, Value>, wanted: &Wanted, now: UnixMillis) -> bool {
    let status = thing.get("status").and_then(Value::as_str).unwrap_or_default();
    let open = shape.is_open(status);
    let columns = record::things::columns(shape, "", thing, now);
    let same = |held: Option<&str>, wanted: &Option<String>| wanted.is_none() || held == wanted.as_deref();
    // A clock of law knows better than the state when a thing's time is over.
    let overdue = match thing.get("clock") {
        Some(clock) => clock["state"] == "overdue",
        None => open && columns.due.is_some_and(|due| due < now.0),
    };
    wanted.open.is_none_or(|wanted| wanted == open)
        && (wanted.due_before.is_none() || overdue)
        && same(Some(status), &wanted.status)
        && same(columns.category.as_deref(), &wanted.category)
        && same(columns.priority.as_deref(), &wanted.priority)
        && (wanted.staff.is_none() || names_staff(thing, &wanted.staff))
}

/// Who has a thing in hand may stand with one of its events rather than with the thing.
fn names_staff(thing: &Map<String, Value>, wanted: &Option<String>) -> bool {
    const NAMES: [&str; 7] = ["assigned_to", "staff_member", "handler", "user_id", "actor", "author", "changed_by"];
    let held = |fields: &Map<String, Value>| {
        NAMES.iter().any(|name| fields.get(*name).and_then(Value::as_str) == wanted.as_deref())
    };
    let in_lines =
        |value: &Value| value.as_array().is_some_and(|lines| lines.iter().filter_map(Value::as_object).any(held));
    held(thing) || thing.values().any(in_lines)
}

/// A thing without its history.
fn summary(shape: &Shape, mut thing: Map<String, Value>, first: u64) -> Value {
    thing.retain(|name, _| !is_history(shape, name));
    let count = thing.remove("entries").and_then(|entries| entries.as_array().map(Vec::len)).unwrap_or(0);
    thing.insert("first_entry".into(), first.into());
    thing.insert("entry_count".into(), count.into());
    thing.into()
}
