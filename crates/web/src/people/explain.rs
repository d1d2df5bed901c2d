//! What the policies say: may a role do this, by which rule, what would have to be otherwise, who may. It asks the policies
//! and opens nothing, so nothing is recorded.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use access::policy::{Action, Asked};
use access::role::Role;
use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use record::class::CLASSES;
use record::things::SHAPES;

use super::{Head, SignedIn, html, own_form, signed_in};
use crate::app::App;
use crate::problem::Problem;

struct Choice {
    name: &'static str,
    words: String,
    chosen: bool,
}

struct Answer {
    permitted: bool,
    rules: Vec<(String, String)>,
    instead: Vec<&'static str>,
    roles: Vec<String>,
}

#[derive(Template)]
#[template(path = "people/explain.html")]
struct Explain {
    head: Head,
    roles: Vec<Choice>,
    actions: Vec<Choice>,
    parts: Vec<Choice>,
    classes: Vec<Choice>,
    persons: u64,
    justified: bool,
    answer: Option<Answer>,
}

fn show(who: &SignedIn, fields: &HashMap<String, String>, answer: Option<Answer>) -> Result<Response, Problem> {
    let chosen = |name: &str, value: &str| fields.get(name).is_some_and(|held| held == value);
    let plain =
        |name: &'static str, field: &str| Choice { name, words: name.replace('_', " "), chosen: chosen(field, name) };
    html(&Explain {
        head: who.head(),
        roles: Role::ALL.iter().map(|role| plain(role.name(), "role")).collect(),
        actions: Action::ALL
            .iter()
            .map(|(_, name, words)| Choice { name, words: (*words).to_owned(), chosen: chosen("action", name) })
            .collect(),
        parts: SHAPES.iter().map(|shape| plain(shape.path, "part")).collect(),
        classes: CLASSES.iter().map(|class| plain(class.name, "class")).collect(),
        persons: persons(fields).unwrap_or(1),
        justified: chosen("justified", "yes"),
        answer,
    })
}

fn persons(fields: &HashMap<String, String>) -> Option<u64> {
    fields.get("persons").and_then(|text| text.trim().parse().ok())
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    show(&who, &HashMap::new(), None)
}

pub(crate) async fn ask(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let role = Role::parse(text("role")).ok_or_else(|| Problem::bad("choose a role"))?;
    let action = Action::parse(text("action")).ok_or_else(|| Problem::bad("choose what is done"))?;
    let persons = persons(&fields).ok_or_else(|| Problem::bad("persons must be a number"))?;
    let one_of = |name: &str, held: &[&'static str]| -> Result<Option<&'static str>, Problem> {
        match text(name) {
            "" => Ok(None),
            given => {
                let found = held.iter().find(|one| **one == given).copied();
                found.map(Some).ok_or_else(|| Problem::bad(format!("choose a {name}")))
            }
        }
    };
    let part = one_of("part", &SHAPES.iter().map(|shape| shape.path).collect::<Vec<_>>())?;
    let class = one_of("class", &CLASSES.map(|class| class.name))?;
    let roles = [role];
    let asked = Asked {
        register: part,
        parts: part.into_iter().collect(),
        classes: class.into_iter().collect::<BTreeSet<_>>(),
        justified: text("justified") == "yes",
        persons,
        ..Asked::plain(&roles, action)
    };
    let why = app.parts.guard.policy.explain(&asked);
    let answer = Answer {
        permitted: why.permitted,
        rules: why.rules,
        instead: why.instead,
        roles: why.roles.iter().map(|role| role.words()).collect(),
    };
    show(&who, &fields, Some(answer))
}
