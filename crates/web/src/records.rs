//! `POST /v1/records`: one record, or a batch of lines. `POST /v1/add`: what somebody writes down by hand.

use std::sync::Arc;

use access::api_key::Scope;
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use record::by_hand::{ByHand, Written};
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::auth::{self, Caller};
use crate::body::{self, Packing, Share};
use crate::keys::object;
use crate::lock;
use crate::mirrors;
use crate::params::Params;
use crate::problem::Problem;
use crate::submit::{Answer, RefusalCount, Unavailable};

/// One line's result.
#[derive(Debug, Serialize)]
struct LineResult {
    line: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What came of a batch.
#[derive(Debug, Serialize)]
struct BatchResult {
    accepted: u64,
    repeated: u64,
    refused: u64,
    tree_size: u64,
    results: Vec<LineResult>,
}

/// Whether the body is one record or lines of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    One,
    Lines,
}

/// What the work of a request needs, once its head was read.
struct Task {
    source: String,
    form: Form,
    packing: Packing,
    idempotency: Option<String>,
}

pub(crate) async fn post(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Append)?;
    let params = Params::read(query.as_deref(), &["source"])?;
    let task = Task {
        source: source(&app, &caller, params.text("source"))?,
        form: form(&headers)?,
        packing: body::packing(&headers)?,
        idempotency: idempotency_key(&headers)?,
    };
    let place = match Place::take(&app, &caller) {
        Ok(place) => place,
        Err(problem) => {
            body::discard(body, &app.parts.limits).await;
            return Err(problem);
        }
    };
    let mut share = Share::new(&app.bodies);
    let bytes = body::read(body, &mut share, &app.parts.limits).await?;
    let (bytes, share) = unpack(&app, task.packing, bytes, share).await?;
    let lines = match task.form {
        Form::One => vec![(1, with_id(&task, 1, bytes))],
        Form::Lines => cut(&app, &task, &bytes)?,
    };
    // Place and share stay with the work: a client that goes away does not make room for more than there is.
    let answers = submitted(&app, &task, lines, (place, share)).await?;
    mirrors::wait(&app, &answers).await?;
    respond(&app, &task, answers)
}

/// Hands lines over and waits for what became of them; what is `held` meanwhile stays with the work.
async fn submitted(
    app: &App,
    task: &Task,
    lines: Vec<(u64, Bytes)>,
    held: impl Send + 'static,
) -> Result<Vec<(u64, Answer)>, Problem> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done = Box::new(move |answers| drop(sender.send((answers, held))));
    app.parts.submit.submit(&task.source, lines, done);
    let (answers, _held) =
        receiver.await.map_err(|_| crate::problem::internal(&"the work of a request ended early"))?;
    answers.map_err(|why| match why {
        Unavailable::Now(why) => Problem::later(StatusCode::SERVICE_UNAVAILABLE, why),
        Unavailable::NoSource => no_source(),
    })
}

/// Writes down what was said to a customer outside every system: the author is who calls.
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Append)?;
    let params = Params::read(query.as_deref(), &["source"])?;
    let source = source(&app, &caller, params.text("source"))?;
    let task = Task { source, form: Form::One, packing: Packing::Plain, idempotency: None };
    let place = Place::take(&app, &caller)?;
    let given = object(&app, &headers, body, &ByHand::FIELDS).await?;
    let by_hand: ByHand = serde_json::from_value(given.into()).map_err(|_| {
        Problem::bad(
            "what and summary are needed; what, direction and duration must be as the description says, all else texts",
        )
    })?;
    let (now, mut random) = (app.now(), [0; 8]);
    random.copy_from_slice(&(app.parts.random)()[..8]);
    let (id, author) = (format!("hand-{}", proof::encoding::hex(&random)), caller.actor());
    let written = Written { id: &id, now, author: &author, environment: &app.parts.environment };
    let record = by_hand.record(&written).map_err(Problem::bad)?;
    let answers = submitted(&app, &task, vec![(1, record.to_string().into())], place).await?;
    // Sent again it would stand twice: so it never waits for a mirror.
    respond(&app, &task, answers)
}

