//! The folder's copy of pages that are kept elsewhere: how it catches up, and how the whole of it goes there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::elsewhere::{Base, Code, Head, PART_BYTES, Remote, Rows};
use crate::error::{Error, database};
use crate::master::MasterKey;
use crate::pages::{checkpoint, open_at, open_database, opens, put_root, root_path};

/// The second place, as the folder follows it.
pub(crate) struct Beside {
    pub remote: Arc<Remote>,
    pub place: Place,
}

/// Which store the folder follows, and up to where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The store there.
    pub store: [u8; 16],
    /// Number of the last batch that is here, and its code.
    pub applied: u64,
    pub code: Code,
    /// Bytes of the batches since the last whole copy, about.
    pub sent: u64,
    /// Whether what is there is whole: not while the folder's pages go there for the first time.
    pub whole: bool,
}

impl Place {
    /// That of a folder whose pages go to a place that has none.
    pub(crate) fn first(store: [u8; 16]) -> Place {
        Place { store, applied: 1, code: Code::default(), sent: 0, whole: false }
    }

    /// After one batch more.
    pub(crate) fn next(&self, code: Code, rows: &[(i64, Vec<u8>)]) -> Place {
        let bytes: usize = rows.iter().map(|(_, blob)| blob.len()).sum();
        Place { applied: self.applied + 1, code, sent: self.sent + bytes as u64, ..self.clone() }
    }
}

pub(crate) fn place_of(connection: &Connection) -> Result<Option<Place>, Error> {
    let there: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'elsewhere'", [], |row| row.get(0))
        .map_err(database("read"))?;
    if there == 0 {
        return Ok(None);
    }
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Place {
            store: row.get(0)?,
            applied: row.get::<_, i64>(1)? as u64,
            code: row.get(2)?,
            sent: row.get::<_, i64>(3)? as u64,
            whole: row.get(4)?,
        })
    };
    connection
        .query_row("SELECT store, applied, code, sent, whole FROM elsewhere WHERE id = 0", [], read)
        .optional()
        .map_err(database("read"))
}

/// Writes rows of pages.
pub(crate) fn put_rows(connection: &Connection, rows: &[(i64, Vec<u8>)]) -> Result<(), Error> {
    let mut put = connection
        .prepare_cached("INSERT INTO page(id, blob) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET blob = excluded.blob")
        .map_err(database("write"))?;
    for row in rows {
        put.execute((row.0, &row.1)).map_err(database("write"))?;
    }
    Ok(())
}

/// Notes in the folder which store it follows, and up to where.
pub(crate) fn note(connection: &Connection, place: &Place) -> Result<(), Error> {
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS elsewhere(id INTEGER PRIMARY KEY, store BLOB NOT NULL, applied INTEGER NOT NULL,
             code BLOB NOT NULL, sent INTEGER NOT NULL, whole INTEGER NOT NULL)",
        )
        .map_err(database("write"))?;
    connection
        .execute(
            "INSERT OR REPLACE INTO elsewhere(id, store, applied, code, sent, whole) VALUES (0, ?1, ?2, ?3, ?4, ?5)",
            (place.store, place.applied as i64, place.code, place.sent as i64, place.whole),
        )
        .map_err(database("write"))?;
    Ok(())
}

/// The folder follows nothing.
pub(crate) fn unnote(connection: &Connection) -> Result<(), Error> {
    connection.execute_batch("DROP TABLE IF EXISTS elsewhere").map_err(database("write"))
}

/// Objects of a whole copy of a folder, at most; it may grow meanwhile.
pub(crate) fn parts_max(connection: &Connection) -> Result<u32, Error> {
    let number = |name: &str| -> Result<u64, Error> {
        let number = connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        Ok(number.map_err(database("read"))? as u64)
    };
    Ok((number("page_count")? * number("page_size")? / PART_BYTES * 2 + 16) as u32)
}

/// Writes all pages as they are in the folder to the second place. Others write here meanwhile: each part is read at its
/// own moment, so nobody waits for the whole. Gives which batch it was begun at.
pub(crate) fn put_base(folder: &Path, remote: &Remote) -> Result<Place, Error> {
    let connection = open_database(folder)?;
    let place = place_of(&connection)?.ok_or(Error::Stopped)?;
    let mut after = -1;
    remote.write_base((place.applied, place.code), parts_max(&connection)?, || {
        let held = read_part(&connection, after)?;
        if let Some((last, _)) = held.last() {
            after = *last;
        }
        let newest = place_of(&connection)?.ok_or(Error::Stopped)?.applied;
        Ok((held, newest))
    })?;
    Ok(place)
}

