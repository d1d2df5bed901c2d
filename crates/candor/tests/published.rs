//! The published proof plane, read by a client of c2sp.org/tlog-tiles in another language while the log grows, in clear
//! and over TLS.

mod support;

use std::process::{Command, Output};

use support::http::{Server, certificate};
use support::{folder, good, interpreter, root};

/// Entries that the log grows to.
const SIZE: u64 = 100_000;
/// Records in a request.
const BATCH: u64 = 1000;

fn client(prefix: &str, vkey: &str, key: &str, more: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    command.arg(root().join("verifier/tiles.py")).args([prefix, vkey, "--bearer", key]).args(more);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn record(n: u64) -> String {
    format!(
        r#"{{"timestamp":"2026-11-20T10:00:00Z","event_type":"NOTIF_CREATED","correlation_id":"p-{n}","source_component":"shop","environment":"test","severity":"info","event_id":"p-{n}"}}"#
    )
}

#[test]
fn a_strangers_client_follows_the_log_from_its_start_to_a_hundred_thousand() {
    let folder = folder();
    let data = folder.path().join("trail");
    good(&["init", "--data", data.to_str().expect("UTF-8"), "--origin", "audit.example/log7"]);
    std::fs::write(data.join("tested"), "").expect("written");
    let text = data.to_str().expect("UTF-8");
    let read = good(&["apikey", "add", "--data", text, "--scope", "mirror"]).trim().to_owned();
    let write = good(&["apikey", "add", "--data", text, "--scope", "append", "--source", "local"]).trim().to_owned();
    let server = Server::start(&data);
    let checkpoint = server.get(&read, "/v1/checkpoint").json();
    let vkey = checkpoint["vkey"].as_str().expect("a key").to_owned();
    let prefix = format!("http://{}/trail/log7/", server.address);
    let follower = {
        let mut command = client(&prefix, &vkey, &read, &["--until", &SIZE.to_string()]);
        std::thread::spawn(move || command.output().expect("python3 runs"))
    };
    let mut size = 0;
    let mut n = 0;
    while size < SIZE {
        let lines: String = (n..n + BATCH).map(|n| record(n) + "\n").collect();
        n += BATCH;
        size = server.lines(&write, &lines)["tree_size"].as_u64().expect("a size");
    }
    let output = follower.join().expect("it ends");
    println!("{}", said(&output).trim());
    assert!(output.status.success(), "{}", said(&output));
    // The control: another key must not hold.
    let other = "audit.example/log7+640a250f+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    assert!(!client(&prefix, other, &read, &[]).status().expect("python3 runs").success());
    assert!(server.stop());
}

#[test]
fn the_same_over_tls_and_in_clear_not_at_all() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text, "--origin", "audit.example/log8"]);
    std::fs::write(data.join("tested"), "").expect("written");
    let read = good(&["apikey", "add", "--data", text, "--scope", "mirror"]).trim().to_owned();
    let vkey = good(&["verify", text]).lines().find_map(|line| line.strip_prefix("trail: ").map(str::to_owned));
    let (certificate, key) = certificate(folder.path());
    let config = format!("tls_certificate = {certificate:?}\ntls_key = {key:?}\n");
    std::fs::write(data.join("candor.toml"), config).expect("written");
    let server = Server::start(&data);
    let prefix = format!("https://{}/trail/log8/", server.address);
    let cafile = certificate.to_str().expect("UTF-8");
    let output = client(&prefix, &vkey.expect("a key"), &read, &["--cafile", cafile]).output().expect("python3 runs");
    assert!(output.status.success(), "{}", said(&output));
    let plain = std::panic::catch_unwind(|| server.get(&read, "/v1/checkpoint").status);
    assert!(plain.is_err(), "no HTTP is spoken in clear");
    assert!(server.stop());
}
