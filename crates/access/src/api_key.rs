//! API keys.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proof::hash::{Hash, sha256};
use proof::time::UnixMillis;
use serde_json::{Value, json};

use crate::role::Role;

/// What every key begins with, so that scanners of secrets know it.
pub const PREFIX: &str = "candor_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of a key's id.
const ID_BYTES: usize = 6;
/// Kind of the record that makes a key.
pub const CREATED: &str = "API_KEY_CREATED";
/// Kind of the record that ends one.
pub const REVOKED: &str = "API_KEY_REVOKED";
/// Value of `/register` in the records about keys: under it all of them are found.
pub const REGISTER: &str = "api-keys";

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Write records of the sources that the key is bound to.
    Append,
    /// Search and read, each read recorded.
    Read,
    /// Read the proof plane and the metrics, where nothing is personal.
    Mirror,
    /// Make and revoke keys.
    Admin,
    /// Acknowledge and resolve alerts.
    Operate,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 5] = [Scope::Append, Scope::Read, Scope::Mirror, Scope::Admin, Scope::Operate];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Append => "append",
            Scope::Read => "read",
            Scope::Mirror => "mirror",
            Scope::Admin => "admin",
            Scope::Operate => "operate",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A new key as its holder gets it, once.
pub struct Token(zeroize::Zeroizing<String>);

impl Token {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What a key is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Roles in which it reads.
    pub roles: Vec<Role>,
    /// Sources whose records it may append.
    pub sources: Vec<String>,
    /// When it ends by itself.
    pub expires: Option<UnixMillis>,
    /// A name for people, a token.
    pub label: Option<String>,
}

/// A key as the trail knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id, 12 hexadecimal digits.
    pub id: String,
    digest: Hash,
    /// What it may do.
    pub grant: Grant,
    /// Who made it.
    pub maker: String,
    /// From when on it is revoked.
    pub revoked: Option<UnixMillis>,
}

impl ApiKey {
    /// Whether it has a scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.grant.scopes.contains(&scope)
    }

    /// The roles in which it acts: those it was given, and those that its scopes are.
    pub fn roles(&self) -> Vec<Role> {
        let of_scope = |scope: &Scope| match scope {
            Scope::Append => Some(Role::Source),
            Scope::Mirror => Some(Role::Mirror),
            Scope::Admin => Some(Role::Administrator),
            Scope::Operate => Some(Role::Operations),
            Scope::Read => None,
        };
        self.grant.roles.iter().copied().chain(self.grant.scopes.iter().filter_map(of_scope)).collect()
    }

    /// Whether it opens anything at this time.
    ///
    /// # Errors
    /// It has expired or was revoked.
    pub fn check(&self, now: UnixMillis) -> Result<(), Denied> {
        match (self.revoked, self.grant.expires) {
            (Some(at), _) if at <= now => Err(Denied::Revoked),
            (_, Some(at)) if at <= now => Err(Denied::Expired),
            _ => Ok(()),
        }
    }
}

/// Why a key does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It has not the form of a key.
    Malformed,
    /// There is no such key.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl Denied {
    /// One clear sentence, the same whether a key is malformed or unknown.
    pub fn sentence(self) -> &'static str {
        match self {
            Denied::Malformed | Denied::Unknown => "this key is not known here",
            Denied::Expired => "this key has expired: ask an administrator for another",
            Denied::Revoked => "this key was revoked: ask an administrator for another",
        }
    }
}

/// Makes a key from random bytes: its token, and the facts of its API_KEY_CREATED record.
pub fn create(random: &[u8; ID_BYTES + SECRET_BYTES], grant: &Grant, replaces: Option<&str>) -> (Token, Value) {
    let (id, secret) = random.split_at(ID_BYTES);
    let id = proof::encoding::hex(id);
    let token = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    let mut facts = json!({
        "register": REGISTER, "key_id": id, "key_sha256": sha256(token.as_bytes()).hex(),
        "scopes": grant.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>(),
        "bound_sources": grant.sources,
    });
    if !grant.roles.is_empty() {
        facts["roles"] = Role::names(&grant.roles).into();
    }
    if let Some(expires) = grant.expires {
        facts["expires"] = expires.rfc3339().into();
    }
    if let Some(label) = &grant.label {
        facts["label"] = label.as_str().into();
    }
    if let Some(replaces) = replaces {
        facts["replaces"] = replaces.into();
    }
    (Token(token.into()), facts)
}

/// The facts of an API_KEY_REVOKED record.
pub fn revoke(id: &str, effective: UnixMillis) -> Value {
    json!({"register": REGISTER, "key_id": id, "effective": effective.rfc3339()})
}

/// All keys of a trail, by id.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: BTreeMap<String, ApiKey>,
}

