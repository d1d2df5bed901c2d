//! Rules: what is watched for, as data (`docs/watch.md`).

use std::collections::{BTreeMap, BTreeSet};

use proof::encoding::is_token;
use proof::hash::{Hash, sha256};
use record::kinds::Catalogue;
use record::schema::{FieldClass, Kind, Node};
use serde::Deserialize;
use serde_json::Value;

/// Rules of one trail, at most.
const RULES_MAX: usize = 200;
/// Groups of a rule that are told apart, at most; what comes beyond is one group.
pub(super) const GROUPS_MAX: usize = 10_000;
/// The longest window: 31 days.
const WINDOW_S_MAX: u64 = 31 * 86_400;

/// A file of rules, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// The rules.
    #[serde(default)]
    pub rule: Vec<RuleText>,
}

/// One rule, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    /// Its name: an alert carries it.
    pub name: String,
    /// What it means, in one sentence.
    #[serde(default)]
    pub title: String,
    /// Where it comes from.
    #[serde(default)]
    pub origin: String,
    /// `false`: a shipped rule of this name is put out of use.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Of its alerts.
    #[serde(default = "warning")]
    pub severity: String,
    /// `threshold`, `rate`, `ratio`, `absence`, `change`, `sequence` or `overdue`.
    #[serde(rename = "type", default)]
    pub sort: String,
    /// The events that count.
    #[serde(default)]
    pub of: Vec<MatchText>,
    /// The whole of a ratio.
    #[serde(default)]
    pub among: Vec<MatchText>,
    /// What a sequence ends with.
    #[serde(default)]
    pub then: Vec<MatchText>,
    /// A fact field whose values are watched apart, such as `template_id` or `sender_details.department`.
    pub by: Option<String>,
    /// The fact field whose value a threshold looks at.
    pub value: Option<String>,
    /// Raised above this.
    pub above: Option<f64>,
    /// Raised below this.
    pub below: Option<f64>,
    /// Of a ratio and a change: from so many events on.
    pub at_least: Option<u64>,
    /// Of a sequence: so many events before the last one.
    pub times: Option<u64>,
    /// Seconds that are counted together, that a value must last, that may pass.
    pub window_s: Option<u64>,
    /// Of a ratio: how many seconds later what counts may come than the whole.
    pub lag_s: Option<u64>,
    /// Seconds for which it must be quiet before an alert is resolved, and before the next one.
    pub cool_down_s: Option<u64>,
    /// `true`: only a person resolves its alerts.
    #[serde(default)]
    pub by_hand: bool,
    /// Of an overdue: the register.
    pub register: Option<String>,
    /// Alerts that stand open at once, at most; what comes beyond is one alert more.
    pub alerts_max: Option<u64>,
    /// What is done when it is raised: `case` opens one, `end_sessions` ends those of the person whom `by` names.
    #[serde(default)]
    pub respond: Vec<String>,
}

impl RuleText {
    /// All that it says of which events.
    pub(super) fn matches(&self) -> impl Iterator<Item = &MatchText> {
        self.of.iter().chain(&self.among).chain(&self.then)
    }
}

/// Which events, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchText {
    /// Kinds.
    pub kinds: Vec<String>,
    /// Fact fields and the values of which each must have one.
    #[serde(default)]
    pub with: BTreeMap<String, Vec<Value>>,
    /// Fact fields whose number must be above this.
    #[serde(default)]
    pub over: BTreeMap<String, f64>,
    /// Only events outside these hours.
    pub outside: Option<HoursText>,
}

/// Hours of a week, as they are written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoursText {
    /// From this time of the day, `HH:MM`.
    pub from: String,
    /// Until this time of the day, `HH:MM`.
    pub until: String,
    /// Offset from UTC, `+HH:MM`.
    pub zone: String,
    /// Days of the week: `mon tue wed thu fri sat sun`.
    pub days: Vec<String>,
}

