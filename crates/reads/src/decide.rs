//! Deciding and recording: nothing is opened before both.

use std::collections::{BTreeMap, BTreeSet};

use access::grant::Grant;
use access::policy::{Action, Asked};
use access::role::Role;
use proof::hash::sha256_parts;
use record::things::{SHAPES, Shape};
use serde_json::{Value, json};

use crate::error::Error;
use crate::guard::{Candidate, Guard, OwnRecord};
use crate::shown::Shown;

/// Grants that an ACCESS entry names, at most.
const GRANTS_NAMED_MAX: usize = 64;

/// Who reads, and why.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// Opaque id of the reader.
    pub actor: String,
    /// Roles of the reader.
    pub roles: Vec<Role>,
    /// Whether the reader signed in with a second factor.
    pub second_factor: bool,
    /// Subjects that the reader is: a customer who reads their own.
    pub own: Vec<u64>,
    /// Session in which they read, where there is one: it is told what was done in it.
    pub session: Option<String>,
    /// Purpose, a token.
    pub purpose: String,
    /// Case id or reason.
    pub justification: Option<String>,
    /// The command or page.
    pub command: &'static str,
}

/// What is about to be shown, as policies and the trail see it.
pub(crate) struct Look<'a> {
    /// What is done.
    pub(crate) action: Action,
    /// The register it is done to.
    pub(crate) register: Option<&'a str>,
    /// The question, without its words.
    pub(crate) filters: Value,
    /// Its words.
    pub(crate) words: &'a [String],
}

impl<'a> Look<'a> {
    pub(crate) fn new(action: Action, filters: Value) -> Look<'a> {
        Look { action, register: None, filters, words: &[] }
    }

    /// Whether it can be shown with some fields only: nothing is folded from several of them, and nothing that is asked
    /// tells of a field that is hidden.
    fn is_by_field(&self) -> bool {
        let asks = |name: &str| !matches!(name, "kind" | "from" | "until" | "history" | "index" | "link_key");
        matches!(self.action, Action::ReadEntry | Action::Search | Action::ReadHistory)
            && self.words.is_empty()
            && !self.filters.as_object().is_some_and(|filters| filters.keys().any(|name| asks(name)))
    }

    pub(crate) fn of(self, shape: &'a Shape) -> Look<'a> {
        Look { register: Some(shape.path), ..self }
    }
}

/// Something that was decided and recorded before it was opened.
#[derive(Debug)]
pub struct Granted<T> {
    value: T,
    access: u64,
}

impl<T> Granted<T> {
    pub(crate) fn new(value: T, access: u64) -> Granted<T> {
        Granted { value, access }
    }

    /// What was granted.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// What was granted, by value.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// The ACCESS entry.
    pub fn access(&self) -> u64 {
        self.access
    }
}

/// What was let through: the entry that says so, and what of each candidate may be shown where a grant names fields.
pub(crate) struct Pass {
    pub(crate) access: u64,
    fields: Vec<Option<BTreeSet<String>>>,
}

impl Pass {
    /// Leaves of an opened candidate, by its place, what may be shown.
    pub(crate) fn cut(&self, place: usize, mut shown: Shown) -> Shown {
        if let (Some(Some(fields)), Value::Object(record)) = (self.fields.get(place), &mut shown.record) {
            record.retain(|name, _| fields.contains(name) || EVERY_RECORD.contains(&name.as_str()));
        }
        shown
    }
}

/// Fields that every record has and that say nothing of a person.
const EVERY_RECORD: [&str; 8] =
    ["event_type", "timestamp", "correlation_id", "source_component", "environment", "severity", "source", "authority"];

/// What grants make of a read.
#[derive(Default)]
pub(crate) struct Leave {
    /// Those that cover it, by id.
    pub(crate) ids: BTreeSet<String>,
    /// As what they were given: of each entry that is shown at least one has the role.
    pub(crate) roles: BTreeSet<&'static str>,
    /// How many persons gave them; of each entry at least so many.
    pub(crate) givers: u64,
    pub(crate) fields: Vec<Option<BTreeSet<String>>>,
}

