//! A progress line on standard error: count, rate, time left. Silent where nobody looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// See the module.
pub struct Progress {
    what: &'static str,
    total: Option<u64>,
    start: Instant,
    shown: Instant,
    live: bool,
}

impl Progress {
    pub fn new(what: &'static str, total: Option<u64>) -> Progress {
        let now = Instant::now();
        Progress { what, total, start: now, shown: now, live: std::io::stderr().is_terminal() }
    }

    /// Shows `done`, at most five times a second.
    pub fn set(&mut self, done: u64) {
        if !self.live || self.shown.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.shown = Instant::now();
        let rate = done as f64 / self.start.elapsed().as_secs_f64().max(0.001);
        let bar = match self.total.filter(|total| *total > 0) {
            Some(total) => {
                let part = (done as f64 / total as f64).min(1.0);
                let filled = (part * 24.0) as usize;
                let left = total.saturating_sub(done) as f64 / rate.max(0.001);
                format!("[{}{}] {:>3.0} % {left:.0} s left", "#".repeat(filled), "-".repeat(24 - filled), part * 100.0)
            }
            None => String::new(),
        };
        eprint!("\r\x1b[2K{} {done} ({rate:.0}/s) {bar}", self.what);
        let _ = std::io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.live {
            eprint!("\r\x1b[2K");
        }
    }
}
