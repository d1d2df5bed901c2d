//! After an erasure no file has the person, opened with every key that still lives.
//!
//! The same search runs first as its own control: before the erasure it must find the person in at least five places.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::disk::RealDisk;
use ledger::ledger::{Ledger, Options};
use ledger::segment::Identity;
use proof::note::{NoteSigner, TYPE_ED25519};
use record::identifier::IdentifierType::{Address, CustomerId};
use seal::crypto::{KeyedHash, subkey};
use seal::master::MasterKey;
use seal::store::{KeyStore, Named};
use support::http::Server;
use support::{folder, good, ingest, root};

const NAME: &str = "quintessa";
const FULL_NAME: &str = "Quintessa Zwaneburg";
const ADDRESS: &str = "quintessa.z@erase.example";
const CUSTOMER: &str = "c-erase-1";

fn record(i: u32, kind: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-20T10:00:0{i}Z","event_type":"{kind}","correlation_id":"e-{i}","source_component":"shop","environment":"test","severity":"info","event_id":"e-{kind}-{i}","email_id":"e{i}@shop.example","recipient_details":{{"customer_id":"{CUSTOMER}","email":"{ADDRESS}","name":"{FULL_NAME}"}},"message_content":{{"subject":"Dear Quintessa, about your zebrafinch"}}}}"#
    )
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    let lower = bytes.to_ascii_lowercase();
    lower.windows(wanted.len()).any(|window| window == wanted.to_lowercase().as_bytes())
}

/// Where the person can be found with the living keys.
fn places(data: &Path) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for file in support::files(data) {
        let bytes = std::fs::read(&file).expect("readable");
        assert!(
            !contains(&bytes, NAME) && !contains(&bytes, ADDRESS) && !contains(&bytes, CUSTOMER),
            "in clear in {}",
            file.display()
        );
    }
    let master = MasterKey::read(&data.join("keys/master.key")).expect("the key");
    let mut store = KeyStore::open(&data.join("keys"), master).expect("it opens");
    for tag in [store.identifier_tag(CustomerId, CUSTOMER), store.identifier_tag(Address, ADDRESS)] {
        if !store.closure(&tag).expect("readable").is_empty() {
            found.insert("identifiers");
        }
    }
    let signer = NoteSigner::new(store.origin(), TYPE_ED25519, store.named(Named::LogSigning).expose()).expect("a key");
    let derived = support::folder();
    let ledger = Ledger::open(Options {
        journal: ledger::home::Home::Directory(Arc::new(RealDisk::new(&data.join("journal")))),
        derived: derived.path().to_owned(),
        high_water: vec![data.join("keys/highwater")],
        mac: KeyedHash::new(subkey(&store.named(Named::Id), "candor/v1/highwater\n").expose()),
        identity: Identity::new(signer.verifier().name().to_owned(), signer.verifier().to_string()),
        signers: vec![signer],
        clock: Arc::new(ledger::clock::SystemClock),
        accept_clock: true,
        key_generation: store.generation(),
        writer: 1,
        segment_bytes_max: None,
    })
    .expect("it opens");
    let reader = ledger.reader();
    let living: Vec<_> =
        (1..=store.subject_count()).filter_map(|number| store.subject(number).expect("readable")).collect();
    let mut theirs = BTreeSet::new();
    for index in 0..reader.size() {
        let stored = reader.entry(index).expect("an entry");
        let entry = stored.entry().expect("an entry");
        let Some(sealed) = &stored.sealed else { continue };
        let parts = seal::sealed::Parts::parse(sealed).expect("sealed");
        let period = store.period_by_id(parts.period).expect("a living period");
        let mut bodies = vec![(None, seal::sealed::Role::Facts, entry.facts)];
        if let Some(personal) = &entry.personal {
            bodies.extend(
                living
                    .iter()
                    .map(|subject| (Some(&subject.sealing), seal::sealed::Role::Personal, personal.commitment)),
            );
        }
        for (subject, role, commitment) in bodies {
            let keys = seal::sealed::OpeningKeys { origin: store.origin(), id: entry.id, period: &period, subject };
            // Opening expands what is compressed.
            let Ok(body) = parts.open(&keys, role, &commitment) else { continue };
            if body.fields().iter().any(|field| contains(field.value, NAME) || contains(field.value, CUSTOMER)) {
                found.insert(if role == seal::sealed::Role::Facts { "facts" } else { "journal" });
                theirs.insert(index);
            }
        }
    }
    for subject in &living {
        let entries = reader.entries_of(&subject.tagger, 1000).expect("readable");
        if entries.iter().any(|entry| theirs.contains(entry)) {
            found.insert("tags");
        }
    }
    let view = store.named(Named::View);
    for file in support::files(&data.join("views")) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("states.db")) {
            let raw = std::fs::read(&file).expect("readable");
            let clear = match file.extension().is_some_and(|end| end == "db") {
                true => views::inspect::clear_states(&view, &file).expect("its boxes open"),
                false => Vec::new(),
            };
            if contains(&raw, NAME) || contains(&clear, NAME) || contains(&raw, CUSTOMER) || contains(&clear, CUSTOMER)
            {
                found.insert("states");
            }
            continue;
        }
        let Ok(clear) = views::inspect::clear_content(&view, &file) else {
            assert!(file.extension().is_some_and(|e| e == "log"), "{} does not open", file.display());
            assert_eq!(std::fs::metadata(&file).expect("there").len(), 0, "after a clean stop");
            continue;
        };
        let name = file.strip_prefix(data).expect("below").to_str().expect("UTF-8").to_owned();
        if name.starts_with("views/index/") && (contains(&clear, NAME) || contains(&clear, "zwaneburg")) {
            found.insert("index");
        }
        if name.ends_with(".own") {
            let owner = |index: u64| clear.chunks_exact(8).nth(index as usize).is_some_and(|owner| owner != [0; 8]);
            if theirs.iter().any(|index| owner(*index))
                || THEIRS.with_borrow(|held| held.iter().any(|index| owner(*index)))
            {
                found.insert("owners");
            }
        }
    }
    THEIRS.with_borrow_mut(|held| held.extend(theirs));
    found
}

