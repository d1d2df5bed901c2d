//! From lines to what became of each message.
//!
//! Owns the open messages of one source, keyed by host, instance and queue id; a queue id used again after its
//! message's end is another message. Time is that of the lines: the same lines give the same events, wherever a stop
//! fell between them. It reads no clock and no file; who feeds it keeps its [snapshot](super::snapshot) beside the place
//! up to which lines were fed.
//!
//! Invariants:
//! - an event's id depends on no address and on nothing a stranger wrote, and is the same when its line comes again;
//! - memory is bounded by [`Options::messages_max`]; what has to go for it is told as a gap;
//! - a hop inside our relay is never told as sent, a probe never as a delivery, a report never as the customer's mail.
//!
//! Longer than other files: every step of a message's life reads and writes the same table of open messages, and an
//! order of steps is easier to see in one place.

use std::collections::{BTreeSet, VecDeque};

use proof::hash::{sha256, sha256_parts};
use proof::time::UnixMillis;

use super::event::{Event, Gap, Kind, Marks, Observation};
use super::frame::{Framed, Stamp, frame};
use super::line::{Delivery, Line, Peer, QueueAction, QueueId, Verdict, parse};
use super::messages::{Flags, MESSAGE_ID_BYTES_MAX, Message, Messages, State, UNKNOWN};
use super::outcome::{Outcome, Place, outcome};

/// A message that ended is kept for late lines this long (J. Tobin, 2009, saw them within minutes).
const GRACE_S: u32 = 600;
/// A message that never came into the active queue is dropped after this long: its client went away.
const ORPHAN_S: u32 = 12 * 3600;
/// A message of which nothing was heard for this long is told as lost; Postfix gives up after five days by default.
const LOST_S: u32 = 7 * 86_400;
/// A client's line may follow the first line of cleanup by this much.
const LATE_START_S: u32 = 60;
/// The lines' clock goes no further ahead of the reader's than this.
const AHEAD_S: u32 = 86_400;
/// Hosts that are remembered as ours.
const HOSTS_MAX: usize = 256;
/// Bytes of a correlation id, at most.
const CORRELATION_BYTES_MAX: usize = 128;
/// Verdicts without a message that are told apart within one second.
const RECENT_MAX: usize = 4096;

/// What a source is set to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Secret that the hashes of this source are made with.
    pub key: [u8; 32],
    /// Whether addresses of deferred recipients are kept until they are final.
    pub keep_addresses: bool,
    /// Offset of stamps without a zone from UTC.
    pub zone_east_minutes: i32,
    /// Names or addresses of relays that are hops of ours. Loopback addresses always are.
    pub hops: Vec<String>,
    /// Names or addresses of clients whose mail is ours. Loopback addresses always are.
    pub clients: Vec<String>,
    /// Messages held at once, at most.
    pub messages_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            key: [0; 32],
            keep_addresses: false,
            zone_east_minutes: 0,
            hops: Vec::new(),
            clients: Vec::new(),
            messages_max: 1_000_000,
        }
    }
}

/// What a line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A line of Postfix, or of a logger about lines it dropped.
    Understood,
    /// A line of some other program.
    Other,
    /// No line of any known form.
    Unframed,
}

/// Looks up the correlation id under which a message was announced, by its Message-ID.
pub type Announced = dyn Fn(&[u8]) -> Option<String> + Send;

pub(super) struct Lookup(pub(super) Box<Announced>);

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lookup(..)")
    }
}

/// See the module.
#[derive(Debug)]
pub struct Correlator {
    pub(super) announced: Option<Lookup>,
    pub(super) options: Options,
    pub(super) messages: Messages,
    /// The newest stamp, in seconds since 1970.
    pub(super) clock: u32,
    /// Names of the hosts whose lines we read.
    pub(super) hosts: BTreeSet<Box<[u8]>>,
    /// The second of the newest verdicts without a message, and (what, which text) of each.
    pub(super) recent: (u32, Vec<(u64, u64)>),
    /// Places to look at again, each list in the order of time: messages that ended, open ones.
    pub(super) closing: VecDeque<Due>,
    pub(super) aging: VecDeque<Due>,
}

