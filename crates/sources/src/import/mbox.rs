//! Splitting a mailbox file (mbox, RFC 4155 and the variant that quotes `From ` as `>From `).

use std::io::{self, BufRead, Read};

/// Bytes of one message, at most.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// One message of a mailbox.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Its bytes.
    Message(Vec<u8>),
    /// It is larger than [`MESSAGE_BYTES_MAX`].
    TooLong,
}

/// Messages of a mailbox, in their order.
pub struct Mailbox<R> {
    input: R,
    /// Whether the line that begins the next message was read.
    begun: bool,
    done: bool,
}

impl<R: BufRead> Mailbox<R> {
    /// Reads from the beginning of a file.
    pub fn new(input: R) -> Mailbox<R> {
        Mailbox { input, begun: false, done: false }
    }

    /// The next message; `None` at the end. What stands before the first one is left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        let (mut message, mut too_long, mut after_blank) = (Vec::new(), false, true);
        let mut line = Vec::new();
        while !self.done {
            line.clear();
            // A line without an end does not fill memory either.
            let read = self.input.by_ref().take(MESSAGE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
            if read == 0 {
                self.done = true;
                break;
            }
            if line.starts_with(b"From ") && (after_blank || !self.begun) {
                if std::mem::replace(&mut self.begun, true) {
                    return Ok(Some(piece(message, too_long)));
                }
                continue;
            }
            after_blank = line == b"\n" || line == b"\r\n";
            if !self.begun {
                continue;
            }
            if message.len() + line.len() > MESSAGE_BYTES_MAX {
                (too_long, message) = (true, Vec::new());
            }
            if !too_long {
                let quoted = line.iter().position(|byte| *byte != b'>').filter(|at| *at > 0);
                let unquoted = quoted.is_some_and(|at| line[at..].starts_with(b"From "));
                message.extend_from_slice(if unquoted { &line[1..] } else { &line });
            }
        }
        if std::mem::take(&mut self.begun) { Ok(Some(piece(message, too_long))) } else { Ok(None) }
    }
}

fn piece(mut message: Vec<u8>, too_long: bool) -> Piece {
    if too_long {
        return Piece::TooLong;
    }
    // The blank line before the next message is the mailbox's.
    if message.ends_with(b"\n\n") {
        message.pop();
    }
    Piece::Message(message)
}
