//! Changes that wait for a second person: what each would do, and the buttons of whoever may decide it.

use std::collections::HashMap;
use std::sync::Arc;

use access::change::{Decision, Proposal, Sort, root};
use access::role::Role;
use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;

use super::users::handed;
use super::{Head, People, SignedIn, field, html, off, own_form, signed_in, time, to};
use crate::app::App;
use crate::changes::{self, barred, waiting};
use crate::lock;
use crate::problem::Problem;
use crate::settings::Settings;

struct Line {
    id: String,
    what: String,
    detail: Vec<(&'static str, String)>,
    proposer: String,
    until: String,
    entry: u64,
    own: bool,
    /// Whether whoever looks may decide it; else why not.
    may: bool,
    refuses: bool,
    barred: &'static str,
}

#[derive(Template)]
#[template(path = "people/changes.html")]
struct Changes {
    head: Head,
    changes: Vec<Line>,
    /// For whom an approval made a link, and the link.
    made: Option<(String, String)>,
    /// Whether it was sent to them instead.
    sent: bool,
    settings: Option<Differing>,
}

/// Settings in the files that do not hold.
struct Differing {
    sha256: String,
    diff: String,
    cut: bool,
    /// Whether a second person is asked; else they hold from the next start on.
    waits: bool,
    /// Whether they wait already.
    proposed: bool,
    /// The entry that approved them.
    approved: Option<u64>,
    /// Why the files cannot be read.
    unread: Option<String>,
}

impl Differing {
    /// How the files differ, for whoever may change them.
    fn of(app: &App) -> Option<Differing> {
        let (settings, unread) = match (app.parts.settings)() {
            Ok(settings) => (settings?, None),
            Err(why) => (Settings { sha256: String::new(), diff: String::new(), cut: false }, Some(why)),
        };
        let held = lock::read(&app.changes);
        let approved = held.approved_settings().filter(|approved| approved.sha256 == settings.sha256);
        Some(Differing {
            waits: changes::waits(app, Sort::Settings),
            proposed: held.iter().any(|held| held.text("settings_sha256") == settings.sha256),
            approved: approved.map(|approved| approved.entry),
            sha256: settings.sha256,
            diff: settings.diff,
            cut: settings.cut,
            unread,
        })
    }
}

/// What a change would do, in words.
fn what(proposal: &Proposal) -> String {
    match proposal.kind.as_str() {
        access::user::INVITED => "Invite somebody".to_owned(),
        access::user::CHANGED => match proposal.text("change") {
            "roles" => "Give somebody other roles".to_owned(),
            "resume" | "resumed" => "Let somebody sign in again".to_owned(),
            "ended" => "End an account".to_owned(),
            "invited" => "Give somebody a new link to sign in".to_owned(),
            "second_factor_removed" => "Take away somebody's second factor".to_owned(),
            other => other.replace('_', " "),
        },
        access::api_key::CREATED if proposal.text("replaces").is_empty() => "Make a key".to_owned(),
        access::api_key::CREATED => "Renew a key".to_owned(),
        access::change::SETTINGS => "Other settings".to_owned(),
        _ => "Give leave to read".to_owned(),
    }
}

/// Fields of a change that are shown, with what they are called.
const SHOWN: [(&str, &str); 19] = [
    ("name", "Name"),
    ("email", "Address"),
    ("user_id", "Account"),
    ("roles", "Roles"),
    ("key_id", "Key"),
    ("scopes", "Scopes"),
    ("bound_sources", "Sources"),
    ("label", "Label"),
    ("replaces", "In the place of"),
    ("grantee", "Who may read"),
    ("kinds", "Kinds"),
    ("fields", "Fields"),
    ("from", "Entries from"),
    ("until", "Entries before"),
    ("justification", "Why"),
    ("expires", "Until"),
    ("change_reference", "Decided under"),
    ("settings_sha256", "SHA-256 of the settings"),
    ("diff", "What changes"),
];

/// How a field's value is shown.
fn words(people: &People, name: &str, value: &Value) -> Result<String, Problem> {
    Ok(match value {
        Value::String(text) if matches!(name, "from" | "until" | "expires") => super::readable(text),
        Value::String(text) if matches!(name, "user_id" | "grantee") => super::named(people, text)?,
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let texts = items.iter().filter_map(Value::as_str);
            texts
                .map(|text| Role::parse(text).map_or_else(|| text.to_owned(), Role::words))
                .collect::<Vec<_>>()
                .join(", ")
        }
        other => other.to_string(),
    })
}

