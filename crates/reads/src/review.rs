//! The review of who read what: once a month each manager is shown it and signs it.

use std::collections::BTreeMap;

use access::policy::Action;
use proof::time::UnixMillis;
use serde_json::{Map, Value, json};
use views::index::Query;
use views::open;
use views::registers::Thing;
use views::words;

use crate::decide::Purpose;
use crate::error::Error;
use crate::guard::{Guard, OwnRecord};

/// What a review comes to.
pub const FINDINGS: [&str; 3] = ["nothing", "followed_up", "case"];
/// Readers that a review names, at most: those who saw most.
const READERS_MAX: usize = 60;
/// For looking and signing.
const DUE_MS: u64 = 10 * 86_400_000;
/// Entries of one review that are looked at.
const STEPS_MAX: usize = 100;

/// What one reader did in a month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reader {
    /// Reads that were granted.
    pub reads: u64,
    /// Reads that were refused.
    pub refused: u64,
    /// Persons seen, counted anew for each read.
    pub persons: u64,
}

/// A month, `2026-11`, with its first moment and that of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// As it is written.
    pub name: String,
    from: UnixMillis,
    until: UnixMillis,
}

impl Month {
    /// Reads one.
    pub fn parse(name: &str) -> Option<Month> {
        let (year, month) = name.split_once('-')?;
        let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
        let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        let first =
            |(year, month): (u32, u32)| UnixMillis::parse(format!("{year:04}-{month:02}-01T00:00:00Z").as_bytes()).ok();
        let (from, until) = (first((year, month))?, first(next)?);
        (from.rfc3339()[..7] == *name).then(|| Month { name: name.to_owned(), from, until })
    }

    /// The month before the one of a time.
    pub fn before(now: UnixMillis) -> Option<Month> {
        let this = Month::parse(&now.rfc3339()[..7])?;
        Month::parse(&UnixMillis(this.from.0.checked_sub(1)?).rfc3339()[..7])
    }
}

/// The id of a reviewer's review.
pub fn id(month: &Month, reviewer: &str) -> String {
    format!("review-{}-{reviewer}", month.name)
}

impl Guard {
    /// Whether a review was begun.
    ///
    /// # Errors
    /// The views cannot be read.
    pub fn is_reviewed(&self, month: &Month, reviewer: &str) -> Result<bool, Error> {
        Ok(!self.views.find(Thing::Review, &id(month, reviewer), 1)?.is_empty())
    }

    /// Who read what in a month, from the ACCESS entries of its days. It opens their facts and nothing personal, and takes
    /// as long as there are reads.
    ///
    /// # Errors
    /// The trail cannot be read.
    pub fn readers(&self, month: &Month) -> Result<BTreeMap<String, Reader>, Error> {
        let query = Query {
            words: vec![words::filter("kind", "ACCESS")],
            from_ms: Some(month.from.0),
            until_ms: Some(month.until.0),
            ..Query::default()
        };
        let mut entries = Vec::new();
        self.views.matches(&query, |entry, _| entries.push(entry))?;
        let mut readers: BTreeMap<String, Reader> = BTreeMap::new();
        for entry in entries {
            let stored = self.reader.entry(entry)?;
            let facts = open::facts(&stored, &mut *self.store.lock()?, &self.catalogue)?;
            // A view is only a hint.
            let Some((_, facts)) = facts.filter(|(kind, _)| kind.name == "ACCESS") else { continue };
            let Some(actor) = facts.get("actor").and_then(Value::as_str) else { continue };
            // Customers who read themselves are nobody's to review.
            if actor.starts_with("customer/") {
                continue;
            }
            let reader = readers.entry(actor.to_owned()).or_default();
            if facts.get("outcome").and_then(Value::as_str) == Some("refused") {
                reader.refused += 1;
            } else {
                reader.reads += 1;
                reader.persons += facts.get("persons").and_then(Value::as_u64).unwrap_or(0);
            }
        }
        Ok(readers)
    }

