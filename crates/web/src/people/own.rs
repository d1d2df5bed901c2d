//! A customer's own pages: in by a link to their address on record, out with everything that is kept about them.
//!
//! Whether an address is known here can't be told from the answer or its time: the same words, before anything is looked
//! up. A session is bound to the subject of that address and those joined to it, and reads nothing else: no page takes a
//! name or number of anybody.

use std::sync::Arc;

use access::store::Session;
use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reads::decide::Purpose;
use reads::guard::Of;
use reads::shown::Shown;
use record::class::{ClassId, Retention};
use record::identifier::{IdentifierType, normalise};
use serde_json::{Value, json};

use super::look::{Line, line};
use super::{
    Head, How, Peer, cookie_of, field, form, fresh_session, from, held_token, html, off, people, readable,
    recorded_about, started, stored, to,
};
use crate::app::App;
use crate::params::Params;
use crate::problem::Problem;
use crate::search::blocking;

/// A link opens for so long.
const LINK_MS: u64 = 15 * 60_000;
/// A session that is not used for so long is over.
const IDLE_MS: u64 = 15 * 60_000;
/// So is one that is so old.
const SESSION_MS: u64 = 2 * 3_600_000;
/// Entries of a page.
const PAGE: usize = 100;
/// Fields that say nothing to the person whom an entry is about; the file has them all.
const INWARD: [&str; 3] = ["register", "of person", "user id"];
/// Name of the session's cookie.
const COOKIE: &str = "candor_own";

/// Sends mail; what is sent is this crate's to say.
pub trait Post: Send + Sync {
    /// Hands one mail to the relay.
    ///
    /// # Errors
    /// The relay did not take it.
    fn send(&self, to: &str, subject: &str, text: &str) -> Result<(), String>;
}

/// How customers are reached: where these pages are, and who carries mail.
#[derive(Clone)]
pub struct Reach {
    /// Address of this server as customers see it, without a slash at its end.
    pub url: String,
    /// Who carries mail.
    pub post: Arc<dyn Post>,
}

#[derive(Template)]
#[template(path = "people/own_in.html")]
struct In {
    head: Head,
    asked: bool,
    /// Token of a link that was followed.
    token: String,
}

/// Somebody's look at what is about the customer.
struct LookLine {
    at: String,
    role: String,
    purpose: String,
    entries: u64,
    words: String,
}

#[derive(Template)]
#[template(path = "people/own.html")]
struct Own {
    head: Head,
    form_token: String,
    looks: Vec<LookLine>,
    lines: Vec<Line>,
    all: usize,
    size: u64,
    /// Entries that a mirror has.
    mirrored: u64,
    access: u64,
    next_below: Option<u64>,
}

/// A customer who came in.
struct Customer {
    token: String,
    session: Session,
    subject: u64,
    own: Vec<u64>,
}

impl Customer {
    fn purpose(&self, command: &'static str) -> Purpose {
        Purpose {
            // One session, not one person: who it was stands in the session's entry, under their key.
            actor: format!("customer/{}", self.session.id),
            roles: vec![access::role::Role::Customer],
            second_factor: false,
            own: self.own.clone(),
            session: Some(self.session.id.clone()),
            purpose: "own".to_owned(),
            justification: None,
            command,
        }
    }
}

fn reach(app: &App) -> Result<&Reach, Problem> {
    app.parts.reach.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-own-history",
            "this server sends no links to customers: ask the business for what it keeps about you",
        )
    })
}

async fn found(app: &Arc<App>, headers: &HeaderMap) -> Result<Option<Customer>, Problem> {
    let Some(token) = held_token(headers, cookie_of(app, COOKIE)) else { return Ok(None) };
    off(app, move |app, people| {
        let Some(mut session) = stored(people.store.session(&token))? else { return Ok(None) };
        let Some(subject) = session.subject else { return Ok(None) };
        let now = app.now().0;
        let own = app.parts.guard.own_subjects(subject)?;
        let over = now >= session.started_ms + SESSION_MS || now >= session.seen_ms + IDLE_MS;
        if over || own.is_empty() {
            // Who was erased has no history any more, and no session.
            end(app, &session, subject, if over { "expired" } else { "erased" })?;
            stored(people.store.end_session(&token))?;
            return Ok(None);
        }
        if now >= session.seen_ms + super::sessions::SEEN_MS {
            session.seen_ms = now;
            stored(people.store.touch_session(&token, &session))?;
        }
        Ok(Some(Customer { token, session, subject, own }))
    })
    .await
}

