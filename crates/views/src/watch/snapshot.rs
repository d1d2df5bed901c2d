//! The engine's state as bytes (`docs/formats/watch.md`).
//!
//! A rule that has changed since keeps its open alerts and begins to count anew; what an alert was raised for must not
//! be raised again because its rule got another title.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::bytes::{Input, put_number, put_text};

use super::engine::{Alert, Engine, Group, Open, State};
use super::numbers::{Missing, Stream};
use super::rule::Rules;
use super::taps::Step;

const MAGIC: &[u8; 8] = b"CNDRWTCH";
const VERSION: u16 = 2;

/// The bytes of an engine.
pub(super) fn write(engine: &Engine) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    for number in [engine.next, engine.clock_ms, engine.states.len() as u64] {
        put_number(&mut out, number);
    }
    for (rule, state) in engine.rules.all().iter().zip(&engine.states) {
        put_text(&mut out, &rule.text.name);
        out.extend_from_slice(&rule.digest.0);
        put_number(&mut out, state.judged);
        put_number(&mut out, state.groups.len() as u64);
        for (name, group) in &state.groups {
            put_text(&mut out, name);
            write_group(&mut out, group);
        }
    }
    put_number(&mut out, engine.pending.len() as u64);
    for alert in engine.pending.values() {
        write_alert(&mut out, alert);
    }
    put_number(&mut out, engine.began);
    put_number(&mut out, engine.numbers.streams.len() as u64);
    for ((source, name), stream) in &engine.numbers.streams {
        put_text(&mut out, source);
        put_text(&mut out, name);
        put_number(&mut out, stream.next);
        put_number(&mut out, stream.missing.len() as u64);
        for (from, missing) in &stream.missing {
            put_number(&mut out, *from);
            put_number(&mut out, missing.to);
            put_number(&mut out, missing.noticed_ms);
            out.push(u8::from(missing.told));
        }
    }
    out
}

fn write_group(out: &mut Vec<u8>, group: &Group) {
    put_number(out, group.counts.len() as u64);
    for (part, (of, among)) in &group.counts {
        put_number(out, *part);
        out.extend_from_slice(&of.to_be_bytes());
        out.extend_from_slice(&among.to_be_bytes());
    }
    for number in [group.first_ms, group.last_ms, group.beyond_ms, group.due_ms, group.quiet_until_ms] {
        put_number(out, number);
    }
    put_number(out, group.recent.len() as u64);
    group.recent.iter().for_each(|time| put_number(out, *time));
    match &group.open {
        None => out.push(0),
        Some(open) => {
            out.push(1);
            put_text(out, &open.id);
            put_number(out, open.entry);
            put_number(out, open.held_ms);
        }
    }
}

fn write_alert(out: &mut Vec<u8>, alert: &Alert) {
    out.push(match alert.step {
        Step::Raised => 1,
        Step::Resolved => 2,
        Step::Gap => 3,
    });
    for one in [&alert.id, &alert.rule, &alert.severity, &alert.group] {
        put_text(out, one);
    }
    let (from, to) = alert.window;
    for number in [alert.value.to_bits(), alert.threshold.to_bits(), alert.count, from, to, alert.at, alert.entry] {
        put_number(out, number);
    }
}

/// The engine of these bytes with today's rules; `None` if they are not of this version, or not whole.
pub(super) fn read(bytes: &[u8], rules: Arc<Rules>) -> Option<Engine> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    if u16::from_be_bytes(*version) != VERSION {
        return None;
    }
    let mut input = Input { rest };
    let (next, clock_ms, count) = (input.number()?, input.number()?, input.number()?);
    let mut held = BTreeMap::new();
    for _ in 0..count {
        let (name, digest, judged) = (input.text()?, input.take(32)?.to_vec(), input.number()?);
        let mut state = State { judged, groups: BTreeMap::new() };
        for _ in 0..input.number()? {
            let name = input.text()?;
            state.groups.insert(name, read_group(&mut input)?);
        }
        held.insert(name, (digest, state));
    }
    let mut engine = Engine::new(rules, next);
    engine.clock_ms = clock_ms;
    for _ in 0..input.number()? {
        let alert = read_alert(&mut input)?;
        engine.pending.insert((alert.id.clone(), alert.step), alert);
    }
    engine.began = input.number()?;
    for _ in 0..input.number()? {
        let (source, name, next) = (input.text()?, input.text()?, input.number()?);
        let mut stream = Stream { next, ..Stream::default() };
        for _ in 0..input.number()? {
            let (from, to, noticed_ms) = (input.number()?, input.number()?, input.number()?);
            let told = input.take(1)? == [1];
            stream.missing.insert(from, Missing { to, noticed_ms, told });
        }
        engine.numbers.streams.insert((source, name), stream);
    }
    if !input.rest.is_empty() {
        return None;
    }
    let rules = Arc::clone(&engine.rules);
    for (rule, state) in rules.all().iter().zip(&mut engine.states) {
        let Some((digest, before)) = held.remove(&rule.text.name) else { continue };
        *state = if digest == rule.digest.0 { before } else { open_ones(before) };
    }
    Some(engine)
}

fn open_ones(before: State) -> State {
    let kept = before.groups.into_iter().filter(|(_, group)| group.open.is_some());
    let only =
        |group: Group| Group { open: group.open, first_ms: group.last_ms, last_ms: group.last_ms, ..Group::default() };
    State { judged: 0, groups: kept.map(|(name, group)| (name, only(group))).collect() }
}

fn read_group(input: &mut Input<'_>) -> Option<Group> {
    let mut counts = BTreeMap::new();
    for _ in 0..input.number()? {
        counts.insert(input.number()?, (input.small()?, input.small()?));
    }
    let mut numbers = [0; 5];
    for number in &mut numbers {
        *number = input.number()?;
    }
    let [first_ms, last_ms, beyond_ms, due_ms, quiet_until_ms] = numbers;
    let mut recent = VecDeque::new();
    for _ in 0..input.number()? {
        recent.push_back(input.number()?);
    }
    let open = match input.take(1)? {
        [0] => None,
        [1] => Some(Open { id: input.text()?, entry: input.number()?, held_ms: input.number()? }),
        _ => return None,
    };
    Some(Group { counts, first_ms, last_ms, beyond_ms, recent, due_ms, open, quiet_until_ms })
}

fn read_alert(input: &mut Input<'_>) -> Option<Alert> {
    let step = match input.take(1)? {
        [1] => Step::Raised,
        [2] => Step::Resolved,
        [3] => Step::Gap,
        _ => return None,
    };
    let (id, rule, severity, group) = (input.text()?, input.text()?, input.text()?, input.text()?);
    let (value, threshold) = (f64::from_bits(input.number()?), f64::from_bits(input.number()?));
    let (count, from, to) = (input.number()?, input.number()?, input.number()?);
    let (at, entry) = (input.number()?, input.number()?);
    Some(Alert { id, step, rule, severity, group, value, threshold, count, window: (from, to), at, entry })
}
