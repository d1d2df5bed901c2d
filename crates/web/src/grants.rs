//! `/v1/grants`: leave to read, given and taken back; each is a record before it takes effect.

use std::sync::Arc;

use access::change::{Proposal, Sort, is_person, root};
use access::grant::{self, GIVEN, Grant, LASTS_MS_MAX, NAMES_MAX, REVOKED, What};
use access::policy::Action;
use access::user::Standing;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use proof::encoding::is_token;
use proof::time::UnixMillis;
use reads::decide::Purpose;
use reads::guard::Of;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::changes;
use crate::keys::object;
use crate::lock;
use crate::problem::Problem;
use crate::search::{asked, blocking};

/// Grants of a trail, at most.
const GRANTS_MAX: usize = 100_000;
/// Grants of an answer, at most: the newest.
const SHOWN_MAX: usize = 1000;

/// What somebody asks to give.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asking {
    pub(crate) grantee: String,
    pub(crate) kinds: Vec<String>,
    pub(crate) fields: Vec<String>,
    pub(crate) customer: Option<String>,
    pub(crate) from: Option<UnixMillis>,
    pub(crate) until: Option<UnixMillis>,
    pub(crate) expires: UnixMillis,
    pub(crate) reason: String,
    pub(crate) reference: Option<String>,
}

fn unfit(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::CONFLICT, "unfit", detail)
}

impl Asking {
    fn check(&self, app: &App) -> Result<(), Problem> {
        let now = app.now();
        if self.expires <= now || self.expires.0 > now.0 + LASTS_MS_MAX {
            return Err(unfit("expires must be a time to come, at most 366 days from now"));
        }
        if self.from.zip(self.until).is_some_and(|(from, until)| from >= until) {
            return Err(unfit("from must be before until"));
        }
        if !self.kinds.iter().all(|kind| app.parts.catalogue.newest(kind).is_some()) {
            return Err(unfit("kinds names one that is not known here: /openapi.json lists them"));
        }
        let known = match self.grantee.strip_prefix("api-key-") {
            Some(key) => lock::read(&app.keys).get(key).is_some_and(|key| key.check(now).is_ok()),
            None => {
                let welcome = |standing| matches!(standing, Standing::Invited | Standing::Active);
                app.parts
                    .people
                    .as_ref()
                    .is_some_and(|people| people.user(&self.grantee).is_some_and(|user| welcome(user.standing)))
            }
        };
        if known { Ok(()) } else { Err(unfit("grantee must be the id of a person (u-...) or of a key (api-key-...)")) }
    }
}

/// What came of asking for a grant.
pub(crate) enum Given {
    /// It holds; the entry that says so.
    Now(Box<Grant>, u64),
    /// It waits for a second person.
    Waits(Box<Proposal>),
}

/// Gives a grant, or proposes it where that takes a second person.
pub(crate) fn give(app: &App, purpose: &Purpose, asking: Asking) -> Result<Given, Problem> {
    let guard = &app.parts.guard;
    guard.may(purpose, Action::GiveGrant, None)?;
    asking.check(app)?;
    let own = {
        let keys = lock::read(&app.keys);
        root(&asking.grantee, &keys) == root(&purpose.actor, &keys) && is_person(root(&purpose.actor, &keys))
    };
    if own || asking.grantee == purpose.actor {
        return Err(unfit("nobody gives themselves leave: ask another who may"));
    }
    if guard.grants(|grants| grants.iter().count()) >= GRANTS_MAX {
        return Err(unfit("there are 100000 grants: more than a trail may have"));
    }
    let subject = match &asking.customer {
        None => None,
        Some(customer) => Some(guard.subject_of(&Of::customer(customer))?.ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, "no-such-customer", "nobody has this number here, or was erased")
        })?),
    };
    let mut random = [0; grant::ID_BYTES];
    random.copy_from_slice(&(app.parts.random)()[..grant::ID_BYTES]);
    let given = Grant {
        id: grant::id(&random),
        grantee: asking.grantee,
        what: What {
            kinds: asking.kinds,
            fields: asking.fields,
            from: asking.from,
            until: asking.until,
            of_person: subject.is_some(),
            subject,
        },
        reason: asking.reason,
        expires: asking.expires,
        giver: purpose.actor.clone(),
        giver_roles: purpose.roles.clone(),
        revoked: false,
    };
    let mut facts = given.facts();
    if let Some(reference) = asking.reference {
        facts["change_reference"] = reference.into();
    }
    if let Some(customer) = asking.customer {
        facts["customer_id"] = customer.into();
    }
    if changes::waits(app, Sort::Grants) {
        return Ok(Given::Waits(Box::new(changes::propose(app, GIVEN, &facts, subject)?)));
    }
    let entry = take_effect(app, GIVEN, facts, subject)?;
    // As the trail has it: a secret in the reason was cut.
    let given = guard.grants(|grants| grants.get(&given.id).cloned()).unwrap_or(given);
    Ok(Given::Now(Box::new(given), entry))
}

/// Takes a grant back; the entry that says so.
pub(crate) fn take_back(app: &App, purpose: &Purpose, id: &str, reference: &str) -> Result<u64, Problem> {
    let guard = &app.parts.guard;
    guard.may(purpose, Action::GiveGrant, None)?;
    let held = guard.grants(|grants| grants.get(id).cloned());
    let held =
        held.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no-such-grant", "there is no grant of this id"))?;
    if held.revoked {
        return Err(Problem::new(StatusCode::CONFLICT, "ended", "this grant was taken back before"));
    }
    let mut facts = grant::revoke(id, &purpose.actor, reference);
    if held.what.subject.is_some() {
        // What has a personal part stands in the history of the person whom the grant names.
        facts["reason"] = "".into();
    }
    take_effect(app, REVOKED, facts, held.what.subject)
}

