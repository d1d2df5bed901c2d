//! Changes that take two people: proposed by one, at the pages or by a key, and decided by another at `/changes`.
//!
//! Invariants:
//! - what takes effect stands in the trail in one step with its approval: a crash leaves both or neither;
//! - nobody approves what they proposed, themselves or by a key that comes from them, nor what is about them;
//! - a key decides nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use access::api_key::{self, Scope};
use access::change::{self, Decision, PROPOSED, Proposal, Sort, WAITING_MAX, WAITING_OF_ONE_MAX, is_person, root};
use access::role::Role;
use access::user::{self, Standing};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use proof::time::UnixMillis;
use reads::decide::Purpose;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth;
use crate::lock;
use crate::people::{People, users};
use crate::problem::Problem;
use crate::search::blocking;

/// A record of Candor's own, and the subject that it is about.
pub(crate) type Change = (&'static str, Value, Option<u64>);

/// Whether a change of this sort waits for a second person: where that is configured, and once two people are here who
/// may decide it.
pub(crate) fn waits(app: &App, sort: Sort) -> bool {
    let Some(people) = app.parts.people.as_ref().filter(|_| app.parts.second_person.contains(&sort)) else {
        return false;
    };
    let mut of_roles: BTreeMap<Vec<Role>, usize> = BTreeMap::new();
    people.users(|users| {
        for user in users.iter().filter(|user| user.is_here()) {
            *of_roles.entry(user.roles.clone()).or_default() += 1;
        }
    });
    // Policies are asked once for each set of roles, however many have it. Whatever they ask beside the role: what is not
    // sure binds.
    let decides = |roles: &[Role]| app.parts.guard.could_roles(roles, sort.action());
    of_roles.iter().filter(|(roles, _)| decides(roles)).map(|(_, count)| count).sum::<usize>() > 1
}

fn conflict(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::CONFLICT, "change", detail)
}

/// Records things of Candor's own in one step.
pub(crate) fn record(app: &App, records: Vec<Change>) -> Result<Vec<u64>, Problem> {
    app.parts.submit.own_all(records).map_err(|_| {
        Problem::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "the change could not be recorded, so it was not made: try again",
        )
    })
}

/// Records a change as one that waits. `about` is the subject of a customer whom it names.
pub(crate) fn propose(app: &App, kind: &str, facts: &Value, about: Option<u64>) -> Result<Proposal, Problem> {
    let proposer = facts["actor"].as_str().unwrap_or_default();
    {
        let (changes, keys) = (lock::read(&app.changes), lock::read(&app.keys));
        let from = root(proposer, &keys);
        if !is_person(from) {
            return Err(conflict(
                "this takes two people now, and this key comes from none who signed in: do it at the pages, or with a key that was made there",
            ));
        }
        let of_one = changes.iter().filter(|held| root(held.proposer(), &keys) == from).count();
        if changes.iter().count() >= WAITING_MAX || of_one >= WAITING_OF_ONE_MAX {
            return Err(conflict(format!(
                "{WAITING_OF_ONE_MAX} of one's changes wait for a second person at most, {WAITING_MAX} of all: decide some of them first"
            )));
        }
    }
    let mut random = [0; change::ID_BYTES];
    random.copy_from_slice(&(app.parts.random)()[..change::ID_BYTES]);
    let (id, facts) = change::propose(&random, kind, facts, app.now());
    let entry = record(app, vec![(PROPOSED, facts.clone(), about)])?.first().copied().unwrap_or_default();
    let mut fields = facts.as_object().cloned().unwrap_or_default();
    // As the trail has it: a secret in a text was cut.
    fields.extend(app.parts.guard.facts_of(entry).unwrap_or_default());
    let mut changes = lock::write(&app.changes);
    changes.apply(PROPOSED, &fields, about, entry);
    changes.get(&id).cloned().ok_or_else(|| conflict("the change could not be kept: try again"))
}

/// What waits and is not over, the oldest first.
pub(crate) fn waiting(app: &App) -> Vec<Proposal> {
    let now = app.now();
    let mut waiting: Vec<Proposal> =
        lock::read(&app.changes).iter().filter(|proposal| proposal.expires > now).cloned().collect();
    waiting.sort_by_key(|proposal| proposal.entry);
    waiting
}

