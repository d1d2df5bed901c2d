//! `candor ingest`: lines from a file or standard input, in batches, over several workers.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use record::error::Refusal;
use record::minimal::RECORD_BYTES_MAX;

use crate::intake::{Accepted, Intake, LineAnswer, Worker, refusal_record};
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
    pub conflicts: u64,
    pub refused: u64,
    pub refused_by_reason: BTreeMap<&'static str, u64>,
    pub first_index: Option<u64>,
    pub last_index: Option<u64>,
    pub interrupted: bool,
}

type Batch = Vec<(u64, Vec<u8>)>;

/// Reads lines until the end or an interrupt; what was read before it is committed.
pub fn ingest(
    intake: &Intake,
    source: &str,
    input: impl BufRead + Send,
    workers: usize,
    stop: &AtomicBool,
    shown: Shown,
    batch_lines: u16,
) -> Result<Summary> {
    intake.recipients(source)?;
    let (batches, queue) = sync_channel::<Batch>(2 * workers);
    let queue = Arc::new(Mutex::new(queue));
    let (answers, results) = sync_channel::<Result<Vec<LineAnswer>>>(64);
    let mut summary = Summary::default();
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..workers {
            let (queue, answers, intake) = (Arc::clone(&queue), answers.clone(), intake.clone());
            scope.spawn(move || work(&intake, source, &queue, &answers));
        }
        drop(answers);
        // The workers hold the queue now: when the last of them ends, feeding ends too.
        drop(queue);
        let reading = scope.spawn(move || feed(input, &batches, stop, usize::from(batch_lines)));
        let mut progress = Progress::new("ingesting", None);
        let mut failed = None;
        for result in &results {
            match result {
                Ok(lines) => lines.into_iter().for_each(|answer| count(&mut summary, answer, shown)),
                Err(error) => failed = Some(error),
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
        let records =
            summary.refused_by_reason.iter().map(|(code, count)| refusal_record(source, code, *count)).collect();
        intake.own(records).map_err(|why| anyhow!("{why}"))?;
    }
    Ok(summary)
}

fn work(intake: &Intake, source: &str, queue: &Mutex<Receiver<Batch>>, answers: &SyncSender<Result<Vec<LineAnswer>>>) {
    let mut worker = Worker::default();
    loop {
        let batch = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(batch) = batch else { return };
        let lines: Vec<(u64, &[u8])> = batch.iter().map(|(line, bytes)| (*line, bytes.as_slice())).collect();
        let result = intake.lines(&mut worker, source, &lines);
        let failed = result.is_err();
        if answers.send(result).is_err() || failed {
            return;
        }
    }
}

/// Splits the input into lines and batches. A line over the limit is cut one byte above it, so that memory stays
/// bounded and the line is refused for its length.
fn feed(mut input: impl BufRead, batches: &SyncSender<Batch>, stop: &AtomicBool, batch_lines: usize) -> Result<bool> {
    let mut batch = Batch::with_capacity(batch_lines);
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
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        batch.push((number, line));
        if batch.len() == batch_lines && batches.send(std::mem::take(&mut batch)).is_err() {
            return Ok(false);
        }
    }
    if !batch.is_empty() {
        let _ = batches.send(batch);
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
        Ok(Accepted::Repeated { .. }) => summary.repeated += 1,
        Ok(Accepted::Conflict { index }) => {
            summary.conflicts += 1;
            refuse(summary, "conflict", quiet, || {
                format!(
                    "line {line}: /event_id was used before for other content, as entry {index}: give each record its own id"
                )
            });
        }
        Err(refusal) => refuse(summary, refusal.code(), quiet, || sentence(line, &refusal)),
    }
}

fn sentence(line: u64, refusal: &Refusal) -> String {
    format!("line {line}: {refusal}")
}

fn refuse(summary: &mut Summary, code: &'static str, quiet: bool, say: impl FnOnce() -> String) {
    summary.refused += 1;
    *summary.refused_by_reason.entry(code).or_default() += 1;
    if summary.refused <= SHOWN_MAX && !quiet {
        eprintln!("candor: {}", say());
    } else if summary.refused == SHOWN_MAX + 1 && !quiet {
        eprintln!("candor: further refusals are counted, not shown");
    }
}
