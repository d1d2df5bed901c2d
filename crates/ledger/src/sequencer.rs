//! The one task that gives order: takes batches from a bounded queue, commits them, answers, tells the views.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proof::commitment::Opening;
use proof::note::NoteSigner;

use crate::error::Error;
use crate::frame::{ENTRIES_MAX, FRAME_BYTES_SOFT_MAX};
use crate::ledger::{Committed, Item, Ledger, Outcome};
use crate::reader::Reader;

/// Batches waiting, at most: then submitters wait too.
const QUEUE_BATCHES_MAX: usize = 64;
/// After so much idleness a closing frame is written.
const IDLE: Duration = Duration::from_secs(1);

/// What came of a batch.
pub type Answer<C> = Result<Vec<Outcome<C>>, Arc<Error>>;

/// Items that go into one frame.
pub struct Batch<C> {
    /// The items, at most [`ENTRIES_MAX`].
    pub items: Vec<Item<C>>,
    /// What must be durable before they are written, as the [`Gate`] understands it; 0 for nothing.
    pub needs: u64,
}

/// Returns when what a batch needs is durable: the keys that its records were sealed under.
pub type Gate = Box<dyn FnMut(u64) -> Result<(), String> + Send>;

enum Command<C> {
    Batch(Batch<C>, SyncSender<Answer<C>>),
    Bury(Vec<u64>, SyncSender<Answer<C>>),
    BuryPeriods(Vec<u32>, SyncSender<Answer<C>>),
    ChangeKey(Box<(u64, Opening, NoteSigner)>, SyncSender<Answer<C>>),
    SignAlone(SyncSender<Answer<C>>),
    Close(SyncSender<Answer<C>>),
    Stop,
}

/// Hands batches to the sequencer; one for each submitting thread.
pub struct Submitter<C> {
    queue: SyncSender<Command<C>>,
}

impl<C> Clone for Submitter<C> {
    fn clone(&self) -> Self {
        Submitter { queue: self.queue.clone() }
    }
}

impl<C> Submitter<C> {
    /// Hands over a batch; the answer comes when it is durable. Waits while the queue is full.
    ///
    /// # Errors
    /// The writer has stopped.
    pub fn submit(&self, batch: Batch<C>) -> Result<Receiver<Answer<C>>, Error> {
        let (answer, receiver) = sync_channel(1);
        self.queue.send(Command::Batch(batch, answer)).map_err(|_| Error::Stopped)?;
        Ok(receiver)
    }

    /// After this answers, nothing sealed under these subjects is committed any more.
    ///
    /// # Errors
    /// The writer has stopped.
    pub fn bury(&self, subjects: Vec<u64>) -> Result<(), Error> {
        self.tell(|answer| Command::Bury(subjects, answer))
    }

    /// After this answers, nothing sealed under these periods is committed any more, and all that was stands in segments
    /// that are closed.
    ///
    /// # Errors
    /// The writer has stopped.
    pub fn bury_periods(&self, periods: Vec<u32>) -> Result<(), Error> {
        self.tell(|answer| Command::BuryPeriods(periods, answer))
    }

    /// Signs with another key from now on, which entry `index` names; see [`Ledger::change_key`]. Durable when it answers.
    ///
    /// # Errors
    /// The writer has stopped.
    pub fn change_key(&self, index: u64, facts: Opening, signer: NoteSigner) -> Result<(), Error> {
        self.tell(|answer| Command::ChangeKey(Box::new((index, facts, signer)), answer))
    }

    /// The newest key signs alone from now on.
    ///
    /// # Errors
    /// The writer has stopped.
    pub fn sign_alone(&self) -> Result<(), Error> {
        self.tell(Command::SignAlone)
    }

    /// Writes the frame that carries the last checkpoint now, instead of after idleness.
    ///
    /// # Errors
    /// The writer has stopped.
    pub fn close_frame(&self) -> Result<(), Error> {
        self.tell(Command::Close)
    }

    fn tell(&self, command: impl FnOnce(SyncSender<Answer<C>>) -> Command<C>) -> Result<(), Error> {
        let (answer, receiver) = sync_channel(1);
        self.queue.send(command(answer)).map_err(|_| Error::Stopped)?;
        receiver.recv().map_err(|_| Error::Stopped)?.map(drop).map_err(|_| Error::Stopped)
    }
}

/// The running sequencer.
pub struct Sequencer<C> {
    queue: SyncSender<Command<C>>,
    thread: Option<std::thread::JoinHandle<Result<(), Arc<Error>>>>,
    failure: Arc<OnceLock<Arc<Error>>>,
    reader: Arc<Reader>,
}

