//! Reads: search, entries, histories, receipts. Each is decided and recorded by `reads` before anything opens.

use std::sync::Arc;
use std::time::Duration;

use access::api_key::Scope;
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use reads::decide::{Granted, Purpose};
use reads::guard::{By, Find, Of};
use reads::shown::Shown;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth;
use crate::cursor::Cursor;
use crate::params::{Params, number};
use crate::problem::Problem;
use crate::registers::checked_id;

/// Hits of a page, at most; more persons than these need a bulk approval anyway.
pub(crate) const LIMIT_MAX: u64 = 200;
pub(crate) const LIMIT_DEFAULT: u64 = 50;
/// How long a reader waits for a write of its own.
const OWN_WRITE_WAIT: Duration = Duration::from_secs(5);

/// Parameters that say why something is read.
const WHY: [&str; 2] = ["purpose", "justification"];
/// What a search is narrowed by beside the filters.
const NARROWING: [&str; 3] = ["q", "from", "until"];
/// Filters of a search.
const FILTERS: [&str; 6] = ["kind", "status", "source", "template", "severity", "environment"];

/// The parameters of a read, `own` and those that say why, and who reads for what.
pub(crate) fn asked(
    app: &App,
    headers: &HeaderMap,
    query: Option<&str>,
    own: &[&str],
    command: &'static str,
) -> Result<(Params, Purpose), Problem> {
    asked_as(app, headers, query, own, command, Scope::Read)
}

/// The same for a caller of another scope.
pub(crate) fn asked_as(
    app: &App,
    headers: &HeaderMap,
    query: Option<&str>,
    own: &[&str],
    command: &'static str,
    scope: Scope,
) -> Result<(Params, Purpose), Problem> {
    let known: Vec<&str> = own.iter().copied().chain(WHY).collect();
    let params = Params::read(query, &known)?;
    let caller = auth::caller(app, headers, scope)?;
    let purpose = params.bounded("purpose", 64)?.unwrap_or("api");
    if !purpose.bytes().all(proof::encoding::is_token_byte) {
        return Err(Problem::bad("the query parameter purpose must be letters, digits and _.:/+-"));
    }
    let justification = params.bounded("justification", 500)?.map(str::to_owned);
    let purpose = caller.purpose(purpose, justification, command);
    Ok((params, purpose))
}

/// Runs a read where it may block, among no more than the bound.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    read: impl FnOnce(&App) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let Ok(Ok(permit)) = tokio::time::timeout(OWN_WRITE_WAIT, Arc::clone(&app.reads).acquire_owned()).await else {
        return Err(Problem::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server has all the reads it can do: ask again",
        ));
    };
    let app = Arc::clone(app);
    let work = move || {
        let result = read(&app);
        drop(permit);
        result
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(crate::problem::internal(&"the work of a request ended early")))
}

fn lines(app: &App, granted: Granted<Vec<Shown>>) -> Response {
    let access = granted.access();
    let body = json!({"entries": granted.get(), "access": access, "tree_size": app.parts.proofs.size()});
    Json(body).into_response()
}

pub(crate) async fn search(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let own: Vec<&str> = NARROWING.into_iter().chain(FILTERS).chain(["limit", "cursor", "min_size"]).collect();
    let (params, purpose) = asked(&app, &headers, query.as_deref(), &own, "api-search")?;
    let (find, min_size) = find(&app, &params)?;
    if let Some(size) = min_size {
        own_write(&app, size).await?;
    }
    let bound = bound(&params);
    blocking(&app, move |app| {
        let size = find.1.unwrap_or_else(|| app.parts.proofs.size());
        let granted = app.parts.guard.find(&purpose, &find.0)?;
        let access = granted.access();
        let page = granted.into_inner();
        let next = page.next_below.map(|below| Cursor { below, size }.write(app, &bound));
        Ok(Json(json!({"entries": page.lines, "next": next, "access": access, "tree_size": size})).into_response())
    })
    .await
}

