//! Alerts: the steps that a person takes, and rules tried over the past.

use access::policy::Action;
use proof::time::UnixMillis;
use record::things::status_of;
use serde_json::{Value, json};
use views::open;
use views::registers::Thing;
use views::watch::{Alert, Rules, Trial};

use crate::decide::{Granted, Look, Purpose};
use crate::error::Error;
use crate::guard::{Guard, OwnRecord};

/// Entries of one alert that are looked at.
const STEPS_MAX: usize = 100;

/// A step that a person takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonStep {
    /// Somebody has it in hand.
    Acknowledge,
    /// It is over.
    Resolve,
}

/// What is tried.
pub struct Past<'p> {
    /// The rules.
    pub rules: &'p Rules,
    /// From when.
    pub from: UnixMillis,
    /// Until when.
    pub until: UnixMillis,
}

impl Guard {
    /// Records a step of an alert; the entry. One that was taken before is not taken again: its entry is given.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::NoSuchThing`] if there is no such alert; it could not be recorded.
    pub fn alert_step(
        &self,
        purpose: &Purpose,
        id: &str,
        step: PersonStep,
        reason: Option<&str>,
    ) -> Result<u64, Error> {
        self.may(purpose, Action::StepAlert, Some("alerts"))?;
        let (kind, state) = match step {
            PersonStep::Acknowledge => ("ALERT_ACKNOWLEDGED", "acknowledged"),
            PersonStep::Resolve => ("ALERT_RESOLVED", "resolved"),
        };
        let mut raised: Option<Value> = None;
        for index in self.views.find(Thing::Alert, id, STEPS_MAX)? {
            let stored = self.reader.entry(index)?;
            let Some((held, facts)) = open::facts(&stored, &mut *self.store.lock()?, &self.catalogue)? else {
                continue;
            };
            if facts.get("alert_id").and_then(Value::as_str) != Some(id) {
                continue;
            }
            let status = status_of(&held.name, &facts).unwrap_or_default();
            // What is resolved needs no acknowledging any more.
            if status == state || status == "resolved" {
                return Ok(index);
            }
            raised = raised.or(Some(facts.into()));
        }
        let raised = raised.ok_or(Error::NoSuchThing)?;
        let mut fields = json!({"alert_id": id, "rule": raised["rule"], "state": state, "actor": purpose.actor});
        for name in ["group", "about", "about_id"] {
            if let Some(value) = raised.get(name) {
                fields[name] = value.clone();
            }
        }
        if let Some(reason) = reason {
            fields["reason_category"] = reason.into();
        }
        let recorded = self.recorder.record(vec![OwnRecord { kind, fields, subject: None }]);
        recorded.map_err(Error::NotRecorded)?.first().copied().ok_or(Error::NoSuchThing)
    }

    /// What rules would have raised over a part of the past. Facts are looked at, nothing personal is opened.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn try_rules(
        &self,
        purpose: &Purpose,
        past: &Past<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Granted<Vec<Alert>>, Error> {
        let filters = json!({
            "rules_sha256": past.rules.digest().hex(), "from": past.from.rfc3339(), "until": past.until.rfc3339(),
        });
        let access = self.grant(purpose, &[], Look::new(Action::Count, filters))?;
        let trial = Trial {
            reader: &self.reader,
            store: &self.store,
            catalogue: &self.catalogue,
            from_ms: past.from.0,
            until_ms: past.until.0,
        };
        Ok(Granted::new(trial.run(&self.views, past.rules, progress)?, access))
    }
}
