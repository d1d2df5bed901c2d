//! Keys end: the period keys of a class are destroyed so many days after their period, and nothing but proofs is left of
//! its records, except what a hold keeps.
//!
//! Order, each step safe to do again: what holds cover is put into their rings; PERIOD_ENDED is durable; what views must
//! purge is noted; nothing sealed under the key is committed any more; the key is destroyed; views purge; the journal's
//! bodies are replaced by their digests. A stop anywhere is made good by the next start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ledger::background::{LAST, step_back};
use ledger::clock::{Clock, SystemClock};
use ledger::reader::Reader;
use ledger::sequencer::Submitter;
use proof::time::{UnixMillis, civil_from_days};
use reads::guard::OwnRecord;
use record::class::ClassId;
use record::kinds::Catalogue;
use seal::periods::PeriodSpan;
use seal::shared::SharedStore;
use seal::store::KeyStore;
use serde::Serialize;
use serde_json::json;
use views::expire::Sources;
use views::notes::Notes;
use views::views::Views;

use crate::beat::beat;
use crate::config::Expiry;
use crate::intake::{Companion, Intake};
use crate::trail::Trail;

/// Periods that end in one step.
const AT_ONCE: usize = 64;
/// After the start of a server, so that what waits for it is served first.
const FIRST: Duration = Duration::from_secs(90);
/// Between two looks at what is due.
const EVERY: Duration = Duration::from_secs(3600);
/// A trail that stood still for longer may have been started with a clock that is wrong by days: for so long it is left
/// to show it.
const STILL: Duration = Duration::from_secs(86_400);

/// A period that is due, or has ended.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub class: &'static str,
    /// First and last day.
    pub from: String,
    pub until: String,
    /// Day on which its keys end.
    pub ends_on: String,
    pub entries: u64,
    /// Of these, how many a hold keeps; not known before it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// The entry that says that it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<u64>,
}

/// A day as a date.
pub fn date(day: u32) -> String {
    let (year, month, day) = civil_from_days(i64::from(day));
    format!("{year:04}-{month:02}-{day:02}")
}

fn midnight(day: u32) -> String {
    format!("{}T00:00:00.000Z", date(day))
}

impl Row {
    fn of(span: &PeriodSpan, store: &KeyStore, entries: u64) -> Row {
        let end = span.class.period_end(span.start);
        Row {
            class: span.class.class().name,
            from: date(span.start),
            until: date(end - 1),
            ends_on: store.retention().ends_on(span.class, span.start).map(date).unwrap_or_default(),
            entries,
            held: None,
            ended_by: None,
        }
    }
}

fn count(reader: &Reader, period: u32) -> Result<u64> {
    let mut count = 0;
    reader.entries_of_period(period, &[], |entries| {
        count += entries.len() as u64;
        Ok::<_, ledger::error::Error>(())
    })?;
    Ok(count)
}

/// What would end by a day; `told` counts the periods that were looked at.
pub fn preview(sources: &Sources, today: u32, mut told: impl FnMut(u64)) -> Result<Vec<Row>> {
    let due = sources.store.lock()?.due(today);
    let mut rows = Vec::with_capacity(due.len());
    for (place, span) in due.iter().enumerate() {
        let entries = count(&sources.reader, span.id)?;
        rows.push(Row::of(span, &*sources.store.lock()?, entries));
        told(place as u64 + 1);
    }
    Ok(rows)
}

/// What ending keys takes.
pub struct Ending<'a> {
    pub sources: Sources,
    pub views: &'a Views,
    pub intake: &'a Intake,
    /// Class to what the law says of it here.
    pub bases: BTreeMap<ClassId, String>,
    pub actor: String,
    /// Set while what is in the trail is not carried out yet.
    pub unfinished: &'a AtomicBool,
}

