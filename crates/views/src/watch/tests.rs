//! Rules over made-up streams: what they raise, when it ends, and that a stop anywhere changes nothing.

use std::sync::Arc;

use record::kinds::Catalogue;

use super::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const WEEK: u64 = 168 * HOUR;
/// A time that is the beginning of an hour.
const START: u64 = 1_767_225_600_000;

fn rules(text: &str) -> Arc<Rules> {
    let file: RuleFile = toml::from_str(text).expect("TOML");
    Arc::new(Rules::new([file]).expect("rules"))
}

fn one(text: &str) -> Arc<Rules> {
    rules(&format!("[[rule]]\nname = \"r\"\nof = [{{ kinds = [\"EMAIL_SENT\"] }}]\n{text}"))
}

/// A stream of events for one rule.
struct Stream {
    engine: Engine,
    entry: u64,
    told: Vec<Alert>,
}

impl Stream {
    fn new(rules: Arc<Rules>) -> Stream {
        Stream { engine: Engine::new(rules, 0), entry: 0, told: Vec::new() }
    }

    fn see(&mut self, at: u64, group: &str, role: Role) {
        let signals = vec![Signal { rule: 0, role, group: group.to_owned() }];
        self.entry(at, Some(Sighted { signals, alert: None, number: None }));
    }

    fn of(&mut self, at: u64) {
        self.see(at, "", Role::Of(1.0));
    }

    fn value(&mut self, at: u64, value: f64) {
        self.see(at, "", Role::Of(value));
    }

    fn pass(&mut self, at: u64) {
        self.entry(at, None);
    }

    /// Takes an entry and records what it raised, as the program does.
    fn entry(&mut self, at: u64, sighted: Option<Sighted>) {
        self.engine.apply(self.entry, at, at, sighted.as_ref());
        self.entry += 1;
        let pending: Vec<Alert> = self.engine.pending().cloned().collect();
        for alert in pending {
            let confirmed = Sighted { signals: Vec::new(), alert: Some((alert.id.clone(), alert.step)), number: None };
            self.engine.apply(self.entry, at, at, Some(&confirmed));
            self.entry += 1;
            self.told.push(alert);
        }
    }

    /// Steps and groups told since the last call.
    fn told(&mut self) -> Vec<(Step, String)> {
        self.told.drain(..).map(|alert| (alert.step, alert.group)).collect()
    }
}

fn raised(group: &str) -> (Step, String) {
    (Step::Raised, group.to_owned())
}

fn resolved(group: &str) -> (Step, String) {
    (Step::Resolved, group.to_owned())
}

#[test]
fn a_rate_is_raised_once_and_resolved_when_it_has_been_quiet() {
    let mut stream = Stream::new(one("type = \"rate\"\nwindow_s = 3600\nabove = 2\ncool_down_s = 600"));
    for minute in [0, 1] {
        stream.of(START + minute * MINUTE);
    }
    assert_eq!(stream.told(), []);
    for minute in 2..30 {
        stream.of(START + minute * MINUTE);
    }
    assert_eq!(stream.told(), [raised("")]);
    stream.pass(START + 103 * MINUTE);
    assert_eq!(stream.told(), [resolved("")]);
    // Again in the cool-down it is not told, after it is.
    for second in 0..5 {
        stream.of(START + 104 * MINUTE + second * 1000);
    }
    assert_eq!(stream.told(), []);
    stream.of(START + 2 * HOUR);
    assert_eq!(stream.told(), [raised("")]);
}

#[test]
fn what_ended_while_nothing_came_is_raised_again_by_the_first_that_comes() {
    let mut stream = Stream::new(one("type = \"rate\"\nwindow_s = 60\nabove = 0\ncool_down_s = 600"));
    for day in 0..3 {
        stream.of(START + day * 24 * HOUR);
    }
    assert_eq!(stream.told(), [raised(""), resolved(""), raised(""), resolved(""), raised("")]);
}

#[test]
fn a_share_needs_enough_of_the_whole() {
    let text = "type = \"ratio\"\nwindow_s = 3600\nabove = 0.5\nat_least = 10\namong = [{ kinds = [\"EMAIL_SENT\"] }]";
    let mut stream = Stream::new(one(text));
    for second in 0..9 {
        stream.see(START + second * 1000, "", Role::Among);
        stream.of(START + second * 1000);
    }
    assert_eq!(stream.told(), []);
    stream.see(START + 10_000, "", Role::Among);
    assert_eq!(stream.told(), [raised("")]);
}

