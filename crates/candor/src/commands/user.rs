//! `candor user`: people's accounts, where the server is not running.

use std::process::ExitCode;

use access::role::Role;
use access::user::{CHANGED, Change, Standing, changed};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ledger::clock::{Clock, SystemClock};
use serde_json::json;

use super::{Data, Output};
use crate::people;
use crate::trail::{OpenMode, Trail};

/// `candor user`
#[derive(Args)]
pub struct User {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List people: id, state, roles. Their names are at the page /users.
    List {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        output: Output,
    },
    /// Make a link by which somebody chooses a new password, such as the only administrator who has lost theirs.
    ///
    /// The link is the path of a page of the server; it opens once, for three days. Whoever is signed in stays so until
    /// the new password is chosen. It is recorded (USER_CHANGED, invited).
    Link {
        #[command(flatten)]
        data: Data,
        /// Id, as the list shows it.
        id: String,
        /// Under which it was decided: a ticket, a minute.
        #[arg(long, value_name = "REFERENCE")]
        reference: String,
        /// Take the second factor away too: device and recovery codes are lost.
        #[arg(long)]
        without_second_factor: bool,
    },
    /// End an account, such as that of one of two administrators who has left: the other could not end it alone.
    ///
    /// Sessions, password and links of it are gone; the id does not come back. It is recorded (USER_CHANGED, ended).
    End {
        #[command(flatten)]
        data: Data,
        /// Id, as the list shows it.
        id: String,
        /// Under which it was decided: a ticket, a minute.
        #[arg(long, value_name = "REFERENCE")]
        reference: String,
    },
}

impl User {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::List { data, output } => {
                let trail = Trail::open(&data.data, OpenMode::default())?;
                let users = people::users(&trail);
                trail.close()?;
                for user in users?.iter() {
                    let roles = Role::names(&user.roles);
                    if output.json {
                        println!("{}", json!({"id": user.id, "state": user.standing.name(), "roles": roles}));
                    } else {
                        println!("{}  {:<9} {}", user.id, user.standing.name(), roles.join(","));
                    }
                }
            }
            Command::Link { data, id, reference, without_second_factor } => {
                let trail = Trail::open(&data.data, OpenMode::default())?;
                let made = link(&trail, &id, &reference, without_second_factor);
                trail.close()?;
                println!("{}", made?);
            }
            Command::End { data, id, reference } => {
                let trail = Trail::open(&data.data, OpenMode::default())?;
                let ended = end(&trail, &id, &reference);
                trail.close()?;
                ended?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn end(trail: &Trail, id: &str, reference: &str) -> Result<()> {
    let users = people::users(trail)?;
    let user = users.get(id).context("user end: there is nobody of this id: `candor user list` shows them")?;
    // What an end that was cut off left is ended again, without another entry.
    if user.standing != Standing::Ended {
        let mut facts = changed(id, Change::Ended, &super::actor());
        facts["change_reference"] = reference.into();
        trail.intake.own_one(CHANGED, facts)?;
    }
    Ok(people::store(trail)?.forget(id)?)
}

fn link(trail: &Trail, id: &str, reference: &str, without_second_factor: bool) -> Result<String> {
    let users = people::users(trail)?;
    let user = users.get(id).context("user link: there is nobody of this id: `candor user list` shows them")?;
    if matches!(user.standing, Standing::Suspended | Standing::Ended) {
        bail!("user link: this account is {}: it opens to nobody", user.standing.name());
    }
    let store = people::store(trail)?;
    let Some(mut person) = store.person(id)? else {
        bail!("user link: what this person signs in with is not in DIR/access: invite them anew");
    };
    let record = |change| {
        let mut facts = changed(id, change, &super::actor());
        facts["change_reference"] = reference.into();
        trail.intake.own_one(CHANGED, facts)
    };
    record(Change::Invited)?;
    if without_second_factor && person.second.take().is_some() {
        record(Change::SecondFactorRemoved)?;
        store.put(&person)?;
    }
    Ok(store.make_link(id, SystemClock.now().0)?)
}