    /// Records of Candor's own that a month is to be reviewed, one for each reviewer.
    pub fn review_due(
        month: &Month,
        readers: &BTreeMap<String, Reader>,
        reviewers: &[String],
        now: UnixMillis,
    ) -> Vec<OwnRecord> {
        let mut order: Vec<(&String, &Reader)> = readers.iter().collect();
        order.sort_by_key(|(actor, reader)| (std::cmp::Reverse(reader.persons), (*actor).clone()));
        let named: Map<String, Value> = order
            .iter()
            .take(READERS_MAX)
            .map(|(actor, one)| ((*actor).clone(), format!("{}/{}/{}", one.reads, one.refused, one.persons).into()))
            .collect();
        let sum = |of: fn(&Reader) -> u64| readers.values().map(of).sum::<u64>();
        let (reads, refused, persons) = (sum(|one| one.reads), sum(|one| one.refused), sum(|one| one.persons));
        let record = |reviewer: &String| {
            let id = id(month, reviewer);
            let fields = json!({
                "event_id": format!("{id}/due"), "correlation_id": id, "review_id": id, "month": month.name,
                "assigned_to": reviewer, "resolve_by": UnixMillis(now.0 + DUE_MS).rfc3339(), "state": "due",
                "reads": reads, "refused": refused, "persons": persons, "readers": named,
                "others": readers.len().saturating_sub(READERS_MAX),
            });
            OwnRecord { kind: "REVIEW_DUE", fields, subject: None }
        };
        reviewers.iter().map(record).collect()
    }

    /// Signs a review; the entry.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::NoSuchThing`] if there is none; [`Error::Refused`] if it is another's, or signed.
    pub fn sign_review(&self, purpose: &Purpose, id: &str, finding: &str, note: &str) -> Result<u64, Error> {
        self.may(purpose, Action::SignReview, Some("reviews"))?;
        let mut due = None;
        for index in self.views.find(Thing::Review, id, STEPS_MAX)? {
            let stored = self.reader.entry(index)?;
            let facts = open::facts(&stored, &mut *self.store.lock()?, &self.catalogue)?;
            let Some((kind, facts)) = facts else { continue };
            if facts.get("review_id").and_then(Value::as_str) != Some(id) {
                continue;
            }
            if kind.name == "REVIEW_SIGNED" {
                return Err(Error::Refused("this review is signed already"));
            }
            due = due.or(Some(facts));
        }
        let due = due.ok_or(Error::NoSuchThing)?;
        if due.get("assigned_to").and_then(Value::as_str) != Some(purpose.actor.as_str()) {
            return Err(Error::Refused("this review is another's to sign"));
        }
        let fields = json!({
            "review_id": id, "correlation_id": id, "state": "signed", "actor": purpose.actor, "finding": finding,
            "note": note,
        });
        let recorded = self.recorder.record(vec![OwnRecord { kind: "REVIEW_SIGNED", fields, subject: None }]);
        recorded.map_err(Error::NotRecorded)?.first().copied().ok_or(Error::NoSuchThing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_and_end_where_the_calendar_says() {
        let month = Month::parse("2026-12").expect("a month");
        assert_eq!(
            (month.from.rfc3339().as_str(), month.until.rfc3339().as_str()),
            ("2026-12-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z")
        );
        assert_eq!(Month::before(month.from).map(|month| month.name), Some("2026-11".into()));
        for wrong in ["2026-13", "2026-00", "2026-1", "26-01", "2026", "2026-011", ""] {
            assert_eq!(Month::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_review_names_those_who_saw_most() {
        let readers: BTreeMap<String, Reader> =
            (0..70).map(|n| (format!("u-{n:02}"), Reader { reads: 1, refused: 0, persons: n })).collect();
        let month = Month::parse("2026-11").expect("a month");
        let records = Guard::review_due(&month, &readers, &["u-99".into()], UnixMillis(0));
        let fields = &records[0].fields;
        assert_eq!(
            (&fields["reads"], &fields["others"], &fields["review_id"]),
            (&json!(70), &json!(10), &json!("review-2026-11-u-99"))
        );
        assert_eq!((&fields["readers"]["u-69"], fields["readers"].get("u-09")), (&json!("1/0/69"), None));
        assert!(fields["readers"].to_string().len() < 4096);
    }
}