#[test]
fn a_share_below_its_bound_is_judged_when_its_window_is_whole() {
    let text = "type = \"ratio\"\nwindow_s = 3600\nlag_s = 3600\nbelow = 0.5\nat_least = 10\namong = [{ kinds = [\"EMAIL_SENT\"] }]";
    let run = |decided: u64| {
        let mut stream = Stream::new(one(text));
        for minute in 0..20 {
            stream.see(START + minute * MINUTE, "", Role::Among);
        }
        assert_eq!(stream.told(), [], "what was just sent can't have been decided");
        for minute in 0..decided {
            stream.of(START + (30 + minute) * MINUTE);
        }
        stream.pass(START + 2 * HOUR + 5 * MINUTE);
        stream.told()
    };
    assert_eq!(run(15), []);
    assert_eq!(run(2), [raised("")]);
}

#[test]
fn a_value_must_last_beyond_its_bound() {
    let mut stream =
        Stream::new(one("type = \"threshold\"\nvalue = \"delay_ms\"\nwindow_s = 600\nabove = 100\ncool_down_s = 60"));
    for (minute, value) in [(0, 200.0), (5, 90.0), (6, 200.0), (12, 200.0)] {
        stream.value(START + minute * MINUTE, value);
    }
    assert_eq!(stream.told(), [], "it was within its bound in between");
    stream.value(START + 16 * MINUTE, 200.0);
    assert_eq!(stream.told(), [raised("")]);
    stream.value(START + 30 * MINUTE, 50.0);
    assert_eq!(stream.told(), [resolved("")]);
}

#[test]
fn silence_is_told_once_and_ends_with_the_next_event() {
    let mut stream = Stream::new(one("type = \"absence\"\nwindow_s = 3600\nby = \"template_id\""));
    stream.see(START, "a", Role::Of(1.0));
    stream.see(START + 50 * MINUTE, "b", Role::Of(1.0));
    stream.pass(START + 70 * MINUTE);
    assert_eq!(stream.told(), [raised("a")]);
    stream.pass(START + 80 * MINUTE);
    assert_eq!(stream.told(), []);
    stream.see(START + 81 * MINUTE, "a", Role::Of(1.0));
    assert_eq!(stream.told(), [resolved("a")]);
}

#[test]
fn an_hour_is_held_against_the_same_hour_of_five_weeks() {
    for (bound, spike, told) in
        [("above = 3", 100, true), ("above = 3", 40, false), ("below = 0.2", 1, true), ("below = 0.2", 15, false)]
    {
        let mut stream = Stream::new(one(&format!("type = \"change\"\n{bound}\nat_least = 10")));
        stream.of(START - HOUR);
        for week in 0..5 {
            for second in 0..20 {
                stream.of(START + week * WEEK + second * 1000);
            }
        }
        assert_eq!(stream.told(), []);
        for second in 0..spike {
            stream.of(START + 5 * WEEK + second * 1000);
        }
        stream.pass(START + 5 * WEEK + 2 * HOUR);
        let raised: Vec<_> = stream.told().into_iter().filter(|(step, _)| *step == Step::Raised).collect();
        assert_eq!(!raised.is_empty(), told, "{bound}, {spike}");
    }
}

#[test]
fn a_sequence_needs_all_its_events_of_one_group_in_the_window() {
    let text =
        "type = \"sequence\"\nthen = [{ kinds = [\"SESSION_STARTED\"] }]\nby = \"user_id\"\ntimes = 3\nwindow_s = 600";
    let mut stream = Stream::new(one(text));
    let fail = |stream: &mut Stream, minute: u64, who: &str| stream.see(START + minute * MINUTE, who, Role::Of(1.0));
    for minute in 0..3 {
        fail(&mut stream, minute, "u-1");
    }
    fail(&mut stream, 3, "u-2");
    stream.see(START + 4 * MINUTE, "u-2", Role::Then);
    assert_eq!(stream.told(), []);
    stream.see(START + 5 * MINUTE, "u-1", Role::Then);
    assert_eq!(stream.told(), [raised("u-1")]);
    // Three that are too old.
    for minute in 20..23 {
        fail(&mut stream, minute, "u-3");
    }
    stream.see(START + 40 * MINUTE, "u-3", Role::Then);
    assert_eq!(stream.told(), []);
}

