//! The open messages of the correlator: a bounded table, about 170 bytes a message.
//!
//! A message is found by a keyed hash of host, instance and queue id. Its place in the table is not kept anywhere
//! else, so a table that is written out and read back is the same table.

use hashbrown::HashTable;
use smallvec::SmallVec;

/// Messages held in one piece of memory, so that growing never copies the table.
const CHUNK: usize = 4096;
/// Addresses of deferred recipients kept for one message; of further ones an expiry says only how many.
pub(super) const ADDRESSES_MAX: usize = 1000;
/// Bytes of a Message-ID that are kept; a longer one is known by its digest.
pub(super) const MESSAGE_ID_BYTES_MAX: usize = 124;

/// What became of a recipient, in the low two bits of its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// To be tried again.
    Deferred = 1,
    /// Taken or given up: no further attempt.
    Final = 2,
}

/// One recipient: 62 bits of a keyed hash of its address, and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipient(pub(super) u64);

impl Recipient {
    pub(super) fn new(hash: u64, state: State) -> Recipient {
        Recipient(hash & !3 | state as u64)
    }

    fn is(self, hash: u64) -> bool {
        (self.0 ^ hash) >> 2 == 0
    }

    pub(super) fn state(self) -> State {
        if self.0 & 3 == State::Deferred as u64 { State::Deferred } else { State::Final }
    }
}

/// What is known of a message beside its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(pub(super) u8);

impl Flags {
    /// A line of smtpd or pickup began it.
    pub(super) const STARTED: u8 = 1;
    /// It was in the active queue.
    pub(super) const ACTIVE: u8 = 2;
    /// It was handed in by us: locally, by a configured client or by one that signed in.
    pub(super) const OWN: u8 = 4;
    /// It is a report (empty sender).
    pub(super) const REPORT: u8 = 8;
    /// Its life has ended; it is kept for late lines.
    pub(super) const CLOSED: u8 = 16;
    /// Its recipients need not be complete: an operator took it out, or it died before the queue.
    pub(super) const UNCHECKED: u8 = 32;

    pub(super) fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(super) fn set(&mut self, flag: u8) {
        self.0 |= flag;
    }
}

/// Stands for a number of recipients that no line has said.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// One message in one stay in one queue.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Keyed hash of host, instance and queue id.
    pub(super) key: u64,
    /// Lengths of the queue id and the Message-ID, both, and the correlation id of the announcement, where there was
    /// one.
    head: Box<[u8]>,
    /// In the order in which they were first named.
    pub(super) recipients: SmallVec<[u64; 2]>,
    /// Addresses of deferred recipients with the hash of each, where the source keeps addresses.
    pub(super) deferred: Option<Box<Vec<(u64, Box<[u8]>)>>>,
    /// 32 bits of the hash of the line that began it.
    pub(super) opening: u32,
    /// Seconds since 1970 of its first line.
    pub(super) opened: u32,
    /// Of its newest line.
    pub(super) last: u32,
    /// When it is looked at again.
    pub(super) due: u32,
    /// Recipients after expansion, or [`UNKNOWN`].
    pub(super) expected: u32,
    /// How often it was in the active queue.
    pub(super) attempts: u16,
    pub(super) flags: Flags,
}

impl Message {
    pub(super) fn new(key: u64, queue_id: &[u8], at: u32) -> Message {
        Message {
            key,
            head: head(queue_id, b"", b""),
            recipients: SmallVec::new(),
            deferred: None,
            opening: 0,
            opened: at,
            last: at,
            due: at,
            expected: UNKNOWN,
            attempts: 0,
            flags: Flags::default(),
        }
    }

    /// Where the Message-ID and the correlation id begin.
    fn ends(&self) -> (usize, usize) {
        let length = |at: usize| usize::from(self.head.get(at).copied().unwrap_or(0));
        (2 + length(0), 2 + length(0) + length(1))
    }

    pub(super) fn queue_id(&self) -> &[u8] {
        self.head.get(2..self.ends().0).unwrap_or_default()
    }

    /// Its Message-ID; empty as long as none was seen.
    pub(super) fn message_id(&self) -> &[u8] {
        let (first, end) = self.ends();
        self.head.get(first..end).unwrap_or_default()
    }

