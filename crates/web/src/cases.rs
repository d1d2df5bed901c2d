//! Steps of a case: noting what was found out, and closing it.

use std::sync::Arc;

use access::change::root;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use reads::cases::{CaseStep, FINDINGS};
use reads::decide::Purpose;
use serde_json::{Value, json};

use crate::app::App;
use crate::grants::line;
use crate::keys::object;
use crate::lock;
use crate::problem::Problem;
use crate::registers::{THING_ID_MAX, checked_id};
use crate::search::{asked, blocking};

/// Characters of a note, at most.
pub(crate) const NOTE_MAX: usize = 1000;

pub(crate) async fn note(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-cases")?;
    checked_id(&id, THING_ID_MAX as usize)?;
    let given = object(&app, &headers, body, &["note"]).await?;
    let step = CaseStep::Note(line("note", given.get("note"), NOTE_MAX)?);
    taken(&app, id, purpose, step).await
}

pub(crate) async fn close(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-cases")?;
    checked_id(&id, THING_ID_MAX as usize)?;
    let given = object(&app, &headers, body, &["finding", "note"]).await?;
    let finding = given.get("finding").and_then(Value::as_str).filter(|finding| FINDINGS.contains(finding));
    let finding = finding.ok_or_else(|| Problem::bad(format!("finding must be one of {}", FINDINGS.join(", "))))?;
    let step = CaseStep::Close(finding.to_owned(), line("note", given.get("note"), NOTE_MAX)?);
    taken(&app, id, purpose, step).await
}

/// Takes a step of a case. Who made a key, and the key, are one where it is asked whose case it is.
pub(crate) fn step_of(app: &App, purpose: &Purpose, id: &str, step: &CaseStep) -> Result<u64, Problem> {
    let own = |about: &str| {
        let keys = lock::read(&app.keys);
        root(about, &keys) == root(&purpose.actor, &keys)
    };
    Ok(app.parts.guard.case_step(purpose, id, step, own)?)
}

async fn taken(app: &Arc<App>, id: String, purpose: Purpose, step: CaseStep) -> Result<Response, Problem> {
    blocking(app, move |app| {
        let entry = step_of(app, &purpose, &id, &step)?;
        Ok(Json(json!({"case_id": id, "entry": entry})).into_response())
    })
    .await
}
