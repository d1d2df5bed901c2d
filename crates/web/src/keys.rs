//! `/v1/keys`: made, listed, rotated and revoked by an administrator; each change is a record before it takes effect.

use std::sync::Arc;

use access::api_key::{self, ApiKey, Grant, Scope, Token};
use access::change::{Proposal, Sort};
use access::policy::Action;
use access::role::Role;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use proof::encoding::is_token;
use proof::time::UnixMillis;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth;
use crate::body::{self, Share};
use crate::changes;
use crate::lock;
use crate::problem::Problem;
use crate::search::blocking;

/// Keys of a trail, at most.
const KEYS_MAX: usize = 10_000;
/// A rotated key goes on for this long unless it is said otherwise, in seconds.
pub(crate) const OVERLAP_DEFAULT_S: u64 = 7 * 86_400;
const OVERLAP_MAX_S: u64 = 90 * 86_400;

fn shown(app: &App, key: &ApiKey) -> Value {
    let used = app.used.lock().ok().and_then(|used| used.get(&key.id).copied());
    json!({
        "id": key.id,
        "scopes": key.grant.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>(),
        "roles": Role::names(&key.grant.roles),
        "sources": key.grant.sources,
        "label": key.grant.label,
        "expires": key.grant.expires.map(UnixMillis::rfc3339),
        "revoked": key.revoked.map(UnixMillis::rfc3339),
        "last_used": used.map(UnixMillis::rfc3339),
        "active": key.check(app.now()).is_ok(),
    })
}

pub(crate) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    may(&app, &auth::caller(&app, &headers, Scope::Admin)?).await?;
    let keys = lock::read(&app.keys).clone();
    let list: Vec<Value> = keys.iter().map(|key| shown(&app, key)).collect();
    Ok(Json(json!({"keys": list})).into_response())
}

/// Reads a JSON object of known names.
pub(crate) async fn object(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    known: &[&str],
) -> Result<serde_json::Map<String, Value>, Problem> {
    let given = headers.get(axum::http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if given.split(';').next().unwrap_or_default().trim() != "application/json" {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "Content-Type must be application/json",
        ));
    }
    let bytes = body::read(body, &mut Share::new(&app.bodies), &app.parts.limits).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => match map.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(map),
            Some(_) => Err(Problem::bad(format!("a field is not known: there are {}", known.join(", ")))),
        },
        _ => Err(Problem::bad("the body must be a JSON object")),
    }
}

/// Whether the policies let the caller manage keys.
async fn may(app: &Arc<App>, caller: &auth::Caller) -> Result<(), Problem> {
    let purpose = caller.purpose("keys", None, "api-keys");
    blocking(app, move |app| Ok(app.parts.guard.may(&purpose, Action::ManageKeys, None)?)).await
}

pub(crate) fn grant(app: &App, given: &serde_json::Map<String, Value>) -> Result<Grant, Problem> {
    let list = |name: &str| -> Result<Vec<String>, Problem> {
        let bad = || Problem::bad(format!("{name} must be a list of different texts, at most 64"));
        let Some(value) = given.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().filter(|list| list.len() <= 64).ok_or_else(bad)?;
        let mut texts = Vec::new();
        for item in list {
            let text = item.as_str().filter(|text| !texts.contains(&(*text).to_owned())).ok_or_else(bad)?;
            texts.push(text.to_owned());
        }
        Ok(texts)
    };
    let scopes = list("scopes")?.iter().map(|name| Scope::parse(name)).collect::<Option<Vec<_>>>();
    let scopes = scopes.filter(|scopes| !scopes.is_empty());
    let scopes =
        scopes.ok_or_else(|| Problem::bad("scopes must have one or more of append, read, mirror, operate, admin"))?;
    let roles = list("roles")?.iter().map(|name| Role::parse(name)).collect::<Option<Vec<_>>>();
    let roles = roles.filter(|roles| roles.iter().all(|role| Role::GIVEN.contains(role)));
    let roles =
        roles.ok_or_else(|| Problem::bad(format!("roles must be of: {}", Role::GIVEN.map(Role::name).join(", "))))?;
    if scopes.contains(&Scope::Read) == roles.is_empty() {
        return Err(Problem::bad(
            "roles must name the roles in which a key with the scope read reads, and of no other",
        ));
    }
    if scopes.contains(&Scope::Append) && scopes.len() > 1 {
        return Err(Problem::bad("a key that appends has no other scope: make two keys"));
    }
    let sources = list("sources")?;
    if scopes.contains(&Scope::Append) == sources.is_empty()
        || !scopes.contains(&Scope::Append) && given.contains_key("sources")
    {
        return Err(Problem::bad("sources must name the sources of a key with the scope append, and of no other"));
    }
    if !sources.iter().all(|name| app.parts.sources.contains_key(name)) {
        return Err(Problem::bad("sources names one that is not in the server's configuration: add [sources.NAME]"));
    }
    let label = match given.get("label") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if is_token(text) => Some(text.clone()),
        Some(_) => return Err(Problem::bad("label must be 1 to 64 letters, digits or _.:/+-")),
    };
    let expires = match given.get("expires") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let time = value.as_str().and_then(|text| UnixMillis::parse(text.as_bytes()).ok());
            Some(time.ok_or_else(|| Problem::bad("expires must be a time such as 2027-01-31T00:00:00Z"))?)
        }
    };
    Ok(Grant { scopes, roles, sources, expires, label })
}

