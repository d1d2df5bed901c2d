//! `candor ingest --format postfix`: a log followed, its lines correlated, the records handed to the intake.
//!
//! The state of a source is put in place only when everything that its lines led to is durable, so a crash means that
//! some lines are read again; what they lead to has the same ids and is a repeat.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ledger::clock::{Clock, SystemClock};
use ledger::reader::Reader;
use proof::time::UnixMillis;
use reads::guard::OwnRecord;
use record::kinds::Catalogue;
use seal::crypto::subkey;
use seal::shared::SharedStore;
use seal::store::Named;
use serde_json::json;
use sources::postfix::correlate::{Correlator, Options, Taken};
use sources::postfix::event::{Common, Event, Gap};
use views::open;
use views::registers::Thing;
use views::views::Views;

use crate::config::Recipients;
use crate::follow::{Follower, LINE_BYTES_MAX, Place, Step};
use crate::ingest::{Batches, Work};
use crate::source_state::{At, Reading, Readings, StateFile};
use crate::trail::Trail;

/// Between looks at a log that stands still.
const POLL: Duration = Duration::from_millis(100);
/// Between two states written, at least; longer where writing takes long, so that it costs a twentieth of the time.
const STATE_INTERVAL: Duration = Duration::from_millis(250);
const STATE_COST_SHARE: u32 = 20;
/// Entries about one Message-ID that are looked at for its announcement: the newest.
const ANNOUNCEMENTS_MAX: usize = 64;
/// A log that stood still this long lets the time of its messages go on.
const IDLE: Duration = Duration::from_secs(60);

/// Counts of an input that are about lines, not records.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub struct LogSummary {
    pub log_lines: u64,
    /// Lines of other programs.
    pub other_lines: u64,
    /// Lines of no known form, or too long.
    pub unknown_lines: u64,
    pub gaps: u64,
    pub open_messages: u64,
}

/// Finds announcements.
struct Finder {
    views: Arc<Views>,
    reader: Arc<Reader>,
    store: Arc<SharedStore>,
    catalogue: Arc<Catalogue>,
}

impl Finder {
    fn of(trail: &Trail) -> Result<Finder> {
        Ok(Finder {
            views: Arc::clone(trail.views()?),
            reader: Arc::clone(trail.intake.reader()),
            store: Arc::clone(&trail.store),
            catalogue: Arc::clone(&trail.catalogue),
        })
    }

    /// The correlation id under which a message was announced: that of the NOTIF_CREATED that names its Message-ID.
    /// Only facts are opened, and none of them is shown.
    fn announcement(&self, message_id: &[u8]) -> Result<Option<String>> {
        let text = sources::postfix::event::text(message_id);
        for index in self.views.find(Thing::Message, &text, ANNOUNCEMENTS_MAX)? {
            let stored = self.reader.entry(index)?;
            if stored.entry()?.kind != "NOTIF_CREATED" {
                continue;
            }
            if let Some((_, facts)) = open::facts(&stored, &mut *self.store.lock()?, &self.catalogue)? {
                return Ok(facts.get("correlation_id").and_then(serde_json::Value::as_str).map(str::to_owned));
            }
        }
        Ok(None)
    }
}

/// What a log is read by.
pub struct PostfixLog {
    correlator: Correlator,
    state: Option<StateFile>,
    state_written: Instant,
    state_cost: Duration,
    /// Set while a written state waits for its records to be durable.
    state_waits: Arc<AtomicBool>,
    input: Option<Follower>,
    path: PathBuf,
    told: Told,
    /// Of a log that is a file: erasures have to be heard of.
    reading: Option<Arc<Reading>>,
    readings: Arc<Readings>,
    /// Erasures that the correlator knows of.
    erasures: u64,
    store: Arc<SharedStore>,
}

/// What the lines lead to, until it is sent.
struct Told {
    source: String,
    common: Common,
    /// Lines of all the source's logs so far.
    lines: u64,
    work: Work,
    summary: LogSummary,
}

impl Told {
    fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Observed(observation) => {
                let mut json = Vec::with_capacity(768);
                observation.write(&self.common, &mut json);
                self.work.lines.push((self.lines, json));
            }
            Event::Gap(gap) => {
                self.summary.gaps += 1;
                self.work.own.push(gap_record(&self.source, &gap));
            }
        }
    }
}

