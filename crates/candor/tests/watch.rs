//! Rules over a real trail: each alert once, over kills; steps of people; trials over the past.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use ledger::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use support::http::{Server, bearer};
use support::{bad, folder, good, ingest, lines};

fn record(kind: &str, time: &str, id: &str, more: Value) -> String {
    let mut record = json!({
        "timestamp": time, "event_type": kind, "correlation_id": "c", "source_component": "shop", "environment": "test",
        "severity": "info", "event_id": id,
    });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        record[name] = value;
    }
    format!("{record}\n")
}

fn now() -> String {
    SystemClock.now().rfc3339()
}

fn replays(count: usize, from: usize) -> String {
    (from..from + count)
        .map(|number| record("TOKEN_REPLAY_BLOCKED", &now(), &format!("r-{number}"), json!({})))
        .collect()
}

#[test]
fn a_rule_raises_one_alert_that_people_take_in_hand() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    ingest(text, replays(5, 0).as_bytes(), &[]);
    let open = || lines(&good(&["list", "alerts", "--open", "--json", "--data", text]));
    assert_eq!(open(), Vec::<Value>::new(), "five are not more than five");
    ingest(text, replays(1, 5).as_bytes(), &[]);
    let alerts = open();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let alert = &alerts[0];
    assert_eq!((&alert["rule"], &alert["status"]), (&json!("token_replays"), &json!("raised")));
    assert_eq!((&alert["value"], &alert["threshold"]), (&json!(6), &json!(5)));
    ingest(text, replays(20, 6).as_bytes(), &[]);
    assert_eq!(open().len(), 1, "more of the same is the same alert");
    // The rules by which it was raised are in the trail before it.
    let changed = lines(&good(&["search", "--kind", "CONFIG_CHANGED", "--json", "--data", text]));
    assert_eq!(changed.len(), 1);
    assert!(changed[0]["record"]["after"].as_str().is_some_and(|after| after.starts_with("sha256:")), "{changed:?}");
    let id = alert["alert_id"].as_str().expect("an id");
    let first = good(&["alert", "acknowledge", id, "--data", text]);
    assert_eq!(good(&["alert", "acknowledge", id, "--data", text]), first, "once is enough");
    assert_eq!(open()[0]["status"], "acknowledged");
    good(&["alert", "resolve", id, "--reason", "known_test", "--data", text]);
    assert_eq!(open(), Vec::<Value>::new());
    let whole: Value = serde_json::from_str(&good(&["show", "alert", id, "--data", text])).expect("JSON");
    assert_eq!((&whole["status"], &whole["severity"]), (&json!("resolved"), &json!("error")));
    let steps: Vec<&str> =
        whole["events"].as_array().into_iter().flatten().filter_map(|event| event["state"].as_str()).collect();
    assert_eq!(steps, ["raised", "acknowledged", "resolved"]);
    let error = bad(1, &["alert", "resolve", "no-such-alert", "--data", text]);
    assert!(error.contains("there is nothing of this id"), "{error}");
}

