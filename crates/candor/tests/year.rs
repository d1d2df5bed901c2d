//! A generated year of a shop: what was planted is found and nothing else, everything comes back whole, and a customer's
//! history is proved complete to somebody who has the journal and no keys.

mod support;
#[path = "support/year.rs"]
mod year;

use serde_json::{Value, json};
use support::http::Server;
use support::{folder, good, ingest, lines};
use year::{CUSTOMER, EVENTS, LOST, Year};

/// A source that numbers, and a rule of the deployment's own.
const SETTINGS: &str = "rules_file = \"rules.toml\"\n\n[sources.local]\nnumbered = true\n";
const RULE: &str = "[[rule]]\nname = \"queue_silent\"\ntype = \"absence\"\nof = [{ kinds = [\"QUEUE_OBSERVED\"] }]\nby = \"source\"\nwindow_s = 10800\n";

/// Whether everything that is expected stands in what is there.
fn holds(expected: &Value, there: &Value) -> bool {
    match expected {
        Value::Object(fields) => fields.iter().all(|(name, value)| holds(value, &there[name])),
        other => other == there,
    }
}

#[test]
fn a_year_is_found_whole_with_what_was_planted_and_nothing_else() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    std::fs::write(data.join("candor.toml"), SETTINGS).expect("written");
    std::fs::write(data.join("rules.toml"), RULE).expect("written");
    let year = Year::new(2025);
    assert!(year.lines().len() >= EVENTS);
    let start = std::time::Instant::now();
    let (status, out, errors) = ingest(text, year.lines().join("\n").as_bytes(), &[]);
    assert_eq!(status, 0, "{errors}");
    println!("{out} in {:.0} s", start.elapsed().as_secs_f64());
    rules(text, &year);
    halves(text, &year);
    whole(&data, &year);
    proved(folder.path(), text, &year);
    // The gap in the source's numbers: told when it has stood for a minute or two of the log's time, which goes on with
    // each look.
    let look = || -> Value { serde_json::from_str(&good(&["source", "show", "local", "--data", text])).expect("JSON") };
    let mut source = look();
    while source["gaps"] == 0 && start.elapsed().as_secs() < 240 {
        std::thread::park_timeout(std::time::Duration::from_secs(2));
        source = look();
    }
    let gap = &source["newest_gaps"][0];
    assert_eq!((&source["gaps"], &gap["count"]), (&json!(1), &json!(LOST)), "{source}");
    assert_eq!(gap["seen"].as_u64().zip(gap["expected"].as_u64()).map(|(seen, expected)| seen - expected), Some(LOST));
    // What the live watch raised is the gap alone: the rest is history to it, and has ended.
    let alerts = lines(&good(&["list", "alerts", "--open", "--json", "--data", text]));
    let rules: Vec<&str> = alerts.iter().filter_map(|alert| alert["rule"].as_str()).collect();
    assert_eq!(rules, ["gap"], "{alerts:?}");
    good(&["verify", text]);
}

/// Every spike, silence and violation that was planted, once, and nothing beside.
fn rules(text: &str, year: &Year) {
    let range = ["--from", "2025-01-01T00:00:00Z", "--until", "2026-01-01T00:30:00Z"];
    let tried = lines(&good(&[&["watch", "try", "--json", "--data", text], &range[..]].concat()));
    let of = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let mut raised: Vec<(String, String)> = tried
        .iter()
        .filter(|line| line["state"] == "raised")
        .map(|line| (of(line, "rule"), of(line, "group")))
        .collect();
    let mut planted: Vec<(String, String)> =
        year.alerts.iter().map(|(rule, group)| ((*rule).to_owned(), group.clone())).collect();
    raised.sort();
    planted.sort();
    assert_eq!(raised, planted);
}

fn halves(text: &str, year: &Year) {
    let counts = lines(&good(&["completeness", "--json", "--data", text]));
    let mut open = Vec::new();
    for count in &counts {
        let name = count["cycle"].as_str().expect("a name");
        for line in lines(&good(&["completeness", name, "--json", "--data", text])) {
            open.push((name.to_owned(), line["id"].as_str().unwrap_or_default().to_owned()));
        }
    }
    let planted: Vec<(String, String)> =
        year.open.iter().map(|(cycle, id)| ((*cycle).to_owned(), id.clone())).collect();
    assert_eq!(open, planted);
}

