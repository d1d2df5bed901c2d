//! `candor ingest`: lines from a file or standard input, in batches, over several workers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use ledger::background::{LAST, step_back};
use reads::guard::OwnRecord;
use record::minimal::RECORD_BYTES_MAX;

use crate::import::{Import, Reading};
use crate::intake::{Accepted, Intake, LineAnswer, Prepared, Refused, Sent, Why, Worker, refusal_record};
use crate::postfix::{LogSummary, PostfixLog};
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
    /// Where the input is a log.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSummary>,
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
    /// Whether the records' ids are made of what they say: the same id is then the same record, without a look.
    pub derived_ids: bool,
    /// Bytes that there are to read and that were read, where that is known: for the progress bar.
    pub bytes: Option<(u64, &'a AtomicU64)>,
}

/// Lines with their numbers.
type Lines = Vec<(u64, Vec<u8>)>;

/// One batch.
#[derive(Default)]
pub struct Work {
    /// The source's records.
    pub lines: Lines,
    /// Candor's own, written after them.
    pub own: Vec<OwnRecord>,
    /// Done when everything up to here is durable.
    pub after: Option<After>,
}

/// See [`Work::after`].
type After = Box<dyn FnOnce() -> Result<()> + Send>;

/// A batch on its way: what is left of it beside its lines, and what became of those.
struct Going<T> {
    own: Vec<OwnRecord>,
    after: Option<After>,
    result: Result<T>,
}

/// Something with the place of its batch in the input.
type Placed<T> = (u64, T);

/// Reads records, one a line, until the end or an interrupt.
pub fn ingest(intake: &Intake, input: &Input<'_>, lines: BufReader<impl Read + Send>) -> Result<Summary> {
    run(intake, input, |batches| Ok((feed(lines, batches, input.stop)?, None)))
}

/// Reads a relay's log until its end or an interrupt.
pub fn ingest_log(intake: &Intake, input: &Input<'_>, log: PostfixLog) -> Result<Summary> {
    run(intake, input, |batches| {
        let (interrupted, summary) = log.feed(batches, input.stop)?;
        Ok((interrupted, Some(summary)))
    })
}

/// Reads the history of an old system until its end or an interrupt.
pub fn ingest_items(intake: &Intake, input: &Input<'_>, import: &Import) -> Result<(Summary, Reading)> {
    let read = Mutex::new(Reading::default());
    let none = AtomicU64::new(0);
    let bytes = input.bytes.map_or(&none, |(_, bytes)| bytes);
    let summary = run(intake, input, |batches| {
        let (interrupted, came_to) = import.feed(batches, bytes, input.stop)?;
        *read.lock().map_err(|_| anyhow!("another thread failed"))? = came_to;
        Ok((interrupted, None))
    })?;
    Ok((summary, read.into_inner().map_err(|_| anyhow!("another thread failed"))?))
}

