//! The engine: counters over the stream, and what they come to.
//!
//! What it does is decided by the entries and their order alone: it reads no clock. Time is that of the entries'
//! acceptance (an idle trail has its heartbeats), what is counted stands at the events' own times. So the same trail
//! gives the same alerts with the same ids, wherever a stop fell, and a trial over the past is this same code.
//!
//! Invariants:
//! - an alert is pending from the entry that raised it until its own entry is seen: none is lost, none is told twice;
//! - memory is bounded by the limits of `rule`: what goes beyond is one group, one alert.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proof::hash::sha256_parts;

use super::measure::{HOUR_MS, Measured, OVERDUE_STEP_MS, SECOND_MS, STEPS, WEEK_HOURS, WEEKS, measure, step};
use super::numbers::Numbers;
use super::rule::{Bound, GROUPS_MAX, Rule, Rules, What};
use super::taps::{Role, Sighted, Signal, Step};

/// An event that comes later than this is history, not news: it is not counted.
const LATE_MS: u64 = 24 * HOUR_MS;
/// How long a part of a window waits for events on their way before it is judged as a whole.
const GRACE_MS: u64 = 120 * SECOND_MS;
/// Things of one register that wait, at most.
const WAITING_MAX: usize = 100_000;
/// POPIA and PAIA extend by this; a request that says until when it is extended is taken at its word.
const EXTENSION_MS: u64 = 30 * 24 * HOUR_MS;
/// The group of what goes beyond a limit.
pub const OTHERS: &str = "(others)";

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// The same for all that is recorded of one alert.
    pub id: String,
    /// Raised or resolved.
    pub step: Step,
    /// The rule's name; of a gap, the source.
    pub rule: String,
    /// The rule's severity.
    pub severity: String,
    /// What it is about within the rule; empty where the rule has no groups. Of a gap, the stream.
    pub group: String,
    /// What was measured; of a gap, the first number that is missing.
    pub value: f64,
    /// Against what.
    pub threshold: f64,
    /// Events that were counted.
    pub count: u64,
    /// What was measured stands between these times, in milliseconds.
    pub window: (u64, u64),
    /// When, by the log's time.
    pub at: u64,
    /// The entry at which it showed.
    pub entry: u64,
}

/// An alert that stands open. With an empty id it is one of those that one alert speaks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) id: String,
    pub(super) entry: u64,
    pub(super) held_ms: u64,
}

/// What is known of one group.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Group {
    /// Counts by part of a window: what counts, and the whole.
    pub(super) counts: BTreeMap<u64, (u32, u32)>,
    /// The first time of an event.
    pub(super) first_ms: u64,
    /// The last time of an event.
    pub(super) last_ms: u64,
    /// Since when a value is beyond its bound; 0: it is not.
    pub(super) beyond_ms: u64,
    /// Times of the newest events of a sequence.
    pub(super) recent: VecDeque<u64>,
    /// Until when something must be done; 0: nothing must.
    pub(super) due_ms: u64,
    pub(super) open: Option<Open>,
    /// No other alert before this time.
    pub(super) quiet_until_ms: u64,
}

/// What is known of one rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) groups: BTreeMap<String, Group>,
    /// Parts of windows before this one were judged.
    pub(super) judged: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) rules: Arc<Rules>,
    pub(super) states: Vec<State>,
    pub(super) clock_ms: u64,
    pub(super) next: u64,
    pub(super) pending: BTreeMap<(String, Step), Alert>,
    pub(super) numbers: Numbers,
    /// Nobody looked at entries below this one.
    pub(super) began: u64,
    /// Before this time nothing is to be judged.
    pub(super) wake_ms: u64,
}

impl Engine {
    /// An engine that has seen nothing and begins with entry `next`.
    pub fn new(rules: Arc<Rules>, next: u64) -> Engine {
        let states = vec![State::default(); rules.all().len()];
        Engine {
            rules,
            states,
            clock_ms: 0,
            next,
            pending: BTreeMap::new(),
            numbers: Numbers::default(),
            began: next,
            wake_ms: 0,
        }
    }

