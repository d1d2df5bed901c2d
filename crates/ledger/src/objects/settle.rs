//! What became of a request whose answer was lost: what stands at the name says it.

use std::io;
use std::time::{Duration, Instant};

use super::bucket::NotMade;

/// How long something is tried, all told. What is not answered by then may have been made: recovery reads what is true.
const TRIED_FOR: Duration = Duration::from_secs(60);
/// Before the first try again; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two tries, at most.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What stands at a name after a try.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was sent.
    Ours(T),
    /// Something else.
    Another,
    /// What was there before, or nothing: it may still be on its way, and the same is sent once more.
    Before,
}

/// Sends the same until it is known what became of it; none where another's stands there. `go_by` lets time go by.
///
/// # Errors
/// It is not known after a minute.
pub fn settle<T>(
    mut send: impl FnMut() -> Result<T, NotMade>,
    look: impl Fn() -> io::Result<Seen<T>>,
    go_by: impl Fn(Duration),
) -> io::Result<Option<T>> {
    let start = Instant::now();
    let (mut paused, mut pause) = (Duration::ZERO, PAUSE);
    loop {
        let sent = match send() {
            Ok(done) => return Ok(Some(done)),
            Err(NotMade::Taken) => io::Error::other("the store says that it is there and shows nothing"),
            Err(NotMade::Unclear(error)) => error,
        };
        // Taken, timed out, cut off: what is there says by whom.
        let lost = match look() {
            Ok(Seen::Ours(done)) => return Ok(Some(done)),
            Ok(Seen::Another) => return Ok(None),
            Ok(Seen::Before) => sent,
            Err(error) => error,
        };
        if start.elapsed().max(paused) + pause > TRIED_FOR {
            return Err(lost);
        }
        go_by(pause);
        paused += pause;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
