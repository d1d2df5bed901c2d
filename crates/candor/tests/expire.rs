//! Keys end on time, holds keep what they cover, and everything that was proved stays proved.

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use seal::master::MasterKey;
use seal::store::{KeyStore, Named};
use serde_json::Value;
use support::{bad, candor, folder, good, ingest, interpreter, lines, root};

/// One month's mails of three customers, and a ticket.
fn month(month: u32, from: u32) -> String {
    let mail = |number: u32| {
        format!(
            r#"{{"timestamp":"2024-{month:02}-20T08:00:00Z","event_type":"EMAIL_SENT","correlation_id":"o-{number}","source_component":"shop","environment":"test","severity":"info","event_id":"e-{number}","email_id":"m-{number}","recipient_details":{{"customer_id":"c-{}"}},"message_content":{{"subject":"a kettle of {word} {}quokka"}}}}"#,
            number % 3,
            ["j", "w", "y"][number as usize % 3],
            word = ["lantern", "umbrella", "blanket"][number as usize % 3]
        ) + "\n"
    };
    (from..from + 30).map(mail).collect()
}

fn ticket(kind: &str, month: u32) -> String {
    format!(
        r#"{{"timestamp":"2024-{month:02}-21T08:00:00Z","event_type":"{kind}","correlation_id":"t-9","source_component":"desk","environment":"test","severity":"info","event_id":"{kind}-{month}","ticket_id":"T-9"}}"#
    ) + "\n"
}

fn found(data: &str, word: &str) -> usize {
    lines(&good(&["search", word, "--limit", "1000", "--json", "--data", data])).len()
}

fn retention(data: &str, days: u32) {
    let path = Path::new(data).join("candor.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    let bases = format!(
        "\n[[retention.communication]]\ndays = {days}\nlegal_basis = \"nobody needs it longer\"\n[[retention.communication]]\ndays = 1\nlegal_basis = \"a shorter one\"\n"
    );
    std::fs::write(&path, text + &bases).expect("written");
}

/// How often the clear content of the index has a word.
fn in_index(data: &str, word: &str) -> usize {
    let data = Path::new(data);
    let master = MasterKey::read(&data.join("keys/master.key")).expect("the key");
    let view = KeyStore::open(&data.join("keys"), master).expect("it opens").named(Named::View);
    let files = support::files(&data.join("views/index")).into_iter();
    let clear = files.filter_map(|file| views::inspect::clear_content(&view, &file).ok());
    clear.map(|clear| clear.windows(word.len()).filter(|window| *window == word.as_bytes()).count()).sum()
}

fn verified(data: &str) -> Value {
    lines(&good(&["verify", "--json", data])).remove(0)
}

/// Room on the disk of the segment that has the mails.
fn blocks(data: &str) -> u64 {
    std::fs::metadata(Path::new(data).join("journal/0000000000.seg")).expect("there").blocks()
}

