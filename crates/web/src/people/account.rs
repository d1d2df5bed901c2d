//! One's own account: sessions, the second factor.

use std::sync::Arc;

use access::passkey::Passkey;
use access::password;
use access::role::Role;
use access::second_factor::{self, RECOVERY_CODES};
use access::store::{SecondFactor, Session};
use access::user::{CHANGED, Change, changed};
use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Head, People, SignedIn, change, end_sessions, field, html, off, own_form, signed_in, stored, time, to};
use crate::app::App;
use crate::problem::Problem;

struct SessionLine {
    id: String,
    started: String,
    seen: String,
    address: String,
    agent: String,
    method: String,
    own: bool,
}

struct PasskeyLine {
    id: String,
    name: String,
    added: String,
}

#[derive(Template)]
#[template(path = "people/account.html")]
struct Account {
    head: Head,
    name: String,
    address: String,
    roles: String,
    has_second: bool,
    recovery_left: usize,
    sso: bool,
    /// Whether passkeys can be added here.
    adds_passkeys: bool,
    passkeys: Vec<PasskeyLine>,
    sessions: Vec<SessionLine>,
}

/// A second factor that is being added, or was just added.
#[derive(Template)]
#[template(path = "people/second_factor.html")]
struct Adding {
    head: Head,
    secret: String,
    otpauth: String,
    codes: Vec<String>,
    wrong: &'static str,
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let signed_in = signed_in(&app, &headers).await?;
    off(&app, move |app, people| {
        let person = stored(people.store.person(&signed_in.user.id))?;
        let person = person.ok_or_else(|| crate::problem::internal(&"somebody signed in is not kept"))?;
        let line = |session: Session| SessionLine {
            own: session.id == signed_in.session.id,
            id: session.id,
            started: time(session.started_ms),
            seen: time(session.seen_ms),
            address: match session.place {
                Some(place) => format!("{}, {place}", session.address),
                None => session.address,
            },
            agent: session.agent,
            method: session.method,
        };
        let sessions = stored(people.store.sessions_of(&person.id))?.into_iter().map(line).collect();
        let passkey =
            |passkey: Passkey| PasskeyLine { id: passkey.id, name: passkey.name, added: time(passkey.added_ms) };
        html(&Account {
            head: signed_in.head(),
            sso: person.sso,
            adds_passkeys: app.parts.passkeys.is_some() && !person.sso,
            passkeys: person.passkeys.into_iter().map(passkey).collect(),
            name: person.name,
            address: person.address,
            roles: Role::list(&signed_in.user.roles),
            has_second: person.second.is_some(),
            recovery_left: person.second.map_or(0, |second| second.recovery.len()),
            sessions,
        })
    })
    .await
}

fn adding(signed_in: &SignedIn, secret: String, name: &str, wrong: &'static str) -> Result<Response, Problem> {
    let otpauth = second_factor::address(&secret, "Candor", name);
    html(&Adding { head: signed_in.head(), secret, otpauth, codes: Vec::new(), wrong })
}

/// Shows a fresh secret; nothing is kept until a code of it was given.
pub(crate) async fn second_factor(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (signed_in, _) = own_form(&app, &headers, body).await?;
    off(&app, move |_, people| {
        let secret = second_factor::secret(&people.store.fresh());
        adding(&signed_in, secret, &signed_in.user.id, "")
    })
    .await
}

/// Keeps the secret, once its device has shown a code of it and who asks has said the password again, and shows the
/// recovery codes, this once. A cookie alone is not enough: its thief could shut the owner out.
pub(crate) async fn confirm(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (signed_in, mut fields) = own_form(&app, &headers, body).await?;
    let (secret, code) = (field(&fields, "secret", 64)?, field(&fields, "code", 16)?);
    let given = zeroize::Zeroizing::new(fields.remove("password").unwrap_or_default());
    let held = Arc::clone(super::people(&app)?);
    let id = signed_in.user.id.clone();
    let person = off(&app, move |_, people| stored(people.store.person(&id))).await?;
    let person = person.ok_or_else(|| crate::problem::internal(&"somebody signed in is not kept"))?;
    let who = guessed(&held, &signed_in, "password", app.now().0)?;
    let compared = person.password.clone();
    let right = held.hashing.run(move || password::check(&given, compared.as_ref())).await?;
    off(&app, move |app, people| {
        let _turn = people.changing();
        let mut now_held = stored(people.store.person(&person.id))?
            .ok_or_else(|| crate::problem::internal(&"somebody signed in is not kept"))?;
        if !right || now_held.password != person.password {
            return adding(&signed_in, secret, &person.id, "This is not the password.");
        }
        people.guessed_right(who.0, who.1);
        let Some(step) = second_factor::step_of(&secret, &code, app.now().0 / 1000) else {
            let wrong = "This code is not the one of now: is the clock of the device right?";
            return adding(&signed_in, secret, &person.id, wrong);
        };
        if now_held.second.is_some() {
            return Err(Problem::bad("there is a second factor already: take it away first"));
        }
        let codes: Vec<String> =
            (0..RECOVERY_CODES).map(|_| second_factor::recovery_code(&people.store.fresh())).collect();
        let recovery = codes.iter().map(|code| second_factor::recovery_digest(code)).collect();
        now_held.second = Some(SecondFactor { secret, last_step: step, recovery });
        change(app, people, CHANGED, changed(&person.id, Change::SecondFactorAdded, &person.id))?;
        // Who came in by the password alone, elsewhere, shows the device there too.
        let own = signed_in.session.id.clone();
        end_sessions(app, people, &person.id, (|held: &Session| held.id != own, "second_factor_added"))?;
        stored(people.store.put(&now_held))?;
        html(&Adding { head: signed_in.head(), secret: String::new(), otpauth: String::new(), codes, wrong: "" })
    })
    .await
}

/// Counts a guess of who is signed in, before it is looked at; whom it is counted against.
fn guessed(people: &People, who: &SignedIn, what: &str, now_ms: u64) -> Result<(u64, u64), Problem> {
    let (at, from) = (people.store.short(what, &who.user.id), people.store.short("from", &who.session.address));
    let later =
        |_| Problem::later(StatusCode::TOO_MANY_REQUESTS, "too many wrong tries: wait a while, longer after each");
    people.guess(at, from, now_ms).map_err(later).map(|_| (at, from))
}

/// Takes the second factor away: who has the device or a recovery code may.
pub(crate) async fn remove(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (signed_in, fields) = own_form(&app, &headers, body).await?;
    let code = field(&fields, "code", 16)?;
    off(&app, move |app, people| {
        let id = signed_in.user.id.clone();
        let now = app.now().0;
        let (at, from) = guessed(people, &signed_in, "code", now)?;
        let _turn = people.changing();
        if stored(people.store.take_code(&id, &code, now / 1000))?.is_none() {
            return Err(Problem::bad("this code is not the one of now: wait for the next one and try again"));
        }
        people.guessed_right(at, from);
        change(app, people, CHANGED, changed(&id, Change::SecondFactorRemoved, &id))?;
        if let Some(mut person) = stored(people.store.person(&id))? {
            person.second = None;
            stored(people.store.put(&person))?;
        }
        Ok(to("/account"))
    })
    .await
}

/// Ends one of one's own sessions.
pub(crate) async fn end_session(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (signed_in, fields) = own_form(&app, &headers, body).await?;
    let id = field(&fields, "session", 64)?;
    off(&app, move |app, people| {
        end_sessions(app, people, &signed_in.user.id, (|held: &Session| held.id == id, "ended_by_owner"))?;
        Ok(to("/account"))
    })
    .await
}
