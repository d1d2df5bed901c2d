//! What a new user does, from the first command to an erased customer.

mod support;

use support::{bad, candor, folder, good, ingest, python};

#[test]
fn the_whole_tour() {
    let folder = folder();
    let data = folder.path().join("trail");
    let data = data.to_str().expect("UTF-8");
    let lines = good(&["bench", "--generate", "10000", "--seed", "5"]);
    let file = folder.path().join("lines.jsonl");
    std::fs::write(&file, &lines).expect("written");
    let file = file.to_str().expect("UTF-8");
    // In, and again: every line is a repeat.
    let summary: serde_json::Value =
        serde_json::from_str(&good(&["ingest", "--init", "--data", data, file, "--json"])).expect("JSON");
    let (accepted, repeated) =
        (summary["accepted"].as_u64().expect("a number"), summary["repeated"].as_u64().expect("a number"));
    assert_eq!((accepted + repeated, summary["refused"].as_u64()), (10_000, Some(0)));
    assert!(repeated > 50);
    let (status, said, _) = ingest(data, lines.as_bytes(), &[]);
    assert_eq!((status, said.trim()), (0, "0 accepted, 10000 repeated, 0 refused"));
    // Search: every hit has the words, newest first, nothing else on standard output.
    let hits = good(&["search", "--data", data, "kettle", "lantern", "--json"]);
    let hits: Vec<serde_json::Value> =
        hits.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert!(hits.len() > 5 && hits.len() <= 50);
    let index = |hit: &serde_json::Value| hit["index"].as_u64().expect("an index");
    assert!(hits.windows(2).all(|pair| index(&pair[0]) > index(&pair[1])));
    for hit in &hits {
        let subject = hit["record"]["message_content"]["subject"].as_str().expect("a subject").to_lowercase();
        assert!(subject.contains("kettle") && subject.contains("lantern"));
    }
    let all = lines
        .lines()
        .filter(|line| line.contains("kettle") && line.contains("lantern"))
        .collect::<std::collections::HashSet<_>>()
        .len();
    let found = good(&["search", "--data", data, "kettle", "lantern", "--json", "--limit", "1000"]);
    assert_eq!(found.lines().count(), all, "nothing is missed");
    assert_eq!(good(&["search", "--data", data, "nosuchwordatall"]), "");
    // History of one customer, complete.
    let customer = hits[0]["record"]["recipient_details"]["customer_id"].as_str().expect("a customer").to_owned();
    let name = hits[0]["record"]["recipient_details"]["name"].as_str().expect("a name").to_owned();
    let address = hits[0]["record"]["recipient_details"]["email"].as_str().expect("an address").to_owned();
    let history = good(&["history", "--data", data, "--customer", &customer, "--json"]);
    let sent = lines
        .lines()
        .filter(|line| line.contains(&format!("\"{customer}\"")))
        .collect::<std::collections::HashSet<_>>()
        .len();
    assert_eq!(history.lines().filter(|line| line.contains("\"EMAIL_SENT\"")).count(), sent);
    assert!(history.contains("SUBJECT_SEEN"), "who looked is part of the history");
    // Receipt and both verifiers.
    let receipt = folder.path().join("r.json");
    std::fs::write(&receipt, good(&["receipt", "--data", data, &index(&hits[0]).to_string()])).expect("written");
    let receipt_path = receipt.to_str().expect("UTF-8");
    good(&["verify", receipt_path]);
    good(&["verify", data]);
    assert_eq!(python(&receipt).0, 0);
    assert_eq!(python(data.as_ref()).0, 0);
    // One byte flipped in one entry's sealed record: both name the entry.
    let journal = folder.path().join("trail/journal/0000000000.seg");
    let bytes = std::fs::read(&journal).expect("readable");
    let mut altered = bytes.clone();
    let at = altered.len() / 2;
    altered[at] ^= 1;
    std::fs::write(&journal, &altered).expect("written");
    let output = candor(&["verify", data]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let named = said
        .split_once("entry ")
        .and_then(|(_, rest)| rest.split_once(':'))
        .map(|(entry, _)| entry.to_owned())
        .expect("an entry is named");
    let (status, said) = python(data.as_ref());
    assert_eq!(status, 1);
    assert!(said.contains(&format!("entry {named}:")), "{named} {said}");
    std::fs::write(&journal, &bytes).expect("written");
    // Erased: neither search nor history has them, everything still verifies.
    let erased: serde_json::Value = serde_json::from_str(&good(&[
        "erase",
        "--data",
        data,
        "--customer",
        &customer,
        "--reason",
        "DSR-1",
        "--yes",
        "--json",
    ]))
    .expect("JSON");
    assert!(erased["entries"].as_u64().is_some_and(|count| count as usize > sent));
    assert_eq!(good(&["history", "--data", data, "--customer", &customer]), "");
    assert_eq!(good(&["history", "--data", data, "--address", &address]), "");
    let digits: String = customer.chars().filter(char::is_ascii_digit).collect();
    assert_eq!(good(&["search", "--data", data, &name, &digits]), "");
    let shown = good(&["show", "--data", data, &index(&hits[0]).to_string(), "--json"]);
    assert!(shown.contains("\"personal\":\"erased\"") && !shown.contains(&address), "{shown}");
    good(&["verify", data]);
    good(&["verify", receipt_path]);
    assert_eq!((python(data.as_ref()).0, python(&receipt).0), (0, 0));
    bad(1, &["erase", "--data", data, "--customer", &customer, "--reason", "again", "--yes"]);
    // A late record about them comes without a body.
    let late = format!(
        r#"{{"timestamp":"2026-11-21T10:00:00Z","event_type":"EMAIL_BOUNCED","correlation_id":"late-1","source_component":"relay","environment":"production","severity":"warning","email_id":"late@shop.example","recipient_details":{{"customer_id":"{customer}","email":"{address}","name":"{name}"}}}}"#
    );
    assert_eq!(ingest(data, late.as_bytes(), &[]).0, 0);
    let late = good(&["history", "--data", data, "--message", "late@shop.example", "--json"]);
    assert!(
        late.contains("\"dropped\":true") && late.contains("\"personal\":\"none\"") && !late.contains(&name),
        "{late}"
    );
    // The views can be lost.
    good(&["rebuild", "--reference", "CH-1", "--data", data]);
    assert_eq!(good(&["search", "--data", data, &name, &digits]), "");
    assert!(!good(&["search", "--data", data, "kettle"]).is_empty());
    good(&["doctor", "--data", data]);
}

/// Every file that Candor writes is listed in `docs/formats/places.md`.
/// What a rebuild makes anew is as private as it was.
#[test]
fn a_rebuild_leaves_every_folder_to_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let trail = folder.path().join("trail");
    let data = trail.to_str().expect("UTF-8");
    good(&["init", "--data", data]);
    good(&["rebuild", "--reference", "CH-1", "--data", data]);
    for name in ["journal", "keys", "ledger", "views"] {
        let mode = std::fs::metadata(trail.join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
fn every_file_is_listed() {
    let folder = folder();
    let data = folder.path().join("trail");
    let sample = support::root().join("examples/mail.jsonl");
    good(&["ingest", "--init", "--data", data.to_str().expect("UTF-8"), sample.to_str().expect("UTF-8")]);
    good(&["erase", "--data", data.to_str().expect("UTF-8"), "--customer", "c-4", "--reason", "DSR", "--yes"]);
    let page = std::fs::read_to_string(support::root().join("docs/formats/places.md")).expect("the page");
    let patterns: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| {
            let cell = line.split('|').nth(1).unwrap_or_default().to_owned();
            cell.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let fits = |name: &str, pattern: &str| match pattern.split_once('*') {
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| rest.ends_with(after) && !rest[..rest.len() - after.len()].contains('/')),
        None => name == pattern,
    };
    for file in support::files(&data) {
        let name = file.strip_prefix(&data).expect("below").to_str().expect("UTF-8").to_owned();
        assert!(patterns.iter().any(|pattern| fits(&name, pattern)), "{name} is not listed");
    }
}
