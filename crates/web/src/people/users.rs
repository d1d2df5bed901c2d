//! People and their roles, for who administers them. Each change names the reference under which it was decided, and is an
//! entry before it takes effect.

use std::collections::HashMap;
use std::sync::Arc;

use access::change::Sort;
use access::policy::Action;
use access::role::Role;
use access::store::{Alias, Person, Session};
use access::user::{self, CHANGED, Change, INVITED, REGISTER, Standing, changed};
use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Head, People, SignedIn, end_sessions, field, html, off, own_form, recorded, signed_in, stored, to};
use crate::app::App;
use crate::changes;
use crate::lock;
use crate::problem::Problem;

/// People, at most.
const USERS_MAX: usize = 10_000;

struct UserLine {
    id: String,
    name: String,
    address: String,
    roles: String,
    standing: &'static str,
    second: bool,
    own: bool,
}

#[derive(Template)]
#[template(path = "people/users.html")]
struct UsersPage {
    head: Head,
    users: Vec<UserLine>,
    roles: Vec<(&'static str, String)>,
    /// Of whom a link was just made, and the link.
    made: Option<(String, String)>,
    /// Whether it was sent to them instead.
    sent: bool,
}

fn show(
    app: &App,
    people: &People,
    who: &SignedIn,
    (made, sent): (Option<(String, String)>, bool),
) -> Result<Response, Problem> {
    let held: Vec<_> = {
        let users = lock::read(&people.users);
        users.iter().cloned().collect()
    };
    app.parts.guard.may_see(&who.purpose("users", "", "page-users"), Action::ManageUsers, held.len())?;
    let mut users = Vec::new();
    for user in held {
        let person = stored(people.store.person(&user.id))?;
        users.push(UserLine {
            name: person.as_ref().map(|person| person.name.clone()).unwrap_or_default(),
            address: person.as_ref().map(|person| person.address.clone()).unwrap_or_default(),
            second: person.is_some_and(|person| person.second.is_some()),
            roles: Role::list(&user.roles),
            standing: user.standing.name(),
            own: user.id == who.user.id,
            id: user.id,
        });
    }
    let roles = Role::GIVEN.map(|role| (role.name(), role.words())).to_vec();
    html(&UsersPage { head: who.head(), users, roles, made, sent })
}

pub(crate) async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let who = signed_in(&app, &headers).await?;
    off(&app, move |app, people| show(app, people, &who, (None, false))).await
}

/// The roles that a form chose.
fn roles(fields: &HashMap<String, String>) -> Result<Vec<Role>, Problem> {
    let names = fields.get("roles").map(String::as_str).unwrap_or_default();
    let roles: Option<Vec<Role>> =
        names.split_whitespace().map(|name| Role::parse(name).filter(|role| Role::GIVEN.contains(role))).collect();
    roles.filter(|roles| !roles.is_empty()).ok_or_else(|| Problem::bad("choose one role or more"))
}

pub(crate) async fn invite(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (name, address) = (field(&fields, "name", 128)?, field(&fields, "address", 320)?);
    let (roles, reference) = (roles(&fields)?, field(&fields, "change_reference", 128)?);
    if !address.contains('@') {
        return Err(Problem::bad("the address must be an e-mail address"));
    }
    off(&app, move |app, people| {
        app.parts.guard.may(&who.purpose("users", &reference, "page-users"), Action::ManageUsers, None)?;
        let _turn = people.changing();
        let facts = json!({
            "register": REGISTER, "user_id": user::id(&people.store.fresh()), "roles": Role::names(&roles),
            "actor": who.user.id, "change_reference": reference, "name": name, "email": address,
        });
        check_invitation(people, &facts)?;
        if changes::waits(app, Sort::Users) {
            changes::propose(app, INVITED, &facts, None)?;
            return Ok(to("/changes"));
        }
        recorded(app, INVITED, facts.clone())?;
        let made = invitation_takes_effect(app, people, &facts)?;
        let made = handed(app, people, facts["user_id"].as_str().unwrap_or_default(), made)?;
        show(app, people, &who, made)
    })
    .await
}

/// Sends somebody the link that was made for them, where mail is configured, so that nobody sees it but whose it is; else
/// gives it back to be shown. Whether it was sent.
pub(super) fn handed(
    app: &App,
    people: &People,
    user: &str,
    made: Option<(String, String)>,
) -> Result<(Option<(String, String)>, bool), Problem> {
    let (Some(reach), Some((name, link))) = (&app.parts.reach, made.clone()) else { return Ok((made, false)) };
    let Some(person) = stored(people.store.person(user))? else { return Ok((made, false)) };
    let text = format!(
        "An administrator of {url} made you this link, by which you choose your password:\n\n{url}{link}\n\nIt opens once, for three days. If you expect none, tell them.\n",
        url = reach.url
    );
    let sent = reach.post.send(&person.address, "Your access", &text).is_ok();
    Ok((if sent { None } else { Some((name, link)) }, sent))
}

/// Whether somebody may be invited so.
pub(crate) fn check_invitation(people: &People, facts: &Value) -> Result<(), Problem> {
    let address = facts["email"].as_str().unwrap_or_default();
    if address.is_empty() {
        return Err(Problem::bad("who was invited is not known any more: refuse it"));
    }
    if lock::read(&people.users).iter().count() >= USERS_MAX {
        return Err(Problem::bad(format!("there are {USERS_MAX} people: more than a trail may have")));
    }
    if stored(people.store.person_at(address))?.is_some() {
        return Err(Problem::bad("somebody with this address is here already"));
    }
    Ok(())
}

