//! Taps: what rules see in one record, taken from its facts while they are at hand.

use std::sync::Arc;

use proof::commitment::Field;
use proof::time::UnixMillis;
use record::minimal::{number, string};
use record::schema::Kind;
use record::things::Columns;
use serde_json::Value;

use super::numbers::parse;
use super::rule::{Hours, MatchText, Rules, What, number_of};
use crate::row::Change;

/// A step of an alert's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It was raised.
    Raised,
    /// It ended.
    Resolved,
    /// It is no alert but a gap in the numbers of a source.
    Gap,
}

/// What an event is to a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// It counts; the value of the rule's field.
    Of(f64),
    /// It is of the whole.
    Among,
    /// It ends a sequence.
    Then,
    /// It says how something of a register stands.
    State {
        /// Whether it waits for somebody, if the event says so.
        open: Option<bool>,
        /// Until when.
        due_ms: Option<u64>,
        /// Whether the time was extended.
        extended: bool,
    },
}

/// One event as one rule sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The rule's place.
    pub rule: u16,
    /// What it is to the rule.
    pub role: Role,
    /// Which of the rule's groups.
    pub group: String,
}

/// What rules see in one record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sighted {
    /// To rules.
    pub signals: Vec<Signal>,
    /// The alert that it is a step of.
    pub alert: Option<(String, Step)>,
    /// Source, stream and number, where the source numbers.
    pub number: Option<(String, String, u64)>,
}

/// What every rule takes from records of one kind.
pub(crate) struct Taps {
    taps: Vec<Tap>,
    /// The field with an alert's id, and the step that the kind is.
    alert: Option<(u16, Step)>,
    /// Rules that watch what waits in the register of this kind, and what the kind itself says of that.
    overdue: Vec<u16>,
    told: bool,
    extended: bool,
    /// The sources that number what they send.
    numbered: Option<Arc<Rules>>,
}

struct Tap {
    rule: u16,
    sort: Sort,
    with: Vec<(u16, Vec<Value>)>,
    over: Vec<(u16, f64)>,
    by: Option<u16>,
    value: Option<u16>,
    outside: Option<Hours>,
}

#[derive(Clone, Copy, PartialEq)]
enum Sort {
    Of,
    Among,
    Then,
}

impl Taps {
    pub(crate) fn new(kind: &Kind, rules: &Arc<Rules>, register: Option<u8>) -> Taps {
        let field = |name: &str| number_of(kind, name);
        let (mut taps, mut overdue) = (Vec::new(), Vec::new());
        for (place, rule) in rules.all().iter().enumerate() {
            let text = &rule.text;
            let all = [(&text.of, Sort::Of), (&text.among, Sort::Among), (&text.then, Sort::Then)];
            for (sort, one) in all.into_iter().flat_map(|(list, sort)| list.iter().map(move |one| (sort, one))) {
                if one.kinds.contains(&kind.name)
                    && let Some((with, over)) = conditions(one, &field)
                {
                    let (by, value) = (text.by.as_deref().and_then(field), text.value.as_deref().and_then(field));
                    let outside = one.outside.as_ref().and_then(Hours::new);
                    taps.push(Tap { rule: place as u16, sort, with, over, by, value, outside });
                }
            }
            if matches!(rule.what, What::Overdue { register: watched } if Some(watched) == register) {
                overdue.push(place as u16);
            }
        }
        let alert = match kind.name.as_str() {
            "ALERT_RAISED" => Some(Step::Raised),
            "ALERT_RESOLVED" => Some(Step::Resolved),
            "INGEST_GAP" => Some(Step::Gap),
            _ => None,
        };
        let (told, extended) = (kind.name == "BREACH_REGULATOR_NOTIFIED", kind.name == "REQUEST_EXTENDED");
        Taps {
            taps,
            alert: alert.and_then(|step| Some((field(if step == Step::Gap { "event_id" } else { "alert_id" })?, step))),
            overdue,
            told,
            extended,
            numbered: rules.any_numbered().then(|| Arc::clone(rules)),
        }
    }

    /// Whether rules look at such records.
    pub(crate) fn look(&self) -> bool {
        !self.taps.is_empty() || self.alert.is_some() || !self.overdue.is_empty() || self.numbered.is_some()
    }

