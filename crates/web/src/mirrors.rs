//! Mirrors: what they say they have, and answers that wait for them.

use std::sync::Arc;
use std::time::Duration;

use access::api_key::Scope;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use proof::encoding::from_hex;
use proof::hash::Hash;
use reads::mirrors::Told;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::App;
use crate::auth;
use crate::keys::object;
use crate::lock;
use crate::problem::Problem;
use crate::submit::Answer;

/// How long an answer waits for a mirror.
const WAIT: Duration = Duration::from_secs(10);

/// When a record is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerWhen {
    /// Once it is durable here.
    Durable,
    /// Once a mirror has it too.
    Mirrored,
}

/// A mirror says what it has.
pub(crate) async fn told(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &headers, Scope::Mirror)?;
    let given = object(&app, &headers, body, &["size", "root"]).await?;
    // JSON has one sort of number: 7.0 is 7.
    let whole = |size: &f64| size.fract() == 0.0 && (0.0..(1u64 << 53) as f64).contains(size);
    let size = given.get("size").and_then(serde_json::Value::as_f64).filter(whole).map(|size| size as u64);
    let root = given.get("root").and_then(serde_json::Value::as_str).and_then(|root| from_hex(root.as_bytes()).ok());
    let Some((size, root)) = size.zip(root) else {
        return Err(Problem::bad("size and root are needed: a number of entries and 64 hex digits"));
    };
    let (key, now, work) = (caller.key.id.clone(), app.now(), Arc::clone(&app));
    let told = move || work.parts.mirrors.told(&key, size, &Hash(root), now);
    let told = tokio::task::spawn_blocking(told).await.map_err(|why| crate::problem::internal(&why))??;
    match told {
        Told::Fits => {
            lock::held(&app.alarmed).remove(&caller.key.id);
            app.mirrored.notify_waiters();
            Ok(Json(json!({"size": size})).into_response())
        }
        Told::Differs(what) => {
            // Once, until it fits again: who sends it over and over does not fill the trail.
            if lock::held(&app.alarmed).insert(caller.key.id.clone()) {
                let fields = json!({
                    "result": "tampered", "size": size, "severity": "critical", "first_bad": what,
                    "actor": format!("mirror-{}", caller.key.id),
                });
                let record = Arc::clone(&app);
                let recorded = move || record.parts.submit.own("VERIFICATION_RUN", fields);
                let done = tokio::task::spawn_blocking(recorded).await.map_err(|why| crate::problem::internal(&why))?;
                if done.is_err() {
                    lock::held(&app.alarmed).remove(&caller.key.id);
                }
            }
            Err(Problem::new(StatusCode::CONFLICT, "another-tree", "the trail has another tree here: keep your copy"))
        }
    }
}

/// Waits, where answers wait for mirrors, until one has everything that was taken.
pub(crate) async fn wait(app: &App, answers: &[(u64, Answer)]) -> Result<(), Problem> {
    let index = |answer: &Answer| match answer {
        Answer::Committed { index, .. } | Answer::Repeated { index } => Some(*index),
        Answer::Conflict { .. } | Answer::Refused { .. } => None,
    };
    let Some(last) = answers.iter().filter_map(|(_, answer)| index(answer)).max() else { return Ok(()) };
    if app.parts.answer == AnswerWhen::Durable {
        return Ok(());
    }
    let waiting = async {
        loop {
            let mut told = std::pin::pin!(app.mirrored.notified());
            // Before the look: what is told between the look and the wait is not missed.
            told.as_mut().enable();
            if app.parts.mirrors.mirrored() > last {
                return;
            }
            told.await;
        }
    };
    tokio::time::timeout(WAIT, waiting).await.map_err(|_| {
        Problem::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "it is durable here, and no mirror has it yet: send it again, and it is answered once one has it",
        )
    })
}
