//! People at their pages: who is signed in, and that it is them who ask.
//!
//! Owns the cookie, the forms and their tokens, and what of a session stands in the trail. Passwords, codes and links are
//! `access`'s; what somebody may see is decided by the policies in `reads`.
//!
//! Invariants:
//! - a session's token is random, given once, kept as a keyed hash, and new after each step of signing in;
//! - a form changes or shows nothing unless it came from this site and carries its session's token;
//! - what is asked about a person is sent in a form's body: no address of a page names anybody.

mod account;
mod cases;
mod changes;
mod explain;
mod grants;
mod hashing;
mod join;
mod keys;
mod look;
mod own;
pub(crate) mod passkeys;
mod proof_steps;
mod reviews;
mod sessions;
mod sign_in;
mod sso;
pub(crate) mod users;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, RwLock};

use access::backoff::Backoff;
use access::breached::List;
use access::role::Role;
use access::store::{Session, Store};
use access::user::{Standing, User, Users};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use proof::time::UnixMillis;
use reads::decide::Purpose;
use serde_json::Value;
use tokio::sync::Semaphore;

use self::hashing::Hashing;
pub use self::own::{Post, Reach};
use self::sessions::{
    COOKIE, From, How, begin, begin_session, end_sessions, found, fresh_session, from, record_end, signed_in, started,
};
pub use self::sso::{Begun, Identity, LoggedOut, Provider, Refusal as NotLetIn};
use crate::app::{App, Limits};
use crate::body::{self, Share};
use crate::lock;
use crate::problem::Problem;

/// Bytes of a form, at most.
const FORM_BYTES_MAX: usize = 16 << 10;
/// Wrong guesses at somebody that cost no wait.
const FREE_AT: u32 = 5;
/// Wrong guesses from somewhere that cost no wait.
const FREE_FROM: u32 = 50;
/// Links that wait to be sent, at most.
const ASKED_MAX: usize = 512;
/// Links that are sent to customers at once.
const SENDING_MAX: usize = 8;

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What the pages of people need.
pub struct People {
    /// Credentials, sessions, links.
    pub store: Store,
    users: RwLock<Users>,
    /// Wrong guesses at somebody, and from somewhere: behind one address may be a whole office.
    at: Mutex<Backoff>,
    from: Mutex<Backoff>,
    changing: Mutex<()>,
    hashing: Hashing,
    sending: Arc<Semaphore>,
    asked: Arc<Semaphore>,
    /// Who gave a right password and is asked for a code, by the token of the form; for five minutes.
    pending: Mutex<HashMap<String, sign_in::Pending>>,
    /// Answers of the provider of single sign-on that are waited for at once: of who signs in, and of who signed out there.
    asking: Arc<Semaphore>,
    leaving: Arc<Semaphore>,
    /// Sessions of whom a rule ended, and from before when.
    ended: EndedBefore,
    /// Passwords that nobody takes any more.
    breached: Option<Arc<List>>,
}

/// Sessions that a rule ended: of whom, and those that began before when (milliseconds). Told to many threads.
pub type EndedBefore = Arc<Mutex<HashMap<String, u64>>>;

impl People {
    /// People as the trail and the store know them; `begin` is what each thread that hashes does first.
    pub fn new(store: Store, users: Users, ended: EndedBefore, breached: Option<List>, begin: fn()) -> People {
        People {
            store,
            users: RwLock::new(users),
            at: Mutex::new(Backoff::new(FREE_AT)),
            from: Mutex::new(Backoff::new(FREE_FROM)),
            changing: Mutex::default(),
            hashing: Hashing::new(begin),
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
            asked: Arc::new(Semaphore::new(ASKED_MAX)),
            pending: Mutex::default(),
            asking: Arc::new(Semaphore::new(sso::ASKING_MAX)),
            leaving: Arc::new(Semaphore::new(sso::ASKING_MAX)),
            ended,
            breached: breached.map(Arc::new),
        }
    }

    /// Looks at who works here.
    pub fn users<T>(&self, look: impl FnOnce(&Users) -> T) -> T {
        look(&lock::read(&self.users))
    }

