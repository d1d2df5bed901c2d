//! Alerts on their way into the trail: what the rules raised is recorded, once, by its own id.
//!
//! An alert stays pending in the watch until its entry is seen there. So a stop between the two only means that it is
//! recorded later, and told twice it is the same record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use proof::time::UnixMillis;
use reads::guard::OwnRecord;
use record::kinds::Catalogue;
use serde_json::{Value, json};
use views::open;
use views::views::Views;
use views::watch::{Alert, OTHERS, RuleFile, Rules, SHIPPED, Step};
use views::words;

use crate::config::Config;
use crate::trail::Trail;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long the views may be behind what was recorded.
const SEEN_WAIT: Duration = Duration::from_secs(5);
/// Rounds at a close: recording an alert lets time pass, which may end another one.
const ROUNDS_MAX: usize = 8;
/// Changes of the configuration that are looked through for the newest one of the rules.
const CHANGES_MAX: usize = 50;
/// Responses of a rule.
const CASE: &str = "case";
const END_SESSIONS: &str = "end_sessions";
/// The key under which the rules stand in CONFIG_CHANGED.
const RULES: &str = "rules";

/// The rules of a deployment: those that ship and those of its own file.
pub fn rules(data: &std::path::Path, config: &Config, catalogue: &Catalogue) -> Result<Rules> {
    let mut files = vec![read_rules(SHIPPED).context("the shipped rules")?];
    if let Some(path) = &config.rules_file {
        let path = data.join(path);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        files.push(read_rules(&text).with_context(|| format!("read {}", path.display()))?);
    }
    let numbered = config.sources.iter().filter(|(_, source)| source.numbered).map(|(name, _)| name.clone());
    let rules = Rules::new(files).map_err(|why| anyhow!("{why}"))?.with_numbered(numbered);
    rules.fit(catalogue).map_err(|why| anyhow!("{why}"))?;
    Ok(rules)
}

/// A file of rules.
pub fn read_rules(text: &str) -> Result<RuleFile> {
    Ok(toml::from_str(text)?)
}

