//! Two hundred kills while records are written: nothing answered is missing, nothing is half there.
//!
//! The writer is the real binary; each answer it prints is read by this process, outside the one that dies.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use support::{CANDOR, candor, folder, good};

/// Kills. At least three quarters must hit a batch in flight.
const KILLS: u64 = 200;
const IN_FLIGHT_MIN: u64 = 150;
/// Lines fed to each child: several batches.
const ROUND_LINES: u64 = 512;

fn line(i: u64) -> String {
    let text = "a delivery note about kettles and lanterns ".repeat(6);
    format!(
        r#"{{"timestamp":"2026-11-21T10:00:00Z","event_type":"EMAIL_SENT","correlation_id":"crash-{i}","source_component":"relay","environment":"test","severity":"info","event_id":"crash-{i}","email_id":"m{i}@shop.example","recipient_details":{{"customer_id":"c-{}"}},"message_content":{{"subject":"{text}"}}}}"#,
        i % 97
    )
}

#[test]
fn two_hundred_kills_lose_nothing_answered() {
    let folder = folder();
    let data = folder.path().join("trail");
    let data = data.to_str().expect("UTF-8").to_owned();
    good(&["init", "--data", &data]);
    let mut sent = 0u64;
    let mut answered: BTreeSet<u64> = BTreeSet::new();
    let mut in_flight = 0;
    for round in 0..KILLS {
        let mut child = Command::new(CANDOR)
            .args(["ingest", "--data", &data, "-", "--answers", "--batch-lines", "64"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let start = sent;
        let feeder = std::thread::spawn(move || {
            // The pipe stays open behind the last line, so the child never ends by itself.
            for i in start..start + ROUND_LINES {
                if writeln!(input, "{}", line(i)).is_err() {
                    break;
                }
            }
            input
        });
        // What is answered is read here, outside the process that dies. The kill comes a moment after the first
        // answer, while later batches are being sealed, written or synced.
        let (first, killer) = std::sync::mpsc::channel::<()>();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            for line in output.lines().map_while(Result::ok) {
                got.extend(line.split_once(' ').and_then(|(number, _)| number.parse::<u64>().ok()));
                let _ = first.send(());
            }
            got
        });
        killer.recv().expect("a first answer");
        let wait = u64::from(proof::hash::sha256(&round.to_be_bytes()).0[0]) * 20;
        let (_never, timer) = std::sync::mpsc::channel::<()>();
        let _ = timer.recv_timeout(std::time::Duration::from_micros(wait));
        child.kill().expect("killed");
        child.wait().expect("ended");
        drop(feeder.join().expect("fed"));
        let got = reader.join().expect("read");
        in_flight += u64::from((got.len() as u64) < ROUND_LINES);
        sent += ROUND_LINES;
        answered.extend(got.iter().map(|line| start + line - 1));
    }
    println!("{KILLS} kills, {in_flight} with a batch in flight, {} of {sent} records answered", answered.len());
    assert!(in_flight >= IN_FLIGHT_MIN, "{in_flight}");
    assert!(!answered.is_empty());
    // The last kill may have left half a frame, which the next start leaves out.
    good(&["search", "--data", &data, "nothing"]);
    good(&["verify", &data]);
    // Everything answered is there: sent again, each is a repeat with the same content.
    let lines: String = answered.iter().map(|i| line(*i) + "\n").collect();
    let (status, said, _) = support::ingest(&data, lines.as_bytes(), &[]);
    assert_eq!((status, said.trim().to_owned()), (0, format!("0 accepted, {} repeated, 0 refused", answered.len())));
    // Nothing unanswered is half there: every entry opens, and each id stands once.
    let shown = good(&["history", "--data", &data, "--customer", "c-5", "--json"]);
    let ids: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.split("\"event_id\":\"").nth(1)?.split('"').next())
        .filter(|id| id.starts_with("crash-"))
        .collect();
    let unique: BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len());
    assert_eq!(candor(&["verify", &data]).status.code(), Some(0));
    assert_eq!(support::python(data.as_ref()).0, 0);
}