impl Keyring {
    /// Takes a record about a key; others, and what does not fit, change nothing.
    pub fn apply(&mut self, kind: &str, facts: &Value) {
        let text = |name: &str| facts.get(name).and_then(Value::as_str);
        let time = |name: &str| text(name).and_then(|text| UnixMillis::parse(text.as_bytes()).ok());
        let list = |name: &str| -> Vec<&str> {
            facts.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let Some(id) = text("key_id") else { return };
        match kind {
            CREATED => {
                let digest = text("key_sha256").and_then(|hex| proof::encoding::from_hex(hex.as_bytes()).ok());
                let Some(digest) = digest.map(Hash) else { return };
                let scopes: Vec<Scope> = list("scopes").into_iter().filter_map(Scope::parse).collect();
                let mut roles: Vec<Role> = list("roles").into_iter().filter_map(Role::parse).collect();
                if roles.is_empty() && scopes.contains(&Scope::Read) {
                    // Made before keys had roles, when one that read could read all.
                    roles.push(Role::ComplianceOfficer);
                }
                let grant = Grant {
                    scopes,
                    roles,
                    sources: list("bound_sources").into_iter().map(str::to_owned).collect(),
                    expires: time("expires"),
                    label: text("label").map(str::to_owned),
                };
                let maker = text("actor").unwrap_or_default().to_owned();
                let key = ApiKey { id: id.to_owned(), digest, grant, maker, revoked: None };
                self.keys.insert(id.to_owned(), key);
            }
            REVOKED => {
                if let (Some(key), Some(at)) = (self.keys.get_mut(id), time("effective")) {
                    key.revoked = Some(key.revoked.map_or(at, |before| before.min(at)));
                }
            }
            _ => {}
        }
    }

    /// The key that a token is, at this time.
    ///
    /// # Errors
    /// It opens nothing.
    pub fn authenticate(&self, token: &str, now: UnixMillis) -> Result<&ApiKey, Denied> {
        let rest = token.strip_prefix(PREFIX).ok_or(Denied::Malformed)?;
        let (id, _) = rest.split_once('_').ok_or(Denied::Malformed)?;
        let key = self.keys.get(id).ok_or(Denied::Unknown)?;
        let given = sha256(token.as_bytes());
        if !crate::same(&given.0, &key.digest.0) {
            return Err(Denied::Unknown);
        }
        key.check(now)?;
        Ok(key)
    }

    /// A key by its id.
    pub fn get(&self, id: &str) -> Option<&ApiKey> {
        self.keys.get(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.keys.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn grant() -> Grant {
        let expires = Some(UnixMillis(NOW.0 + 1000));
        Grant {
            scopes: vec![Scope::Append],
            roles: Vec::new(),
            sources: vec!["shop".into()],
            expires,
            label: Some("till".into()),
        }
    }

    #[test]
    fn a_key_opens_until_it_expires_or_is_revoked() {
        let (token, facts) = create(&[7; 38], &grant(), None);
        let mut keys = Keyring::default();
        assert_eq!(keys.authenticate(token.expose(), NOW), Err(Denied::Unknown));
        keys.apply("API_KEY_CREATED", &facts);
        let id = keys.authenticate(token.expose(), NOW).expect("it opens").id.clone();
        assert_eq!(keys.get(&id).expect("it is there").grant, grant());
        assert_eq!(keys.authenticate(token.expose(), UnixMillis(NOW.0 + 1000)), Err(Denied::Expired));
        keys.apply("API_KEY_REVOKED", &revoke(&id, UnixMillis(NOW.0 + 10)));
        assert!(keys.authenticate(token.expose(), NOW).is_ok());
        assert_eq!(keys.authenticate(token.expose(), UnixMillis(NOW.0 + 10)), Err(Denied::Revoked));
        // A later revocation does not give it more time.
        keys.apply("API_KEY_REVOKED", &revoke(&id, UnixMillis(NOW.0 + 900)));
        assert_eq!(keys.authenticate(token.expose(), UnixMillis(NOW.0 + 10)), Err(Denied::Revoked));
    }

    #[test]
    fn nothing_but_the_whole_token_opens() {
        let (token, facts) = create(&[7; 38], &grant(), None);
        let mut keys = Keyring::default();
        keys.apply("API_KEY_CREATED", &facts);
        let text = token.expose();
        assert!(!facts.to_string().contains(text) && format!("{token:?}") == "Token(..)");
        for end in 0..text.len() {
            assert!(keys.authenticate(&text[..end], NOW).is_err());
        }
        assert!(keys.authenticate(&format!("{text}x"), NOW).is_err());
        let other = create(&[8; 38], &grant(), None).0;
        assert_eq!(keys.authenticate(other.expose(), NOW), Err(Denied::Unknown));
    }
}
