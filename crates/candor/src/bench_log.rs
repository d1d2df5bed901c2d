//! The part of `candor bench` that measures the reading of a relay's log: lines a second through tokenizer and
//! correlator, and memory with many messages open. Nothing is recorded.

use std::io::Write;
use std::time::Instant;

use proof::time::UnixMillis;
use serde_json::json;
use sources::postfix::correlate::{Correlator, Options};
use sources::postfix::event::{Common, Event};

use crate::bench::resident_mib;
use crate::generate::Seed;

/// Lines of one message's life, each with the name of its daemon. `ID`, `MID` and `TO` stand for its own.
const LIFE: [(&str, &str); 5] = [
    ("smtpd", "ID: client=app.shop.example[127.0.0.1]"),
    ("cleanup", "ID: message-id=<MID.4711.20260105@mail.shop.example>"),
    ("qmgr", "ID: from=<orders@shop.example>, size=24210, nrcpt=1 (queue active)"),
    (
        "smtp",
        "ID: to=<TO@mail.example>, relay=mx.mail.example[192.0.2.1]:25, delay=1.2, delays=0.1/0/0.5/0.6, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4ZKQyz1XyZz9)",
    ),
    ("qmgr", "ID: removed"),
];
/// Messages whose lines stand between each other's.
const OVERLAP: usize = 200;

fn log(lines: u64) -> Vec<u8> {
    let mut seed = Seed(5);
    let mut out = Vec::with_capacity(lines as usize * 170);
    let mut open: Vec<(u64, usize)> = Vec::new();
    let mut next = 0u64;
    for line in 0..lines {
        if open.len() < OVERLAP {
            next += 1;
            open.push((next, 0));
        }
        let pick = (seed.next() % open.len() as u64) as usize;
        let (message, step) = open[pick];
        let (daemon, text) = LIFE[step];
        let text = text
            .replace("MID", &message.to_string())
            .replace("ID", &format!("4Zb{message:09X}z"))
            .replace("TO", &format!("c{}", message % 50_000));
        let second = line / 400;
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        let _ = writeln!(
            out,
            "2026-01-05T{hour:02}:{minute:02}:{second:02}.1+02:00 mx1.shop.example postfix/{daemon}[77]: {text}"
        );
        open[pick].1 += 1;
        if open[pick].1 == LIFE.len() {
            open.swap_remove(pick);
        }
    }
    out
}

/// Reads `lines` lines, then holds `open` messages.
pub fn measure(lines: u64, open: u64) -> serde_json::Value {
    let log = log(lines);
    let seen = UnixMillis(1_767_700_000_000);
    let common = Common { component: "smtp-relay".into(), environment: "production".into() };
    let mut correlator = Correlator::new(Options { keep_addresses: true, ..Options::default() });
    let (mut records, mut bytes, mut buffer) = (0u64, 0u64, Vec::new());
    let start = Instant::now();
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        correlator.line(line, seen, &mut |event| {
            if let Event::Observed(observation) = event {
                buffer.clear();
                observation.write(&common, &mut buffer);
                records += 1;
                bytes += buffer.len() as u64;
            }
        });
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(correlator);
    let before = resident_mib("self");
    let mut correlator = Correlator::new(Options { messages_max: open as usize, ..Options::default() });
    for message in 0..open {
        for (daemon, text) in &LIFE[..3] {
            let text = text.replace("MID", &message.to_string()).replace("ID", &format!("4Zb{message:09X}z"));
            let line = format!("2026-01-05T10:00:00.1+02:00 mx1.shop.example postfix/{daemon}[77]: {text}");
            correlator.line(line.as_bytes(), seen, &mut |_| {});
        }
        let text = LIFE[3].1.replace("ID", &format!("4Zb{message:09X}z")).replace("sent", "deferred");
        let line = format!("2026-01-05T10:00:00.1+02:00 mx1.shop.example postfix/smtp[77]: {text}");
        correlator.line(line.as_bytes(), seen, &mut |_| {});
    }
    let held = correlator.open();
    let mib = resident_mib("self") - before;
    json!({
        "lines": lines, "lines_a_second": (lines as f64 / seconds) as u64, "records": records,
        "bytes_a_record": bytes / records.max(1), "open_messages": held, "open_messages_mib": mib,
        "bytes_an_open_message": (mib * 1_048_576.0 / held.max(1) as f64) as u64,
    })
}
