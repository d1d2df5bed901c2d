//! Sessions of people: how one begins, what is told of it, who is signed in by it, how it ends.

use std::sync::Arc;

use access::place::{Place, Seen};
use access::store::Session;
use access::user::Standing;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Peer, People, SignedIn, cookie, cookie_of, held_token, off, recorded, stored};
use crate::app::App;
use crate::lock;
use crate::problem::Problem;

/// A session that is not used for so long is over.
const IDLE_MS: u64 = 30 * 60_000;
/// So is one that is so old.
const SESSION_MS: u64 = 12 * 3_600_000;
/// The time of last use is kept to this.
pub(super) const SEEN_MS: u64 = 60_000;
/// An account that was not used for so long is dormant: sixty days.
const DORMANT_MS: u64 = 60 * 86_400_000;
/// Name of the cookie of people's sessions.
pub(super) const COOKIE: &str = "candor_session";

/// Records that a session ended.
pub(super) fn record_end(app: &App, session: &Session, why: &str) -> Result<(), Problem> {
    let facts = json!({
        "session_id": session.id, "user_id": session.person, "logout_timestamp": app.now().rfc3339(),
        "reason_category": why,
    });
    recorded(app, "SESSION_ENDED", facts).map(drop)
}

/// Ends sessions of somebody: each end is recorded before it is one.
pub(super) fn end_sessions(
    app: &App,
    people: &People,
    person: &str,
    (which, why): (impl Fn(&Session) -> bool, &str),
) -> Result<(), Problem> {
    for (row, session) in stored(people.store.rows_of(person))?.iter().filter(|(_, session)| which(session)) {
        record_end(app, session, why)?;
        stored(people.store.end_row(row))?;
    }
    Ok(())
}

/// A session that begins now, and its token.
pub(super) fn fresh_session(
    app: &App,
    people: &People,
    (person, subject): (String, Option<u64>),
    how: &How,
    (from, place): (&From, Option<&Place>),
) -> (String, Session) {
    let now = app.now().0;
    let session = Session {
        id: format!("s-{}", proof::encoding::hex(&people.store.fresh::<8>())),
        person,
        subject,
        method: how.method.to_owned(),
        second_factor: how.second_factor,
        provider_session: how.provider_session.clone(),
        started_ms: now,
        seen_ms: now,
        form_token: proof::encoding::hex(&people.store.fresh::<16>()),
        address: from.address.clone(),
        place: place.map(|place| place.name.clone()),
        agent: from.agent.clone(),
    };
    (proof::encoding::hex(&people.store.fresh::<32>()), session)
}

/// The facts of a SESSION_STARTED record, whoever it is of.
pub(super) fn started(app: &App, session: &Session, (user, place): (&str, Option<&Place>)) -> Value {
    let mut facts = json!({
        "session_id": session.id, "user_id": user, "login_timestamp": app.now().rfc3339(),
        "login_method": session.method, "ip_address": session.address, "user_agent": session.agent,
    });
    if let Some(place) = place {
        facts["geographic_location"] = place.name.as_str().into();
        if let Some(country) = &place.country {
            facts["country"] = country.as_str().into();
        }
    }
    facts
}

/// Begins a session under a fresh token; the answer that carries its cookie.
pub(super) fn begin(
    app: &App,
    people: &People,
    person: &str,
    method: &'static str,
    from: &From,
) -> Result<Response, Problem> {
    let set = begin_session(app, people, person, (&How::by(method), from))?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, "/look".to_owned()), (header::SET_COOKIE, set)]).into_response())
}

/// The same; the cookie alone.
pub(super) fn begin_session(
    app: &App,
    people: &People,
    person: &str,
    (how, from): (&How, &From),
) -> Result<String, Problem> {
    let place = from.place(app);
    let (token, session) = fresh_session(app, people, (person.to_owned(), None), how, (from, place.as_ref()));
    recorded(app, "SESSION_STARTED", started(app, &session, (person, place.as_ref())))?;
    let older = stored(people.store.sessions_of(person))?;
    let over: Vec<String> = older.into_iter().skip(access::store::SESSIONS_MAX - 1).map(|session| session.id).collect();
    end_sessions(app, people, person, (|held: &Session| over.contains(&held.id), "too_many"))?;
    stored(people.store.put_session(&token, &session))?;
    look_back(app, people, &session, place)?;
    Ok(cookie(app, COOKIE, &token, Some(SESSION_MS / 1000)))
}

