//! What began and did not end in time.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;
use crate::cursor::Cursor;
use crate::problem::Problem;
use crate::search::{LIMIT_DEFAULT, LIMIT_MAX, asked, blocking};

/// Each life cycle with how much of it stands open.
pub(crate) async fn all(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-completeness")?;
    blocking(&app, move |app| {
        let granted = app.parts.guard.open_cycles(&purpose, app.now())?;
        let size = app.parts.proofs.size();
        Ok(Json(json!({"cycles": granted.get(), "access": granted.access(), "tree_size": size})).into_response())
    })
    .await
}

/// What stands open of one.
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (params, purpose) = asked(&app, &headers, query.as_deref(), &["limit", "cursor"], "api-completeness")?;
    let bound = format!("completeness\n{name}\n");
    let cursor = params.text("cursor").map(|text| Cursor::read(&app, text, &bound)).transpose()?;
    let limit = params.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize;
    blocking(&app, move |app| {
        let from = cursor.map_or(0, |cursor| cursor.below);
        let size = cursor.map_or_else(|| app.parts.proofs.size(), |cursor| cursor.size);
        let granted = app.parts.guard.open_of_cycle(&purpose, &name, from, limit, app.now())?;
        let access = granted.access();
        let page = granted.into_inner();
        let next = page.next_from.map(|below| Cursor { below, size }.write(app, &bound));
        let body = json!({"cycle": name, "open": page.open, "next": next, "access": access, "tree_size": size});
        Ok(Json(body).into_response())
    })
    .await
}