    /// Counts a guess at this number from there, before it is looked at: how many in a row, or how many milliseconds
    /// until one is looked at again.
    fn guess(&self, at: u64, from: u64, now_ms: u64) -> Result<u32, u64> {
        let mut held_at = lock::held(&self.at);
        let mut held_from = lock::held(&self.from);
        match held_at.wait_ms(at, now_ms).max(held_from.wait_ms(from, now_ms)) {
            0 => {
                held_from.guess(from, now_ms);
                Ok(held_at.guess(at, now_ms))
            }
            wait_ms => Err(wait_ms),
        }
    }

    /// The guess was right.
    fn guessed_right(&self, at: u64, from: u64) {
        lock::held(&self.at).right(at);
        lock::held(&self.from).take_back(from);
    }

    /// Held while an account is read, changed and written, and while a session begins: nothing old is written back, and
    /// nobody comes in by what was just changed.
    pub(crate) fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        lock::held(&self.changing)
    }

    pub(crate) fn user(&self, id: &str) -> Option<User> {
        lock::read(&self.users).get(id).cloned()
    }
}

impl App {
    /// Tells the reads who works here, so that a look at a colleague is told apart.
    pub fn know_staff(&self) {
        let Some(people) = &self.parts.people else { return };
        let users: Vec<String> = lock::read(&people.users)
            .iter()
            .filter(|user| user.standing != Standing::Ended)
            .map(|user| user.id.clone())
            .collect();
        let known = users.into_iter().filter_map(|id| {
            let person = people.store.person(&id).ok().flatten()?;
            Some((id, person.address)).filter(|(_, address)| !address.is_empty())
        });
        // What can't be read now is read with the next look.
        let _ = self.parts.guard.know_staff(known);
    }
}

/// The paths of people.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/sign-in", get(sign_in::page).post(sign_in::password))
        .route("/sign-in/code", post(sign_in::code))
        .route("/sign-in/passkey", post(passkeys::ask))
        .route("/sign-in/passkey/open", post(passkeys::open))
        .route("/account/passkeys", post(passkeys::add))
        .route("/account/passkeys/added", post(passkeys::added))
        .route("/account/passkeys/remove", post(passkeys::remove))
        .route("/sign-in/sso", get(sso::begin))
        .route("/sign-in/sso/back", get(sso::back))
        .route("/sign-in/sso/logout", post(sso::logout))
        .route("/sign-out", post(sign_in::out))
        .route("/join/{token}", get(join::page).post(join::take))
        .route("/account", get(account::page))
        .route("/account/second-factor", post(account::second_factor))
        .route("/account/second-factor/confirm", post(account::confirm))
        .route("/account/second-factor/remove", post(account::remove))
        .route("/account/sessions/end", post(account::end_session))
        .route("/users", get(users::page))
        .route("/users/invite", post(users::invite))
        .route("/users/change", post(users::change))
        .route("/keys", get(keys::page).post(keys::make))
        .route("/keys/change", post(keys::change))
        .route("/changes", get(changes::page).post(changes::decide))
        .route("/changes/settings", post(changes::propose_settings))
        .route("/grants", get(grants::page).post(grants::create))
        .route("/grants/revoke", post(grants::revoke))
        .route("/my", get(own::page))
        .route("/my/link", post(own::ask))
        .route("/my/open/{token}", get(own::link).post(own::open))
        .route("/my/file", post(own::file))
        .route("/my/sign-out", post(own::out))
        .route("/reviews", get(reviews::page).post(reviews::sign))
        .route("/cases", get(cases::page).post(cases::step))
        .route("/policy", get(explain::page).post(explain::ask))
        .route("/look", get(look::page))
        .route("/look/history", post(look::history))
        .route("/look/search", post(look::search))
        .route("/look/entry", post(look::entry))
        .layer(axum::middleware::map_response(as_page))
}

