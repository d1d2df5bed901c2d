//! Grants: what somebody gave somebody else leave to read, why and until when. A fold of records of the trail
//! (GRANT_GIVEN, GRANT_REVOKED); it holds nothing that the trail does not, and no name.

use std::collections::BTreeMap;

use proof::time::UnixMillis;
use serde_json::{Value, json};

use crate::role::Role;

/// Value of `/register` in the records about grants: under it all of them are found.
pub const REGISTER: &str = "grants";
/// Kind of the record that gives one.
pub const GIVEN: &str = "GRANT_GIVEN";
/// Kind of the record that takes one back.
pub const REVOKED: &str = "GRANT_REVOKED";
/// Random bytes of a grant's id.
pub const ID_BYTES: usize = 8;
/// A grant lasts for so long, at most: who needs longer asks again.
pub const LASTS_MS_MAX: u64 = 366 * 86_400_000;
/// Kinds, or fields, that one grant names, at most.
pub const NAMES_MAX: usize = 64;

/// What a grant covers. Empty lists cover all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct What {
    /// Kinds of entries.
    pub kinds: Vec<String>,
    /// Fields of them that are shown, beside those that every record has.
    pub fields: Vec<String>,
    /// Not before this time of acceptance.
    pub from: Option<UnixMillis>,
    /// Before this time of acceptance.
    pub until: Option<UnixMillis>,
    /// Whether it names a person.
    pub of_person: bool,
    /// The person's subject; none where they were erased, and then it covers nothing.
    pub subject: Option<u64>,
}

impl What {
    /// Whether it covers the whole trail: only then it lets count.
    pub fn is_everything(&self) -> bool {
        *self == What::default()
    }

    /// Whether it covers an entry of this kind and time, whoever it is about.
    pub fn covers(&self, kind: &str, at: UnixMillis) -> bool {
        (self.kinds.is_empty() || self.kinds.iter().any(|held| held == kind))
            && self.from.is_none_or(|from| from <= at)
            && self.until.is_none_or(|until| at < until)
    }
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Opaque id.
    pub id: String,
    /// Who may read: the id under which their reads are recorded.
    pub grantee: String,
    /// What.
    pub what: What,
    /// Why.
    pub reason: String,
    /// Until when it lasts.
    pub expires: UnixMillis,
    /// Who gave it.
    pub giver: String,
    /// As what they gave it.
    pub giver_roles: Vec<Role>,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl Grant {
    /// Whether it holds at this time.
    pub fn holds(&self, now: UnixMillis) -> bool {
        !self.revoked && now < self.expires
    }

    /// The facts of its GRANT_GIVEN record; a person is named beside them.
    pub fn facts(&self) -> Value {
        let mut facts = json!({
            "register": REGISTER, "grant_id": self.id, "grantee": self.grantee, "justification": self.reason,
            "expires": self.expires.rfc3339(), "actor": self.giver, "roles": Role::names(&self.giver_roles),
            "of_person": self.what.of_person,
        });
        for (name, list) in [("kinds", &self.what.kinds), ("fields", &self.what.fields)] {
            if !list.is_empty() {
                facts[name] = json!(list);
            }
        }
        for (name, time) in [("from", self.what.from), ("until", self.what.until)] {
            if let Some(time) = time {
                facts[name] = time.rfc3339().into();
            }
        }
        facts
    }

    fn read(facts: &Value, subject: Option<u64>) -> Option<Grant> {
        let text = |name: &str| facts.get(name).and_then(Value::as_str);
        let time = |name: &str| text(name).and_then(|text| UnixMillis::parse(text.as_bytes()).ok());
        let list = |name: &str| -> Vec<String> {
            let texts = facts.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let of_person = facts.get("of_person").and_then(Value::as_bool).unwrap_or(false);
        Some(Grant {
            id: text("grant_id")?.to_owned(),
            grantee: text("grantee")?.to_owned(),
            what: What {
                kinds: list("kinds"),
                fields: list("fields"),
                from: time("from"),
                until: time("until"),
                of_person,
                subject: subject.filter(|_| of_person),
            },
            reason: text("justification").unwrap_or_default().to_owned(),
            expires: time("expires")?,
            giver: text("actor")?.to_owned(),
            giver_roles: list("roles").iter().filter_map(|name| Role::parse(name)).collect(),
            revoked: false,
        })
    }
}

/// The id that random bytes make.
pub fn id(random: &[u8; ID_BYTES]) -> String {
    format!("g-{}", proof::encoding::hex(random))
}

/// The facts of a GRANT_REVOKED record.
pub fn revoke(id: &str, actor: &str, reference: &str) -> Value {
    json!({"register": REGISTER, "grant_id": id, "actor": actor, "change_reference": reference})
}

/// All grants of a trail, by id.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    grants: BTreeMap<String, Grant>,
}

impl Grants {
    /// Takes a record about a grant, with the subject that it is about; others, and what does not fit, change nothing.
    pub fn apply(&mut self, kind: &str, facts: &Value, subject: Option<u64>) {
        match kind {
            GIVEN => {
                if let Some(grant) = Grant::read(facts, subject) {
                    self.grants.entry(grant.id.clone()).or_insert(grant);
                }
            }
            REVOKED => {
                let id = facts.get("grant_id").and_then(Value::as_str).unwrap_or_default();
                if let Some(grant) = self.grants.get_mut(id) {
                    grant.revoked = true;
                }
            }
            _ => {}
        }
    }

