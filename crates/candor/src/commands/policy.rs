//! `candor policy`: the policies, and why something is decided so.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use access::policy::{Action, Asked, Policy as Policies};
use access::role::Role;
use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Data, Output};
use crate::config::Config;
use crate::policy;

/// `candor policy`
#[derive(Args)]
pub struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the policies that hold, as Cedar text: where to begin with a file of your own.
    Show {
        #[command(flatten)]
        data: Data,
    },
    /// Check a file of policies against the schema, without using it.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Say whether a role may do something, by which rule, what would have to be otherwise, and who may.
    ///
    /// It asks the policies and opens no trail, so nothing is recorded.
    Explain(Explain),
}

#[derive(Args)]
struct Explain {
    #[command(flatten)]
    data: Data,
    /// Role of who asks. May be given again.
    #[arg(long = "role", required = true, value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)))]
    roles: Vec<String>,
    /// What is asked to be done.
    #[arg(value_parser = PossibleValuesParser::new(Action::ALL.map(|(_, name, _)| name)))]
    action: String,
    /// The register it is done to, such as tickets.
    #[arg(long)]
    register: Option<String>,
    /// Persons of whom something personal would be opened.
    #[arg(long, default_value_t = 0)]
    persons: u64,
    /// Retention class of entries that would be shown. May be given again.
    #[arg(long = "class")]
    classes: Vec<String>,
    /// A reason is given.
    #[arg(long)]
    justified: bool,
    /// Who asks signed in with a second factor.
    #[arg(long)]
    second_factor: bool,
    /// It is their own data.
    #[arg(long)]
    own: bool,
    /// Role of another person who gave a grant for it. May be given again.
    #[arg(long = "approval", value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)))]
    approvals: Vec<String>,
    #[command(flatten)]
    output: Output,
}

impl Policy {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Show { data } => {
                print!("{}", policy::read(&data.data, &Config::read(&data.data)?)?.text());
                Ok(ExitCode::SUCCESS)
            }
            Command::Check { file } => {
                let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
                let policies = Policies::new(&text).with_context(|| format!("read {}", file.display()))?;
                println!("{} policies, sha256 {}", policies.count(), policies.digest().hex());
                Ok(ExitCode::SUCCESS)
            }
            Command::Explain(explain) => explain.run(),
        }
    }
}

impl Explain {
    /// 0: it may be done; 3: it may not.
    fn run(self) -> Result<ExitCode> {
        let policies = policy::read(&self.data.data, &Config::read(&self.data.data)?)?;
        let roles: Vec<Role> = self.roles.iter().filter_map(|name| Role::parse(name)).collect();
        let set = |names: &'_ [String]| -> BTreeSet<String> { names.iter().cloned().collect() };
        let (classes, approvals) = (set(&self.classes), set(&self.approvals));
        let asked = Asked {
            roles: &roles,
            action: Action::parse(&self.action).context("policy explain: there is no such action")?,
            register: self.register.as_deref(),
            purpose: "explain",
            justified: self.justified,
            persons: self.persons,
            classes: classes.iter().map(String::as_str).collect(),
            parts: self.register.as_deref().into_iter().collect(),
            second_factor: self.second_factor,
            own: self.own,
            approvals: approvals.iter().map(String::as_str).collect(),
            approvers: self.approvals.len() as u64,
        };
        let why = policies.explain(&asked);
        if self.output.json {
            let rules: Vec<_> = why.rules.iter().map(|(rule, says)| json!({"rule": rule, "says": says})).collect();
            let may = Role::names(&why.roles);
            println!("{}", json!({"permitted": why.permitted, "rules": rules, "instead": why.instead, "roles": may}));
        } else if why.permitted {
            for (rule, says) in &why.rules {
                println!("permitted by {rule}: {says}");
            }
        } else {
            println!("refused: {}", reads::error::sentence(&why));
        }
        Ok(if why.permitted { ExitCode::SUCCESS } else { ExitCode::from(3) })
    }
}
