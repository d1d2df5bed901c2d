//! Work in steps beside its owner: one thread at a time, told to stop and waited for when the owner goes, so that
//! nothing of it touches files that somebody else has opened meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Lowers the priority of this thread and of the threads that it starts, so that those who are waited for run first.
/// Where the system does not allow it, nothing changes.
pub fn step_back(steps: i32) {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), steps);
}

/// How far what nobody waits for steps back.
pub const LAST: i32 = 10;

/// See the module.
#[derive(Debug)]
pub struct Background {
    name: &'static str,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Nothing yet; `name` is that of its threads.
    pub fn new(name: &'static str) -> Background {
        Background { name, stop: Arc::default(), thread: Mutex::default() }
    }

    /// Does steps until one says that there was nothing to do, unless that goes on already. A step is handed the mark
    /// that tells it to give up. What it cannot do now it may find again at a later call.
    pub fn nudge(&self, mut step: impl FnMut(&AtomicBool) -> bool + Send + 'static) {
        let Ok(mut thread) = self.thread.lock() else { return };
        if thread.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let stop = Arc::clone(&self.stop);
        let run = move || {
            step_back(LAST);
            while !stop.load(Ordering::Relaxed) && step(&stop) {}
        };
        *thread = std::thread::Builder::new().name(self.name.into()).spawn(run).ok();
    }

    /// Waits until it has nothing to do.
    pub fn wait(&self) {
        let running = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(running) = running {
            // A step that panicked has said so; its work is found again at the next start.
            let _ = running.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn it_ends_when_there_is_nothing_to_do_or_its_owner_goes() {
        let done = Arc::new(AtomicU64::new(0));
        let background = Background::new("test");
        let counted = Arc::clone(&done);
        background.nudge(move |_| counted.fetch_add(1, Ordering::SeqCst) < 9);
        background.wait();
        assert_eq!(done.load(Ordering::SeqCst), 10);
        let (begun, seen) = std::sync::mpsc::channel();
        background.nudge(move |stop| {
            let _ = begun.send(());
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            true
        });
        seen.recv().expect("it runs");
        drop(background);
        assert!(seen.try_recv().is_err(), "it was not begun again");
    }
}
