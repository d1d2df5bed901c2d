//! The log's key changes while the server runs: what either key signed holds for who trusts either, and a mirror follows.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::http::Server;
use support::{bad, folder, good, ingest, lines, python_with};

fn mails(from: u32) -> String {
    let mail = |number: u32| {
        format!(
            r#"{{"timestamp":"2026-11-20T08:00:00Z","event_type":"EMAIL_SENT","correlation_id":"o-{number}","source_component":"shop","environment":"test","severity":"info","event_id":"e-{number}","email_id":"m-{number}","recipient_details":{{"customer_id":"c-{}"}},"message_content":{{"subject":"a kettle"}}}}"#,
            number % 3
        ) + "\n"
    };
    (from..from + 10).map(mail).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Whether both verifiers say that it holds under this key; they must agree.
fn holds(path: &Path, key: &str) -> bool {
    let ours = support::candor(&["verify", text(path), "--key", key]).status.code();
    let (theirs, said) = python_with(path, &["--key", key]);
    assert_eq!(ours, Some(theirs), "the verifiers differ on {}: {said}", path.display());
    ours == Some(0)
}

fn keys(data: &str) -> Value {
    lines(&good(&["keys", "list", "--json", "--data", data])).remove(0)
}

#[test]
fn what_either_key_signed_holds_for_who_trusts_either_and_a_mirror_follows() {
    let folder = folder();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let path = at("trail");
    let data = text(&path);
    good(&["init", "--data", data]);
    let key = good(&["apikey", "add", "--scope", "mirror", "--data", data]);
    std::fs::write(at("mirror.key"), key).expect("written");
    assert_eq!(ingest(data, mails(0).as_bytes(), &[]).0, 0);
    let receipt = |entry: &str, name: &str| {
        std::fs::write(at(name), good(&["receipt", entry, "--data", data])).expect("written");
        at(name)
    };
    let before = receipt("3", "before.json");
    let first = keys(data)["vkey"].as_str().expect("a key").to_owned();

    let server = Server::start(&path);
    let mirror = |more: &[&str]| {
        let (from, key, to) = (format!("http://{}", server.address), at("mirror.key"), at("mirror"));
        let mut arguments = vec!["mirror", "--from", &from, "--key-file", text(&key), "--to", text(&to), "--json"];
        arguments.extend(more);
        lines(&good(&arguments)).remove(0)["size"].as_u64().expect("a size")
    };
    let size = mirror(&[]);
    // The running server does it.
    let made = lines(&good(&["keys", "change-log-key", "--json", "--data", data])).remove(0);
    assert_eq!(made["vkey_old"], first.as_str());
    let second = made["vkey_new"].as_str().expect("a key").to_owned();
    let append = server.append_key();
    server.lines(&append, &mails(10));
    let read = server.read_key();
    let checkpoint = || server.get_json("/v1/checkpoint", read.trim()).1;
    // A checkpoint is published once a second.
    let said = (0..50)
        .map(|_| {
            std::thread::park_timeout(std::time::Duration::from_millis(100));
            checkpoint()
        })
        .find(|said| said["key_changes"][0].is_object())
        .expect("the change is told");
    assert_eq!(said["vkey"], first.as_str());
    assert_eq!(said["key_changes"][0]["index"], made["entry"]);
    assert_eq!(said["checkpoint"].as_str().expect("text").matches("\u{2014} ").count(), 2, "both sign");
    assert!(mirror(&["--key", &second]) >= size + 10, "who trusts the new key is shown how it follows");
    mirror(&["--key", &first]);
    let refused = bad(1, &["keys", "change-log-key", "--data", data]);
    assert!(refused.contains("still signs, until"), "{refused}");
    let mirrored = at("mirror/journal");
    assert!(holds(&mirrored, &first) && holds(&mirrored, &second));
    assert!(server.stop());

    let during = receipt("3", "during.json");
    // The old key's time is over: the next start destroys it. Here it is over at once.
    let short = at("short");
    good(&["init", "--data", text(&short)]);
    let (mine, old) = (text(&short), keys(text(&short))["vkey"].as_str().expect("a key").to_owned());
    good(&["keys", "change-log-key", "--both-sign-days", "0", "--data", mine]);
    assert!(keys(mine)["both_sign_until"].is_null());
    assert_eq!(ingest(mine, mails(0).as_bytes(), &[]).0, 0);
    std::fs::write(at("alone.json"), good(&["receipt", "3", "--data", mine])).expect("written");
    let alone: Value = serde_json::from_slice(&std::fs::read(at("alone.json")).expect("read")).expect("JSON");
    assert_eq!(alone["proof"].as_str().expect("text").matches("\u{2014} ").count(), 1, "one signs");
    assert!(holds(&at("alone.json"), &old), "who trusts the old key is shown how the new one follows");
    good(&["keys", "change-log-key", "--both-sign-days", "0", "--data", mine]);
    assert_eq!(keys(mine)["log_keys"].as_array().map(Vec::len), Some(3));
    assert!(holds(&short, &old));
    let history = at("history.json");
    good(&["history", "--customer", "c-1", "--proof", text(&history), "--data", mine]);
    let (status, said) = python_with(&short, &["--history", text(&history)]);
    assert!(status == 0 && said.contains("none left out"), "{said}");

    for (file, key, expected) in
        [(&before, &first, true), (&before, &second, false), (&during, &first, true), (&during, &second, true)]
    {
        assert_eq!(holds(file, key), expected, "{} under {key}", file.display());
    }
    for key in [&first, &second] {
        assert!(holds(&path, key));
    }
    assert!(!holds(&path, &old), "the key of another trail");
    // A receipt is no better than the change that it comes with.
    let good_text = std::fs::read_to_string(&during).expect("read");
    let value: Value = serde_json::from_str(&good_text).expect("JSON");
    let signature = value["key_changes"][0]["proof"].as_str().expect("text").lines().last().expect("a line").to_owned();
    let pieces = [
        ("another kind", good_text.replace("LOG_KEY_CHANGED", "LOG_KEY_CHANGEX")),
        ("another new key", good_text.replacen(&second, &old, 1)),
        ("another version", good_text.replacen("\"v\": 2", "\"v\": 1", 1)),
        ("a signature cut short", good_text.replace(&signature, &signature[..signature.len() - 8])),
        ("no changes", {
            let mut value = value.clone();
            value["key_changes"] = serde_json::json!([]);
            value.to_string()
        }),
    ];
    for (what, altered) in pieces {
        assert_ne!(altered, good_text, "{what}");
        std::fs::write(at("altered.json"), altered).expect("written");
        assert!(!holds(&at("altered.json"), &first), "{what}");
    }
}