pub(crate) async fn counts(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let own: Vec<&str> = NARROWING.into_iter().chain(FILTERS).chain(["by"]).collect();
    let (params, purpose) = asked(&app, &headers, query.as_deref(), &own, "api-counts")?;
    let by = match params.text("by") {
        None | Some("kind") => By::Kind,
        Some("day") => By::Day,
        Some(_) => return Err(Problem::bad("the query parameter by must be kind or day")),
    };
    let ((find, _), _) = find(&app, &params)?;
    blocking(&app, move |app| {
        let granted = app.parts.guard.count(&purpose, &find, by)?;
        let sums = granted.get();
        let total: u64 = sums.groups.values().sum();
        let body = json!({
            "counts": sums.groups, "total": total, "suppressed": sums.suppressed, "rounded_to": sums.rounded_to,
            "access": granted.access(), "tree_size": app.parts.proofs.size(),
        });
        Ok(Json(body).into_response())
    })
    .await
}

/// What a cursor is bound to: every parameter that changes which entries are meant.
fn bound(params: &Params) -> String {
    let names = NARROWING.into_iter().chain(FILTERS);
    names.map(|name| format!("{name}={}\n", params.text(name).unwrap_or_default())).collect()
}

type Wanted = (Find, Option<u64>);

fn find(app: &App, params: &Params) -> Result<(Wanted, Option<u64>), Problem> {
    let mut filters = Vec::new();
    for name in FILTERS {
        if let Some(value) = params.bounded(name, 128)? {
            filters.push((name, value.to_owned()));
        }
    }
    let cursor = params.text("cursor").map(|text| Cursor::read(app, text, &bound(params))).transpose()?;
    let size = cursor.map(|cursor| cursor.size);
    let find = Find {
        words: params.bounded("q", 500)?.unwrap_or_default().to_owned(),
        filters,
        from_ms: params.time("from")?,
        until_ms: params.time("until")?,
        below: cursor.map(|cursor| cursor.below),
        limit: params.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize,
    };
    Ok(((find, size), params.number("min_size", 0, (1 << 53) - 1)?))
}

/// Waits until the trail has this size; what is in it can be found.
async fn own_write(app: &App, size: u64) -> Result<(), Problem> {
    let waited = tokio::time::timeout(OWN_WRITE_WAIT, async {
        while app.parts.proofs.size() < size {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited
        .await
        .map_err(|_| Problem::later(StatusCode::CONFLICT, "the trail has not reached min_size within 5 s: ask again"))
}

pub(crate) fn index(text: &str) -> Result<u64, Problem> {
    number(text).ok_or_else(|| Problem::bad("the index must be a number in decimal, below 2^53"))
}

pub(crate) async fn entry(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-entry")?;
    let index = index(&text)?;
    blocking(&app, move |app| {
        let granted = app.parts.guard.show(&purpose, index)?;
        let mut body = serde_json::to_value(granted.get()).unwrap_or(Value::Null);
        body["access"] = granted.access().into();
        body["proof"] = serde_json::to_value(app.parts.mirrors.standing(index)).unwrap_or(Value::Null);
        Ok(Json(body).into_response())
    })
    .await
}

pub(crate) async fn receipt(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-receipt")?;
    let index = index(&text)?;
    blocking(&app, move |app| {
        let granted = app.parts.guard.receipt(&purpose, index)?;
        let beside = app.parts.mirrors.standing(index);
        let headers = [
            (axum::http::header::CONTENT_TYPE, "application/json".to_owned()),
            (HeaderName::from_static("candor-mirrored"), format!("{} of {}", beside.mirrored, beside.mirrors)),
        ];
        Ok((headers, granted.get().to_text()).into_response())
    })
    .await
}

pub(crate) async fn customer(
    state: State<Arc<App>>,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    history(state, query, headers, &id, Of::customer).await
}

pub(crate) async fn correlation(
    state: State<Arc<App>>,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    history(state, query, headers, &id, Of::correlation).await
}

async fn history(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    id: &str,
    of: fn(&str) -> Of,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-history")?;
    checked_id(id, 128)?;
    let of = of(id);
    blocking(&app, move |app| Ok(lines(app, app.parts.guard.history(&purpose, &of)?))).await
}
