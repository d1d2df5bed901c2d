//! Reading at a page, behind a reason: a person's history, a search, one entry. What is asked goes in a form's body, so
//! that no address in a browser's memory or a proxy's log names anybody.

use std::collections::HashMap;
use std::sync::Arc;

use access::policy::Action;
use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use proof::time::UnixMillis;
use reads::guard::{Find, Of};
use reads::mirrors::Standing;
use reads::shown::{PersonalState, Shown};
use record::identifier::IdentifierType;
use serde_json::Value;

use super::proof_steps::Steps;
use super::{Head, SignedIn, field, html, own_form, readable, signed_in};
use crate::app::App;
use crate::problem::Problem;
use crate::search::blocking;

/// Entries of a search's page.
const FOUND_MAX: usize = 50;
/// Fields of every record, which stand in an entry's head or say nothing to a reader.
const COMMON: [&str; 9] = [
    "event_type",
    "timestamp",
    "correlation_id",
    "source_component",
    "environment",
    "event_id",
    "severity",
    "source",
    "authority",
];

/// Fields in which somebody says something, the first first.
const SAID: [&str; 6] = ["subject", "content summary", "call summary", "resolution summary", "comment", "reason"];

/// Severities that say nothing.
const QUIET: [&str; 4] = ["", "debug", "info", "notice"];

/// An entry as a page shows it.
pub(super) struct Line {
    pub(super) index: u64,
    pub(super) title: String,
    pub(super) kind: String,
    pub(super) at: String,
    pub(super) own_time: String,
    pub(super) class: String,
    pub(super) leaf: String,
    pub(super) source: String,
    /// Where it is more than a notice.
    pub(super) severity: String,
    pub(super) personal: &'static str,
    pub(super) imported: bool,
    pub(super) fields: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "people/look.html")]
struct Look {
    head: Head,
    title: &'static str,
    reason: String,
    customer: String,
    words: String,
    asked: bool,
    lines: Vec<Line>,
    more: bool,
    access: u64,
    size: u64,
    /// Of one entry, where its reader may take a receipt.
    proof: Option<Steps>,
    standing: Option<Standing>,
}

impl Look {
    fn empty(who: &SignedIn, size: u64) -> Look {
        Look {
            head: who.head(),
            title: "Look something up",
            reason: String::new(),
            customer: String::new(),
            words: String::new(),
            asked: false,
            lines: Vec::new(),
            more: false,
            access: 0,
            size,
            proof: None,
            standing: None,
        }
    }
}

/// Fields of a record, each with its path.
fn flat(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let below = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix} / {name}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| flat(&below(&name.replace('_', " ")), value, out)),
        Value::Array(list) if list.iter().any(|item| item.is_object()) => {
            list.iter().zip(1..).for_each(|(item, number)| flat(&below(&number.to_string()), item, out));
        }
        Value::Array(list) => {
            let texts: Vec<String> = list.iter().map(text).collect();
            out.push((prefix.to_owned(), texts.join(", ")));
        }
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        other => out.push((prefix.to_owned(), text(other))),
    }
}

fn text(value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    // A time reads as those beside it do; what only looks like one stays as it is.
    match UnixMillis::parse(text.as_bytes()) {
        Ok(_) => readable(text),
        Err(_) => text.to_owned(),
    }
}

/// What the entry says comes first, then what was done; a name stands alone where nothing else has it.
fn in_order(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    let last = |name: &str| name.rsplit(" / ").next().unwrap_or(name).to_owned();
    let mut count: HashMap<String, usize> = HashMap::new();
    for (name, _) in &fields {
        *count.entry(last(name)).or_default() += 1;
    }
    for (name, _) in &mut fields {
        if count.get(&last(name)) == Some(&1) {
            *name = last(name);
        }
    }
    fields.sort_by_key(|(name, _)| SAID.iter().position(|said| name.ends_with(said)).unwrap_or(SAID.len()));
    fields
}

pub(super) fn line(shown: &Shown) -> Line {
    let mut fields = Vec::new();
    if let Value::Object(record) = &shown.record {
        for (name, value) in record.iter().filter(|(name, _)| !COMMON.contains(&name.as_str())) {
            flat(&name.replace('_', " "), value, &mut fields);
        }
    }
    let said = |name: &str| shown.record[name].as_str().unwrap_or_default();
    let words = shown.kind.replace('_', " ").to_lowercase();
    let mut letters = words.chars();
    let title = letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    Line {
        index: shown.index,
        title,
        kind: shown.kind.clone(),
        at: readable(&shown.at),
        own_time: readable(said("timestamp")),
        source: said("source").to_owned(),
        severity: Some(said("severity")).filter(|word| !QUIET.contains(word)).unwrap_or_default().to_owned(),
        class: shown.class.clone(),
        leaf: shown.leaf.clone(),
        personal: match shown.personal {
            PersonalState::Shown => "personal content shown",
            PersonalState::None => "",
            PersonalState::Erased => "the person was erased",
            PersonalState::Ended => "its time to be kept has ended",
        },
        imported: shown.imported,
        fields: in_order(fields),
    }
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    html(&Look::empty(&who, app.size()))
}

/// Everything about a customer, the newest first.
pub(crate) async fn history(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (customer, reason) = (field(&fields, "customer", 128)?, field(&fields, "reason", 500)?);
    blocking(&app, move |app| {
        let of = Of::Person(IdentifierType::CustomerId, customer.clone());
        let granted = app.parts.guard.history(&who.purpose("page", &reason, "page-history"), &of)?;
        let lines = granted.get().iter().rev().map(line).collect();
        let (access, empty) = (granted.access(), Look::empty(&who, app.size()));
        html(&Look { title: "History of a customer", reason, customer, asked: true, lines, access, ..empty })
    })
    .await
}

/// Entries by words, the newest first.
pub(crate) async fn search(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (words, reason) = (field(&fields, "words", 500)?, field(&fields, "reason", 500)?);
    blocking(&app, move |app| {
        let find = Find { words: words.clone(), limit: FOUND_MAX, ..Find::default() };
        let granted = app.parts.guard.find(&who.purpose("page", &reason, "page-search"), &find)?;
        let (access, page) = (granted.access(), granted.into_inner());
        let lines = page.lines.iter().map(line).collect();
        let (more, empty) = (page.next_below.is_some(), Look::empty(&who, app.size()));
        html(&Look { title: "Search", reason, words, asked: true, lines, more, access, ..empty })
    })
    .await
}

/// One entry.
pub(crate) async fn entry(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (index, reason) = (field(&fields, "index", 16)?, field(&fields, "reason", 500)?);
    let index = crate::search::index(&index)?;
    blocking(&app, move |app| {
        let purpose = who.purpose("page", &reason, "page-entry");
        let granted = app.parts.guard.show(&purpose, index)?;
        let proof = match app.parts.guard.may_roles(&who.user.roles, Action::ReadReceipt) {
            true => Steps::of(app.parts.guard.receipt(&purpose, index)?.get()),
            false => None,
        };
        let standing = Some(app.parts.mirrors.standing(index));
        let (access, empty) = (granted.access(), Look::empty(&who, app.size()));
        html(&Look {
            title: "One entry",
            reason,
            asked: true,
            lines: vec![line(granted.get())],
            access,
            proof,
            standing,
            ..empty
        })
    })
    .await
}