async fn signed_in(app: &Arc<App>, headers: &HeaderMap) -> Result<Customer, Problem> {
    found(app, headers).await?.ok_or_else(|| Problem::elsewhere("/my"))
}

fn end(app: &App, session: &Session, subject: u64, why: &str) -> Result<(), Problem> {
    let facts = json!({
        "session_id": session.id, "user_id": "customer", "logout_timestamp": app.now().rfc3339(),
        "reason_category": why,
    });
    recorded_about(app, "SESSION_ENDED", facts, subject).map(drop)
}

/// The own history of who is in; else the way in.
pub(crate) async fn page(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    reach(&app)?;
    let below = Params::read(query.as_deref(), &["below"])?.number("below", 0, u64::MAX)?;
    let Some(customer) = found(&app, &headers).await? else {
        return html(&In { head: Head::default(), asked: false, token: String::new() });
    };
    blocking(&app, move |app| {
        let retention = app.parts.guard.retention()?;
        let granted = app.parts.guard.own_history(&customer.purpose("own-history"), below, PAGE)?;
        let access = granted.access();
        let page = granted.into_inner();
        let (looks, lines): (Vec<&Shown>, Vec<&Shown>) =
            page.lines.iter().partition(|line| line.kind == "SUBJECT_SEEN");
        html(&Own {
            head: Head::default(),
            form_token: customer.session.form_token.clone(),
            looks: looks.into_iter().map(look).collect(),
            lines: lines.iter().map(|shown| own_line(shown, &retention)).collect(),
            all: page.all,
            size: app.size(),
            mirrored: app.parts.mirrors.mirrored(),
            access,
            next_below: page.next_below,
        })
    })
    .await
}

fn look(shown: &Shown) -> LookLine {
    let said = |name: &str| shown.record[name].as_str().unwrap_or_default().to_owned();
    let roles: Vec<String> = shown.record["roles"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|role| role.replace('_', " "))
        .collect();
    LookLine {
        at: readable(&shown.at),
        role: if roles.is_empty() { "staff".to_owned() } else { roles.join(", ") },
        purpose: said("purpose"),
        entries: shown.record["entries"].as_u64().unwrap_or(0),
        words: said("words"),
    }
}

/// An entry as the person it is about reads it; of one whose time has ended, by which rule.
fn own_line(shown: &Shown, retention: &Retention) -> Line {
    let mut line = line(shown);
    line.fields.retain(|(name, _)| !INWARD.contains(&name.as_str()));
    if line.personal == "personal content shown" {
        line.personal = "";
    }
    if matches!(shown.personal, reads::shown::PersonalState::Ended) {
        let days = ClassId::by_name(&shown.class).and_then(|class| retention.days(class));
        let kept =
            days.map(|days| format!("what it said was kept for {days} days, as {} is, and destroyed", shown.class));
        line.fields.extend(kept.map(|kept| ("ended".to_owned(), kept.replace('_', " "))));
    }
    line
}

/// Takes an address and says the same whatever becomes of it.
pub(crate) async fn ask(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    reach(&app)?;
    let fields = form(&app, &headers, body).await?;
    let given = field(&fields, "address", 320)?;
    let held = people(&app)?;
    let address = normalise(IdentifierType::Address, &given);
    let who = (held.store.short("own", &address.to_lowercase()), held.store.short("own-from", &peer.0.to_string()));
    if let Err(wait_ms) = held.guess(who.0, who.1, app.now().0) {
        let seconds = u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX);
        let detail = "links were asked for too often: wait a while, longer after each";
        return Err(Problem::later(StatusCode::TOO_MANY_REQUESTS, detail).after(seconds));
    }
    // Beyond the bound nothing is sent, and that is not told either: a known address takes longer than an unknown one.
    if let Ok(place) = Arc::clone(&held.asked).try_acquire_owned() {
        let (worker, sending) = (Arc::clone(&app), Arc::clone(&held.sending));
        tokio::spawn(async move {
            let turn = sending.acquire_owned().await;
            // What fails is told to the trail where it can be, and to nobody who asks.
            let _ = tokio::task::spawn_blocking(move || send(&worker, &address)).await;
            drop((turn, place));
        });
    }
    html(&In { head: Head::default(), asked: true, token: String::new() })
}

