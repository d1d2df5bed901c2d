//! Cases: what somebody read is looked into. The watch opens one; people note and close it.

use access::policy::Action;
use serde_json::{Value, json};
use views::open;
use views::registers::Thing;

use crate::decide::Purpose;
use crate::error::Error;
use crate::guard::{Guard, OwnRecord};

/// Entries of one case that are looked at.
const STEPS_MAX: usize = 1000;

/// What came of looking into it.
pub const FINDINGS: [&str; 4] = ["no_fault", "mistake", "misuse", "not_clear"];

/// A step of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseStep {
    /// Something was found out.
    Note(String),
    /// It is over: one of [`FINDINGS`], and why.
    Close(String, String),
}

impl Guard {
    /// Records a step of a case; the entry.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::NoSuchThing`] if there is no such case; [`Error::Refused`] if it is closed, or about who
    /// asks, as `own` tells it; it could not be recorded.
    pub fn case_step(
        &self,
        purpose: &Purpose,
        id: &str,
        step: &CaseStep,
        own: impl Fn(&str) -> bool,
    ) -> Result<u64, Error> {
        self.may(purpose, Action::StepCase, Some("cases"))?;
        let mut opened: Option<Value> = None;
        for index in self.views.find(Thing::Case, id, STEPS_MAX)? {
            let stored = self.reader.entry(index)?;
            let facts = open::facts(&stored, &mut *self.store.lock()?, &self.catalogue)?;
            let Some((kind, facts)) = facts else { continue };
            if facts.get("case_id").and_then(Value::as_str) != Some(id) {
                continue;
            }
            if kind.name == "CASE_CLOSED" {
                return Err(Error::Refused("the case is closed: what comes later is another one"));
            }
            if kind.name == "CASE_OPENED" {
                opened = opened.or(Some(facts.into()));
            }
        }
        let opened = opened.ok_or(Error::NoSuchThing)?;
        if own(opened["about_actor"].as_str().unwrap_or_default()) {
            return Err(Error::Refused("nobody looks into their own case: ask another who may"));
        }
        let mut fields = json!({"case_id": id, "correlation_id": id, "rule": opened["rule"], "actor": purpose.actor});
        let kind = match step {
            CaseStep::Note(note) => {
                fields["note"] = note.as_str().into();
                "CASE_NOTED"
            }
            CaseStep::Close(finding, note) => {
                (fields["finding"], fields["note"]) = (finding.as_str().into(), note.as_str().into());
                fields["state"] = "closed".into();
                "CASE_CLOSED"
            }
        };
        let recorded = self.recorder.record(vec![OwnRecord { kind, fields, subject: None }]);
        recorded.map_err(Error::NotRecorded)?.first().copied().ok_or(Error::NoSuchThing)
    }
}
