//! A relay's log through the real binary: what becomes of each message, over rotation and kills. Hosts, addresses and
//! networks are reserved ones.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use ledger::directory::scan;
use ledger::disk::{Disk, RealDisk};
use support::http::Server;
use support::{CANDOR, bad, candor, copy_folder, folder, good};

/// Kills while the log is written and rotated.
const KILLS: u64 = 50;
/// Lines of that log; a million by `CANDOR_TEST_LOG_LINES=1000000`.
const LOG_LINES: usize = 60_000;
/// Writing it takes about as long as the kills.
const WRITING_MS: u64 = 8_000;

/// A small generator of numbers that are the same each time (SplitMix64; Steele, Lea, Flood, 2014).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A log of about `lines` lines: messages that overlap, with every outcome, one in fifty without its delivery line.
fn log(lines: usize) -> Vec<String> {
    let mut numbers = Numbers(7);
    let mut out = Vec::new();
    let mut waiting: Vec<(String, Vec<String>)> = Vec::new();
    let mut message = 0u64;
    while out.len() < lines {
        if waiting.len() < 20 {
            message += 1;
            let id = format!("{:X}", 0x4A00_0000 + message * 16);
            let to = format!("c{}@mail.example", numbers.below(5000));
            let relay = "relay=mx.mail.example[192.0.2.1]:25, delay=1.2, delays=0.1/0/0.5/0.6";
            let sent = format!("smtp[7]: {id}: to=<{to}>, {relay}, dsn=2.0.0, status=sent (250 2.0.0 Ok)");
            let later = format!(
                "smtp[7]: {id}: to=<{to}>, {relay}, dsn=4.2.2, status=deferred (host mx.mail.example[192.0.2.1] said: 452 4.2.2 full)"
            );
            let never = format!(
                "smtp[7]: {id}: to=<{to}>, {relay}, dsn=5.1.1, status=bounced (host mx.mail.example[192.0.2.1] said: 550 5.1.1 <{to}>: no such user)"
            );
            let active = format!("qmgr[2]: {id}: from=<orders@shop.example>, size=2000, nrcpt=1 (queue active)");
            let mut life = vec![
                format!("smtpd[3]: {id}: client=localhost[127.0.0.1]"),
                format!("cleanup[4]: {id}: message-id=<{message}@shop.example>"),
                active.clone(),
            ];
            match numbers.below(50) {
                0 => {}
                1..=5 => life.push(never),
                6..=10 => life.extend([later, active, sent]),
                _ => life.push(sent),
            }
            life.push(format!("qmgr[2]: {id}: removed"));
            life.reverse();
            waiting.push((id, life));
        }
        let pick = numbers.below(waiting.len() as u64) as usize;
        let text = waiting[pick].1.pop().expect("a life has a line");
        if waiting[pick].1.is_empty() {
            waiting.swap_remove(pick);
        }
        let second = out.len() / 40;
        let (day, hour) = (second / 86_400 + 1, second / 3600 % 24);
        let (minute, second) = (second / 60 % 60, second % 60);
        out.push(format!("2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}+02:00 mx1.shop.example postfix/{text}"));
    }
    out
}

/// (kind, id) of every entry that comes of a log.
fn entries(data: &Path) -> BTreeSet<(String, [u8; 16])> {
    let disk = RealDisk::new(&data.join("journal"));
    let mut found = BTreeSet::new();
    for number in 0..disk.segments().expect("segments") {
        scan(&disk, number, |frame, _| {
            let section = frame.entries().expect("an entry section");
            for place in 0..section.len() {
                let record = section.record(place).expect("a record");
                if record.class == "mail_event" || record.kind == "INGEST_GAP" {
                    assert!(found.insert((record.kind.to_owned(), record.id.0)), "{} twice", record.kind);
                }
            }
            Ok(())
        })
        .expect("the segment holds");
    }
    found
}

fn follow(data: &str, log: &str) -> Child {
    Command::new(CANDOR)
        .args(["ingest", "--data", data, "--format", "postfix", "--follow", log])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs")
}

fn wait(milliseconds: u64) {
    let (_never, timer) = channel::<()>();
    let _ = timer.recv_timeout(Duration::from_millis(milliseconds));
}

/// Appends lines with torn writes, and rotates: by renaming, and by copying and cutting.
fn write_log(path: &Path, lines: &[String]) {
    let mut numbers = Numbers(11);
    let open = || OpenOptions::new().append(true).create(true).open(path).expect("the log");
    let mut file = open();
    let rotations = 10;
    let mut rotated = 0;
    for (at, line) in lines.iter().enumerate() {
        let line = format!("{line}\n");
        let (first, rest) = line.as_bytes().split_at(numbers.below(line.len() as u64) as usize);
        file.write_all(first).expect("written");
        if at % 500 == 0 {
            wait(WRITING_MS * 500 / lines.len() as u64);
        }
        file.write_all(rest).expect("written");
        if at * (rotations + 1) / lines.len() > rotated {
            rotated += 1;
            for number in (1..rotated).rev() {
                let name = |number: usize| path.with_extension(format!("log.{number}"));
                std::fs::rename(name(number), name(number + 1)).expect("renamed");
            }
            let first = path.with_extension("log.1");
            if rotated.is_multiple_of(2) {
                std::fs::rename(path, &first).expect("renamed");
            } else {
                std::fs::copy(path, &first).expect("copied");
                File::options().write(true).open(path).and_then(|log| log.set_len(0)).expect("cut");
            }
            file = open();
        }
    }
}

