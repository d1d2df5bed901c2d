//! The threads between the server and the writer.
//!
//! A request hands its lines over and is told later; no thread waits for it. A worker takes as many waiting requests of
//! one source as fit a batch, so that under load single records share the work, the frame and the sync, and goes on
//! with the next batch while the writer has the one before.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use bytes::Bytes;
use web::submit::{Answer, Done, Unavailable};

use crate::ingest::BATCH_LINES;
use crate::intake::{Accepted, Intake, Refused, Sent, Worker};

/// Batches of one worker that the writer has, at most.
const AHEAD_MAX: usize = 4;

/// Lines of a batch from which on its keys are made durable while it waits for its turn.
const NUDGE_LINES: usize = 128;

/// What one request brought.
pub struct Job {
    pub source: String,
    pub lines: Vec<(u64, Bytes)>,
    pub done: Done,
}

/// See the module.
pub struct Workers {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// Jobs that wait, and the one that did not fit the batch before.
struct Queue {
    jobs: Receiver<Job>,
    held: Option<Job>,
}

impl Queue {
    /// Jobs of one source, up to a batch, or a larger one alone. `None` when nobody sends any more.
    fn take(&mut self, wait: bool) -> Option<Vec<Job>> {
        let first = match self.held.take() {
            Some(job) => job,
            None if wait => self.jobs.recv().ok()?,
            None => match self.jobs.try_recv() {
                Ok(job) => job,
                Err(_) => return Some(Vec::new()),
            },
        };
        let mut count = first.lines.len();
        let mut jobs = vec![first];
        while let Ok(job) = self.jobs.try_recv() {
            count += job.lines.len();
            if job.source != jobs[0].source || count > usize::from(BATCH_LINES) {
                self.held = Some(job);
                break;
            }
            jobs.push(job);
        }
        Some(jobs)
    }
}

impl Workers {
    /// Starts so many threads; they end with this, once everything that was handed over is answered.
    pub fn start(intake: &Intake, count: usize) -> Result<Workers> {
        let (queue, jobs) = channel();
        let jobs = Arc::new(Mutex::new(Queue { jobs, held: None }));
        let failures = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let taker = Taker {
                intake: intake.clone(),
                worker: Worker::default(),
                ahead: VecDeque::new(),
                failures: Arc::clone(&failures),
            };
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name("intake".into()).spawn(move || taker.run(&jobs));
            threads.push(thread.context("start a thread")?);
        }
        Ok(Workers { queue: Some(queue), threads })
    }

