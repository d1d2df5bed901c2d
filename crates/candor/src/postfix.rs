//! `candor ingest --format postfix`: a log followed, its lines correlated, the records handed to the intake.
//!
//! Owns the state file of a source (`docs/formats/source-state.md`): the place up to which the log was read and the
//! messages open there, as one. It is put in place only when everything that those lines led to is durable, so a crash
//! means that some lines are read again; what they lead to has the same ids and is a repeat.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ledger::clock::{Clock, SystemClock};
use ledger::reader::Reader;
use proof::time::UnixMillis;
use reads::guard::OwnRecord;
use record::identifier::{IdentifierType, normalise};
use record::kinds::Catalogue;
use record::minimal::number;
use seal::crypto::subkey;
use seal::shared::SharedStore;
use seal::store::Named;
use serde_json::json;
use sources::postfix::correlate::{Correlator, Options, Taken};
use sources::postfix::event::{Common, Event, Gap};
use views::file::Vault;
use views::open;
use views::registers::Thing;
use views::views::Views;

use crate::config::Recipients;
use crate::follow::{Follower, LINE_BYTES_MAX, Place, Step};
use crate::ingest::{Batches, Work};
use crate::trail::Trail;

const MAGIC: &[u8; 8] = b"CNDRSRCE";
const VERSION: u16 = 1;
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

/// Up to where a log was read.
struct At {
    /// Its path, as it was given.
    log: PathBuf,
    place: Place,
    /// Lines of all the source's logs so far.
    lines: u64,
}

/// Where a source's state lies and how it is sealed.
#[derive(Clone)]
pub struct StateFile {
    path: PathBuf,
    vault: Vault,
}

impl StateFile {
    pub fn of(trail: &Trail, source: &str) -> Result<StateFile> {
        let path = trail.paths.sources().join(format!("{source}.state"));
        let view = trail.store.lock()?.named(Named::View);
        Ok(StateFile { path, vault: Vault::new(&subkey(&view, "candor/v1/source-state\n")) })
    }

    fn new_path(&self) -> PathBuf {
        self.path.with_extension("state-new")
    }

    /// Writes a state beside the one in place.
    fn write(&self, at: &At, correlator: &Correlator) -> io::Result<()> {
        let new = self.new_path();
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut out = self.vault.create(&new)?;
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        let Place { device, inode, head, offset } = &at.place;
        for number in [*device, *inode, *offset, at.lines] {
            out.write_all(&number.to_be_bytes())?;
        }
        for bytes in [head.as_slice(), at.log.as_os_str().as_encoded_bytes()] {
            out.write_all(&(bytes.len() as u16).to_be_bytes())?;
            out.write_all(bytes)?;
        }
        correlator.write(&mut out)?;
        out.finish()
    }