/// Makes a link for whose address this is, if it is somebody's, and sends it there.
fn send(app: &App, address: &str) -> Result<(), Problem> {
    let (reach, people) = (reach(app)?, people(app)?);
    let of = Of::Person(IdentifierType::Address, address.to_owned());
    let Some(subject) = app.parts.guard.subject_of(&of)? else { return Ok(()) };
    let token = stored(people.store.make_own_link(subject, app.now().0 + LINK_MS))?;
    let about = |outcome: &str| json!({"outcome": outcome, "recipient": address});
    recorded_about(app, "SIGN_IN_LINK", about("issued"), subject)?;
    let text = format!(
        "Somebody, we hope you, asked to see what is kept about you here. This link opens it once, within 15 minutes:\n\n\
         {}/my/open/{token}\n\n\
         If it was not you, leave this mail alone: without the link nobody sees anything.\n",
        reach.url
    );
    if reach.post.send(address, "Your own history", &text).is_err() {
        recorded_about(app, "SIGN_IN_LINK", about("not_sent"), subject)?;
    }
    Ok(())
}

fn gone() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-link",
        "this link does not open: it was used, has ended, or a newer one took its place: ask for another",
    )
}

/// Looking at a link uses nothing up, since scanners of mail follow links.
pub(crate) async fn link(State(app): State<Arc<App>>, Path(token): Path<String>) -> Result<Response, Problem> {
    reach(&app)?;
    let looked = token.clone();
    off(&app, move |app, people| stored(people.store.own_link(&looked, app.now().0))?.ok_or_else(gone).map(drop))
        .await?;
    html(&In { head: Head::default(), asked: false, token })
}

pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    reach(&app)?;
    form(&app, &headers, body).await?;
    let from = from(&headers, peer);
    off(&app, move |app, people| {
        let subject = stored(people.store.own_link(&token, app.now().0))?.ok_or_else(gone)?;
        if app.parts.guard.own_subjects(subject)?.is_empty() || !stored(people.store.use_link(&token))? {
            return Err(gone());
        }
        let person = format!("customer-{subject}");
        let place = from.place(app);
        let how = How::by("link");
        let (token, session) = fresh_session(app, people, (person, Some(subject)), &how, (&from, place.as_ref()));
        let facts = started(app, &session, ("customer", place.as_ref()));
        recorded_about(app, "SESSION_STARTED", facts, subject)?;
        let older = stored(people.store.rows_of(&session.person))?;
        for (row, old) in older.iter().skip(access::store::SESSIONS_MAX - 1) {
            end(app, old, subject, "too_many")?;
            stored(people.store.end_row(row))?;
        }
        stored(people.store.put_session(&token, &session))?;
        let set = super::cookie(app, COOKIE, &token, Some(SESSION_MS / 1000));
        Ok((StatusCode::SEE_OTHER, [(header::LOCATION, "/my".to_owned()), (header::SET_COOKIE, set)]).into_response())
    })
    .await
}

/// The form of a customer who is in.
async fn own_form(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Customer, Problem> {
    let fields = form(app, headers, body).await?;
    let customer = signed_in(app, headers).await?;
    super::check_token(&fields, &customer.session)?;
    Ok(customer)
}

pub(crate) async fn out(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let customer = own_form(&app, &headers, body).await?;
    off(&app, move |app, people| {
        end(app, &customer.session, customer.subject, "signed_out")?;
        stored(people.store.end_session(&customer.token))?;
        let mut answer = to("/my");
        let gone = super::cookie(app, COOKIE, "", Some(0));
        let gone = HeaderValue::from_str(&gone).map_err(|why| crate::problem::internal(&why))?;
        answer.headers_mut().insert(header::SET_COOKIE, gone);
        Ok(answer)
    })
    .await
}

/// Everything as a file, with proofs. By a form, so that no page elsewhere can make a browser fetch it.
pub(crate) async fn file(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let below = Params::read(query.as_deref(), &["below"])?.number("below", 0, u64::MAX)?;
    let customer = own_form(&app, &headers, body).await?;
    blocking(&app, move |app| {
        let file = app.parts.guard.own_file(&customer.purpose("own-file"), below)?.into_inner();
        let text = serde_json::to_vec_pretty(&file).map_err(|why| crate::problem::internal(&why))?;
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"own-history.json\""),
        ];
        Ok((headers, text).into_response())
    })
    .await
}