/// Problems as a page: a person reads them.
pub(crate) async fn as_page(response: Response) -> Response {
    let is_problem =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    if !is_problem {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, FORM_BYTES_MAX).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let list = |name: &str| -> Vec<String> {
        let texts = problem[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(|text| text.replace('_', " ")).collect()
    };
    let page = Refusal {
        head: Head::default(),
        title: if parts.status == StatusCode::FORBIDDEN { "This may not be shown" } else { "That did not work" },
        detail: problem["detail"].as_str().unwrap_or_default().to_owned(),
        instead: list("instead"),
        roles: list("roles"),
        request: problem["request_id"].as_str().unwrap_or_default().to_owned(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let text = askama::Template::render(&page).unwrap_or_else(|_| page.detail.clone());
    (parts, text).into_response()
}

#[derive(askama::Template)]
#[template(path = "people/refusal.html")]
struct Refusal {
    head: Head,
    title: &'static str,
    detail: String,
    instead: Vec<String>,
    roles: Vec<String>,
    request: String,
}

/// Somebody who is signed in.
pub(crate) struct SignedIn {
    token: String,
    session: Session,
    user: User,
}

impl SignedIn {
    /// Who reads, and why.
    fn purpose(&self, purpose: &str, reason: &str, command: &'static str) -> Purpose {
        Purpose {
            actor: self.user.id.clone(),
            roles: self.user.roles.clone(),
            second_factor: matches!(self.session.method.as_str(), "mfa" | "passkey") || self.session.second_factor,
            own: Vec::new(),
            session: Some(self.session.id.clone()),
            purpose: purpose.to_owned(),
            justification: Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty()),
            command,
        }
    }

    fn is(&self, role: Role) -> bool {
        self.user.roles.contains(&role)
    }

    /// What the head of each page shows.
    fn head(&self) -> Head {
        Head {
            signed_in: true,
            administrator: self.is(Role::Administrator),
            changes: [Role::Administrator, Role::ComplianceOfficer, Role::Legal, Role::Management]
                .iter()
                .any(|role| self.is(*role)),
            reviews: self.is(Role::Management) || self.is(Role::ComplianceOfficer),
            cases: self.is(Role::ComplianceOfficer) || self.is(Role::Security),
            form_token: self.session.form_token.clone(),
        }
    }
}

/// What the head of a page shows.
#[derive(Debug, Clone, Default)]
struct Head {
    signed_in: bool,
    administrator: bool,
    changes: bool,
    reviews: bool,
    cases: bool,
    form_token: String,
}

fn people(app: &App) -> Result<&Arc<People>, Problem> {
    app.parts.people.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-people", "this server was started without accounts for people")
    })
}

/// A cookie's name here. Behind TLS the browser itself holds it to this host, path and transport.
fn cookie_of(app: &App, name: &str) -> String {
    if app.parts.secure { format!("__Host-{name}") } else { name.to_owned() }
}

fn cookie(app: &App, name: &str, token: &str, seconds: Option<u64>) -> String {
    site_cookie(app, (name, "Strict"), token, seconds)
}

/// A cookie, and from which sites it comes back: one that is Lax comes with a link from elsewhere.
fn site_cookie(app: &App, (name, site): (&str, &str), token: &str, seconds: Option<u64>) -> String {
    let secure = if app.parts.secure { "; Secure" } else { "" };
    let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    format!("{}={token}; HttpOnly; SameSite={site}; Path=/{secure}{age}", cookie_of(app, name))
}

fn held_token(headers: &HeaderMap, wanted: String) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut parts = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    parts.find(|(name, _)| *name == wanted).map(|(_, token)| token.to_owned())
}

fn to(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

fn html(page: &impl askama::Template) -> Result<Response, Problem> {
    Ok(Html(page.render().map_err(|why| crate::problem::internal(&why))?).into_response())
}

/// Runs work on the store where it may block.
async fn off<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App, &People) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (app, people) = (Arc::clone(app), Arc::clone(people(app)?));
    tokio::task::spawn_blocking(move || work(&app, &people)).await.map_err(|why| crate::problem::internal(&why))?
}

