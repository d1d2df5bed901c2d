//! Single sign-on: somebody is sent to the provider and comes back with a word from it.
//!
//! What the provider says is checked by who hands in the [`Provider`]; here is who comes by it. An account is made when
//! somebody comes first whom the provider gives a role here; its roles are the provider's word at each coming. It is never
//! joined with an account that was there before: an address at a provider is no proof of an account here.

use std::sync::Arc;

use access::role::Role;
use access::store::{Alias, Person, Session};
use access::user::{self, CHANGED, Change, INVITED, REGISTER, Standing, changed};
use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    From, How, Peer, People, begin_session, end_sessions, from, held_token, html, off, people, sign_in, site_cookie,
    stored,
};
use crate::app::{App, Limits};
use crate::body::{self, Share};
use crate::lock;
use crate::problem::Problem;

/// For the way to the provider and back.
const SENT_MS: u64 = 10 * 60_000;
/// What the cookie is sealed for.
const CARRIED: &str = "sso";
/// Answers of the provider that are waited for at once.
pub(super) const ASKING_MAX: usize = 4;
/// Bytes of what a provider sends when somebody signed out there.
const LOGOUT_BYTES_MAX: usize = 16 << 10;
/// Name of the cookie that ties the way back to the browser that was sent.
const COOKIE: &str = "candor_sent";
/// Under whose name a provider's word changes an account.
const ACTOR: &str = "single-sign-on";

/// Where somebody is sent, and what must come back.
#[derive(Clone, Serialize, Deserialize)]
pub struct Begun {
    /// Address at the provider.
    pub url: String,
    /// What comes back with them.
    pub state: String,
    /// What the provider puts into its word.
    pub nonce: String,
    /// What proves that we sent them (RFC 7636).
    pub verifier: String,
}

/// Whom the provider says that it is.
#[derive(Clone)]
pub struct Identity {
    /// The provider and its name for them: this alone says who it is.
    pub subject: String,
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Roles here, as the configuration makes them of the provider's word; empty: none.
    pub roles: Vec<Role>,
    /// Whether it says that a second factor was asked for.
    pub second_factor: bool,
    /// What it calls the session.
    pub session: Option<String>,
}

/// Who signed out at the provider.
#[derive(Clone)]
pub struct LoggedOut {
    /// As in [`Identity::subject`].
    pub subject: Option<String>,
    /// One session; all of them, where none is named.
    pub session: Option<String>,
}

/// Why nobody comes in by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The provider can't be reached, or does not answer as one.
    Unreachable,
    /// Its word does not hold.
    NotTrue,
    /// It does not say what is needed: an address.
    NoAddress,
}

/// A provider of single sign-on. It may block.
pub trait Provider: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// Where to send somebody.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`].
    fn begin(&self) -> Result<Begun, Refusal>;

    /// Who came back with a code.
    ///
    /// # Errors
    /// See [`Refusal`].
    fn finish(&self, code: &str, begun: &Begun) -> Result<Identity, Refusal>;

    /// Who signed out there, by its signed word (OpenID Connect Back-Channel Logout 1.0).
    ///
    /// # Errors
    /// See [`Refusal`].
    fn logged_out(&self, token: &str) -> Result<LoggedOut, Refusal>;
}

/// Somebody on the way. They carry it themselves, sealed: strangers who set out and do not come back cost no memory.
#[derive(Serialize, Deserialize)]
struct Sent {
    begun: Begun,
    until_ms: u64,
}

fn provider(app: &App) -> Result<&Arc<dyn Provider>, Problem> {
    app.parts.provider.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-provider", "this server was started without single sign-on")
    })
}

fn sentence(why: Refusal) -> &'static str {
    match why {
        Refusal::Unreachable => "Single sign-on can't be reached now: try again in a moment.",
        Refusal::NotTrue => "What came back from single sign-on does not hold: try again from this page.",
        Refusal::NoAddress => "Single sign-on gives no address for you: whoever runs it must let this site have it.",
    }
}

/// One of few that wait for the provider at once: a slow one takes no threads from others.
async fn turn(asking: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
    let busy = || Problem::later(StatusCode::SERVICE_UNAVAILABLE, "too many people sign in at once: try again");
    Arc::clone(asking).try_acquire_owned().map_err(|_| busy())
}