/// Why somebody may not approve a change; `None` if they may.
pub(crate) fn barred(app: &App, person: &str, proposal: &Proposal) -> Option<&'static str> {
    let keys = lock::read(&app.keys);
    let from = root(proposal.proposer(), &keys);
    if from == person {
        return Some("you proposed it, or a key that comes from you did: another person decides it");
    }
    if proposal.text("user_id") == person {
        return Some("it is about your own account: another person decides it");
    }
    if root(proposal.text("grantee"), &keys) == person {
        return Some("it gives leave to you: another person decides it");
    }
    let active = app.parts.people.as_ref().and_then(|people| people.user(from));
    let active = active.is_some_and(|user| user.standing == Standing::Active);
    let key = proposal.proposer().strip_prefix("api-key-");
    if !active || key.is_some_and(|id| keys.get(id).is_none_or(|key| key.check(app.now()).is_err())) {
        return Some("who proposed it may not any more: refuse it");
    }
    let replaced = proposal.text("replaces");
    if !replaced.is_empty() && keys.get(replaced).is_none_or(|key| key.check(app.now()).is_err()) {
        return Some("the key that it renews has ended: refuse it");
    }
    let over = UnixMillis::parse(proposal.text("expires").as_bytes()).is_ok_and(|until| until <= app.now());
    if over {
        return Some("the time that it would last is over: refuse it");
    }
    None
}

/// Decides a change. What an approval made that is shown once: to whom it belongs, and a link.
pub(crate) fn decide(
    app: &App,
    people: &People,
    purpose: &Purpose,
    (id, decision): (&str, Decision),
) -> Result<Option<(String, String)>, Problem> {
    // One at a time: nothing is decided twice.
    let _turn = people.changing();
    let proposal = lock::read(&app.changes).get(id).cloned();
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "no-such-change", "no change of this id waits");
    let proposal = proposal.ok_or_else(unknown)?;
    let sort = proposal.sort().ok_or_else(unknown)?;
    if proposal.expires <= app.now() {
        return Err(conflict("its time is over: it must be proposed again"));
    }
    let decided = change::decide(&proposal, decision, &purpose.actor);
    // As they are now: they may have been suspended, or given other roles, while they waited for their turn.
    let user = people.user(&purpose.actor).filter(|user| user.standing == Standing::Active);
    let roles = user.map(|user| user.roles).ok_or_else(|| conflict("your account was changed meanwhile"))?;
    let purpose = &Purpose { roles, ..purpose.clone() };
    match decision {
        Decision::Withdrawn if root(proposal.proposer(), &lock::read(&app.keys)) != purpose.actor => {
            return Err(conflict("who proposed it can withdraw it; others refuse it"));
        }
        Decision::Withdrawn => {}
        _ => {
            app.parts.guard.may(purpose, sort.action(), None)?;
            if let (Decision::Approved, Some(why)) = (decision, barred(app, &purpose.actor, &proposal)) {
                return Err(conflict(why));
            }
        }
    }
    if decision == Decision::Approved {
        return carry_out(app, people, &proposal, decided);
    }
    decided_so(app, vec![(change::DECIDED, decided, None)])?;
    Ok(None)
}

/// Proposes what the files of settings say now.
pub(crate) fn propose_settings(app: &App, actor: &str, reference: &str, digest: &str) -> Result<Proposal, Problem> {
    let settings = (app.parts.settings)().map_err(|why| conflict(format!("the files cannot be read: {why}")))?;
    let settings = settings.filter(|settings| settings.sha256 == digest);
    let settings = settings.ok_or_else(|| conflict("the files were changed since you looked: look again"))?;
    if lock::read(&app.changes).iter().any(|held| held.text("settings_sha256") == digest) {
        return Err(conflict("these settings wait already"));
    }
    let facts = json!({
        "actor": actor, "change_reference": reference, "settings_sha256": settings.sha256, "diff": settings.diff,
        "diff_cut": settings.cut,
    });
    propose(app, change::SETTINGS, &facts, None)
}

/// Closes what somebody proposed who may not be here any more.
pub(crate) fn close_of(app: &App, person: &str, actor: &str) {
    let of = |held: &&Proposal| root(held.proposer(), &lock::read(&app.keys)) == person;
    let left: Vec<Proposal> = lock::read(&app.changes).iter().filter(of).cloned().collect();
    for proposal in left {
        // What can't be recorded now is closed when its time is over: nobody can approve it meanwhile.
        let decided = change::decide(&proposal, Decision::Refused, actor);
        let _ = decided_so(app, vec![(change::DECIDED, decided, None)]);
    }
}

/// Records a decision with what it makes; from then on the change waits no more, whatever fails after it.
fn decided_so(app: &App, records: Vec<Change>) -> Result<Vec<u64>, Problem> {
    let decided = records.first().and_then(|(_, facts, _)| facts.as_object()).cloned().unwrap_or_default();
    let entries = record(app, records)?;
    let entry = entries.first().copied().unwrap_or_default();
    lock::write(&app.changes).apply(change::DECIDED, &decided, None, entry);
    Ok(entries)
}

