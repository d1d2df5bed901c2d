//! What people sign in with: credentials, sessions, one-time links (`docs/formats/people.md`), in SQLite.
//!
//! It is not in the trail and can't be made again from it: a password's hash in a log that nobody can change could be
//! attacked for ever. What it loses costs a new invitation, no record. Every key column is a keyed hash, every value a box
//! under a key of its own; nothing of it stands in clear in the file.
//!
//! Who somebody is to the trail, their roles and standing, is not here but in [`crate::user::Users`].

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::passkey::{HANDLE_BYTES, Passkey};
use crate::password::Hashed;
use crate::place::Seen;

const VERSION: i64 = 3;
/// Sessions of one person, at most: the oldest ends.
pub const SESSIONS_MAX: usize = 20;
/// An invitation opens for so long.
pub const INVITED_MS: u64 = 72 * 3_600_000;
/// Random bytes of a token.
pub const TOKEN_BYTES: usize = 32;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("{0} the store of people: {1}")]
    Sql(&'static str, rusqlite::Error),
    /// A box does not open, or is of another version.
    #[error(
        "the store of people is of another trail or version, or was changed: restore keys and access from one backup"
    )]
    Corrupt,
    /// Another thread failed while it held the store.
    #[error("the store of people: another thread failed: restart")]
    Poisoned,
}

fn sql(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |why| StoreError::Sql(what, why)
}

/// Copies a store that somebody else may have open into another file; nothing where there is none.
///
/// # Errors
/// SQLite refuses.
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    if !from.exists() {
        return Ok(());
    }
    let source = Connection::open(from).map_err(sql("copy"))?;
    let mut copy = Connection::open(to).map_err(sql("copy"))?;
    rusqlite::backup::Backup::new(&source, &mut copy)
        .and_then(|backup| backup.run_to_completion(1024, std::time::Duration::ZERO, None))
        .map_err(sql("copy"))
}

/// What somebody signs in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Opaque id.
    pub id: String,
    /// Address, as it was given.
    pub address: String,
    /// Name.
    pub name: String,
    /// Password, once it was chosen.
    pub password: Option<Hashed>,
    /// Second factor.
    pub second: Option<SecondFactor>,
    /// When they last signed in (milliseconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_in_ms: Option<u64>,
    /// Whether they come by single sign-on: then their roles are what the provider says, and there is no password.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sso: bool,
    /// Passkeys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passkeys: Vec<Passkey>,
    /// Where they last signed in, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

impl Person {
    /// Somebody who has not come yet.
    pub fn invited(id: String, address: String, name: String) -> Person {
        Person {
            id,
            address,
            name,
            password: None,
            second: None,
            last_in_ms: None,
            sso: false,
            passkeys: Vec::new(),
            seen: None,
        }
    }
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A second factor: codes by time (RFC 6238), and codes for when the device is lost.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondFactor {
    /// Shared secret, base32.
    pub secret: String,
    /// Step of the newest code that was taken: none is taken twice.
    pub last_step: u64,
    /// SHA-256 of each recovery code that was not used, hexadecimal.
    pub recovery: Vec<String>,
}

impl std::fmt::Debug for SecondFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecondFactor(..)")
    }
}

/// Somebody signed in, on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Opaque id, as the trail names it; the token is another text.
    pub id: String,
    /// Whose it is: a person's id; of a customer no name, only that it is theirs.
    pub person: String,
    /// A customer's subject; none of a person who works here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<u64>,
    /// How they signed in: password, mfa, passkey, sso, link.
    pub method: String,
    /// Whether a provider of single sign-on says that it asked for a second factor.
    #[serde(default, skip_serializing_if = "is_false")]
    pub second_factor: bool,
    /// What the provider calls the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_session: Option<String>,
    /// When (milliseconds).
    pub started_ms: u64,
    /// When it was last used, to a minute.
    pub seen_ms: u64,
    /// Token of its forms.
    pub form_token: String,
    /// Address that it came from.
    pub address: String,
    /// Where that is, roughly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What the browser calls itself.
    pub agent: String,
}

/// Where a session is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow(Row);

/// A link that opens once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Whose it is.
    pub person: String,
    /// A customer's subject, where it opens their own history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<u64>,
    /// Until when it opens (milliseconds).
    pub until_ms: u64,
}