struct Decided {
    /// Whether the reader is the person whom all of it is about.
    own: bool,
    rule: Option<String>,
    permitted: Result<(), Error>,
    leave: Option<Leave>,
}

impl Guard {
    /// Whether the read may go on, and the rule that says so. Everything that is shown passes here.
    fn decide(
        &self,
        purpose: &Purpose,
        look: &Look<'_>,
        candidates: &[Candidate],
        persons: &BTreeMap<u64, u64>,
    ) -> Result<Decided, Error> {
        if purpose.actor.is_empty() || purpose.purpose.is_empty() {
            let refused = Err(Error::Refused("a reader and a purpose must be named"));
            return Ok(Decided { own: false, rule: None, permitted: refused, leave: None });
        }
        let mut asked = self.asked(purpose, look, candidates, persons)?;
        let mut decision = self.policy.decide(&asked);
        let mut leave = None;
        if !decision.permitted
            && let Some(found) = self.leave(&self.grants_of(purpose), look, candidates)?
        {
            (asked.approvals, asked.approvers) = (found.roles.clone(), found.givers);
            decision = self.policy.decide(&asked);
            leave = Some(found).filter(|_| decision.permitted);
        }
        let refused = || Err(Error::Denied(look.action, Box::new(self.policy.explain(&asked))));
        let permitted = if decision.permitted { Ok(()) } else { refused() };
        Ok(Decided { own: asked.own, rule: decision.rule, permitted, leave })
    }