#[test]
fn keys_end_on_time_and_holds_keep_what_they_cover() {
    let folder = folder();
    let path = folder.path().join("trail");
    let data = path.to_str().expect("UTF-8");
    good(&["init", "--data", data]);
    let opened = ticket("TICKET_OPENED", 5);
    let resolved = ticket("TICKET_RESOLVED", 7);
    // Enough that its room is given back to the disk.
    let ballast: String =
        (0..10).map(|part| month(7, 1000 + 30 * part).replace("kettle", "crate").replace("quokka", "")).collect();
    let ballast = ballast.replace("lantern", "salt").replace("umbrella", "salt").replace("blanket", "salt");
    let batch = month(5, 0) + &opened + &month(6, 30) + &resolved + &ballast;
    let (status, _, told) = ingest(data, batch.as_bytes(), &[]);
    assert_eq!(status, 0, "{told}");
    let first: u64 = found_entry(data, "e-1");
    let kept = found_entry(data, "e-2");
    let receipt = folder.path().join("receipt.json");
    let text = good(&["receipt", &first.to_string(), "--data", data]);
    std::fs::write(&receipt, text).expect("written");

    // By the shipped rule nothing is due; preview ends nothing whatever it says.
    assert!(good(&["expire", "preview", "--data", data]).contains("0 periods would end"));
    let later = good(&["expire", "preview", "--by", "2031-07-01", "--json", "--data", data]);
    assert_eq!(lines(&later).len(), 1, "{later}");
    retention(data, 30);
    let due = lines(&good(&["expire", "preview", "--json", "--data", data]));
    let said = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(due.iter().map(|row| said(row, "from")).collect::<Vec<_>>(), ["2024-05-01", "2024-06-01", "2024-07-01"]);
    assert_eq!((due[0]["entries"].as_u64(), said(&due[0], "ends_on")), (Some(31), "2024-07-01".into()));
    assert_eq!(found(data, "kettle"), 60);

    // A hold on one customer's mails in May, and one on a correlation.
    assert!(bad(1, &["hold", "place", "--reason", "none", "--data", data]).contains("say what is held"));
    let until = "2024-06-01T00:00:00Z";
    let person = lines(&good(&[
        "hold",
        "place",
        "--customer",
        "c-2",
        "--kind",
        "EMAIL_SENT",
        "--until",
        until,
        "--reason",
        "matter-7",
        "--json",
        "--data",
        data,
    ]))
    .remove(0);
    let (person, placed) = (said(&person, "hold_id"), person["entry"].as_u64().expect("an entry"));
    let order =
        lines(&good(&["hold", "place", "--correlation", "o-4", "--reason", "matter-8", "--json", "--data", data]))
            .remove(0);
    let order = said(&order, "hold_id");
    let refused = bad(1, &["erase", "--customer", "c-2", "--reason", "request-1", "--yes", "--data", data]);
    assert!(refused.contains(&person) && refused.contains("nothing was erased"), "{refused}");
    let refused = bad(1, &["erase", "--customer", "c-1", "--reason", "request-1", "--yes", "--data", data]);
    assert!(refused.contains(&order), "{refused}");

    let before = (verified(data), blocks(data));
    let run = lines(&good(&["expire", "run", "--json", "--data", data]));
    assert_eq!(run.len(), 3);
    assert_eq!(run.iter().map(|row| row["held"].as_u64()).collect::<Vec<_>>(), [Some(11), Some(0), Some(0)]);
    let by = run[0]["ended_by"].as_u64().expect("an entry");
    assert!(by > placed);

    // What is held is found and shown whole; everything else is gone, its proof is not.
    assert_eq!((found(data, "blanket"), found(data, "umbrella"), found(data, "lantern")), (10, 1, 0));
    let shown = lines(&good(&["show", &first.to_string(), "--json", "--data", data])).remove(0);
    assert_eq!((shown["ended_by"].as_u64(), said(&shown, "personal")), (Some(by), "ended".into()));
    let shown = lines(&good(&["show", &kept.to_string(), "--json", "--data", data])).remove(0);
    assert_eq!((shown["ended_by"].as_u64(), said(&shown, "personal")), (Some(by), "shown".into()));
    assert!(good(&["show", &first.to_string(), "--data", data]).contains(&format!("\"ended_by\": {by}")));
    good(&["verify", receipt.to_str().expect("UTF-8")]);
    let text = good(&["receipt", &first.to_string(), "--data", data]);
    std::fs::write(&receipt, text).expect("written");
    good(&["verify", receipt.to_str().expect("UTF-8")]);
    let after = verified(data);
    assert!(after["entries"].as_u64() > before.0["entries"].as_u64());
    // June and July have no body left; of May every ciphertext stays while a hold keeps one of them.
    let ended =
        |report: &Value| report["ended"].as_object().map(|ended| ended.values().filter_map(Value::as_u64).sum());
    assert_eq!(ended(&after), Some(331u64), "{after}");
    // A search that found something stands in the trail with its words, so these were never searched for.
    assert_eq!(in_index(data, "jquokka"), 0);
    assert!(in_index(data, "yquokka") > 0 && in_index(data, "wquokka") > 0);

    // The ticket is as what is left of it says: nothing.
    assert_eq!(lines(&good(&["list", "tickets", "--json", "--data", data])).len(), 0);
    // A record that comes late goes with what is current.
    let late = month(5, 90).lines().next().expect("a line").to_owned();
    let (status, _, told) = ingest(data, late.as_bytes(), &[]);
    assert_eq!(status, 0, "{told}");
    let shown = lines(&good(&["history", "--correlation", "o-90", "--json", "--data", data])).remove(0);
    assert_eq!(shown["record"]["late"], true, "{shown}");
    assert_eq!(found(data, "lantern"), 1);
    good(&["rebuild", "--reference", "CH-1", "--data", data]);
    assert_eq!((found(data, "blanket"), found(data, "umbrella"), found(data, "lantern")), (10, 1, 1));

    // Released, what only the hold kept is gone, from the journal too.
    good(&["hold", "release", &person, "--reason", "matter-7 closed", "--data", data]);
    assert_eq!((found(data, "blanket"), found(data, "umbrella")), (0, 1));
    assert_eq!(ended(&verified(data)), Some(331u64));
    good(&["hold", "release", &order, "--reason", "matter-8 closed", "--data", data]);
    assert_eq!((found(data, "blanket"), found(data, "umbrella")), (0, 0));
    assert_eq!((in_index(data, "yquokka"), in_index(data, "wquokka")), (0, 0));
    assert_eq!(ended(&verified(data)), Some(362u64));
    assert!(blocks(data) < before.1, "{} of {}", blocks(data), before.1);
    let holds = lines(&good(&["hold", "list", "--json", "--data", data]));
    let live = |id: &str| holds.iter().find(|hold| hold["hold_id"] == id).map(|hold| hold["live"].clone());
    assert_eq!(
        (live(&person), live(&order), live("standing")),
        (Some(false.into()), Some(false.into()), Some(true.into()))
    );
    assert!(bad(1, &["hold", "release", "standing", "--reason", "r", "--data", data]).contains("always there"));
    good(&["erase", "--customer", "c-2", "--reason", "request-1", "--yes", "--data", data]);

    // The report names each, by entry; a second run finds nothing; the other reader of the format agrees.
    let report = lines(&good(&["expire", "report", "--json", "--data", data]));
    assert_eq!(report.len(), 3);
    assert_eq!((report[0]["ended_by"].as_u64(), report[0]["entries"].as_u64()), (Some(by), Some(31)));
    assert!(good(&["expire", "run", "--data", data]).contains("0 periods ended"));
    let facts = lines(&good(&["show", &by.to_string(), "--json", "--data", data])).remove(0);
    assert_eq!(facts["record"]["legal_basis"], "nobody needs it longer");
    assert_eq!(facts["record"]["retention_days"], 30);
    let python = std::process::Command::new(interpreter()).arg(root().join("verifier/verify.py")).arg(&path).output();
    let python = python.expect("Python runs");
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stdout));

    // Each byte of what remains still counts.
    let segment = path.join("journal/0000000000.seg");
    let good_bytes = std::fs::read(&segment).expect("read");
    let zeros = good_bytes.windows(64).position(|window| window.iter().all(|byte| *byte == 0)).expect("zeros");
    let mut bytes = good_bytes.clone();
    bytes[zeros + 32] = 1;
    std::fs::write(&segment, bytes).expect("written");
    assert_eq!(candor(&["verify", data]).status.code(), Some(1));
    std::fs::write(&segment, good_bytes).expect("written");
    good(&["verify", data]);
}

