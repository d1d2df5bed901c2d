//! The policies of a deployment: the file or those that ship, and their record in the trail.
//!
//! Which hold is settled when a trail is opened (`settings`). That they changed is an entry, with what changed, before
//! anything is decided by them.

use std::path::Path;
use std::sync::Arc;

use access::policy::{Policy, SHIPPED};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::config::Config;
use crate::past::Past;
use crate::settings::difference;
use crate::trail::Trail;

/// Characters of a change that are kept, at most; the text itself is kept whole.
const DIFF_CHARS_MAX: usize = 12_000;

/// The text of a deployment's policies, as its file has it.
pub fn text(data: &Path, config: &Config) -> Result<String> {
    let Some(path) = &config.policy_file else { return Ok(SHIPPED.to_owned()) };
    let path = data.join(path);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The policies of a deployment, as its file has them.
pub fn read(data: &Path, config: &Config) -> Result<Policy> {
    checked(&text(data, config)?, data, config)
}

/// The policies that a text is; what is wrong names the file that it is from.
pub fn checked(text: &str, data: &Path, config: &Config) -> Result<Policy> {
    Policy::new(text).with_context(|| match &config.policy_file {
        Some(path) => format!("read {}", data.join(path).display()),
        None => "the shipped policies".into(),
    })
}

/// The policies of an open trail, recorded where the trail does not say yet that they hold.
pub fn of(trail: &Trail) -> Result<Arc<Policy>> {
    let mut held = trail.policy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(held) = held.as_ref() {
        return Ok(Arc::clone(held));
    }
    let policy = Arc::new(checked(trail.settled.policy(), &trail.paths.data, &trail.config)?);
    if let Some(fields) = changed(trail.past()?, &policy)? {
        trail.intake.own_one("POLICY_CHANGED", fields).context("record the policies")?;
    }
    *held = Some(Arc::clone(&policy));
    Ok(policy)
}

/// The fields of the record that these policies hold from now on; none where the trail says so already.
pub fn changed(past: Past<'_>, policy: &Policy) -> Result<Option<Value>> {
    let before = past.newest("POLICY_CHANGED")?.map(|(_, facts)| facts);
    let said =
        |name: &str| before.as_ref().and_then(|facts| facts.get(name)).and_then(Value::as_str).unwrap_or_default();
    let digest = policy.digest().hex();
    if said("policy_sha256") == digest {
        return Ok(None);
    }
    let diff = difference(said("policy_text"), policy.text());
    let cut: String = diff.chars().take(DIFF_CHARS_MAX).collect();
    let mut fields = json!({
        "policy_sha256": digest, "policies": policy.count(), "policy_text": policy.text(),
        "actor": crate::commands::actor(),
    });
    if !said("policy_sha256").is_empty() {
        fields["before_sha256"] = said("policy_sha256").into();
        fields["diff_cut"] = (cut.len() < diff.len()).into();
        fields["diff"] = cut.into();
    }
    Ok(Some(fields))
}