#[test]
fn what_waits_beyond_its_time_is_told_and_ends_when_it_is_done() {
    let rules = rules("[[rule]]\nname = \"late\"\ntype = \"overdue\"\nregister = \"requests\"\ncool_down_s = 1");
    let mut stream = Stream::new(rules);
    let state = |open, due_ms, extended| Role::State { open, due_ms, extended };
    stream.see(START, "R-1", state(Some(true), Some(START + HOUR), false));
    stream.see(START, "R-2", state(Some(true), Some(START + HOUR), false));
    stream.see(START, "R-3", state(Some(true), Some(START + HOUR), false));
    stream.see(START + MINUTE, "R-2", state(None, None, true));
    stream.see(START + MINUTE, "R-3", state(Some(false), None, false));
    stream.pass(START + 2 * HOUR);
    assert_eq!(stream.told(), [raised("R-1")]);
    stream.see(START + 3 * HOUR, "R-1", state(Some(false), None, false));
    assert_eq!(stream.told(), [resolved("R-1")]);
    stream.pass(START + 31 * 24 * HOUR);
    assert_eq!(stream.told(), [raised("R-2")], "an extension ends too");
}

#[test]
fn beyond_so_many_alerts_one_speaks_for_all_others() {
    let mut stream = Stream::new(one(
        "type = \"rate\"\nby = \"template_id\"\nwindow_s = 3600\nabove = 0\nalerts_max = 2\ncool_down_s = 60",
    ));
    for group in ["a", "b", "c", "d", "a", "c"] {
        stream.see(START, group, Role::Of(1.0));
    }
    assert_eq!(stream.told(), [raised("a"), raised("b"), raised(OTHERS)]);
    stream.pass(START + 3 * HOUR);
    let mut told = stream.told();
    told.sort();
    assert_eq!(told, [resolved(OTHERS), resolved("a"), resolved("b")]);
}

#[test]
fn a_person_ends_what_only_a_person_may_end() {
    let mut stream = Stream::new(one("type = \"rate\"\nwindow_s = 3600\nabove = 0\nby_hand = true\ncool_down_s = 60"));
    stream.of(START);
    let id = stream.told[0].id.clone();
    assert_eq!(stream.told(), [raised("")]);
    stream.pass(START + 100 * HOUR);
    assert_eq!(stream.told(), []);
    stream.of(START + 100 * HOUR);
    assert_eq!(stream.told(), [], "it stands open");
    stream.entry(
        START + 101 * HOUR,
        Some(Sighted { signals: Vec::new(), alert: Some((id, Step::Resolved)), number: None }),
    );
    stream.of(START + 102 * HOUR);
    assert_eq!(stream.told(), [raised("")]);
}

#[test]
fn what_comes_a_day_late_is_history_and_what_is_ahead_is_now() {
    let mut stream = Stream::new(one("type = \"rate\"\nwindow_s = 3600\nabove = 0"));
    let signal = Sighted {
        signals: vec![Signal { rule: 0, role: Role::Of(1.0), group: String::new() }],
        alert: None,
        number: None,
    };
    stream.engine.apply(0, START, START - 25 * HOUR, Some(&signal));
    assert_eq!(stream.engine.pending().count(), 0);
    stream.engine.apply(1, START, START + 1000 * HOUR, Some(&signal));
    let window = stream.engine.pending().next().map(|alert| alert.window);
    assert!(window.is_some_and(|(_, to)| to <= START + HOUR), "{window:?}");
}

