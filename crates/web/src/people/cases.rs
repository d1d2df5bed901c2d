//! Cases that stand open: what somebody read is looked into.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use reads::cases::{CaseStep, FINDINGS};
use reads::registers::{Listing, Wanted};
use record::things::shape;

use super::{Head, SignedIn, field, html, own_form, readable, signed_in, to};
use crate::app::App;
use crate::cases::{NOTE_MAX, step_of};
use crate::problem::Problem;
use crate::search::blocking;

/// Cases of a page.
const SHOWN_MAX: usize = 100;

struct Line {
    id: String,
    opened: String,
    rule: String,
    about: String,
    response: String,
}

#[derive(Template)]
#[template(path = "people/cases.html")]
struct Cases {
    head: Head,
    cases: Vec<Line>,
    findings: Vec<(&'static str, String)>,
    access: u64,
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    blocking(&app, move |app| show(app, &who)).await
}

fn show(app: &App, who: &SignedIn) -> Result<Response, Problem> {
    let shape = shape("case").ok_or_else(|| crate::problem::internal(&"there is no register of cases"))?;
    let wanted = Wanted { open: Some(true), limit: SHOWN_MAX, ..Wanted::default() };
    let listing = Listing { wanted, customer: None };
    let granted = app.parts.guard.list(&who.purpose("page", "", "page-cases"), shape, &listing, app.now())?;
    let line = |case: &serde_json::Value| {
        let text = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
        let done = case["response"].as_array().into_iter().flatten().filter_map(|one| one.as_str());
        Line {
            id: text("case_id"),
            opened: readable(&text("opened")),
            rule: text("rule").replace('_', " "),
            about: text("about_actor"),
            response: done.map(|one| one.replace('_', " ")).collect::<Vec<_>>().join(", "),
        }
    };
    html(&Cases {
        head: who.head(),
        cases: granted.get().things.iter().map(line).collect(),
        findings: FINDINGS.map(|finding| (finding, finding.replace('_', " "))).to_vec(),
        access: granted.access(),
    })
}

pub(crate) async fn step(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (id, note) = (field(&fields, "case", 128)?, field(&fields, "note", NOTE_MAX)?);
    let step = match fields.get("finding").map(String::as_str).unwrap_or_default() {
        "" => CaseStep::Note(note),
        finding if FINDINGS.contains(&finding) => CaseStep::Close(finding.to_owned(), note),
        _ => return Err(Problem::bad(format!("finding must be one of {}", FINDINGS.join(", ")))),
    };
    blocking(&app, move |app| {
        step_of(app, &who.purpose("cases", "", "page-cases"), &id, &step)?;
        Ok(to("/cases"))
    })
    .await
}