#[test]
fn the_past_is_tried_without_raising_anything() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    let mut past = String::new();
    for day in 1..29 {
        for number in 0..if day == 17 { 9 } else { 3 } {
            let time = format!("2025-02-{day:02}T08:{number:02}:00Z");
            past += &record("TOKEN_REPLAY_BLOCKED", &time, &format!("p-{day}-{number}"), json!({}));
        }
    }
    ingest(text, past.as_bytes(), &[]);
    assert_eq!(good(&["list", "alerts", "--data", text]), "", "history is not news");
    let range = ["--from", "2025-02-01T00:00:00Z", "--until", "2025-03-01T00:00:00Z", "--json", "--data", text];
    let tried = lines(&good(&[&["watch", "try"], &range[..]].concat()));
    let told: Vec<(&str, &str)> = tried
        .iter()
        .map(|line| (line["rule"].as_str().unwrap_or_default(), line["state"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(told, [("token_replays", "raised"), ("token_replays", "resolved")], "{tried:?}");
    assert_eq!(tried[0]["at"], "2025-02-17T08:05:00.000Z");
    // Other rules over the same past.
    let rules = folder.path().join("rules.toml");
    let own = "[[rule]]\nname = \"any\"\ntype = \"rate\"\nof = [{ kinds = [\"TOKEN_REPLAY_BLOCKED\"] }]\nwindow_s = 60\nabove = 0\ncool_down_s = 600\n";
    std::fs::write(&rules, own).expect("written");
    let file = ["--rules", rules.to_str().expect("a path")];
    let tried = lines(&good(&[&["watch", "try"], &file[..], &range[..]].concat()));
    assert_eq!(tried.iter().filter(|line| line["state"] == "raised").count(), 28);
    assert_eq!(good(&["list", "alerts", "--data", text]), "");
    // That it was tried is in the trail.
    let reads = lines(&good(&["search", "--kind", "ACCESS", "--json", "--data", text]));
    assert_eq!(reads.iter().filter(|read| read["record"]["command"] == "watch-try").count(), 2);
    std::fs::write(&rules, own.replace("TOKEN_REPLAY_BLOCKED", "TOKEN_REPLAY")).expect("written");
    let error = bad(1, &[&["watch", "try"], &file[..], &range[..]].concat());
    assert!(error.contains("rule any: there is no kind TOKEN_REPLAY"), "{error}");
}

/// Sign-ins that fail, by so many people: each is one alert by the test's own rule.
const PEOPLE: usize = 120;

#[test]
fn no_alert_is_lost_or_doubled_when_the_server_is_killed() {
    let folder = folder();
    let data = folder.path().join("trail");
    good(&["init", "--data", data.to_str().expect("a path")]);
    let rule = "[[rule]]\nname = \"each\"\ntype = \"rate\"\nof = [{ kinds = [\"SESSION_SECURITY_EVENT\"] }]\nby = \"user_id\"\nwindow_s = 86400\nabove = 1\nalerts_max = 1000\ncool_down_s = 86400\n\n[[rule]]\nname = \"failed_sign_ins\"\nenabled = false\n";
    std::fs::write(data.join("rules.toml"), rule).expect("written");
    let config = std::fs::read_to_string(data.join("candor.toml")).expect("configuration");
    std::fs::write(data.join("candor.toml"), format!("rules_file = \"rules.toml\"\n{config}")).expect("written");
    let mut server = Server::start(&data);
    let append = server.append_key();
    for person in 0..PEOPLE {
        // Two of each; what was not answered is sent again under the same id.
        for time in 0..2 {
            let more = json!({"session_id": format!("s-{person}"), "user_id": format!("u-{person}"), "security_event": "failed_login"});
            let line = record("SESSION_SECURITY_EVENT", &now(), &format!("e-{person}-{time}"), more);
            server.lines(&append, &line);
        }
        if person % 17 == 11 {
            server = killed_and_started(server, &data);
        }
    }
    let read = server.read_key();
    let count = |server: &Server| {
        let mut raised: BTreeMap<String, usize> = BTreeMap::new();
        let mut next: Option<String> = None;
        loop {
            let cursor = next.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let page = server.get(&read, &format!("/v1/search?kind=ALERT_RAISED&limit=200{cursor}")).json();
            for entry in page["entries"].as_array().into_iter().flatten() {
                let group = entry["record"]["group"].as_str().unwrap_or_default();
                *raised.entry(group.to_owned()).or_default() += 1;
            }
            match page["next"].as_str() {
                Some(cursor) => next = Some(cursor.to_owned()),
                None => return raised,
            }
        }
    };
    let whole = std::time::Instant::now();
    while count(&server).len() < PEOPLE && whole.elapsed().as_secs() < 60 {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    let server = killed_and_started(server, &data);
    let raised = count(&server);
    assert_eq!(raised.len(), PEOPLE);
    assert!(raised.values().all(|times| *times == 1), "{raised:?}");
    steps_over_http(&server, &read);
    assert!(server.stop());
}

fn killed_and_started(server: Server, data: &Path) -> Server {
    let process = server.process().to_string();
    let killed = std::process::Command::new("kill").args(["-9", &process]).status().expect("kill");
    assert!(killed.success());
    drop(server);
    Server::start(data)
}

fn steps_over_http(server: &Server, read: &str) {
    let list = server.get(read, "/v1/alerts?open=true&category=each&limit=1").json();
    let id = list["things"][0]["alert_id"].as_str().expect("an alert").to_owned();
    let take = |key: &str, step: &str| {
        let headers = [bearer(key), ("Content-Type", "application/json".to_owned())];
        server.send("POST", &format!("/v1/alerts/{id}/{step}"), &headers, b"{\"reason_category\": \"known\"}")
    };
    assert_eq!(take(read, "resolve").status, 403, "who reads does not operate");
    let operate = server.key(json!({"scopes": ["operate"]}));
    assert_eq!(take(&operate, "acknowledge").status, 200);
    assert_eq!(take(&operate, "resolve").status, 200);
    let thing = server.get(read, &format!("/v1/alerts/{id}")).json();
    assert_eq!(thing["thing"]["status"], "resolved");
    let headers = [bearer(&operate), ("Content-Type", "application/json".to_owned())];
    assert_eq!(server.send("POST", "/v1/alerts/none/resolve", &headers, b"{}").status, 404);
}
