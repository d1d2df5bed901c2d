//! Completeness: what began and did not end, each with its age.

use std::collections::BTreeMap;

use access::policy::Action;
use proof::time::UnixMillis;
use record::things::time;
use serde_json::{Value, json};
use views::cycles::{CYCLES, Cycle, Follow};

use crate::decide::{Granted, Look, Purpose};
use crate::error::Error;
use crate::guard::{Candidate, Guard};

/// A page of what stands open of one cycle.
#[derive(Debug)]
pub struct OpenPage {
    /// Each with its age, the oldest first.
    pub open: Vec<Value>,
    /// Where the next page begins; `None` if there is none.
    pub next_from: Option<u64>,
}

impl Guard {
    /// What following the log takes, at a time.
    pub fn follow(&self, now: UnixMillis, settle_ms: u64) -> Follow<'_> {
        Follow {
            reader: &self.reader,
            store: &self.store,
            catalogue: &self.catalogue,
            views: &self.views,
            now_ms: now.0,
            settle_ms,
        }
    }

    /// How much of each cycle stands open, and how old the oldest is. Nothing is opened.
    ///
    /// # Errors
    /// As [`Guard::find`].
    pub fn open_cycles(&self, purpose: &Purpose, now: UnixMillis) -> Result<Granted<Value>, Error> {
        let access = self.grant(purpose, &[], Look::new(Action::ReadCompleteness, json!({"completeness": "all"})))?;
        let mut all = Vec::new();
        for (cycle, count) in CYCLES.iter().zip(self.views.cycles().counts()?) {
            let oldest_s = count.oldest_ms.map(|oldest| now.0.saturating_sub(oldest) / 1000);
            all.push(json!({"cycle": cycle.name, "title": cycle.title, "open": count.open, "oldest_s": oldest_s}));
        }
        Ok(Granted::new(all.into(), access))
    }

    /// What stands open of one cycle, the oldest first, from an entry on; facts alone are opened. Each is held against
    /// the log once more, so what has ended meanwhile is not shown.
    ///
    /// # Errors
    /// As [`Guard::find`]; [`Error::NoSuchThing`] if there is no such cycle.
    pub fn open_of_cycle(
        &self,
        purpose: &Purpose,
        name: &str,
        from: u64,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Granted<OpenPage>, Error> {
        let place = CYCLES.iter().position(|cycle| cycle.name == name).ok_or(Error::NoSuchThing)?;
        let mut entries = self.views.cycles().open_entries(place, from, limit + 1)?;
        let next_from = entries.get(limit).copied();
        entries.truncate(limit);
        let mut candidates = Vec::with_capacity(entries.len());
        for entry in entries {
            candidates.push(Candidate { stored: self.reader.entry(entry)?, owner: None });
        }
        let access =
            self.grant(purpose, &candidates, Look::new(Action::ReadCompleteness, json!({"completeness": name})))?;
        let mut open = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            open.extend(self.open_line(&CYCLES[place], candidate, now)?);
        }
        Ok(Granted::new(OpenPage { open, next_from }, access))
    }

    fn open_line(&self, cycle: &Cycle, candidate: &Candidate, now: UnixMillis) -> Result<Option<Value>, Error> {
        let (shown, _) = self.open(candidate)?;
        let Value::Object(facts) = &shown.record else { return Ok(None) };
        if self.follow(now, 0).is_closed(cycle, shown.index, facts)? {
            return Ok(None);
        }
        let began = facts.get("timestamp").and_then(Value::as_str).unwrap_or_default();
        let began_ms = time(facts.get("timestamp")).map_or(now.0, |time| time.0);
        Ok(Some(json!({
            "cycle": cycle.name, "entry": shown.index, "kind": shown.kind, "id": cycle.id_of(facts), "since": began,
            "age_s": now.0.saturating_sub(began_ms) / 1000, "source": facts.get("source"),
        })))
    }

    /// The counts of a day's COMPLETENESS record.
    ///
    /// # Errors
    /// Another thread failed.
    pub fn completeness_record(&self, day: &str, now: UnixMillis) -> Result<Value, Error> {
        let counts = self.views.cycles().counts()?;
        let by_cycle: BTreeMap<&str, u64> =
            CYCLES.iter().zip(&counts).map(|(cycle, count)| (cycle.name, count.open)).collect();
        let oldest = counts.iter().filter_map(|count| count.oldest_ms).min();
        let mut fields = json!({
            "event_id": format!("completeness/{day}"), "day": day, "counts": by_cycle,
            "open": counts.iter().map(|count| count.open).sum::<u64>(),
        });
        if let Some(oldest) = oldest {
            fields["oldest_s"] = (now.0.saturating_sub(oldest) / 1000).into();
        }
        Ok(fields)
    }
}