    /// Those of somebody that hold at this time and that somebody else gave.
    pub fn of(&self, grantee: &str, now: UnixMillis) -> Vec<Grant> {
        let fits = |grant: &&Grant| grant.grantee == grantee && grant.giver != grantee && grant.holds(now);
        self.grants.values().filter(fits).cloned().collect()
    }

    /// A grant by its id.
    pub fn get(&self, id: &str) -> Option<&Grant> {
        self.grants.get(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn grant(giver: &str) -> Grant {
        Grant {
            id: format!("g-{giver}"),
            grantee: "u-1".into(),
            what: What {
                kinds: vec!["EMAIL_SENT".into()],
                from: Some(UnixMillis(NOW.0 - 1000)),
                until: Some(NOW),
                ..What::default()
            },
            reason: "case 7".into(),
            expires: UnixMillis(NOW.0 + 1000),
            giver: giver.into(),
            giver_roles: vec![Role::Legal],
            revoked: false,
        }
    }

    #[test]
    fn a_grant_comes_back_from_its_record_and_ends_by_time_or_word() {
        let mut grants = Grants::default();
        let given = grant("u-2");
        grants.apply(GIVEN, &given.facts(), Some(9));
        assert_eq!(grants.get("g-u-2"), Some(&given), "it names nobody, so it has no subject");
        assert_eq!(grants.of("u-1", NOW), std::slice::from_ref(&given));
        assert!(grants.of("u-1", given.expires).is_empty() && grants.of("u-3", NOW).is_empty());
        grants.apply(GIVEN, &grant("u-1").facts(), None);
        assert_eq!(grants.of("u-1", NOW).len(), 1, "nobody gives themselves leave");
        let longer = Grant { expires: UnixMillis(NOW.0 + 99_999), ..given.clone() };
        grants.apply(GIVEN, &longer.facts(), None);
        assert_eq!(grants.get("g-u-2").map(|grant| grant.expires), Some(given.expires), "an id is given once");
        grants.apply(REVOKED, &revoke("g-u-2", "u-4", "CH-1"), None);
        assert!(grants.of("u-1", NOW).is_empty());
    }

    #[test]
    fn it_covers_what_it_names_and_nothing_beside() {
        let what = grant("u-2").what;
        assert!(
            what.covers("EMAIL_SENT", UnixMillis(NOW.0 - 1)) && what.covers("EMAIL_SENT", UnixMillis(NOW.0 - 1000))
        );
        assert!(!what.covers("EMAIL_SENT", NOW) && !what.covers("EMAIL_SENT", UnixMillis(NOW.0 - 1001)));
        assert!(!what.covers("CALL_LOGGED", UnixMillis(NOW.0 - 1)) && !what.is_everything());
        let person = Grant { what: What { of_person: true, ..What::default() }, ..grant("u-2") };
        let mut grants = Grants::default();
        grants.apply(GIVEN, &person.facts(), Some(9));
        assert_eq!(grants.get("g-u-2").and_then(|grant| grant.what.subject), Some(9));
        assert!(What::default().is_everything() && !person.what.is_everything());
    }
}
