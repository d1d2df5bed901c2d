//! People: who was invited, in which roles, and how they stand. A fold of records of the trail (USER_INVITED,
//! USER_CHANGED); it holds nothing that the trail does not, and no name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::role::Role;

/// Value of `/register` in the records about people: under it all of them are found.
pub const REGISTER: &str = "users";
/// Kind of the record that invites somebody.
pub const INVITED: &str = "USER_INVITED";
/// Kind of the record that changes an account.
pub const CHANGED: &str = "USER_CHANGED";
/// Random bytes of a person's id.
pub const ID_BYTES: usize = 6;

/// How somebody stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Invited; has not come yet.
    Invited,
    /// May sign in.
    Active,
    /// May not for now.
    Suspended,
    /// May not any more.
    Ended,
}

impl Standing {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Invited => "invited",
            Standing::Active => "active",
            Standing::Suspended => "suspended",
            Standing::Ended => "ended",
        }
    }
}

/// A change of a person's account, as USER_CHANGED names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They took their invitation.
    Activated,
    /// Other roles.
    Roles,
    /// May not sign in for now.
    Suspended,
    /// May again.
    Resumed,
    /// Will not again.
    Ended,
    /// Was given a new link.
    Invited,
    /// Chose a password.
    PasswordSet,
    /// Added a second factor.
    SecondFactorAdded,
    /// Took it away.
    SecondFactorRemoved,
    /// Used a recovery code.
    RecoveryCodeUsed,
    /// Added a passkey.
    PasskeyAdded,
    /// Took one away.
    PasskeyRemoved,
}

impl Change {
    /// Each with its name.
    pub const ALL: [(Change, &'static str); 12] = [
        (Change::Activated, "activated"),
        (Change::Roles, "roles"),
        (Change::Suspended, "suspended"),
        (Change::Resumed, "resumed"),
        (Change::Ended, "ended"),
        (Change::Invited, "invited"),
        (Change::PasswordSet, "password_set"),
        (Change::SecondFactorAdded, "second_factor_added"),
        (Change::SecondFactorRemoved, "second_factor_removed"),
        (Change::RecoveryCodeUsed, "recovery_code_used"),
        (Change::PasskeyAdded, "passkey_added"),
        (Change::PasskeyRemoved, "passkey_removed"),
    ];

    /// As the record has it.
    pub fn name(self) -> &'static str {
        Change::ALL.iter().find(|(change, _)| *change == self).map_or("", |(_, name)| name)
    }
}

/// A person as the trail knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Opaque id.
    pub id: String,
    /// What they are to the trail.
    pub roles: Vec<Role>,
    /// How they stand.
    pub standing: Standing,
    /// Whether they ever took their invitation.
    pub came: bool,
}

impl User {
    /// Whether they count among those who are here: who is suspended does, else who suspends the other would be alone.
    pub fn is_here(&self) -> bool {
        match self.standing {
            Standing::Active => true,
            Standing::Suspended => self.came,
            Standing::Invited | Standing::Ended => false,
        }
    }
}

/// The id that random bytes make.
pub fn id(random: &[u8; ID_BYTES]) -> String {
    format!("u-{}", proof::encoding::hex(random))
}

/// The facts of a USER_CHANGED record.
pub fn changed(user: &str, change: Change, actor: &str) -> Value {
    json!({"register": REGISTER, "user_id": user, "change": change.name(), "actor": actor})
}

/// Everybody, by id.
#[derive(Debug, Clone, Default)]
pub struct Users {
    users: BTreeMap<String, User>,
}

impl Users {
    /// Takes a record about a person; others, and what does not fit, change nothing.
    pub fn apply(&mut self, kind: &str, facts: &Value) {
        let Some(id) = facts.get("user_id").and_then(Value::as_str) else { return };
        let roles = || -> Option<Vec<Role>> {
            let list = facts.get("roles")?.as_array()?;
            Some(list.iter().filter_map(|role| Role::parse(role.as_str()?)).collect())
        };
        if kind == INVITED {
            let user = User {
                id: id.to_owned(),
                roles: roles().unwrap_or_default(),
                standing: Standing::Invited,
                came: false,
            };
            self.users.entry(id.to_owned()).or_insert(user);
            return;
        }
        let (Some(user), CHANGED) = (self.users.get_mut(id), kind) else { return };
        let change = facts.get("change").and_then(Value::as_str);
        let change = Change::ALL.iter().find(|(_, name)| Some(*name) == change).map(|(change, _)| *change);
        match (change, user.standing) {
            // Who has left does not come back under the same id.
            (_, Standing::Ended) => {}
            (Some(Change::Activated), Standing::Invited) => {
                (user.standing, user.came) = (Standing::Active, true);
            }
            (Some(Change::Resumed), Standing::Suspended) => {
                user.standing = if user.came { Standing::Active } else { Standing::Invited };
            }
            (Some(Change::Suspended), _) => user.standing = Standing::Suspended,
            (Some(Change::Ended), _) => user.standing = Standing::Ended,
            (Some(Change::Roles), _) => user.roles = roles().unwrap_or_default(),
            _ => {}
        }
    }

    /// A person by id.
    pub fn get(&self, id: &str) -> Option<&User> {
        self.users.get(id)
    }

    /// Everybody.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_suspended_may_come_back_and_who_left_may_not() {
        let mut users = Users::default();
        let apply = |users: &mut Users, change| users.apply("USER_CHANGED", &changed("u-1", change, "u-0"));
        apply(&mut users, Change::Activated);
        assert!(users.get("u-1").is_none(), "nobody comes without an invitation");
        users.apply("USER_INVITED", &json!({"user_id": "u-1", "roles": ["legal", "none"]}));
        assert_eq!(
            users.get("u-1").map(|user| (user.standing, user.roles.clone())),
            Some((Standing::Invited, vec![Role::Legal]))
        );
        users.apply("USER_INVITED", &json!({"user_id": "u-1", "roles": ["administrator"]}));
        let mut steps = vec![];
        let order = [
            Change::Resumed,
            Change::Activated,
            Change::Suspended,
            Change::Activated,
            Change::Resumed,
            Change::Ended,
            Change::Resumed,
            Change::Activated,
        ];
        for change in order {
            apply(&mut users, change);
            steps.push(users.get("u-1").expect("there").standing.name());
        }
        assert_eq!(steps, ["invited", "active", "suspended", "suspended", "active", "ended", "ended", "ended"]);
        assert_eq!(users.get("u-1").expect("there").roles, [Role::Legal], "an id is invited once");
    }
}
