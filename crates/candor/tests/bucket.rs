//! A trail whose journal is a bucket of a real SeaweedFS: the tour, a store that is killed in mid-batch, a machine that is
//! lost, and two machines that both want to write.

mod support;
#[path = "../../ledger/tests/support/weed.rs"]
mod weed;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::Server;
use support::{copy_folder, folder, good, lines};
use weed::Weed;

fn mail(number: u32) -> String {
    json!({
        "timestamp": "2026-11-20T08:00:00Z", "event_type": "EMAIL_SENT", "correlation_id": format!("o-{number}"),
        "source_component": "shop", "environment": "test", "severity": "info", "email_id": format!("m-{number}"),
        "event_id": format!("e-{number}"),
        "recipient_details": {"customer_id": format!("c-{}", number % 7), "email": format!("reader.{}@mail.example", number % 7)},
        "message_content": {"subject": format!("your kettle {number}")}, "delivery_tracking": {"delivery_status": "sent"},
    })
    .to_string()
}

/// A data directory whose configuration names a bucket.
fn configured(data: &Path, weed: &Weed, bucket: &str) {
    std::fs::create_dir_all(data).expect("made");
    let (id, secret) = weed::keys();
    let file = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    std::fs::write(data.join("bucket.keys"), file).expect("written");
    let url = format!("s3://{bucket}/shop?endpoint={}&timeout_s=3", weed.endpoint());
    let config = format!("journal = \"{url}\"\njournal_credentials = \"bucket.keys\"\n");
    std::fs::write(data.join("candor.toml"), config).expect("written");
}

/// The same, and its keys in a second bucket.
fn configured_with_keys(data: &Path, weed: &Weed, keys: &str) {
    configured(data, weed, "audit");
    let file = data.join("candor.toml");
    let url = format!("s3://{keys}/shop?endpoint={}&timeout_s=3", weed.endpoint());
    let text = std::fs::read_to_string(&file).expect("read") + &format!("keys = \"{url}\"\n");
    std::fs::write(&file, text).expect("written");
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args([name, &server.process().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// A machine that was taken over goes on, refuses the next record, and ends with the status of a failure.
fn resumes_and_ends(server: Server, append: &str, record: &str) {
    signal(&server, "-CONT");
    let refused = server.post(append, "application/x-ndjson", &[], record.as_bytes());
    assert_eq!(refused.status, 503, "{}", refused.text());
    let pid = server.process();
    until("the first ends", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(!server.stop(), "it says that it failed");
}

#[test]
fn a_lost_machine_is_read_again_from_the_bucket_and_the_keys_alone() {
    let folder = folder();
    let mut weed = Weed::start(&folder.path().join("weed"));
    weed.make("audit", true);
    let data = folder.path().join("trail");
    configured(&data, &weed, "audit");
    let server = Server::start(&data);
    let append = server.append_key();
    let batch = |from: u32| (from..from + 20).map(mail).collect::<Vec<_>>().join("\n");
    server.lines(&append, &batch(0));
    let found = server.read(&server.read_key(), "/v1/search?q=kettle&limit=5").json();
    assert_eq!(found["entries"].as_array().map(Vec::len), Some(5), "{found}");
    let receipt = server.read(&server.read_key(), "/v1/receipts/12").text();
    assert!(!data.join("journal").exists(), "the journal is in the bucket");

    // The store is killed in the middle of it all and comes back: who was not answered sends again.
    let answered = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0;
            for from in (20..400).step_by(20) {
                until("a batch is taken in the end", || {
                    let reply = server.post(&append, "application/x-ndjson", &[], batch(from).as_bytes());
                    reply.status == 200
                });
                sent += 20;
            }
            sent
        });
        std::thread::park_timeout(Duration::from_millis(300));
        weed.kill();
        std::thread::park_timeout(Duration::from_millis(900));
        weed.restart();
        sending.join().expect("it ends")
    });
    assert_eq!(answered, 380);
    assert!(server.stop());
    let text = data.to_str().expect("UTF-8");
    let verified: Value = serde_json::from_str(&good(&["verify", "--json", text])).expect("JSON");
    assert_eq!(verified["holds"], true);

    // The machine is gone. What is left is the bucket, a copy of the keys, and what the configuration says.
    let keys = folder.path().join("keys-backup");
    copy_folder(&data.join("keys"), &keys);
    std::fs::remove_dir_all(&data).expect("removed");
    let data = folder.path().join("another-machine");
    let text = data.to_str().expect("UTF-8");
    configured(&data, &weed, "audit");
    let refused = support::bad(1, &["init", "--data", text]);
    assert!(refused.contains("the bucket has a trail already"), "{refused}");
    copy_folder(&keys, &data.join("keys"));
    let found = lines(&good(&["search", "kettle", "--limit", "1000", "--json", "--data", text]));
    assert_eq!(found.len(), 400, "each once");
    let history = lines(&good(&["history", "--customer", "c-3", "--json", "--data", text]));
    let mails = history.iter().filter(|line| line["kind"] == "EMAIL_SENT").count();
    assert_eq!(mails, (0..400).filter(|number| number % 7 == 3).count());
    let again: Value = serde_json::from_str(&good(&["verify", "--json", text])).expect("JSON");
    assert!(again["holds"] == true && again["high_water_checked"] == true, "{again}");
    let file = folder.path().join("receipt.json");
    std::fs::write(&file, receipt).expect("written");
    good(&["verify", file.to_str().expect("UTF-8"), "--key", verified["vkey"].as_str().expect("a key")]);
    let started = lines(&good(&["search", "--kind", "WRITER_STARTED", "--json", "--data", text]));
    assert!(started.len() >= 2, "each writer says that it took over: {started:?}");
}

