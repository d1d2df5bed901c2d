//! Policies: who may do what, decided by Cedar over the roles of who asks.
//!
//! Owns the schema that policies are checked against, the policies that ship, the decision, and why it fell so. It reads
//! no file: a text is handed in. A decision knows who asks only by roles and by what is asked: no name, no content.
//!
//! Invariants:
//! - a text that does not fit the schema is no policy: it is refused before anything opens;
//! - what no policy permits is refused, and an error of evaluation refuses too;
//! - the same text and question give the same decision: no clock, no state.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};

use cedar_policy::{
    Authorizer, Context, Decision as Verdict, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet,
    Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use proof::hash::{Hash, sha256};

use crate::role::Role;

/// What policies may speak of.
pub const SCHEMA: &str = include_str!("policy/schema.cedarschema");
/// The policies that ship.
pub const SHIPPED: &str = include_str!("policy/shipped.cedar");
/// Bytes of a text of policies, at most: it stands whole in its entry, which has 64 KiB.
pub const TEXT_BYTES_MAX: usize = 24 << 10;

/// Sets of roles and actions that are remembered, at most.
const KNOWN_MAX: usize = 1024;

/// What is asked to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// One entry.
    ReadEntry,
    /// Entries by words and filters.
    Search,
    /// Everything about a person or thing.
    ReadHistory,
    /// A thing of a register, whole.
    ReadThing,
    /// Things of a register by their state.
    ListThings,
    /// What a customer consented to.
    ReadConsents,
    /// A receipt.
    ReadReceipt,
    /// Sums.
    Count,
    /// How a template was used.
    ReadStatistics,
    /// What began and did not end.
    ReadCompleteness,
    /// How sources stand.
    ReadSources,
    /// What is kept of refused input.
    ReadQuarantine,
    /// Writing records of a source.
    Append,
    /// Acknowledging or resolving an alert.
    StepAlert,
    /// Signing a review of who read what.
    SignReview,
    /// Noting and closing a case.
    StepCase,
    /// Taking refused input in again.
    ReplayQuarantined,
    /// Making and revoking keys.
    ManageKeys,
    /// Inviting people and changing their roles.
    ManageUsers,
    /// Changing policies.
    ManagePolicy,
    /// Giving and revoking grants.
    GiveGrant,
    /// Erasing a person.
    Erase,
    /// Checkpoints, tiles.
    ReadProofs,
    /// Metrics.
    ReadMetrics,
}

impl Action {
    /// Each with its name in the schema and in plain words.
    pub const ALL: [(Action, &'static str, &'static str); 24] = [
        (Action::ReadEntry, "ReadEntry", "read an entry"),
        (Action::Search, "Search", "search"),
        (Action::ReadHistory, "ReadHistory", "read a history"),
        (Action::ReadThing, "ReadThing", "read a thing whole"),
        (Action::ListThings, "ListThings", "list things"),
        (Action::ReadConsents, "ReadConsents", "read consents"),
        (Action::ReadReceipt, "ReadReceipt", "take a receipt"),
        (Action::Count, "Count", "count"),
        (Action::ReadStatistics, "ReadStatistics", "read statistics"),
        (Action::ReadCompleteness, "ReadCompleteness", "see what stands open"),
        (Action::ReadSources, "ReadSources", "see the sources"),
        (Action::ReadQuarantine, "ReadQuarantine", "list the quarantine"),
        (Action::Append, "Append", "append"),
        (Action::StepAlert, "StepAlert", "acknowledge or resolve an alert"),
        (Action::SignReview, "SignReview", "sign an access review"),
        (Action::StepCase, "StepCase", "look into a case"),
        (Action::ReplayQuarantined, "ReplayQuarantined", "take refused input in again"),
        (Action::ManageKeys, "ManageKeys", "manage keys"),
        (Action::ManageUsers, "ManageUsers", "manage users"),
        (Action::ManagePolicy, "ManagePolicy", "change policies"),
        (Action::GiveGrant, "GiveGrant", "give a grant"),
        (Action::Erase, "Erase", "erase a person"),
        (Action::ReadProofs, "ReadProofs", "read the proof plane"),
        (Action::ReadMetrics, "ReadMetrics", "read the metrics"),
    ];

    /// As the schema has it.
    pub fn name(self) -> &'static str {
        Action::ALL.iter().find(|(action, ..)| *action == self).map_or("", |(_, name, _)| name)
    }

    /// In plain words.
    pub fn words(self) -> &'static str {
        Action::ALL.iter().find(|(action, ..)| *action == self).map_or("", |(.., words)| words)
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Action> {
        Action::ALL.iter().find(|(_, held, _)| *held == name).map(|(action, ..)| *action)
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Roles of who asks.
    pub roles: &'a [Role],
    /// What is asked to be done.
    pub action: Action,
    /// The register it is done to; the trail, if none.
    pub register: Option<&'a str>,
    /// Why, a token.
    pub purpose: &'a str,
    /// Whether a reason was given.
    pub justified: bool,
    /// Persons of whom something personal would be opened.
    pub persons: u64,
    /// Retention classes of the entries that would be shown.
    pub classes: BTreeSet<&'a str>,
    /// Registers that the entries which would be shown belong to.
    pub parts: BTreeSet<&'a str>,
    /// Whether who asks signed in with a second factor.
    pub second_factor: bool,
    /// Whether it is their own data.
    pub own: bool,
    /// Roles of others that approved it by a grant.
    pub approvals: BTreeSet<&'a str>,
    /// How many others these are.
    pub approvers: u64,
}

