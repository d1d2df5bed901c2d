//! What a thread beside the server does again and again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between looks at the clock and at whether the server stops.
const TICK: Duration = Duration::from_millis(200);

/// Works so long from now, and then each time when the work before said, until `stop` is set.
pub fn beat(stop: &AtomicBool, first: Duration, mut work: impl FnMut() -> Instant) {
    let mut next = Instant::now() + first;
    while !stop.load(Ordering::Acquire) {
        std::thread::park_timeout(TICK);
        if Instant::now() >= next {
            next = work();
        }
    }
}
