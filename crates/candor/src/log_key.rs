//! Planned changes of the log's key: the new one is made and durable, an entry names it, a segment begins whose header says
//! how it follows, both sign for a while, and the old one is destroyed. A start goes on where a stop left it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use ledger::ledger::Ledger;
use ledger::reader::Reader;
use ledger::segment::Identity;
use proof::commitment::Opening;
use proof::key_change::{CHANGES_MAX, KIND, KeyChange};
use proof::note::{NoteSigner, TYPE_ED25519};
use proof::time::UnixMillis;
use record::kinds::Catalogue;
use seal::crypto::Key;
use seal::log_keys::LogKeyState;
use seal::shared::SharedStore;
use seal::store::KeyStore;
use serde_json::json;
use views::open;

use crate::beat::beat;
use crate::ending::Unseen;
use crate::trail::Trail;

/// Days that both keys sign.
pub const BOTH_SIGN_DAYS: u32 = 30;
const DAY_MS: u64 = 86_400_000;
/// After the start of a server.
const FIRST: Duration = Duration::from_secs(75);
/// Between two looks at whether the old key's time is over.
const EVERY: Duration = Duration::from_secs(3600);

fn signer(store: &KeyStore, seed: &Key) -> Result<NoteSigner> {
    NoteSigner::new(store.origin(), TYPE_ED25519, seed.expose()).context("make the log key")
}

/// Who the trail is by its key store, and all keys that sign or wait to sign, the newest last.
pub fn signing(store: &KeyStore) -> Result<(Identity, Vec<NoteSigner>)> {
    let keys = store.log_keys();
    let signers = keys.seeds.iter().map(|seed| signer(store, seed)).collect::<Result<Vec<_>>>()?;
    let current = signers.first().context("no log key")?.verifier().to_string();
    Ok((Identity::new(store.origin().to_owned(), keys.first.unwrap_or(current)), signers))
}

/// Those that sign now.
pub fn signers(store: &KeyStore) -> Result<Vec<NoteSigner>> {
    let (_, mut signers) = signing(store)?;
    if store.log_keys().state == LogKeyState::Asked {
        signers.pop();
    }
    Ok(signers)
}

/// Destroys the old key where its time is over; whether it did.
pub fn end_old(store: &mut KeyStore, now: UnixMillis) -> Result<bool> {
    let keys = store.log_keys();
    let over = keys.state == LogKeyState::Both && now.0 >= keys.until_ms;
    if over {
        store.end_old_log_key()?;
    }
    Ok(over)
}

/// What the entry that names a key shows of itself.
fn facts(reader: &Reader, store: &SharedStore, catalogue: &Catalogue, entry: u64) -> Result<Opening> {
    let stored = reader.entry(entry)?;
    let keys = open::keys(&stored, None, &mut *store.lock()?)?;
    let opened = open::open(&stored, &keys, catalogue)?;
    let body = opened.facts.map_err(|_| anyhow!("entry {entry} names the log's new key and does not open"))?;
    Ok(body.opening(KeyChange::shows))
}

/// Does to the end what a stop cut off. Without an entry that names it, a new key is dropped.
pub fn carry_out(ledger: &mut Ledger, store: &Arc<SharedStore>, catalogue: &Catalogue, unseen: &Unseen) -> Result<()> {
    let (keys, new) = {
        let store = store.lock()?;
        let keys = store.log_keys();
        if keys.state != LogKeyState::Asked {
            return Ok(());
        }
        let new = signer(&store, keys.seeds.last().context("no new log key")?)?;
        (keys, new)
    };
    let reader = ledger.reader();
    let known = Identity { key_changes: ledger.key_changes().into(), ..reader.identity().clone() }.keys()?;
    if known.last() != Some(new.verifier()) {
        let names_it = |entry: &u64| -> Result<bool> {
            let text = serde_json::to_string(&facts(&reader, store, catalogue, *entry)?)?;
            Ok(text.contains(&new.verifier().to_string()))
        };
        let mut named = keys.entry.filter(|entry| *entry < reader.size());
        for entry in unseen.of(KIND).filter(|_| keys.entry.is_none()) {
            if names_it(&entry)? {
                named = Some(entry);
            }
        }
        let Some(entry) = named else {
            return Ok(store.lock()?.drop_log_key()?);
        };
        store.lock()?.note_log_key(entry)?;
        ledger.change_key(entry, facts(&reader, store, catalogue, entry)?, new)?;
    }
    Ok(store.lock()?.take_log_key()?)
}

/// What a change did.
#[derive(Debug)]
pub struct Change {
    /// The entry that names the new key.
    pub entry: u64,
    /// The key before it.
    pub old: String,
    /// The new one.
    pub new: String,
    /// Until when both sign.
    pub until: UnixMillis,
}

/// Changes the key of a trail; in effect and durable when it returns. Nobody else decides meanwhile: who runs a command sees
/// to that.
pub fn change(trail: &Trail, actor: &str, days: u32) -> Result<Change> {
    let reader = trail.intake.reader();
    if reader.published().key_changes.len() >= CHANGES_MAX {
        bail!("keys: the trail has had {CHANGES_MAX} changes of its key, the most that there can be: open a successor");
    }
    let until = UnixMillis(SystemClock.now().0 + u64::from(days) * DAY_MS);
    let (old, signer) = {
        let mut store = trail.store.lock()?;
        match store.log_keys().state {
            LogKeyState::One => {}
            LogKeyState::Both => bail!(
                "keys: the key before this one still signs, until {}: change it after that",
                UnixMillis(store.log_keys().until_ms).rfc3339()
            ),
            LogKeyState::Asked => bail!("keys: a change was begun and cut off: start the trail again, and it is done"),
        }
        let old = signers(&store)?.last().context("no log key")?.verifier().to_string();
        let seed = store.ask_log_key(&reader.identity().vkey, until.0)?;
        (old, signer(&store, &seed)?)
    };
    let new = signer.verifier().to_string();
    let fields = json!({"vkey_old": old, "vkey_new": new, "both_sign_until": until.rfc3339(), "actor": actor});
    // If we stop from here on: the next start looks whether the entry is there, and goes on or drops the new key.
    let entry = trail.intake.own_one(KIND, fields)?;
    trail.store.lock()?.note_log_key(entry)?;
    let facts = facts(reader, &trail.store, &trail.catalogue, entry)?;
    trail.intake.submitter().change_key(entry, facts, signer)?;
    trail.store.lock()?.take_log_key()?;
    Ok(Change { entry, old, new, until })
}

/// Ends the old key's time while a server runs, until `stop` is set.
pub fn serve(trail: &Trail, stop: &AtomicBool) {
    step_back(LAST);
    beat(stop, FIRST, || {
        let next = Instant::now() + EVERY;
        if let Err(error) = end(trail) {
            eprintln!("candor: the log's old key could not be destroyed: {error:#}: it is tried again in an hour");
        }
        next
    });
}

fn end(trail: &Trail) -> Result<()> {
    let _alone = trail.deciding.lock().map_err(|_| anyhow!("another thread failed"))?;
    if end_old(&mut *trail.store.lock()?, SystemClock.now())? {
        trail.intake.submitter().sign_alone()?;
    }
    Ok(())
}
