//! States: what lists of things are filtered by (`docs/formats/states.md`), in SQLite.
//!
//! It holds facts only, so nothing of it is about a person; every key column is a keyed hash, every value a box under
//! the view key. One thread adds and flushes; any may read.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Condvar, Mutex, RwLock};
use std::time::Duration;

use record::things::{SHAPES, Shape};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use seal::crypto::{Key, decrypt, encrypt};
use seal::random::RandomPool;

use crate::error::{Error, states};
use crate::file::Vault;
use crate::row::{Change, Row, Timed, Wanted};

const VERSION: i64 = 1;
/// Threads that read at once; others wait.
const READERS: usize = 4;

/// Register and hash of the id.
type ThingKey = (u8, i64);

/// Rows in memory.
#[derive(Default)]
struct Touched {
    rows: HashMap<ThingKey, Row>,
    /// Register, first entry and thing of each: lists go from the newest on and need not look at all.
    order: BTreeSet<(u8, u64, i64)>,
}

/// The states of one trail.
pub(crate) struct States {
    vault: Vault,
    key: Key,
    writing: Mutex<Connection>,
    reading: Vec<Mutex<Connection>>,
    /// Rows that were touched since the last flush, whole.
    touched: RwLock<Touched>,
    /// Entries below this were applied, and who waits for more.
    applied: (Mutex<u64>, Condvar),
}

impl States {
    pub(crate) fn open(path: &Path, vault: Vault) -> Result<States, Error> {
        let connection = || -> Result<Connection, Error> {
            let connection = Connection::open(path).map_err(states("open"))?;
            let set = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8192; PRAGMA secure_delete = ON;";
            connection.execute_batch(set).map_err(states("open"))?;
            Ok(connection)
        };
        let writing = connection()?;
        let version: i64 = writing.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(states("open"))?;
        if version != VERSION {
            // Of another version: made again from the log.
            writing
                .execute_batch("DROP TABLE IF EXISTS state; DROP TABLE IF EXISTS cursor;")
                .map_err(states("open"))?;
        }
        writing.execute_batch(SCHEMA).map_err(states("open"))?;
        writing.pragma_update(None, "user_version", VERSION).map_err(states("open"))?;
        let cursor: Option<i64> =
            writing.query_row("SELECT entry FROM cursor", [], |row| row.get(0)).optional().map_err(states("read"))?;
        let reading = (0..READERS).map(|_| connection().map(Mutex::new)).collect::<Result<_, Error>>()?;
        let key = vault.key(b"candor/v1/states\n");
        let applied = (Mutex::new(cursor.unwrap_or(0) as u64), Condvar::new());
        Ok(States { vault, key, writing: Mutex::new(writing), reading, touched: RwLock::default(), applied })
    }

    /// Entries below this index are in the file or in memory.
    pub(crate) fn cursor(&self) -> u64 {
        self.applied.0.lock().map_or(0, |applied| *applied)
    }

    fn hash(&self, register: u8, what: &[u8], value: &str) -> i64 {
        self.vault.hash(&[b"candor/v1/state\n", what, &[register], value.as_bytes()]) as i64
    }

    fn thing(&self, register: u8, id: &str) -> ThingKey {
        (register, self.hash(register, b"id", id))
    }

