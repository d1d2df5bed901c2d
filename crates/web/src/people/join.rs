//! Taking an invitation: a link that opens once, and a password of one's own. Looking at the page uses nothing up, since
//! scanners of mail follow links.

use std::sync::Arc;

use access::password;
use access::store::{Person, Session};
use access::user::{CHANGED, Change, Standing, changed};
use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::{Head, Peer, begin, change, end_sessions, field, form, from, html, off, people, stored};
use crate::app::App;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "people/join.html")]
struct Join {
    head: Head,
    token: String,
    name: String,
    address: String,
    wrong: String,
}

fn gone() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-link",
        "this link does not open: it was used, has ended, or a newer one took its place: ask an administrator for another",
    )
}

/// Whose a link is, while it opens.
async fn invited(app: &Arc<App>, token: &str) -> Result<Person, Problem> {
    let token = token.to_owned();
    off(app, move |app, people| {
        let link = stored(people.store.link(&token, app.now().0))?.ok_or_else(gone)?;
        let welcome = |standing| matches!(standing, Standing::Invited | Standing::Active);
        people.user(&link.person).filter(|user| welcome(user.standing)).ok_or_else(gone)?;
        stored(people.store.person(&link.person))?.ok_or_else(gone)
    })
    .await
}

pub(crate) async fn page(State(app): State<Arc<App>>, Path(token): Path<String>) -> Result<Response, Problem> {
    let Person { name, address, .. } = invited(&app, &token).await?;
    html(&Join { head: Head::default(), token, name, address, wrong: String::new() })
}

pub(crate) async fn take(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut fields = form(&app, &headers, body).await?;
    let mut person = invited(&app, &token).await?;
    let first = zeroize::Zeroizing::new(fields.remove("password").unwrap_or_default());
    let again = zeroize::Zeroizing::new(fields.remove("password_again").unwrap_or_default());
    // The first administrator's link names nobody yet.
    if person.address.is_empty() {
        person.address = field(&fields, "address", 320)?;
        person.name = field(&fields, "name", 128)?;
    }
    let held = Arc::clone(people(&app)?);
    let known = match held.breached.clone() {
        None => false,
        Some(list) => {
            let given = first.clone();
            let looked = tokio::task::spawn_blocking(move || list.has(&given)).await;
            let looked = looked.map_err(|why| crate::problem::internal(&why))?;
            looked.map_err(|why| crate::problem::internal(&why))?
        }
    };
    let unfit = match password::fit(&first, &person.address) {
        Err(why) => Some(why.to_string()),
        Ok(()) if known => Some("this password is in a list of breached ones: take another one".to_owned()),
        Ok(()) if *first != *again => Some("the two passwords are not the same".to_owned()),
        Ok(()) if !person.address.contains('@') => Some("the address must be an e-mail address".to_owned()),
        Ok(()) => None,
    };
    if let Some(wrong) = unfit {
        let Person { name, address, .. } = invited(&app, &token).await?;
        let mut page = html(&Join { head: Head::default(), token, name, address, wrong })?;
        *page.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        return Ok(page);
    }
    let salt = held.store.fresh();
    let hashed = held.hashing.run(move || password::hash(&first, &salt)).await?;
    let from = from(&headers, peer);
    off(&app, move |app, people| {
        let hashed = hashed.ok_or_else(|| crate::problem::internal(&"a password could not be hashed"))?;
        let _turn = people.changing();
        // As it is now: of two who have the link, one comes in, and nothing old is written back.
        stored(people.store.link(&token, app.now().0))?.ok_or_else(gone)?;
        let known = people.user(&person.id).ok_or_else(gone)?;
        let mut held = stored(people.store.person(&person.id))?.ok_or_else(gone)?;
        if held.address.is_empty() {
            if stored(people.store.person_at(&person.address))?.is_some() {
                return Err(Problem::bad("somebody with this address is here already: take another one"));
            }
            (held.address, held.name) = (person.address, person.name);
        }
        held.password = Some(hashed);
        change(app, people, CHANGED, changed(&held.id, Change::PasswordSet, &held.id))?;
        // Whoever was signed in by the old password is so no more.
        end_sessions(app, people, &held.id, (|_: &Session| true, "password_changed"))?;
        stored(people.store.put(&held))?;
        stored(people.store.use_link(&token))?;
        if known.standing == Standing::Invited {
            change(app, people, CHANGED, changed(&held.id, Change::Activated, &held.id))?;
        }
        if held.second.is_some() {
            return Ok(super::to("/sign-in"));
        }
        begin(app, people, &held.id, "password", &from)
    })
    .await
}
