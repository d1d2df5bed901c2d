//! Passkeys: added at one's account, used to sign in. The two pages that ask a device are the only ones with a script; all
//! else of it is forms.

use std::sync::Arc;

use access::passkey::{PASSKEYS_MAX, Passkey, Passkeys, Refused};
use access::store::{Alias, Person, Session};
use access::user::{CHANGED, Change, Standing, changed};
use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{
    Head, Peer, People, begin, change, end_sessions, field, form, from, html, off, own_form, sign_in, stored, to,
};
use crate::app::{App, CONTENT_POLICY};
use crate::problem::Problem;

/// A passkey is added within this time of signing in: who finds a screen unlocked adds none.
const FRESH_MS: u64 = 15 * 60_000;

#[derive(Template)]
#[template(path = "people/passkey.html")]
struct Ask {
    head: Head,
    /// Whether one is made; else one is used.
    adds: bool,
    /// What the browser is asked, JSON.
    asked: String,
    name: String,
}

fn passkeys(app: &App) -> Result<&Passkeys, Problem> {
    app.parts.passkeys.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-passkeys",
            "passkeys need public_url with a name that browsers reach by https",
        )
    })
}

/// A page that may run the one script.
fn with_script(page: &Ask) -> Result<Response, Problem> {
    let mut page = html(page)?;
    let policy = format!("{CONTENT_POLICY}; script-src 'self'");
    let policy = HeaderValue::try_from(policy).map_err(|why| crate::problem::internal(&why))?;
    page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(page)
}

fn busy(why: Refused) -> Problem {
    match why {
        Refused::Busy => {
            Problem::later(StatusCode::SERVICE_UNAVAILABLE, "too many people use their passkeys at once: try again")
        }
        Refused::NotTrue => Problem::bad("the device's answer does not hold: try again"),
    }
}

/// The script of these pages.
pub(crate) async fn script() -> Response {
    let head =
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (head, include_str!("../../templates/passkey.js")).into_response()
}

pub(crate) async fn ask(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    form(&app, &headers, body).await?;
    let asked = passkeys(&app)?.open().map_err(busy)?;
    with_script(&Ask { head: Head::default(), adds: false, asked, name: String::new() })
}

pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    const WRONG: &str = "This passkey opens nothing here.";
    let fields = form(&app, &headers, body).await?;
    let from = from(&headers, peer);
    let given = fields.get("answer").cloned().unwrap_or_default();
    off(&app, move |app, people| {
        let wrong = || sign_in::answer(app, StatusCode::FORBIDDEN, String::new(), WRONG);
        let who = [people.store.short("passkey", &from.address), people.store.short("from", &from.address)];
        if let Err(wait_ms) = people.guess(who[0], who[1], app.now().0) {
            return sign_in::wait(app, wait_ms);
        }
        let _turn = people.changing();
        let Ok(answer) = Passkeys::read(given.as_bytes()) else { return wrong() };
        let Some(id) = stored(people.store.known_as(Alias::Passkey, &answer.id()))? else { return wrong() };
        let held = stored(people.store.person(&id))?;
        let active = people.user(&id).is_some_and(|user| user.standing == Standing::Active);
        let Some(mut person) = held.filter(|_| active) else { return wrong() };
        let Some(place) = person.passkeys.iter().position(|passkey| passkey.id == answer.id()) else { return wrong() };
        let handle = people.store.handle(&id);
        let Ok(now) = passkeys(app)?.opened(&answer, &handle, &person.passkeys[place]) else { return wrong() };
        people.guessed_right(who[0], who[1]);
        person.passkeys[place] = now;
        stored(people.store.put(&person))?;
        begin(app, people, &id, "passkey", &from)
    })
    .await
}

/// Whether passkeys are theirs to add.
fn own(people: &People, id: &str) -> Result<Person, Problem> {
    let person = stored(people.store.person(id))?.ok_or_else(|| crate::problem::internal(&"a person is not kept"))?;
    if person.sso {
        return Err(Problem::bad("you come by single sign-on: your provider says how"));
    }
    Ok(person)
}

pub(crate) async fn add(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let name = field(&fields, "name", 64)?;
    off(&app, move |app, people| {
        let person = own(people, &who.user.id)?;
        fresh(app, &who.session)?;
        if person.passkeys.len() >= PASSKEYS_MAX {
            return Err(Problem::bad(format!("you have {PASSKEYS_MAX} passkeys: remove one first")));
        }
        let handle = people.store.handle(&person.id);
        let asked = passkeys(app)?.add(&handle, (&person.name, &person.address), &person.passkeys).map_err(busy)?;
        with_script(&Ask { head: who.head(), adds: true, asked, name })
    })
    .await
}

fn fresh(app: &App, session: &Session) -> Result<(), Problem> {
    if app.now().0 <= session.started_ms + FRESH_MS {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "sign-in-again",
        "a passkey is added within fifteen minutes of signing in: sign out, sign in again and add it",
    ))
}

pub(crate) async fn added(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (name, answer) = (field(&fields, "name", 64)?, fields.get("answer").cloned().unwrap_or_default());
    off(&app, move |app, people| {
        let _turn = people.changing();
        let mut person = own(people, &who.user.id)?;
        fresh(app, &who.session)?;
        let handle = people.store.handle(&person.id);
        let made = passkeys(app)?.added(&handle, (answer.as_bytes(), &name, app.now().0)).map_err(busy)?;
        if person.passkeys.len() >= PASSKEYS_MAX || stored(people.store.known_as(Alias::Passkey, &made.id))?.is_some() {
            return Err(Problem::bad("this passkey is there already, or there are too many"));
        }
        change(app, people, CHANGED, changed(&person.id, Change::PasskeyAdded, &person.id))?;
        let id = made.id.clone();
        person.passkeys.push(made);
        stored(people.store.put(&person))?;
        stored(people.store.put_alias(Alias::Passkey, &id, &person.id))?;
        // Whoever else is signed in as them signs in anew.
        let own = who.session.id.clone();
        end_sessions(app, people, &person.id, (|held: &Session| held.id != own, "second_factor_added"))?;
        Ok(to("/account"))
    })
    .await
}

pub(crate) async fn remove(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let id = field(&fields, "passkey", 1400)?;
    off(&app, move |app, people| {
        let _turn = people.changing();
        let mut person = own(people, &who.user.id)?;
        if !person.passkeys.iter().any(|passkey| passkey.id == id) {
            return Ok(to("/account"));
        }
        change(app, people, CHANGED, changed(&person.id, Change::PasskeyRemoved, &person.id))?;
        person.passkeys.retain(|passkey: &Passkey| passkey.id != id);
        stored(people.store.put(&person))?;
        stored(people.store.drop_alias(Alias::Passkey, &id))?;
        Ok(to("/account"))
    })
    .await
}
