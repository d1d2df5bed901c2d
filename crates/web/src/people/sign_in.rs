//! Signing in and out: password, then a code where there is a second factor.
//!
//! Whether an address has an account can't be told from the answer or its time: the same sentence, the same work, the
//! same waits.

use std::sync::Arc;

use access::password::{self, Hashed};
use access::store::Person;
use access::user::{CHANGED, Change, Standing, changed};
use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{
    From, Head, Peer, People, begin, change, form, found, from, html, off, own_form, people, record_end, recorded,
    stored, to,
};
use crate::app::App;
use crate::lock;
use crate::problem::Problem;

/// For the code, after the password.
const PENDING_MS: u64 = 5 * 60_000;
/// Who is asked for a code at once, at most.
const PENDING_MAX: usize = 1000;
/// Wrong guesses in a row after which it is told to the trail each time they double.
const TOLD_FROM: u32 = 5;

/// Somebody who gave a right password.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    person: String,
    /// The password that it was: another one since then opens nothing.
    password: Option<Hashed>,
    until_ms: u64,
}

#[derive(Template)]
#[template(path = "people/sign_in.html")]
struct SignIn {
    head: Head,
    /// Token of the form that asks for a code; empty where the password is asked for.
    pending: String,
    wrong: &'static str,
    /// What the provider of single sign-on is called; empty where there is none.
    provider: String,
    passkeys: bool,
}

pub(super) fn answer(app: &App, status: StatusCode, pending: String, wrong: &'static str) -> Result<Response, Problem> {
    let provider = app.parts.provider.as_ref().map(|provider| provider.name().to_owned()).unwrap_or_default();
    let mut page =
        html(&SignIn { head: Head::default(), pending, wrong, provider, passkeys: app.parts.passkeys.is_some() })?;
    *page.status_mut() = status;
    Ok(page)
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    if found(&app, &headers).await?.is_some() {
        return Ok(to("/look"));
    }
    answer(&app, StatusCode::OK, String::new(), "")
}

pub(super) fn wait(app: &App, wait_ms: u64) -> Result<Response, Problem> {
    let mut page = answer(
        app,
        StatusCode::TOO_MANY_REQUESTS,
        String::new(),
        "Too many wrong tries: wait a while, longer after each, and try again.",
    )?;
    page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1000)));
    Ok(page)
}

/// Whom guesses are counted against: who is tried, and where from.
fn counted(people: &People, address: &str, from: &From) -> [u64; 2] {
    [people.store.short("tried", &address.to_lowercase()), people.store.short("from", &from.address)]
}

/// Tells a wrong guess, the fifth in a row and each doubling, as an event of security.
fn wrong(app: &App, count: u32, person: Option<&str>, from: &From) -> Result<(), Problem> {
    if count < TOLD_FROM || !(count / TOLD_FROM).is_power_of_two() || !count.is_multiple_of(TOLD_FROM) {
        return Ok(());
    }
    let mut facts = json!({
        "session_id": "none", "security_event": "failed_login", "response": "wait", "severity": "warning",
        "ip_address": from.address, "details": format!("{count} wrong tries in a row"),
    });
    if let Some(person) = person {
        facts["user_id"] = person.into();
    }
    recorded(app, "SESSION_SECURITY_EVENT", facts).map(drop)
}

