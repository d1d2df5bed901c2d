//! Bad input and bad places: each a clear sentence, nothing good beside it lost, no refused content repeated.

mod support;

use std::io::{BufRead, Write};

use support::{CANDOR, bad, folder, good, ingest, root};

fn new_trail() -> (tempfile::TempDir, String) {
    let folder = folder();
    let data = folder.path().join("trail").to_str().expect("UTF-8").to_owned();
    good(&["init", "--data", &data]);
    (folder, data)
}

fn record(more: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-21T10:00:00Z","event_type":"EMAIL_SENT","correlation_id":"x","source_component":"relay","environment":"test","severity":"info"{more}}}"#
    )
}

#[test]
fn every_refusal_names_line_and_field_and_repeats_nothing() {
    let (_folder, data) = new_trail();
    let secret = "hunter2-TopSecret";
    let deep = "[".repeat(100_000);
    let long = format!(r#","message_content":{{"subject":"{}"}}"#, "s".repeat(70_000));
    let cases: Vec<(String, &str)> = vec![
        ("{".into(), "is not valid JSON"),
        ("[]".into(), "the record must be an object"),
        (r#"{"event_type":7}"#.into(), "/event_type must be a string"),
        (record("").replace("EMAIL_SENT", "EMAIL_SNT"), "nearest: EMAIL_SENT"),
        (record("").replace("EMAIL_SENT", secret), "a kind name of 17 bytes"),
        (record("").replace("EMAIL_SENT", "ACCESS"), "its authority is candor"),
        (record(&format!(r#","{secret}!":1"#)), "a field of 18 bytes"),
        (record(r#","sender_detail":{}"#), "nearest: sender_details"),
        (record(r#","source":"me""#), "/source is set by Candor"),
        (record(r#","email_id":7"#), "/email_id must be a string"),
        (record(r#","recipient_count":-1"#), "/recipient_count must be between 0 and 1000000"),
        (record(r#","email_id":"a","email_id":"b""#), "/email_id stands twice"),
        (record(&format!(r#","event_id":"{}""#, "e".repeat(129))), "the limit is 128"),
        (record(r#","message_content":{"subject":"\ud800"}"#), "half a surrogate"),
        (record(r#","message_content":{"subject":"\u0000"}"#), "NUL is not allowed"),
        (record(r#","message_content":{"body":"x"}"#), "/message_content/body is not a field"),
        (record("").replace("2026-11-21T10:00:00Z", "1969-12-31T23:59:59Z"), "outside the years 1970 to 9999"),
        (record("").replace("2026-11-21T10:00:00Z", "yesterday"), "/timestamp"),
        (record("").replace(r#","severity":"info""#, ""), "/severity is missing"),
        (deep, "the limit is 65536"),
        (format!("{}{}", "[".repeat(30), "]".repeat(30)), "nested deeper than 16"),
        (record(&long), "the limit is 65536"),
        (
            record(&format!(r#","sender_details":{{"email":{{"a":"{secret}"}}}}"#)),
            "/sender_details/email must be a string",
        ),
    ];
    for (line, expected) in &cases {
        let good_line = record(r#","email_id":"good""#);
        let input = format!("{good_line}\n{line}\n{good_line}\n");
        let (status, said, error) = ingest(&data, input.as_bytes(), &[]);
        assert_eq!(status, 3, "{error}");
        assert!(said.ends_with("1 refused\n"), "{said}");
        assert!(error.contains("line 2: ") && error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.len() < 400, "{error}");
    }
    let (status, said, error) = ingest(&data, b"\xff\xfe{}\n\n\r\n", &[]);
    assert_eq!((status, said.trim()), (3, "0 accepted, 0 repeated, 1 refused"));
    assert!(error.contains("byte 0 is not UTF-8"));
    // Far in the future: accepted and flagged.
    let (status, _, error) = ingest(&data, record(r#","email_id":"future""#).replace("2026", "9000").as_bytes(), &[]);
    assert_eq!(status, 0, "{error}");
    assert!(good(&["history", "--data", &data, "--message", "future", "--json"]).contains("\"ahead\":true"));
    good(&["verify", &data]);
}

#[test]
fn secrets_are_cut_and_marked_and_one_id_has_one_content() {
    let (_folder, data) = new_trail();
    let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6");
    let line =
        record(&format!(r#","event_id":"one","email_id":"s1","message_content":{{"subject":"use {token} please"}}"#));
    assert_eq!(ingest(&data, line.as_bytes(), &[]).0, 0);
    let shown = good(&["history", "--data", &data, "--message", "s1", "--json"]);
    assert!(shown.contains("use [cut:github-token] please") && shown.contains("\"github-token\":1"), "{shown}");
    assert!(!shown.contains(&token));
    // A token that is the whole of an id is refused, and not repeated.
    let (status, _, error) = ingest(&data, record(&format!(r#","email_id":"{token}""#)).as_bytes(), &[]);
    assert_eq!(status, 3);
    assert!(error.contains("/email_id is forbidden content (rule github-token)") && !error.contains(&token), "{error}");
    // The same id with other content.
    let (status, _, error) = ingest(&data, line.replace("please", "now").as_bytes(), &[]);
    assert_eq!(status, 3);
    assert!(error.contains("/event_id was used before for other content"), "{error}");
    let hits = good(&["search", "--data", &data, "--kind", "INPUT_CONFLICT"]);
    assert_eq!(hits.lines().count(), 1, "it is recorded");
}

#[test]
fn wrong_places_and_keys_are_refused_with_what_to_do() {
    let (folder, data) = new_trail();
    assert!(bad(1, &["init", "--data", &data]).contains("choose another directory"));
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    assert!(bad(1, &["search", "--data", empty.to_str().expect("UTF-8"), "x"]).contains("candor init"));
    assert!(bad(1, &["ingest", "--data", &data, "/no/such/file"]).contains("open /no/such/file"));
    assert!(bad(1, &["ingest", "--data", &data, "--source", "nobody", "/dev/null"]).contains("[sources.nobody]"));
    assert!(bad(1, &["show", "--data", &data, "999"]).contains("the trail has"));
    assert!(
        bad(1, &["erase", "--data", &data, "--customer", "nobody", "--reason", "r", "--yes"])
            .contains("nobody is known")
    );
    // Another master key, none at all, and a second process.
    let key = format!("{data}/keys/master.key");
    let right = std::fs::read_to_string(&key).expect("readable");
    std::fs::write(&key, "00".repeat(32) + "\n").expect("written");
    assert!(bad(1, &["search", "--data", &data, "x"]).contains("the master key does not open"));
    std::fs::write(&key, "nonsense").expect("written");
    assert!(bad(1, &["search", "--data", &data, "x"]).contains("64 lower-case hexadecimal digits"));
    std::fs::remove_file(&key).expect("removed");
    assert!(bad(1, &["search", "--data", &data, "x"]).contains("CANDOR_MASTER_KEY"));
    let with_variable = std::process::Command::new(CANDOR)
        .args(["search", "--data", &data, "x"])
        .env("CANDOR_MASTER_KEY", right.trim())
        .output();
    assert!(with_variable.expect("runs").status.success());
    std::fs::write(&key, &right).expect("written");
    let mut holder = std::process::Command::new(CANDOR)
        .args(["ingest", "--data", &data, "-", "--answers"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    // Its first answer says that it has the directory; it is given no more lines and keeps waiting for them.
    let mut lines = holder.stdin.take().expect("a pipe");
    writeln!(lines, "{}", record(r#","email_id":"held""#)).expect("written");
    let mut answer = String::new();
    let mut answers = std::io::BufReader::new(holder.stdout.take().expect("a pipe"));
    answers.read_line(&mut answer).expect("an answer");
    assert!(answer.starts_with("1 "), "{answer}");
    let refused = bad(1, &["search", "--data", &data, "x"]);
    assert!(refused.contains("another candor process uses this directory"), "{refused}");
    drop(lines);
    assert!(holder.wait().expect("ended").success());
    // Another trail's keys beside this journal; an older key store.
    let other = folder.path().join("other");
    let other = other.to_str().expect("UTF-8");
    good(&["init", "--data", other]);
    std::fs::rename(format!("{data}/journal"), format!("{data}/journal.mine")).expect("moved");
    support::copy_folder(format!("{other}/journal").as_ref(), format!("{data}/journal").as_ref());
    bad(1, &["search", "--data", &data, "x"]);
    std::fs::remove_dir_all(format!("{data}/journal")).expect("removed");
    std::fs::rename(format!("{data}/journal.mine"), format!("{data}/journal")).expect("moved");
    let old = folder.path().join("old-keys");
    support::copy_folder(format!("{data}/keys").as_ref(), &old);
    let sample = root().join("examples/mail.jsonl");
    good(&["ingest", "--data", &data, sample.to_str().expect("UTF-8")]);
    std::fs::copy(format!("{data}/keys/highwater"), old.join("highwater")).expect("copied");
    std::fs::remove_dir_all(format!("{data}/keys")).expect("removed");
    support::copy_folder(&old, format!("{data}/keys").as_ref());
    assert!(bad(1, &["search", "--data", &data, "x"]).contains("keys that this trail needs are missing"));
}

#[test]
fn init_refuses_a_malformed_master_key_and_makes_none_beside_it() {
    let folder = folder();
    let data = folder.path().join("trail");
    for malformed in ["", "zz", &"AB".repeat(32)] {
        let output = std::process::Command::new(CANDOR)
            .args(["init", "--data", data.to_str().expect("UTF-8")])
            .env("CANDOR_MASTER_KEY", malformed)
            .output()
            .expect("runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains("64 lower-case hexadecimal digits"), "{error}");
        assert!(!data.join("keys/master.key").exists() && !data.join("keys/root").exists());
        assert!(malformed.is_empty() || !error.contains(malformed), "{error}");
    }
    // What the refused attempts left does not stand in the way.
    good(&["init", "--data", data.to_str().expect("UTF-8")]);
}

#[test]
fn a_new_trail_names_the_one_it_succeeds() {
    let (folder, old) = new_trail();
    let new = folder.path().join("new");
    let new = new.to_str().expect("UTF-8");
    let nonsense = folder.path().join("nonsense");
    std::fs::write(&nonsense, "no checkpoint\n").expect("written");
    bad(1, &["init", "--data", new, "--succeeds", nonsense.to_str().expect("UTF-8")]);
    good(&["init", "--data", new, "--succeeds", &old]);
    let opened = good(&["show", "--data", new, "0", "--json"]);
    let mark = std::fs::read_to_string(format!("{old}/keys/highwater")).expect("a mark");
    let origin = mark.split("\n\n").nth(1).and_then(|checkpoint| checkpoint.lines().next()).expect("an origin");
    assert!(opened.contains("succeeds") && opened.contains(origin), "{opened}");
    good(&["verify", new]);
}

/// A deployment's own kind: in the trail by its schema, validated, searched, refused where it breaks its rules.
#[test]
fn a_deployment_may_add_kinds_in_a_folder() {
    let (folder, data) = new_trail();
    let kinds = folder.path().join("kinds");
    std::fs::create_dir(&kinds).expect("made");
    let shipped = std::fs::read_to_string(root().join("crates/record/kinds/EMAIL_SENT.1.json")).expect("readable");
    let common: String = shipped.lines().skip(1).take_while(|line| !line.contains("\"x-number\":20,")).collect();
    let schema = format!(
        r#"{{"x-kind":"LOYALTY_POINTS_GIVEN","x-version":1,"x-class":"communication","x-authority":["source"],"type":"object","additionalProperties":false,"required":["timestamp","event_type","correlation_id","source_component","environment","severity","points"],"properties":{{{}
  "points":{{"type":"integer","minimum":1,"maximum":100000,"x-number":20,"x-field-class":"fact"}},
  "note":{{"type":"string","maxLength":200,"x-form":"text","x-number":21,"x-field-class":"personal"}}
}}}}"#,
        common.replace("\"const\":\"EMAIL_SENT\"", "\"const\":\"LOYALTY_POINTS_GIVEN\"")
    );
    std::fs::write(kinds.join("LOYALTY_POINTS_GIVEN.1.json"), &schema).expect("written");
    let config = format!("kinds_folder = {:?}\n", kinds.to_str().expect("UTF-8"));
    std::fs::write(format!("{data}/candor.toml"), config).expect("written");
    let given = record(r#","points":50,"note":"welcome back""#).replace("EMAIL_SENT", "LOYALTY_POINTS_GIVEN");
    let lines = format!("{given}\n{}\n", given.replace("\"points\":50", "\"points\":0"));
    let (status, said, error) = ingest(&data, lines.as_bytes(), &[]);
    assert_eq!((status, said.trim()), (3, "1 accepted, 0 repeated, 1 refused"), "{error}");
    assert!(error.contains("line 2: /points must be between 1 and 100000"), "{error}");
    assert_eq!(good(&["search", "--data", &data, "--kind", "LOYALTY_POINTS_GIVEN", "welcome"]).lines().count(), 1);
    // The schema itself is in the trail, and the refusal with its kind.
    let defined = good(&["search", "--data", &data, "--kind", "KIND_DEFINED", "--json"]);
    assert!(defined.contains("LOYALTY_POINTS_GIVEN"));
    let refused = good(&["search", "--data", &data, "--kind", "INPUT_REFUSED", "--json"]);
    assert!(
        refused.contains("\"kind_name\":\"LOYALTY_POINTS_GIVEN\"") && refused.contains("out_of_bounds"),
        "{refused}"
    );
    good(&["verify", &data]);
    // A keyword outside the subset refuses the kind at start, by name and place.
    let outside = schema.replacen("\"maximum\":100000", "\"multipleOf\":5", 1);
    std::fs::write(kinds.join("LOYALTY_POINTS_GIVEN.1.json"), outside).expect("written");
    let error = bad(1, &["search", "--data", &data, "x"]);
    assert!(error.contains("LOYALTY_POINTS_GIVEN") && error.contains("multipleOf"), "{error}");
}

/// Ctrl-C: what was counted is in the trail, and the summary says so.
#[test]
fn an_interrupt_loses_nothing_answered() {
    let (_folder, data) = new_trail();
    let mut child = std::process::Command::new(CANDOR)
        .args(["ingest", "--data", &data, "-", "--json"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let mut input = child.stdin.take().expect("a pipe");
    for i in 0..3000 {
        writeln!(input, "{}", record(&format!(r#","email_id":"i{i}""#))).expect("written");
    }
    input.flush().expect("flushed");
    let id = rustix::process::Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("interrupted");
    // One more line wakes the reader, which then sees the interrupt.
    let _ = writeln!(input, "{}", record(r#","email_id":"last""#));
    drop(input);
    let output = child.wait_with_output().expect("ended");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a summary");
    let accepted = summary["accepted"].as_u64().expect("a number");
    let found =
        good(&["search", "--data", &data, "--kind", "EMAIL_SENT", "--limit", "1000", "--json"]).lines().count() as u64;
    assert_eq!(found, accepted.min(1000));
    good(&["verify", &data]);
}