pub(crate) async fn begin(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    provider(&app)?;
    let _turn = turn(&people(&app)?.asking).await?;
    off(&app, |app, people| {
        let begun = match provider(app)?.begin() {
            Ok(begun) => begun,
            Err(why) => return sign_in::answer(app, StatusCode::BAD_GATEWAY, String::new(), sentence(why)),
        };
        let url = begun.url.clone();
        let begun = Begun { url: String::new(), ..begun };
        let sent = stored(people.store.carried(CARRIED, &Sent { begun, until_ms: app.now().0 + SENT_MS }))?;
        let set = site_cookie(app, (COOKIE, "Lax"), &sent, Some(SENT_MS / 1000));
        Ok((StatusCode::SEE_OTHER, [(header::LOCATION, url), (header::SET_COOKIE, set)]).into_response())
    })
    .await
}

/// They are in: a page, since a browser does not bring a strict cookie along a way that began at another site.
#[derive(Template)]
#[template(path = "people/signed_in.html")]
struct SignedInPage;

pub(crate) async fn back(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    provider(&app)?;
    let query = query.unwrap_or_default();
    let field = |wanted: &str| {
        let mut fields = form_urlencoded::parse(query.as_bytes());
        fields.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let (state, code) = (field("state"), field("code"));
    let from = from(&headers, peer);
    // Only the browser that was sent has the cookie: nobody is signed in as somebody else by a link.
    let held = held_token(&headers, super::cookie_of(&app, COOKIE)).unwrap_or_default();
    let sent: Option<Sent> = people(&app)?.store.brought(CARRIED, &held).ok();
    let own = |sent: &Sent| sent.until_ms > app.now().0 && access::same(sent.begun.state.as_bytes(), state.as_bytes());
    let Some(Sent { begun, .. }) = sent.filter(own) else {
        return sign_in::answer(&app, StatusCode::FORBIDDEN, String::new(), sentence(Refusal::NotTrue));
    };
    if code.is_empty() {
        let said = "Single sign-on did not let you in.";
        return sign_in::answer(&app, StatusCode::FORBIDDEN, String::new(), said);
    }
    let _turn = turn(&people(&app)?.asking).await?;
    off(&app, move |app, people| {
        // Counted by where from alone: whom a code is of is not known yet.
        let who = [people.store.short("sso", &begun.state), people.store.short("from", &from.address)];
        if let Err(wait_ms) = people.guess(who[0], who[1], app.now().0) {
            return sign_in::wait(app, wait_ms);
        }
        let said = provider(app)?.finish(&code, &begun);
        if !matches!(said, Err(Refusal::NotTrue)) {
            people.guessed_right(who[0], who[1]);
        }
        let identity = match said {
            Ok(identity) => identity,
            Err(why) => {
                let status = if why == Refusal::Unreachable { StatusCode::BAD_GATEWAY } else { StatusCode::FORBIDDEN };
                return sign_in::answer(app, status, String::new(), sentence(why));
            }
        };
        come_in(app, people, identity, &from)
    })
    .await
}

/// Lets in whom the provider names, as what it says.
fn come_in(app: &App, people: &People, identity: Identity, from: &From) -> Result<Response, Problem> {
    let _turn = people.changing();
    let refused = |said: &'static str| sign_in::answer(app, StatusCode::FORBIDDEN, String::new(), said);
    let known = stored(people.store.known_as(Alias::Provider, &identity.subject))?;
    if identity.roles.is_empty() {
        // Who had roles has none any more, also where they are signed in still.
        if let Some(user) = known.and_then(|id| people.user(&id)).filter(|user| !user.roles.is_empty()) {
            let mut facts = changed(&user.id, Change::Roles, ACTOR);
            facts["roles"] = json!([]);
            super::change(app, people, CHANGED, facts)?;
            end_sessions(app, people, &user.id, (|_: &Session| true, "suspended"))?;
        }
        return refused("Single sign-on knows you, but gives you no role here: ask whoever runs it.");
    }
    let id = match known {
        Some(id) => id,
        None => {
            if stored(people.store.person_at(&identity.address))?.is_some() {
                return refused(
                    "There is an account with your address and a password: an administrator ends it before you come by single sign-on.",
                );
            }
            make(app, people, &identity)?
        }
    };
    let Some(user) = people.user(&id).filter(|user| user.standing == Standing::Active) else {
        return refused("This account was suspended or has ended here.");
    };
    if stored(people.store.person(&id))?.is_none() {
        // The first coming was cut off.
        keep(people, &id, &identity)?;
    }
    let mut said = identity.roles.clone();
    said.sort();
    let mut held = user.roles.clone();
    held.sort();
    if said != held {
        let mut facts = changed(&id, Change::Roles, ACTOR);
        facts["roles"] = Role::names(&identity.roles).into();
        super::change(app, people, CHANGED, facts)?;
    }
    let how = How { method: "sso", second_factor: identity.second_factor, provider_session: identity.session.clone() };
    // Before the session: there is none that its provider can't end.
    if let Some(session) = &identity.session {
        stored(people.store.put_alias(Alias::ProviderSession, session, &id))?;
    }
    let set = begin_session(app, people, &id, (&how, from))?;
    let mut page = html(&SignedInPage)?;
    let gone = site_cookie(app, (COOKIE, "Lax"), "", Some(0));
    for set in [set, gone] {
        let value = set.parse().map_err(|_| crate::problem::internal(&"a cookie is none"))?;
        page.headers_mut().append(header::SET_COOKIE, value);
    }
    Ok(page)
}

/// An account of whom the provider gives a role, in one step of the trail.
fn make(app: &App, people: &People, identity: &Identity) -> Result<String, Problem> {
    let id = user::id(&people.store.fresh());
    let invited = json!({
        "register": REGISTER, "user_id": id, "roles": Role::names(&identity.roles), "actor": ACTOR,
        "name": identity.name, "email": identity.address,
    });
    let activated = changed(&id, Change::Activated, ACTOR);
    crate::changes::record(app, vec![(INVITED, invited.clone(), None), (CHANGED, activated.clone(), None)])?;
    let mut users = lock::write(&people.users);
    users.apply(INVITED, &invited);
    users.apply(CHANGED, &activated);
    drop(users);
    // One that was cut off before this is made anew, and the old one opens nothing.
    stored(people.store.put_alias(Alias::Provider, &identity.subject, &id))?;
    keep(people, &id, identity)?;
    Ok(id)
}

/// Keeps who somebody is.
fn keep(people: &People, id: &str, identity: &Identity) -> Result<(), Problem> {
    let person = Person::invited(id.to_owned(), identity.address.clone(), identity.name.clone());
    stored(people.store.put(&Person { sso: true, ..person }))
}

pub(crate) async fn logout(State(app): State<Arc<App>>, body: Body) -> Result<Response, Problem> {
    provider(&app)?;
    let limits = Limits { body_bytes_max: LOGOUT_BYTES_MAX, ..app.parts.limits };
    let bytes = body::read(body, &mut Share::new(&app.bodies), &limits).await?;
    let token =
        form_urlencoded::parse(&bytes).find(|(name, _)| name == "logout_token").map(|(_, token)| token.into_owned());
    let token = token.ok_or_else(|| Problem::bad("the form must have a logout_token"))?;
    let _turn = turn(&people(&app)?.leaving).await?;
    off(&app, move |app, people| {
        let out = match provider(app)?.logged_out(&token) {
            Ok(out) => out,
            Err(Refusal::Unreachable) => {
                return Err(Problem::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the provider can't be asked for its keys",
                ));
            }
            Err(_) => return Err(Problem::bad("the logout token does not hold")),
        };
        let by = |alias, text: &Option<String>| match text {
            Some(text) => stored(people.store.known_as(alias, text)),
            None => Ok(None),
        };
        let person = match by(Alias::Provider, &out.subject)? {
            Some(person) => Some(person),
            None => by(Alias::ProviderSession, &out.session)?,
        };
        if let Some(person) = person {
            let _turn = people.changing();
            let which = |held: &Session| match &out.session {
                Some(session) => held
                    .provider_session
                    .as_ref()
                    .map_or(held.method == "sso" && out.subject.is_some(), |held| held == session),
                None => held.method == "sso",
            };
            end_sessions(app, people, &person, (which, "signed_out"))?;
        }
        // Whether there was such a session is nobody's to know.
        Ok(StatusCode::OK.into_response())
    })
    .await
}