    /// The correlation id under which it was announced; empty if it was not.
    pub(super) fn announced(&self) -> &[u8] {
        self.head.get(self.ends().1..).unwrap_or_default()
    }

    pub(super) fn set_message_id(&mut self, message_id: &[u8], announced: &[u8]) {
        self.head = head(self.queue_id(), message_id, announced);
    }

    /// Sets a recipient's state; its place among the recipients.
    pub(super) fn set_recipient(&mut self, hash: u64, state: State) -> u32 {
        let at = match self.recipients.iter().position(|held| Recipient(*held).is(hash)) {
            // What is final stays so: a repeated line of an earlier attempt says nothing new.
            Some(at) if Recipient(self.recipients[at]).state() == State::Final => at,
            Some(at) => {
                self.recipients[at] = Recipient::new(hash, state).0;
                at
            }
            None => {
                self.recipients.push(Recipient::new(hash, state).0);
                self.recipients.len() - 1
            }
        };
        at as u32
    }

    /// Keeps or drops the address of a deferred recipient.
    pub(super) fn set_address(&mut self, hash: u64, address: Option<&[u8]>) {
        if self.deferred.is_none() && address.is_none() {
            return;
        }
        let mut kept = self.deferred.take().unwrap_or_default();
        let at = kept.iter().position(|(held, _)| (held ^ hash) >> 2 == 0);
        match (at, address) {
            (None, Some(address)) if kept.len() < ADDRESSES_MAX => kept.push((hash & !3, address.into())),
            (Some(at), None) => drop(kept.swap_remove(at)),
            _ => {}
        }
        self.deferred = (!kept.is_empty()).then_some(kept);
    }

    /// Recipients with a final state.
    pub(super) fn finals(&self) -> u32 {
        self.recipients.iter().filter(|held| Recipient(**held).state() == State::Final).count() as u32
    }
}

fn head(queue_id: &[u8], message_id: &[u8], announced: &[u8]) -> Box<[u8]> {
    let first = &queue_id[..queue_id.len().min(255)];
    let second = &message_id[..message_id.len().min(255)];
    let lengths = [first.len() as u8, second.len() as u8];
    [&lengths, first, second, announced].concat().into_boxed_slice()
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Messages {
    table: HashTable<u32>,
    slots: Vec<Vec<Option<Message>>>,
    free: Vec<u32>,
}

impl Messages {
    /// How many there are, closed ones in their grace included.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn find(&self, key: u64, queue_id: &[u8]) -> Option<u32> {
        let slots = &self.slots;
        let same = |slot: &u32| at(slots, *slot).is_some_and(|m| m.key == key && m.queue_id() == queue_id);
        self.table.find(key, same).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Message> {
        at(&self.slots, slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Message> {
        self.slots.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.as_mut()
    }

    /// Adds a message that MUST NOT be there yet.
    pub(super) fn insert(&mut self, message: Message) -> u32 {
        let key = message.key;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize / CHUNK][slot as usize % CHUNK] = Some(message);
                slot
            }
            None => {
                if self.slots.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                    self.slots.push(Vec::with_capacity(CHUNK));
                }
                let chunk = self.slots.len() - 1;
                self.slots[chunk].push(Some(message));
                (chunk * CHUNK + self.slots[chunk].len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(key, slot, |slot| at(slots, *slot).map_or(0, |message| message.key));
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Message> {
        let message = self.slots.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.take()?;
        if let Ok(entry) = self.table.find_entry(message.key, |held| *held == slot) {
            entry.remove();
        }
        self.free.push(slot);
        Some(message)
    }

    /// All of them, in no particular order, each with its place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Message)> {
        let numbered = self.slots.iter().flatten().enumerate();
        numbered.filter_map(|(slot, message)| Some((slot as u32, message.as_ref()?)))
    }

    /// Drops the addresses that `gone` names; whether there were any.
    pub(super) fn forget(&mut self, gone: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut found = false;
        for message in self.slots.iter_mut().flatten().flatten() {
            if let Some(kept) = &mut message.deferred {
                let before = kept.len();
                kept.retain(|(_, address)| !gone(address));
                found |= kept.len() < before;
            }
        }
        found
    }
}

fn at(slots: &[Vec<Option<Message>>], slot: u32) -> Option<&Message> {
    slots.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
}