/// A number stream that is the same everywhere.
fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Events of all sorts for all sorts of rules, and the alerts that they raise when the program stops after so many.
fn run(stop_after: Option<u64>) -> Vec<Alert> {
    let rules = rules(&format!(
        "{}\n[[rule]]\nname = \"z\"\ntype = \"overdue\"\nregister = \"requests\"",
        ["rate\"\nabove = 3", "ratio\"\nabove = 0.6\nat_least = 3\namong = [{ kinds = [\"EMAIL_SENT\"] }]", "absence\"", "change\"\nabove = 2\nat_least = 2", "threshold\"\nvalue = \"delay_ms\"\nabove = 5", "sequence\"\nthen = [{ kinds = [\"EMAIL_SENT\"] }]\ntimes = 2"]
            .iter()
            .enumerate()
            .map(|(place, sort)| format!("[[rule]]\nname = \"{place}\"\nof = [{{ kinds = [\"EMAIL_SENT\"] }}]\nby = \"template_id\"\ncool_down_s = 900\nwindow_s = 14400\ntype = \"{sort}\n"))
            .collect::<String>()
    ));
    let mut stream = Stream::new(Arc::clone(&rules));
    let (mut seed, mut at) = (7, START);
    for number in 0..12_000 {
        if stop_after == Some(number) {
            let bytes = snapshot::write(&stream.engine);
            stream.engine = snapshot::read(&bytes, Arc::clone(&rules)).expect("whole");
            assert_eq!(snapshot::write(&stream.engine), bytes);
        }
        at += noise(&mut seed) % (8 * MINUTE);
        let group = ["a", "b", "c"][noise(&mut seed) as usize % 3].to_owned();
        let rule = (noise(&mut seed) % 7) as u16;
        let role = match (rule, noise(&mut seed) % 3) {
            (6, choice) => {
                Role::State { open: Some(choice > 0), due_ms: Some(at + HOUR).filter(|_| choice > 1), extended: false }
            }
            (1, 0 | 1) => Role::Among,
            (5, 0) => Role::Then,
            _ => Role::Of((noise(&mut seed) % 10) as f64),
        };
        stream.entry(at, Some(Sighted { signals: vec![Signal { rule, role, group }], alert: None, number: None }));
    }
    stream.told
}

#[test]
fn a_stop_anywhere_changes_no_alert() {
    let straight = run(None);
    for step in 0..7 {
        assert!(
            straight
                .iter()
                .filter(|alert| alert.step == Step::Raised)
                .any(|alert| alert.rule == ["0", "1", "2", "3", "4", "5", "z"][step]),
            "rule {step} raised nothing"
        );
    }
    let mut ids: Vec<_> = straight.iter().map(|alert| (&alert.id, alert.step)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), straight.len(), "no alert is told twice");
    for stop in (0..12_000).step_by(397) {
        assert_eq!(run(Some(stop)), straight, "stopped after {stop}");
    }
}

#[test]
fn entries_that_come_again_change_nothing() {
    let mut stream = Stream::new(one("type = \"rate\"\nwindow_s = 3600\nabove = 4"));
    let signal = Sighted {
        signals: vec![Signal { rule: 0, role: Role::Of(1.0), group: String::new() }],
        alert: None,
        number: None,
    };
    for _ in 0..3 {
        for entry in 0..4 {
            stream.engine.apply(entry, START, START, Some(&signal));
        }
    }
    assert_eq!(stream.engine.pending().count(), 0);
}

#[test]
fn a_rule_that_changed_keeps_its_open_alerts_and_counts_anew() {
    let mut stream = Stream::new(one("type = \"rate\"\nwindow_s = 3600\nabove = 1"));
    stream.of(START);
    stream.of(START);
    assert_eq!(stream.told(), [raised("")]);
    let bytes = snapshot::write(&stream.engine);
    stream.engine =
        snapshot::read(&bytes, one("type = \"rate\"\nwindow_s = 3600\nabove = 1\ntitle = \"t\"")).expect("whole");
    stream.of(START + MINUTE);
    stream.of(START + MINUTE);
    assert_eq!(stream.told(), [], "it stands open");
    stream.pass(START + 5 * HOUR);
    assert_eq!(stream.told(), [resolved("")]);
}

#[test]
fn what_is_no_state_of_this_version_is_not_read() {
    let rules = one("type = \"rate\"\nwindow_s = 3600\nabove = 1");
    let bytes = snapshot::write(&Engine::new(Arc::clone(&rules), 9));
    assert_eq!(snapshot::read(&bytes, Arc::clone(&rules)).expect("whole").cursor(), 9);
    for end in 0..bytes.len() {
        assert!(snapshot::read(&bytes[..end], Arc::clone(&rules)).is_none(), "cut at {end}");
    }
    let mut newer = bytes.clone();
    newer[9] = 3;
    assert!(snapshot::read(&newer, Arc::clone(&rules)).is_none());
    let longer = [bytes, vec![0]].concat();
    assert!(snapshot::read(&longer, rules).is_none());
}