#[test]
fn of_two_machines_the_one_that_took_over_goes_on_and_the_other_ends_and_says_why() {
    let folder = folder();
    let weed = Weed::start(&folder.path().join("weed"));
    weed.make("audit", false);
    let data = folder.path().join("one");
    configured(&data, &weed, "audit");
    let one = Server::start(&data);
    let append = one.append_key();
    one.lines(&append, &mail(1));
    // The first is stopped past every time-out of its own; the second has its keys and takes over.
    signal(&one, "-STOP");
    let copy = folder.path().join("two");
    copy_folder(&data, &copy);
    let two = Server::start(&copy);
    two.lines(&append, &mail(2));
    resumes_and_ends(one, &append, &mail(3));
    two.lines(&append, &mail(3));
    assert!(two.stop());
    let text = copy.to_str().expect("UTF-8");
    let found = lines(&good(&["search", "kettle", "--json", "--data", text]));
    assert_eq!(found.len(), 3);
    let verified: Value = serde_json::from_str(&good(&["verify", "--json", text])).expect("JSON");
    assert_eq!(verified["holds"], true);
}

#[test]
fn with_keys_in_a_second_bucket_a_master_key_is_all_that_another_machine_needs() {
    let folder = folder();
    let mut weed = Weed::start(&folder.path().join("weed"));
    weed.make("audit", true);
    weed.make("keys", false);
    let data = folder.path().join("one");
    let text = data.to_str().expect("UTF-8");
    // Where nothing can be taken away, nothing can be forgotten.
    configured_with_keys(&data, &weed, "audit");
    assert!(support::bad(1, &["init", "--data", text]).contains("Object Lock"));
    configured_with_keys(&data, &weed, "keys");
    let one = Server::start(&data);
    let append = one.append_key();
    let batch = |from: u32| (from..from + 20).map(mail).collect::<Vec<_>>().join("\n");
    one.lines(&append, &batch(0));
    assert!(one.stop());
    good(&["erase", "--customer", "c-3", "--reason", "request-1", "--yes", "--data", text]);
    let one = Server::start(&data);
    // The store comes back within what a key and a frame are tried for.
    let taken = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            (20..200).step_by(20).for_each(|from| {
                until("a batch is taken in the end", || {
                    one.post(&append, "application/x-ndjson", &[], batch(from).as_bytes()).status == 200
                });
            });
        });
        std::thread::park_timeout(Duration::from_millis(200));
        weed.kill();
        std::thread::park_timeout(Duration::from_millis(900));
        weed.restart();
        sending.join().is_ok()
    });
    assert!(taken);

    // The first machine hangs. Another begins with a configuration and the master key.
    signal(&one, "-STOP");
    let other = folder.path().join("two");
    let elsewhere = other.to_str().expect("UTF-8");
    configured_with_keys(&other, &weed, "keys");
    assert!(support::bad(1, &["init", "--data", elsewhere]).contains("has a trail already"));
    std::fs::create_dir_all(other.join("keys")).expect("made");
    std::fs::copy(data.join("keys/master.key"), other.join("keys/master.key")).expect("copied");
    // Not what the trail needs: where this test notes the first key.
    std::fs::copy(data.join("tested"), other.join("tested")).expect("copied");
    let two = Server::start(&other);
    two.lines(&append, &mail(1000));
    resumes_and_ends(one, &append, &mail(2000));
    two.lines(&append, &mail(2000));
    assert!(two.stop());
    let found = lines(&good(&["search", "kettle", "--limit", "1000", "--json", "--data", elsewhere]));
    // What came later about an erased person has nothing of them either.
    let erased = (0..200).filter(|number| number % 7 == 3).count();
    assert_eq!(found.len(), 202 - erased, "each once, and nobody who was erased");
    let verified: Value = serde_json::from_str(&good(&["verify", "--json", elsewhere])).expect("JSON");
    assert_eq!(verified["holds"], true);

    // The first machine's folder catches up where it takes over again; another master key opens nothing.
    let found = lines(&good(&["search", "kettle", "--limit", "1000", "--json", "--data", text]));
    assert_eq!(found.len(), 202 - erased);
    let stranger = folder.path().join("three");
    configured_with_keys(&stranger, &weed, "keys");
    std::fs::create_dir_all(stranger.join("keys")).expect("made");
    std::fs::write(stranger.join("keys/master.key"), "5a".repeat(32) + "\n").expect("written");
    let refused = support::bad(1, &["search", "kettle", "--data", stranger.to_str().expect("UTF-8")]);
    assert!(refused.contains("master key"), "{refused}");

    // A slip in the name of the bucket begins no second place, and a bucket that is left has nothing more.
    let file = data.join("candor.toml");
    let configured = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, configured.replace("s3://keys/shop", "s3://keys/shpo")).expect("written");
    let refused = support::bad(1, &["search", "kettle", "--data", text]);
    assert!(refused.contains("follows those of another place"), "{refused}");
    std::fs::write(&file, &configured).expect("written");
    // Versions that were kept for a time are older heads.
    weed.make("kept", false);
    weed.python(
        "def keep(status): s3.put_bucket_versioning(Bucket='kept', VersioningConfiguration={'Status': status})\n\
         keep('Enabled')\n\
         for body in [b'before', b'now']: s3.put_object(Bucket='kept', Key='shop/head', Body=body)\n\
         keep('Suspended')",
    );
    std::fs::write(&file, configured.replace("s3://keys/shop", "s3://kept/shop")).expect("written");
    let refused = support::bad(1, &["search", "kettle", "--data", text]);
    assert!(refused.contains("older versions of the keys' head"), "{refused}");
    std::fs::write(&file, &configured).expect("written");
    let in_bucket = || {
        let found = weed.bucket("keys", "shop", weed.endpoint()).and_then(|bucket| bucket.versions(""));
        found.expect("listed").into_iter().map(|version| version.name).collect::<Vec<_>>()
    };
    assert!(!in_bucket().is_empty());
    assert!(good(&["keys", "leave", "--data", text]).contains("alone"));
    assert_eq!(in_bucket(), Vec::<String>::new());
    let without = configured.lines().filter(|line| !line.starts_with("keys =")).collect::<Vec<_>>().join("\n");
    std::fs::write(&file, without).expect("written");
    let found = lines(&good(&["search", "kettle", "--limit", "1000", "--json", "--data", text]));
    assert_eq!(found.len(), 202 - erased);
    // The other machine's directory follows what is no more: it says so, and goes on alone only where it is told to.
    let refused = support::bad(1, &["search", "kettle", "--data", elsewhere]);
    assert!(refused.contains("follows those of another place"), "{refused}");
    good(&["keys", "leave", "--lost", "--data", elsewhere]);
}