    /// Takes the changes of entries up to `end`; the first of an entry below it decides nothing twice.
    pub(crate) fn add<'c>(&self, changes: impl Iterator<Item = (u64, &'c Change)>, end: u64) -> Result<(), Error> {
        let mut touched = None;
        for (entry, change) in changes {
            let held = match &mut touched {
                Some(held) => held,
                none => none.insert(self.touched.write().map_err(|_| Error::Stopped)?),
            };
            let key = self.thing(change.register, &change.id);
            let Touched { rows, order } = &mut **held;
            let row = match rows.entry(key) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(free) => {
                    let connection = self.writing.lock().map_err(|_| Error::Stopped)?;
                    let new = || Row { id: change.id.clone(), first: entry, ..Row::default() };
                    let row = self.find(&connection, key)?.unwrap_or_else(new);
                    order.insert((key.0, row.first, key.1));
                    free.insert(row)
                }
            };
            row.apply(change);
        }
        drop(touched);
        *self.applied.0.lock().map_err(|_| Error::Stopped)? = end;
        self.applied.1.notify_all();
        Ok(())
    }

    /// Takes a thing out; nothing of it is left.
    pub(crate) fn forget(&self, register: u8, id: &str) -> Result<(), Error> {
        let key = self.thing(register, id);
        let mut touched = self.touched.write().map_err(|_| Error::Stopped)?;
        if let Some(row) = touched.rows.remove(&key) {
            touched.order.remove(&(key.0, row.first, key.1));
        }
        let connection = self.writing.lock().map_err(|_| Error::Stopped)?;
        let mut delete = connection
            .prepare_cached("DELETE FROM state WHERE register = ?1 AND thing = ?2")
            .map_err(states("write"))?;
        delete.execute((key.0, key.1)).map(drop).map_err(states("write"))
    }

    /// Waits until everything before `size` was applied; whether it was in time.
    pub(crate) fn wait(&self, size: u64, at_most: Duration) -> Result<bool, Error> {
        let held = self.applied.0.lock().map_err(|_| Error::Stopped)?;
        let waited = self.applied.1.wait_timeout_while(held, at_most, |applied| *applied < size);
        Ok(*waited.map_err(|_| Error::Stopped)?.0 >= size)
    }

    fn find(&self, connection: &Connection, key: ThingKey) -> Result<Option<Row>, Error> {
        let mut statement = connection
            .prepare_cached("SELECT first, box FROM state WHERE register = ?1 AND thing = ?2")
            .map_err(states("read"))?;
        let found: Option<(i64, Vec<u8>)> = statement
            .query_row((key.0, key.1), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(states("read"))?;
        found.map(|(first, sealed)| self.unseal(key.0, first, sealed)).transpose()
    }

    fn unseal(&self, register: u8, first: i64, sealed: Vec<u8>) -> Result<Row, Error> {
        let bad = || Error::Corrupt("states");
        let (nonce, rest) = sealed.split_first_chunk::<12>().ok_or_else(bad)?;
        let mut buffer = rest.to_vec();
        let opened = decrypt(&self.key, *nonce, &place(register, first), &mut buffer).map_err(|_| bad())?;
        Row::read(first as u64, opened).ok_or_else(bad)
    }

    /// Every box in clear, for tests.
    pub(crate) fn clear(&self) -> Result<Vec<u8>, Error> {
        let connection = self.writing.lock().map_err(|_| Error::Stopped)?;
        let mut statement = connection.prepare("SELECT register, first, box FROM state").map_err(states("read"))?;
        let mut rows = statement.query([]).map_err(states("read"))?;
        let mut clear = Vec::new();
        while let Some(row) = rows.next().map_err(states("read"))? {
            let (register, first): (u8, i64) =
                (row.get(0).map_err(states("read"))?, row.get(1).map_err(states("read"))?);
            clear.extend(self.unseal(register, first, row.get(2).map_err(states("read"))?)?.write());
        }
        Ok(clear)
    }

    fn seal(&self, random: &mut RandomPool, register: u8, row: &Row) -> Vec<u8> {
        let nonce = random.take::<12>();
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&row.write());
        encrypt(&self.key, nonce, &place(register, row.first as i64), &mut sealed, 12);
        sealed
    }

    /// Writes what was touched: one row for each thing, however many events it had.
    pub(crate) fn flush(&self, end: u64) -> Result<(), Error> {
        let mut connection = self.writing.lock().map_err(|_| Error::Stopped)?;
        let transaction = connection.transaction().map_err(states("write"))?;
        let touched = self.touched.read().map_err(|_| Error::Stopped)?;
        let mut rows: Vec<(&ThingKey, &Row)> = touched.rows.iter().collect();
        rows.sort_by_key(|(key, row)| (key.0, row.first));
        let mut random = RandomPool::default();
        {
            let mut put = transaction
                .prepare_cached("INSERT OR REPLACE INTO state VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")
                .map_err(states("write"))?;
            for (key, row) in rows {
                let hash = |what: &[u8], value: &Timed<String>| match value {
                    Some((_, value)) => Sql::Integer(self.hash(key.0, what, value)),
                    None => Sql::Null,
                };
                let open = row.is_open(&SHAPES[usize::from(key.0)]);
                let values = [
                    Sql::Integer(i64::from(key.0)),
                    Sql::Integer(row.first as i64),
                    Sql::Integer(key.1),
                    Sql::Integer(i64::from(open)),
                    row.due.map_or(Sql::Null, |(_, due)| Sql::Integer(due as i64)),
                    hash(b"status", &row.status),
                    hash(b"category", &row.category),
                    hash(b"priority", &row.priority),
                    hash(b"staff", &row.staff),
                    Sql::Blob(self.seal(&mut random, key.0, row)),
                ];
                put.execute(params_from_iter(values)).map_err(states("write"))?;
            }
            transaction
                .execute("INSERT OR REPLACE INTO cursor VALUES (0, ?1)", [end as i64])
                .map_err(states("write"))?;
        }
        transaction.commit().map_err(states("commit"))?;
        drop((touched, connection));
        *self.touched.write().map_err(|_| Error::Stopped)? = Touched::default();
        Ok(())
    }

    /// Things that fit, those that began last first.
    pub(crate) fn list(&self, shape: &Shape, wanted: &Wanted) -> Result<Vec<Row>, Error> {
        let register = shape.place();
        let place = self.reading.iter().find_map(|reading| reading.try_lock().ok());
        let connection = match place {
            Some(connection) => connection,
            None => self.reading[0].lock().map_err(|_| Error::Stopped)?,
        };
        // What is in memory and what is in the file are read at one moment, so that nothing is missed that moves from here
        // to there. The writer waits as long as a page takes.
        let touched = self.touched.read().map_err(|_| Error::Stopped)?;
        let snapshot = connection.unchecked_transaction().map_err(states("read"))?;
        let newest =
            touched.order.range((register, 0, i64::MIN)..(register, wanted.below.unwrap_or(u64::MAX), i64::MIN));
        let held = newest.rev().filter_map(|(_, _, thing)| touched.rows.get(&(register, *thing)));
        let mut found: Vec<Row> = held.filter(|row| row.fits(wanted, shape)).take(wanted.limit).cloned().collect();
        let (mut sql, mut values) = (SELECT.to_owned(), vec![Sql::Integer(i64::from(register))]);
        let mut narrow = |condition: &str, value: Sql| {
            values.push(value);
            sql.push_str(&format!(" AND {condition} ?{}", values.len()));
        };
        if let Some(before) = wanted.due_before {
            narrow("open = 1 AND due <", Sql::Integer(before as i64));
        }
        if let Some(below) = wanted.below {
            narrow("first <", Sql::Integer(below as i64));
        }
        let columns = [
            ("status =", &b"status"[..], &wanted.status),
            ("category =", b"category", &wanted.category),
            ("priority =", b"priority", &wanted.priority),
            ("staff =", b"staff", &wanted.staff),
        ];
        for (condition, what, value) in columns {
            if let Some(value) = value {
                narrow(condition, Sql::Integer(self.hash(register, what, value)));
            }
        }
        // Written out, since an index of open ones is not used for a value that is not known yet.
        sql.push_str(match wanted.open {
            Some(true) => " AND open = 1",
            Some(false) => " AND open = 0",
            None => "",
        });
        sql.push_str(" ORDER BY first DESC");
        let mut statement = snapshot.prepare_cached(&sql).map_err(states("read"))?;
        let mut rows = statement.query(params_from_iter(values)).map_err(states("read"))?;
        let mut count = 0;
        while count < wanted.limit
            && let Some(row) = rows.next().map_err(states("read"))?
        {
            let (first, thing): (i64, i64) =
                row.get(0).and_then(|first| Ok((first, row.get(1)?))).map_err(states("read"))?;
            if !touched.rows.contains_key(&(register, thing)) {
                found.push(self.unseal(register, first, row.get(2).map_err(states("read"))?)?);
                count += 1;
            }
        }
        found.sort_by_key(|row| std::cmp::Reverse(row.first));
        found.truncate(wanted.limit);
        Ok(found)
    }
}