    /// Entries below this were seen.
    pub fn cursor(&self) -> u64 {
        self.next
    }

    /// What is to be recorded, in the order of its ids.
    pub fn pending(&self) -> impl Iterator<Item = &Alert> {
        self.pending.values()
    }

    /// Takes the next entry: when it was accepted, the event's own time, what rules saw in it. One that was taken
    /// before changes nothing.
    pub fn apply(&mut self, entry: u64, at_ms: u64, own_ms: u64, sighted: Option<&Sighted>) {
        if entry < self.next {
            return;
        }
        self.next = entry + 1;
        self.take(entry, at_ms, own_ms, sighted);
    }

    /// As [`Engine::apply`] for entries in another order: those of the past in the order of their own times.
    pub fn replay(&mut self, entry: u64, own_ms: u64, sighted: &Sighted) {
        self.take(entry, own_ms, own_ms, Some(sighted));
    }

    /// Drops what is to be recorded of more than a day ago.
    pub(super) fn drop_old(&mut self) {
        let oldest = self.clock_ms.saturating_sub(LATE_MS);
        self.pending.retain(|_, alert| alert.at >= oldest);
    }

    /// Lets time pass without an entry.
    pub fn pass(&mut self, entry: u64, at_ms: u64) {
        self.take(entry, at_ms, at_ms, None);
    }

    fn take(&mut self, entry: u64, at_ms: u64, own_ms: u64, sighted: Option<&Sighted>) {
        self.clock_ms = self.clock_ms.max(at_ms);
        if self.clock_ms >= self.wake_ms {
            self.wake_ms = (self.clock_ms / OVERDUE_STEP_MS + 1) * OVERDUE_STEP_MS;
            self.tell_gaps(entry);
            let rules = Arc::clone(&self.rules);
            for (place, rule) in rules.all().iter().enumerate() {
                self.judge(place, rule, entry);
                let next = (self.states[place].judged + 1) * step(&rule.what) + GRACE_MS;
                self.wake_ms = self.wake_ms.min(next);
            }
        }
        let Some(sighted) = sighted else { return };
        for signal in &sighted.signals {
            self.signal(entry, own_ms.min(self.clock_ms), signal);
        }
        if let Some((source, stream, number)) = &sighted.number {
            self.numbers.see(source, stream, *number, self.clock_ms, self.began > 0);
        }
        if let Some((id, step)) = &sighted.alert {
            self.confirmed(id, *step);
        }
    }

    /// Gaps in the numbers of sources that have stood for long enough.
    fn tell_gaps(&mut self, entry: u64) {
        // By whole minutes, so that it makes no difference where a stop fell.
        for gap in self.numbers.due(self.clock_ms / OVERDUE_STEP_MS * OVERDUE_STEP_MS) {
            let parts = [b"candor/v1/gap\n", gap.source.as_bytes(), b"\n", gap.stream.as_bytes(), b"\n"];
            let digest = sha256_parts(&[&parts.concat(), &gap.from.to_be_bytes(), &gap.to.to_be_bytes()]);
            let alert = Alert {
                id: format!("gap-{}", &digest.hex()[..32]),
                step: Step::Gap,
                rule: gap.source,
                severity: "warning".to_owned(),
                group: gap.stream,
                value: gap.from as f64,
                threshold: 0.0,
                count: gap.to - gap.from + 1,
                window: (gap.noticed_ms, self.clock_ms),
                at: self.clock_ms,
                entry,
            };
            self.pending.insert((alert.id.clone(), Step::Gap), alert);
        }
    }

    /// Streams of a source: name, the last number, how many are missing.
    pub fn streams(&self, source: &str) -> impl Iterator<Item = (&str, u64, u64)> {
        let of_source = self.numbers.streams.iter().filter(move |((held, _), _)| held == source);
        of_source.map(|((_, name), stream)| (name.as_str(), stream.next.saturating_sub(1), stream.count()))
    }

