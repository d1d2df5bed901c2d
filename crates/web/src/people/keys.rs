//! Keys of programs, for who administers them: made, renewed, revoked. A key that was made here comes from a person.

use std::sync::Arc;

use access::api_key::{ApiKey, Scope};
use access::policy::Action;
use access::role::Role;
use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{Head, People, SignedIn, field, html, named, off, own_form, readable, signed_in};
use crate::app::App;
use crate::keys::{self, Made, OVERLAP_DEFAULT_S};
use crate::lock;
use crate::problem::Problem;

struct Line {
    id: String,
    label: String,
    what: String,
    maker: String,
    expires: String,
    used: String,
    active: bool,
}

#[derive(Template)]
#[template(path = "people/keys.html")]
struct Keys {
    head: Head,
    keys: Vec<Line>,
    roles: Vec<(&'static str, String)>,
    sources: Vec<String>,
    /// A key that was just made, and whether it waits for a second person.
    made: Option<(String, bool)>,
}

fn what(key: &ApiKey) -> String {
    let scopes: Vec<&str> = key.grant.scopes.iter().map(|scope| scope.name()).collect();
    let of = match (key.grant.roles.as_slice(), key.grant.sources.as_slice()) {
        ([], []) => String::new(),
        ([], sources) => format!(": {}", sources.join(", ")),
        (roles, _) => format!(": {}", Role::list(roles)),
    };
    format!("{}{of}", scopes.join(", "))
}

fn show(app: &App, people: &People, who: &SignedIn, made: Option<Made>) -> Result<Response, Problem> {
    let held: Vec<ApiKey> = lock::read(&app.keys).iter().cloned().collect();
    app.parts.guard.may_see(&who.purpose("keys", "", "page-keys"), Action::ManageKeys, held.len())?;
    let used = lock::held(&app.used).clone();
    let mut lines = Vec::new();
    for key in held {
        lines.push(Line {
            label: key.grant.label.clone().unwrap_or_default(),
            what: what(&key),
            maker: named(people, &key.maker)?,
            expires: key.grant.expires.map(|time| readable(&time.rfc3339())).unwrap_or_default(),
            used: used.get(&key.id).map(|time| readable(&time.rfc3339())).unwrap_or_default(),
            active: key.check(app.now()).is_ok(),
            id: key.id,
        });
    }
    // Those that open something first.
    lines.sort_by_key(|line| !line.active);
    html(&Keys {
        head: who.head(),
        keys: lines,
        roles: Role::GIVEN.map(|role| (role.name(), role.words())).to_vec(),
        sources: app.parts.sources.keys().cloned().collect(),
        made: made.map(|made| (made.token.expose().to_owned(), made.waits.is_some())),
    })
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    off(&app, move |app, people| show(app, people, &who, None)).await
}

pub(crate) async fn make(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let mut given: Map<String, Value> = Map::new();
    for name in ["scopes", "roles", "sources"] {
        let words: Vec<&str> = fields.get(name).map(|text| text.split_whitespace().collect()).unwrap_or_default();
        if !words.is_empty() {
            given.insert(name.into(), json!(words));
        }
    }
    let text = |name: &str| fields.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    given.extend(text("label").map(|label| ("label".to_owned(), label.into())));
    given.extend(text("expires").map(|day| ("expires".to_owned(), format!("{day}T00:00:00Z").into())));
    off(&app, move |app, people| {
        app.parts.guard.may(&who.purpose("keys", "", "page-keys"), Action::ManageKeys, None)?;
        let made = keys::make(app, &who.user.id, &keys::grant(app, &given)?, None)?;
        show(app, people, &who, Some(made))
    })
    .await
}

pub(crate) async fn change(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (id, step) = (field(&fields, "key", 64)?, field(&fields, "step", 16)?);
    off(&app, move |app, people| {
        app.parts.guard.may(&who.purpose("keys", "", "page-keys"), Action::ManageKeys, None)?;
        let made = match step.as_str() {
            "revoke" => {
                keys::end(app, &id, &who.user.id)?;
                None
            }
            "renew" => {
                let (key, until) = keys::renewed(app, &id, OVERLAP_DEFAULT_S)?;
                Some(keys::make(app, &who.user.id, &key.grant, Some((id, until)))?)
            }
            _ => return Err(Problem::bad("step must be revoke or renew")),
        };
        show(app, people, &who, made)
    })
    .await
}

/// Scopes that a form offers, with what they let do.
pub(super) const SCOPES: [(Scope, &str); 5] = [
    (Scope::Append, "append: send records of the sources below, nothing else"),
    (Scope::Read, "read: in the roles below, each read recorded"),
    (Scope::Mirror, "mirror: the proof plane and metrics"),
    (Scope::Operate, "operate: acknowledge and resolve alerts"),
    (Scope::Admin, "admin: make keys"),
];
