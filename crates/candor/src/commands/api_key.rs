//! `candor apikey`: keys of the HTTP API, where the server is not running.

use std::process::ExitCode;

use access::api_key::{Grant, Scope};
use access::role::Role;
use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use serde_json::json;

use super::{Data, Output};
use crate::serve;
use crate::trail::{OpenMode, Trail};

/// `candor apikey`
#[derive(Args)]
pub struct ApiKey {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key and print it, this once.
    Add {
        #[command(flatten)]
        data: Data,
        /// What it may do: append, read, mirror, operate, admin. May be given again.
        #[arg(long = "scope", required = true, value_parser = ["append", "read", "mirror", "operate", "admin"])]
        scopes: Vec<String>,
        /// Roles in which a key with the scope read reads (docs/policy.md). May be given again.
        #[arg(long = "role", value_parser = PossibleValuesParser::new(Role::GIVEN.map(Role::name)))]
        roles: Vec<String>,
        /// Sources that it may append to. May be given again.
        #[arg(long = "source")]
        sources: Vec<String>,
        /// When it ends, such as 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// A name for people.
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List the keys, without their texts.
    List {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a key: it opens nothing any more.
    Revoke {
        #[command(flatten)]
        data: Data,
        /// Its id, 12 hexadecimal digits.
        id: String,
    },
}

impl ApiKey {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Add { data, scopes, roles, sources, expires, label, output } => {
                let expires = expires
                    .map(|text| {
                        UnixMillis::parse(text.as_bytes())
                            .context("read --expires: give a time such as 2027-01-31T00:00:00Z")
                    })
                    .transpose()?;
                let scopes: Vec<Scope> = scopes.iter().filter_map(|name| Scope::parse(name)).collect();
                let roles: Vec<Role> = roles.iter().filter_map(|name| Role::parse(name)).collect();
                if scopes.contains(&Scope::Read) == roles.is_empty() {
                    bail!("apikey add: --role belongs to a key with the scope read, and to no other: name its roles");
                }
                let appends = scopes.contains(&Scope::Append);
                if appends && scopes.len() > 1 {
                    bail!("apikey add: a key that appends has no other scope: make two keys");
                }
                if appends == sources.is_empty() {
                    bail!("apikey add: --source belongs to a key with the scope append, and to no other");
                }
                let trail = Trail::open(&data.data, OpenMode::default())?;
                let made = add(&trail, &Grant { scopes, roles, sources, expires, label });
                trail.close()?;
                let token = made?;
                if output.json {
                    println!("{}", json!({"key": token.expose()}));
                } else {
                    println!("{}", token.expose());
                }
            }
            Command::List { data, output } => {
                let trail = Trail::open(&data.data, OpenMode::default())?;
                let keys = serve::keyring(&trail);
                trail.close()?;
                print(&keys?, output);
            }
            Command::Revoke { data, id } => {
                let trail = Trail::open(&data.data, OpenMode::default())?;
                let revoked = revoke(&trail, &id);
                trail.close()?;
                revoked?;
                println!("revoked");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn add(trail: &Trail, grant: &Grant) -> Result<access::api_key::Token> {
    for source in &grant.sources {
        trail.intake.recipients(source)?;
    }
    serve::create_key(&trail.intake, grant, &super::actor())
}

fn revoke(trail: &Trail, id: &str) -> Result<()> {
    if serve::keyring(trail)?.get(id).is_none() {
        bail!("apikey revoke: there is no key of this id: `candor apikey list` shows them");
    }
    let mut facts = access::api_key::revoke(id, SystemClock.now());
    facts["actor"] = json!(super::actor());
    trail.intake.own_one("API_KEY_REVOKED", facts).map(drop)
}

fn print(keys: &access::api_key::Keyring, output: Output) {
    let now = SystemClock.now();
    for key in keys.iter() {
        let scopes: Vec<&str> = key.grant.scopes.iter().map(|scope| scope.name()).collect();
        let roles = Role::names(&key.grant.roles);
        let expires = key.grant.expires.map(UnixMillis::rfc3339);
        let state = match key.check(now) {
            Ok(()) => "active",
            Err(access::api_key::Denied::Expired) => "expired",
            Err(_) => "revoked",
        };
        if output.json {
            println!(
                "{}",
                json!({"id": key.id, "scopes": scopes, "roles": roles, "sources": key.grant.sources, "expires": expires, "label": key.grant.label, "state": state})
            );
        } else {
            let (sources, label) = (key.grant.sources.join(","), key.grant.label.clone().unwrap_or_default());
            println!(
                "{}  {state:<8} {:<16} {:<20} {sources:<16} {} {label}",
                key.id,
                scopes.join(","),
                roles.join(","),
                expires.unwrap_or_default()
            );
        }
    }
}
