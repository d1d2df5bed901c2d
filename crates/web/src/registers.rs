//! Registers: a thing whole, lists of things, the use of templates, consent at a time.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use proof::time::UnixMillis;
use reads::registers::{Listing, Wanted};
use record::things::Shape;
use serde_json::json;

use crate::app::App;
use crate::cursor::Cursor;
use crate::problem::Problem;
use crate::search::{LIMIT_DEFAULT, LIMIT_MAX, asked, blocking};

/// Characters of a thing's id, at most: those of a Message-ID that is one.
pub(crate) const THING_ID_MAX: u32 = 256;
/// Columns of a list.
const LISTED_BY: [&str; 7] = ["open", "overdue", "status", "category", "priority", "staff", "customer"];

/// A thing of a register, as it stands or stood.
pub(crate) async fn thing(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    shape: &'static Shape,
) -> Result<Response, Problem> {
    let (params, purpose) = asked(&app, &headers, query.as_deref(), &["at"], "api-register")?;
    checked_id(&id, THING_ID_MAX as usize)?;
    let (at, now) = (params.time("at")?.map(UnixMillis), app.now());
    blocking(&app, move |app| {
        let granted = app.parts.guard.thing(&purpose, shape, &id, at, now)?;
        let body = json!({"register": shape.path, "as_of": at.unwrap_or(now).rfc3339(), "thing": granted.get(), "access": granted.access(), "tree_size": app.parts.proofs.size()});
        Ok(Json(body).into_response())
    })
    .await
}

/// How often a template was used and what came of it.
pub(crate) async fn template_statistics(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-statistics")?;
    checked_id(&id, 128)?;
    blocking(&app, move |app| {
        let granted = app.parts.guard.template_statistics(&purpose, &id)?;
        let mut body = granted.get().clone();
        (body["access"], body["tree_size"]) = (granted.access().into(), app.parts.proofs.size().into());
        Ok(Json(body).into_response())
    })
    .await
}

/// What a customer consented to, at a time.
pub(crate) async fn consents(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (params, purpose) = asked(&app, &headers, query.as_deref(), &["at"], "api-consents")?;
    checked_id(&id, 128)?;
    let at = params.time("at")?.map_or_else(|| app.now(), UnixMillis);
    blocking(&app, move |app| {
        let granted = app.parts.guard.consents(&purpose, &id, at)?;
        let body = json!({"as_of": at.rfc3339(), "consents": granted.get(), "access": granted.access(), "tree_size": app.parts.proofs.size()});
        Ok(Json(body).into_response())
    })
    .await
}

/// What is known of every source.
pub(crate) async fn sources(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-sources")?;
    blocking(&app, move |app| {
        let mut states = Vec::new();
        for (name, expected) in &app.parts.sources {
            states.push(app.parts.guard.source(&purpose, name, expected, app.now())?.into_inner());
        }
        Ok(Json(json!({"sources": states, "tree_size": app.parts.proofs.size()})).into_response())
    })
    .await
}

/// What is known of one source.
pub(crate) async fn source(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-source")?;
    blocking(&app, move |app| {
        let missing = || Problem::new(StatusCode::NOT_FOUND, "no-such-source", "there is no source of this name");
        let expected = app.parts.sources.get(&name).ok_or_else(missing)?;
        let granted = app.parts.guard.source(&purpose, &name, expected, app.now())?;
        let mut body = granted.get().clone();
        (body["access"], body["tree_size"]) = (granted.access().into(), app.parts.proofs.size().into());
        Ok(Json(body).into_response())
    })
    .await
}

/// Things of a register by their state.
pub(crate) async fn things(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    shape: &'static Shape,
) -> Result<Response, Problem> {
    let own: Vec<&str> = LISTED_BY.into_iter().chain(["limit", "cursor"]).collect();
    let (params, purpose) = asked(&app, &headers, query.as_deref(), &own, "api-list")?;
    let names = LISTED_BY.map(|name| format!("{name}={}\n", params.text(name).unwrap_or_default()));
    let bound = format!("{}\n{}", shape.path, names.concat());
    let cursor = params.text("cursor").map(|text| Cursor::read(&app, text, &bound)).transpose()?;
    let now = app.now();
    let column = |name: &str| Ok::<_, Problem>(params.bounded(name, 128)?.map(str::to_owned));
    let wanted = Wanted {
        open: params.flag("open")?,
        due_before: params.flag("overdue")?.filter(|overdue| *overdue).map(|_| now.0),
        status: column("status")?,
        category: column("category")?,
        priority: column("priority")?,
        staff: column("staff")?,
        below: cursor.map(|cursor| cursor.below),
        limit: params.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize,
    };
    let listing = Listing { wanted, customer: column("customer")? };
    blocking(&app, move |app| {
        let size = cursor.map_or_else(|| app.parts.proofs.size(), |cursor| cursor.size);
        let granted = app.parts.guard.list(&purpose, shape, &listing, now)?;
        let access = granted.access();
        let page = granted.into_inner();
        let next = page.next_below.map(|below| Cursor { below, size }.write(app, &bound));
        Ok(Json(
            json!({"register": shape.path, "things": page.things, "next": next, "access": access, "tree_size": size}),
        )
        .into_response())
    })
    .await
}

/// Refuses an id that no thing and nobody can have.
pub(crate) fn checked_id(id: &str, chars_max: usize) -> Result<(), Problem> {
    match id.chars().count() {
        count if (1..=chars_max).contains(&count) => Ok(()),
        _ => Err(Problem::bad(format!("the id must have 1 to {chars_max} characters"))),
    }
}