    /// The trail has it: it is told.
    fn confirmed(&mut self, id: &str, step: Step) {
        self.pending.remove(&(id.to_owned(), step));
        if step != Step::Resolved {
            return;
        }
        let clock = self.clock_ms;
        for (state, rule) in self.states.iter_mut().zip(self.rules.all()) {
            for group in state.groups.values_mut() {
                if group.open.as_ref().is_some_and(|open| open.id == id) {
                    group.open = None;
                    group.quiet_until_ms = clock + rule.cool_down_ms;
                }
            }
        }
    }

    fn signal(&mut self, entry: u64, own_ms: u64, signal: &Signal) {
        let place = usize::from(signal.rule);
        let rules = Arc::clone(&self.rules);
        let Some(rule) = rules.all().get(place) else { return };
        let late = own_ms + LATE_MS < self.clock_ms;
        if late && !matches!(rule.what, What::Overdue { .. }) {
            return;
        }
        let name = self.group_name(place, rule, &signal.group);
        if name != signal.group && matches!(rule.what, What::Overdue { .. }) {
            return;
        }
        let state = &mut self.states[place];
        let group = state.groups.entry(name.clone()).or_insert_with(|| Group { first_ms: own_ms, ..Group::default() });
        group.first_ms = group.first_ms.min(own_ms);
        group.last_ms = group.last_ms.max(own_ms);
        let measured = match (&rule.what, &signal.role) {
            (What::Threshold { bound, lasting_ms }, Role::Of(value)) => {
                if !bound.holds(*value) {
                    group.beyond_ms = 0;
                    return self.calm(place, rule, &name, own_ms);
                }
                if group.beyond_ms == 0 {
                    group.beyond_ms = own_ms.max(1);
                }
                let since = group.beyond_ms;
                let lasted = own_ms.saturating_sub(since) >= *lasting_ms;
                lasted.then_some(Measured { value: *value, count: 1, window: (since, own_ms) })
            }
            (What::Rate { .. } | What::Ratio { .. } | What::Change { .. }, role) => {
                let part = own_ms / step(&rule.what);
                let counts = group.counts.entry(part).or_default();
                match role {
                    Role::Of(_) => counts.0 = counts.0.saturating_add(1),
                    Role::Among => counts.1 = counts.1.saturating_add(1),
                    _ => {}
                }
                let over = matches!(rule.what, What::Rate { .. })
                    || matches!(
                        rule.what,
                        What::Ratio { bound: Bound::Above(_), .. } | What::Change { bound: Bound::Above(_), .. }
                    );
                measure(&rule.what, group, part).filter(|(holds, _)| over && *holds).map(|(_, measured)| measured)
            }
            (What::Absence { .. }, Role::Of(_)) if !rule.text.by_hand => {
                return self.resolve(place, rule, &name, entry);
            }
            (What::Sequence { window_ms, times }, role) => {
                group.recent.retain(|time| own_ms.saturating_sub(*time) <= *window_ms);
                match role {
                    Role::Of(_) => {
                        group.recent.push_back(own_ms);
                        while group.recent.len() as u64 > *times {
                            group.recent.pop_front();
                        }
                        None
                    }
                    Role::Then if group.recent.len() as u64 >= *times => {
                        let from = group.recent.front().copied().unwrap_or(own_ms);
                        let count = group.recent.len() as u64;
                        group.recent.clear();
                        Some(Measured { value: count as f64, count: count + 1, window: (from, own_ms) })
                    }
                    _ => None,
                }
            }
            (What::Overdue { .. }, Role::State { open, due_ms, extended }) => {
                match (due_ms, extended) {
                    (Some(due), _) => group.due_ms = *due,
                    (None, true) if group.due_ms > 0 => group.due_ms += EXTENSION_MS,
                    _ => {}
                }
                if *open == Some(false) {
                    group.due_ms = 0;
                    self.resolve(place, rule, &name, entry);
                } else if group.due_ms == 0 && group.open.is_none() {
                    state.groups.remove(&name);
                }
                return;
            }
            _ => None,
        };
        if let Some(measured) = measured {
            self.raise(place, rule, &name, entry, measured);
        }
    }