/// Expands a packed body, on one of a few threads.
async fn unpack(app: &Arc<App>, packing: Packing, bytes: Vec<u8>, mut share: Share) -> Result<(Bytes, Share), Problem> {
    if packing == Packing::Plain {
        return Ok((bytes.into(), share));
    }
    let turn = Arc::clone(&app.unpacking).acquire_owned().await.map_err(|why| crate::problem::internal(&why))?;
    let limits = app.parts.limits;
    let work = move || {
        let expanded = body::expand(bytes, packing, &mut share, &limits);
        drop(turn);
        expanded.map(|bytes| (bytes.into(), share))
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(crate::problem::internal(&"the work of a request ended early")))
}

/// A place among the writes under way, of all and of one key. Taken before the body is read, so that what waits is
/// bounded; given back when it is dropped.
struct Place {
    app: Arc<App>,
    key: String,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(app: &Arc<App>, caller: &Caller) -> Result<Place, Problem> {
        let permit = Arc::clone(&app.writes).try_acquire_owned().map_err(|_| {
            Problem::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "the server has all the writes it can take: send this again",
            )
        })?;
        let key = caller.key.id.clone();
        let mut held = lock::held(&app.writes_of);
        let of_key = held.entry(key.clone()).or_default();
        if *of_key >= app.parts.limits.writes_of_key_max {
            return Err(Problem::later(
                StatusCode::TOO_MANY_REQUESTS,
                "this key has all the writes under way that one may: send this again",
            ));
        }
        *of_key += 1;
        drop(held);
        Ok(Place { app: Arc::clone(app), key, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock::held(&self.app.writes_of);
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// The source that is written to: the one named, or the only one that the key has.
fn source(app: &App, caller: &Caller, named: Option<&str>) -> Result<String, Problem> {
    let bound = &caller.key.grant.sources;
    let name = match (named, bound.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => return Err(Problem::bad("this key is bound to several sources: name one as ?source=NAME")),
    };
    if !bound.iter().any(|source| source == name) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "source", "this key is not bound to that source"));
    }
    if !app.parts.sources.contains_key(name) {
        return Err(no_source());
    }
    Ok(name.to_owned())
}

fn no_source() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "source",
        "the source of this key is not in the server's configuration: add [sources.NAME]",
    )
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Form::One),
        "application/x-ndjson" => Ok(Form::Lines),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "Content-Type must be application/json for one record or application/x-ndjson for one a line",
        )),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.as_bytes();
    if !(1..=64).contains(&text.len()) || !text.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::bad("Idempotency-Key must be 1 to 64 visible ASCII characters"));
    }
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}

/// Counts what came of a request, and says it.
fn respond(app: &App, task: &Task, answers: Vec<(u64, Answer)>) -> Result<Response, Problem> {
    count(app, task, &answers);
    if task.form == Form::One {
        let (_, answer) =
            answers.into_iter().next().ok_or_else(|| Problem::bad("the body is empty: send one record"))?;
        return one(app, answer);
    }
    let mut result =
        BatchResult { accepted: 0, repeated: 0, refused: 0, tree_size: app.parts.proofs.size(), results: Vec::new() };
    for (line, answer) in answers {
        let (count, line) = line_result(line, answer);
        match count {
            "committed" => result.accepted += 1,
            "repeated" => result.repeated += 1,
            _ => result.refused += 1,
        }
        result.results.push(line);
    }
    Ok(Json(result).into_response())
}