    fn asked<'a>(
        &self,
        purpose: &'a Purpose,
        look: &Look<'a>,
        candidates: &'a [Candidate],
        persons: &BTreeMap<u64, u64>,
    ) -> Result<Asked<'a>, Error> {
        let (mut classes, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        for candidate in candidates {
            let entry = candidate.stored.entry()?;
            classes.insert(entry.class);
            kinds.insert(entry.kind);
        }
        // Whatever way an entry is read, it is part of its register.
        let shapes = SHAPES.iter().filter(|shape| kinds.iter().any(|kind| shape.has(kind)));
        let parts = look.register.into_iter().chain(shapes.map(|shape| shape.path)).collect();
        Ok(Asked {
            register: look.register,
            purpose: &purpose.purpose,
            justified: is_justified(purpose),
            persons: self.joined(persons.keys().copied())?,
            classes,
            parts,
            second_factor: purpose.second_factor,
            own: !purpose.own.is_empty() && candidates.iter().all(|candidate| is_own(purpose, candidate)),
            ..Asked::plain(&purpose.roles, look.action)
        })
    }

    /// Grants of the reader that hold now.
    pub(crate) fn grants_of(&self, purpose: &Purpose) -> Vec<Grant> {
        self.grants(|grants| grants.of(&purpose.actor, (self.now)()))
    }

    /// What grants make of a read of these entries; none where they don't cover all of it.
    pub(crate) fn leave(
        &self,
        grants: &[Grant],
        look: &Look<'_>,
        candidates: &[Candidate],
    ) -> Result<Option<Leave>, Error> {
        let sums = matches!(
            look.action,
            Action::Count
                | Action::ReadStatistics
                | Action::ReadCompleteness
                | Action::ReadSources
                | Action::ReadQuarantine
        );
        let fits = |grant: &&Grant| {
            (!sums || grant.what.is_everything()) && (look.is_by_field() || grant.what.fields.is_empty())
        };
        let grants: Vec<&Grant> = grants.iter().filter(fits).collect();
        let mut leave = Leave::default();
        let whole = |leave: &mut Leave, covering: &[&Grant]| {
            let roles = covering.iter().flat_map(|grant| Role::names(&grant.giver_roles)).collect();
            let givers = covering.iter().map(|grant| &grant.giver).collect::<BTreeSet<_>>().len() as u64;
            let first = leave.ids.is_empty();
            leave.roles = if first { roles } else { leave.roles.intersection(&roles).copied().collect() };
            leave.givers = if first { givers } else { leave.givers.min(givers) };
            leave.ids.extend(covering.iter().map(|grant| grant.id.clone()));
        };
        if candidates.is_empty() {
            whole(&mut leave, &grants);
        }
        let persons = self.persons_of(&grants)?;
        for candidate in candidates {
            let covering = covering(&grants, &persons, candidate)?;
            if covering.is_empty() {
                return Ok(None);
            }
            whole(&mut leave, &covering);
            let all = covering.iter().any(|grant| grant.what.fields.is_empty());
            let named = || covering.iter().flat_map(|grant| grant.what.fields.iter().cloned()).collect();
            leave.fields.push((!all).then(named));
        }
        Ok(Some(leave).filter(|leave| !leave.ids.is_empty()))
    }

    /// For each grant that names a person, the subjects that this person is.
    fn persons_of(&self, grants: &[&Grant]) -> Result<Vec<Vec<u64>>, Error> {
        let mut store = self.store.lock()?;
        let mut persons = Vec::with_capacity(grants.len());
        for grant in grants {
            persons.push(match grant.what.subject {
                Some(subject) => store.closure_of(subject)?,
                None => Vec::new(),
            });
        }
        Ok(persons)
    }

    /// What the reader's grants cover, where it takes a grant to read like this at all: what stands beside is not told from
    /// what is not there. None where no grant narrows the read.
    pub(crate) fn narrowing(&self, purpose: &Purpose, look: &Look<'_>) -> Result<Option<Narrowing>, Error> {
        let mut grants = self.grants_of(purpose);
        if grants.is_empty() || self.policy.decide(&self.asked(purpose, look, &[], &BTreeMap::new())?).permitted {
            return Ok(None);
        }
        grants.retain(|grant| look.is_by_field() || grant.what.fields.is_empty());
        let persons = self.persons_of(&grants.iter().collect::<Vec<_>>())?;
        Ok(Some(Narrowing { grants, persons }))
    }

    /// How many persons subjects are: those that were joined are one.
    pub(crate) fn joined(&self, subjects: impl Iterator<Item = u64>) -> Result<u64, Error> {
        let mut store = self.store.lock()?;
        let mut persons = BTreeSet::new();
        for subject in subjects {
            persons.insert(store.closure_of(subject)?.into_iter().min().unwrap_or(subject));
        }
        Ok(persons.len() as u64)
    }

    /// Whether a change may be made; a refusal is recorded as a refused read is.
    ///
    /// # Errors
    /// The policies refuse, or that they did could not be recorded.
    pub fn may(&self, purpose: &Purpose, action: Action, register: Option<&str>) -> Result<(), Error> {
        let asked = Asked {
            register,
            purpose: &purpose.purpose,
            justified: is_justified(purpose),
            second_factor: purpose.second_factor,
            ..Asked::plain(&purpose.roles, action)
        };
        if self.policy.decide(&asked).permitted {
            return Ok(());
        }
        self.record_access(purpose, "refused", (action, json!({"action": action.name()})), 0)?;
        Err(Error::Denied(action, Box::new(self.policy.explain(&asked))))
    }

    /// The same of a page that shows what is changed: that it was looked at is recorded too.
    ///
    /// # Errors
    /// As [`Guard::may`].
    pub fn may_see(&self, purpose: &Purpose, action: Action, results: usize) -> Result<u64, Error> {
        self.may(purpose, action, None)?;
        self.record_access(purpose, "granted", (action, json!({"action": action.name()})), results)
    }

    fn record_access(
        &self,
        purpose: &Purpose,
        outcome: &str,
        (action, filters): (Action, Value),
        results: usize,
    ) -> Result<u64, Error> {
        let mut fields = facts(purpose, outcome);
        (fields["filters"], fields["results"]) = (filters, results.into());
        let recorded = self.recorder.record(with_activity(purpose, action, fields)).map_err(Error::NotRecorded)?;
        Ok(recorded.first().copied().unwrap_or_default())
    }

    /// Whether these roles may make a change of this sort, asked plainly: for what is offered, not for what is done.
    pub fn may_roles(&self, roles: &[Role], action: Action) -> bool {
        self.policy.decide(&Asked::plain(roles, action)).permitted
    }

    /// Whether these roles may make such a change in any way that it could be asked ([`access::policy::Policy::could`]).
    pub fn could_roles(&self, roles: &[Role], action: Action) -> bool {
        self.policy.could(roles, action)
    }

    /// Records the read: one ACCESS, one SUBJECT_SEEN for each person. Nothing is opened before this.
    pub(crate) fn grant(&self, purpose: &Purpose, candidates: &[Candidate], look: Look<'_>) -> Result<u64, Error> {
        self.pass(purpose, candidates, look).map(|pass| pass.access)
    }

    /// The same for what a grant may show in part.
    pub(crate) fn pass(&self, purpose: &Purpose, candidates: &[Candidate], look: Look<'_>) -> Result<Pass, Error> {
        let persons = persons(candidates);
        let decided = self.decide(purpose, &look, candidates, &persons)?;
        let Look { action, filters, words, .. } = look;
        let mut pairs = Vec::new();
        for candidate in candidates {
            let entry = candidate.stored.entry()?;
            pairs.extend_from_slice(&candidate.stored.index.to_be_bytes());
            pairs.extend_from_slice(&entry.facts.0);
        }
        let digests: Vec<String> = words
            .iter()
            .map(|word| proof::encoding::hex(&self.digest.short(&[b"candor/v1/word\n", word.as_bytes()])))
            .collect();
        let mut access = facts(purpose, if decided.permitted.is_ok() { "granted" } else { "refused" });
        access["filters"] = filters;
        access["word_digests"] = digests.into();
        access["results"] = candidates.len().into();
        access["persons"] = persons.len().into();
        access["result_sha256"] = sha256_parts(&[&pairs]).hex().into();
        access["tree_size"] = self.reader.size().into();
        if let Some(rule) = decided.rule {
            access["rule"] = rule.into();
        }
        if let Some(leave) = &decided.leave {
            access["grants"] = leave.ids.iter().take(GRANTS_NAMED_MAX).cloned().collect::<Vec<_>>().into();
        }
        let recorded = self.recorder.record(with_activity(purpose, action, access)).map_err(Error::NotRecorded)?;
        decided.permitted?;
        let index = recorded.first().copied().unwrap_or_default();
        let roles = Role::names(&purpose.roles);
        let mut relations = self.relations(purpose, persons.keys())?;
        // The words of a search that came upon several persons may be another's name.
        let words = if self.joined(persons.keys().copied())? == 1 { words.join(" ") } else { String::new() };
        // Who reads about themselves is not somebody who saw them.
        let seen: Vec<OwnRecord> = persons
            .iter()
            .filter(|_| !decided.own)
            .map(|(subject, entries)| {
                let mut fields = json!({
                    "actor": purpose.actor, "roles": roles, "purpose": purpose.purpose, "access_entry": index,
                    "entries": entries, "words": words,
                });
                if let Some(relation) = relations.remove(subject) {
                    fields["relation"] = relation.into();
                }
                OwnRecord { kind: "SUBJECT_SEEN", fields, subject: Some(*subject) }
            })
            .collect();
        if !seen.is_empty() {
            self.recorder.record(seen).map_err(Error::NotRecorded)?;
        }
        Ok(Pass { access: index, fields: decided.leave.map(|leave| leave.fields).unwrap_or_default() })
    }
}