impl<'a> Asked<'a> {
    /// A question about the trail itself, without any person in it.
    pub fn plain(roles: &'a [Role], action: Action) -> Asked<'a> {
        Asked {
            roles,
            action,
            register: None,
            purpose: "none",
            justified: false,
            persons: 0,
            classes: BTreeSet::new(),
            parts: BTreeSet::new(),
            second_factor: false,
            own: false,
            approvals: BTreeSet::new(),
            approvers: 0,
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub permitted: bool,
    /// The rule that decided; none where no rule permits.
    pub rule: Option<String>,
}

/// Why it was decided so, in words that the refused are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it may be done.
    pub permitted: bool,
    /// Rules that decided, each with its sentence; empty where no rule permits.
    pub rules: Vec<(String, String)>,
    /// What would have to be otherwise, where one thing is enough.
    pub instead: Vec<&'static str>,
    /// Roles that may do the same, asked the same way and with a reason.
    pub roles: Vec<Role>,
}

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is too long.
    #[error("policies have {0} bytes: {TEXT_BYTES_MAX} at most")]
    TooLong(usize),
    /// It is not Cedar, or does not fit the schema.
    #[error("policies do not hold: {0}")]
    Invalid(String),
    /// A policy has no name, or two have the same.
    #[error("policy {0}: each needs @rule(\"a-name\") of its own and @says(\"a sentence\")")]
    Unnamed(String),
}

/// See the module.
#[derive(Debug)]
pub struct Policy {
    policies: PolicySet,
    authorizer: Authorizer,
    /// Names and sentences by Cedar's own id.
    rules: HashMap<String, (String, String)>,
    /// Actions with the groups that they are in.
    actions: HashMap<Action, Entity>,
    /// Who asks for what, as the engine knows them: the same few again and again.
    known: Mutex<HashMap<(Vec<Role>, Action), Arc<Entities>>>,
    text: String,
}

impl Policy {
    /// Reads policies and checks them against the schema.
    ///
    /// # Errors
    /// The text is too long, no Cedar, does not fit the schema, or a policy has no name and sentence of its own.
    pub fn new(text: &str) -> Result<Policy, PolicyError> {
        let invalid = |why: &dyn std::fmt::Display| PolicyError::Invalid(why.to_string().replace('\n', " "));
        if text.len() > TEXT_BYTES_MAX {
            return Err(PolicyError::TooLong(text.len()));
        }
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|why| invalid(&why))?;
        let policies = PolicySet::from_str(text).map_err(|why| invalid(&why))?;
        let groups = schema.action_entities().map_err(|why| invalid(&why))?;
        let of_schema = |name: &str| groups.get(&uid("Action", name)).cloned();
        let actions = Action::ALL.iter().filter_map(|(action, name, _)| Some((*action, of_schema(name)?))).collect();
        let validated = Validator::new(schema).validate(&policies, ValidationMode::Strict);
        if let Some(why) = validated.validation_errors().next() {
            return Err(invalid(why));
        }
        let (mut rules, mut names) = (HashMap::new(), HashSet::new());
        for policy in policies.policies() {
            let id = policy.id().to_string();
            let of = |key: &str| policy.annotation(key).filter(|text| !text.is_empty()).map(str::to_owned);
            let (Some(rule), Some(says)) = (of("rule"), of("says")) else { return Err(PolicyError::Unnamed(id)) };
            if !proof::encoding::is_token(&rule) || !names.insert(rule.clone()) {
                return Err(PolicyError::Unnamed(rule));
            }
            rules.insert(id, (rule, says));
        }
        let (authorizer, known, text) = (Authorizer::new(), Mutex::default(), text.to_owned());
        Ok(Policy { policies, authorizer, rules, actions, known, text })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> Hash {
        sha256(self.text.as_bytes())
    }

    /// Number of policies.
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    /// Whether it may be done.
    pub fn decide(&self, asked: &Asked<'_>) -> Decision {
        let (permitted, mut rules) = self.ask(asked);
        rules.sort();
        Decision { permitted, rule: rules.into_iter().next().map(|(rule, _)| rule) }
    }

    /// Whether these roles may do this in any way that it could be asked: with a second factor or without, with a reason
    /// or without. For what must be taken as allowed where it is not sure.
    pub fn could(&self, roles: &[Role], action: Action) -> bool {
        let purposes = ["users", "keys", "grants", "changes", "page", "none"];
        let ways = [(false, false), (false, true), (true, false), (true, true)];
        ways.iter().any(|(second_factor, justified)| {
            purposes.iter().any(|purpose| {
                let asked = Asked {
                    purpose,
                    justified: *justified,
                    second_factor: *second_factor,
                    ..Asked::plain(roles, action)
                };
                self.decide(&asked).permitted
            })
        })
    }