thread_local! {
    /// The person's entries, as the control found them: afterwards nothing else can tell.
    static THEIRS: std::cell::RefCell<BTreeSet<u64>> = const { std::cell::RefCell::new(BTreeSet::new()) };
}

#[test]
fn no_file_has_the_person_once_they_are_erased() {
    THEIRS.with_borrow_mut(BTreeSet::clear);
    let folder = folder();
    let trail = folder.path().join("trail");
    let data = trail.to_str().expect("UTF-8");
    let sample = root().join("examples/mail.jsonl");
    good(&["ingest", "--init", "--data", data, sample.to_str().expect("UTF-8")]);
    let lines: String = (0..5).map(|i| record(i, "EMAIL_SENT") + "\n").collect();
    assert_eq!(ingest(data, lines.as_bytes(), &[]).0, 0);
    assert_eq!(good(&["search", "--data", data, NAME, "zebrafinch"]).lines().count(), 5);
    let control = places(&trail);
    println!("before the erasure the person is found in {control:?}");
    assert!(control.len() >= 5, "{control:?}");
    good(&["erase", "--data", data, "--customer", CUSTOMER, "--reason", "DSR-9", "--yes"]);
    assert_eq!(places(&trail), BTreeSet::new());
    // A search for the name and a late record about them bring nothing back.
    assert_eq!(good(&["search", "--data", data, NAME]), "");
    assert_eq!(good(&["search", "--data", data, "zebrafinch"]), "");
    assert_eq!(ingest(data, record(7, "EMAIL_BOUNCED").as_bytes(), &[]).0, 0);
    assert_eq!(places(&trail), BTreeSet::new());
    good(&["rebuild", "--reference", "CH-1", "--data", data]);
    assert_eq!(places(&trail), BTreeSet::new());
    good(&["verify", data]);
}

/// While others write about them and about somebody else, and while they are read.
#[test]
fn nor_where_a_server_runs_and_goes_on_meanwhile() {
    THEIRS.with_borrow_mut(BTreeSet::clear);
    let folder = folder();
    let trail = folder.path().join("trail");
    let data = trail.to_str().expect("UTF-8");
    good(&["init", "--data", data]);
    let lines: String = (0..5).map(|i| record(i, "EMAIL_SENT") + "\n").collect();
    assert_eq!(ingest(data, lines.as_bytes(), &[]).0, 0);
    assert!(places(&trail).len() >= 5);
    let server = Server::start(&trail);
    let (append, read) = (server.append_key(), server.read_key());
    let stop = AtomicBool::new(false);
    let certificate = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut written = 0;
            while !stop.load(Ordering::Acquire) {
                let more = |line: &str| line.replace("\"e-EMAIL", &format!("\"w{written}-EMAIL"));
                let theirs: String = (0..9).map(|i| more(&record(i, "EMAIL_OPENED")) + "\n").collect();
                let others = theirs.replace(CUSTOMER, "c-other").replace(ADDRESS, "other@erase.example");
                server.lines(&append, &(theirs + &others.replace("\"w", "\"o")));
                written += 1;
            }
            written
        });
        let reading = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                server.read(&read, &format!("/v1/search?q={NAME}"));
            }
        });
        std::thread::park_timeout(Duration::from_millis(300));
        let said = good(&["erase", "--data", data, "--customer", CUSTOMER, "--reason", "DSR-9", "--yes", "--json"]);
        std::thread::park_timeout(Duration::from_millis(300));
        stop.store(true, Ordering::Release);
        assert!(writing.join().is_ok_and(|written| written > 1) && reading.join().is_ok());
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")
    });
    assert!(certificate["entries"].as_u64().is_some_and(|entries| entries > 5), "{certificate}");
    let found = server.read(&read, &format!("/v1/search?q={NAME}")).json();
    // Somebody else is called so too.
    assert!(found["entries"].as_array().is_some_and(|entries| !entries.is_empty()), "{found}");
    let told = support::bad(1, &["erase", "--data", data, "--customer", CUSTOMER, "--reason", "again", "--yes"]);
    assert!(told.contains("nobody is known"), "{told}");
    assert!(server.stop());
    good(&["erase", "--data", data, "--customer", "c-other", "--reason", "DSR-10", "--yes"]);
    assert_eq!(places(&trail), BTreeSet::new());
    good(&["verify", data]);
}
