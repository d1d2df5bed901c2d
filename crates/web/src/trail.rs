//! The published proof plane: checkpoint, tiles and bundles (c2sp.org/tlog-tiles). Nothing in it is personal, and two
//! entries about one person can't be linked, but who may see it still needs a key.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use access::api_key::Scope;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proof::key_change::KeyChange;
use proof::tile::TilePath;
use proof::time::UnixMillis;
use serde_json::json;

use crate::app::App;
use crate::auth;
use crate::lock;
use crate::params::Params;
use crate::problem::Problem;

/// A published checkpoint moves at most this often.
const PUBLISH_MS: u64 = 1000;

/// A checkpoint, and when it was published.
#[derive(Debug, Clone)]
pub(crate) struct PublishedAt {
    at: UnixMillis,
    size: u64,
    text: String,
    key_changes: Arc<[KeyChange]>,
}

fn newest(app: &App) -> PublishedAt {
    let now = app.now();
    let mut held = lock::held(&app.published);
    match &*held {
        Some(published) if now.0 < published.at.0 + PUBLISH_MS => published.clone(),
        _ => {
            let published = app.parts.proofs.published();
            let (size, text, key_changes) = (published.size, published.checkpoint, published.key_changes);
            held.insert(PublishedAt { at: now, size, text, key_changes }).clone()
        }
    }
}

const SCOPES: [Scope; 3] = [Scope::Mirror, Scope::Read, Scope::Admin];

pub(crate) async fn checkpoint(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    auth::any_of(&app, &headers, &SCOPES)?;
    let published = newest(&app);
    let (origin, vkey) = app.parts.proofs.identity();
    let (size, changes) = (published.size, &*published.key_changes);
    let mirrors = app.parts.mirrors.copies();
    Ok(Json(json!({"origin": origin, "vkey": vkey, "key_changes": changes, "tree_size": size, "checkpoint": published.text, "mirrors": mirrors}))
        .into_response())
}

/// Seconds that a mirror may ask to be held on where there is nothing new.
const WAIT_S_MAX: u64 = 5;
/// Between two looks for new entries while one is held on.
const LOOK: Duration = Duration::from_millis(10);
/// A frame without entries is seen after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Bytes of a segment in one answer, at most.
const PIECE_BYTES_MAX: usize = 4 << 20;

/// A piece of the journal as it lies there: entries and sealed records, which nobody opens without keys.
pub(crate) async fn segment(
    State(app): State<Arc<App>>,
    Path(number): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    auth::any_of(&app, &headers, &[Scope::Mirror])?;
    let missing = || {
        Problem::new(StatusCode::NOT_FOUND, "no-such-segment", "the journal has no such segment, or no such byte of it")
    };
    let params = Params::read(query.as_deref(), &["offset", "wait"])?;
    let offset = params.number("offset", 0, (1 << 53) - 1)?.unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(params.number("wait", 0, WAIT_S_MAX)?.unwrap_or(0));
    let number: u32 = number.parse().map_err(|_| missing())?;
    let found = loop {
        let (size, work) = (app.parts.proofs.size(), Arc::clone(&app));
        let read = move || work.parts.proofs.piece(number, offset, PIECE_BYTES_MAX);
        let found = tokio::task::spawn_blocking(read).await.map_err(|_| missing())??;
        // What is not there at all is not waited for: a segment begins when the one before it ends.
        let nothing = found.as_ref().is_some_and(|(bytes, closed)| bytes.is_empty() && !closed);
        if !nothing || !waited(&app, size, until).await {
            break found;
        }
    };
    let (bytes, closed) = found.ok_or_else(missing)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("candor-segment-closed"), if closed { "true" } else { "false" }),
    ];
    Ok((headers, bytes).into_response())
}

/// Waits until the trail has more entries than `size`, or a little longer for a frame without entries; whether it is worth
/// another look before `until`.
async fn waited(app: &App, size: u64, until: Instant) -> bool {
    let look = Instant::now() + LOOK_AGAIN;
    while Instant::now() < until && !app.stopping.load(Ordering::Acquire) {
        if app.parts.proofs.size() > size || Instant::now() >= look {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}

pub(crate) async fn published(
    State(app): State<Arc<App>>,
    Path((name, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    auth::any_of(&app, &headers, &SCOPES)?;
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is no such file in the published trail");
    if name != app.parts.name {
        return Err(missing());
    }
    if path == "checkpoint" {
        let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        return Ok((text, newest(&app).text).into_response());
    }
    let tile = TilePath::parse(&path).map_err(|_| missing())?;
    let work = move || {
        let size = newest(&app).size;
        app.parts.proofs.tile(&tile, size)
    };
    let found = tokio::task::spawn_blocking(work).await.map_err(|_| missing())??;
    let bytes = found.ok_or_else(missing)?;
    // What is published never changes.
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ];
    Ok((headers, bytes).into_response())
}