    /// Puts the written state in place.
    fn put(&self) -> io::Result<()> {
        std::fs::rename(self.new_path(), &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn read(&self, options: Options) -> io::Result<Option<(At, Correlator)>> {
        let file = match self.vault.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut input = io::BufReader::new(file.stream());
        let mut head = [0; 42];
        input.read_exact(&mut head)?;
        let bad = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        if &head[..8] != MAGIC || head[8..10] != VERSION.to_be_bytes() {
            return Err(bad("a source's state of a version that this program does not know"));
        }
        let number = |at: usize| proof::encoding::big_endian(&head[at..at + 8]);
        let mut bytes = || -> io::Result<Vec<u8>> {
            let mut length = [0; 2];
            input.read_exact(&mut length)?;
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            input.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let (first, log) = (bytes()?, PathBuf::from(OsString::from_vec(bytes()?)));
        let place = Place { device: number(10), inode: number(18), head: first, offset: number(26) };
        Ok(Some((At { log, place, lines: number(34) }, Correlator::read(options, &mut input)?)))
    }
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
            let keys = open::keys(&stored, None, &mut *self.store.lock()?)?;
            let opened = open::open(&stored, &keys, &self.catalogue)?;
            if let Ok(facts) = &opened.facts {
                let field = facts.fields().into_iter().find(|field| field.number == number::CORRELATION_ID);
                return Ok(field.map(|field| record::minimal::string(field.value).into_owned()));
            }
        }
        Ok(None)
    }
}

/// Drops what the states keep of people who were erased: the addresses of recipients that wait for another attempt.
pub fn forget_erased(trail: &Trail) -> Result<()> {
    let Ok(folder) = std::fs::read_dir(trail.paths.sources()) else { return Ok(()) };
    for item in folder {
        let path = item.context("list the sources' states")?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(source) = name.strip_suffix(".state") else {
            // A state that was never put in place.
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            continue;
        };
        let file = StateFile::of(trail, source)?;
        let read = || -> io::Result<_> { file.read(Options::default()) };
        let Some((at, mut correlator)) = read().with_context(|| format!("read {}", path.display()))? else {
            continue;
        };
        if correlator.forget(&mut erased(&trail.store)) {
            file.write(&at, &correlator)
                .and_then(|()| file.put())
                .with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether an address was that of somebody who was erased.
fn erased(store: &Arc<SharedStore>) -> impl FnMut(&[u8]) -> bool {
    let today = SystemClock.now().day();
    move |address| {
        let text = sources::postfix::event::text(address);
        let Ok(mut store) = store.lock() else { return false };
        let tag = store.identifier_tag(IdentifierType::Address, &normalise(IdentifierType::Address, &text));
        store.is_erased(&tag, today).unwrap_or(false)
    }
}

/// What a log is read by.
pub struct PostfixLog {
    correlator: Correlator,
    common: Common,
    source: String,
    state: Option<StateFile>,
    state_written: Instant,
    state_cost: Duration,
    /// Set while a written state waits for its records to be durable.
    state_waits: Arc<AtomicBool>,
    input: Option<Follower>,
    path: PathBuf,
    lines: u64,
    work: Work,
    summary: LogSummary,
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
            common: Common {
                component: config.component.unwrap_or_else(|| "smtp-relay".into()),
                environment: config.environment.unwrap_or_else(|| trail.config.environment.clone()),
            },
            source: source.to_owned(),
            state: None,
            state_written: Instant::now(),
            state_cost: Duration::ZERO,
            state_waits: Arc::default(),
            input: None,
            path: file.to_owned(),
            lines: 0,
            work: Work::default(),
            summary: LogSummary::default(),
        };
        let find = Finder::of(trail)?;
        let announced = move |message_id: &[u8]| find.announcement(message_id).ok().flatten();
        if file.as_os_str() == "-" {
            log.correlator = log.correlator.with_announcements(Box::new(announced));
            return Ok(log);
        }
        let state = StateFile::of(trail, source)?;
        let held = state
            .read(options)
            .with_context(|| format!("read {}: remove it to read the log from its start", state.path.display()))?;
        let mut place = None;
        if let Some((at, correlator)) = held {
            (log.correlator, log.lines) = (correlator, at.lines);
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
        self.summary.open_messages = self.correlator.open() as u64;
        Ok((interrupted, self.summary))
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
            if self.work.lines.len() >= batches.lines_max && !self.send(batches) {
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
            let seen = input.written().unwrap_or_else(|| SystemClock.now());
            let step = input.step().context("read the log")?;
            for line in std::mem::take(&mut input.lines) {
                self.line(line.as_deref(), seen);
                if self.work.lines.len() >= batches.lines_max && !self.send(batches) {
                    return Ok(false);
                }
            }
            match step {
                Step::Lines => quiet_since = Instant::now(),
                Step::Lost => self.lost(),
                Step::Idle => {
                    if quiet_since.elapsed() >= IDLE {
                        quiet_since = Instant::now();
                        let (work, source, common) = (&mut self.work, &self.source, &self.common);
                        let (gaps, lines) = (&mut self.summary.gaps, self.lines);
                        self.correlator.idle(SystemClock.now(), &mut |event| {
                            tell(work, (source, common), lines, gaps, event);
                        });
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

    fn line(&mut self, line: Option<&[u8]>, seen: UnixMillis) {
        self.lines += 1;
        self.summary.log_lines += 1;
        let (work, source, common) = (&mut self.work, &self.source, &self.common);
        let (gaps, lines) = (&mut self.summary.gaps, self.lines);
        let taken = match line {
            Some(line) if line.iter().all(u8::is_ascii_whitespace) => Taken::Other,
            Some(line) => {
                self.correlator.line(line, seen, &mut |event| tell(work, (source, common), lines, gaps, event))
            }
            None => Taken::Unframed,
        };
        match taken {
            Taken::Understood => {}
            Taken::Other => self.summary.other_lines += 1,
            Taken::Unframed => self.summary.unknown_lines += 1,
        }
    }

    /// Lines between the last place and this one can't be found any more.
    fn lost(&mut self) {
        let now = SystemClock.now();
        let mut id = [0; 16];
        id.copy_from_slice(&proof::hash::sha256(format!("lost/{}/{}", self.source, self.lines).as_bytes()).0[..16]);
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
        self.summary.gaps += 1;
        self.work.own.push(gap_record(&self.source, &gap));
    }

    fn end(&mut self, batches: &mut Batches) {
        let (work, source, common) = (&mut self.work, &self.source, &self.common);
        let (gaps, lines) = (&mut self.summary.gaps, self.lines);
        self.correlator.end_of_input(&mut |event| tell(work, (source, common), lines, gaps, event));
        self.send(batches);
    }

    fn send(&mut self, batches: &mut Batches) -> bool {
        batches.send(std::mem::take(&mut self.work))
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
            let at = At { log: self.path.clone(), place, lines: self.lines };
            state.write(&at, &self.correlator).context("write the source's state")?;
            (self.state_cost, self.state_written) = (start.elapsed(), Instant::now());
            self.state_waits.store(true, Ordering::Release);
            let (state, waits) = (state.clone(), Arc::clone(&self.state_waits));
            self.work.after = Some(Box::new(move || {
                let put = state.put().map_err(|error| anyhow!("put the source's state in place: {error}"));
                waits.store(false, Ordering::Release);
                put
            }));
            return Ok(self.send(batches));
        }
        Ok(self.work.lines.is_empty() && self.work.own.is_empty() || self.send(batches))
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

fn tell(work: &mut Work, who: (&String, &Common), line: u64, gaps: &mut u64, event: Event<'_>) {
    let (source, common) = who;
    match event {
        Event::Observed(observation) => {
            let mut json = Vec::with_capacity(768);
            observation.write(common, &mut json);
            work.lines.push((line, json));
        }
        Event::Gap(gap) => {
            *gaps += 1;
            work.own.push(gap_record(source, &gap));
        }
    }
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