pub(crate) async fn password(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    const WRONG: &str = "Address and password do not go together.";
    let mut fields = form(&app, &headers, body).await?;
    let address = fields.remove("address").unwrap_or_default().trim().chars().take(320).collect::<String>();
    let given = zeroize::Zeroizing::new(fields.remove("password").unwrap_or_default());
    let from = from(&headers, peer);
    let held = Arc::clone(people(&app)?);
    let who = counted(&held, &address, &from);
    let count = match held.guess(who[0], who[1], app.now().0) {
        Ok(count) => count,
        Err(wait_ms) => return wait(&app, wait_ms),
    };
    let person = off(&app, move |_, people| stored(people.store.person_at(&address))).await?;
    let compared = person.as_ref().and_then(|person| person.password.clone());
    let against = compared.clone();
    let right = held.hashing.run(move || password::check(&given, against.as_ref())).await?;
    off(&app, move |app, people| {
        let _turn = people.changing();
        // As they are now: the password may have been changed while this one was hashed.
        let now_held = |id: &str| stored(people.store.person(id));
        let person = person.filter(|_| right).map(|person| now_held(&person.id)).transpose()?.flatten();
        let active = |id: &str| people.user(id).is_some_and(|user| user.standing == Standing::Active);
        let fits = |person: &Person| person.password == compared && active(&person.id);
        let Some(person) = person.filter(fits) else {
            wrong(app, count, None, &from)?;
            return answer(app, StatusCode::FORBIDDEN, String::new(), WRONG);
        };
        people.guessed_right(who[0], who[1]);
        if person.second.is_none() {
            return begin(app, people, &person.id, "password", &from);
        }
        let token = proof::encoding::hex(&people.store.fresh::<32>());
        let (now, mut pending) = (app.now().0, lock::held(&people.pending));
        pending.retain(|_, held| held.until_ms > now);
        if pending.len() >= PENDING_MAX {
            return Err(Problem::later(StatusCode::SERVICE_UNAVAILABLE, "too many people sign in at once: try again"));
        }
        pending.insert(token.clone(), Pending { person: person.id, password: compared, until_ms: now + PENDING_MS });
        answer(app, StatusCode::OK, token, "")
    })
    .await
}

pub(crate) async fn code(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = form(&app, &headers, body).await?;
    let token = fields.remove("pending").unwrap_or_default();
    let given = zeroize::Zeroizing::new(fields.remove("code").unwrap_or_default());
    let from = from(&headers, peer);
    off(&app, move |app, people| {
        let now = app.now().0;
        let pending_now = || lock::held(&people.pending);
        let Some(pending) = pending_now().get(&token).filter(|held| held.until_ms > now).cloned() else {
            return answer(app, StatusCode::FORBIDDEN, String::new(), "That took too long: sign in again.");
        };
        // Counted by person: a million codes are soon tried where only the password is counted.
        let who = [people.store.short("code", &pending.person), people.store.short("from", &from.address)];
        let count = match people.guess(who[0], who[1], now) {
            Ok(count) => count,
            Err(wait_ms) => return wait(app, wait_ms),
        };
        let _turn = people.changing();
        let held = stored(people.store.person(&pending.person))?;
        let active = people.user(&pending.person).is_some_and(|user| user.standing == Standing::Active);
        if !active || held.is_none_or(|held| held.password != pending.password) {
            return answer(
                app,
                StatusCode::FORBIDDEN,
                String::new(),
                "The account was changed meanwhile: sign in again.",
            );
        }
        let Some(recovered) = stored(people.store.take_code(&pending.person, &given, now / 1000))? else {
            wrong(app, count, Some(&pending.person), &from)?;
            return answer(app, StatusCode::FORBIDDEN, token, "This code is not the one of now.");
        };
        pending_now().remove(&token);
        people.guessed_right(who[0], who[1]);
        if recovered {
            change(app, people, CHANGED, changed(&pending.person, Change::RecoveryCodeUsed, &pending.person))?;
        }
        begin(app, people, &pending.person, "mfa", &from)
    })
    .await
}

pub(crate) async fn out(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (signed_in, _) = own_form(&app, &headers, body).await?;
    off(&app, move |app, people| {
        record_end(app, &signed_in.session, "signed_out")?;
        stored(people.store.end_session(&signed_in.token))?;
        let gone = super::cookie(app, super::COOKIE, "", Some(0));
        Ok((StatusCode::SEE_OTHER, [(header::LOCATION, "/sign-in".to_owned()), (header::SET_COOKIE, gone)])
            .into_response())
    })
    .await
}
