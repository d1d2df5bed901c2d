//! `candor ingest`: lines from a file or standard input, in batches, over several workers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use ledger::background::{LAST, step_back};
use reads::guard::OwnRecord;
use record::minimal::RECORD_BYTES_MAX;

use crate::intake::{Accepted, Intake, LineAnswer, Prepared, Refused, Sent, Why, Worker, refusal_record};
use crate::progress::Progress;

/// Lines in a batch.
pub const BATCH_LINES: u16 = 512;
/// Refusals shown on standard error, at most; all are counted.
const SHOWN_MAX: u64 = 20;

/// What is printed while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing: the caller measures.
    Nothing,
    /// Refusals, on standard error.
    Refusals,
    /// Each answered line's number and entry index too, on standard output.
    Answers,
}

/// What came of an input.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub struct Summary {
    pub lines: u64,
    pub accepted: u64,
    pub repeated: u64,
    /// Of these, repeats of what is older than 30 days.
    pub repeated_late: u64,
    pub conflicts: u64,
    pub refused: u64,
    pub refused_by_reason: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    refusals: BTreeMap<Why, u64>,
    pub first_index: Option<u64>,
    pub last_index: Option<u64>,
    pub interrupted: bool,
}

/// Batches that the writer has and that were not answered yet, at most.
const IN_FLIGHT_MAX: usize = 16;

/// Batches for each worker that are read, prepared or waiting for their turn, at most.
const READ_AHEAD: usize = 4;

/// What to read and how.
pub struct Input<'a> {
    /// The source that the lines belong to.
    pub source: &'a str,
    /// Threads that validate and seal.
    pub workers: usize,
    /// Set by an interrupt: what was read before it is committed.
    pub stop: &'a AtomicBool,
    /// What is printed meanwhile.
    pub shown: Shown,
    /// Lines in a batch.
    pub batch_lines: u16,
}

/// Lines with their numbers.
type Lines = Vec<(u64, Vec<u8>)>;
/// Something with the place of its batch in the input.
type Placed<T> = (u64, T);

/// Reads lines until the end or an interrupt; what was read before it is committed, in the order of the input.
///
/// Four stages: one thread reads, the workers prepare batches, one thread puts them in order again and hands them to
/// the writer, this one takes the answers.
pub fn ingest(intake: &Intake, input: &Input<'_>, lines: BufReader<impl Read + Send>) -> Result<Summary> {
    let source = input.source;
    intake.recipients(source)?;
    let (batches, queue) = sync_channel::<Placed<Lines>>(2 * input.workers);
    let queue = Arc::new(Mutex::new(queue));
    let (prepared, unordered) = sync_channel::<Placed<Result<Prepared>>>(input.workers);
    let (sent, answers) = sync_channel::<Result<Sent>>(IN_FLIGHT_MAX);
    // Taken for each batch that is read, given back when it is sent: what waits behind a slow batch is bounded.
    let (take, give_back) = sync_channel::<()>(READ_AHEAD * input.workers);
    let mut summary = Summary::default();
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..input.workers {
            let (queue, prepared, intake) = (Arc::clone(&queue), prepared.clone(), intake.clone());
            scope.spawn(move || work(&intake, source, &queue, &prepared));
        }
        // The workers hold these now: when the last of them ends, the stages around them end too.
        drop((prepared, queue));
        let batches = Batches { sender: batches, permits: take, place: 0 };
        let reading = scope.spawn(move || feed(lines, batches, input.stop, usize::from(input.batch_lines)));
        scope.spawn(|| send_in_order(intake, unordered, give_back, sent));
        let mut progress = Progress::new("ingesting", None);
        let mut worker = Worker::default();
        let mut failed = None;
        // After a failure too: what was sent is answered, and what an answer brings with it (links) is recorded.
        for sent in answers {
            match sent.and_then(|sent| intake.land(&mut worker, source, sent)) {
                Ok(lines) => lines.into_iter().for_each(|answer| count(&mut summary, answer, input.shown)),
                Err(error) => failed = failed.or(Some(error)),
            }
            progress.set(summary.lines);
        }
        drop(progress);
        let read = reading.join().map_err(|_| anyhow!("the reading thread failed"))?;
        match failed {
            Some(error) => Err(error),
            None => read.map(|interrupted| summary.interrupted = interrupted),
        }
    })?;
    if summary.refused > 0 {
        let records: Vec<OwnRecord> =
            summary.refusals.iter().map(|(why, count)| refusal_record(source, why, *count)).collect();
        for some in records.chunks(1024) {
            intake.own(some.to_vec()).map_err(|why| anyhow!("{why}"))?;
        }
    }
    Ok(summary)
}