    /// Hands over; bounded by who calls.
    pub fn take(&self, job: Job) {
        if let Some(Err(error)) = self.queue.as_ref().map(|queue| queue.send(job)) {
            (error.0.done)(Err(unavailable()));
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue = None;
        // A thread that panicked has said so, and who waited for it was told that nothing came.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn unavailable() -> Unavailable {
    Unavailable::Now(
        "records can't be taken now, and nothing unanswered was: send this again; the server's log says why".into(),
    )
}

/// A job that is under way: where its answers go, and what is there of them.
struct Open {
    /// The lines' own numbers: in a batch they are numbered through.
    numbers: Vec<u64>,
    done: Done,
}

/// A batch under way. Of a job that is longer than a batch, the last one has what is [`Open`].
struct Ahead {
    source: String,
    sent: Sent,
    open: Vec<Open>,
}

struct Taker {
    intake: Intake,
    worker: Worker,
    ahead: VecDeque<Ahead>,
    failures: Arc<AtomicU64>,
}

impl Taker {
    fn run(mut self, queue: &Mutex<Queue>) {
        let mut answers = Vec::new();
        loop {
            let jobs = match (self.ahead.len(), queue.try_lock()) {
                // Another worker waits for the next job.
                (1.., Err(TryLockError::WouldBlock)) | (AHEAD_MAX.., Ok(_)) => Some(Vec::new()),
                (0, Err(TryLockError::WouldBlock)) => queue.lock().ok().and_then(|mut queue| queue.take(true)),
                (ahead, Ok(mut queue)) => queue.take(ahead == 0),
                (_, Err(TryLockError::Poisoned(_))) => None,
            };
            match jobs {
                Some(jobs) if !jobs.is_empty() => self.begin(jobs, &mut answers),
                _ if !self.ahead.is_empty() => self.land(&mut answers),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Prepares jobs of one source and hands them to the writer.
    fn begin(&mut self, jobs: Vec<Job>, answers: &mut Vec<Answered>) {
        let mut open = Vec::with_capacity(jobs.len());
        let mut lines: Vec<Bytes> = Vec::new();
        let mut source = String::new();
        for job in jobs {
            let (numbers, bytes): (Vec<u64>, Vec<Bytes>) = job.lines.into_iter().unzip();
            lines.extend(bytes);
            source = job.source;
            open.push(Open { numbers, done: job.done });
        }
        let lines: Vec<(u64, &[u8])> = lines.iter().zip(0..).map(|(line, place)| (place, &**line)).collect();
        let mut chunks = lines.chunks(usize::from(BATCH_LINES)).peekable();
        while let Some(some) = chunks.next() {
            if self.ahead.len() >= AHEAD_MAX {
                self.land(answers);
            }
            let sent =
                self.intake.prepare(&mut self.worker, &source, some).and_then(|prepared| self.intake.send(prepared));
            // For a few records the writer does it at its turn, for all that wait by then.
            if some.len() >= NUDGE_LINES {
                self.intake.nudge_keys();
            }
            match sent {
                Ok(sent) => {
                    let open = if chunks.peek().is_none() { std::mem::take(&mut open) } else { Vec::new() };
                    self.ahead.push_back(Ahead { source: source.clone(), sent, open });
                }
                Err(error) => {
                    self.failed(&error);
                    // What went before of the same job is answered with it; it may be sent again as a whole.
                    while !self.ahead.is_empty() {
                        self.land(answers);
                    }
                    answers.clear();
                    return open.into_iter().for_each(|job| (job.done)(Err(unavailable())));
                }
            }
        }
    }

    /// Waits for the oldest batch and answers those who are complete with it.
    fn land(&mut self, answers: &mut Vec<Answered>) {
        let Some(Ahead { source, sent, open }) = self.ahead.pop_front() else { return };
        match self.intake.land(&mut self.worker, &source, sent) {
            Ok(landed) => answers.extend(landed.into_iter().map(|(place, accepted)| (place, answer(accepted)))),
            Err(error) => {
                self.failed(&error);
            }
        }
        if open.is_empty() {
            return;
        }
        let count: usize = open.iter().map(|job| job.numbers.len()).sum();
        let mut landed = std::mem::take(answers);
        if landed.len() != count {
            return open.into_iter().for_each(|job| (job.done)(Err(unavailable())));
        }
        landed.sort_unstable_by_key(|(place, _)| *place);
        let mut landed = landed.into_iter().map(|(_, answer)| answer);
        for job in open {
            (job.done)(Ok(job.numbers.into_iter().zip(landed.by_ref()).collect()));
        }
    }

    /// One line for the operator and then each hundredth: a full disk must not fill the log too.
    fn failed(&self, error: &anyhow::Error) {
        if self.failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
            eprintln!("candor: records can't be taken: {error:#}");
        }
    }
}

/// An answer with its place in its jobs' lines.
type Answered = (u64, Answer);

fn answer(accepted: std::result::Result<Accepted, Refused>) -> Answer {
    match accepted {
        Ok(Accepted::Committed { index, leaf }) => Answer::Committed { index, leaf },
        Ok(Accepted::Repeated { index, .. }) => Answer::Repeated { index },
        Ok(Accepted::Conflict { index }) => Answer::Conflict { index },
        Err(refused) => Answer::Refused {
            code: refused.refusal.code(),
            detail: refused.refusal.to_string(),
            kind: refused.kind.map(|kind| kind.to_string()),
            rule: refused.refusal.rule(),
        },
    }
}
