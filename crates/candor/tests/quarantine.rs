//! Refused input is kept, sealed and without secrets, and taken in when its cause is mended.

mod support;

use serde_json::{Value, json};
use support::http::Server;
use support::{candor, files, folder, good, ingest, lines};

fn record(kind: &str, id: &str, more: Value) -> String {
    let mut record = json!({
        "timestamp": "2026-05-04T08:00:00Z", "event_type": kind, "correlation_id": "c", "source_component": "shop",
        "environment": "test", "severity": "info", "event_id": id,
    });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        record[name] = value;
    }
    record.to_string()
}

/// A kind that the trail gets to know later.
fn kind() -> String {
    let schema =
        std::fs::read_to_string(support::root().join("crates/record/kinds/SYSTEM_EVENT.1.json")).expect("read");
    schema.replace("\"SYSTEM_EVENT\"", "\"KETTLE_BOILED\"")
}

#[test]
fn what_was_refused_is_kept_and_taken_in_when_it_can_be() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    // Made up for this test, of the form of a token.
    let secret = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6".to_owned());
    let person = "reader.seven@mail.example";
    let note = format!("call {person} with {secret}");
    let input = [
        record("KETTLE_BOILED", "k-1", json!({"system_event": "boil", "component": "kitchen"})),
        record("SYSTEM_EVENT", "k-2", json!({"system_event": "boil", "remark": note})),
        record("SYSTEM_EVENT", "k-3", json!({"system_event": "boil"})),
    ];
    let mut bytes = input.join("\n").into_bytes();
    bytes.extend_from_slice(b"\n{\"event_type\": \"\xff\"}\n");
    for _ in 0..2 {
        let (status, out, _) = ingest(text, &bytes, &[]);
        assert_eq!(status, 3, "{out}");
    }
    let list = || lines(&good(&["quarantine", "list", "--json", "--data", text]));
    let kept = list();
    let codes: Vec<&str> = kept.iter().rev().filter_map(|line| line["code"].as_str()).collect();
    assert_eq!(codes, ["unknown_kind", "unknown_field", "not_utf8"], "each once: {kept:?}");
    assert!(kept.iter().all(|line| line["input"].is_null()), "a list opens nothing: {kept:?}");
    let entry = kept[1]["entry"].to_string();
    let shown = good(&["show", &entry, "--data", text]);
    assert!(shown.contains(person) && shown.contains("[cut:") && !shown.contains(&secret), "{shown}");
    for file in files(&data) {
        let held = std::fs::read(&file).expect("read");
        for word in [person.as_bytes(), secret.as_bytes()] {
            assert!(!held.windows(word.len()).any(|window| window == word), "{}", file.display());
        }
    }
    // Nothing was mended: nothing is taken in.
    let replay = |arguments: &[&str]| {
        let out = candor(&[&["quarantine", "replay", "--json", "--data", text], arguments].concat());
        (out.status.code(), lines(&String::from_utf8(out.stdout).expect("text")))
    };
    let (status, outcomes) = replay(&["--code", "unknown_kind"]);
    assert_eq!((status, &outcomes[0]["outcome"]), (Some(3), &json!("refused")));
    assert_eq!(list().len(), 3, "what is refused again is kept once");
    std::fs::create_dir_all(data.join("kinds")).expect("made");
    std::fs::write(data.join("kinds/KETTLE_BOILED.1.json"), kind()).expect("written");
    let config = std::fs::read_to_string(data.join("candor.toml")).expect("read");
    std::fs::write(data.join("candor.toml"), format!("kinds_folder = \"kinds\"\n{config}")).expect("written");
    let (status, outcomes) = replay(&["--code", "unknown_kind"]);
    assert_eq!((status, &outcomes[0]["outcome"]), (Some(0), &json!("accepted")), "{outcomes:?}");
    let taken = good(&["show", &outcomes[0]["new_entry"].to_string(), "--data", text]);
    assert!(taken.contains("\"boil\"") && taken.contains("2026-05-04T08:00:00"), "{taken}");
    let (_, outcomes) = replay(&["--code", "unknown_kind"]);
    assert_eq!(outcomes[0]["outcome"], "repeated", "a replay adds once");
    let recorded = lines(&good(&["search", "--kind", "QUARANTINE_REPLAYED", "--json", "--data", text]));
    assert_eq!(recorded.len(), 3);
    let (_, outcomes) = replay(&[&entry]);
    assert_eq!(outcomes[0]["code"], "unknown_field");
    assert_eq!(list().len(), 3, "without its secret it is no other line");
    // The same over HTTP, by who operates.
    let server = Server::start(&data);
    let (operator, reader) = (server.key(json!({"scopes": ["operate"]})), server.read_key());
    assert_eq!(server.get(&reader, "/v1/quarantine").status, 403);
    let page = server.get(&operator, "/v1/quarantine?limit=2").json();
    assert_eq!(page["kept"].as_array().map(Vec::len), Some(2), "{page}");
    let next = format!("/v1/quarantine?limit=2&cursor={}", page["next"].as_str().expect("a third"));
    let page = server.get(&operator, &next).json();
    assert_eq!((&page["kept"][0]["code"], &page["next"]), (&json!("unknown_kind"), &Value::Null), "{page}");
    assert!(page["kept"][0]["input"].is_null());
    let again = |entry: &str| {
        let headers = [support::http::bearer(&operator), ("Content-Type", "application/json".into())];
        server.send("POST", &format!("/v1/quarantine/{entry}/replay"), &headers, b"{}")
    };
    let reply = again(&page["kept"][0]["entry"].to_string()).json();
    assert_eq!((&reply["outcome"], &reply["why"]), (&json!("repeated"), &Value::Null), "{reply}");
    assert_eq!(again(&entry).json()["code"], "unknown_field");
    assert_eq!((again("0").status, again("99999999").status), (409, 404));
    assert!(server.stop());
}

#[test]
fn a_broken_client_does_not_fill_the_trail_and_a_source_may_keep_nothing() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    let broken: String = (0..500).map(|number| format!("{{\"n\": {number}\n")).collect();
    let (status, _, _) = ingest(text, broken.as_bytes(), &[]);
    assert_eq!(status, 3);
    let kept = good(&["quarantine", "list", "--limit", "1000", "--json", "--data", text]);
    // Two minutes, where the clock turned meanwhile.
    assert!([20, 40].contains(&kept.lines().count()), "{}", kept.lines().count());
    let config = std::fs::read_to_string(data.join("candor.toml")).expect("read");
    std::fs::write(data.join("candor.toml"), format!("{config}\n[sources.silent]\nquarantine = false\n"))
        .expect("written");
    ingest(text, broken.as_bytes(), &["--source", "silent"]);
    // A record holds no NUL, what is kept may.
    ingest(text, b"{\"\0\": 1}\n", &["--source", "local"]);
    let kept = lines(&good(&["quarantine", "list", "--limit", "1", "--json", "--data", text]));
    assert_eq!(kept[0]["size_bytes"], 8, "{kept:?}");
    let kept = good(&["quarantine", "list", "--source", "silent", "--data", text]);
    assert_eq!(kept, "");
}
