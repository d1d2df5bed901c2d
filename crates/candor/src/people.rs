//! People: their store and the fold of what the trail says of them, opened with the trail; the first of them.

use std::sync::Arc;

use access::breached::List;
use access::change::Proposals;
use access::grant::Grants;
use access::role::Role;
use access::store::{Person, Store};
use access::user::{self, INVITED, REGISTER, Standing, Users};
use anyhow::{Context, Result, anyhow};
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use seal::crypto::subkey;
use seal::random::RandomPool;
use seal::store::Named;
use serde_json::{Value, json};
use views::open;
use views::registers::Thing;
use views::words;
use web::people::People;

use crate::past::RECORDS_MAX;
use crate::trail::Trail;

/// Newest cases that are looked at at start: a session lasts twelve hours.
const CASES_MAX: usize = 1000;

/// What the trail says of people.
pub fn users(trail: &Trail) -> Result<Users> {
    let mut users = Users::default();
    trail.past()?.each(REGISTER, |kind, facts, _| {
        users.apply(kind, facts);
        Ok(())
    })?;
    Ok(users)
}

/// The grants that the trail knows.
pub fn grants(trail: &Trail) -> Result<Grants> {
    let mut grants = Grants::default();
    let views = trail.views()?;
    trail.past()?.each(access::grant::REGISTER, |kind, facts, index| {
        let of_person = facts["of_person"].as_bool().unwrap_or(false);
        let owner = if of_person { views.owner(index)? } else { None };
        // Who was erased is nobody's to read.
        let living = owner.map(|number| trail.store.lock()?.subject(number)).transpose()?.flatten();
        grants.apply(kind, facts, living.map(|subject| subject.number));
        Ok(())
    })?;
    Ok(grants)
}

/// The changes that wait for a second person.
pub fn changes(trail: &Trail) -> Result<Proposals> {
    let mut changes = Proposals::default();
    let views = trail.views()?;
    for index in views.find(Thing::Own, access::change::REGISTER, RECORDS_MAX)? {
        let (stored, owner) = (trail.intake.reader().entry(index)?, views.owner(index)?);
        let record = open::whole(&stored, owner, &mut *trail.store.lock()?, &trail.catalogue)?;
        if let Some((kind, record)) = record {
            let about = owner.filter(|_| record.get("of_person").is_some_and(|of| of == true));
            changes.apply(&kind.name, &record, about, index);
        }
    }
    if let Some((entry, _)) = trail.past()?.newest(access::change::SETTINGS)? {
        changes.used_before(entry);
    }
    Ok(changes)
}

/// What people sign in with.
pub fn store(trail: &Trail) -> Result<Store> {
    let folder = trail.paths.access();
    crate::trail::make_private(&folder)?;
    let token = trail.store.lock()?.named(Named::Token);
    let mut key = zeroize::Zeroizing::new([0; 64]);
    key[..32].copy_from_slice(subkey(&token, "candor/v1/people-boxes\n").expose());
    key[32..].copy_from_slice(subkey(&token, "candor/v1/people-hashes\n").expose());
    let random = |bytes: &mut [u8]| {
        let mut pool = RandomPool::default();
        bytes.iter_mut().for_each(|byte| [*byte] = pool.take());
    };
    Store::open(&folder.join("people.db"), &key, random).with_context(|| format!("open {}", folder.display()))
}

/// Keeps for whom, and from before when, a rule ended sessions: what the newest cases say.
fn ended(trail: &Trail) -> Result<()> {
    for index in trail.views()?.newest(vec![words::filter("kind", "CASE_OPENED")], CASES_MAX)? {
        let stored = trail.intake.reader().entry(index)?;
        let facts = open::facts(&stored, &mut *trail.store.lock()?, &trail.catalogue)?;
        let Some((_, facts)) = facts else { continue };
        let ends =
            facts.get("response").and_then(Value::as_array).is_some_and(|done| done.contains(&json!("sessions_ended")));
        if let (true, Some(about)) = (ends, facts.get("about_actor").and_then(Value::as_str)) {
            // The time of the alert, as it is kept when it is raised.
            let time = facts.get("timestamp").and_then(Value::as_str).unwrap_or_default();
            end_before(trail, about, UnixMillis::parse(time.as_bytes()).map_or(0, |time| time.0))?;
        }
    }
    Ok(())
}

/// Ends the sessions of somebody that began before a time, when they are next used.
pub fn end_before(trail: &Trail, person: &str, at_ms: u64) -> Result<()> {
    let mut ended = trail.ended_before.lock().map_err(|_| anyhow!("another thread failed"))?;
    let before = ended.entry(person.to_owned()).or_default();
    *before = at_ms.max(*before);
    Ok(())
}

/// People, and the way in for the first of them where nobody administers them yet.
pub fn open(trail: &Trail) -> Result<(Arc<People>, Option<String>)> {
    let (store, mut users) = (store(trail)?, users(trail)?);
    ended(trail)?;
    let mut administered = false;
    for user in users.iter() {
        // Who is suspended administered: another person lets them back, not whoever starts the server.
        let stands = user.standing == Standing::Active || user.standing == Standing::Suspended && user.came;
        let administers = stands && user.roles.contains(&Role::Administrator);
        // What they sign in with may be lost: then somebody must come in anew.
        let held = store.person(&user.id)?;
        let comes = |person: &Person| {
            person.password.is_some()
                || !person.passkeys.is_empty() && trail.config.public_url.is_some()
                || person.sso && trail.config.oidc.is_some()
        };
        administered |= administers && held.as_ref().is_some_and(comes);
        if user.standing == Standing::Ended && held.is_some() {
            // An end that was cut off after its entry.
            store.forget(&user.id)?;
        }
    }
    let welcome = if administered { None } else { Some(first(trail, &store, &mut users)?) };
    let ended = Arc::clone(&trail.ended_before);
    let breached = match &trail.config.breached_passwords {
        Some(path) => Some(List::open(&trail.paths.data.join(path)).context("serve: breached_passwords")?),
        None => None,
    };
    Ok((Arc::new(People::new(store, users, ended, breached, || step_back(LAST))), welcome))
}

/// The link of the first administrator: of the one who was invited before and did not come, else of a new one.
fn first(trail: &Trail, store: &Store, users: &mut Users) -> Result<String> {
    let waits =
        |user: &&access::user::User| user.standing == Standing::Invited && user.roles.contains(&Role::Administrator);
    let known = users.iter().find(waits).map(|user| user.id.clone());
    let known = match known {
        // The one of the first start has no address yet; nobody else's invitation is taken.
        Some(id) if store.person(&id)?.is_some_and(|person| person.address.is_empty()) => Some(id),
        _ => None,
    };
    let id = match known {
        Some(id) => id,
        None => {
            let id = user::id(&store.fresh());
            let facts = json!({
                "register": REGISTER, "user_id": id, "roles": [Role::Administrator.name()],
                "actor": crate::commands::actor(), "change_reference": "first-start",
            });
            trail.intake.own_one(INVITED, facts.clone())?;
            users.apply(INVITED, &facts);
            // Who it is says who takes the link.
            store.put(&Person::invited(id.clone(), String::new(), String::new()))?;
            id
        }
    };
    Ok(store.make_link(&id, SystemClock.now().0)?)
}
