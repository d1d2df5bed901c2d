//! The first page, health, metrics, the description of the API.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use access::api_key::Scope;
use askama::Template;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use proof::time::UnixMillis;
use reads::proofs::Line;
use serde_json::json;

use crate::app::App;
use crate::auth;
use crate::body::{self, Share};
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    origin: String,
    /// The newest last.
    keys: Vec<String>,
    size: u64,
    checkpoint: String,
    verified: String,
    holds: Option<bool>,
    /// Entries that a mirror has, and how many mirrors are known.
    mirrored: u64,
    mirrors: usize,
    told_at: String,
}

pub(crate) async fn home(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let published = app.parts.proofs.published();
    let (origin, _) = app.parts.proofs.identity();
    let keys = app.parts.proofs.keys().map_err(|error| crate::problem::internal(&error))?;
    let verified = (app.parts.verified)();
    let copies = app.parts.mirrors.copies();
    let page = Home {
        origin,
        keys,
        size: published.size,
        checkpoint: published.checkpoint,
        verified: verified.map(|(at, _): (UnixMillis, bool)| at.rfc3339()).unwrap_or_default(),
        holds: verified.map(|(_, holds)| holds),
        mirrored: app.parts.mirrors.mirrored(),
        mirrors: copies.len(),
        told_at: copies.iter().map(|copy| copy.told_at.clone()).max().unwrap_or_default(),
    };
    let text = page.render().map_err(|_| crate::problem::internal(&"the work of a request ended early"))?;
    Ok(Html(text).into_response())
}

/// Entries that the tail shows.
const TAIL: u64 = 50;

#[derive(Template)]
#[template(path = "tail.html")]
struct Tail {
    origin: String,
    size: u64,
    open: bool,
    refused: bool,
    lines: Vec<Line>,
}

async fn render_tail(app: Arc<App>, open: bool, refused: bool) -> Result<Response, Problem> {
    let read = move || {
        let lines = if open { app.parts.proofs.newest(TAIL)? } else { Vec::new() };
        let (origin, _) = app.parts.proofs.identity();
        let page = Tail { origin, size: app.parts.proofs.size(), open, refused, lines };
        page.render().map_err(|why| crate::problem::internal(&why))
    };
    let text = tokio::task::spawn_blocking(read).await.map_err(|why| crate::problem::internal(&why))??;
    let status = if refused { StatusCode::FORBIDDEN } else { StatusCode::OK };
    Ok((status, Html(text)).into_response())
}

/// The newest entries, for a browser that has a key; else the form that asks for one.
pub(crate) async fn tail(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let open = auth::cookie(&headers).is_some_and(|key| auth::opens(&app, key));
    render_tail(app, open, false).await
}

/// Takes the key from the form and keeps it in a cookie for this browser session.
pub(crate) async fn open_tail(State(app): State<Arc<App>>, body: Body) -> Result<Response, Problem> {
    let bytes = body::read(body, &mut Share::new(&app.bodies), &app.parts.limits).await?;
    let key = form_urlencoded::parse(&bytes).find(|(name, _)| name == "key").map(|(_, key)| key.into_owned());
    let key = key.unwrap_or_default();
    if !auth::opens(&app, &key) {
        return render_tail(app, false, true).await;
    }
    let secure = if app.parts.secure { "; Secure" } else { "" };
    Ok(to_tail(&format!("{}={key}; HttpOnly; SameSite=Strict; Path=/tail{secure}", auth::COOKIE)))
}

/// Forgets the key.
pub(crate) async fn close_tail() -> Response {
    to_tail(&format!("{}=; HttpOnly; SameSite=Strict; Path=/tail; Max-Age=0", auth::COOKIE))
}

fn to_tail(cookie: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/tail"), (header::SET_COOKIE, cookie)]).into_response()
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