fn show(
    app: &App,
    people: &People,
    who: &SignedIn,
    (made, sent): (Option<(String, String)>, bool),
) -> Result<Response, Problem> {
    let purpose = who.purpose("changes", "", "page-changes");
    let decides = |sort: Sort| app.parts.guard.may_roles(&who.user.roles, sort.action());
    let own = |proposal: &Proposal| root(proposal.proposer(), &lock::read(&app.keys)) == who.user.id;
    let mut visible = waiting(app);
    visible.retain(|proposal| proposal.sort().is_some_and(decides) || own(proposal));
    if let Some(sort) = Sort::ALL.into_iter().find(|sort| decides(*sort)) {
        app.parts.guard.may_see(&purpose, sort.action(), visible.len())?;
    }
    let mut changes = Vec::new();
    for proposal in visible {
        let mut detail = Vec::new();
        for (name, called) in SHOWN {
            // The roles of a grant are those of whoever gives it.
            let of_giver = name == "roles" && proposal.sort() == Some(Sort::Grants);
            if let Some(value) = proposal.record.get(name).filter(|_| !of_giver) {
                detail.push((called, words(people, name, value)?));
            }
        }
        if !proposal.text("customer_id").is_empty() {
            detail.push(("Of whom", format!("one customer: entry {} says who, at Look up", proposal.entry)));
        }
        let why_not = barred(app, &who.user.id, &proposal);
        changes.push(Line {
            what: what(&proposal),
            detail,
            proposer: super::named(people, proposal.proposer())?,
            until: time(proposal.expires.0),
            entry: proposal.entry,
            own: own(&proposal),
            may: proposal.sort().is_some_and(decides) && why_not.is_none(),
            refuses: proposal.sort().is_some_and(decides),
            barred: why_not.unwrap_or("another role decides it"),
            id: proposal.id,
        });
    }
    let settings = if decides(Sort::Settings) { Differing::of(app) } else { None };
    html(&Changes { head: who.head(), changes, made, sent, settings })
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    off(&app, move |app, people| show(app, people, &who, (None, false))).await
}

fn decision(fields: &HashMap<String, String>) -> Result<Decision, Problem> {
    match field(fields, "decision", 16)?.as_str() {
        "approve" => Ok(Decision::Approved),
        "refuse" => Ok(Decision::Refused),
        "withdraw" => Ok(Decision::Withdrawn),
        _ => Err(Problem::bad("decision must be approve, refuse or withdraw")),
    }
}

pub(crate) async fn decide(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (id, decision) = (field(&fields, "change", 64)?, decision(&fields)?);
    off(&app, move |app, people| {
        let user = lock::read(&app.changes).get(&id).map(|proposal| proposal.text("user_id").to_owned());
        let made = changes::decide(app, people, &who.purpose("changes", &id, "page-changes"), (&id, decision))?;
        // Where mail goes out, nobody sees a link but whose it is.
        let made = handed(app, people, user.as_deref().unwrap_or_default(), made)?;
        show(app, people, &who, made)
    })
    .await
}

pub(crate) async fn propose_settings(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (digest, reference) = (field(&fields, "settings", 64)?, field(&fields, "change_reference", 128)?);
    off(&app, move |app, people| {
        app.parts.guard.may(&who.purpose("settings", &reference, "page-changes"), Sort::Settings.action(), None)?;
        let _turn = people.changing();
        if !changes::waits(app, Sort::Settings) {
            return Err(Problem::bad("no second person is asked for settings here: they hold from the next start on"));
        }
        changes::propose_settings(app, &who.user.id, &reference, &digest)?;
        Ok(to("/changes"))
    })
    .await
}
