//! Changes that wait for a second person: proposed by one, decided by another. A fold of records of the trail
//! (CHANGE_PROPOSED, CHANGE_DECIDED).
//!
//! A proposal carries the whole record that it will be. Nothing of it holds before somebody else has approved it, and that
//! they did stands in the trail in one step with what takes effect.

use std::collections::BTreeMap;

use proof::time::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api_key::{self, Keyring};
use crate::policy::Action;

/// Value of `/register` in the records about proposals: under it all of them are found.
pub const REGISTER: &str = "changes";
/// Kind of the record that proposes.
pub const PROPOSED: &str = "CHANGE_PROPOSED";
/// Kind of the record that decides.
pub const DECIDED: &str = "CHANGE_DECIDED";
/// Kind of the record that settings of files hold from then on.
pub const SETTINGS: &str = "SETTINGS_CHANGED";
/// Random bytes of a proposal's id.
pub const ID_BYTES: usize = 6;
/// A proposal waits for so long: a week.
pub const WAITS_MS: u64 = 7 * 86_400_000;
/// Proposals that wait at once, at most.
pub const WAITING_MAX: usize = 1000;
/// Of these, those that come from one person.
pub const WAITING_OF_ONE_MAX: usize = 50;

/// What a deployment may ask a second person for, as its configuration names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// People: invitations, roles, ways in, ends. Not that somebody is suspended: that must not wait.
    Users,
    /// API keys made or renewed. Not that one is revoked.
    Keys,
    /// Leave to read. Not that it is taken back.
    Grants,
    /// What holds by files: sources, policies, who takes a second person.
    Settings,
}

impl Sort {
    /// All of them.
    pub const ALL: [Sort; 4] = [Sort::Users, Sort::Keys, Sort::Grants, Sort::Settings];
    /// Those of which a second person is asked where nothing else is configured.
    pub const DEFAULT: [Sort; 3] = [Sort::Users, Sort::Keys, Sort::Grants];

    /// What whoever decides must be let do.
    pub fn action(self) -> Action {
        match self {
            Sort::Users => Action::ManageUsers,
            Sort::Keys => Action::ManageKeys,
            Sort::Grants => Action::GiveGrant,
            Sort::Settings => Action::ManagePolicy,
        }
    }

    /// The sort of a record that a proposal becomes.
    pub fn of_kind(kind: &str) -> Option<Sort> {
        match kind {
            crate::user::INVITED | crate::user::CHANGED => Some(Sort::Users),
            api_key::CREATED => Some(Sort::Keys),
            crate::grant::GIVEN => Some(Sort::Grants),
            SETTINGS => Some(Sort::Settings),
            _ => None,
        }
    }
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Somebody else agreed.
    Approved,
    /// Somebody else did not.
    Refused,
    /// Who proposed it thought again.
    Withdrawn,
    /// Nobody decided in time.
    Expired,
}

impl Decision {
    /// As the record has it.
    pub fn name(self) -> &'static str {
        match self {
            Decision::Approved => "approved",
            Decision::Refused => "refused",
            Decision::Withdrawn => "withdrawn",
            Decision::Expired => "expired",
        }
    }
}

/// A change that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Opaque id.
    pub id: String,
    /// Kind of the record that it will be.
    pub kind: String,
    /// That record's fields, also the personal ones; none of these where their person was erased.
    pub record: Map<String, Value>,
    /// The subject that it is about, where it names a customer.
    pub subject: Option<u64>,
    /// Until when it waits.
    pub expires: UnixMillis,
    /// The entry that proposed it.
    pub entry: u64,
}

/// Fields of a proposal that are those of the record that it will be.
const CARRIED: [&str; 27] = [
    "actor",
    "change_reference",
    "user_id",
    "change",
    "roles",
    "key_id",
    "key_sha256",
    "scopes",
    "bound_sources",
    "label",
    "replaces",
    "effective",
    "grant_id",
    "grantee",
    "kinds",
    "fields",
    "from",
    "until",
    "of_person",
    "justification",
    "expires",
    "name",
    "email",
    "customer_id",
    "settings_sha256",
    "diff",
    "diff_cut",
];

