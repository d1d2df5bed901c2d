//! The folder's copy of pages that are kept elsewhere: how it catches up, and how the whole of it goes there.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::elsewhere::{Head, Remote, Rows};
use crate::error::{Error, database};
use crate::master::MasterKey;
use crate::pages::{open_database, opens, put_root, root_path};

/// The second place, as the folder follows it.
pub(crate) struct Beside {
    pub remote: Arc<Remote>,
    /// Number of the last batch that is here.
    pub applied: u64,
    /// Bytes of the batches since the last whole copy, and of that copy, as far as this process made them.
    pub sent: u64,
    pub base_bytes: u64,
}

/// Which store the folder follows, and up to which batch.
pub(crate) type Place = ([u8; 16], u64);

pub(crate) fn place_of(connection: &Connection) -> Result<Option<Place>, Error> {
    let there: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'elsewhere'", [], |row| row.get(0))
        .map_err(database("read"))?;
    if there == 0 {
        return Ok(None);
    }
    connection
        .query_row("SELECT store, applied FROM elsewhere WHERE id = 0", [], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))
        })
        .optional()
        .map_err(database("read"))
}

/// Writes rows of a batch, and which one it was.
pub(crate) fn put_rows(
    transaction: &Transaction<'_>,
    rows: &[(i64, Vec<u8>)],
    place: Option<Place>,
) -> Result<(), Error> {
    let mut put = transaction
        .prepare_cached("INSERT INTO page(id, blob) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET blob = excluded.blob")
        .map_err(database("write"))?;
    for row in rows {
        put.execute((row.0, &row.1)).map_err(database("write"))?;
    }
    let Some((id, applied)) = place else { return Ok(()) };
    transaction
        .execute("INSERT OR REPLACE INTO elsewhere(id, store, applied) VALUES (0, ?1, ?2)", (id, applied as i64))
        .map_err(database("write"))?;
    Ok(())
}

fn put(connection: &mut Connection, rows: &[(i64, Vec<u8>)], place: Place) -> Result<(), Error> {
    let transaction = connection.transaction().map_err(database("begin"))?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS elsewhere(id INTEGER PRIMARY KEY, store BLOB NOT NULL, applied INTEGER NOT NULL)",
        )
        .map_err(database("write"))?;
    put_rows(&transaction, rows, Some(place))?;
    transaction.commit().map_err(database("commit"))
}

/// Notes in the folder which store it follows.
pub(crate) fn note(connection: &mut Connection, place: Place) -> Result<(), Error> {
    put(connection, &[], place)
}

/// Writes all pages as they are in the folder to the second place; gives their bytes.
pub(crate) fn put_base(folder: &Path, remote: &Remote) -> Result<u64, Error> {
    let connection = open_database(folder)?;
    connection.execute_batch("BEGIN").map_err(database("begin"))?;
    // The first read decides which state is seen.
    let Some((_, applied)) = place_of(&connection)? else { return Err(Error::Stopped) };
    let mut statement = connection.prepare("SELECT id, blob FROM page ORDER BY id").map_err(database("read"))?;
    let mut rows = statement.query([]).map_err(database("read"))?;
    let mut bytes = 0;
    remote.write_base(applied, &mut || {
        let Some(row) = rows.next().map_err(database("read"))? else { return Ok(None) };
        let row: (i64, Vec<u8>) = (row.get(0).map_err(database("read"))?, row.get(1).map_err(database("read"))?);
        bytes += row.1.len() as u64;
        Ok(Some(row))
    })?;
    Ok(bytes)
}

/// Makes the folder what is elsewhere, and this process the one that writes there. Gives the number of the last batch.
///
/// Nothing here is replaced before what comes is known to be of this trail: each object is authenticated, and the root
/// opens the pages.
pub(crate) fn catch_up(folder: &Path, remote: &Remote, head: &Head, master: &MasterKey) -> Result<u64, Error> {
    let wrong = |why| Error::Corrupt { what: "keys elsewhere", why };
    let is_here = root_path(folder).exists();
    let mut held = None;
    if is_here {
        held = place_of(&open_database(folder)?)?;
        if held.is_none_or(|(id, _)| id != head.id) {
            let why = "they are of another store than this folder's, or this folder was never followed by them: name a place that is empty, or move DIR/keys/root and DIR/keys/store.db away to take what is there";
            return Err(wrong(why));
        }
    }
    remote.take_over()?;
    let mut database = match held.filter(|(_, applied)| *applied >= head.base) {
        Some((_, applied)) => {
            if applied > head.base && remote.read_change(applied)?.is_none() {
                return Err(wrong("they are older than the copy in this folder: the place was put back"));
            }
            open_database(folder)?
        }
        None => take_base(folder, remote, head)?,
    };
    let mut applied = place_of(&database)?.map_or(head.base, |(_, applied)| applied);
    loop {
        let next = applied + 1;
        let rows = match remote.read_change(next)? {
            Some(rows) => rows,
            // An empty batch of our own: a writer of before who still comes finds its place taken.
            None if remote.try_change(next, &[])? => {
                put(&mut database, &[], (head.id, next))?;
                break;
            }
            None => continue,
        };
        put(&mut database, &rows, (head.id, next))?;
        applied = next;
    }
    if !opens(&database, &head.slot, master)? {
        return Err(wrong("their root does not open them"));
    }
    put_root(folder, &head.slot)?;
    remote.sweep()?;
    Ok(applied + 1)
}

/// Begins the folder again from the whole copy. Its root file is the last thing that comes back: without one, what a stop
/// left is begun again.
fn take_base(folder: &Path, remote: &Remote, head: &Head) -> Result<Connection, Error> {
    for name in ["root", "store.db", "store.db-wal", "store.db-shm"] {
        match std::fs::remove_file(folder.join(name)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { action: "remove", what: "file of the key store", source });
            }
            _ => {}
        }
    }
    let mut database = open_database(folder)?;
    remote.read_base(head, |rows: Rows| put(&mut database, &rows, (head.id, head.base)))?;
    Ok(database)
}