fn place(register: u8, first: i64) -> [u8; 9] {
    let mut bytes = [register; 9];
    bytes[1..].copy_from_slice(&first.to_be_bytes());
    bytes
}

const SELECT: &str = "SELECT first, thing, box FROM state WHERE register = ?1";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS cursor(id INTEGER PRIMARY KEY, entry INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS state(
        register INTEGER NOT NULL, first INTEGER NOT NULL, thing INTEGER NOT NULL, open INTEGER NOT NULL, due INTEGER,
        status INTEGER, category INTEGER, priority INTEGER, staff INTEGER, box BLOB NOT NULL,
        PRIMARY KEY (register, first, thing)) WITHOUT ROWID;
    CREATE UNIQUE INDEX IF NOT EXISTS by_thing ON state(register, thing);
    CREATE INDEX IF NOT EXISTS by_open ON state(register, first) WHERE open = 1;
    CREATE INDEX IF NOT EXISTS by_due ON state(register, due) WHERE open = 1;
    CREATE INDEX IF NOT EXISTS by_status ON state(register, status, first);
    CREATE INDEX IF NOT EXISTS by_category ON state(register, category, first);
    CREATE INDEX IF NOT EXISTS by_priority ON state(register, priority, first);
    CREATE INDEX IF NOT EXISTS by_staff ON state(register, staff, first);";

#[cfg(test)]
mod tests {
    use proof::time::UnixMillis;
    use record::things::{Columns, shape};

    use super::*;

    fn ticket() -> &'static Shape {
        shape("ticket").expect("a register")
    }

    fn change(id: &str, at: u64, status: &str, staff: Option<&str>) -> Change {
        let columns = Columns {
            status: Some(status.to_owned()),
            priority: Some("high".to_owned()),
            staff: staff.map(str::to_owned),
            due: Some(at + 1000),
            ..Columns::default()
        };
        Change { register: ticket().place(), id: id.to_owned(), at: UnixMillis(at), columns }
    }

    fn ids(states: &States, narrow: impl FnOnce(&mut Wanted)) -> Vec<String> {
        let mut wanted = Wanted { limit: 100, ..Wanted::default() };
        narrow(&mut wanted);
        states.list(ticket(), &wanted).expect("read").into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn lists_are_the_same_from_memory_and_from_the_file_in_any_order_of_events() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || {
            let vault = Vault::new(&Key::from_bytes([5; 32]));
            States::open(&folder.path().join("states.db"), vault).expect("open")
        };
        let states = open();
        let events = [
            change("T-1", 10, "open", Some("u-1")),
            change("T-2", 20, "open", Some("u-2")),
            change("T-3", 30, "open", None),
            change("T-1", 40, "resolved", None),
            // Late: it was before the one above.
            change("T-1", 35, "waiting", Some("u-3")),
        ];
        let add = |states: &States, range: std::ops::Range<usize>| {
            let end = range.end as u64;
            states.add(range.map(|at| (at as u64, &events[at])), end).expect("added");
        };
        let check = |states: &States| {
            assert_eq!(ids(states, |wanted| wanted.open = Some(true)), ["T-3", "T-2"]);
            assert_eq!(ids(states, |wanted| wanted.open = Some(false)), ["T-1"]);
            assert_eq!(ids(states, |wanted| wanted.staff = Some("u-3".into())), ["T-1"]);
            assert_eq!(ids(states, |wanted| wanted.status = Some("resolved".into())), ["T-1"]);
            assert_eq!(ids(states, |wanted| wanted.due_before = Some(1025)), ["T-2"]);
            assert_eq!(ids(states, |wanted| wanted.priority = Some("low".into())), [""; 0]);
            assert_eq!(ids(states, |wanted| wanted.below = Some(2)), ["T-2", "T-1"]);
            assert_eq!(ids(states, |wanted| wanted.limit = 2), ["T-3", "T-2"]);
        };
        add(&states, 0..3);
        assert_eq!(ids(&states, |wanted| wanted.open = Some(true)), ["T-3", "T-2", "T-1"]);
        states.flush(3).expect("flushed");
        assert_eq!(ids(&states, |wanted| wanted.open = Some(true)), ["T-3", "T-2", "T-1"]);
        add(&states, 3..5);
        check(&states);
        assert!(states.wait(5, Duration::ZERO).expect("known") && !states.wait(6, Duration::ZERO).expect("known"));
        states.flush(5).expect("flushed");
        check(&states);
        drop(states);
        // After a crash the index may follow from further back: the same events again change nothing.
        let states = open();
        assert_eq!(states.cursor(), 5);
        add(&states, 1..5);
        check(&states);
        states.flush(5).expect("flushed");
        drop(states);
        check(&open());
        let raw = std::fs::read(folder.path().join("states.db")).expect("a file");
        for word in ["T-1", "resolved", "u-3", "high"] {
            assert!(memchr_of(&raw, word).is_none(), "{word} stands open");
        }
    }

    fn memchr_of(bytes: &[u8], word: &str) -> Option<usize> {
        bytes.windows(word.len()).position(|window| window == word.as_bytes())
    }
}