fn take_effect(app: &App, kind: &'static str, facts: Value, subject: Option<u64>) -> Result<u64, Problem> {
    let entry = changes::record(app, vec![(kind, facts, subject)])?.first().copied().unwrap_or_default();
    app.parts.guard.apply_grant(entry, subject)?;
    Ok(entry)
}

/// A grant as it is shown. Whom it is about is sealed in its entry.
pub(crate) fn shown(grant: &Grant, now: UnixMillis) -> Value {
    let mut shown = grant.facts();
    if let Value::Object(shown) = &mut shown {
        shown.remove("register");
        shown.insert("state".into(), state(grant, now).into());
    }
    shown
}

/// How a grant stands.
pub(crate) fn state(grant: &Grant, now: UnixMillis) -> &'static str {
    match (grant.revoked, grant.holds(now)) {
        (true, _) => "revoked",
        (false, true) => "holds",
        (false, false) => "expired",
    }
}

/// The grants that somebody may see, the newest end first: all, who may give them; their own, everybody else.
pub(crate) fn visible(app: &App, purpose: &Purpose) -> Result<Vec<Grant>, Problem> {
    let guard = &app.parts.guard;
    let gives = guard.may_roles(&purpose.roles, Action::GiveGrant);
    let mut visible: Vec<Grant> =
        guard.grants(|grants| grants.iter().filter(|grant| gives || grant.grantee == purpose.actor).cloned().collect());
    visible.sort_by_key(|grant| std::cmp::Reverse(grant.expires));
    visible.truncate(SHOWN_MAX);
    if gives {
        guard.may_see(purpose, Action::GiveGrant, visible.len())?;
    }
    Ok(visible)
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-grants")?;
    blocking(&app, move |app| {
        let now = app.now();
        let list: Vec<Value> = visible(app, &purpose)?.iter().map(|grant| shown(grant, now)).collect();
        Ok(Json(json!({"grants": list, "tree_size": app.size()})).into_response())
    })
    .await
}

/// Names of what a grant is asked by.
pub(crate) const FIELDS: [&str; 9] =
    ["grantee", "kinds", "fields", "customer", "from", "until", "expires", "reason", "change_reference"];

/// A text of one line that says something.
pub(crate) fn line(name: &str, value: Option<&Value>, most: usize) -> Result<String, Problem> {
    let fits =
        |text: &&str| text.chars().count() <= most && !text.trim().is_empty() && !text.chars().any(char::is_control);
    let text = value.and_then(Value::as_str).filter(fits);
    let bad = || Problem::bad(format!("{name} must be a text of one line, 1 to {most} characters"));
    text.map(str::to_owned).ok_or_else(bad)
}

fn asking(given: &Map<String, Value>) -> Result<Asking, Problem> {
    let text = |name: &str, most: usize| given.get(name).map(|value| line(name, Some(value), most)).transpose();
    let needed = |name: &str, most| text(name, most)?.ok_or_else(|| Problem::bad(format!("{name} is needed")));
    let time = |name: &str| -> Result<Option<UnixMillis>, Problem> {
        let bad = |_| Problem::bad(format!("{name} must be a time such as 2027-01-31T00:00:00Z"));
        text(name, 40)?.map(|text| UnixMillis::parse(text.as_bytes()).map_err(bad)).transpose()
    };
    let list = |name: &str| -> Result<Vec<String>, Problem> {
        let bad = || Problem::bad(format!("{name} must be a list of at most {NAMES_MAX} names"));
        let Some(value) = given.get(name) else { return Ok(Vec::new()) };
        let list = value.as_array().filter(|list| list.len() <= NAMES_MAX).ok_or_else(bad)?;
        let name_of = |item: &Value| item.as_str().filter(|text| is_token(text)).map(str::to_owned);
        list.iter().map(|item| name_of(item).ok_or_else(bad)).collect()
    };
    Ok(Asking {
        grantee: needed("grantee", 64)?,
        kinds: list("kinds")?,
        fields: list("fields")?,
        customer: text("customer", 128)?,
        from: time("from")?,
        until: time("until")?,
        expires: time("expires")?.ok_or_else(|| Problem::bad("expires is needed"))?,
        reason: needed("reason", 500)?,
        reference: text("change_reference", 128)?,
    })
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-grants")?;
    let asking = asking(&object(&app, &headers, body, &FIELDS).await?)?;
    blocking(&app, move |app| match give(app, &purpose, asking)? {
        Given::Now(grant, entry) => {
            let mut body = shown(&grant, app.now());
            body["entry"] = entry.into();
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
        Given::Waits(proposal) => Ok(changes::accepted(json!({}), &proposal)),
    })
    .await
}

pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (_, purpose) = asked(&app, &headers, query.as_deref(), &[], "api-grants")?;
    let given = object(&app, &headers, body, &["change_reference"]).await?;
    let reference = line("change_reference", given.get("change_reference"), 128)?;
    blocking(&app, move |app| {
        let entry = take_back(app, &purpose, &id, &reference)?;
        Ok(Json(json!({"grant_id": id, "entry": entry})).into_response())
    })
    .await
}