fn work(
    intake: &Intake,
    source: &str,
    queue: &Mutex<Receiver<Placed<Lines>>>,
    prepared: &SyncSender<Placed<Result<Prepared>>>,
) {
    // The writer and whoever waits for an answer come first.
    step_back(LAST / 2);
    let mut worker = Worker::default();
    loop {
        let batch = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((place, batch)) = batch else { return };
        let lines: Vec<(u64, &[u8])> = batch.iter().map(|(line, bytes)| (*line, bytes.as_slice())).collect();
        let result = intake.prepare(&mut worker, source, &lines);
        intake.nudge_keys();
        let failed = result.is_err();
        if prepared.send((place, result)).is_err() || failed {
            return;
        }
    }
}

/// Hands batches to the writer in the order of the input.
fn send_in_order(
    intake: &Intake,
    unordered: Receiver<Placed<Result<Prepared>>>,
    permits: Receiver<()>,
    sent: SyncSender<Result<Sent>>,
) {
    let mut held = BTreeMap::new();
    let mut next = 0;
    for (place, result) in unordered {
        held.insert(place, result);
        while let Some(result) = held.remove(&next) {
            next += 1;
            let _ = permits.recv();
            let result = result.and_then(|prepared| intake.send(prepared));
            let failed = result.is_err();
            if sent.send(result).is_err() || failed {
                return;
            }
        }
    }
}

/// Where read batches go.
struct Batches {
    sender: SyncSender<Placed<Lines>>,
    permits: SyncSender<()>,
    place: u64,
}

impl Batches {
    /// Waits for its turn; whether anybody still takes it.
    fn send(&mut self, lines: Lines) -> bool {
        let sent = self.permits.send(()).is_ok() && self.sender.send((self.place, lines)).is_ok();
        self.place += 1;
        sent
    }
}

/// Splits the input into lines and batches. A line over the limit is cut one byte above it, so that memory stays
/// bounded and the line is refused for its length.
fn feed(mut input: BufReader<impl Read>, mut batches: Batches, stop: &AtomicBool, batch_lines: usize) -> Result<bool> {
    let mut batch = Lines::with_capacity(batch_lines);
    let mut number = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut line = Vec::with_capacity(1024);
        let read = input.by_ref().take(RECORD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > RECORD_BYTES_MAX {
            skip_line(&mut input)?;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            batch.push((number, line));
        }
        // A pipe that has no whole line more for now must not keep what it gave waiting for a full batch.
        let full = batch.len() == batch_lines || memchr::memchr(b'\n', input.buffer()).is_none();
        if full && !batch.is_empty() && !batches.send(std::mem::take(&mut batch)) {
            return Ok(false);
        }
    }
    if !batch.is_empty() {
        batches.send(batch);
    }
    Ok(stop.load(Ordering::Relaxed))
}

fn skip_line(input: &mut impl BufRead) -> Result<()> {
    loop {
        let (used, ended) = {
            let buffer = input.fill_buf()?;
            match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            }
        };
        input.consume(used);
        if ended {
            return Ok(());
        }
    }
}

fn count(summary: &mut Summary, (line, answer): LineAnswer, shown: Shown) {
    summary.lines += 1;
    let quiet = shown == Shown::Nothing;
    if let (Shown::Answers, Ok(Accepted::Committed { index } | Accepted::Repeated { index, .. })) = (shown, &answer) {
        println!("{line} {index}");
    }
    match answer {
        Ok(Accepted::Committed { index }) => {
            summary.accepted += 1;
            summary.first_index = Some(summary.first_index.map_or(index, |first| first.min(index)));
            summary.last_index = Some(summary.last_index.map_or(index, |last| last.max(index)));
        }
        Ok(Accepted::Repeated { late, .. }) => {
            summary.repeated += 1;
            summary.repeated_late += u64::from(late);
        }
        Ok(Accepted::Conflict { index }) => {
            summary.conflicts += 1;
            let why = Why { code: "conflict", kind: None, rule: None };
            refuse(summary, why, quiet, || {
                format!(
                    "line {line}: /event_id was used before for other content, as entry {index}: give each record its own id"
                )
            });
        }
        Err(Refused { refusal, kind }) => {
            let why = Why { code: refusal.code(), kind, rule: refusal.rule() };
            refuse(summary, why, quiet, || format!("line {line}: {refusal}"));
        }
    }
}

fn refuse(summary: &mut Summary, why: Why, quiet: bool, say: impl FnOnce() -> String) {
    summary.refused += 1;
    *summary.refused_by_reason.entry(why.code).or_default() += 1;
    *summary.refusals.entry(why).or_default() += 1;
    if summary.refused <= SHOWN_MAX && !quiet {
        eprintln!("candor: {}", say());
    } else if summary.refused == SHOWN_MAX + 1 && !quiet {
        eprintln!("candor: further refusals are counted, not shown");
    }
}