impl Ending<'_> {
    /// Ends what is due, the oldest first, until there is no more or `stop` is set; `told` counts the periods.
    pub fn run(&self, today: u32, stop: &AtomicBool, mut told: impl FnMut(u64)) -> Result<Vec<Row>> {
        if self.unfinished.load(Ordering::Acquire) {
            bail!("an ending was cut off before: start the trail again, and it is done");
        }
        let (mut rows, mut kept_back) = (Vec::new(), BTreeMap::new());
        loop {
            let mut due = self.sources.store.lock()?.due(today);
            due.retain(|span| !kept_back.contains_key(&span.id));
            due.truncate(AT_ONCE);
            if due.is_empty() || stop.load(Ordering::Acquire) {
                break;
            }
            rows.extend(self.end(&due, &mut kept_back)?);
            told(rows.len() as u64);
        }
        replace(&self.sources, Some(self.intake.submitter()))?;
        match kept_back.pop_first() {
            None => Ok(rows),
            Some((_, error)) => Err(error.context("a period is not ended, since what is held of it could not be kept")),
        }
    }

    /// What is held of a period comes first; one of which that fails is kept back, and keeps nothing from the others.
    fn end(&self, due: &[PeriodSpan], kept_back: &mut BTreeMap<u32, anyhow::Error>) -> Result<Vec<Row>> {
        let mut ending = Vec::with_capacity(due.len());
        let mut rows = Vec::with_capacity(due.len());
        let mut records = Vec::with_capacity(due.len());
        let looked_at = self.sources.reader.size();
        for span in due {
            let held = match crate::hold::keep(&self.sources, self.views, span.id, 0) {
                Ok(held) => held,
                Err(error) => {
                    kept_back.insert(span.id, error);
                    continue;
                }
            };
            ending.push(*span);
            let entries = count(&self.sources.reader, span.id)?;
            let (row, days) = {
                let store = self.sources.store.lock()?;
                (Row { held: Some(held), ..Row::of(span, &store, entries) }, store.retention().days(span.class))
            };
            let mut fields = json!({
                "class_name": row.class, "period": span.id, "from": midnight(span.start),
                "until": midnight(span.class.period_end(span.start)), "entries": entries, "held": held,
                "retention_days": days, "actor": self.actor,
            });
            if let Some(basis) = self.bases.get(&span.class) {
                fields["legal_basis"] = basis.as_str().into();
            }
            rows.push(row);
            records.push(OwnRecord { kind: "PERIOD_ENDED", fields, subject: None });
        }
        if records.is_empty() {
            return Ok(rows);
        }
        self.unfinished.store(true, Ordering::Release);
        let indexes = self.intake.own(records).map_err(|why| anyhow!("record that keys end: {why}"))?;
        // If we stop after this line: the next start finds the entries and does the rest.
        let ended: Vec<(u32, u64)> = ending.iter().map(|span| span.id).zip(indexes).collect();
        self.intake.submitter().bury_periods(ended.iter().map(|(period, _)| *period).collect())?;
        // From here on nothing more comes under these keys: what came late, after its period was looked through, is looked
        // at now.
        for (period, _) in &ended {
            crate::hold::keep(&self.sources, self.views, *period, looked_at)?;
        }
        // And what came is signed before its key goes: a start opens what nothing signs.
        self.intake.submitter().close_frame()?;
        note(&self.sources, self.views, &ended)?;
        destroy(&self.sources.store, &ended)?;
        self.views.expire_noted(&self.sources)?;
        self.unfinished.store(false, Ordering::Release);
        for (row, (_, by)) in rows.iter_mut().zip(ended) {
            row.ended_by = Some(by);
        }
        Ok(rows)
    }
}

/// Notes what views purge, while the keys can still tell what lists knew.
fn note(sources: &Sources, views: &Views, ended: &[(u32, u64)]) -> Result<()> {
    let documents = views.documents(&sources.catalogue);
    for (period, _) in ended {
        if sources.store.lock()?.ended_by(*period).is_none() {
            views.notes().expire(*period, sources.touched(*period, &documents)?)?;
        }
    }
    Ok(())
}

fn destroy(store: &SharedStore, ended: &[(u32, u64)]) -> Result<()> {
    for (period, by) in ended {
        store.lock()?.end_period(*period, *by)?;
    }
    Ok(())
}

