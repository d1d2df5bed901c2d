//! The engine's state as bytes (`docs/formats/watch.md`).
//!
//! A rule that has changed since keeps its open alerts and begins to count anew; what an alert was raised for must not
//! be raised again because its rule got another title.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proof::encoding::big_endian;

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
        put(&mut out, number);
    }
    for (rule, state) in engine.rules.all().iter().zip(&engine.states) {
        text(&mut out, &rule.text.name);
        out.extend_from_slice(&rule.digest.0);
        put(&mut out, state.judged);
        put(&mut out, state.groups.len() as u64);
        for (name, group) in &state.groups {
            text(&mut out, name);
            write_group(&mut out, group);
        }
    }
    put(&mut out, engine.pending.len() as u64);
    for alert in engine.pending.values() {
        write_alert(&mut out, alert);
    }
    put(&mut out, engine.began);
    put(&mut out, engine.numbers.streams.len() as u64);
    for ((source, name), stream) in &engine.numbers.streams {
        text(&mut out, source);
        text(&mut out, name);
        put(&mut out, stream.next);
        put(&mut out, stream.missing.len() as u64);
        for (from, missing) in &stream.missing {
            put(&mut out, *from);
            put(&mut out, missing.to);
            put(&mut out, missing.noticed_ms);
            out.push(u8::from(missing.told));
        }
    }
    out
}

fn write_group(out: &mut Vec<u8>, group: &Group) {
    put(out, group.counts.len() as u64);
    for (part, (of, among)) in &group.counts {
        put(out, *part);
        out.extend_from_slice(&of.to_be_bytes());
        out.extend_from_slice(&among.to_be_bytes());
    }
    for number in [group.first_ms, group.last_ms, group.beyond_ms, group.due_ms, group.quiet_until_ms] {
        put(out, number);
    }
    put(out, group.recent.len() as u64);
    group.recent.iter().for_each(|time| put(out, *time));
    match &group.open {
        None => out.push(0),
        Some(open) => {
            out.push(1);
            text(out, &open.id);
            put(out, open.entry);
            put(out, open.held_ms);
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
        text(out, one);
    }
    let (from, to) = alert.window;
    for number in [alert.value.to_bits(), alert.threshold.to_bits(), alert.count, from, to, alert.at, alert.entry] {
        put(out, number);
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
            state.groups.insert(name, input.group()?);
        }
        held.insert(name, (digest, state));
    }
    let mut engine = Engine::new(rules, next);
    engine.clock_ms = clock_ms;
    for _ in 0..input.number()? {
        let alert = input.alert()?;
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

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// Names are short: 16 bits of length are enough.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

struct Input<'b> {
    rest: &'b [u8],
}

impl<'b> Input<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8).map(big_endian)
    }

    fn small(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| big_endian(bytes) as u32)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.take(2).map(big_endian)? as usize;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn group(&mut self) -> Option<Group> {
        let mut counts = BTreeMap::new();
        for _ in 0..self.number()? {
            counts.insert(self.number()?, (self.small()?, self.small()?));
        }
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = self.number()?;
        }
        let [first_ms, last_ms, beyond_ms, due_ms, quiet_until_ms] = numbers;
        let mut recent = VecDeque::new();
        for _ in 0..self.number()? {
            recent.push_back(self.number()?);
        }
        let open = match self.take(1)? {
            [0] => None,
            [1] => Some(Open { id: self.text()?, entry: self.number()?, held_ms: self.number()? }),
            _ => return None,
        };
        Some(Group { counts, first_ms, last_ms, beyond_ms, recent, due_ms, open, quiet_until_ms })
    }

    fn alert(&mut self) -> Option<Alert> {
        let step = match self.take(1)? {
            [1] => Step::Raised,
            [2] => Step::Resolved,
            [3] => Step::Gap,
            _ => return None,
        };
        let (id, rule, severity, group) = (self.text()?, self.text()?, self.text()?, self.text()?);
        let (value, threshold) = (f64::from_bits(self.number()?), f64::from_bits(self.number()?));
        let (count, from, to) = (self.number()?, self.number()?, self.number()?);
        let (at, entry) = (self.number()?, self.number()?);
        Some(Alert { id, step, rule, severity, group, value, threshold, count, window: (from, to), at, entry })
    }
}