#[test]
fn fifty_kills_over_rotations_lose_and_double_no_line() {
    let folder = folder();
    let count = std::env::vars().find(|(name, _)| name == "CANDOR_TEST_LOG_LINES");
    let count = count.and_then(|(_, value)| value.parse().ok()).unwrap_or(LOG_LINES);
    let lines = log(count);
    let (once, killed) = (folder.path().join("once"), folder.path().join("killed"));
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    good(&["init", "--data", &text(&once)]);
    copy_folder(&once, &killed);
    let whole = folder.path().join("whole.log");
    std::fs::write(&whole, lines.join("\n") + "\n").expect("written");
    let summary = good(&["ingest", "--data", &text(&once), "--format", "postfix", &text(&whole), "--json"]);
    let summary: BTreeMap<String, serde_json::Value> = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["log_lines"], lines.len());

    let rotated = folder.path().join("logs");
    std::fs::create_dir(&rotated).expect("made");
    let path = rotated.join("mail.log");
    File::create(&path).expect("made");
    let writer = {
        let (path, lines) = (path.clone(), lines.clone());
        std::thread::spawn(move || write_log(&path, &lines))
    };
    let mut numbers = Numbers(13);
    for kill in 0..KILLS {
        let mut child = follow(&text(&killed), &text(&path));
        // Most before they put a state in place, some after.
        wait(if kill % 5 == 4 { 600 } else { 50 + numbers.below(150) });
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    writer.join().expect("written");
    let last = candor(&["ingest", "--data", &text(&killed), "--format", "postfix", &text(&path)]);
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    println!("{KILLS} kills over {} lines; {}", lines.len(), String::from_utf8_lossy(&last.stdout).trim());

    let (straight, survived) = (entries(&once), entries(&killed));
    let missing: Vec<_> = straight.difference(&survived).map(|(kind, _)| kind).collect();
    let more: Vec<_> = survived.difference(&straight).map(|(kind, _)| kind).collect();
    let (first, other) = (missing.first(), more.first());
    assert!(
        first.is_none() && other.is_none(),
        "{} missing ({first:?}), {} more ({other:?})",
        missing.len(),
        more.len()
    );
    assert!(straight.iter().any(|(kind, _)| kind == "INGEST_GAP"));
    good(&["verify", &text(&killed)]);
}

/// The status of each EMAIL_DELIVERY_STATUS in a trail, counted.
fn statuses(data: &str) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let hits = good(&["search", "--data", data, "--kind", "EMAIL_DELIVERY_STATUS", "--limit", "50", "--json"]);
    for line in hits.lines() {
        let hit: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let index = hit["index"].to_string();
        let shown: serde_json::Value =
            serde_json::from_str(&good(&["show", "--data", data, &index, "--json"])).expect("JSON");
        *found.entry(shown["record"]["status"].as_str().expect("a status").to_owned()).or_insert(0) += 1;
    }
    found
}

const DEFERRED: &str = "2026-01-05T10:00:00+02:00 mx1 postfix/smtpd[3]: AB12CD: client=localhost[127.0.0.1]
2026-01-05T10:00:00+02:00 mx1 postfix/cleanup[4]: AB12CD: message-id=<m-1@shop.example>
2026-01-05T10:00:00+02:00 mx1 postfix/qmgr[2]: AB12CD: from=<orders@shop.example>, size=2000, nrcpt=2 (queue active)
2026-01-05T10:00:01+02:00 mx1 postfix/smtp[7]: AB12CD: to=<thabo@mail.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx.mail.example[192.0.2.1]:25: Connection timed out)
2026-01-05T10:00:01+02:00 mx1 postfix/smtp[7]: AB12CD: to=<lerato@mail.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx.mail.example[192.0.2.1]:25: Connection timed out)
";
const EXPIRED: &str = "2026-01-10T10:00:00+02:00 mx1 postfix/qmgr[2]: AB12CD: from=<orders@shop.example>, status=expired, returned to sender
2026-01-10T10:00:00+02:00 mx1 postfix/qmgr[2]: AB12CD: removed
";