/// The same, read: minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hours {
    from: u32,
    until: u32,
    east: i64,
    days: u8,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Hours {
    pub(super) fn new(text: &HoursText) -> Option<Hours> {
        let time = |text: &str| -> Option<u32> {
            let (hours, minutes) = text.split_once(':')?;
            let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 2);
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            (minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some(hours * 60 + minutes)
        };
        let (sign, zone) = text.zone.split_at_checked(1)?;
        let east = i64::from(time(zone).filter(|zone| *zone <= 14 * 60)?);
        let east = match sign {
            "+" => east,
            "-" => -east,
            _ => return None,
        };
        let mut days = 0;
        for day in &text.days {
            days |= 1u8 << DAYS.iter().position(|name| name == day)?;
        }
        let (from, until) = (time(&text.from)?, time(&text.until)?);
        (from < until).then_some(Hours { from, until, east, days })
    }

    /// Whether a time (milliseconds) is not within them.
    pub(super) fn is_outside(self, at_ms: u64) -> bool {
        let minutes = (at_ms / 60_000) as i64 + self.east;
        // The first of 1970 was a Thursday.
        let day = (minutes.div_euclid(24 * 60) + 3).rem_euclid(7);
        let minute = minutes.rem_euclid(24 * 60) as u32;
        self.days & (1 << day) == 0 || minute < self.from || minute >= self.until
    }
}

fn yes() -> bool {
    true
}

fn warning() -> String {
    "warning".to_owned()
}

/// What a rule looks for. Times in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A value beyond a bound for so long.
    Threshold {
        /// Beyond what.
        bound: Bound,
        /// For how long; 0: at once.
        lasting_ms: u64,
    },
    /// More events than this in a window.
    Rate {
        /// The window.
        window_ms: u64,
        /// How many.
        above: f64,
    },
    /// A share of events in a window.
    Ratio {
        /// The window.
        window_ms: u64,
        /// How much later what counts may come than the whole.
        lag_ms: u64,
        /// Beyond what.
        bound: Bound,
        /// From so many of the whole on.
        at_least: u64,
    },
    /// None for so long, once there was one.
    Absence {
        /// For how long.
        window_ms: u64,
    },
    /// An hour against the same hour of the five weeks before: how many times as many.
    Change {
        /// Beyond what.
        bound: Bound,
        /// From so many in the larger of the two on.
        at_least: u64,
    },
    /// So many events and then another one, in a window.
    Sequence {
        /// The window.
        window_ms: u64,
        /// How many.
        times: u64,
    },
    /// Something of a register that waits beyond its time.
    Overdue {
        /// The register's place.
        register: u8,
    },
}

/// Beyond what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// More than this.
    Above(f64),
    /// Less than this.
    Below(f64),
}

impl Bound {
    /// Whether a value is beyond it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Bound::Above(bound) => value > bound,
            Bound::Below(bound) => value < bound,
        }
    }

    /// The bound itself.
    pub fn number(self) -> f64 {
        match self {
            Bound::Above(bound) | Bound::Below(bound) => bound,
        }
    }
}

/// One rule, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As it is written.
    pub text: RuleText,
    /// What it looks for.
    pub what: What,
    /// Quiet before an alert is resolved, and before the next one.
    pub cool_down_ms: u64,
    /// Open alerts, at most.
    pub alerts_max: usize,
    /// Changes with everything that the rule says.
    pub digest: Hash,
}

/// Checked rules in the order of their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
    numbered: BTreeSet<String>,
}

impl Rules {
    /// Checks rules; of two with one name the later one counts.
    ///
    /// # Errors
    /// What is wrong, in one sentence with the rule's name.
    pub fn new(files: impl IntoIterator<Item = RuleFile>) -> Result<Rules, String> {
        let mut by_name = BTreeMap::new();
        for file in files {
            let mut names = BTreeSet::new();
            for text in file.rule {
                if !names.insert(text.name.clone()) {
                    return Err(format!("rule {}: there are two of this name in one file", text.name));
                }
                by_name.insert(text.name.clone(), text);
            }
        }
        let enabled = by_name.into_values().filter(|text| text.enabled);
        let rules = enabled.map(Rule::new).collect::<Result<Vec<_>, _>>()?;
        if rules.len() > RULES_MAX {
            return Err(format!("there are {} rules, at most {RULES_MAX} are allowed", rules.len()));
        }
        Ok(Rules { rules, numbered: BTreeSet::new() })
    }