/// Things come back as they were made, and lists know what waits.
fn whole(data: &std::path::Path, year: &Year) {
    let server = Server::start(data);
    let read = server.read_key();
    let get = |register: &str, id: &str| {
        let path = record::things::shape(register).expect("a register").path;
        let reply = server.read(&read, &format!("/v1/{path}/{id}"));
        assert_eq!(reply.status, 200, "{register} {id}: {}", reply.text());
        reply.json()["thing"].clone()
    };
    for (register, id, expected) in &year.things {
        let thing = get(register, id);
        assert!(holds(expected, &thing), "{register} {id}: {expected} in {thing}");
        assert!(thing["flags"].is_null(), "{register} {id}: {thing}");
    }
    for (register, id, rule) in &year.flags {
        let flags = get(register, id)["flags"].clone();
        let rules: Vec<&str> =
            flags.as_array().into_iter().flatten().filter_map(|flag| flag["rule"].as_str()).collect();
        assert_eq!(rules, [*rule], "{register} {id}");
    }
    let open = |register: &str| {
        let list = server.get(&read, &format!("/v1/{register}?open=true&limit=200")).json();
        let things = list["things"].as_array().cloned().unwrap_or_default();
        let shape = record::things::shape(register).expect("a register");
        let mut ids: Vec<String> =
            things.iter().filter_map(|thing| thing[shape.id].as_str().map(str::to_owned)).collect();
        ids.sort();
        ids
    };
    assert_eq!(open("tickets"), ["T-silent"]);
    assert_eq!(open("orders"), ["O-none", "O-silent"]);
    assert_eq!(open("requests"), Vec::<String>::new());
    assert_eq!(open("breaches"), Vec::<String>::new());
    let statistics = server.get(&read, "/v1/templates/P-1/statistics").json();
    assert_eq!(statistics["all"]["sends"], 60 * 364);
    assert!(server.stop());
}

/// Tags 1 to n are theirs and n + 1 is absent, by the second verifier, over a copy of the journal alone.
fn proved(folder: &std::path::Path, text: &str, year: &Year) {
    let proof = folder.join("history.json");
    let path = proof.to_str().expect("a path");
    good(&["history", "--customer", CUSTOMER, "--proof", path, "--data", text]);
    let value: Value = serde_json::from_slice(&std::fs::read(&proof).expect("read")).expect("JSON");
    let told = value["subjects"][0]["entries"].as_array().map_or(0, Vec::len) as u64;
    // What the shop did, and each look at it.
    let history = lines(&good(&["history", "--customer", CUSTOMER, "--json", "--data", text]));
    let done = history.iter().filter(|line| line["kind"] != "SUBJECT_SEEN").count() as u64;
    assert_eq!(done, year.of_customer[CUSTOMER]);
    assert!(told > done, "the look by which the proof was made is in it");
    let journal = folder.join("journal");
    support::copy_folder(&std::path::Path::new(text).join("journal"), &journal);
    let (status, said) = support::python_with(&journal, &["--history", path]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains(&format!("all {told} entries about the person")), "{said}");
}

#[test]
fn a_history_that_was_cut_or_altered_does_not_hold() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    ingest(text, &std::fs::read(support::root().join("examples/shop.jsonl")).expect("read"), &[]);
    let proof = folder.path().join("history.json");
    let path = proof.to_str().expect("a path");
    let make = ["history", "--customer", "c-20031", "--proof", path, "--data", text];
    good(&make);
    let again = support::bad(1, &make);
    assert!(again.contains("exists"), "a proof does not replace another: {again}");
    let value: Value = serde_json::from_slice(&std::fs::read(&proof).expect("read")).expect("JSON");
    let entries = value["subjects"][0]["entries"].as_array().cloned().expect("entries");
    assert_eq!(support::python_with(&data, &["--history", path]).0, 0);
    let without: Vec<Value> = entries[..entries.len() - 1].to_vec();
    let mut swapped = entries.clone();
    swapped.swap(0, 1);
    let more = [&entries[..], &[json!(1)]].concat();
    for (altered, finding) in [
        (without, "was left out"),
        (swapped, "is not where the proof has it"),
        (more, "that the proof names is not about the person"),
    ] {
        let mut changed = value.clone();
        changed["subjects"][0]["entries"] = altered.into();
        std::fs::write(&proof, changed.to_string()).expect("written");
        let (status, said) = support::python_with(&data, &["--history", path]);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(finding), "{said}");
    }
    // Of another trail.
    let other = folder.path().join("other");
    good(&["init", "--data", other.to_str().expect("a path")]);
    std::fs::write(&proof, value.to_string()).expect("written");
    let (status, said) = support::python_with(&other, &["--history", path]);
    assert_eq!(status, 1, "{said}");
    // Who is erased has no link key any more.
    good(&["erase", "--customer", "c-20031", "--reason", "asked", "--yes", "--data", text]);
    std::fs::remove_file(&proof).expect("removed");
    let error = support::bad(1, &make);
    assert!(error.contains("there is nothing of this id"), "{error}");
}
