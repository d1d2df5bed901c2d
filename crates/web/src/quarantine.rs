//! Refused input that is kept: what there is, and taking it in again.

use std::sync::Arc;

use access::api_key::Scope;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reads::quarantine::Kept;
use serde_json::json;

use crate::app::App;
use crate::cursor::Cursor;
use crate::keys::object;
use crate::problem::Problem;
use crate::search::{LIMIT_DEFAULT, LIMIT_MAX, asked_as, blocking, index};
use crate::submit::{NotReplayed, Unavailable};

/// What is kept, the newest first; what was sent is not opened.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let own = ["source", "code", "limit", "cursor"];
    let (params, purpose) = asked_as(&app, &headers, query.as_deref(), &own, "api-quarantine", Scope::Operate)?;
    let column = |name: &str| Ok::<_, Problem>(params.bounded(name, 128)?.map(str::to_owned));
    let (source, code) = (column("source")?, column("code")?);
    let bound = format!("quarantine\n{source:?}\n{code:?}\n");
    let cursor = params.text("cursor").map(|text| Cursor::read(&app, text, &bound)).transpose()?;
    let limit = params.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize;
    let kept = Kept { source, code, below: cursor.map(|cursor| cursor.below), limit };
    blocking(&app, move |app| {
        let size = cursor.map_or_else(|| app.parts.proofs.size(), |cursor| cursor.size);
        let granted = app.parts.guard.quarantined(&purpose, &kept)?;
        let access = granted.access();
        let page = granted.into_inner();
        let next = page.next_below.map(|below| Cursor { below, size }.write(app, &bound));
        Ok(Json(json!({"kept": page.lines, "next": next, "access": access, "tree_size": size})).into_response())
    })
    .await
}

/// Takes one in again; what became of it is recorded.
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    Path(entry): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (_, purpose) = asked_as(&app, &headers, query.as_deref(), &[], "api-quarantine-replay", Scope::Operate)?;
    let entry = index(&entry)?;
    object(&app, &headers, body, &[]).await?;
    blocking(&app, move |app| {
        let outcome = app.parts.submit.replay(entry, &purpose).map_err(|why| match why {
            NotReplayed::NotRead(why) => why.into(),
            NotReplayed::NotKept(why) => Problem::new(StatusCode::CONFLICT, "not-kept", why),
            NotReplayed::Unavailable(Unavailable::Now(why)) => Problem::later(StatusCode::SERVICE_UNAVAILABLE, why),
            NotReplayed::Unavailable(Unavailable::NoSource) => {
                Problem::new(StatusCode::CONFLICT, "no-source", "its source is not in the configuration any more")
            }
        })?;
        Ok(Json(outcome).into_response())
    })
    .await
}