/// When to look at a place of the table, if the message is still there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: u32,
    pub(super) slot: u32,
    pub(super) key: u64,
}

/// Where a line comes from.
struct Here<'l> {
    host: &'l [u8],
    instance: &'l [u8],
    daemon: &'l [u8],
    pid: u32,
    at: UnixMillis,
    seconds: u32,
    inferred: bool,
    text: &'l [u8],
}

type Sink<'s> = &'s mut dyn FnMut(Event<'_>);

impl Correlator {
    /// A correlator that has seen nothing.
    pub fn new(options: Options) -> Correlator {
        Correlator {
            announced: None,
            options,
            messages: Messages::default(),
            clock: 0,
            hosts: BTreeSet::new(),
            recent: (0, Vec::new()),
            closing: VecDeque::new(),
            aging: VecDeque::new(),
        }
    }

    /// Messages held: open ones, and ended ones in their grace.
    pub fn held(&self) -> usize {
        self.messages.len()
    }

    /// Gives messages the correlation id of their announcement, where `find` knows one. What it said is kept with the
    /// message, so that it is asked once.
    pub fn with_announcements(self, find: Box<Announced>) -> Correlator {
        Correlator { announced: Some(Lookup(find)), ..self }
    }

    /// Messages whose life has not ended.
    pub fn open(&self) -> usize {
        self.messages.iter().filter(|(_, message)| !message.flags.has(Flags::CLOSED)).count()
    }

    /// The newest stamp of any line; `None` before the first.
    pub fn newest(&self) -> Option<UnixMillis> {
        (self.clock > 0).then(|| seconds(self.clock))
    }

    /// Takes one line, seen at `seen`, and tells `each` what it leads to.
    pub fn line(&mut self, line: &[u8], seen: UnixMillis, each: Sink<'_>) -> Taken {
        let Some(framed) = frame(line) else { return Taken::Unframed };
        let Some(at) = framed.stamp.resolve(seen, self.options.zone_east_minutes) else { return Taken::Unframed };
        let program = framed.program();
        let parsed = parse(program.daemon, &framed.text);
        if !framed.is_labelled() && !matches!(parsed, Line::Suppressed { .. }) {
            return Taken::Other;
        }
        let seconds = u32::try_from(at.0 / 1000).unwrap_or(u32::MAX);
        let here = Here {
            host: &framed.host,
            instance: program.instance,
            daemon: program.daemon,
            pid: framed.pid,
            at,
            seconds,
            inferred: matches!(framed.stamp, Stamp::Yearless { .. }),
            text: &framed.text,
        };
        self.note_host(&framed);
        self.apply(&here, &parsed, each);
        self.advance(seconds.min(u32::try_from(seen.0 / 1000).unwrap_or(u32::MAX).saturating_add(AHEAD_S)), each);
        Taken::Understood
    }

    /// Lets time go on without a line, as far as `now`.
    pub fn idle(&mut self, now: UnixMillis, each: Sink<'_>) {
        self.advance(u32::try_from(now.0 / 1000).unwrap_or(u32::MAX), each);
    }

    /// Looks at every message that has ended now rather than after its grace: no line will follow for long.
    pub fn end_of_input(&mut self, each: Sink<'_>) {
        let waiting: Vec<Due> = self.closing.iter().copied().collect();
        for due in waiting {
            self.check(due, each);
        }
    }

    /// Drops kept addresses that `gone` names; whether there were any.
    pub fn forget(&mut self, gone: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.messages.forget(gone)
    }

    fn note_host(&mut self, framed: &Framed<'_>) {
        if self.hosts.len() < HOSTS_MAX && !self.hosts.contains(framed.host.as_ref()) {
            self.hosts.insert(framed.host.as_ref().into());
        }
    }

    fn hash(&self, what: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.options.key);
        bytes.extend_from_slice(what);
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        sha256(&bytes).0
    }

    fn short(&self, what: &[u8], parts: &[&[u8]]) -> u64 {
        proof::encoding::big_endian(&self.hash(what, parts)[..8])
    }

    fn key(&self, here: &Here<'_>, id: QueueId<'_>) -> u64 {
        self.short(b"message", &[here.host, here.instance, id.0])
    }

    /// The id of what a line says; `parts` MUST hold no address and no stranger's text.
    fn id(&self, here: &Here<'_>, parts: &[&[u8]]) -> [u8; 16] {
        let (seconds, pid) = (here.seconds.to_be_bytes(), here.pid.to_be_bytes());
        let mut all: Vec<&[u8]> = vec![here.host, here.instance, here.daemon, &seconds, &pid];
        all.extend_from_slice(parts);
        first_16(self.hash(b"event", &all))
    }

    fn apply(&mut self, here: &Here<'_>, line: &Line<'_>, each: Sink<'_>) {
        match line {
            Line::Client { id, client, sasl_username, .. } => {
                let own = sasl_username.is_some() || self.is_own(client);
                self.begin(here, *id, own, each);
            }
            Line::Pickup { id, .. } => self.begin(here, *id, true, each),
            Line::MessageId { id, message_id } => self.message_id(here, *id, message_id, each),
            Line::Active { id, from, size, nrcpt } => self.active(here, *id, (from, *size, *nrcpt), each),
            Line::Expired { id } => self.expired(here, *id, each),
            Line::Delivery { id, delivery } => self.delivery(here, *id, delivery, each),
            Line::Report { id, child, sort } => self.report(here, *id, *child, sort, each),
            Line::Queue { id, action, operator } => self.queue(here, *id, (*action, *operator), each),
            Line::Verdict(verdict) => self.verdict(here, verdict, each),
            Line::Suppressed { count } => {
                let id = self.id(here, &[b"suppressed", &count.unwrap_or(0).to_be_bytes()]);
                each(Event::Gap(Gap {
                    at: here.at,
                    id,
                    reason: "lines_suppressed",
                    count: *count,
                    from: seconds(self.clock.min(here.seconds)),
                    suspected: false,
                    queue_id: Vec::new(),
                    recipients: None,
                }));
            }
            Line::Connection { .. } | Line::Other => {}
        }
    }

    fn is_own(&self, client: &Peer<'_>) -> bool {
        is_loopback(client.address) || named(&self.options.clients, client)
    }

    fn is_hop(&self, relay: &Peer<'_>) -> bool {
        is_loopback(relay.address) || named(&self.options.hops, relay) || self.hosts.contains(relay.name)
    }

    /// A line of smtpd or pickup: a message begins.
    fn begin(&mut self, here: &Here<'_>, id: QueueId<'_>, own: bool, each: Sink<'_>) {
        let key = self.key(here, id);
        let opening = self.short(b"opening", &[&here.seconds.to_be_bytes(), &here.pid.to_be_bytes(), here.text]) as u32;
        let found = self.messages.find(key, id.0);
        if let Some((slot, message)) = found.and_then(|slot| Some((slot, self.messages.get_mut(slot)?))) {
            let same = message.opening == opening && message.opened == here.seconds;
            let first_came_late = !message.flags.has(Flags::STARTED | Flags::CLOSED)
                && here.seconds.abs_diff(message.opened) <= LATE_START_S;
            if same || first_came_late {
                message.opening = opening;
                message.flags.set(Flags::STARTED | if own { Flags::OWN } else { 0 });
                return;
            }
            self.end_early(slot, here, "queue_id_reused", each);
        }
        let slot = self.insert(key, id, here.seconds, each);
        if let Some(message) = self.messages.get_mut(slot) {
            message.opening = opening;
            message.flags.set(Flags::STARTED | if own { Flags::OWN } else { 0 });
        }
    }

    /// Takes a message out to make place for another of its name; if it was open, lines are missing.
    fn end_early(&mut self, slot: u32, here: &Here<'_>, reason: &'static str, each: Sink<'_>) {
        let Some(message) = self.messages.get(slot) else { return };
        if message.flags.has(Flags::CLOSED) {
            let due = Due { at: message.due, slot, key: message.key };
            self.check(due, each);
        } else {
            each(Event::Gap(self.gap(message, here.at, reason)));
        }
        self.messages.remove(slot);
    }

    fn insert(&mut self, key: u64, id: QueueId<'_>, seconds: u32, each: Sink<'_>) -> u32 {
        while self.messages.len() >= self.options.messages_max {
            let Some(due) = self.aging.pop_front().or_else(|| self.closing.pop_front()) else { break };
            if let Some(message) = self.held_at(due) {
                each(Event::Gap(self.gap(message, self::seconds(message.last), "too_many_open")));
                self.messages.remove(due.slot);
            }
        }
        let mut message = Message::new(key, id.0, seconds);
        message.due = self.clock.max(seconds).saturating_add(ORPHAN_S);
        let at = message.due;
        let slot = self.messages.insert(message);
        self.aging.push_back(Due { at, slot, key });
        slot
    }

    /// The message at a place, if it is the one meant.
    fn held_at(&self, due: Due) -> Option<&Message> {
        self.messages.get(due.slot).filter(|message| message.key == due.key && message.due == due.at)
    }

    /// The message that a line is about; made if this is its first line.
    fn about(&mut self, here: &Here<'_>, id: QueueId<'_>, each: Sink<'_>) -> u32 {
        let key = self.key(here, id);
        let slot = match self.messages.find(key, id.0) {
            Some(slot) => slot,
            None => self.insert(key, id, here.seconds, each),
        };
        if let Some(message) = self.messages.get_mut(slot) {
            message.last = message.last.max(here.seconds);
        }
        slot
    }

    /// The same for lines that only a message that goes on can have: one that has ended gives way.
    fn about_open(&mut self, here: &Here<'_>, id: QueueId<'_>, each: Sink<'_>) -> u32 {
        let key = self.key(here, id);
        let found = self.messages.find(key, id.0);
        let ended = |message: &Message| message.flags.has(Flags::CLOSED) && here.seconds > message.last;
        if let Some(slot) = found.filter(|slot| self.messages.get(*slot).is_some_and(ended)) {
            self.end_early(slot, here, "queue_id_reused", each);
        }
        self.about(here, id, each)
    }

    fn message_id(&mut self, here: &Here<'_>, id: QueueId<'_>, message_id: &[u8], each: Sink<'_>) {
        let slot = self.about_open(here, id, each);
        let Some(message) = self.messages.get_mut(slot) else { return };
        if message.message_id().is_empty() && !message_id.is_empty() {
            let announced = self.announced.as_ref().and_then(|find| (find.0)(message_id));
            let announced = announced.filter(|id| id.len() <= CORRELATION_BYTES_MAX).unwrap_or_default();
            if message_id.len() <= MESSAGE_ID_BYTES_MAX {
                message.set_message_id(message_id, announced.as_bytes());
            } else {
                let digest = format!("sha256:{}", sha256(message_id).hex());
                message.set_message_id(digest.as_bytes(), announced.as_bytes());
            }
        }
    }

    fn active(&mut self, here: &Here<'_>, id: QueueId<'_>, line: (&[u8], u64, u64), each: Sink<'_>) {
        let (from, size, nrcpt) = line;
        let slot = self.about_open(here, id, each);
        let Some(message) = self.messages.get_mut(slot) else { return };
        message.attempts = message.attempts.saturating_add(1);
        if message.flags.has(Flags::ACTIVE) {
            return;
        }
        message.flags.set(Flags::ACTIVE | if from.is_empty() { Flags::REPORT } else { 0 });
        message.expected = u32::try_from(nrcpt).unwrap_or(UNKNOWN - 1);
        if message.flags.has(Flags::REPORT) {
            return;
        }
        let line = self.id(here, &[id.0, b"active", &size.to_be_bytes(), &nrcpt.to_be_bytes()]);
        let Some(message) = self.messages.get(slot) else { return };
        each(Event::Observed(Observation {
            recipient_count: Some(message.expected),
            size_bytes: Some(size),
            attempt: 0,
            ..self.observation(here, message, line, (Kind::Routed, "queued", "info"), "own_queue")
        }));
    }

    fn delivery(&mut self, here: &Here<'_>, id: QueueId<'_>, delivery: &Delivery<'_>, each: Sink<'_>) {
        let place = Place { daemon: here.daemon, hop: self.is_hop(&delivery.relay) };
        let Some(outcome) = outcome(delivery, &place) else { return };
        let slot = self.about(here, id, each);
        let recipient = self.short(b"recipient", &[delivery.to]);
        let keep = self.options.keep_addresses && outcome.state == State::Deferred;
        // Who is told of is the address that was written to, not what an alias made of it.
        let told = delivery.orig_to.filter(|address| !address.is_empty()).unwrap_or(delivery.to);
        let Some(message) = self.messages.get_mut(slot) else { return };
        let mut ordinal = 0;
        if !delivery.to.is_empty() {
            ordinal = message.set_recipient(recipient, outcome.state);
            message.set_address(recipient, keep.then_some(told));
        }
        let report = message.flags.has(Flags::REPORT);
        let Some(message) = self.messages.get(slot) else { return };
        let parts = [
            id.0,
            &ordinal.to_be_bytes(),
            outcome.status.as_bytes(),
            delivery.dsn,
            delivery.relay.name,
            delivery.delay,
            delivery.delays,
        ];
        let line = self.id(here, &parts);
        let told_once = Observation {
            recipient: told,
            dsn: token(delivery.dsn, 16),
            relay: host_of(&delivery.relay),
            delay_ms: milliseconds(delivery.delay),
            next_queue_id: outcome.next,
            reason: if report { "report" } else { outcome.reason },
            marks: Marks {
                line_cut: delivery.truncated,
                address_ambiguous: delivery.ambiguous,
                time_inferred: here.inferred,
            },
            ..self.observation(here, message, line, (Kind::Status, outcome.status, outcome.severity), outcome.evidence)
        };
        for kind in outcome_kinds(&outcome, report) {
            let status = if *kind == Kind::Attempt { outcome.attempt } else { outcome.status };
            each(Event::Observed(Observation { kind: *kind, status, ..told_once.clone() }));
        }
    }

    /// Every recipient that is still deferred fails now; no line says so for each.
    fn expired(&mut self, here: &Here<'_>, id: QueueId<'_>, each: Sink<'_>) {
        let slot = self.about(here, id, each);
        let Some(message) = self.messages.get(slot) else { return };
        let deferred: Vec<(u32, u64)> = message
            .recipients
            .iter()
            .enumerate()
            .filter(|(_, held)| super::messages::Recipient(**held).state() == State::Deferred)
            .map(|(ordinal, held)| (ordinal as u32, *held))
            .collect();
        let addresses = message.deferred.clone().unwrap_or_default();
        let report = message.flags.has(Flags::REPORT);
        for (ordinal, hash) in deferred {
            if let Some(message) = self.messages.get_mut(slot) {
                message.set_recipient(hash, State::Final);
                message.set_address(hash, None);
            }
            let line = self.id(here, &[id.0, b"expired", &ordinal.to_be_bytes()]);
            let Some(message) = self.messages.get(slot) else { return };
            let kept = addresses.iter().find(|(held, _)| (held ^ hash) >> 2 == 0);
            let told = Observation {
                recipient: kept.map(|(_, address)| &**address).unwrap_or_default(),
                recipient_count: Some(1),
                reason: if report { "report" } else { "expired" },
                ..self.observation(here, message, line, (Kind::Status, "expired", "warning"), "own_relay_gave_up")
            };
            if !report {
                each(Event::Observed(Observation { kind: Kind::Failed, ..told.clone() }));
            }
            each(Event::Observed(told));
        }
    }

    /// A report about a message became a message, which may have ended before this line.
    fn report(&mut self, here: &Here<'_>, id: QueueId<'_>, child: QueueId<'_>, sort: &[u8], each: Sink<'_>) {
        let child_slot = self.about(here, child, each);
        if let Some(message) = self.messages.get_mut(child_slot) {
            message.flags.set(Flags::REPORT);
        }
        let slot = self.about(here, id, each);
        let line = self.id(here, &[id.0, b"report", child.0]);
        let Some(message) = self.messages.get(slot) else { return };
        let has = |word: &[u8]| memchr::memmem::find(sort, word).is_some();
        let reason = match () {
            () if has(b"non-delivery") => "non_delivery",
            () if has(b"delay") => "delay",
            () => "delivery_status",
        };
        each(Event::Observed(Observation {
            next_queue_id: child.0,
            reason,
            ..self.observation(here, message, line, (Kind::Status, "reported", "notice"), "own_queue")
        }));
    }

    fn queue(&mut self, here: &Here<'_>, id: QueueId<'_>, what: (QueueAction, bool), each: Sink<'_>) {
        let (action, operator) = what;
        let known = self.messages.find(self.key(here, id), id.0);
        if known.is_none() && !operator {
            return;
        }
        let slot = self.about(here, id, each);
        let Some(message) = self.messages.get(slot) else { return };
        if message.flags.has(Flags::CLOSED) && matches!(action, QueueAction::Removed | QueueAction::Canceled) {
            return;
        }
        let line = self.id(here, &[id.0, b"queue", &[action as u8]]);
        let remaining = (message.expected != UNKNOWN).then(|| message.expected.saturating_sub(message.finals()));
        let (kind, status, severity) = match action {
            QueueAction::Removed if operator => (Kind::Failed, "removed", "warning"),
            QueueAction::Held => (Kind::Status, "held", "notice"),
            QueueAction::Released => (Kind::Status, "released", "notice"),
            QueueAction::Requeued => (Kind::Status, "requeued", "notice"),
            QueueAction::Expired => (Kind::Status, "expiry_asked", "notice"),
            QueueAction::Removed | QueueAction::Canceled => {
                return self.close(slot, here, action == QueueAction::Canceled);
            }
        };
        // Nothing fails where nothing was left to send.
        if kind != Kind::Failed || remaining != Some(0) {
            each(Event::Observed(Observation {
                recipient_count: remaining,
                reason: if kind == Kind::Failed { "operator_deleted" } else { "" },
                ..self.observation(here, message, line, (kind, status, severity), "operator")
            }));
        }
        if matches!(action, QueueAction::Removed | QueueAction::Requeued) {
            self.close(slot, here, true);
        }
    }

    fn close(&mut self, slot: u32, here: &Here<'_>, unchecked: bool) {
        let at = self.clock.max(here.seconds).saturating_add(GRACE_S);
        let Some(message) = self.messages.get_mut(slot) else { return };
        message.flags.set(Flags::CLOSED | if unchecked { Flags::UNCHECKED } else { 0 });
        message.due = at;
        let key = message.key;
        self.closing.push_back(Due { at, slot, key });
    }

    /// A policy or filter spoke. Only what it does to our own mail is told; the rest is a stranger's mail.
    fn verdict(&mut self, here: &Here<'_>, verdict: &Verdict<'_>, each: Sink<'_>) {
        let action = verdict.action.strip_prefix(b"milter-").unwrap_or(verdict.action);
        let action = action.strip_prefix(b"proxy-").unwrap_or(action);
        let (kind, status, severity, reason) = match action {
            b"reject" => (Kind::Failed, "rejected", "error", "policy_reject"),
            b"discard" => (Kind::Failed, "discarded", "error", "discarded"),
            b"hold" | b"quarantine" => (Kind::Status, "held", "notice", "policy_hold"),
            _ => return,
        };
        let by_client = verdict.client.as_ref().is_some_and(|client| self.is_own(client));
        let address = verdict.client.map_or(&b""[..], |client| client.address);
        let mut parts = vec![verdict.id.map_or(&b"NOQUEUE"[..], |id| id.0), verdict.action, verdict.stage, address];
        let ordinal = self.ordinal(here, &parts).to_be_bytes();
        parts.push(&ordinal);
        let line = self.id(here, &parts);
        let known = verdict.id.and_then(|id| self.messages.find(self.key(here, id), id.0));
        let none = Message::new(0, b"", here.seconds);
        if let (Some(slot), "discarded") = (known, status) {
            // The sender was told 250: no line about its recipients will come.
            self.close(slot, here, true);
        }
        let message = known.and_then(|slot| self.messages.get(slot)).unwrap_or(&none);
        if !by_client && !message.flags.has(Flags::OWN) {
            return;
        }
        each(Event::Observed(Observation {
            recipient_count: (message.expected != UNKNOWN).then_some(message.expected),
            reason,
            ..self.observation(here, message, line, (kind, status, severity), "own_policy")
        }));
    }

    /// Tells verdicts of one second apart whose ids would be the same; the same text is the same verdict.
    fn ordinal(&mut self, here: &Here<'_>, parts: &[&[u8]]) -> u32 {
        let what = self.short(b"verdict", parts);
        let text = self.short(b"text", &[here.text]);
        if self.recent.0 != here.seconds {
            self.recent = (here.seconds, Vec::new());
        }
        let same = |held: &&(u64, u64)| held.0 == what;
        let place = self.recent.1.iter().filter(same).position(|held| held.1 == text);
        let next = self.recent.1.iter().filter(same).count();
        if place.is_none() && self.recent.1.len() < RECENT_MAX {
            self.recent.1.push((what, text));
        }
        place.unwrap_or(next) as u32
    }

    /// What all observations about a message have; `what` is the record, its status and its severity.
    fn observation<'m>(
        &self,
        here: &Here<'_>,
        message: &'m Message,
        id: [u8; 16],
        what: (Kind, &'static str, &'static str),
        evidence: &'static str,
    ) -> Observation<'m> {
        let (kind, status, severity) = what;
        Observation {
            kind,
            at: here.at,
            id,
            correlation: self.correlation(here, message).into(),
            severity,
            queue_id: message.queue_id(),
            message_id: message.message_id(),
            status,
            reason: "",
            evidence,
            recipient: b"",
            recipient_count: None,
            dsn: b"",
            relay: b"",
            delay_ms: None,
            size_bytes: None,
            attempt: message.attempts.max(1),
            next_queue_id: b"",
            marks: Marks { time_inferred: here.inferred, ..Marks::default() },
        }
    }

    /// That of its announcement; else by its Message-ID, which is the same on every hop; else by this stay in this queue.
    fn correlation(&self, here: &Here<'_>, message: &Message) -> String {
        if !message.announced().is_empty() {
            return String::from_utf8_lossy(message.announced()).into_owned();
        }
        if !message.message_id().is_empty() {
            let text = super::event::text(message.message_id());
            // Escapes may have made it longer than a correlation id may be.
            if text.chars().count() <= MESSAGE_ID_BYTES_MAX {
                return format!("mid:{text}");
            }
            return format!("mid:sha256:{}", sha256(message.message_id()).hex());
        }
        let opened = message.opened.to_be_bytes();
        let stay = sha256_parts(&[here.host, b"\0", here.instance, b"\0", message.queue_id(), &opened]);
        format!("queue:{}", proof::encoding::hex(&stay.0[..16]))
    }

    fn gap(&self, message: &Message, at: UnixMillis, reason: &'static str) -> Gap {
        let (key, opened) = (message.key.to_be_bytes(), message.opened.to_be_bytes());
        let finals = message.finals();
        let parts = [reason.as_bytes(), &key, &opened, &finals.to_be_bytes()];
        Gap {
            at,
            id: first_16(self.hash(b"gap", &parts)),
            reason,
            count: None,
            from: seconds(message.opened),
            suspected: true,
            queue_id: message.queue_id().to_vec(),
            recipients: (message.expected != UNKNOWN).then_some((message.expected, finals)),
        }
    }

    /// Looks at a message that has ended: each recipient must have come to an end.
    fn check(&mut self, due: Due, each: Sink<'_>) {
        let Some(message) = self.held_at(due) else { return };
        let whole = message.expected == message.finals();
        if message.flags.has(Flags::ACTIVE) && !message.flags.has(Flags::UNCHECKED) && !whole {
            each(Event::Gap(self.gap(message, seconds(message.last), "recipients_missing")));
        }
        if let Some(message) = self.messages.get_mut(due.slot) {
            message.flags.set(Flags::UNCHECKED);
        }
    }

    fn advance(&mut self, seconds: u32, each: Sink<'_>) {
        self.clock = self.clock.max(seconds);
        while let Some(due) = self.closing.front().copied().filter(|due| due.at <= self.clock) {
            self.closing.pop_front();
            self.check(due, each);
            if self.held_at(due).is_some() {
                self.messages.remove(due.slot);
            }
        }
        while let Some(due) = self.aging.front().copied().filter(|due| due.at <= self.clock) {
            self.aging.pop_front();
            self.age(due, each);
        }
    }

    fn age(&mut self, due: Due, each: Sink<'_>) {
        let Some(message) = self.held_at(due) else { return };
        let lost = message.last.saturating_add(LOST_S);
        if message.flags.has(Flags::ACTIVE) && lost > self.clock {
            let at = self.clock.saturating_add(ORPHAN_S);
            if let Some(message) = self.messages.get_mut(due.slot) {
                message.due = at;
            }
            self.aging.push_back(Due { at, ..due });
            return;
        }
        if message.flags.has(Flags::ACTIVE) {
            each(Event::Gap(self.gap(message, seconds(lost), "never_ended")));
        }
        self.messages.remove(due.slot);
    }
}

