//! The first page, health, metrics, the description of the API.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use access::api_key::Scope;
use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use proof::time::UnixMillis;
use serde_json::json;

use crate::app::App;
use crate::auth;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    origin: String,
    vkey: String,
    size: u64,
    checkpoint: String,
    verified: String,
    holds: Option<bool>,
}

pub(crate) async fn home(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let (size, checkpoint) = app.parts.proofs.checkpoint();
    let (origin, vkey) = app.parts.proofs.identity();
    let verified = (app.parts.verified)();
    let page = Home {
        origin,
        vkey,
        size,
        checkpoint,
        verified: verified.map(|(at, _): (UnixMillis, bool)| at.rfc3339()).unwrap_or_default(),
        holds: verified.map(|(_, holds)| holds),
    };
    let text = page.render().map_err(|_| crate::problem::internal(&"the work of a request ended early"))?;
    Ok(Html(text).into_response())
}

pub(crate) async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, include_str!("../templates/candor.css")).into_response()
}

pub(crate) async fn live() -> Response {
    Json(json!({"status": "live"})).into_response()
}

pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    if app.stopping.load(Ordering::Acquire) {
        return Err(Problem::later(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"));
    }
    Ok(Json(json!({"status": "ready", "tree_size": app.parts.proofs.size()})).into_response())
}

pub(crate) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    auth::any_of(&app, &headers, &[Scope::Mirror, Scope::Admin])?;
    let text = app.metrics.write(app.parts.proofs.size());
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

pub(crate) async fn description(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.description.clone()).into_response()
}