/// Records what is pending until `stop` is set.
pub fn run(trail: &Trail, stop: &AtomicBool) {
    let mut told = false;
    while !stop.load(Ordering::Acquire) {
        if let Err(error) = record(trail) {
            // Said once: a full disk is told by everything else too.
            if !told {
                eprintln!("candor: alerts could not be recorded: {error:#}: they are when it is mended");
            }
            told = true;
        } else {
            told = false;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Records what is pending, and what that brings about.
pub fn record_all(trail: &Trail) -> Result<()> {
    for _ in 0..ROUNDS_MAX {
        if record(trail)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Records what is pending now; how much that was.
fn record(trail: &Trail) -> Result<usize> {
    let Some(views) = &trail.views else { return Ok(0) };
    let pending = views.alerts()?;
    if pending.is_empty() {
        return Ok(0);
    }
    record_rules(trail, views)?;
    // A case is opened with its alert, in one batch: none is raised without it.
    let mut records: Vec<OwnRecord> = pending.iter().map(own_record).collect();
    records.extend(pending.iter().filter_map(|alert| case_record(views, alert)));
    trail.intake.own(records).map_err(|why| anyhow!("{why}"))?;
    for alert in pending.iter().filter(|alert| responds(views, alert, END_SESSIONS)) {
        crate::people::end_before(trail, &alert.group, alert.at)?;
    }
    // What was recorded stays pending until the views have it. Views that have stopped never do: the next start follows.
    let size = trail.intake.reader().size();
    let start = Instant::now();
    while views.seen()? < size {
        if start.elapsed() > SEEN_WAIT {
            bail!("the views do not follow");
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(pending.len())
}

fn own_record(alert: &Alert) -> OwnRecord {
    let (kind, state) = match alert.step {
        Step::Raised => ("ALERT_RAISED", "raised"),
        Step::Resolved => ("ALERT_RESOLVED", "resolved"),
        Step::Gap => return gap_record(alert),
    };
    let (from, to) = alert.window;
    let mut fields = json!({
        // Of the log's time, not of now: told again it is the same record.
        "timestamp": UnixMillis(alert.at).rfc3339(), "event_id": format!("{}/{state}", alert.id), "alert_id": alert.id,
        "rule": alert.rule, "state": state, "severity": alert.severity, "first_entry": alert.entry,
        "window_from": UnixMillis(from).rfc3339(), "window_to": UnixMillis(to).rfc3339(),
    });
    if !alert.group.is_empty() {
        fields["group"] = alert.group.as_str().into();
    }
    if alert.step == Step::Raised {
        fields["value"] = number(alert.value);
        fields["threshold"] = number(alert.threshold);
        fields["count"] = alert.count.into();
    }
    OwnRecord { kind, fields, subject: None }
}

/// Whether an alert that is raised brings this about.
fn responds(views: &Views, alert: &Alert, response: &str) -> bool {
    let rule = views.rules().all().iter().find(|rule| rule.text.name == alert.rule);
    alert.step == Step::Raised
        && !alert.group.is_empty()
        && alert.group != OTHERS
        // A program's key has no sessions.
        && (response != END_SESSIONS || !alert.group.starts_with("api-key-"))
        && rule.is_some_and(|rule| rule.text.respond.iter().any(|held| held == response))
}

/// The case that an alert opens.
fn case_record(views: &Views, alert: &Alert) -> Option<OwnRecord> {
    let ends = responds(views, alert, END_SESSIONS);
    if !ends && !responds(views, alert, CASE) {
        return None;
    }
    let id = format!("case-{}", alert.id);
    let fields = json!({
        "timestamp": UnixMillis(alert.at).rfc3339(), "event_id": format!("{id}/open"), "correlation_id": id,
        "case_id": id, "state": "open", "rule": alert.rule, "alert_id": alert.id, "about_actor": alert.group,
        "severity": alert.severity, "response": if ends { json!(["sessions_ended"]) } else { json!([]) },
    });
    Some(OwnRecord { kind: "CASE_OPENED", fields, subject: None })
}

/// Numbers that a source skipped.
fn gap_record(gap: &Alert) -> OwnRecord {
    let first = gap.value as u64;
    let fields = json!({
        "timestamp": UnixMillis(gap.at).rfc3339(), "event_id": gap.id, "correlation_id": gap.group,
        "from_source": gap.rule, "reason_category": "numbers_missing", "count": gap.count, "expected": first,
        "seen": first + gap.count, "suspected": false, "severity": gap.severity, "gap_from": UnixMillis(gap.window.0).rfc3339(),
        "gap_to": UnixMillis(gap.window.1).rfc3339(),
    });
    OwnRecord { kind: "INGEST_GAP", fields, subject: None }
}

/// A count is whole; of a share four digits behind the point are enough.
fn number(value: f64) -> Value {
    let rounded = (value * 10_000.0).round() / 10_000.0;
    if rounded.fract() == 0.0 && rounded.abs() < 9e15 { json!(rounded as i64) } else { json!(rounded) }
}

/// Records by which rules alerts are raised, where that is not what the trail says already.
fn record_rules(trail: &Trail, views: &Views) -> Result<()> {
    if trail.rules_recorded.load(Ordering::Relaxed) {
        return Ok(());
    }
    let rules = views.rules();
    let now = format!("sha256:{}, {} rules", rules.digest().hex(), rules.all().len());
    let changes = views.newest(vec![words::filter("kind", "CONFIG_CHANGED")], CHANGES_MAX)?;
    let mut before = None;
    for index in changes {
        let stored = trail.intake.reader().entry(index)?;
        let facts = open::facts(&stored, &mut *trail.store.lock()?, &trail.catalogue)?;
        if let Some((_, facts)) = facts.filter(|(_, facts)| facts.get("key").is_some_and(|key| key == RULES)) {
            before = facts.get("after").and_then(|after| after.as_str()).map(str::to_owned);
            break;
        }
    }
    if before.as_ref() != Some(&now) {
        let mut fields = json!({"key": RULES, "after": now, "actor": crate::commands::actor()});
        if let Some(before) = before {
            fields["before"] = before.into();
        }
        trail.intake.own_one("CONFIG_CHANGED", fields)?;
    }
    trail.rules_recorded.store(true, Ordering::Relaxed);
    Ok(())
}