impl Guard {
    /// What persons who are seen are to who sees them.
    fn relations<'s>(
        &self,
        purpose: &Purpose,
        subjects: impl Iterator<Item = &'s u64>,
    ) -> Result<BTreeMap<u64, &'static str>, Error> {
        let staff = self.staff.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut relations = BTreeMap::new();
        if staff.is_empty() {
            return Ok(relations);
        }
        let mut store = self.store.lock()?;
        for subject in subjects {
            let known = store.closure_of(*subject)?.into_iter().find_map(|number| staff.get(&number));
            if let Some(user) = known {
                relations.insert(*subject, if *user == purpose.actor { "own" } else { "colleague" });
            }
        }
        Ok(relations)
    }
}

/// Whose entries these are, and how many of each.
fn persons(candidates: &[Candidate]) -> BTreeMap<u64, u64> {
    let mut persons = BTreeMap::new();
    for owner in candidates.iter().filter_map(|candidate| candidate.owner) {
        *persons.entry(owner).or_default() += 1;
    }
    persons
}

/// The grants that cover an entry. One that names a person covers what is known to be about them alone.
fn covering<'g>(grants: &[&'g Grant], persons: &[Vec<u64>], candidate: &Candidate) -> Result<Vec<&'g Grant>, Error> {
    let entry = candidate.stored.entry()?;
    let of_person = |grant: &Grant, person: &[u64]| {
        !grant.what.of_person || candidate.owner.is_some_and(|owner| person.contains(&owner))
    };
    let fits = grants
        .iter()
        .zip(persons)
        .filter(|(grant, person)| grant.what.covers(entry.kind, entry.at) && of_person(grant, person));
    Ok(fits.map(|(grant, _)| *grant).collect())
}

