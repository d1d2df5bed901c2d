//! Steps of an alert that somebody takes: acknowledging it and resolving it.

use std::sync::Arc;

use access::api_key::Scope;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use proof::encoding::is_token;
use reads::alerts::PersonStep;
use serde_json::{Value, json};

use crate::app::App;
use crate::auth;
use crate::keys::object;
use crate::problem::Problem;
use crate::registers::{THING_ID_MAX, checked_id};
use crate::search::blocking;

/// Takes a step of an alert; asked again it gives the entry of the first time.
pub(crate) async fn step(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
    step: PersonStep,
) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Operate)?;
    checked_id(&id, THING_ID_MAX as usize)?;
    let given = object(&app, &headers, body, &["reason_category"]).await?;
    let reason = match given.get("reason_category") {
        None => None,
        Some(Value::String(text)) if is_token(text) => Some(text.clone()),
        Some(_) => return Err(Problem::bad("reason_category must be 1 to 64 letters, digits or _.:/+-")),
    };
    blocking(&app, move |app| {
        let purpose = caller.purpose("api", None, "api-alert");
        let entry = app.parts.guard.alert_step(&purpose, &id, step, reason.as_deref())?;
        Ok(Json(json!({"alert_id": id, "entry": entry})).into_response())
    })
    .await
}
