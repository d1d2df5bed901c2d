//! Deciding and recording: nothing is opened before both.

use std::collections::{BTreeMap, BTreeSet};

use access::policy::{Action, Asked};
use access::role::Role;
use proof::hash::sha256_parts;
use record::things::Shape;
use serde_json::{Value, json};

use crate::error::Error;
use crate::guard::{Candidate, Guard, OwnRecord};

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

impl Guard {
    /// Whether the read may go on, and the rule that says so. Everything that is shown passes here.
    fn decide(
        &self,
        purpose: &Purpose,
        look: &Look<'_>,
        candidates: &[Candidate],
        persons: &BTreeMap<u64, u64>,
    ) -> Result<(Option<String>, Result<(), Error>), Error> {
        if purpose.actor.is_empty() || purpose.purpose.is_empty() {
            return Ok((None, Err(Error::Refused("a reader and a purpose must be named"))));
        }
        let mut classes = BTreeSet::new();
        for candidate in candidates {
            classes.insert(candidate.stored.entry()?.class);
        }
        let asked = Asked {
            roles: &purpose.roles,
            action: look.action,
            register: look.register,
            purpose: &purpose.purpose,
            justified: is_justified(purpose),
            persons: self.joined(persons.keys().copied())?,
            classes,
            second_factor: purpose.second_factor,
            own: !purpose.own.is_empty() && candidates.iter().all(|candidate| is_own(purpose, candidate)),
            approvals: BTreeSet::new(),
        };
        let decision = self.policy.decide(&asked);
        let refused = || Err(Error::Denied(look.action, Box::new(self.policy.explain(&asked))));
        Ok((decision.rule, if decision.permitted { Ok(()) } else { refused() }))
    }

    /// How many persons subjects are: those that were joined are one.
    fn joined(&self, subjects: impl Iterator<Item = u64>) -> Result<u64, Error> {
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
        let mut fields = facts(purpose, "refused");
        fields["filters"] = json!({"action": action.name()});
        self.recorder.record(vec![OwnRecord { kind: "ACCESS", fields, subject: None }]).map_err(Error::NotRecorded)?;
        Err(Error::Denied(action, Box::new(self.policy.explain(&asked))))
    }

    /// Records the read: one ACCESS, one SUBJECT_SEEN for each person. Nothing is opened before this.
    pub(crate) fn grant(&self, purpose: &Purpose, candidates: &[Candidate], look: Look<'_>) -> Result<u64, Error> {
        let mut persons: BTreeMap<u64, u64> = BTreeMap::new();
        for owner in candidates.iter().filter_map(|candidate| candidate.owner) {
            *persons.entry(owner).or_default() += 1;
        }
        let (rule, decision) = self.decide(purpose, &look, candidates, &persons)?;
        let Look { filters, words, .. } = look;
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
        let mut access = facts(purpose, if decision.is_ok() { "granted" } else { "refused" });
        access["filters"] = filters;
        access["word_digests"] = digests.into();
        access["results"] = candidates.len().into();
        access["persons"] = persons.len().into();
        access["result_sha256"] = sha256_parts(&[&pairs]).hex().into();
        access["tree_size"] = self.reader.size().into();
        if let Some(rule) = rule {
            access["rule"] = rule.into();
        }
        let recorded = self
            .recorder
            .record(vec![OwnRecord { kind: "ACCESS", fields: access, subject: None }])
            .map_err(Error::NotRecorded)?;
        decision?;
        let index = recorded.first().copied().unwrap_or_default();
        let seen: Vec<OwnRecord> = persons
            .iter()
            .map(|(subject, entries)| OwnRecord {
                kind: "SUBJECT_SEEN",
                fields: json!({"actor": purpose.actor, "purpose": purpose.purpose, "access_entry": index, "entries": entries, "words": words.join(" ")}),
                subject: Some(*subject),
            })
            .collect();
        if !seen.is_empty() {
            self.recorder.record(seen).map_err(Error::NotRecorded)?;
        }
        Ok(index)
    }
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

fn is_justified(purpose: &Purpose) -> bool {
    purpose.justification.as_ref().is_some_and(|reason| !reason.trim().is_empty())
}

/// Whether an entry is about who reads it, and about nobody else.
fn is_own(purpose: &Purpose, candidate: &Candidate) -> bool {
    candidate.owner.is_some_and(|owner| purpose.own.contains(&owner))
}
