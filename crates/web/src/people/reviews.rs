//! The monthly review of who read what, by who must sign it.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use reads::registers::{Listing, Wanted};
use reads::review::FINDINGS;
use record::things::shape;

use super::{Head, People, SignedIn, field, html, off, own_form, readable, signed_in, stored, to};
use crate::app::App;
use crate::cases::NOTE_MAX;
use crate::problem::Problem;

/// Reviews of a page: a year of one reviewer.
const SHOWN_MAX: usize = 12;

struct ReaderLine {
    name: String,
    reads: String,
    refused: String,
    persons: String,
}

struct Due {
    id: String,
    month: String,
    until: String,
    others: u64,
    readers: Vec<ReaderLine>,
}

#[derive(Template)]
#[template(path = "people/reviews.html")]
struct Reviews {
    head: Head,
    reviews: Vec<Due>,
    findings: Vec<(&'static str, String)>,
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    off(&app, move |app, people| show(app, people, &who)).await
}

fn show(app: &App, people: &People, who: &SignedIn) -> Result<Response, Problem> {
    let shape = shape("review").ok_or_else(|| crate::problem::internal(&"there is no register of reviews"))?;
    let own = Some(who.user.id.clone());
    let wanted = Wanted { open: Some(true), staff: own, limit: SHOWN_MAX, ..Wanted::default() };
    let listing = Listing { wanted, customer: None };
    let granted = app.parts.guard.list(&who.purpose("page", "", "page-reviews"), shape, &listing, app.now())?;
    let mut reviews = Vec::new();
    for review in &granted.get().things {
        let text = |name: &str| review[name].as_str().unwrap_or_default().to_owned();
        let mut readers = Vec::new();
        for (actor, sums) in review["readers"].as_object().into_iter().flatten() {
            let mut sums = sums.as_str().unwrap_or_default().split('/').map(str::to_owned);
            let mut next = || sums.next().unwrap_or_default();
            let name = stored(people.store.person(actor))?.map_or_else(|| actor.clone(), |person| person.name);
            readers.push(ReaderLine { name, reads: next(), refused: next(), persons: next() });
        }
        readers.sort_by_key(|line| std::cmp::Reverse(line.persons.parse::<u64>().unwrap_or(0)));
        reviews.push(Due {
            id: text("review_id"),
            month: text("month"),
            until: readable(&text("resolve_by")),
            others: review["others"].as_u64().unwrap_or(0),
            readers,
        });
    }
    html(&Reviews {
        head: who.head(),
        reviews,
        findings: FINDINGS.map(|finding| (finding, finding.replace('_', " "))).to_vec(),
    })
}

pub(crate) async fn sign(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (id, note) = (field(&fields, "review", 128)?, field(&fields, "note", NOTE_MAX)?);
    let finding = field(&fields, "finding", 16)?;
    if !FINDINGS.contains(&finding.as_str()) {
        return Err(Problem::bad(format!("finding must be one of {}", FINDINGS.join(", "))));
    }
    off(&app, move |app, _| {
        app.parts.guard.sign_review(&who.purpose("reviews", "", "page-reviews"), &id, &finding, &note)?;
        Ok(to("/reviews"))
    })
    .await
}