/// Lets a recorded invitation take effect; whose link it makes, and the link.
pub(crate) fn invitation_takes_effect(
    app: &App,
    people: &People,
    facts: &Value,
) -> Result<Option<(String, String)>, Problem> {
    let text = |name: &str| facts[name].as_str().unwrap_or_default().to_owned();
    lock::write(&people.users).apply(INVITED, facts);
    let person = Person::invited(text("user_id"), text("email"), text("name"));
    stored(people.store.put(&person))?;
    let link = stored(people.store.make_link(&person.id, app.now().0))?;
    Ok(Some((person.name, link)))
}

pub(crate) async fn change(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (who, fields) = own_form(&app, &headers, body).await?;
    let (id, step, reference) =
        (field(&fields, "user", 64)?, field(&fields, "step", 16)?, field(&fields, "change_reference", 128)?);
    let step = match step.as_str() {
        "roles" => Change::Roles,
        "suspend" => Change::Suspended,
        "resume" => Change::Resumed,
        "end" => Change::Ended,
        "link" => Change::Invited,
        "second-factor" => Change::SecondFactorRemoved,
        _ => return Err(Problem::bad("step must be roles, suspend, resume, end, link or second-factor")),
    };
    let chosen = if step == Change::Roles { roles(&fields)? } else { Vec::new() };
    off(&app, move |app, people| {
        app.parts.guard.may(&who.purpose("users", &reference, "page-users"), Action::ManageUsers, None)?;
        let _turn = people.changing();
        if id == who.user.id {
            return Err(Problem::bad("nobody changes their own account here: ask another administrator"));
        }
        let mut facts = changed(&id, step, &who.user.id);
        facts["change_reference"] = reference.into();
        if step == Change::Roles {
            facts["roles"] = Role::names(&chosen).into();
        }
        if people.user(&who.user.id).is_none_or(|user| user.standing != Standing::Active) {
            return Err(Problem::bad("your account was changed meanwhile"));
        }
        let again = check_change(people, &facts)?.1;
        // Who must not be here any more is out at once, and what an end that was cut off left is ended again.
        if step != Change::Suspended && !again && changes::waits(app, Sort::Users) {
            changes::propose(app, CHANGED, &facts, None)?;
            return Ok(to("/changes"));
        }
        if !again {
            recorded(app, CHANGED, facts.clone())?;
        }
        let made = change_takes_effect(app, people, step, &facts)?;
        let made = handed(app, people, &id, made)?;
        show(app, people, &who, made)
    })
    .await
}

/// Whether an account may be changed so: the step, and whether that was recorded before and is only to be ended.
pub(crate) fn check_change(people: &People, facts: &Value) -> Result<(Change, bool), Problem> {
    let (id, step) = (facts["user_id"].as_str().unwrap_or_default(), facts["change"].as_str());
    let step = Change::ALL.iter().find(|(_, name)| Some(*name) == step).map(|(step, _)| *step);
    let step = step.ok_or_else(|| Problem::bad("this change is not known here"))?;
    let user = people.user(id).ok_or_else(|| Problem::bad("there is nobody of this id"))?;
    let over = user.standing == Standing::Ended;
    if over && step != Change::Ended {
        return Err(Problem::bad("who has left does not come back under the same id: invite them anew"));
    }
    match (step, stored(people.store.person(id))?) {
        (Change::Invited | Change::SecondFactorRemoved, None) => {
            Err(Problem::bad("what this person signs in with is not kept here any more: invite them anew"))
        }
        (Change::Invited | Change::SecondFactorRemoved | Change::Roles, Some(person)) if person.sso => {
            Err(Problem::bad("this person comes by single sign-on: their provider says how, and in which roles"))
        }
        _ => Ok((step, over)),
    }
}

/// Lets a recorded change of an account take effect; whose link it makes, and the link.
pub(crate) fn change_takes_effect(
    app: &App,
    people: &People,
    step: Change,
    facts: &Value,
) -> Result<Option<(String, String)>, Problem> {
    let id = facts["user_id"].as_str().unwrap_or_default();
    lock::write(&people.users).apply(CHANGED, facts);
    // Other roles are looked up at each request; who may not be here any more is out at once.
    if matches!(step, Change::Suspended | Change::Ended) {
        end_sessions(app, people, id, (|_: &Session| true, "suspended"))?;
        changes::close_of(app, id, facts["actor"].as_str().unwrap_or_default());
    }
    match step {
        Change::SecondFactorRemoved => {
            if let Some(mut held) = stored(people.store.person(id))? {
                held.second = None;
                for passkey in std::mem::take(&mut held.passkeys) {
                    stored(people.store.drop_alias(Alias::Passkey, &passkey.id))?;
                }
                stored(people.store.put(&held))?;
            }
            Ok(None)
        }
        Change::Ended => stored(people.store.forget(id)).map(|()| None),
        Change::Invited => Ok(Some((id.to_owned(), stored(people.store.make_link(id, app.now().0))?))),
        _ => Ok(None),
    }
}