fn outcome_kinds(outcome: &Outcome<'_>, report: bool) -> &'static [Kind] {
    match (report, outcome.sent, outcome.failed) {
        (true, _, _) => &[Kind::Status],
        (false, true, _) => &[Kind::Attempt, Kind::Sent, Kind::Status],
        (false, false, true) => &[Kind::Attempt, Kind::Status, Kind::Failed],
        (false, false, false) => &[Kind::Attempt, Kind::Status],
    }
}

fn first_16(hash: [u8; 32]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    first
}

fn seconds(seconds: u32) -> UnixMillis {
    UnixMillis(u64::from(seconds) * 1000)
}

fn is_loopback(address: &[u8]) -> bool {
    let text = std::str::from_utf8(address).ok();
    text.and_then(|text| text.parse::<std::net::IpAddr>().ok()).is_some_and(|address| address.is_loopback())
}

fn named(list: &[String], peer: &Peer<'_>) -> bool {
    list.iter().any(|name| {
        name.as_bytes().eq_ignore_ascii_case(peer.name)
            || !peer.address.is_empty() && name.as_bytes().eq_ignore_ascii_case(peer.address)
    })
}

/// A short word of a known form, else nothing.
fn token(bytes: &[u8], bytes_max: usize) -> &[u8] {
    let fits = bytes.len() <= bytes_max && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.:/+-".contains(b));
    if fits { bytes } else { b"" }
}

/// The name of a relay, its address where it has no verified name; nothing where there was none.
fn host_of<'a>(relay: &Peer<'a>) -> &'a [u8] {
    let name = match relay.name {
        b"none" => b"",
        b"unknown" if !relay.address.is_empty() => relay.address,
        name => name,
    };
    &name[..name.len().min(255)]
}

/// Decimal seconds as milliseconds.
fn milliseconds(delay: &[u8]) -> Option<u64> {
    let seconds: f64 = std::str::from_utf8(delay).ok()?.parse().ok()?;
    (0.0..1e12).contains(&seconds).then(|| (seconds * 1000.0).round() as u64)
}