/// Takes in what `feed` sends until it returns (whether it was interrupted, and its counts); what was sent before is
/// committed, in the order in which it was sent.
///
/// Four stages: one thread reads, the workers prepare batches, one thread puts them in order again and hands them to
/// the writer, this one takes the answers.
fn run<F>(intake: &Intake, input: &Input<'_>, feed: F) -> Result<Summary>
where
    F: FnOnce(Batches) -> Result<(bool, Option<LogSummary>)> + Send,
{
    let source = input.source;
    intake.recipients(source)?;
    let (batches, queue) = sync_channel::<Placed<Work>>(2 * input.workers);
    let queue = Arc::new(Mutex::new(queue));
    let (prepared, unordered) = sync_channel::<Placed<Going<Prepared>>>(input.workers);
    let (sent, answers) = sync_channel::<Going<Sent>>(IN_FLIGHT_MAX);
    // Taken for each batch that is read, given back when it is sent: what waits behind a slow batch is bounded.
    let (take, give_back) = sync_channel::<()>(READ_AHEAD * input.workers);
    let mut summary = Summary::default();
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..input.workers {
            let (queue, prepared, intake) = (Arc::clone(&queue), prepared.clone(), intake.clone());
            let derived_ids = input.derived_ids;
            scope.spawn(move || work(&intake, (source, derived_ids), &queue, &prepared));
        }
        // The workers hold these now: when the last of them ends, the stages around them end too.
        drop((prepared, queue));
        let ended = Arc::new(AtomicBool::new(false));
        let lines_max = usize::from(input.batch_lines);
        let batches = Batches { sender: batches, permits: take, place: 0, lines_max, ended: Arc::clone(&ended) };
        let reading = scope.spawn(move || feed(batches));
        scope.spawn(|| send_in_order(intake, unordered, give_back, sent));
        let mut progress = match input.bytes {
            Some((total, _)) => Progress::new("reading bytes", Some(total)),
            None => Progress::new("ingesting", None),
        };
        let mut worker = Worker::default();
        let mut failed = None;
        // After a failure too: what was sent is answered, and what an answer brings with it (links) is recorded.
        for Going { own, after, result } in answers {
            match result.and_then(|sent| intake.land(&mut worker, source, sent)) {
                Ok(lines) => lines.into_iter().for_each(|answer| count(&mut summary, answer, input.shown)),
                Err(error) => failed = failed.or(Some(error)),
            }
            // What is done after a batch rests on all before it.
            if failed.is_none() {
                failed = finish(intake, own, after).err();
            }
            if failed.is_some() {
                ended.store(true, Ordering::Release);
            }
            progress.set(input.bytes.map_or(summary.lines, |(_, read)| read.load(Ordering::Relaxed)));
        }
        drop(progress);
        let read = reading.join().map_err(|_| anyhow!("the reading thread failed"))?;
        match failed {
            Some(error) => Err(error),
            None => read.map(|(interrupted, log)| (summary.interrupted, summary.log) = (interrupted, log)),
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

/// Records of Candor's own after the source's, and what waits for both.
fn finish(intake: &Intake, own: Vec<OwnRecord>, after: Option<After>) -> Result<()> {
    if !own.is_empty() {
        intake.own(own).map_err(|why| anyhow!("{why}"))?;
    }
    after.map_or(Ok(()), |after| after())
}

fn work(
    intake: &Intake,
    sender: (&str, bool),
    queue: &Mutex<Receiver<Placed<Work>>>,
    prepared: &SyncSender<Placed<Going<Prepared>>>,
) {
    let (source, derived_ids) = sender;
    // The writer and whoever waits for an answer come first.
    step_back(LAST / 2);
    let mut worker = Worker::default();
    worker.derived_ids = derived_ids;
    loop {
        let batch = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((place, Work { lines, own, after })) = batch else { return };
        let lines: Vec<(u64, &[u8])> = lines.iter().map(|(line, bytes)| (*line, bytes.as_slice())).collect();
        let result = intake.prepare(&mut worker, source, &lines);
        intake.nudge_keys();
        let failed = result.is_err();
        if prepared.send((place, Going { own, after, result })).is_err() || failed {
            return;
        }
    }
}

/// Hands batches to the writer in the order of the input.
fn send_in_order(
    intake: &Intake,
    unordered: Receiver<Placed<Going<Prepared>>>,
    permits: Receiver<()>,
    sent: SyncSender<Going<Sent>>,
) {
    let mut held = BTreeMap::new();
    let mut next = 0;
    for (place, going) in unordered {
        held.insert(place, going);
        while let Some(Going { own, after, result }) = held.remove(&next) {
            next += 1;
            let _ = permits.recv();
            let result = result.and_then(|prepared| intake.send(prepared));
            let failed = result.is_err();
            if sent.send(Going { own, after, result }).is_err() || failed {
                return;
            }
        }
    }
}

/// Where read batches go.
pub struct Batches {
    sender: SyncSender<Placed<Work>>,
    permits: SyncSender<()>,
    place: u64,
    /// Lines in a batch; a line's records may make it a little longer.
    pub lines_max: usize,
    ended: Arc<AtomicBool>,
}

impl Batches {
    /// Waits for its turn; whether anybody still takes it.
    pub fn send(&mut self, work: Work) -> bool {
        let sent = self.is_open() && self.permits.send(()).is_ok() && self.sender.send((self.place, work)).is_ok();
        self.place += 1;
        sent
    }

    /// Whether what is sent is still taken.
    pub fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }
}

/// Splits the input into lines and batches. A line over the limit is cut one byte above it, so that memory stays
/// bounded and the line is refused for its length.
fn feed(mut input: BufReader<impl Read>, mut batches: Batches, stop: &AtomicBool) -> Result<bool> {
    let lines_max = batches.lines_max;
    let mut batch = Lines::with_capacity(lines_max);
    let work = |lines| Work { lines, ..Work::default() };
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
            input.skip_until(b'\n')?;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            batch.push((number, line));
        }
        // A pipe that has no whole line more for now must not keep what it gave waiting for a full batch.
        let full = batch.len() == lines_max || memchr::memchr(b'\n', input.buffer()).is_none();
        if full && !batch.is_empty() && !batches.send(work(std::mem::take(&mut batch))) {
            return Ok(false);
        }
    }
    if !batch.is_empty() {
        batches.send(work(batch));
    }
    Ok(stop.load(Ordering::Relaxed))
}

fn count(summary: &mut Summary, (line, answer): LineAnswer, shown: Shown) {
    summary.lines += 1;
    let quiet = shown == Shown::Nothing;
    if let (Shown::Answers, Ok(Accepted::Committed { index, .. } | Accepted::Repeated { index, .. })) = (shown, &answer)
    {
        println!("{line} {index}");
    }
    match answer {
        Ok(Accepted::Committed { index, .. }) => {
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