/// Replaces what is left of ended periods in closed segments, but for those of which a hold keeps something. Where a writer
/// is given, the segment that it writes to is closed for that.
pub fn replace(sources: &Sources, writer: Option<&Submitter<Companion>>) -> Result<()> {
    let ended: BTreeMap<u32, u64> = {
        let store = sources.store.lock()?;
        let left = store.ended().into_iter().filter(|ended| !ended.replaced);
        left.filter(|ended| !store.holds_of_period(ended.span.id)).map(|ended| (ended.span.id, ended.by)).collect()
    };
    if ended.is_empty() {
        return Ok(());
    }
    let mut whole = sources.reader.replace(&ended)?;
    if let Some(writer) = writer.filter(|_| !whole) {
        writer.bury_periods(ended.keys().copied().collect())?;
        whole = sources.reader.replace(&ended)?;
    }
    if !whole {
        return Ok(());
    }
    let mut store = sources.store.lock()?;
    for period in ended.keys() {
        store.set_replaced(*period)?;
    }
    Ok(store.commit()?)
}

/// Commands of the trail that the key store has not seen, in order.
pub struct Unseen {
    found: Vec<(&'static str, u64)>,
}

const COMMANDS: [&str; 5] = ["SUBJECT_ERASED", "HOLD_PLACED", "HOLD_RELEASED", "PERIOD_ENDED", "LOG_KEY_CHANGED"];

impl Unseen {
    /// Looks for them: after a stop, and after a restored backup.
    pub fn look(reader: &Reader, store: &SharedStore) -> Result<Unseen> {
        let from = store.lock()?.erased_up_to();
        let mut found = Vec::new();
        reader.follow(from, |frame| {
            let corrupt = |why: ledger::frame::Broken| ledger::error::Error::Corrupt {
                what: format!("frame {}", frame.header.number),
                why: why.to_string(),
            };
            let entries = frame.entries().map_err(corrupt)?;
            if entries.kinds.iter().any(|kind| COMMANDS.contains(kind)) {
                for place in 0..entries.len() {
                    let kind = entries.record(place).map_err(corrupt)?.kind;
                    if let Some(command) = COMMANDS.iter().find(|command| **command == kind) {
                        found.push((*command, frame.header.first_index + place as u64));
                    }
                }
            }
            Ok(true)
        })?;
        found.retain(|(_, index)| *index >= from);
        Ok(Unseen { found })
    }

    /// Those of one kind.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = u64> {
        self.found.iter().filter(move |(found, _)| *found == kind).map(|(_, index)| *index)
    }

    /// Does every erasure again. Whether there was any: what intake keeps of the erased must then be looked through too.
    pub fn erase(&self, reader: &Reader, store: &SharedStore, catalogue: &Catalogue, notes: &Notes) -> Result<bool> {
        let mut any = false;
        for index in self.of("SUBJECT_ERASED") {
            crate::erase::again(reader, store, catalogue, notes, index)?;
            any = true;
        }
        Ok(any)
    }

    /// Does again what was decided about holds and periods, in order; whether all of it could be done. What could not is
    /// told and tried at the next start: reading, and releasing a hold, must go on.
    pub fn carry_out(&self, sources: &Sources, views: &Views) -> Result<bool> {
        let mut all = true;
        for (kind, index) in &self.found {
            let Some(facts) = sources.facts(&sources.reader.entry(*index)?)? else { continue };
            let text = |name: &str| facts.get(name).and_then(serde_json::Value::as_str);
            match *kind {
                "HOLD_PLACED" => {
                    let id = text("hold_id").context("a hold has no id")?;
                    sources.store.lock()?.place_hold(id, text("filter").unwrap_or("{}"), *index)?;
                }
                "HOLD_RELEASED" => {
                    crate::hold::carry_out_release(sources, views, text("hold_id").context("a hold has no id")?)?;
                }
                "PERIOD_ENDED" => {
                    let period = facts.get("period").and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
                    if sources.store.lock()?.period_span(period).is_none() {
                        continue;
                    }
                    let ended = [(period, *index)];
                    if sources.store.lock()?.ended_by(period).is_none() {
                        if let Err(error) = crate::hold::keep(sources, views, period, 0) {
                            eprintln!(
                                "candor: what is held of period {period} could not be kept, and its key lives on: {error:#}"
                            );
                            all = false;
                            continue;
                        }
                        note(sources, views, &ended)?;
                    } else {
                        // The note may have been lost with the power, and what it says can be done again.
                        views.notes().expire(period, Vec::new())?;
                    }
                    destroy(&sources.store, &ended)?;
                }
                _ => {}
            }
        }
        views.expire_noted(sources)?;
        // A closed segment may have been left as it was.
        if let Err(error) = replace(sources, None) {
            eprintln!("candor: ended bodies could not be taken out of the journal: {error:#}: it is tried again");
            all = false;
        }
        Ok(all)
    }
}