impl Proposal {
    /// A text of the record that it will be.
    pub fn text(&self, name: &str) -> &str {
        self.record.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Who proposed it.
    pub fn proposer(&self) -> &str {
        self.text("actor")
    }

    /// What sort of change it is.
    pub fn sort(&self) -> Option<Sort> {
        Sort::of_kind(&self.kind)
    }

    fn read(fields: &Map<String, Value>, subject: Option<u64>, entry: u64) -> Option<Proposal> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let kind = text("change_kind")?;
        let sort = Sort::of_kind(kind)?;
        let mut record: Map<String, Value> = fields
            .iter()
            .filter(|(name, _)| CARRIED.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let register = match sort {
            Sort::Users => Some(crate::user::REGISTER),
            Sort::Keys => Some(api_key::REGISTER),
            Sort::Grants => Some(crate::grant::REGISTER),
            Sort::Settings => None,
        };
        record.extend(register.map(|register| ("register".to_owned(), register.into())));
        Some(Proposal {
            id: text("proposal_id")?.to_owned(),
            kind: kind.to_owned(),
            record,
            subject,
            expires: UnixMillis::parse(text("proposal_expires")?.as_bytes()).ok()?,
            entry,
        })
    }
}

/// The fields of a CHANGE_PROPOSED record, and the id that it gives.
pub fn propose(random: &[u8; ID_BYTES], kind: &str, record: &Value, now: UnixMillis) -> (String, Value) {
    let id = format!("p-{}", proof::encoding::hex(random));
    let mut fields = record.clone();
    fields["register"] = REGISTER.into();
    fields["proposal_id"] = id.as_str().into();
    fields["change_kind"] = kind.into();
    fields["proposal_expires"] = UnixMillis(now.0 + WAITS_MS).rfc3339().into();
    (id, fields)
}

/// The fields of a CHANGE_DECIDED record.
pub fn decide(proposal: &Proposal, decision: Decision, actor: &str) -> Value {
    json!({
        "register": REGISTER, "proposal_id": proposal.id, "decision": decision.name(), "actor": actor,
        "change_kind": proposal.kind,
    })
}

/// Settings that a second person agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// SHA-256 of them as text.
    pub sha256: String,
    /// Under what they were decided.
    pub reference: String,
    /// The entry that approved them.
    pub entry: u64,
}

/// What waits, by id; and the newest settings that were agreed to, which files have to follow.
#[derive(Debug, Clone, Default)]
pub struct Proposals {
    waiting: BTreeMap<String, Proposal>,
    approved: Option<Approved>,
}

impl Proposals {
    /// Takes a record about a proposal; others, and what does not fit, change nothing.
    pub fn apply(&mut self, kind: &str, fields: &Map<String, Value>, subject: Option<u64>, entry: u64) {
        match kind {
            PROPOSED => {
                if let Some(proposal) = Proposal::read(fields, subject, entry) {
                    self.waiting.entry(proposal.id.clone()).or_insert(proposal);
                }
            }
            DECIDED => {
                let id = fields.get("proposal_id").and_then(Value::as_str).unwrap_or_default();
                let approved = fields.get("decision").is_some_and(|decision| decision == Decision::Approved.name());
                let held = self.waiting.remove(id).filter(|held| approved && held.sort() == Some(Sort::Settings));
                let agreed = held.map(|held| Approved {
                    sha256: held.text("settings_sha256").to_owned(),
                    reference: held.text("change_reference").to_owned(),
                    entry,
                });
                self.approved = agreed.or(self.approved.take());
            }
            _ => {}
        }
    }

    /// One that waits.
    pub fn get(&self, id: &str) -> Option<&Proposal> {
        self.waiting.get(id)
    }