fn read_part(connection: &Connection, after: i64) -> Result<Rows, Error> {
    let mut statement =
        connection.prepare_cached("SELECT id, blob FROM page WHERE id > ?1 ORDER BY id").map_err(database("read"))?;
    let mut rows = statement.query([after]).map_err(database("read"))?;
    let (mut held, mut bytes) = (Rows::new(), 0);
    while bytes < PART_BYTES
        && let Some(row) = rows.next().map_err(database("read"))?
    {
        let row: (i64, Vec<u8>) = (row.get(0).map_err(database("read"))?, row.get(1).map_err(database("read"))?);
        bytes += row.1.len() as u64;
        held.push(row);
    }
    Ok(held)
}

/// Makes the folder what is elsewhere, and this process the one that writes there. Gives up to where the folder is.
///
/// Nothing here is replaced, and no batch is made there, before what comes is known to be of this trail and whole: each
/// object is authenticated and names the one before it, and the root opens the pages.
pub(crate) fn catch_up(folder: &Path, remote: &Remote, head: &Head, master: &MasterKey) -> Result<Place, Error> {
    let wrong = |why| Error::Corrupt { what: "keys elsewhere", why };
    let mut held = None;
    if root_path(folder).exists() {
        held = place_of(&open_database(folder)?)?;
        if held.as_ref().is_none_or(|place| place.store != head.id) {
            let why = "they are of another store than this folder's, or this folder was never followed by them: name a place that is empty, or move DIR/keys/root and DIR/keys/store.db away to take what is there";
            return Err(wrong(why));
        }
    }
    let held = held.filter(|place| place.applied >= head.base.number);
    if let Some(place) = &held {
        let stands = if place.applied == head.base.number {
            Some(head.code)
        } else {
            remote.read_change(place.applied)?.map(|change| change.code)
        };
        if stands != Some(place.code) {
            return Err(wrong("they are not what the copy in this folder has seen: the place was put back"));
        }
    }
    remote.take_over()?;
    let (is_new, mut place) = (held.is_none(), held.unwrap_or(Place::first(head.id)));
    let mut database = if is_new {
        (place.applied, place.code) = (head.base.number, head.code);
        take_base(folder, remote, &head.base)?
    } else {
        open_database(folder)?
    };
    place.whole = true;
    let transaction = database.transaction().map_err(crate::error::database("begin"))?;
    loop {
        let changes = remote.read_changes(place.applied + 1)?;
        for change in &changes {
            if change.before != place.code {
                return Err(wrong("a batch does not follow the one before it: the place was put back"));
            }
            put_rows(&transaction, &change.rows)?;
            place = place.next(change.code, &change.rows);
        }
        if !changes.is_empty() {
            continue;
        }
        if is_new && place.applied < head.base.until {
            return Err(wrong("batches are missing that the whole copy needs"));
        }
        if !opens(&transaction, &head.slot, master)? {
            return Err(wrong("their root does not open them"));
        }
        if let Some(code) = remote.fence(place.applied + 1, &place.code)? {
            place = place.next(code, &[]);
            break;
        }
    }
    note(&transaction, &place)?;
    transaction.commit().map_err(crate::error::database("commit"))?;
    if is_new {
        replace(folder, database)?;
    }
    put_root(folder, &head.slot)?;
    Ok(place)
}

fn new_path(folder: &Path) -> PathBuf {
    folder.join("store.db.new")
}

/// Begins a file of pages again from the whole copy, beside the one that is here.
fn take_base(folder: &Path, remote: &Remote, base: &Base) -> Result<Connection, Error> {
    for name in ["store.db.new", "store.db.new-wal", "store.db.new-shm"] {
        remove(&folder.join(name))?;
    }
    let mut new = open_at(&new_path(folder))?;
    remote.read_base(base, |rows: Rows| {
        let transaction = new.transaction().map_err(database("begin"))?;
        put_rows(&transaction, &rows)?;
        transaction.commit().map_err(database("commit"))
    })?;
    Ok(new)
}

/// Puts the new file into the place of the old one.
fn replace(folder: &Path, new: Connection) -> Result<(), Error> {
    let close = |connection: Connection| -> Result<(), Error> {
        checkpoint(&connection, "TRUNCATE")?;
        connection.close().map_err(|(_, error)| database("close")(error))
    };
    close(new)?;
    // What stands in the old file's log would be taken into the new one.
    if root_path(folder).exists() {
        close(open_database(folder)?)?;
    }
    remove(&folder.join("store.db-wal"))?;
    remove(&folder.join("store.db-shm"))?;
    let replaced = std::fs::File::open(new_path(folder))
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(new_path(folder), folder.join("store.db")))
        .and_then(|()| std::fs::File::open(folder)?.sync_all());
    // If we stop before this line: the root file is that of before, and the next start takes what is there again.
    replaced.map_err(|source| Error::Io { action: "replace", what: "file of the key store", source })
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", what: "file of the key store", source })
        }
        _ => Ok(()),
    }
}