impl PostfixLog {
    /// Opens a log at the place where its source's last reading ended; `file` is `-` for standard input, of which
    /// nothing is remembered.
    pub fn open(trail: &Trail, source: &str, file: &Path, follow: bool) -> Result<PostfixLog> {
        let config = trail.config.sources.get(source).cloned().unwrap_or_default();
        let key = subkey(&trail.store.lock()?.named(Named::Id), "candor/v1/source-lines\n");
        let mut options = Options {
            key: *key.expose(),
            keep_addresses: config.recipients != Recipients::Count,
            zone_east_minutes: config.zone_east_minutes().unwrap_or(0),
            hops: config.hops.clone(),
            clients: config.clients.clone(),
            ..Options::default()
        };
        options.messages_max = config.open_messages_max.unwrap_or(options.messages_max);
        let mut log = PostfixLog {
            correlator: Correlator::new(options.clone()),
            state: None,
            state_written: Instant::now(),
            state_cost: Duration::ZERO,
            state_waits: Arc::default(),
            input: None,
            path: file.to_owned(),
            told: Told {
                source: source.to_owned(),
                common: Common {
                    component: config.component.unwrap_or_else(|| "smtp-relay".into()),
                    environment: config.environment.unwrap_or_else(|| trail.config.environment.clone()),
                },
                lines: 0,
                work: Work::default(),
                summary: LogSummary::default(),
            },
            reading: None,
            readings: Arc::clone(&trail.readings),
            erasures: 0,
            store: Arc::clone(&trail.store),
        };
        let find = Finder::of(trail)?;
        let announced = move |message_id: &[u8]| find.announcement(message_id).ok().flatten();
        if file.as_os_str() == "-" {
            log.correlator = log.correlator.with_announcements(Box::new(announced));
            return Ok(log);
        }
        let state = StateFile::of(trail, source)?;
        let read = || {
            let read = state.read(options);
            read.with_context(|| format!("read {}: remove it to read the log from its start", state.path.display()))
        };
        let (reading, held) = trail.readings.begin(source, read)?;
        log.reading = Some(reading);
        let mut place = None;
        if let Some((at, correlator)) = held {
            (log.correlator, log.told.lines) = (correlator, at.lines);
            // Another file is another log, read from its start. One of the same name that begins otherwise was
            // rotated: what was not read is looked for beside it.
            let same = at.log == file || begins_as(file, &at.place)?;
            place = same.then_some(at.place);
        }
        log.correlator = log.correlator.with_announcements(Box::new(announced));
        let input = Follower::open(file, place.as_ref(), follow);
        log.input = Some(input.with_context(|| format!("open {}", file.display()))?);
        log.state = Some(state);
        Ok(log)
    }

    /// Reads until the end, or until it is told to stop; whether it was told.
    pub fn feed(mut self, mut batches: Batches, stop: &AtomicBool) -> Result<(bool, LogSummary)> {
        let interrupted = match self.input.take() {
            None => self.feed_stream(&mut batches, stop)?,
            Some(input) => self.feed_file(input, &mut batches, stop)?,
        };
        self.told.summary.open_messages = self.correlator.open() as u64;
        Ok((interrupted, self.told.summary))
    }