/// Tells where an account comes back that nobody had used for long, or is used from where nobody can have come since;
/// keeps when and where it was used last.
fn look_back(app: &App, people: &People, session: &Session, place: Option<Place>) -> Result<(), Problem> {
    let Some(mut person) = stored(people.store.person(&session.person))? else { return Ok(()) };
    let tell = |what: &str| {
        let facts = json!({
            "session_id": session.id, "user_id": session.person, "security_event": what, "response": "told",
            "severity": "warning", "ip_address": session.address,
        });
        recorded(app, "SESSION_SECURITY_EVENT", facts)
    };
    if person.last_in_ms.is_some_and(|last| session.started_ms >= last + DORMANT_MS) {
        tell("dormant_account")?;
    }
    if let Some(point) = place.and_then(|place| place.point) {
        if person.seen.is_some_and(|seen| seen.is_too_far(point, session.started_ms)) {
            tell("impossible_travel")?;
        }
        person.seen = Some(Seen { point, at_ms: session.started_ms });
    }
    person.last_in_ms = Some(session.started_ms);
    stored(people.store.put(&person))
}

/// How somebody signs in.
#[derive(Debug, Clone)]
pub(super) struct How {
    pub(super) method: &'static str,
    /// Whether a provider asked for a second factor.
    pub(super) second_factor: bool,
    /// What a provider calls the session.
    pub(super) provider_session: Option<String>,
}

impl How {
    pub(super) fn by(method: &'static str) -> How {
        How { method, second_factor: false, provider_session: None }
    }
}

/// Where somebody signs in from.
#[derive(Debug, Clone)]
pub(super) struct From {
    pub(super) address: String,
    pub(super) agent: String,
}

impl From {
    /// Where that is, as far as it is known.
    pub(super) fn place(&self, app: &App) -> Option<Place> {
        app.parts.places.of(self.address.parse().ok()?)
    }
}

pub(super) fn from(headers: &HeaderMap, peer: Peer) -> From {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    From { address: peer.0.to_string(), agent: agent.chars().take(200).collect() }
}

/// Who is signed in; else the way to the door.
pub(super) async fn signed_in(app: &Arc<App>, headers: &HeaderMap) -> Result<SignedIn, Problem> {
    found(app, headers).await?.ok_or_else(|| Problem::elsewhere("/sign-in"))
}

/// Who is signed in, if anybody.
pub(super) async fn found(app: &Arc<App>, headers: &HeaderMap) -> Result<Option<SignedIn>, Problem> {
    let Some(token) = held_token(headers, cookie_of(app, COOKIE)) else { return Ok(None) };
    off(app, move |app, people| {
        let Some(mut session) = stored(people.store.session(&token))? else { return Ok(None) };
        if session.subject.is_some() {
            // A customer's: it opens their own pages and nothing here.
            return Ok(None);
        }
        let now = app.now().0;
        let user = people.user(&session.person).filter(|user| user.standing == Standing::Active);
        let over = now >= session.started_ms + SESSION_MS || now >= session.seen_ms + IDLE_MS;
        let suspicious =
            lock::held(&people.ended).get(&session.person).is_some_and(|before| session.started_ms < *before);
        if suspicious {
            let facts = json!({
                "session_id": session.id, "user_id": session.person, "security_event": "suspicious_activity",
                "response": "session_ended", "severity": "warning", "ip_address": session.address,
            });
            recorded(app, "SESSION_SECURITY_EVENT", facts)?;
        }
        let (Some(user), false) = (user, over || suspicious) else {
            let why = if suspicious {
                "suspicious_activity"
            } else if over {
                "expired"
            } else {
                "suspended"
            };
            record_end(app, &session, why)?;
            stored(people.store.end_session(&token))?;
            return Ok(None);
        };
        if now >= session.seen_ms + SEEN_MS {
            session.seen_ms = now;
            stored(people.store.touch_session(&token, &session))?;
        }
        Ok(Some(SignedIn { token, session, user }))
    })
    .await
}