/// What a person is known by elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alias {
    /// The issuer and subject of a provider of single sign-on.
    Provider,
    /// What a provider calls a session.
    ProviderSession,
    /// The id of a passkey.
    Passkey,
}

impl Alias {
    fn name(self) -> &'static str {
        match self {
            Alias::Provider => "provider",
            Alias::ProviderSession => "provider-session",
            Alias::Passkey => "passkey",
        }
    }
}

/// See the module.
pub struct Store {
    connection: Mutex<Connection>,
    boxes: LessSafeKey,
    hashes: hmac::Key,
    random: Box<dyn Fn(&mut [u8]) + Send + Sync>,
    /// Codes are taken one at a time.
    taking: Mutex<()>,
}

#[derive(Clone, Copy)]
enum Table {
    Person,
    Session,
    Link,
    Alias,
    /// No table: what somebody carries.
    Carried,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Person => "person",
            Table::Session => "session",
            Table::Link => "link",
            Table::Alias => "alias",
            Table::Carried => "carried",
        }
    }
}

type Row = [u8; 32];

impl Store {
    /// Opens the store of a trail, making it where there is none. `key` is 64 bytes that nothing else is under.
    ///
    /// # Errors
    /// It cannot be opened, or is of another version.
    pub fn open(
        path: &Path,
        key: &[u8; 64],
        random: impl Fn(&mut [u8]) + Send + Sync + 'static,
    ) -> Result<Store, StoreError> {
        let connection = Connection::open(path).map_err(sql("open"))?;
        let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;";
        connection.execute_batch(set).map_err(sql("open"))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sql("open"))?;
        match version {
            0 => connection.execute_batch(SCHEMA).map_err(sql("make"))?,
            // Version 2 has customers' sessions and links beside; what version 1 wrote reads as it did.
            // Version 3 has what people are known by elsewhere beside.
            1 | 2 => connection.execute_batch(ALIASES).map_err(sql("make"))?,
            VERSION => {}
            _ => return Err(StoreError::Corrupt),
        }
        let boxes = UnboundKey::new(&AES_256_GCM, &key[..32]).map_err(|_| StoreError::Corrupt)?;
        let hashes = hmac::Key::new(hmac::HMAC_SHA256, &key[32..]);
        let random = Box::new(random);
        let (connection, boxes) = (Mutex::new(connection), LessSafeKey::new(boxes));
        Ok(Store { connection, boxes, hashes, random, taking: Mutex::default() })
    }

    fn connection(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        self.connection.lock().map_err(|_| StoreError::Poisoned)
    }

    /// A keyed hash of what stands in no column in clear.
    fn hash(&self, what: &str, text: &str) -> Row {
        let mut row = [0; 32];
        row.copy_from_slice(hmac::sign(&self.hashes, format!("{what}\n{text}").as_bytes()).as_ref());
        row
    }

    /// A number by which guesses at somebody, or from somewhere, are counted.
    pub fn short(&self, what: &str, text: &str) -> u64 {
        proof::encoding::big_endian(&self.hash(what, text)[..8])
    }

    /// Fresh random bytes.
    pub fn fresh<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.random)(&mut bytes);
        bytes
    }

    fn seal(&self, table: Table, row: &Row, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        let nonce: [u8; NONCE_LEN] = self.fresh();
        let mut body = serde_json::to_vec(value).map_err(|_| StoreError::Corrupt)?;
        let place = [table.name().as_bytes(), row].concat();
        self.boxes
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body)
            .map_err(|_| StoreError::Corrupt)?;
        Ok([nonce.as_slice(), &body].concat())
    }

    fn unseal<T: DeserializeOwned>(&self, table: Table, row: &[u8], sealed: &[u8]) -> Result<T, StoreError> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(StoreError::Corrupt)?;
        let (mut body, place) = (body.to_vec(), [table.name().as_bytes(), row].concat());
        let opened = self.boxes.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut body);
        serde_json::from_slice(opened.map_err(|_| StoreError::Corrupt)?).map_err(|_| StoreError::Corrupt)
    }

    fn get<T: DeserializeOwned>(&self, table: Table, row: &Row) -> Result<Option<T>, StoreError> {
        let connection = self.connection()?;
        let query = format!("SELECT box FROM {} WHERE id = ?1", table.name());
        let mut statement = connection.prepare_cached(&query).map_err(sql("read"))?;
        let sealed: Option<Vec<u8>> =
            statement.query_row([row.as_slice()], |row| row.get(0)).optional().map_err(sql("read"))?;
        sealed.map(|sealed| self.unseal(table, row, &sealed)).transpose()
    }

    fn remove(&self, table: Table, row: &Row) -> Result<bool, StoreError> {
        let query = format!("DELETE FROM {} WHERE id = ?1", table.name());
        let removed = self.connection()?.execute(&query, [row.as_slice()]).map_err(sql("write"))?;
        Ok(removed > 0)
    }

    // ---- People

    /// Somebody by id.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn person(&self, id: &str) -> Result<Option<Person>, StoreError> {
        self.get(Table::Person, &self.hash("person", id))
    }

    /// Somebody by address; upper and lower case are one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn person_at(&self, address: &str) -> Result<Option<Person>, StoreError> {
        let wanted = self.hash("address", &address.to_lowercase());
        let row: Option<Vec<u8>> = {
            let connection = self.connection()?;
            let mut statement =
                connection.prepare_cached("SELECT id FROM person WHERE address = ?1").map_err(sql("read"))?;
            statement.query_row([wanted.as_slice()], |row| row.get(0)).optional().map_err(sql("read"))?
        };
        let Some(row) = row.and_then(|row| Row::try_from(row).ok()) else { return Ok(None) };
        self.get(Table::Person, &row)
    }

    /// Keeps somebody as they are now.
    ///
    /// # Errors
    /// Another has the address, or it cannot be written.
    pub fn put(&self, person: &Person) -> Result<(), StoreError> {
        let row = self.hash("person", &person.id);
        let address = self.hash("address", &person.address.to_lowercase());
        let sealed = self.seal(Table::Person, &row, person)?;
        let write = "INSERT INTO person VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET address = ?2, box = ?3";
        self.connection()?.execute(write, params![row, address, sealed]).map_err(sql("write"))?;
        Ok(())
    }

    /// Forgets somebody: their credentials, sessions and links.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn forget(&self, id: &str) -> Result<(), StoreError> {
        for passkey in self.person(id)?.map(|person| person.passkeys).unwrap_or_default() {
            self.drop_alias(Alias::Passkey, &passkey.id)?;
        }
        for (row, _) in self.rows_of(id)? {
            self.end_row(&row)?;
        }
        let row = self.hash("person", id);
        let mut connection = self.connection()?;
        let transaction = connection.transaction().map_err(sql("write"))?;
        for query in [
            "DELETE FROM person WHERE id = ?1",
            "DELETE FROM session WHERE person = ?1",
            "DELETE FROM link WHERE person = ?1",
        ] {
            transaction.execute(query, [row.as_slice()]).map_err(sql("write"))?;
        }
        transaction.commit().map_err(sql("write"))
    }

    /// Takes a code of a second factor, or one for when the device is lost; none is taken twice, however many ask at
    /// once. Whether it was right, and whether it was a recovery code.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn take_code(&self, id: &str, code: &str, now_s: u64) -> Result<Option<bool>, StoreError> {
        let _turn = self.taking.lock().map_err(|_| StoreError::Poisoned)?;
        let Some(mut person) = self.person(id)? else { return Ok(None) };
        let Some(second) = &mut person.second else { return Ok(None) };
        let recovered = match crate::second_factor::step_of(&second.secret, code, now_s) {
            Some(step) if step > second.last_step => {
                second.last_step = step;
                false
            }
            Some(_) => return Ok(None),
            None => {
                let digest = crate::second_factor::recovery_digest(code);
                let Some(place) = second.recovery.iter().position(|held| *held == digest) else { return Ok(None) };
                second.recovery.remove(place);
                true
            }
        };
        self.put(&person)?;
        Ok(Some(recovered))
    }

    // ---- Sessions

    /// Keeps a session under its token.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_session(&self, token: &str, session: &Session) -> Result<(), StoreError> {
        let row = self.hash("session", token);
        let person = self.hash("person", &session.person);
        let sealed = self.seal(Table::Session, &row, session)?;
        let write = "INSERT INTO session VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET box = ?4";
        let started = session.started_ms as i64;
        self.connection()?.execute(write, params![row, person, started, sealed]).map_err(sql("write"))?;
        Ok(())
    }

    /// Keeps a session as it is now, where it has not ended meanwhile.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn touch_session(&self, token: &str, session: &Session) -> Result<(), StoreError> {
        let row = self.hash("session", token);
        let sealed = self.seal(Table::Session, &row, session)?;
        let write = "UPDATE session SET box = ?2 WHERE id = ?1";
        self.connection()?.execute(write, params![row, sealed]).map_err(sql("write"))?;
        Ok(())
    }

    /// The session of a token.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn session(&self, token: &str) -> Result<Option<Session>, StoreError> {
        self.get(Table::Session, &self.hash("session", token))
    }

    /// Sessions of somebody, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn sessions_of(&self, person: &str) -> Result<Vec<Session>, StoreError> {
        Ok(self.rows_of(person)?.into_iter().map(|(_, session)| session).collect())
    }

    /// The same with where each is kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn rows_of(&self, person: &str) -> Result<Vec<(SessionRow, Session)>, StoreError> {
        let wanted = self.hash("person", person);
        let rows: Vec<(Vec<u8>, Vec<u8>)> = {
            let connection = self.connection()?;
            let mut statement = connection
                .prepare_cached("SELECT id, box FROM session WHERE person = ?1 ORDER BY started DESC")
                .map_err(sql("read"))?;
            let rows = statement.query_map([wanted.as_slice()], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.map_err(sql("read"))?.collect::<Result<_, _>>().map_err(sql("read"))?
        };
        let open = |(row, sealed): (Vec<u8>, Vec<u8>)| {
            let session = self.unseal(Table::Session, &row, &sealed)?;
            Ok((SessionRow(row.try_into().map_err(|_| StoreError::Corrupt)?), session))
        };
        rows.into_iter().map(open).collect()
    }

    /// Ends a session by its token; whether there was one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end_session(&self, token: &str) -> Result<bool, StoreError> {
        self.end(&self.hash("session", token))
    }

    /// Ends a session where it is kept; whether it was still there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end_row(&self, row: &SessionRow) -> Result<bool, StoreError> {
        self.end(&row.0)
    }

    /// A session, and by what a provider knows it.
    fn end(&self, row: &Row) -> Result<bool, StoreError> {
        let session: Option<Session> = self.get(Table::Session, row)?;
        let ended = self.remove(Table::Session, row)?;
        if let Some(Session { person, provider_session: Some(known), .. }) = session {
            let others = self.sessions_of(&person)?;
            if !others.iter().any(|other| other.provider_session.as_ref() == Some(&known)) {
                self.drop_alias(Alias::ProviderSession, &known)?;
            }
        }
        Ok(ended)
    }

    /// A value for somebody to carry who can neither read nor make one; `what` it is for opens no other.
    ///
    /// # Errors
    /// It can't be written as JSON.
    pub fn carried(&self, what: &str, value: &impl Serialize) -> Result<String, StoreError> {
        Ok(URL_SAFE_NO_PAD.encode(self.seal(Table::Carried, &self.hash("carried", what), value)?))
    }

    /// The value that was carried.
    ///
    /// # Errors
    /// It is none of ours.
    pub fn brought<T: DeserializeOwned>(&self, what: &str, text: &str) -> Result<T, StoreError> {
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| StoreError::Corrupt)?;
        self.unseal(Table::Carried, &self.hash("carried", what), &sealed)
    }

    // ---- What people are known by elsewhere

    /// What stands for somebody on their device: it tells nothing of them.
    pub fn handle(&self, id: &str) -> [u8; HANDLE_BYTES] {
        let mut handle = [0; HANDLE_BYTES];
        handle[..32].copy_from_slice(&self.hash("handle-1", id));
        handle[32..].copy_from_slice(&self.hash("handle-2", id));
        handle
    }

    /// Whose an alias is: a person's id, also of one who was forgotten.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn known_as(&self, alias: Alias, text: &str) -> Result<Option<String>, StoreError> {
        self.get(Table::Alias, &self.hash(alias.name(), text))
    }

    /// Keeps by what somebody is known.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_alias(&self, alias: Alias, text: &str, person: &str) -> Result<(), StoreError> {
        let (row, of) = (self.hash(alias.name(), text), self.hash("person", person));
        let sealed = self.seal(Table::Alias, &row, &person)?;
        let write = "INSERT INTO alias VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET person = ?2, box = ?3";
        self.connection()?.execute(write, params![row, of, sealed]).map_err(sql("write"))?;
        Ok(())
    }

    /// Drops one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn drop_alias(&self, alias: Alias, text: &str) -> Result<bool, StoreError> {
        self.remove(Table::Alias, &self.hash(alias.name(), text))
    }

    // ---- Links

    /// Makes a link by which somebody chooses a password, for three days; those made for them before open no more. The
    /// path of its page, this once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn make_link(&self, person: &str, now_ms: u64) -> Result<String, StoreError> {
        let link = Link { person: person.to_owned(), subject: None, until_ms: now_ms + INVITED_MS };
        Ok(format!("/join/{}", self.keep_link(&link)?))
    }

    /// Makes a link by which a customer sees their own history until then; those made for them before open no more. Its
    /// token, this once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn make_own_link(&self, subject: u64, until_ms: u64) -> Result<String, StoreError> {
        self.keep_link(&Link { person: format!("customer-{subject}"), subject: Some(subject), until_ms })
    }

    fn keep_link(&self, link: &Link) -> Result<String, StoreError> {
        let token = proof::encoding::hex(&self.fresh::<TOKEN_BYTES>());
        let (row, person) = (self.hash("link", &token), self.hash("person", &link.person));
        let sealed = self.seal(Table::Link, &row, link)?;
        let mut connection = self.connection()?;
        let transaction = connection.transaction().map_err(sql("write"))?;
        transaction.execute("DELETE FROM link WHERE person = ?1", [person.as_slice()]).map_err(sql("write"))?;
        transaction
            .execute("INSERT INTO link VALUES (?1, ?2, ?3)", params![row, person, sealed])
            .map_err(sql("write"))?;
        transaction.commit().map_err(sql("write"))?;
        Ok(token)
    }

    /// Whose own history a link opens, while it does.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn own_link(&self, token: &str, now_ms: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.any_link(token, now_ms)?.and_then(|link| link.subject))
    }

    /// Whose an invitation is, while it opens. Looking at it does not use it up: mail scanners follow links.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn link(&self, token: &str, now_ms: u64) -> Result<Option<Link>, StoreError> {
        Ok(self.any_link(token, now_ms)?.filter(|link| link.subject.is_none()))
    }

    fn any_link(&self, token: &str, now_ms: u64) -> Result<Option<Link>, StoreError> {
        let link: Option<Link> = self.get(Table::Link, &self.hash("link", token))?;
        Ok(link.filter(|link| now_ms < link.until_ms))
    }

    /// Uses a link up; whether it was still there. Of several who try at once, one is told yes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn use_link(&self, token: &str) -> Result<bool, StoreError> {
        self.remove(Table::Link, &self.hash("link", token))
    }
}

const ALIASES: &str = "
    BEGIN;
    CREATE TABLE alias(id BLOB PRIMARY KEY, person BLOB NOT NULL, box BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX alias_of ON alias(person);
    PRAGMA user_version = 3;
    COMMIT;";

const SCHEMA: &str = "
    BEGIN;
    CREATE TABLE person(id BLOB PRIMARY KEY, address BLOB NOT NULL UNIQUE, box BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE session(id BLOB PRIMARY KEY, person BLOB NOT NULL, started INTEGER NOT NULL, box BLOB NOT NULL)
        WITHOUT ROWID;
    CREATE INDEX session_of ON session(person, started);
    CREATE TABLE link(id BLOB PRIMARY KEY, person BLOB NOT NULL, box BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX link_of ON link(person);
    CREATE TABLE alias(id BLOB PRIMARY KEY, person BLOB NOT NULL, box BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX alias_of ON alias(person);
    PRAGMA user_version = 3;
    COMMIT;";

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