    /// The verdict and the rules that made it. What can't be evaluated is refused.
    fn ask(&self, asked: &Asked<'_>) -> (bool, Vec<(String, String)>) {
        let Some((request, entities)) = self.request(asked) else { return (false, Vec::new()) };
        let response = self.authorizer.is_authorized(&request, &self.policies, &entities);
        let diagnostics = response.diagnostics();
        let rules = diagnostics.reason().filter_map(|id| self.rules.get(&id.to_string()).cloned()).collect();
        (response.decision() == Verdict::Allow && diagnostics.errors().next().is_none(), rules)
    }

    /// The asking, its roles and what it asks for, as the engine knows them.
    fn entities(&self, asked: &Asked<'_>) -> Option<Arc<Entities>> {
        let key = (asked.roles.to_vec(), asked.action);
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(entities) = known.get(&key) {
            return Some(Arc::clone(entities));
        }
        let roles: HashSet<EntityUid> = asked.roles.iter().map(|role| uid("Role", role.name())).collect();
        let parents = roles.iter().cloned().map(|role| Entity::new_no_attrs(role, HashSet::new()));
        let mut all: Vec<Entity> = parents.collect();
        all.extend([Entity::new_no_attrs(uid("Actor", "asking"), roles), self.actions.get(&asked.action)?.clone()]);
        let entities = Arc::new(Entities::from_entities(all, None).ok()?);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&entities));
        Some(entities)
    }

    fn request(&self, asked: &Asked<'_>) -> Option<(Request, Arc<Entities>)> {
        let (actor, action) = (uid("Actor", "asking"), self.actions.get(&asked.action)?);
        let part = uid("Part", asked.register.unwrap_or("trail"));
        let entities = self.entities(asked)?;
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let long = |number: u64| RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX));
        let set = |texts: &BTreeSet<&str>| RestrictedExpression::new_set(texts.iter().map(|one| text(one)));
        let context = Context::from_pairs([
            ("purpose".to_owned(), text(asked.purpose)),
            ("justified".to_owned(), RestrictedExpression::new_bool(asked.justified)),
            ("persons".to_owned(), long(asked.persons)),
            ("classes".to_owned(), set(&asked.classes)),
            ("parts".to_owned(), set(&asked.parts)),
            ("second_factor".to_owned(), RestrictedExpression::new_bool(asked.second_factor)),
            ("own".to_owned(), RestrictedExpression::new_bool(asked.own)),
            ("approvals".to_owned(), set(&asked.approvals)),
            ("approvers".to_owned(), long(asked.approvers)),
        ]);
        // The schema was held against the policies; this request's shape is that of the code above.
        Some((Request::new(actor, action.uid(), part, context.ok()?, None).ok()?, entities))
    }

    /// Why it is decided so, and what would have to be otherwise: found by asking again with one thing changed, so that
    /// it is true of any policies.
    pub fn explain(&self, asked: &Asked<'_>) -> Explanation {
        let (permitted, mut rules) = self.ask(asked);
        rules.sort();
        if permitted {
            return Explanation { permitted, rules, instead: Vec::new(), roles: Vec::new() };
        }
        type Change = fn(&mut Asked<'_>);
        let changes: [(&'static str, Change); 6] = [
            ("give a reason: a case number or a sentence", |asked| asked.justified = true),
            ("narrow it to one person", |asked| asked.persons = asked.persons.min(1)),
            ("narrow it to one person and give a reason", |asked| {
                (asked.persons, asked.justified) = (asked.persons.min(1), true);
            }),
            ("ask for what names no person", |asked| asked.persons = 0),
            ("sign in with a second factor", |asked| asked.second_factor = true),
            ("ask for a grant", |asked| {
                asked.justified = true;
                asked.approvals = Role::names(&Role::ALL).into_iter().collect();
                asked.approvers = 2;
            }),
        ];
        let helps = |change: Change| {
            let mut other = asked.clone();
            change(&mut other);
            other != *asked && self.ask(&other).0
        };
        let mut instead: Vec<&'static str> =
            changes.into_iter().filter(|(_, change)| helps(*change)).map(|(words, _)| words).collect();
        // What takes a reason beside is not named where the reason alone is enough, nor two things where one is.
        let reason = instead.contains(&"give a reason: a case number or a sentence");
        if reason || instead.contains(&"narrow it to one person") {
            instead.retain(|words| *words != "narrow it to one person and give a reason");
        }
        if reason {
            instead.retain(|words| *words != "ask for a grant");
        }
        let may = |role: &Role| {
            let roles = [*role];
            let other = Asked { roles: &roles, justified: true, ..asked.clone() };
            self.ask(&other).0
        };
        let roles = Role::ALL.into_iter().filter(|role| !asked.roles.contains(role) && may(role)).collect();
        Explanation { permitted, rules, instead, roles }
    }
}

/// An entity of this type and name; both are of our own making and fit.
fn uid(kind: &str, name: &str) -> EntityUid {
    let kind = EntityTypeName::from_str(kind).expect("the name of a type is one of four words here");
    EntityUid::from_type_name_and_id(kind, EntityId::new(name))
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
