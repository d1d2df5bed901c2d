//! What is known of each source: when it spoke last, how much, what is missing, what was refused.

use access::policy::Action;
use proof::time::UnixMillis;
use serde_json::{Value, json};
use views::index::Query;
use views::open;
use views::words;

use crate::decide::{Granted, Look, Purpose};
use crate::error::Error;
use crate::guard::{Candidate, Guard};

/// The window of counts.
const DAY_MS: u64 = 86_400_000;
/// Streams shown of a source that numbers what it sends.
const STREAMS_SHOWN: usize = 100;
/// The newest records of a source that its clock is judged by.
const CLOCK_RECORDS: usize = 64;
/// Gaps shown, the newest.
const GAPS_SHOWN: usize = 10;

/// What a source is expected to do.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Silence of so many seconds is one that should be told.
    pub quiet_after_s: Option<u64>,
    /// Nothing is expected of it any more.
    pub out_of_use: bool,
}

impl Guard {
    /// The newest entry of a source and when it was taken; nothing is opened.
    ///
    /// # Errors
    /// The index or the trail cannot be read.
    pub fn last_of_source(&self, name: &str) -> Result<Option<(u64, UnixMillis)>, Error> {
        match self.views.newest(vec![words::filter("source", name)], 1)?.first() {
            None => Ok(None),
            Some(index) => Ok(Some((*index, self.reader.entry(*index)?.entry()?.at))),
        }
    }

    /// The alert about a source that was raised last and not resolved since: its entry and its id.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn open_alert_about(&self, name: &str) -> Result<Option<(u64, String)>, Error> {
        let newest = |kind: &str| {
            self.views
                .newest(vec![words::filter("kind", kind), words::filter("about", name)], 1)
                .map(|found| found.first().copied())
        };
        let (raised, resolved) = (newest("ALERT_RAISED")?, newest("ALERT_RESOLVED")?);
        let Some(raised) = raised.filter(|raised| resolved.is_none_or(|resolved| resolved < *raised)) else {
            return Ok(None);
        };
        let facts = open::facts(&self.reader.entry(raised)?, &mut *self.store.lock()?, &self.catalogue)?;
        let id = facts.and_then(|(_, facts)| Some(facts.get("alert_id")?.as_str()?.to_owned()));
        Ok(id.map(|id| (raised, id)))
    }

    /// A source as it stands.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn source(
        &self,
        purpose: &Purpose,
        name: &str,
        expected: &Expected,
        now: UnixMillis,
    ) -> Result<Granted<Value>, Error> {
        let last = self.views.newest(vec![words::filter("source", name)], CLOCK_RECORDS)?;
        let about = |kind: &str| vec![words::filter("kind", kind), words::filter("from", name)];
        let gaps = self.views.newest(about("INGEST_GAP"), GAPS_SHOWN)?;
        let facts = |index: &u64| -> Result<Candidate, Error> {
            Ok(Candidate { stored: self.reader.entry(*index)?, owner: None })
        };
        let candidates = last.iter().chain(&gaps).map(facts).collect::<Result<Vec<_>, _>>()?;
        let access = self.grant(purpose, &candidates, Look::new(Action::ReadSources, json!({"source": name})))?;
        let from = now.0.saturating_sub(DAY_MS);
        let count = |words: Vec<String>, from_ms: Option<u64>| -> Result<u64, Error> {
            let mut count = 0;
            self.views.times(&Query { words, from_ms, ..Query::default() }, |_| count += 1)?;
            Ok(count)
        };
        let mut value = json!({
            "source": name, "quiet_after_s": expected.quiet_after_s,
            "entries_24h": count(vec![words::filter("source", name)], Some(from))?,
            "gaps": count(about("INGEST_GAP"), None)?,
            "conflicts_24h": count(about("INPUT_CONFLICT"), Some(from))?,
            "refusal_records_24h": count(about("INPUT_REFUSED"), Some(from))?,
        });
        let (mut newest_gaps, mut lags) = (Vec::new(), Vec::new());
        for (place, candidate) in candidates.iter().enumerate() {
            let (shown, _) = self.open(candidate)?;
            if place < last.len() {
                // What was written down before, elsewhere, says nothing of a clock of today.
                let lag = shown.clock.map(|clock| clock.lag_ms);
                lags.extend(lag.filter(|_| !shown.imported));
                if place == 0 {
                    // Of the newest: on its way, or by a clock that is off.
                    value["lag_ms"] = lag.map_or(Value::Null, Value::from);
                    let at = candidate.stored.entry()?.at;
                    value["last_seen"] = at.rfc3339().into();
                    value["last_entry"] = shown.index.into();
                    value["quiet_s"] = (now.0.saturating_sub(at.0) / 1000).into();
                }
            } else {
                let record = &shown.record;
                newest_gaps.push(json!({"entry": shown.index, "from": record["gap_from"], "to": record["gap_to"], "count": record["count"], "expected": record["expected"], "seen": record["seen"], "reason": record["reason_category"]}));
            }
        }
        value["newest_gaps"] = newest_gaps.into();
        lags.sort_unstable();
        if let Some(least) = lags.first() {
            // The record that was quickest on the way says most of the clock: its lag is the way and the clock's error.
            value["clock"] = json!({"records": lags.len(), "lag_ms": lags[lags.len() / 2], "skew_ms": least});
        }
        let stream = |(stream, last, missing)| json!({"stream": stream, "last": last, "missing": missing});
        let streams: Vec<Value> = self.views.streams(name)?.into_iter().take(STREAMS_SHOWN).map(stream).collect();
        if !streams.is_empty() {
            value["streams"] = streams.into();
        }
        let quiet = value["quiet_s"].as_u64();
        value["state"] = match (expected.out_of_use, quiet, expected.quiet_after_s) {
            (true, _, _) => "out_of_use",
            (_, None, _) => "never_seen",
            (_, Some(quiet), Some(limit)) if quiet > limit => "quiet",
            _ => "seen",
        }
        .into();
        Ok(Granted::new(value, access))
    }
}