    fn feed_stream(&mut self, batches: &mut Batches, stop: &AtomicBool) -> Result<bool> {
        let mut input = io::stdin().lock();
        let mut line = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            if input.by_ref().take(limit).read_until(b'\n', &mut line).context("read standard input")? == 0 {
                break;
            }
            let whole = line.pop_if(|byte| *byte == b'\n').is_some();
            if !whole && line.len() as u64 == limit {
                input.skip_until(b'\n').context("read standard input")?;
                self.line(None, SystemClock.now());
            } else {
                self.line(Some(&line), SystemClock.now());
            }
            if self.told.work.lines.len() >= batches.lines_max && !self.send(batches) {
                return Ok(false);
            }
        }
        self.end(batches);
        Ok(stop.load(Ordering::Relaxed))
    }

    fn feed_file(&mut self, mut input: Follower, batches: &mut Batches, stop: &AtomicBool) -> Result<bool> {
        let mut quiet_since = Instant::now();
        // Before the first line: from here on a rotation can't take what was not read.
        self.save(&input, batches, true)?;
        loop {
            if stop.load(Ordering::Relaxed) {
                self.save(&input, batches, true)?;
                return Ok(true);
            }
            if self.erasures != self.readings.erasures() && !self.forget(&input, batches)? {
                return Ok(false);
            }
            let seen = input.written().unwrap_or_else(|| SystemClock.now());
            let step = input.step().context("read the log")?;
            for line in std::mem::take(&mut input.lines) {
                self.line(line.as_deref(), seen);
                if self.told.work.lines.len() >= batches.lines_max && !self.send(batches) {
                    return Ok(false);
                }
            }
            match step {
                Step::Lines => quiet_since = Instant::now(),
                Step::Lost => self.lost(),
                Step::Idle => {
                    if quiet_since.elapsed() >= IDLE {
                        quiet_since = Instant::now();
                        let told = &mut self.told;
                        self.correlator.idle(SystemClock.now(), &mut |event| told.tell(event));
                    }
                    if !self.save(&input, batches, false)? {
                        return Ok(false);
                    }
                    std::thread::park_timeout(POLL);
                    continue;
                }
                Step::End => {
                    self.save(&input, batches, true)?;
                    // The place stays before a half line: if it grows, it is read again, and whole.
                    let half = input.half_line().to_vec();
                    if !half.is_empty() {
                        self.line(Some(&half), seen);
                    }
                    self.end(batches);
                    return Ok(false);
                }
            }
            if !self.save(&input, batches, false)? {
                return Ok(false);
            }
        }
    }

    /// Drops what it keeps of people who were erased; whether anybody still takes what it sends.
    fn forget(&mut self, input: &Follower, batches: &mut Batches) -> Result<bool> {
        let erasures = self.readings.erasures();
        crate::source_state::forget(&mut self.correlator, &self.store)?;
        self.erasures = erasures;
        if input.place().is_some() {
            return self.save(input, batches, true);
        }
        // There is no log now and no state to be written; the one in place is of the log that was.
        if let (Some(state), Some(reading)) = (&self.state, &self.reading) {
            state.forget(&self.store)?;
            reading.hear(erasures);
        }
        Ok(true)
    }

    fn line(&mut self, line: Option<&[u8]>, seen: UnixMillis) {
        let told = &mut self.told;
        told.lines += 1;
        told.summary.log_lines += 1;
        let taken = match line {
            Some(line) if line.iter().all(u8::is_ascii_whitespace) => Taken::Other,
            Some(line) => self.correlator.line(line, seen, &mut |event| told.tell(event)),
            None => Taken::Unframed,
        };
        match taken {
            Taken::Understood => {}
            Taken::Other => told.summary.other_lines += 1,
            Taken::Unframed => told.summary.unknown_lines += 1,
        }
    }

    /// Lines between the last place and this one can't be found any more.
    fn lost(&mut self) {
        let now = SystemClock.now();
        let mut id = [0; 16];
        id.copy_from_slice(
            &proof::hash::sha256(format!("lost/{}/{}", self.told.source, self.told.lines).as_bytes()).0[..16],
        );
        let gap = Gap {
            at: now,
            id,
            reason: "log_gone",
            count: None,
            from: self.correlator.newest().unwrap_or(now),
            suspected: false,
            queue_id: Vec::new(),
            recipients: None,
        };
        self.told.tell(Event::Gap(gap));
    }

    fn end(&mut self, batches: &mut Batches) {
        let told = &mut self.told;
        self.correlator.end_of_input(&mut |event| told.tell(event));
        self.send(batches);
    }

    fn send(&mut self, batches: &mut Batches) -> bool {
        batches.send(std::mem::take(&mut self.told.work))
    }

    /// Sends what there is; with it the state, if it is time or MUST be. Whether anybody still takes it.
    fn save(&mut self, input: &Follower, batches: &mut Batches, now: bool) -> Result<bool> {
        let interval = STATE_INTERVAL.max(self.state_cost * STATE_COST_SHARE);
        let due = now || self.state_written.elapsed() >= interval && !self.state_waits.load(Ordering::Acquire);
        if let (Some(state), Some(place), true) = (&self.state, input.place(), due) {
            // A state that still waits is taken back by the newer one under the same name: it must be put first.
            while self.state_waits.load(Ordering::Acquire) {
                if !batches.is_open() {
                    return Ok(false);
                }
                std::thread::park_timeout(POLL / 20);
            }
            let start = Instant::now();
            let at = At { log: self.path.clone(), place, lines: self.told.lines };
            state.write(&at, &self.correlator).context("write the source's state")?;
            (self.state_cost, self.state_written) = (start.elapsed(), Instant::now());
            self.state_waits.store(true, Ordering::Release);
            let (state, waits) = (state.clone(), Arc::clone(&self.state_waits));
            let (reading, erasures) = (self.reading.clone(), self.erasures);
            self.told.work.after = Some(Box::new(move || {
                let put = state.put().map_err(|error| anyhow!("put the source's state in place: {error}"));
                if let (Ok(()), Some(reading)) = (&put, reading) {
                    reading.hear(erasures);
                }
                waits.store(false, Ordering::Release);
                put
            }));
            return Ok(self.send(batches));
        }
        Ok(self.told.work.lines.is_empty() && self.told.work.own.is_empty() || self.send(batches))
    }
}

/// Whether a file begins as the one that a place is in.
fn begins_as(file: &Path, place: &Place) -> Result<bool> {
    let mut head = Vec::new();
    let input = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        input => input.with_context(|| format!("open {}", file.display()))?,
    };
    let length = input.metadata().with_context(|| format!("open {}", file.display()))?.len();
    input.take(place.head.len() as u64).read_to_end(&mut head).with_context(|| format!("read {}", file.display()))?;
    Ok(!place.head.is_empty() && head == place.head && length >= place.offset)
}

fn gap_record(source: &str, gap: &Gap) -> OwnRecord {
    let id = format!("gap-{}", proof::encoding::hex(&gap.id));
    let mut fields = json!({
        "timestamp": gap.at.rfc3339(), "correlation_id": id, "event_id": id, "severity": "warning",
        "from_source": source, "reason_category": gap.reason, "suspected": gap.suspected,
        "gap_from": gap.from.min(gap.at).rfc3339(), "gap_to": gap.at.rfc3339(),
    });
    if let Some(count) = gap.count {
        fields["count"] = count.into();
    }
    if !gap.queue_id.is_empty() {
        fields["queue_id"] = sources::postfix::event::text(&gap.queue_id).into();
    }
    if let Some((expected, seen)) = gap.recipients {
        (fields["expected"], fields["seen"]) = (expected.into(), seen.into());
    }
    OwnRecord { kind: "INGEST_GAP", fields, subject: None }
}