    /// All that wait, also those whose time is over and that nobody has closed yet.
    pub fn iter(&self) -> impl Iterator<Item = &Proposal> {
        self.waiting.values()
    }

    /// Settings took effect by this entry: what was agreed to before it is used up.
    pub fn used_before(&mut self, entry: u64) {
        self.approved.take_if(|approved| approved.entry < entry);
    }

    /// The newest settings that were agreed to.
    pub fn approved_settings(&self) -> Option<&Approved> {
        self.approved.as_ref()
    }
}

/// From whom an actor comes: who made the key that it is, or the key by which that was made, and so on to somebody who is
/// no key. A person of this trail, where it is an id `u-...`.
pub fn root<'a>(actor: &'a str, keys: &'a Keyring) -> &'a str {
    let mut actor = actor;
    // A key is made by one that was there before it: no chain is longer than there are keys.
    for _ in 0..=keys.len() {
        match actor.strip_prefix("api-key-").and_then(|id| keys.get(id)) {
            Some(key) => actor = &key.maker,
            None => break,
        }
    }
    actor
}

/// Whether an actor is a person who signs in.
pub fn is_person(actor: &str) -> bool {
    actor.starts_with("u-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn invited() -> Value {
        json!({"register": "users", "user_id": "u-9", "roles": ["legal"], "actor": "u-1", "name": "Nine", "change_reference": "CH-1"})
    }

    #[test]
    fn a_proposal_is_the_record_that_it_will_be_and_waits_until_it_is_decided() {
        let (id, fields) = propose(&[7; ID_BYTES], crate::user::INVITED, &invited(), NOW);
        let mut recorded = fields.as_object().expect("an object").clone();
        recorded.insert("timestamp".into(), NOW.rfc3339().into());
        recorded.insert("event_type".into(), PROPOSED.into());
        let mut proposals = Proposals::default();
        proposals.apply(PROPOSED, &recorded, None, 40);
        let held = proposals.get(&id).expect("it waits").clone();
        assert_eq!(Value::Object(held.record.clone()), invited(), "nothing of the proposal's own is in it");
        assert_eq!((held.proposer(), held.sort(), held.entry), ("u-1", Some(Sort::Users), 40));
        assert_eq!(held.expires, UnixMillis(NOW.0 + WAITS_MS));
        let decided = decide(&held, Decision::Approved, "u-2");
        proposals.apply(DECIDED, decided.as_object().expect("an object"), None, 41);
        assert!(proposals.get(&id).is_none() && proposals.iter().next().is_none());
    }

    #[test]
    fn what_no_proposal_may_become_is_none() {
        let (_, fields) = propose(&[7; ID_BYTES], "SUBJECT_ERASED", &invited(), NOW);
        let mut proposals = Proposals::default();
        proposals.apply(PROPOSED, fields.as_object().expect("an object"), None, 40);
        assert!(proposals.iter().next().is_none());
    }

    #[test]
    fn who_made_a_key_stands_behind_what_it_asks_for() {
        let mut keys = Keyring::default();
        let grant = api_key::Grant {
            scopes: vec![api_key::Scope::Admin],
            roles: Vec::new(),
            sources: Vec::new(),
            expires: None,
            label: None,
        };
        let mut make = |byte: u8, maker: &str| {
            let (_, mut facts) = api_key::create(&[byte; 38], &grant, None);
            facts["actor"] = maker.into();
            keys.apply(api_key::CREATED, &facts);
            format!("api-key-{}", facts["key_id"].as_str().expect("an id"))
        };
        let first = make(1, "u-1");
        let second = make(2, &first);
        let of_machine = make(3, "os-user-0");
        for actor in ["u-1", &first, &second] {
            assert_eq!(root(actor, &keys), "u-1", "{actor}");
        }
        assert!(is_person(root(&second, &keys)) && !is_person(root(&of_machine, &keys)));
        assert_eq!(root("api-key-none", &keys), "api-key-none");
    }
}