    /// Whether every kind, field and value that a rule names is there: what is not there would never be met, and nobody
    /// told.
    ///
    /// # Errors
    /// What is not there, in one sentence with the rule's name.
    pub fn fit(&self, catalogue: &Catalogue) -> Result<(), String> {
        for text in self.rules.iter().map(|rule| &rule.text) {
            for one in text.matches() {
                let value = text.value.iter().filter(|_| text.of.contains(one));
                for kind in &one.kinds {
                    let there = catalogue.newest(kind).map(|id| catalogue.kind(id));
                    let kind = there.ok_or_else(|| format!("rule {}: there is no kind {kind}", text.name))?;
                    for field in one.with.keys().chain(one.over.keys()).chain(&text.by).chain(value.clone()) {
                        let node = fact(kind, field)
                            .ok_or_else(|| format!("rule {}: {} has no fact called {field}", text.name, kind.name))?;
                        let never =
                            |wanted: &&Value| !node.values.is_empty() && !node.values.contains(&wanted.to_string());
                        if let Some(wanted) = one.with.get(field).into_iter().flatten().find(never) {
                            return Err(format!("rule {}: {field} of {} is never {wanted}", text.name, kind.name));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The same rules with the sources that number what they send.
    pub fn with_numbered(mut self, sources: impl IntoIterator<Item = String>) -> Rules {
        self.numbered.extend(sources);
        self
    }

    /// Whether a source numbers what it sends.
    pub(super) fn is_numbered(&self, source: &str) -> bool {
        self.numbered.contains(source)
    }

    /// Whether any does.
    pub(super) fn any_numbered(&self) -> bool {
        !self.numbered.is_empty()
    }

    /// The rules.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The same rules, of which none waits for a person.
    pub(super) fn without_hands(&self) -> Rules {
        let mut rules = self.clone();
        rules.rules.iter_mut().for_each(|rule| rule.text.by_hand = false);
        rules
    }

    /// The rule of this name alone.
    pub fn only(&self, name: &str) -> Option<Rules> {
        let rule = self.rules.iter().find(|rule| rule.text.name == name)?;
        Some(Rules { rules: vec![rule.clone()], numbered: BTreeSet::new() })
    }

    /// One digest of all of them.
    pub fn digest(&self) -> Hash {
        let all: Vec<u8> = self.rules.iter().flat_map(|rule| rule.digest.0).collect();
        sha256(&all)
    }
}

impl Rule {
    fn new(text: RuleText) -> Result<Rule, String> {
        let wrong = |what: &str| Err(format!("rule {}: {what}", text.name));
        if !is_token(&text.name) || text.name.contains('/') {
            return wrong("a name must be 1 to 64 letters, digits or _.:+-");
        }
        const SEVERITIES: [&str; 6] = ["debug", "info", "notice", "warning", "error", "critical"];
        if !SEVERITIES.contains(&text.severity.as_str()) {
            return wrong("severity must be one of debug, info, notice, warning, error, critical");
        }
        let seconds = |name: &str, given: Option<u64>| match given {
            Some(seconds) if (1..=WINDOW_S_MAX).contains(&seconds) => Ok(seconds * 1000),
            _ => Err(format!("rule {}: {name} must be 1 to {WINDOW_S_MAX}", text.name)),
        };
        let window = || seconds("window_s", text.window_s);
        let at_least = text.at_least.unwrap_or(1).max(1);
        let what = match text.sort.as_str() {
            "threshold" if text.value.is_none() => return wrong("a threshold needs value, the field that it looks at"),
            "threshold" => What::Threshold { bound: bound(&text)?, lasting_ms: text.window_s.unwrap_or(0) * 1000 },
            "rate" => match text.above {
                Some(above) => What::Rate { window_ms: window()?, above },
                None => return wrong("a rate needs above"),
            },
            "ratio" if text.among.is_empty() => return wrong("a ratio needs among, the whole"),
            "ratio" => {
                let lag_ms = text.lag_s.map_or(Ok(0), |lag| seconds("lag_s", Some(lag)))?;
                What::Ratio { window_ms: window()?, lag_ms, bound: bound(&text)?, at_least }
            }
            "absence" => What::Absence { window_ms: window()? },
            "change" => What::Change { bound: bound(&text)?, at_least },
            "sequence" if text.then.is_empty() || text.by.is_none() => {
                return wrong("a sequence needs then, what it ends with, and by, the field that both share");
            }
            "sequence" => match text.times.unwrap_or(1) {
                times @ 1..=100 => What::Sequence { window_ms: window()?, times },
                _ => return wrong("times must be 1 to 100"),
            },
            "overdue" => {
                let shape = text.register.as_deref().and_then(record::things::shape).filter(|shape| shape.is_listed());
                match shape {
                    Some(shape) => What::Overdue { register: shape.place() },
                    None => return wrong("an overdue needs register, one that has lists"),
                }
            }
            _ => {
                return wrong("type must be one of threshold, rate, ratio, absence, change, sequence, overdue");
            }
        };
        if text.of.is_empty() != matches!(what, What::Overdue { .. }) {
            return wrong("of must name the events that count; an overdue has none");
        }
        if text.matches().flat_map(|one| &one.kinds).any(|kind| kind.starts_with("ALERT_")) {
            return wrong("alerts are not watched for alerts");
        }
        let cool_down_ms = text.cool_down_s.unwrap_or(3600).min(WINDOW_S_MAX) * 1000;
        let alerts_max = text.alerts_max.unwrap_or(20).clamp(1, 1000) as usize;
        const RESPONSES: [&str; 2] = ["case", "end_sessions"];
        if !text.respond.iter().all(|response| RESPONSES.contains(&response.as_str())) {
            return wrong("respond must be of case, end_sessions");
        }
        if text.respond.iter().any(|response| response == "end_sessions")
            && text.by.as_deref().is_none_or(str::is_empty)
        {
            return wrong("end_sessions needs by, the field that names the person");
        }
        if text.matches().filter_map(|one| one.outside.as_ref()).any(|hours| Hours::new(hours).is_none()) {
            return wrong("outside needs from and until (HH:MM), zone (+HH:MM) and days (mon to sun)");
        }
        // What a rule did not say before these words were there is not said by its digest.
        let said = format!("{text:?}").replace(", respond: []", "").replace(", outside: None", "");
        let digest = sha256(format!("candor/v1/rule\n{said}").as_bytes());
        Ok(Rule { what, cool_down_ms, alerts_max, digest, text })
    }
}

/// The schema of a kind's fact by its name, such as `sender_details.department`.
fn fact<'k>(kind: &'k Kind, name: &str) -> Option<&'k Node> {
    let mut node = &kind.root;
    for step in name.split('.') {
        node = &node.properties[node.property(step.as_bytes())?].node;
    }
    node.field.as_ref().filter(|mark| mark.class == FieldClass::Fact).map(|_| node)
}

/// The number of a kind's fact by its name.
pub(super) fn number_of(kind: &Kind, name: &str) -> Option<u16> {
    fact(kind, name)?.field.as_ref().map(|mark| mark.number)
}

fn bound(text: &RuleText) -> Result<Bound, String> {
    match (text.above, text.below) {
        (Some(above), None) if above.is_finite() => Ok(Bound::Above(above)),
        (None, Some(below)) if below.is_finite() => Ok(Bound::Below(below)),
        _ => Err(format!("rule {}: give above or below, one of them", text.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_a_week_stand_in_their_own_zone() {
        let text = |from: &str, until: &str, zone: &str, days: &[&str]| HoursText {
            from: from.into(),
            until: until.into(),
            zone: zone.into(),
            days: days.iter().map(|day| (*day).to_owned()).collect(),
        };
        let hours = Hours::new(&text("06:00", "20:00", "+02:00", &DAYS[..6])).expect("hours");
        let at = |time: &str| proof::time::UnixMillis::parse(time.as_bytes()).expect("a time").0;
        // 2026-11-20 was a Friday.
        for (time, outside) in [
            ("2026-11-20T04:00:00Z", false),
            ("2026-11-20T03:59:59Z", true),
            ("2026-11-20T17:59:00Z", false),
            ("2026-11-20T18:00:00Z", true),
            ("2026-11-21T12:00:00Z", false),
            ("2026-11-22T12:00:00Z", true),
            ("2026-11-21T22:30:00Z", true),
        ] {
            assert_eq!(hours.is_outside(at(time)), outside, "{time}");
        }
        for wrong in [
            text("20:00", "06:00", "+02:00", &DAYS),
            text("6:00", "20:00", "+02:00", &DAYS),
            text("06:00", "20:00", "02:00", &DAYS),
            text("06:00", "24:01", "+02:00", &DAYS),
            text("06:00", "20:00", "+02:00", &["someday"]),
        ] {
            assert_eq!(Hours::new(&wrong), None, "{wrong:?}");
        }
    }
}