/// What grants let see of what is there.
pub(crate) struct Narrowing {
    grants: Vec<Grant>,
    persons: Vec<Vec<u64>>,
}

impl Narrowing {
    /// Whether an entry is covered.
    pub(crate) fn covers(&self, candidate: &Candidate) -> Result<bool, Error> {
        let grants: Vec<&Grant> = self.grants.iter().collect();
        Ok(!covering(&grants, &self.persons, candidate)?.is_empty())
    }

    /// Those of several that are covered; all of them where nothing narrows.
    pub(crate) fn of(narrowing: Option<&Narrowing>, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, Error> {
        let Some(narrowing) = narrowing else { return Ok(candidates) };
        let mut within = Vec::new();
        for candidate in candidates {
            if narrowing.covers(&candidate)? {
                within.push(candidate);
            }
        }
        Ok(within)
    }
}

/// An ACCESS record, and what was done in the session in which it was, where there is one.
fn with_activity(purpose: &Purpose, action: Action, access: Value) -> Vec<OwnRecord> {
    let activity = purpose.session.as_ref().map(|session| {
        let outcome = if access["outcome"] == "granted" { "success" } else { "unauthorized" };
        let done = match action {
            Action::Search | Action::ListThings | Action::Count | Action::ReadStatistics => "search",
            _ if purpose.command.ends_with("-file") => "export",
            _ => "view",
        };
        let mut fields =
            json!({"session_id": session, "action": done, "resource": purpose.command, "outcome": outcome});
        // Who a customer is stands in their session's entry alone.
        if purpose.own.is_empty() {
            fields["user_id"] = purpose.actor.as_str().into();
        }
        OwnRecord { kind: "SESSION_ACTIVITY", fields, subject: None }
    });
    std::iter::once(OwnRecord { kind: "ACCESS", fields: access, subject: None }).chain(activity).collect()
}

/// The facts of an ACCESS record about nothing yet.
fn facts(purpose: &Purpose, outcome: &str) -> Value {
    let mut facts = json!({
        "actor": purpose.actor, "purpose": purpose.purpose, "command": purpose.command, "outcome": outcome,
        "roles": Role::names(&purpose.roles), "results": 0, "persons": 0,
    });
    if let Some(reason) = &purpose.justification {
        facts["justification"] = json!(reason);
    }
    facts
}

pub(crate) fn is_justified(purpose: &Purpose) -> bool {
    purpose.justification.as_ref().is_some_and(|reason| !reason.trim().is_empty())
}

/// Whether an entry is about who reads it, and about nobody else.
fn is_own(purpose: &Purpose, candidate: &Candidate) -> bool {
    candidate.owner.is_some_and(|owner| purpose.own.contains(&owner))
}