/// Records an approval with what it makes, and lets that take effect.
fn carry_out(
    app: &App,
    people: &People,
    proposal: &Proposal,
    decided: Value,
) -> Result<Option<(String, String)>, Problem> {
    let mut facts = proposal.record.clone();
    let effective = facts.remove("effective");
    let facts = Value::Object(facts);
    let both = |kind: &'static str, subject: Option<u64>| {
        vec![(change::DECIDED, decided.clone(), None), (kind, facts.clone(), subject)]
    };
    match proposal.kind.as_str() {
        user::INVITED => {
            users::check_invitation(people, &facts)?;
            decided_so(app, both(user::INVITED, None))?;
            users::invitation_takes_effect(app, people, &facts)
        }
        user::CHANGED => {
            let (step, _) = users::check_change(people, &facts)?;
            decided_so(app, both(user::CHANGED, None))?;
            users::change_takes_effect(app, people, step, &facts)
        }
        api_key::CREATED => {
            let mut records = both(api_key::CREATED, None);
            let text = |name: &str| facts[name].as_str();
            if let (Some(old), Some(at)) = (text("replaces"), effective.as_ref().and_then(Value::as_str)) {
                let at = UnixMillis::parse(at.as_bytes()).unwrap_or_default();
                let mut ended = api_key::revoke(old, at);
                ended["actor"] = proposal.proposer().into();
                records.push((api_key::REVOKED, ended, None));
            }
            decided_so(app, records.clone())?;
            let mut keys = lock::write(&app.keys);
            records.iter().for_each(|(kind, facts, _)| keys.apply(kind, facts));
            Ok(None)
        }
        change::SETTINGS => {
            let now = (app.parts.settings)().ok().flatten();
            if now.is_none_or(|settings| settings.sha256 != proposal.text("settings_sha256")) {
                return Err(conflict("the files were changed since they were proposed: refuse it"));
            }
            decided_so(app, vec![(change::DECIDED, decided, None)])?;
            Ok(None)
        }
        _ => {
            if facts["of_person"] == true && facts.get("customer_id").is_none() {
                return Err(conflict("the customer whom it names was erased: refuse it"));
            }
            let entries = decided_so(app, both(access::grant::GIVEN, proposal.subject))?;
            app.parts.guard.apply_grant(entries.last().copied().unwrap_or_default(), proposal.subject)?;
            Ok(None)
        }
    }
}

impl App {
    /// Closes what nobody decided in time.
    pub fn close_expired(&self) {
        let Some(people) = &self.parts.people else { return };
        let now = self.now();
        // Nobody decides one of them at the same time.
        let _turn = people.changing();
        let over: Vec<Proposal> =
            lock::read(&self.changes).iter().filter(|proposal| proposal.expires <= now).cloned().collect();
        for proposal in over {
            let decided = change::decide(&proposal, Decision::Expired, "candor");
            // What can't be recorded now is closed with the next look; it opens nothing meanwhile.
            let _ = decided_so(self, vec![(change::DECIDED, decided, None)]);
        }
    }
}

/// A change that waits, as programs are told.
pub(crate) fn shown(proposal: &Proposal) -> Value {
    let personal = HashSet::from(["name", "email", "customer_id", "key_sha256", "register", "justification"]);
    let mut record = proposal.record.clone();
    record.retain(|name, _| !personal.contains(name.as_str()));
    json!({
        "proposal_id": proposal.id, "change_kind": proposal.kind, "entry": proposal.entry,
        "waits_until": proposal.expires.rfc3339(), "record": record,
    })
}

/// That something waits, as programs are told.
pub(crate) fn accepted(mut body: Value, proposal: &Proposal) -> Response {
    body["proposal"] = shown(proposal);
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

pub(crate) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Admin)?;
    let purpose = caller.purpose("changes", None, "api-changes");
    blocking(&app, move |app| {
        let mut waiting = waiting(app);
        let decides = |sort: Sort| app.parts.guard.may_roles(&purpose.roles, sort.action());
        waiting.retain(|proposal| proposal.sort().is_some_and(decides));
        app.parts.guard.may_see(&purpose, Sort::Keys.action(), waiting.len())?;
        let list: Vec<Value> = waiting.iter().map(shown).collect();
        Ok(Json(json!({"changes": list, "tree_size": app.size()})).into_response())
    })
    .await
}
