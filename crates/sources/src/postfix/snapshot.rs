//! A correlator written out and read back (`docs/formats/source-state.md`). All numbers are big-endian.
//!
//! It may hold addresses: who stores it MUST encrypt it.

use std::collections::{BTreeSet, VecDeque};
use std::io::{Error, ErrorKind, Read, Result, Write};

use super::correlate::{Correlator, Due, Options};
use super::messages::{ADDRESSES_MAX, Flags, Message, Messages};

const MAGIC: &[u8; 8] = b"CNDRCORR";
const VERSION: u16 = 1;
/// Recipients of one message that are read back, at most.
const RECIPIENTS_MAX: u32 = 10_000_000;

fn bad(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

impl Correlator {
    /// Writes everything that the next line depends on.
    ///
    /// # Errors
    /// `out` can't be written.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        out.write_all(&self.clock.to_be_bytes())?;
        out.write_all(&(self.hosts.len() as u16).to_be_bytes())?;
        for host in &self.hosts {
            write_bytes(out, host)?;
        }
        out.write_all(&self.recent.0.to_be_bytes())?;
        out.write_all(&(self.recent.1.len() as u16).to_be_bytes())?;
        for (what, text) in &self.recent.1 {
            out.write_all(&what.to_be_bytes())?;
            out.write_all(&text.to_be_bytes())?;
        }
        out.write_all(&(self.messages.len() as u32).to_be_bytes())?;
        for (_, message) in self.messages.iter() {
            write_message(out, message)?;
        }
        Ok(())
    }

    /// Reads what [`Correlator::write`] wrote; `options` are those of today.
    ///
    /// # Errors
    /// `input` can't be read, or is no snapshot of this version.
    pub fn read(options: Options, input: &mut dyn Read) -> Result<Correlator> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(bad("not a correlator's snapshot"));
        }
        if u16::from_be_bytes(take(input)?) != VERSION {
            return Err(bad("a snapshot of a version that this program does not know"));
        }
        let clock = u32::from_be_bytes(take(input)?);
        let mut hosts = BTreeSet::new();
        for _ in 0..u16::from_be_bytes(take(input)?) {
            let host = read_bytes(input)?;
            if hosts.last().is_some_and(|before| *before >= host) {
                return Err(bad("the hosts of the snapshot do not rise"));
            }
            hosts.insert(host);
        }
        let second = u32::from_be_bytes(take(input)?);
        let mut recent = Vec::new();
        for _ in 0..u16::from_be_bytes(take(input)?) {
            recent.push((u64::from_be_bytes(take(input)?), u64::from_be_bytes(take(input)?)));
        }
        let mut messages = Messages::default();
        let (mut closing, mut aging) = (Vec::new(), Vec::new());
        for _ in 0..u32::from_be_bytes(take(input)?) {
            let message = read_message(input)?;
            if messages.find(message.key, message.queue_id()).is_some() {
                return Err(bad("a message stands twice in the snapshot"));
            }
            let (closed, at, key) = (message.flags.has(Flags::CLOSED), message.due, message.key);
            let due = Due { at, slot: messages.insert(message), key };
            if closed {
                closing.push(due)
            } else {
                aging.push(due)
            };
        }
        let mut rest = [0];
        if input.read(&mut rest)? != 0 {
            return Err(bad("bytes after the snapshot"));
        }
        closing.sort_by_key(|due| (due.at, due.key));
        aging.sort_by_key(|due| (due.at, due.key));
        let (closing, aging) = (VecDeque::from(closing), VecDeque::from(aging));
        Ok(Correlator { announced: None, options, messages, clock, hosts, recent: (second, recent), closing, aging })
    }
}

fn write_message(out: &mut dyn Write, message: &Message) -> Result<()> {
    out.write_all(&message.key.to_be_bytes())?;
    for number in [message.opening, message.opened, message.last, message.due, message.expected] {
        out.write_all(&number.to_be_bytes())?;
    }
    out.write_all(&message.attempts.to_be_bytes())?;
    out.write_all(&[message.flags.0])?;
    write_bytes(out, message.queue_id())?;
    write_bytes(out, message.message_id())?;
    write_bytes(out, message.announced())?;
    out.write_all(&(message.recipients.len() as u32).to_be_bytes())?;
    for recipient in &message.recipients {
        out.write_all(&recipient.to_be_bytes())?;
    }
    let deferred = message.deferred.as_deref().map(Vec::as_slice).unwrap_or_default();
    out.write_all(&(deferred.len() as u16).to_be_bytes())?;
    for (hash, address) in deferred {
        out.write_all(&hash.to_be_bytes())?;
        write_bytes(out, address)?;
    }
    Ok(())
}

fn read_message(input: &mut dyn Read) -> Result<Message> {
    let key = u64::from_be_bytes(take(input)?);
    let mut numbers = [0; 5];
    for number in &mut numbers {
        *number = u32::from_be_bytes(take(input)?);
    }
    let attempts = u16::from_be_bytes(take(input)?);
    let [flags] = take(input)?;
    let queue_id = read_bytes(input)?;
    if queue_id.len() > 255 {
        return Err(bad("a queue id longer than any is"));
    }
    let mut message = Message::new(key, &queue_id, 0);
    let message_id = read_bytes(input)?;
    if message_id.len() > 255 {
        return Err(bad("a Message-ID longer than any that is kept"));
    }
    message.set_message_id(&message_id, &read_bytes(input)?);
    [message.opening, message.opened, message.last, message.due, message.expected] = numbers;
    message.attempts = attempts;
    message.flags = Flags(flags);
    let recipients = u32::from_be_bytes(take(input)?);
    if recipients > RECIPIENTS_MAX {
        return Err(bad("more recipients than a message can have"));
    }
    for _ in 0..recipients {
        message.recipients.push(u64::from_be_bytes(take(input)?));
    }
    let deferred = u16::from_be_bytes(take(input)?);
    if usize::from(deferred) > ADDRESSES_MAX {
        return Err(bad("more addresses than are kept of a message"));
    }
    for _ in 0..deferred {
        let hash = u64::from_be_bytes(take(input)?);
        let address = read_bytes(input)?;
        message.set_address(hash, Some(&address));
    }
    if message.deferred.as_ref().map_or(0, |kept| kept.len()) != usize::from(deferred) {
        return Err(bad("an address stands twice in the snapshot"));
    }
    Ok(message)
}

fn take<const N: usize>(input: &mut dyn Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Length in two bytes, bytes. Everything written so comes from one line of a log, which is far shorter than 64 KiB.
///
/// # Errors
/// `out` can't be written.
pub fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.write_all(&(bytes.len() as u16).to_be_bytes())?;
    out.write_all(bytes)
}

/// Reads what [`write_bytes`] wrote.
///
/// # Errors
/// `input` can't be read, or ends before.
pub fn read_bytes(input: &mut dyn Read) -> Result<Box<[u8]>> {
    let length = u16::from_be_bytes(take(input)?);
    let mut bytes = vec![0; usize::from(length)];
    input.read_exact(&mut bytes)?;
    Ok(bytes.into_boxed_slice())
}