/// Ends keys on time beside the server, and moves the key store's cursor, so that a start after a crash has not much to
/// look through.
pub fn serve(trail: &Trail, stop: &AtomicBool) {
    step_back(LAST);
    let start = Instant::now();
    let mut told = false;
    beat(stop, FIRST, || {
        let next = Instant::now() + EVERY;
        let waits = waits(trail.last_before, SystemClock.now(), start.elapsed(), crate::clock_state::synchronised);
        if waits && !told && trail.config.expiry == Expiry::OnTime {
            eprintln!(
                "candor: this trail stood still for more than a day, and the system does not say that its clock is synchronised: keys that are due end in a day, or by `candor expire run`"
            );
            told = true;
        }
        if let Err(error) = once(trail, stop, waits) {
            eprintln!("candor: keys that are due could not be ended: {error:#}: it is tried again in an hour");
        }
        next
    });
}

/// Whether keys that are due wait: a clock that was set ahead while nothing ran would end them early, and setting it right
/// brings none back.
fn waits(last: UnixMillis, now: UnixMillis, running: Duration, synchronised: impl FnOnce() -> Option<bool>) -> bool {
    last.0 > 0
        && now.0.saturating_sub(last.0) > STILL.as_millis() as u64
        && running < STILL
        && synchronised() != Some(true)
}

fn once(trail: &Trail, stop: &AtomicBool, waits: bool) -> Result<()> {
    let _alone = trail.deciding.lock().map_err(|_| anyhow!("another thread failed"))?;
    // Nobody else decides now: all below has been carried out, unless something failed half-way.
    let seen = trail.intake.reader().size();
    if trail.config.expiry == Expiry::OnTime && !waits {
        of(trail, "candor")?.run(SystemClock.now().day(), stop, |_| {})?;
    }
    if trail.unfinished.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut store = trail.store.lock()?;
    store.set_erased_up_to(seen);
    Ok(store.commit()?)
}

/// What ending keys of a trail takes.
pub fn of<'a>(trail: &'a Trail, actor: &str) -> Result<Ending<'a>> {
    Ok(Ending {
        sources: trail.sources(),
        views: trail.views()?,
        intake: &trail.intake,
        bases: trail.config.legal_bases(),
        actor: actor.to_owned(),
        unfinished: &trail.ending_unfinished,
    })
}

/// Today.
pub fn today() -> u32 {
    SystemClock.now().day()
}

/// The periods that have ended, in the order in which they did, and when.
pub fn report(sources: &Sources) -> Result<Vec<(Row, Option<String>)>> {
    let mut ended = sources.store.lock()?.ended();
    ended.sort_by_key(|ended| ended.by);
    let mut rows = Vec::with_capacity(ended.len());
    for ended in ended {
        let facts = sources.facts(&sources.reader.entry(ended.by)?)?.unwrap_or_default();
        let number = |name: &str| facts.get(name).and_then(serde_json::Value::as_u64);
        let store = sources.store.lock()?;
        let row = Row {
            held: number("held"),
            ended_by: Some(ended.by),
            ..Row::of(&ended.span, &store, number("entries").unwrap_or(0))
        };
        let at = facts.get("timestamp").and_then(serde_json::Value::as_str);
        let at = at.and_then(|text| UnixMillis::parse(text.as_bytes()).ok()).map(UnixMillis::rfc3339);
        rows.push((row, at));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_days_without_a_server_keys_wait_for_a_clock_that_somebody_vouches_for() {
        let (last, hour) = (UnixMillis(1_800_000_000_000), 3_600_000);
        let after = |hours: u64| UnixMillis(last.0 + hours * hour);
        let running = Duration::from_secs(90);
        assert!(waits(last, after(100), running, || None));
        assert!(waits(last, after(100), running, || Some(false)));
        assert!(!waits(last, after(100), running, || Some(true)));
        assert!(!waits(last, after(20), running, || Some(false)), "it stood still for less than a day");
        assert!(!waits(last, after(100), STILL, || None), "it ran for a day since");
        assert!(!waits(UnixMillis(0), after(0), running, || None), "a new trail");
    }
}
