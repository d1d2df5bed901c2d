//! What holds by files: sources, who takes a second person, whence people sign in, policies. That it changed is an entry,
//! with what changed, before anything is done by it; where two people are asked for it, the files alone change nothing.
//!
//! Invariants:
//! - a trail opens with what its newest SETTINGS_CHANGED says, or records that it changed before it takes anything in;
//! - where `second_person` had "settings" in what held so far, and two people may decide, a change holds only after an
//!   approval of these very settings that no other change has used yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use access::change::{self, Proposals, SETTINGS, Sort};
use access::policy::{Action, Policy, SHIPPED};
use access::user::{self, Users};
use anyhow::{Context, Result, bail};
use proof::hash::sha256;
use reads::guard::OwnRecord;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Backup, Basis, Config, Expiry, Oidc, Source};
use crate::past::Past;

/// Characters of what changed that are kept, at most; the settings themselves are kept whole.
const DIFF_CHARS_MAX: usize = 12_000;
/// Lines beside a change.
const DIFF_CONTEXT: usize = 1;
/// Bytes of the settings as text, at most: they stand whole in their entry, which has 64 KiB.
const TEXT_BYTES_MAX: usize = 24 << 10;
/// What the policies are called where they are those that ship: they change with the software.
const POLICY_SHIPPED: &str = "shipped";

/// The part of a configuration that says who may do what and what becomes of records; beside it stand addresses, paths
/// and threads of one machine, and kinds and rules, which have records of their own. A key added later has its default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Governed {
    /// "shipped", or SHA-256 of the policies.
    policy: String,
    environment: String,
    site: Option<String>,
    policy_file: Option<PathBuf>,
    verify_days: u16,
    expiry: Expiry,
    breached_passwords: Option<PathBuf>,
    second_person: Vec<Sort>,
    public_url: Option<String>,
    oidc: Option<Oidc>,
    backup: Option<Backup>,
    retention: BTreeMap<String, Vec<Basis>>,
    sources: BTreeMap<String, Source>,
}

impl Default for Governed {
    fn default() -> Self {
        Governed::of(&Config::default(), POLICY_SHIPPED.into())
    }
}

impl Governed {
    fn of(config: &Config, policy: String) -> Governed {
        let config = config.clone();
        Governed {
            policy,
            environment: config.environment,
            site: config.site,
            policy_file: config.policy_file,
            verify_days: config.verify_days,
            expiry: config.expiry,
            breached_passwords: config.breached_passwords,
            second_person: config.second_person,
            public_url: config.public_url,
            oidc: config.oidc,
            backup: config.backup,
            retention: config.retention,
            sources: config.sources,
        }
    }

    /// A configuration with this in the place of its own.
    fn put_into(self, config: &mut Config) {
        *config = Config {
            environment: self.environment,
            site: self.site,
            policy_file: self.policy_file,
            verify_days: self.verify_days,
            expiry: self.expiry,
            backup: self.backup,
            retention: self.retention,
            breached_passwords: self.breached_passwords,
            second_person: self.second_person,
            public_url: self.public_url,
            oidc: self.oidc,
            sources: self.sources,
            ..config.clone()
        };
    }

    fn text(&self) -> Result<String> {
        let text = toml::to_string(self).context("write the settings as text")?;
        if text.len() > TEXT_BYTES_MAX {
            bail!("settings: they have {} bytes as text, {TEXT_BYTES_MAX} at most: name fewer sources", text.len());
        }
        Ok(text)
    }
}

/// What files say, as it is compared and recorded.
#[derive(Debug, Clone)]
pub struct Settings {
    governed: Governed,
    policy: String,
    text: String,
}

impl Settings {
    /// What the files of a data directory say now.
    pub fn read(data: &Path, config: &Config) -> Result<Settings> {
        let policy = crate::policy::text(data, config)?;
        Settings::new(config, policy)
    }

    fn new(config: &Config, policy: String) -> Result<Settings> {
        let named = match policy == SHIPPED {
            true => POLICY_SHIPPED.to_owned(),
            false => sha256(policy.as_bytes()).hex(),
        };
        let governed = Governed::of(config, named);
        Ok(Settings { text: governed.text()?, governed, policy })
    }

    /// SHA-256 of the text.
    pub fn sha256(&self) -> String {
        sha256(self.text.as_bytes()).hex()
    }

    /// How these differ from others; none where they do not.
    pub fn differ(&self, from: &Settings) -> Option<web::settings::Settings> {
        if self.text == from.text {
            return None;
        }
        let mut diff = difference(&from.text, &self.text);
        diff.push_str(&difference(&from.policy, &self.policy));
        let cut: String = diff.chars().take(DIFF_CHARS_MAX).collect();
        Some(web::settings::Settings { sha256: self.sha256(), cut: cut.len() < diff.len(), diff: cut })
    }
}

/// What changed from one text to another, by lines.
pub fn difference(before: &str, after: &str) -> String {
    similar::udiff::unified_diff(similar::Algorithm::Myers, before, after, DIFF_CONTEXT, None)
}

/// What a trail opens with.
pub struct Settled {
    pub settings: Settings,
    /// What is to be recorded, in one step, before anything is taken in.
    records: Vec<OwnRecord>,
}

impl Settled {
    /// Where nothing can be looked up: what the files say.
    pub fn unseen(data: &Path, config: &Config) -> Result<Settled> {
        Ok(Settled { settings: Settings::read(data, config)?, records: Vec::new() })
    }