    /// The group that counts for a name: its own, or that of all others where there are too many.
    fn group_name(&self, place: usize, rule: &Rule, given: &str) -> String {
        let groups = &self.states[place].groups;
        let most = if matches!(rule.what, What::Overdue { .. }) { WAITING_MAX } else { GROUPS_MAX };
        if groups.len() < most || groups.contains_key(given) { given.to_owned() } else { OTHERS.to_owned() }
    }

    /// Judges the parts of windows that have ended, and what waits.
    fn judge(&mut self, place: usize, rule: &Rule, entry: u64) {
        let step = step(&rule.what);
        // Nothing is judged before it could be whole.
        let ended = self.clock_ms.saturating_sub(GRACE_MS) / step;
        if ended <= self.states[place].judged {
            return;
        }
        let parts = match rule.what {
            What::Ratio { window_ms, lag_ms, .. } => (window_ms + lag_ms) / step + STEPS,
            What::Rate { window_ms, .. } => window_ms / step + STEPS,
            What::Change { .. } => WEEK_HOURS,
            _ => 1,
        };
        let from = self.states[place].judged.max(ended.saturating_sub(parts));
        self.states[place].judged = ended;
        for part in from..ended {
            let names: Vec<String> = self.states[place].groups.keys().cloned().collect();
            for name in names {
                self.judge_group(place, rule, &name, part, entry);
            }
        }
        self.sweep(place, rule, ended);
    }

    fn judge_group(&mut self, place: usize, rule: &Rule, name: &str, part: u64, entry: u64) {
        let end = (part + 1) * step(&rule.what);
        let clock = self.clock_ms;
        let Some(group) = self.states[place].groups.get_mut(name) else { return };
        let measured = match &rule.what {
            What::Rate { .. } | What::Ratio { .. } | What::Change { .. } => {
                measure(&rule.what, group, part).filter(|(holds, _)| *holds).map(|(_, measured)| measured)
            }
            What::Absence { window_ms } => {
                let silent = clock.saturating_sub(group.last_ms);
                (silent > *window_ms).then_some(Measured {
                    value: (silent / SECOND_MS) as f64,
                    count: 0,
                    window: (group.last_ms, clock),
                })
            }
            What::Overdue { .. } => (group.due_ms > 0 && group.due_ms < clock).then(|| Measured {
                value: ((clock - group.due_ms) / SECOND_MS) as f64,
                count: 1,
                window: (group.due_ms, clock),
            }),
            What::Threshold { .. } if group.beyond_ms > 0 => {
                // Without a new value the last one stands.
                if let Some(open) = &mut group.open {
                    open.held_ms = end;
                }
                return;
            }
            What::Threshold { .. } | What::Sequence { .. } => None,
        };
        match measured {
            // Of what is counted as it comes, the end of a window tells only that it still holds.
            Some(measured) => self.raise(place, rule, name, entry, measured),
            None if !matches!(rule.what, What::Absence { .. } | What::Overdue { .. }) => {
                self.calm(place, rule, name, end);
            }
            None => {}
        }
    }

    fn raise(&mut self, place: usize, rule: &Rule, name: &str, entry: u64, measured: Measured) {
        let state = &mut self.states[place];
        let until = measured.window.1;
        if let Some(open) = state.groups.get_mut(name).and_then(|group| group.open.as_mut()) {
            open.held_ms = open.held_ms.max(until);
            return;
        }
        let spoken = |group: &Group| group.open.as_ref().is_some_and(|open| !open.id.is_empty());
        let many = name != OTHERS
            && state.groups.iter().filter(|(name, group)| *name != OTHERS && spoken(group)).count() >= rule.alerts_max;
        let group = state.groups.entry(name.to_owned()).or_default();
        if self.clock_ms < group.quiet_until_ms && name != OTHERS {
            return;
        }
        let id = if many { String::new() } else { alert_id(&rule.text.name, name, entry) };
        group.open = Some(Open { id: id.clone(), entry, held_ms: until });
        if many {
            let others = Measured { value: measured.value, count: rule.alerts_max as u64 + 1, window: measured.window };
            return self.raise(place, rule, OTHERS, entry, others);
        }
        let threshold = match &rule.what {
            What::Threshold { bound, .. } | What::Ratio { bound, .. } | What::Change { bound, .. } => bound.number(),
            What::Rate { above, .. } => *above,
            What::Absence { window_ms } => (*window_ms / SECOND_MS) as f64,
            What::Sequence { times, .. } => *times as f64,
            What::Overdue { .. } => 0.0,
        };
        let alert = Alert {
            id: id.clone(),
            step: Step::Raised,
            rule: rule.text.name.clone(),
            severity: rule.text.severity.clone(),
            group: name.to_owned(),
            value: measured.value,
            threshold,
            count: measured.count,
            window: measured.window,
            at: self.clock_ms,
            entry,
        };
        self.pending.insert((id, Step::Raised), alert);
    }

