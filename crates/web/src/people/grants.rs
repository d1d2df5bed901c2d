//! Leave to read: given by those who may, seen by those who have it.

use std::sync::Arc;

use access::grant::Grant;
use access::policy::Action;
use access::role::Role;
use access::user::Standing;
use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use proof::time::UnixMillis;

use super::{Head, People, SignedIn, field, html, named, off, own_form, signed_in, time, to};
use crate::app::App;
use crate::grants::{Asking, Given, give, state, take_back, visible};
use crate::lock;
use crate::problem::Problem;

const DAY_MS: u64 = 86_400_000;

struct Line {
    id: String,
    grantee: String,
    what: String,
    reason: String,
    giver: String,
    expires: String,
    state: &'static str,
}

#[derive(Template)]
#[template(path = "people/grants.html")]
struct Grants {
    head: Head,
    gives: bool,
    grants: Vec<Line>,
    /// Who may be given one: id and name.
    people: Vec<(String, String)>,
}

/// What a grant covers, in words.
fn what(grant: &Grant) -> String {
    let what = &grant.what;
    let mut words = vec![match (what.of_person, what.kinds.as_slice()) {
        (false, []) => "everything".to_owned(),
        (true, []) => "one person".to_owned(),
        (false, kinds) => kinds.join(", "),
        (true, kinds) => format!("one person: {}", kinds.join(", ")),
    }];
    words.extend(what.from.map(|from| format!("from {}", time(from.0))));
    words.extend(what.until.map(|until| format!("before {}", time(until.0))));
    if !what.fields.is_empty() {
        words.push(format!("only {}", what.fields.join(", ").replace('_', " ")));
    }
    words.join("; ")
}

fn show(app: &App, people: &People, who: &SignedIn) -> Result<Response, Problem> {
    let gives = app.parts.guard.may_roles(&who.user.roles, Action::GiveGrant);
    let visible = visible(app, &who.purpose("grants", "", "page-grants"))?;
    let name = |id: &str| named(people, id);
    let mut grants = Vec::new();
    for grant in visible {
        grants.push(Line {
            grantee: if gives { name(&grant.grantee)? } else { "you".to_owned() },
            giver: if gives { name(&grant.giver)? } else { Role::list(&grant.giver_roles) },
            what: what(&grant),
            expires: time(grant.expires.0),
            state: state(&grant, app.now()),
            reason: grant.reason,
            id: grant.id,
        });
    }
    let mut others = Vec::new();
    if gives {
        let users: Vec<_> = lock::read(&people.users).iter().cloned().collect();
        let fits = |user: &&access::user::User| {
            matches!(user.standing, Standing::Active | Standing::Invited) && user.id != who.user.id
        };
        for user in users.iter().filter(fits) {
            others.push((user.id.clone(), format!("{}: {}", name(&user.id)?, Role::list(&user.roles))));
        }
    }
    html(&Grants { head: who.head(), gives, grants, people: others })
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    off(&app, move |app, people| show(app, people, &who)).await
}

fn list(fields: &std::collections::HashMap<String, String>, name: &str) -> Vec<String> {
    let text = fields.get(name).map(String::as_str).unwrap_or_default();
    text.split([' ', ',', '\n', '\r']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A day of a form; none where it was left empty.
fn day(fields: &std::collections::HashMap<String, String>, name: &str) -> Result<Option<UnixMillis>, Problem> {
    let text = fields.get(name).map(|text| text.trim()).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| Problem::bad(format!("{name} must be a day such as 2026-11-01"));
    UnixMillis::parse(format!("{text}T00:00:00Z").as_bytes()).map(Some).map_err(bad)
}

pub(crate) async fn create(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let days = field(&fields, "days", 3)?;
    let days = days.parse::<u64>().ok().filter(|days| (1..=366).contains(days));
    let days = days.ok_or_else(|| Problem::bad("days must be a number from 1 to 366"))?;
    let asking = Asking {
        grantee: field(&fields, "grantee", 64)?,
        kinds: list(&fields, "kinds"),
        fields: list(&fields, "fields"),
        customer: fields.get("customer").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        from: day(&fields, "from")?,
        until: day(&fields, "until")?,
        expires: UnixMillis(app.now().0 + days * DAY_MS),
        reason: field(&fields, "reason", 500)?,
        reference: None,
    };
    let most = access::grant::NAMES_MAX;
    let fits = |names: &[String]| names.len() <= most && names.iter().all(|name| proof::encoding::is_token(name));
    if !fits(&asking.kinds) || !fits(&asking.fields) {
        return Err(Problem::bad(format!("kinds and fields are names such as EMAIL_SENT, at most {most} of each")));
    }
    off(&app, move |app, _| {
        Ok(match give(app, &who.purpose("grants", &asking.reason, "page-grants"), asking)? {
            Given::Now(..) => to("/grants"),
            Given::Waits(_) => to("/changes"),
        })
    })
    .await
}

pub(crate) async fn revoke(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (id, reference) = (field(&fields, "grant", 64)?, field(&fields, "change_reference", 128)?);
    off(&app, move |app, _| {
        take_back(app, &who.purpose("grants", &reference, "page-grants"), &id, &reference)?;
        Ok(to("/grants"))
    })
    .await
}