    /// What rules see in a record with these facts.
    pub(crate) fn of<'a>(
        &self,
        facts: impl Iterator<Item = Field<'a>> + Clone,
        change: Option<&Change>,
    ) -> Option<Box<Sighted>> {
        if !self.look() {
            return None;
        }
        let mut sighted = Sighted::default();
        let fact = |wanted: u16| facts.clone().find(|field| field.number == wanted).map(|field| field.value);
        for tap in &self.taps {
            if tap.fits(&fact) {
                let group = tap.by.and_then(fact).filter(|value| value.starts_with(b"\""));
                let group = group.map(|value| string(value).into_owned()).unwrap_or_default();
                let role = match tap.sort {
                    Sort::Of => match tap.value {
                        None => Role::Of(1.0),
                        Some(field) => match fact(field).and_then(as_number) {
                            Some(value) => Role::Of(value),
                            None => continue,
                        },
                    },
                    Sort::Among => Role::Among,
                    Sort::Then => Role::Then,
                };
                sighted.signals.push(Signal { rule: tap.rule, role, group });
            }
        }
        if let Some(change) = change {
            let role = self.state(change);
            let waits = |rule: &u16| Signal { rule: *rule, role: role.clone(), group: change.id.clone() };
            sighted.signals.extend(self.overdue.iter().map(waits));
        }
        if let Some((field, step)) = self.alert {
            sighted.alert = fact(field).map(|id| (string(id).into_owned(), step));
        }
        if let Some(rules) = &self.numbered
            && let (Some(source), Some(id)) = (fact(number::SOURCE), fact(number::EVENT_ID))
            && rules.is_numbered(&string(source))
        {
            let id = string(id);
            let parsed = parse(&id).map(|(stream, number)| (string(source).into_owned(), stream.to_owned(), number));
            sighted.number = parsed;
        }
        let some = !sighted.signals.is_empty() || sighted.alert.is_some() || sighted.number.is_some();
        some.then(|| Box::new(sighted))
    }

    fn state(&self, change: &Change) -> Role {
        let Columns { status, due, .. } = &change.columns;
        let shape = record::things::SHAPES.get(usize::from(change.register));
        let open = status.as_deref().and_then(|status| Some(shape?.is_open(status)));
        // The clock of a breach is that of its notice, not of its end.
        let open = if self.told { Some(false) } else { open };
        Role::State { open, due_ms: *due, extended: self.extended }
    }
}

/// A condition on a field that the kind does not have is never met.
type Conditions = (Vec<(u16, Vec<Value>)>, Vec<(u16, f64)>);

fn conditions(one: &MatchText, number: &dyn Fn(&str) -> Option<u16>) -> Option<Conditions> {
    let with = one.with.iter().map(|(name, values)| Some((number(name)?, values.clone())));
    let over = one.over.iter().map(|(name, bound)| Some((number(name)?, *bound)));
    Some((with.collect::<Option<_>>()?, over.collect::<Option<_>>()?))
}

impl Tap {
    fn fits<'a>(&self, fact: &dyn Fn(u16) -> Option<&'a [u8]>) -> bool {
        let is = |field: &u16, values: &[Value]| {
            let Some(held) = fact(*field) else { return false };
            values.iter().any(|value| match value {
                Value::String(text) if held.starts_with(b"{") => {
                    // What may be a word or an object has the word as its status.
                    serde_json::from_slice::<Value>(held).is_ok_and(|held| held["status"] == text.as_str())
                }
                Value::String(_) if held.starts_with(b"[") => {
                    serde_json::from_slice::<Vec<Value>>(held).is_ok_and(|held| held.contains(value))
                }
                Value::String(text) => string(held) == *text,
                other => serde_json::from_slice::<Value>(held).is_ok_and(|held| held == *other),
            })
        };
        let time = || fact(number::TIMESTAMP).and_then(|time| UnixMillis::parse(string(time).as_bytes()).ok());
        self.outside.is_none_or(|hours| time().is_some_and(|time| hours.is_outside(time.0)))
            && self.with.iter().all(|(field, values)| is(field, values))
            && self.over.iter().all(|(field, bound)| fact(*field).and_then(as_number).is_some_and(|held| held > *bound))
    }
}

fn as_number(json: &[u8]) -> Option<f64> {
    std::str::from_utf8(json).ok()?.parse().ok()
}