#[test]
fn the_golden_state_reads_and_writes_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/watch/state-v2.bin");
    let mut stream = Stream::new(one("type = \"rate\"\nby = \"template_id\"\nwindow_s = 3600\nabove = 1"));
    for group in ["a", "b", "a"] {
        stream.see(START, group, Role::Of(1.0));
    }
    let signal = Sighted {
        signals: vec![Signal { rule: 0, role: Role::Of(1.0), group: "b".to_owned() }],
        alert: None,
        number: None,
    };
    stream.engine.apply(stream.entry, START, START, Some(&signal));
    for number in [1, 4] {
        stream.engine.numbers.see("shop", "till", number, START, false);
    }
    let bytes = snapshot::write(&stream.engine);
    assert_eq!(std::fs::read(&path).expect("golden"), bytes, "{}", path.display());
    let read = snapshot::read(&bytes, one("type = \"rate\"\nby = \"template_id\"\nwindow_s = 3600\nabove = 1"))
        .expect("whole");
    assert_eq!(read.pending().count(), 1);
}

#[test]
fn the_shipped_rules_are_whole_and_name_what_is_there() {
    let file: RuleFile = toml::from_str(SHIPPED).expect("TOML");
    let rules = Rules::new([file]).expect("rules");
    rules.fit(&Catalogue::shipped().expect("kinds")).expect("kinds and fields");
    assert!(rules.all().len() >= 25);
    assert!(rules.all().iter().all(|rule| !rule.text.title.is_empty() && !rule.text.origin.is_empty()));
}

#[test]
fn a_rule_that_can_not_be_met_is_refused_with_its_name() {
    let catalogue = Catalogue::shipped().expect("kinds");
    let check = |text: &str| -> String {
        let read = toml::from_str::<RuleFile>(text).map_err(|error| error.message().to_owned());
        let rules = read.and_then(|file| Rules::new([file]));
        rules.and_then(|rules| rules.fit(&catalogue)).expect_err("refused")
    };
    let rate = "[[rule]]\nname = \"r\"\ntype = \"rate\"\nwindow_s = 60\nabove = 1\n";
    assert_eq!(check(&format!("{rate}of = [{{ kinds = [\"EMAIL_SEND\"] }}]")), "rule r: there is no kind EMAIL_SEND");
    assert_eq!(
        check(&format!("{rate}by = \"colour\"\nof = [{{ kinds = [\"EMAIL_SENT\"] }}]")),
        "rule r: EMAIL_SENT has no fact called colour"
    );
    // A personal field is none that is counted by.
    assert_eq!(
        check(&format!("{rate}by = \"recipient_details.email\"\nof = [{{ kinds = [\"EMAIL_SENT\"] }}]")),
        "rule r: EMAIL_SENT has no fact called recipient_details.email"
    );
    assert_eq!(
        check(&format!("{rate}of = [{{ kinds = [\"MESSAGE_SENT\"], with = {{ channel = [\"pigeon\"] }} }}]")),
        "rule r: channel of MESSAGE_SENT is never \"pigeon\""
    );
    assert_eq!(check(rate), "rule r: of must name the events that count; an overdue has none");
    assert_eq!(check(&rate.replace("60", "0")), "rule r: window_s must be 1 to 2678400");
    assert_eq!(
        check(&format!("{rate}of = [{{ kinds = [\"ALERT_RAISED\"] }}]")),
        "rule r: alerts are not watched for alerts"
    );
    assert!(check(&format!("{rate}colour = 1")).contains("unknown field `colour`"));
}

#[test]
fn a_gap_in_the_numbers_of_a_source_is_told_once() {
    let mut stream = Stream::new(one("type = \"rate\"\nwindow_s = 60\nabove = 1"));
    for number in [1, 2, 6] {
        let number = Some(("shop".to_owned(), "till".to_owned(), number));
        stream.entry(START, Some(Sighted { number, ..Sighted::default() }));
    }
    assert_eq!(stream.told(), []);
    stream.pass(START + 3 * MINUTE);
    assert_eq!(stream.told(), [(Step::Gap, "till".to_owned())]);
    stream.pass(START + 9 * MINUTE);
    assert_eq!(stream.told(), []);
    assert_eq!(stream.engine.streams("shop").collect::<Vec<_>>(), [("till", 6, 3)]);
}
