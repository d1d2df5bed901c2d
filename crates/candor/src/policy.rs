//! The policies of a deployment: the file or those that ship, and their record in the trail.
//!
//! They are read when a trail is opened for reading or serving. That they changed is an entry, with what changed, before
//! anything is decided by them.

use std::path::Path;
use std::sync::Arc;

use access::policy::{Policy, SHIPPED};
use anyhow::{Context, Result};
use serde_json::json;
use views::open;
use views::words;

use crate::config::Config;
use crate::trail::Trail;

/// Characters of a change that are kept, at most; the text itself is kept whole.
const DIFF_CHARS_MAX: usize = 12_000;
/// Lines beside a change.
const DIFF_CONTEXT: usize = 1;

/// The policies of a deployment.
pub fn read(data: &Path, config: &Config) -> Result<Policy> {
    let Some(path) = &config.policy_file else { return Policy::new(SHIPPED).context("the shipped policies") };
    let path = data.join(path);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Policy::new(&text).with_context(|| format!("read {}", path.display()))
}

/// The policies of an open trail, recorded where the trail does not say yet that they hold.
pub fn of(trail: &Trail) -> Result<Arc<Policy>> {
    let mut held = trail.policy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(held) = held.as_ref() {
        return Ok(Arc::clone(held));
    }
    let policy = Arc::new(read(&trail.paths.data, &trail.config)?);
    record(trail, &policy)?;
    *held = Some(Arc::clone(&policy));
    Ok(policy)
}

fn record(trail: &Trail, policy: &Policy) -> Result<()> {
    let mut before = None;
    if let Some(index) = trail.views()?.newest(vec![words::filter("kind", "POLICY_CHANGED")], 1)?.first() {
        let stored = trail.intake.reader().entry(*index)?;
        before = open::facts(&stored, &mut *trail.store.lock()?, &trail.catalogue)?.map(|(_, facts)| facts);
    }
    let said = |name: &str| before.as_ref().and_then(|facts| facts.get(name)?.as_str()).unwrap_or_default();
    let digest = policy.digest().hex();
    if said("policy_sha256") == digest {
        return Ok(());
    }
    let diff =
        similar::udiff::unified_diff(similar::Algorithm::Myers, said("policy_text"), policy.text(), DIFF_CONTEXT, None);
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
    trail.intake.own_one("POLICY_CHANGED", fields).context("record the policies")?;
    Ok(())
}