/// Somebody by name and id; what is no person, by its id.
fn named(people: &People, id: &str) -> Result<String, Problem> {
    Ok(stored(people.store.person(id))?.map_or_else(|| id.to_owned(), |person| format!("{} ({id})", person.name)))
}

fn stored<T>(result: Result<T, access::store::StoreError>) -> Result<T, Problem> {
    result.map_err(|why| crate::problem::internal(&why))
}

/// Records one thing of Candor's own.
fn recorded(app: &App, kind: &'static str, facts: Value) -> Result<u64, Problem> {
    durable(app.parts.submit.own(kind, facts))
}

/// The same of a thing that is about a customer.
fn recorded_about(app: &App, kind: &'static str, facts: Value, subject: u64) -> Result<u64, Problem> {
    durable(app.parts.submit.own_about(kind, facts, Some(subject)))
}

fn durable(recorded: Result<u64, String>) -> Result<u64, Problem> {
    recorded.map_err(|_| {
        Problem::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "this could not be recorded, so it was not done: try again, or look at the server's log",
        )
    })
}

/// Records an invitation or a change of somebody's account, then lets it take effect.
fn change(app: &App, people: &People, kind: &'static str, facts: Value) -> Result<(), Problem> {
    recorded(app, kind, facts.clone())?;
    lock::write(&people.users).apply(kind, &facts);
    Ok(())
}

/// The fields of a form that came from a page of this site.
async fn form(app: &App, headers: &HeaderMap, body: Body) -> Result<HashMap<String, String>, Problem> {
    let refused = || {
        Problem::new(
            StatusCode::FORBIDDEN,
            "other-site",
            "this form did not come from a page of this site: open the page again",
        )
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return Err(refused());
    }
    if let Some(origin) = text("origin") {
        // By its host alone: behind a proxy that encrypts, the scheme that a browser speaks is not known here.
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if host.is_none() || host != text("host") {
            return Err(refused());
        }
    }
    // A form's own bound, so that strangers' forms take no room from records.
    let limits = Limits { body_bytes_max: FORM_BYTES_MAX, ..app.parts.limits };
    let bytes = body::read(body, &mut Share::new(&app.bodies), &limits).await?;
    let fields = form_urlencoded::parse(&bytes).map(|(name, value)| (name.into_owned(), value.into_owned()));
    let mut held: HashMap<String, String> = HashMap::new();
    for (name, value) in fields {
        // A name that stands again is one of several choices.
        held.entry(name).and_modify(|held| *held = format!("{held} {value}")).or_insert(value);
    }
    Ok(held)
}

/// The same of somebody who is signed in: it must carry their session's token.
async fn own_form(
    app: &Arc<App>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(SignedIn, HashMap<String, String>), Problem> {
    let fields = form(app, headers, body).await?;
    let signed_in = signed_in(app, headers).await?;
    check_token(&fields, &signed_in.session)?;
    Ok((signed_in, fields))
}

/// Whether a form is of this session.
fn check_token(fields: &HashMap<String, String>, session: &Session) -> Result<(), Problem> {
    let given = fields.get("form_token").map(String::as_str).unwrap_or_default();
    if access::same(given.as_bytes(), session.form_token.as_bytes()) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "form", "this form is of another session: open the page again"))
}

/// A field that must be there, trimmed, of at most so many characters.
fn field(fields: &HashMap<String, String>, name: &str, chars_max: usize) -> Result<String, Problem> {
    let text = fields.get(name).map(|text| text.trim().to_owned()).unwrap_or_default();
    let count = text.chars().count();
    if count == 0 || count > chars_max || text.chars().any(char::is_control) {
        return Err(Problem::bad(format!("{} must have 1 to {chars_max} characters", name.replace('_', " "))));
    }
    Ok(text)
}

fn time(at_ms: u64) -> String {
    readable(&UnixMillis(at_ms).rfc3339())
}

/// A time as people read it: to the second, in UTC.
fn readable(time: &str) -> String {
    match (time.get(..10), time.get(11..19)) {
        (Some(day), Some(hour)) => format!("{day} {hour} UTC"),
        _ => time.to_owned(),
    }
}
