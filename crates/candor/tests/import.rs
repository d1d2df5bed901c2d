//! The history of an old system: in its own period, marked, once, and without bodies.

mod support;

use serde_json::{Value, json};
use support::{bad, candor, files, folder, good, lines};

const MAPPING: &str = r#"
kind = "TICKET_OPENED"
zone = "+02:00"
flags = []

[columns]
ticket_id = "No"
timestamp = "Created"
customer_id = "Client"
subject = "Title"
priority_level = "Prio"

[constants]
correlation_id = "old-desk"
source_component = "old-desk"
environment = "production"
severity = "info"

[times]
timestamp = "DD/MM/YYYY hh:mm"

[values.priority_level]
"1" = "high"
"3" = "low"
"#;

#[test]
fn a_table_is_imported_once_in_its_own_time() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let (data, mapping, table) = (path("trail"), path("mapping.toml"), path("desk.csv"));
    good(&["init", "--data", &data]);
    std::fs::write(&mapping, MAPPING).expect("written");
    let mut rows = "No,Created,Client,Title,Prio,Notes\n".to_owned();
    for number in 0..1200 {
        rows += &format!(
            "D-{number},{:02}/03/2024 09:15,c-{},\"kettle, number {number}\",{},x\n",
            number % 28 + 1,
            number % 50,
            1 + 2 * (number % 2)
        );
    }
    rows += "D-bad,2024-03-01,c-1,late,1,x\nD-odd,01/03/2024 10:00,c-1,strange,9,x\n";
    std::fs::write(&table, &rows).expect("written");
    let import = |table: &str| {
        candor(&[
            "import",
            "--data",
            &data,
            "--format",
            "csv",
            "--name",
            "desk",
            "--mapping",
            &mapping,
            "--json",
            table,
        ])
    };
    let first = import(&table);
    assert_eq!(first.status.code(), Some(3), "some rows are no records");
    let said = String::from_utf8(first.stderr).expect("text");
    assert!(said.contains("item 1201: /timestamp: the value is no time as DD/MM/YYYY hh:mm"), "{said}");
    assert!(said.contains("line 1202: /priority_level"), "{said}");
    assert!(!said.contains("strange") && !said.contains("2024-03-01"), "no value is repeated: {said}");
    let report: Value = serde_json::from_slice(&first.stdout).expect("JSON");
    let told = [&report["items"], &report["accepted"], &report["repeated"], &report["refused"]];
    assert_eq!(told, [&json!(1202), &json!(1200), &json!(0), &json!(2)]);
    assert_eq!((&report["first_time"], &report["provenance"]), (&json!("2024-03-01T07:15:00.000Z"), &json!("unknown")));
    // Again, as after an interrupt: nothing is doubled.
    let again: Value = serde_json::from_slice(&import(&table).stdout).expect("JSON");
    assert_eq!((&again["accepted"], &again["repeated"]), (&json!(0), &json!(1200)));
    let thing: Value = serde_json::from_str(&good(&["show", "ticket", "D-7", "--data", &data])).expect("JSON");
    assert_eq!((&thing["subject"], &thing["priority_level"]), (&json!("kettle, number 7"), &json!("low")));
    let hits = lines(&good(&[
        "search",
        "--source",
        "import.desk",
        "--until",
        "2024-03-02",
        "--limit",
        "5",
        "--json",
        "--data",
        &data,
    ]));
    assert_eq!(hits.len(), 5);
    assert!(hits.iter().all(|hit| hit["imported"] == true && hit["clock"]["of"] == "unknown"), "{hits:?}");
    assert_eq!(thing["imported"], true);
    assert!(
        hits.iter().all(|hit| hit["record"]["timestamp"].as_str().is_some_and(|time| time.starts_with("2024-03-01")))
    );
    let made = lines(&good(&["search", "--kind", "IMPORT_MADE", "--json", "--data", &data]));
    assert_eq!(made.len(), 2);
    assert_eq!(made[1]["record"]["source_name"], "import.desk");
    assert!(good(&["list", "alerts", "--open", "--data", &data]).is_empty(), "history is not news");
    std::fs::write(&table, rows.replace("Created", "Made")).expect("written");
    let error = String::from_utf8(import(&table).stderr).expect("text");
    assert!(error.contains("there is no column Created"), "{error}");
}

#[test]
fn json_lines_are_records_or_are_mapped_to_records() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let (data, mapping, file) = (path("trail"), path("mapping.toml"), path("old.jsonl"));
    good(&["init", "--data", &data]);
    std::fs::write(&mapping, MAPPING.replace("DD/MM/YYYY hh:mm", "unix").replace("\"Client\"", "\"client.no\""))
        .expect("written");
    let old = json!({"No": "J-1", "Created": 1_709_280_000, "client": {"no": "c-9"}, "Title": "kettle", "Prio": 3});
    std::fs::write(&file, format!("{old}\n\n[]\n")).expect("written");
    let mapped =
        candor(&["import", "--data", &data, "--format", "jsonl", "--name", "old", "--mapping", &mapping, &file]);
    let said = String::from_utf8(mapped.stderr).expect("text");
    assert!(said.contains("item 2: it is no JSON object"), "{said}");
    let history = lines(&good(&["history", "--customer", "c-9", "--json", "--data", &data]));
    assert_eq!(history[0]["record"]["ticket_id"], "J-1");
    let native = json!({"timestamp": "2023-01-01T00:00:00Z", "event_type": "CALL_LOGGED", "correlation_id": "c", "source_component": "pbx", "environment": "test", "severity": "info", "call_id": "K-1"});
    std::fs::write(&file, format!("{native}\n")).expect("written");
    good(&["import", "--data", &data, "--format", "jsonl", "--name", "old", &file]);
    assert!(good(&["show", "call", "K-1", "--data", &data]).contains("2023-01-01"));
}