/// The entry of a client id.
fn found_entry(data: &str, event: &str) -> u64 {
    let order = event.replace('e', "o");
    let found = lines(&good(&["history", "--correlation", &order, "--json", "--data", data]));
    found[0]["index"].as_u64().expect("an entry")
}

/// A source that keeps addresses whole seals its mails in another class than their kind names: a hold by kind covers them all
/// the same, and nothing ends by a journal that does not read to its end.
#[test]
fn a_hold_by_kind_covers_addresses_kept_whole_and_nothing_ends_by_a_segment_that_rotted() {
    let folder = folder();
    let path = folder.path().join("trail");
    let data = path.to_str().expect("UTF-8");
    good(&["init", "--data", data]);
    let config = path.join("candor.toml");
    let text = std::fs::read_to_string(&config).expect("read");
    let of_addresses = |days: u32| {
        let rule = format!("\n[[retention.mail_address]]\ndays = {days}\nlegal_basis = \"an example\"\n");
        let source = "\n[sources.local]\nrecipients = \"full_address\"\n";
        std::fs::write(&config, format!("{text}{source}{rule}")).expect("written");
    };
    // Long enough that what is so old has a period of its own.
    of_addresses(36_500);
    let event = |number: u32| {
        format!(
            r#"{{"timestamp":"2025-05-20T08:00:00Z","event_type":"EMAIL_DELIVERY_STATUS","correlation_id":"d-{number}","source_component":"relay","environment":"test","severity":"info","event_id":"d-{number}","recipient":"person-{number}@mail.example"}}"#
        ) + "\n"
    };
    let batch: String = (0..5).map(event).chain([month(5, 0)]).collect();
    let (status, _, told) = ingest(data, batch.as_bytes(), &[]);
    assert_eq!(status, 0, "{told}");
    good(&["hold", "place", "--kind", "EMAIL_DELIVERY_STATUS", "--reason", "matter-9", "--data", data]);
    let entry = found_entry(data, "d-3");
    of_addresses(30);
    let run = lines(&good(&["expire", "run", "--json", "--data", data]));
    assert_eq!(run.len(), 1, "{run:?}");
    assert_eq!((run[0]["class"].as_str(), run[0]["held"].as_u64()), (Some("mail_address"), Some(5)));
    let shown: Value =
        serde_json::from_str(&good(&["show", &entry.to_string(), "--json", "--data", data])).expect("JSON");
    assert!(shown["record"]["correlation_id"] == "d-3" && shown.to_string().contains("ended"), "{shown}");

    // A byte of a closed segment rots while nobody looks: what is held behind it would not be seen, so nothing ends by it.
    let segment = path.join("journal/0000000000.seg");
    assert!(path.join("journal/0000000001.seg").exists(), "the ending closed it");
    let whole = std::fs::read(&segment).expect("read");
    let mut bytes = whole.clone();
    let starts: Vec<usize> = (0..bytes.len() - 8).filter(|at| bytes[*at..at + 8] == *ledger::frame::MAGIC).collect();
    // The largest: that of the mails.
    let largest = starts.windows(2).max_by_key(|pair| pair[1] - pair[0]).expect("frames");
    bytes[(largest[0] + largest[1]) / 2] ^= 1;
    std::fs::write(&segment, &bytes).expect("written");
    retention(data, 30);
    let refused = bad(1, &["expire", "run", "--data", data]);
    assert!(refused.contains("is not ended, since what is held of it could not be kept"), "{refused}");
    assert!(lines(&good(&["expire", "report", "--json", "--data", data])).len() == 1, "no more has ended");
    std::fs::write(&segment, &whole).expect("written");
    assert_eq!(lines(&good(&["expire", "run", "--json", "--data", data])).len(), 1);
    good(&["verify", data]);
}
