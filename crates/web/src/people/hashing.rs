//! Hashing of passwords, beside what else is to be done: a thread or two at low priority, so that who guesses takes nothing
//! from who writes, and a bounded queue, so that what waits is bounded too.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;

use crate::lock;
use crate::problem::Problem;

/// Who waits to be hashed, at most; others are told to come again.
const WAITING_MAX: usize = 32;

type Job = Box<dyn FnOnce() + Send>;

/// See the module. Its threads end when it goes.
pub(super) struct Hashing {
    jobs: SyncSender<Job>,
}

impl Hashing {
    /// Threads for half the cores, each of which first does `begin`: it lowers its priority.
    pub(super) fn new(begin: fn()) -> Hashing {
        let (jobs, receiver) = sync_channel::<Job>(WAITING_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
        for _ in 0..threads {
            let receiver = Arc::clone(&receiver);
            let run = move || {
                begin();
                while let Some(job) = next(&receiver) {
                    job();
                }
            };
            // Where none can be started all are told to come again.
            let _ = std::thread::Builder::new().name("hashing".into()).spawn(run);
        }
        Hashing { jobs }
    }

    /// Runs what hashes in its turn.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move || drop(sender.send(work())));
        let later = || Problem::later(StatusCode::SERVICE_UNAVAILABLE, "too many people sign in at once: try again");
        self.jobs.try_send(job).map_err(|_| later())?;
        receiver.await.map_err(|_| crate::problem::internal(&"a password could not be hashed"))
    }
}

fn next(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    lock::held(receiver).recv().ok()
}