/// A body that must not be kept.
const BODY: &str = "the secret recipe of the kettle";

fn message(number: usize, from: &str, to: &str) -> String {
    format!(
        "From: {from}\r\nTo: {to}\r\nCc: \"Second Reader\" <second@mail.example>\r\nSubject: =?utf-8?q?Your_kettle_=C3=A9?= {number}\r\nDate: Fri, 1 Mar 2024 10:00:00 +0200\r\nMessage-ID: <m-{number}@shop.example>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n{BODY}\r\nFrom here on\r\n--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"invoice.pdf\"\r\n\r\nnine-bytes\r\n--b--\r\n"
    )
}

#[test]
fn stored_mail_keeps_envelope_and_hashes_and_no_body() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let (data, file) = (path("trail"), path("old.mbox"));
    good(&["init", "--data", &data]);
    let sent = message(1, "Orders <orders@shop.example>", "thabo.4@mail.example");
    let received = message(2, "thabo.4@mail.example", "orders@shop.example");
    let quoted = received.replace("\r\n", "\n").replace("\nFrom here", "\n>From here");
    let mbox = format!(
        "From orders@shop.example Fri Mar  1 10:00:00 2024\n{}\nFrom x Fri Mar  1 10:00:00 2024\n{quoted}\nFrom x Fri Mar  1 10:00:00 2024\nSubject: none\n\nno sender\n",
        sent.replace("\r\n", "\n").replace("\nFrom here", "\n>From here")
    );
    std::fs::write(&file, mbox).expect("written");
    let import = |path: &str, format: &str| {
        candor(&[
            "import",
            "--data",
            &data,
            "--format",
            format,
            "--name",
            "archive",
            "--own-domain",
            "shop.example",
            "--json",
            path,
        ])
    };
    let done = import(&file, "mbox");
    assert_eq!(done.status.code(), Some(3), "one is no mail");
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(
        (&report["items"], &report["accepted"], &report["unread"]),
        (&json!(3), &json!(4), &json!(1)),
        "{report}"
    );
    let history = lines(&good(&["history", "--address", "thabo.4@mail.example", "--json", "--data", &data]));
    let kinds: Vec<&str> = history.iter().filter_map(|line| line["kind"].as_str()).collect();
    assert!(kinds.starts_with(&["EMAIL_SENT", "EMAIL_RECEIVED"]), "{kinds:?}");
    let mail = &history[0]["record"];
    assert_eq!(mail["message_content"]["subject"], "Your kettle é 1");
    assert_eq!(mail["recipient_details"]["email"], "thabo.4@mail.example");
    assert_eq!(mail["timestamp"], "2024-03-01T08:00:00.000Z");
    let attachments = mail["message_content"]["attachments"].as_array().expect("attachments");
    assert_eq!(attachments.len(), 2);
    assert_eq!((&attachments[1]["name"], &attachments[1]["size"]), (&json!("invoice.pdf"), &json!(10)));
    let digest = proof::hash::sha256(b"nine-bytes").hex();
    assert_eq!(attachments[1]["sha256"], digest);
    let all = good(&["search", "--source", "import.archive", "--json", "--data", &data]);
    assert!(!all.contains(BODY) && all.contains("m-1@shop.example"));
    // A maildir with the same messages: the same records.
    let maildir = folder.path().join("mail");
    for (number, text) in [(1, &sent), (2, &received)] {
        std::fs::create_dir_all(maildir.join("cur")).expect("made");
        std::fs::write(maildir.join(format!("cur/{number}.host:2,S")), text).expect("written");
    }
    let again: Value = serde_json::from_slice(&import(&path("mail"), "maildir").stdout).expect("JSON");
    assert_eq!((&again["items"], &again["unread"]), (&json!(2), &json!(0)), "{again}");
    for file in files(folder.path().join("trail").as_path()) {
        let bytes = std::fs::read(&file).expect("read");
        assert!(!bytes.windows(BODY.len()).any(|window| window == BODY.as_bytes()), "{}", file.display());
    }
}

#[test]
fn what_can_not_be_imported_is_said_in_a_sentence() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    let error = bad(1, &["import", "--data", text, "--format", "csv", "--name", "x", "none.csv"]);
    assert!(error.contains("a table needs --mapping"), "{error}");
    let error = bad(1, &["import", "--data", text, "--format", "mbox", "--name", "x", "none.mbox"]);
    assert!(error.contains("mail needs --own-domain"), "{error}");
    let error = bad(1, &["import", "--data", text, "--format", "jsonl", "--name", "a/b", "none.jsonl"]);
    assert!(error.contains("--name must be"), "{error}");
    let error = bad(1, &["import", "--data", text, "--format", "maildir", "--name", "x", "--own-domain", "d", text]);
    assert!(error.contains("has the folders cur and new"), "{error}");
}