    /// What was measured is within its bound again: an alert that is old enough ends.
    fn calm(&mut self, place: usize, rule: &Rule, name: &str, now_ms: u64) {
        let Some(group) = self.states[place].groups.get(name) else { return };
        let Some(open) = &group.open else { return };
        if !rule.text.by_hand && now_ms.saturating_sub(open.held_ms) >= rule.cool_down_ms {
            self.resolve(place, rule, name, self.next.saturating_sub(1));
        }
    }

    fn resolve(&mut self, place: usize, rule: &Rule, name: &str, entry: u64) {
        let clock = self.clock_ms;
        let Some(group) = self.states[place].groups.get_mut(name) else { return };
        let Some(open) = group.open.take() else { return };
        // It ended when it had been quiet for long enough, even where no entry was there to show it.
        group.quiet_until_ms = clock.min(open.held_ms + rule.cool_down_ms) + rule.cool_down_ms;
        if open.id.is_empty() {
            return;
        }
        let alert = Alert {
            id: open.id.clone(),
            step: Step::Resolved,
            rule: rule.text.name.clone(),
            severity: rule.text.severity.clone(),
            group: name.to_owned(),
            value: 0.0,
            threshold: 0.0,
            count: 0,
            window: (open.held_ms, clock),
            at: clock,
            entry,
        };
        self.pending.insert((open.id, Step::Resolved), alert);
    }

    /// Forgets what no window needs any more; ends the alert that spoke for others when none of them is left.
    fn sweep(&mut self, place: usize, rule: &Rule, ended: u64) {
        let spoken_for = |group: &Group| group.open.as_ref().is_some_and(|open| open.id.is_empty());
        let state = &mut self.states[place];
        if state.groups.get(OTHERS).is_some_and(|others| others.open.is_some())
            && !state.groups.values().any(spoken_for)
            && !rule.text.by_hand
        {
            self.resolve(place, rule, OTHERS, self.next.saturating_sub(1));
        }
        let step = step(&rule.what);
        let kept = match rule.what {
            What::Ratio { window_ms, lag_ms, .. } => window_ms + lag_ms + LATE_MS,
            What::Rate { window_ms, .. } => window_ms + LATE_MS,
            What::Change { .. } => (WEEKS * WEEK_HOURS + 1) * HOUR_MS + LATE_MS,
            _ => 0,
        };
        let oldest = ended.saturating_sub(kept / step + 1);
        let (clock, what) = (self.clock_ms, &rule.what);
        self.states[place].groups.retain(|_, group| {
            group.counts = group.counts.split_off(&oldest);
            let needed = match what {
                What::Rate { .. } | What::Ratio { .. } | What::Change { .. } => !group.counts.is_empty(),
                What::Absence { .. } => true,
                What::Threshold { .. } => group.beyond_ms > 0,
                What::Sequence { window_ms, .. } => group.last_ms + window_ms > clock && !group.recent.is_empty(),
                What::Overdue { .. } => group.due_ms > 0,
            };
            needed || group.open.is_some() || group.quiet_until_ms > clock
        });
    }
}

fn alert_id(rule: &str, group: &str, entry: u64) -> String {
    let digest = sha256_parts(&[b"candor/v1/alert\n", rule.as_bytes(), b"\n", group.as_bytes(), &entry.to_be_bytes()]);
    format!("{rule}-{}", &digest.hex()[..16])
}