    /// The text of the policies that hold.
    pub fn policy(&self) -> &str {
        &self.settings.policy
    }

    /// What is to be recorded.
    pub fn take_records(&mut self) -> Vec<OwnRecord> {
        std::mem::take(&mut self.records)
    }
}

/// Decides what holds: what the files say, or, where that takes two people and they did not agree, what held so far. The
/// configuration is set to it.
pub fn settle(data: &Path, config: &mut Config, past: Past<'_>) -> Result<Settled> {
    let files = Settings::read(data, config)?;
    let newest = past.newest(SETTINGS)?;
    let held = match &newest {
        Some((entry, facts)) => recorded(*entry, facts, past)?,
        None => Settings::new(&Config::default(), SHIPPED.to_owned())?,
    };
    let Some(differs) = files.differ(&held) else { return Ok(Settled { settings: files, records: Vec::new() }) };
    let mut fields = json!({
        "settings_sha256": differs.sha256, "before_sha256": held.sha256(), "settings_text": files.text,
        "diff": differs.diff, "diff_cut": differs.cut, "actor": crate::commands::actor(),
    });
    if binds(&held, past)? {
        let since = newest.map_or(0, |(entry, _)| entry);
        let agreed = approved(past)?.filter(|agreed| agreed.entry > since && agreed.sha256 == differs.sha256);
        let Some(agreed) = agreed else {
            eprintln!(
                "candor: the settings in the files are not those that hold since entry {since}, and changing them takes two people: these wait, and are proposed at /changes"
            );
            held.governed.clone().put_into(config);
            return Ok(Settled { settings: held, records: Vec::new() });
        };
        fields["approved_entry"] = agreed.entry.into();
        fields["change_reference"] = agreed.reference.into();
    }
    let own = |kind, fields| OwnRecord { kind, fields, subject: None };
    let mut records = vec![own(SETTINGS, fields)];
    if files.policy != held.policy {
        // What is no policy is refused before the trail says that it holds.
        let policy = crate::policy::checked(&files.policy, data, config)?;
        records.extend(crate::policy::changed(past, &policy)?.map(|fields| own("POLICY_CHANGED", fields)));
    }
    Ok(Settled { settings: files, records })
}

/// The settings that an entry says.
fn recorded(entry: u64, facts: &serde_json::Map<String, Value>, past: Past<'_>) -> Result<Settings> {
    let said = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = said("settings_text");
    if sha256(text.as_bytes()).hex() != said("settings_sha256") {
        bail!("entry {entry}: its settings are not whole");
    }
    let governed: Governed = toml::from_str(text).with_context(|| format!("read the settings of entry {entry}"))?;
    let policy = if governed.policy == POLICY_SHIPPED {
        SHIPPED.to_owned()
    } else {
        let held = past.newest("POLICY_CHANGED")?;
        let text = held.as_ref().and_then(|(_, facts)| facts.get("policy_text")?.as_str()).unwrap_or_default();
        if sha256(text.as_bytes()).hex() != governed.policy {
            bail!("entry {entry}: the policies that it names are not in the trail: run `candor rebuild`");
        }
        text.to_owned()
    };
    // As this software writes it: a key that it added is no change.
    Ok(Settings { text: governed.text()?, governed, policy })
}

/// Whether a change takes two people by what holds.
pub fn binds(held: &Settings, past: Past<'_>) -> Result<bool> {
    if !held.governed.second_person.contains(&Sort::Settings) {
        return Ok(false);
    }
    let mut users = Users::default();
    past.each(user::REGISTER, |kind, facts, _| {
        users.apply(kind, facts);
        Ok(())
    })?;
    let policy = Policy::new(&held.policy).or_else(|_| Policy::new(SHIPPED)).context("the shipped policies")?;
    let decides = |user: &&user::User| user.is_here() && policy.could(&user.roles, Action::ManagePolicy);
    Ok(users.iter().filter(decides).count() > 1)
}

/// The newest approval of settings.
fn approved(past: Past<'_>) -> Result<Option<change::Approved>> {
    let mut proposals = Proposals::default();
    // What is about a person is not looked at.
    past.each(change::REGISTER, |kind, facts, entry| {
        if let Some(facts) = facts.as_object() {
            proposals.apply(kind, facts, None, entry);
        }
        Ok(())
    })?;
    Ok(proposals.approved_settings().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_as_they_were_written_and_a_key_added_later_is_no_change() {
        let config = Config::parse(
            "listen = \"127.0.0.1:1\"\nsecond_person = [\"settings\"]\n[sources.shop]\nrecipients = \"hash\"\nclaimed = true\n",
        )
        .expect("a configuration");
        let settings = Settings::new(&config, "permit".into()).expect("settings");
        let back: Governed = toml::from_str(&settings.text).expect("TOML");
        assert_eq!(back.text().expect("text"), settings.text);
        let mut other = Config::default();
        back.put_into(&mut other);
        assert!(other.sources["shop"].claimed && other.listen == Config::default().listen);
        let older: Governed = toml::from_str("environment = \"production\"\n").expect("TOML");
        assert_eq!(older.text().expect("text"), Governed::default().text().expect("text"));
        assert!(settings.differ(&settings).is_none());
        let plain = Settings::new(&Config::default(), SHIPPED.into()).expect("settings");
        let differs = settings.differ(&plain).expect("they differ");
        assert!(
            differs.diff.contains("+recipients = \"hash\"") && differs.diff.contains("+permit"),
            "{}",
            differs.diff
        );
    }
}
