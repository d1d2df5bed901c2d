//! Who calls: the key in `Authorization: Bearer`.

use access::api_key::{ApiKey, Scope};
use axum::http::{HeaderMap, StatusCode, header};
use reads::decide::Purpose;

use crate::app::App;
use crate::lock;
use crate::problem::Problem;
use crate::submit::RefusalCount;

/// Between two recorded uses of one key.
const USE_RECORDED_MS: u64 = 86_400_000;

/// A caller whose key has the scope that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) key: ApiKey,
}

impl Caller {
    /// The opaque id by which reads name the caller.
    pub(crate) fn actor(&self) -> String {
        format!("api-key-{}", self.key.id)
    }

    /// Who reads, and for what.
    pub(crate) fn purpose(&self, purpose: &str, justification: Option<String>, command: &'static str) -> Purpose {
        Purpose {
            actor: self.actor(),
            roles: self.key.roles(),
            second_factor: false,
            own: Vec::new(),
            session: None,
            purpose: purpose.to_owned(),
            justification,
            command,
        }
    }
}

/// Cookie in which a browser keeps the key of a page that shows nothing personal.
pub(crate) const COOKIE: &str = "candor_key";

/// The key that a page's cookie holds.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Whether a key opens pages for reading.
pub(crate) fn opens(app: &App, token: &str) -> bool {
    let keys = lock::read(&app.keys);
    keys.authenticate(token, app.now()).is_ok_and(|key| key.may(Scope::Read))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The caller, if the key may do this.
pub(crate) fn caller(app: &App, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
    any_of(app, headers, &[scope])
}

/// The caller, if the key may do any of these.
pub(crate) fn any_of(app: &App, headers: &HeaderMap, scopes: &[Scope]) -> Result<Caller, Problem> {
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
    let Some(token) = token(headers) else {
        refused(app, "unauthenticated", "no_key");
        return Err(unauthorized("a key is needed: send it as Authorization: Bearer KEY"));
    };
    let keys = lock::read(&app.keys);
    let key = keys.authenticate(token, app.now()).map_err(|denied| {
        refused(app, "unauthenticated", "key_denied");
        unauthorized(denied.sentence())
    })?;
    if !scopes.iter().any(|scope| key.may(*scope)) {
        refused(app, &format!("api-key-{}", key.id), "scope_missing");
        let names: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
        let detail = format!("this key has not the scope {}: ask an administrator", names.join(" or "));
        return Err(Problem::new(StatusCode::FORBIDDEN, "scope", detail));
    }
    let caller = Caller { key: key.clone() };
    drop(keys);
    note_use(app, &caller.key.id);
    Ok(caller)
}

fn refused(app: &App, source: &str, code: &'static str) {
    if let Ok(mut held) = app.refusals.lock() {
        held.add(RefusalCount { source: source.to_owned(), code, kind: None, rule: None, count: 1 });
    }
}

/// Remembers the newest use of a key; once a day it is recorded, so that a key nobody uses shows.
fn note_use(app: &App, id: &str) {
    let now = app.now();
    let first = match app.used.lock() {
        Ok(mut used) => {
            let before = used.insert(id.to_owned(), now);
            before.is_none_or(|before| before.0 / USE_RECORDED_MS != now.0 / USE_RECORDED_MS)
        }
        Err(_) => false,
    };
    if first && let Ok(mut held) = app.refusals.lock() {
        held.used.push((id.to_owned(), now));
    }
}
