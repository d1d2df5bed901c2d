//! `candor review`: who read what in a month, to be signed by managers.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use reads::review::Month;
use serde_json::json;

use super::{Data, Output, look};
use crate::{people, reviews};

/// `candor review`
#[derive(Args)]
pub struct Review {
    #[command(flatten)]
    data: Data,
    /// The month, such as 2026-11.
    month: String,
    #[command(flatten)]
    output: Output,
}

impl Review {
    pub fn run(self) -> Result<ExitCode> {
        let month = Month::parse(&self.month).context("review: give a month such as 2026-11")?;
        let due = look::guarded(&self.data.data, |guard, trail| {
            reviews::due(guard, &trail.intake, &month, &reviews::reviewers(&people::users(trail)?))
        })?;
        if self.output.json {
            println!("{}", json!({"month": month.name, "due": due}));
        } else {
            println!("{due} reviews of {} are due now: /reviews, `candor list reviews --open`", month.name);
        }
        Ok(ExitCode::SUCCESS)
    }
}
