//! What mirrors said of themselves, kept beside the trail: for the pages after a restart, and for commands.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ledger::reader::Reader;
use reads::mirrors::{Copy, Mirrors};
use serde::{Deserialize, Serialize};

const FILE: &str = "mirrors.json";
const VERSION: u16 = 1;
/// Bytes of the file, at most.
const BYTES_MAX: u64 = 64 << 10;
/// Between two writes: what is lost is said again by the mirror.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    v: u16,
    mirrors: Vec<Copy>,
}

/// What is known of copies elsewhere; nothing where no mirror ever spoke, or the file does not read.
pub fn known(data: &Path) -> Vec<Copy> {
    let path = data.join(FILE);
    if std::fs::metadata(&path).map_or(true, |meta| meta.len() > BYTES_MAX) {
        return Vec::new();
    }
    let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    kept.filter(|kept| kept.v == VERSION).map(|kept| kept.mirrors).unwrap_or_default()
}

/// Those of a running server.
pub fn of(data: &Path, reader: &Arc<Reader>) -> Mirrors {
    let (folder, last) = (data.to_owned(), Mutex::new(None::<Instant>));
    let keep = move |copies: &[Copy]| {
        let Ok(mut last) = last.lock() else { return };
        if last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        *last = Some(Instant::now());
        if let Err(error) = write(&folder, copies) {
            eprintln!("candor: what mirrors have could not be written down: {error:#}");
        }
    };
    Mirrors::new(Arc::clone(reader), known(data), Box::new(keep))
}

/// Writes down what is known; at the end, too.
pub fn write(data: &Path, copies: &[Copy]) -> Result<()> {
    let new = data.join("mirrors.json.new");
    let text = serde_json::to_string(&Kept { v: VERSION, mirrors: copies.to_vec() })?;
    std::fs::write(&new, text + "\n").with_context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, data.join(FILE)).with_context(|| format!("replace {}", data.join(FILE).display()))
}

/// In words, for who reads a proof of entry `index`.
pub fn in_words(data: &Path, index: u64) -> String {
    let copies = known(data);
    match copies.iter().filter(|copy| copy.size > index).count() {
        0 => "it is signed, and no mirror is known to have the entry: who has this machine and its keys could still write it anew, unseen by all but who holds a receipt".to_owned(),
        count => format!("it is signed, and {count} of {} mirrors have the entry: it can't be written anew unseen", copies.len()),
    }
}