/// Cuts a body into lines; empty ones are left out, and numbered.
fn cut(app: &App, task: &Task, bytes: &Bytes) -> Result<Vec<(u64, Bytes)>, Problem> {
    let mut lines = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if lines.len() == app.parts.limits.lines_max {
            let limit = app.parts.limits.lines_max;
            let detail = format!("the batch has more than {limit} lines: send it in parts");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail));
        }
        lines.push((number as u64 + 1, with_id(task, number as u64 + 1, bytes.slice_ref(line))));
    }
    if lines.is_empty() {
        return Err(Problem::bad("the body has no line: send one record a line"));
    }
    Ok(lines)
}

/// Gives a record that has no id of its own one by the request's Idempotency-Key and its line: sent again under the
/// same key it is a repeat, other content under the same key is a conflict.
fn with_id(task: &Task, line: u64, bytes: Bytes) -> Bytes {
    let Some(key) = &task.idempotency else { return bytes };
    let Some(open) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| bytes[*at] == b'{') else {
        return bytes;
    };
    if memchr::memmem::find(&bytes, b"\"event_id\"").is_some() {
        return bytes;
    }
    let rest = &bytes[open + 1..];
    let comma = if rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}') { "" } else { "," };
    let id = json!(format!("idem:{key}:{line}"));
    [format!("{{\"event_id\":{id}{comma}").as_bytes(), rest].concat().into()
}

fn count(app: &App, task: &Task, answers: &[(u64, Answer)]) {
    let mut refusals = Vec::new();
    for (_, answer) in answers {
        app.metrics.record(match answer {
            Answer::Committed { .. } => "committed",
            Answer::Repeated { .. } => "repeated",
            Answer::Conflict { .. } => "conflict",
            Answer::Refused { .. } => "refused",
        });
        let source = task.source.clone();
        match answer {
            Answer::Refused { code, kind, rule, .. } => {
                refusals.push(RefusalCount { source, code, kind: kind.clone(), rule: *rule, count: 1 });
            }
            Answer::Conflict { .. } => {
                refusals.push(RefusalCount { source, code: "conflict", kind: None, rule: None, count: 1 });
            }
            Answer::Committed { .. } | Answer::Repeated { .. } => {}
        }
    }
    if !refusals.is_empty()
        && let Ok(mut held) = app.refusals.lock()
    {
        refusals.into_iter().for_each(|refusal| held.add(refusal));
    }
}

const CONFLICT: &str = "the id was used before for other content: give each record its own id";

fn one(app: &App, answer: Answer) -> Result<Response, Problem> {
    let tree_size = app.parts.proofs.size();
    match answer {
        Answer::Committed { index, leaf } => {
            let body = json!({"status": "committed", "index": index, "leaf": leaf.hex(), "tree_size": tree_size});
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
        Answer::Repeated { index } => {
            Ok(Json(json!({"status": "repeated", "index": index, "tree_size": tree_size})).into_response())
        }
        Answer::Conflict { index } => {
            Err(Problem::new(StatusCode::CONFLICT, "conflict", CONFLICT).with("index", index))
        }
        Answer::Refused { code: "too_large", detail, .. } => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail).with("code", "too_large"))
        }
        Answer::Refused { code, detail, .. } => {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", detail).with("code", code))
        }
    }
}

fn line_result(line: u64, answer: Answer) -> (&'static str, LineResult) {
    let none = LineResult { line, status: "", index: None, leaf: None, code: None, detail: None };
    let result = match answer {
        Answer::Committed { index, leaf } => {
            LineResult { status: "committed", index: Some(index), leaf: Some(leaf.hex()), ..none }
        }
        Answer::Repeated { index } => LineResult { status: "repeated", index: Some(index), ..none },
        Answer::Conflict { index } => LineResult {
            status: "conflict",
            index: Some(index),
            code: Some("conflict"),
            detail: Some(CONFLICT.into()),
            ..none
        },
        Answer::Refused { code, detail, .. } => {
            LineResult { status: "refused", code: Some(code), detail: Some(detail), ..none }
        }
    };
    (result.status, result)
}