pub(crate) async fn create(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Admin)?;
    may(&app, &caller).await?;
    let given = object(&app, &headers, body, &["scopes", "roles", "sources", "label", "expires"]).await?;
    let grant = grant(&app, &given)?;
    made(app, caller.actor(), grant, None).await
}

/// A key that was made: its text is told this once.
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) token: Token,
    /// Where it waits for a second person.
    pub(crate) waits: Option<Proposal>,
}

/// Makes a key, or proposes one; `replaces` is the one that ends in its favour, and when.
pub(crate) fn make(
    app: &App,
    actor: &str,
    grant: &Grant,
    replaces: Option<(String, UnixMillis)>,
) -> Result<Made, Problem> {
    if lock::read(&app.keys).len() >= KEYS_MAX {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "too-many-keys",
            "there are 10000 keys: more than a trail may have",
        ));
    }
    let replaced = replaces.as_ref().map(|(id, _)| id.as_str());
    let (token, mut facts) = api_key::create(&(app.parts.random)(), grant, replaced);
    let id = facts["key_id"].as_str().unwrap_or_default().to_owned();
    if changes::waits(app, Sort::Keys) {
        facts["actor"] = actor.into();
        if let Some((_, at)) = &replaces {
            facts["effective"] = at.rfc3339().into();
        }
        // It opens nothing before somebody else has approved it; then whoever asked for it has it already.
        let proposal = changes::propose(app, api_key::CREATED, &facts, None)?;
        return Ok(Made { id, token, waits: Some(proposal) });
    }
    let mut changes = vec![(api_key::CREATED, facts)];
    changes.extend(replaces.map(|(old, at)| (api_key::REVOKED, api_key::revoke(&old, at))));
    commit(app, changes, actor)?;
    Ok(Made { id, token, waits: None })
}

/// The same for programs.
async fn made(
    app: Arc<App>,
    actor: String,
    grant: Grant,
    replaces: Option<(String, UnixMillis)>,
) -> Result<Response, Problem> {
    blocking(&app, move |app| {
        let Made { id, token, waits } = make(app, &actor, &grant, replaces)?;
        if let Some(proposal) = waits {
            return Ok(changes::accepted(json!({"id": id, "key": token.expose(), "active": false}), &proposal));
        }
        let keys = lock::read(&app.keys);
        let mut body = keys.get(&id).map_or(Value::Null, |key| shown(app, key));
        body["key"] = token.expose().into();
        Ok((StatusCode::CREATED, Json(body)).into_response())
    })
    .await
}

/// Records changes in one step and lets them take effect.
fn commit(app: &App, changes: Vec<(&'static str, Value)>, actor: &str) -> Result<(), Problem> {
    let mut records: Vec<changes::Change> = Vec::new();
    for (kind, mut facts) in changes {
        facts["actor"] = actor.into();
        records.push((kind, facts, None));
    }
    changes::record(app, records.clone())?;
    let mut keys = lock::write(&app.keys);
    records.iter().for_each(|(kind, facts, _)| keys.apply(kind, facts));
    Ok(())
}

/// Revokes a key: at once, whoever waits for the answer.
pub(crate) fn end(app: &App, id: &str, actor: &str) -> Result<(), Problem> {
    known(app, id)?;
    commit(app, vec![(api_key::REVOKED, api_key::revoke(id, app.now()))], actor)
}

/// A key that is to be renewed, and until when it goes on.
pub(crate) fn renewed(app: &App, id: &str, overlap_s: u64) -> Result<(ApiKey, UnixMillis), Problem> {
    let key = known(app, id)?;
    if key.check(app.now()).is_err() {
        return Err(Problem::new(StatusCode::CONFLICT, "ended", "this key has ended: make a new one"));
    }
    Ok((key, UnixMillis(app.now().0 + overlap_s * 1000)))
}

fn known(app: &App, id: &str) -> Result<ApiKey, Problem> {
    let keys = lock::read(&app.keys);
    keys.get(id)
        .cloned()
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no-such-key", "there is no key of this id"))
}

pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Admin)?;
    may(&app, &caller).await?;
    let key = known(&app, &id)?;
    if key.id == caller.key.id {
        return Err(Problem::new(StatusCode::CONFLICT, "own-key", "a key may not revoke itself: use another one"));
    }
    let actor = caller.actor();
    blocking(&app, move |app| end(app, &id, &actor)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Admin)?;
    may(&app, &caller).await?;
    let given = object(&app, &headers, body, &["overlap_s"]).await?;
    let overlap = match given.get("overlap_s") {
        None => OVERLAP_DEFAULT_S,
        // 60.0 is the integer 60.
        Some(value) => value
            .as_f64()
            .filter(|seconds| seconds.fract() == 0.0 && (0.0..=OVERLAP_MAX_S as f64).contains(seconds))
            .map(|seconds| seconds as u64)
            .ok_or_else(|| Problem::bad(format!("overlap_s must be a number of seconds from 0 to {OVERLAP_MAX_S}")))?,
    };
    let (key, until) = renewed(&app, &id, overlap)?;
    made(Arc::clone(&app), caller.actor(), key.grant, Some((id, until))).await
}
