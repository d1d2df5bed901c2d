//! The relay's own word about its queue: `postqueue -j` (Postfix 3.1 and later), one JSON object a message.
//!
//! Only counts, ages and sizes are taken: addresses and reasons stand in the listing and go nowhere.

use std::io::{BufRead, Result};

use proof::time::UnixMillis;
use serde::Deserialize;

/// Bytes of a line, at most: a message may list many recipients.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// What a listing comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    /// Messages.
    pub depth: u64,
    /// Of these, waiting for another attempt.
    pub deferred: u64,
    /// Being delivered.
    pub active: u64,
    /// Not looked at yet.
    pub incoming: u64,
    /// Held by an operator.
    pub hold: u64,
    /// Seconds since the oldest came.
    pub oldest_s: u64,
    /// Bytes of all.
    pub size_bytes: u64,
    /// Lines that are no message.
    pub unknown_lines: u64,
}

#[derive(Deserialize)]
struct Message<'l> {
    #[serde(borrow)]
    queue_name: &'l str,
    arrival_time: u64,
    #[serde(default)]
    message_size: u64,
}

/// Reads a listing to its end.
///
/// # Errors
/// It can't be read.
pub fn observe(input: &mut impl BufRead, now: UnixMillis) -> Result<Queue> {
    let mut queue = Queue::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if std::io::Read::take(&mut *input, LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(queue);
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
            input.skip_until(b'\n')?;
        }
        let Ok(message) = serde_json::from_slice::<Message<'_>>(&line) else {
            queue.unknown_lines += 1;
            continue;
        };
        queue.depth += 1;
        queue.size_bytes = queue.size_bytes.saturating_add(message.message_size);
        queue.oldest_s = queue.oldest_s.max((now.0 / 1000).saturating_sub(message.arrival_time));
        match message.queue_name {
            "deferred" => queue.deferred += 1,
            "active" => queue.active += 1,
            "incoming" | "maildrop" => queue.incoming += 1,
            "hold" => queue.hold += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_counted_and_nothing_else_is_kept() {
        let text = r#"{"queue_name": "deferred", "queue_id": "4bX1", "arrival_time": 1000, "message_size": 500, "forced_expire": false, "sender": "a@shop.example", "recipients": [{"address": "b@mail.example", "delay_reason": "connect to mail.example: Connection timed out"}]}
{"queue_name": "active", "queue_id": "4bX2", "arrival_time": 1900, "message_size": 700, "sender": "", "recipients": []}
{"queue_name": "hold", "queue_id": "4bX3", "arrival_time": 1990, "message_size": 1, "sender": "", "recipients": []}

mail system is down
"#;
        let queue = observe(&mut text.as_bytes(), UnixMillis(2_000_000)).expect("read");
        let expected = Queue {
            depth: 3,
            deferred: 1,
            active: 1,
            hold: 1,
            oldest_s: 1000,
            size_bytes: 1201,
            unknown_lines: 1,
            ..Queue::default()
        };
        assert_eq!(queue, expected);
        assert_eq!(observe(&mut "".as_bytes(), UnixMillis(1)).expect("read"), Queue::default());
    }
}