#[test]
fn an_address_that_waits_is_known_at_its_expiry_and_an_erased_one_is_not() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    good(&["init", "--data", &text(&data)]);
    std::fs::write(data.join("candor.toml"), "[sources.relay]\nrecipients = \"full_address\"\n").expect("written");
    let log = folder.path().join("mail.log");
    std::fs::write(&log, DEFERRED).expect("written");
    let ingest = ["ingest", "--data", &text(&data), "--format", "postfix", "--source", "relay", &text(&log)];
    good(&ingest);
    good(&["erase", "--data", &text(&data), "--address", "thabo@mail.example", "--reason", "asked", "--yes"]);
    File::options().append(true).open(&log).and_then(|mut log| log.write_all(EXPIRED.as_bytes())).expect("written");
    let summary = good(&ingest);
    assert!(summary.contains("4 accepted"), "{summary}");
    let history = |address: &str| candor(&["history", "--data", &text(&data), "--address", address]);
    let kept = String::from_utf8_lossy(&history("lerato@mail.example").stdout).into_owned();
    assert!(kept.contains("expired") && kept.contains("deferred"), "{kept}");
    let gone = history("thabo@mail.example");
    assert!(!String::from_utf8_lossy(&gone.stdout).contains("expired"), "{gone:?}");
    // The erased person's deferral is not found any more; that a second recipient's mail expired still is.
    assert_eq!(statuses(&text(&data)), BTreeMap::from([("deferred".into(), 1), ("expired".into(), 2)]));
}

#[test]
fn a_reading_that_goes_on_drops_who_is_erased_meanwhile() {
    let folder = folder();
    let (data, log) = (folder.path().join("trail"), folder.path().join("mail.log"));
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    std::fs::write(data.join("tested"), "").expect("written");
    let config = format!("[sources.relay]\nrecipients = \"full_address\"\nlog = {log:?}\n");
    std::fs::write(data.join("candor.toml"), config).expect("written");
    std::fs::write(&log, DEFERRED).expect("written");
    let read =
        good(&["apikey", "add", "--data", text, "--scope", "read", "--role", "compliance_officer"]).trim().to_owned();
    let server = Server::start(&data);
    let until = |count: usize| {
        let start = std::time::Instant::now();
        loop {
            let found = server.read(&read, "/v1/search?kind=EMAIL_DELIVERY_STATUS&limit=50").json();
            if found["entries"].as_array().is_some_and(|entries| entries.len() >= count) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{found}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    };
    until(2);
    good(&["erase", "--data", text, "--address", "thabo@mail.example", "--reason", "asked", "--yes"]);
    File::options().append(true).open(&log).and_then(|mut log| log.write_all(EXPIRED.as_bytes())).expect("written");
    until(3);
    assert!(server.stop());
    let history = |address: &str| candor(&["history", "--data", text, "--address", address]);
    let kept = String::from_utf8_lossy(&history("lerato@mail.example").stdout).into_owned();
    assert!(kept.contains("expired") && kept.contains("deferred"), "{kept}");
    let gone = history("thabo@mail.example");
    assert!(!String::from_utf8_lossy(&gone.stdout).contains("expired"), "{gone:?}");
    assert_eq!(statuses(text), BTreeMap::from([("deferred".into(), 1), ("expired".into(), 2)]));
}

#[test]
fn a_message_that_was_announced_goes_by_its_announcement() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    good(&["init", "--data", &text(&data)]);
    let announced = r#"{"timestamp":"2026-01-05T07:59:00Z","event_type":"NOTIF_CREATED","correlation_id":"wf-4711","source_component":"shop","environment":"test","severity":"info","message_id":"m-1@shop.example"}"#;
    assert_eq!(support::ingest(&text(&data), announced.as_bytes(), &[]).0, 0);
    let log = folder.path().join("mail.log");
    std::fs::write(&log, DEFERRED).expect("written");
    good(&["ingest", "--data", &text(&data), "--format", "postfix", &text(&log)]);
    let history = good(&["history", "--data", &text(&data), "--correlation", "wf-4711"]);
    assert_eq!(history.lines().count(), 6, "{history}");
}

#[test]
fn junk_between_good_lines_is_counted_and_nothing_good_is_lost() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    good(&["init", "--data", &text(&data)]);
    let log = folder.path().join("mail.log");
    let mut bytes = b"\x00\xff\xfe not a line\nJan  5 10:00:00 mx1 sshd[1]: Accepted publickey\n".to_vec();
    bytes.extend_from_slice("x".repeat(10 << 20).as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(DEFERRED.replace('\n', "\r\n").as_bytes());
    std::fs::write(&log, bytes).expect("written");
    let output = candor(&["ingest", "--data", &text(&data), "--format", "postfix", &text(&log), "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let counts = ["log_lines", "other_lines", "unknown_lines", "accepted", "open_messages"];
    assert_eq!(counts.map(|name| summary[name].as_u64().unwrap_or(99)), [8, 1, 2, 5, 1], "{summary}");
    let follow = ["ingest", "--data", &text(&data), "--format", "jsonl", "--follow", &text(&log)];
    assert!(bad(1, &follow).contains("--follow is for a log file"));
}