impl<C: Send + 'static> Sequencer<C> {
    /// Starts it; `sink` is told of every commit in order, before the submitters are answered.
    pub fn start(
        mut ledger: Ledger,
        mut gate: Gate,
        mut sink: impl FnMut(Vec<Committed<C>>, u64) + Send + 'static,
    ) -> Sequencer<C> {
        let (queue, commands) = sync_channel(QUEUE_BATCHES_MAX);
        let reader = ledger.reader();
        let failure = Arc::new(OnceLock::new());
        let told = Arc::clone(&failure);
        let run = move || {
            run(&mut ledger, &commands, &mut gate, &mut sink).inspect_err(|error| drop(told.set(Arc::clone(error))))
        };
        let thread = std::thread::Builder::new().name("sequencer".into()).spawn(run);
        Sequencer { queue, thread: thread.ok(), failure, reader }
    }

    /// A handle for submitting.
    pub fn submitter(&self) -> Submitter<C> {
        Submitter { queue: self.queue.clone() }
    }

    /// What ended the writer; none while it runs. Whoever has it must end too: what is true then is what recovery reads.
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.failure.get().cloned()
    }

    /// The shared reader.
    pub fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    /// Commits what was handed over, writes the closing frame and ends.
    ///
    /// # Errors
    /// What ended the writer, if it had ended before.
    pub fn stop(mut self) -> Result<(), Arc<Error>> {
        let _ = self.queue.send(Command::Stop);
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(Arc::new(Error::Stopped)),
        }
    }
}

impl<C> Drop for Sequencer<C> {
    fn drop(&mut self) {
        let _ = self.queue.try_send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where a batch's items went in the joint commit.
struct Waiting<C> {
    count: usize,
    answer: SyncSender<Answer<C>>,
}

fn run<C>(
    ledger: &mut Ledger,
    commands: &Receiver<Command<C>>,
    gate: &mut Gate,
    sink: &mut dyn FnMut(Vec<Committed<C>>, u64),
) -> Result<(), Arc<Error>> {
    let mut held = None;
    loop {
        let command = match held.take() {
            Some(command) => command,
            None => match commands.recv_timeout(IDLE) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => {
                    ledger.close()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(ledger.stop()?),
            },
        };
        match command {
            Command::Stop => return Ok(ledger.stop()?),
            Command::Bury(subjects, answer) => {
                ledger.bury(&subjects);
                let _ = answer.send(Ok(Vec::new()));
            }
            Command::BuryPeriods(periods, answer) => {
                ledger.bury_periods(&periods)?;
                let _ = answer.send(Ok(Vec::new()));
            }
            Command::ChangeKey(change, answer) => {
                let (index, facts, signer) = *change;
                ledger.change_key(index, facts, signer)?;
                let _ = answer.send(Ok(Vec::new()));
            }
            Command::SignAlone(answer) => {
                ledger.sign_alone()?;
                let _ = answer.send(Ok(Vec::new()));
            }
            Command::Close(answer) => {
                ledger.close()?;
                let _ = answer.send(Ok(Vec::new()));
            }
            Command::Batch(Batch { items, mut needs }, answer) => {
                let mut waiting = vec![Waiting { count: items.len(), answer }];
                let mut joint = items;
                let mut bytes: usize = joint.iter().map(|item| item.sealed.bytes.len()).sum();
                while bytes < FRAME_BYTES_SOFT_MAX {
                    match commands.try_recv() {
                        Ok(Command::Batch(Batch { items: more, needs: also }, answer))
                            if joint.len() + more.len() <= ENTRIES_MAX =>
                        {
                            needs = needs.max(also);
                            bytes += more.iter().map(|item| item.sealed.bytes.len()).sum::<usize>();
                            waiting.push(Waiting { count: more.len(), answer });
                            joint.extend(more);
                        }
                        Ok(other) => {
                            held = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                match gate(needs) {
                    Ok(()) => commit(ledger, joint, waiting, sink)?,
                    Err(why) => return refuse(waiting, Error::NotReady { why }),
                }
            }
        }
    }
}

fn commit<C>(
    ledger: &mut Ledger,
    joint: Vec<Item<C>>,
    waiting: Vec<Waiting<C>>,
    sink: &mut dyn FnMut(Vec<Committed<C>>, u64),
) -> Result<(), Arc<Error>> {
    match ledger.commit(joint) {
        Ok((outcomes, committed)) => {
            let size = ledger.reader().size();
            if !committed.is_empty() {
                sink(committed, size);
            }
            let mut outcomes = outcomes.into_iter();
            for waiter in waiting {
                let _ = waiter.answer.send(Ok(outcomes.by_ref().take(waiter.count).collect()));
            }
            Ok(())
        }
        // The clock is the operator's to mend; nothing was written, so the writer may go on.
        Err(error @ (Error::ClockBehind { .. } | Error::ClockJumped { .. })) => {
            tell(waiting, error);
            Ok(())
        }
        Err(error) => refuse(waiting, error),
    }
}

/// Tells everybody who waits, and ends the writer.
fn refuse<C>(waiting: Vec<Waiting<C>>, error: Error) -> Result<(), Arc<Error>> {
    Err(tell(waiting, error))
}

fn tell<C>(waiting: Vec<Waiting<C>>, error: Error) -> Arc<Error> {
    let error = Arc::new(error);
    for waiter in waiting {
        let _ = waiter.answer.send(Err(Arc::clone(&error)));
    }
    error
}
