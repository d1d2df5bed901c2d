//! `candor import`: the history of an old system, read item by item, made records of its own source.
//!
//! Running it again goes on where it stopped: an item makes the same records with the same ids, so what is in the trail
//! already is a repeat.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use proof::hash::sha256;
use proof::time::UnixMillis;
use record::minimal::RECORD_BYTES_MAX;
use serde_json::{Map, Value, json};
use sources::import::mail::{Archive, records};
use sources::import::mapping::Mapping;
use sources::import::mbox::{MESSAGE_BYTES_MAX, Mailbox, Piece};

use crate::ingest::{Batches, Work};

/// Items that could not be read and are shown, at most; all are counted.
const SHOWN_MAX: u64 = 20;

/// What is imported.
pub struct Import {
    pub format: Format,
    pub path: PathBuf,
    pub mapping: Option<(Mapping, String)>,
    pub zone_minutes: i64,
    pub archive: Archive,
}

/// How it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with a heading, and a mapping of its columns.
    Csv,
    /// One JSON object a line: a record, or what a mapping makes one of.
    Jsonl,
    /// A mailbox file.
    Mbox,
    /// A folder of messages with cur and new.
    Maildir,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Mbox => "mbox",
            Format::Maildir => "maildir",
        }
    }
}

/// What reading came to, beside what became of the records.
#[derive(Debug, Default, Clone)]
pub struct Reading {
    /// Rows or messages.
    pub items: u64,
    /// Of these, what no record could be made of.
    pub unread: u64,
    /// Times of the first and the last record.
    pub span: Option<(UnixMillis, UnixMillis)>,
}

/// Counts what is read of a file.
struct Counted<'c, R> {
    inner: R,
    bytes: &'c AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Where records go, with what is counted on the way.
struct Sink<'s> {
    batches: Batches,
    lines: Vec<(u64, Vec<u8>)>,
    read: Reading,
    stop: &'s AtomicBool,
}

impl Sink<'_> {
    /// Whether reading goes on.
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && self.batches.is_open()
    }

    fn unread(&mut self, why: &str) {
        self.read.unread += 1;
        if self.read.unread <= SHOWN_MAX {
            eprintln!("candor: item {}: {why}", self.read.items);
        } else if self.read.unread == SHOWN_MAX + 1 {
            eprintln!("candor: further items that can't be read are counted, not shown");
        }
    }

    fn record(&mut self, mut record: Map<String, Value>) {
        if let Some(time) = record.get("timestamp").and_then(Value::as_str)
            && let Ok(time) = UnixMillis::parse(time.as_bytes())
        {
            let (first, last) = self.read.span.unwrap_or((time, time));
            self.read.span = Some((first.min(time), last.max(time)));
        }
        if !record.contains_key("event_id") {
            let content = Value::Object(record.clone()).to_string();
            record.insert("event_id".into(), sha256(content.as_bytes()).hex()[..32].into());
        }
        self.lines.push((self.read.items, Value::Object(record).to_string().into_bytes()));
        if self.lines.len() >= self.batches.lines_max {
            self.send();
        }
    }

    fn send(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            self.batches.send(Work { lines, ..Work::default() });
        }
    }
}

impl Import {
    /// Bytes to read, where that is known.
    pub fn bytes(&self) -> Option<u64> {
        (self.format != Format::Maildir).then(|| std::fs::metadata(&self.path).ok().map(|meta| meta.len())).flatten()
    }

    /// Reads everything and sends it on; whether it was interrupted, and what reading came to.
    pub fn feed(&self, batches: Batches, bytes: &AtomicU64, stop: &AtomicBool) -> Result<(bool, Reading)> {
        let mut sink = Sink { batches, lines: Vec::new(), read: Reading::default(), stop };
        match self.format {
            Format::Csv => self.csv(&mut sink, bytes)?,
            Format::Jsonl => self.jsonl(&mut sink, bytes)?,
            Format::Mbox => self.mbox(&mut sink, bytes)?,
            Format::Maildir => self.maildir(&mut sink)?,
        }
        sink.send();
        Ok((stop.load(Ordering::Relaxed), sink.read))
    }

    fn open<'b>(&self, bytes: &'b AtomicU64) -> Result<BufReader<Counted<'b, File>>> {
        let inner = File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        Ok(BufReader::with_capacity(1 << 20, Counted { inner, bytes }))
    }

    fn csv(&self, sink: &mut Sink<'_>, bytes: &AtomicU64) -> Result<()> {
        let Some((mapping, _)) = &self.mapping else { bail!("import: a table needs --mapping") };
        let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(self.open(bytes)?);
        let heading = table.headers().context("read the table's heading")?.clone();
        let heading: Vec<&str> = heading.iter().collect();
        let columns = mapping.columns_of(&heading, self.zone_minutes).map_err(|why| anyhow!("import: {why}"))?;
        for row in table.records() {
            if !sink.goes_on() {
                return Ok(());
            }
            sink.read.items += 1;
            let row = match row {
                Ok(row) => row,
                Err(error) if matches!(error.kind(), csv::ErrorKind::Io(_)) => return Err(error.into()),
                Err(_) => {
                    sink.unread("it is no row of text in UTF-8");
                    continue;
                }
            };
            let cells: Vec<&str> = row.iter().collect();
            match columns.record(&cells) {
                Ok(record) => sink.record(record),
                Err(why) => sink.unread(&why.to_string()),
            }
        }
        Ok(())
    }

    fn jsonl(&self, sink: &mut Sink<'_>, bytes: &AtomicU64) -> Result<()> {
        let names: Vec<&str> = match &self.mapping {
            Some((mapping, _)) => mapping.columns.values().map(String::as_str).collect(),
            None => Vec::new(),
        };
        let mapping = self.mapping.as_ref().map(|(mapping, _)| mapping);
        let columns = mapping.map(|mapping| mapping.columns_of(&names, self.zone_minutes));
        let columns = columns.transpose().map_err(|why| anyhow!("import: {why}"))?;
        let mut input = self.open(bytes)?;
        while sink.goes_on() {
            let mut line = Vec::new();
            if input.by_ref().take(RECORD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            sink.read.items += 1;
            if line.last() != Some(&b'\n') && line.len() > RECORD_BYTES_MAX {
                input.skip_until(b'\n')?;
                sink.unread(&format!("it is longer than {RECORD_BYTES_MAX} bytes"));
                continue;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                sink.read.items -= 1;
                continue;
            }
            let Ok(Value::Object(object)) = serde_json::from_slice(&line) else {
                sink.unread("it is no JSON object");
                continue;
            };
            match &columns {
                None => sink.record(object),
                Some(columns) => {
                    let object = Value::Object(object);
                    let cells: Vec<String> = names.iter().map(|name| cell(&object, name)).collect();
                    match columns.record(&cells.iter().map(String::as_str).collect::<Vec<_>>()) {
                        Ok(record) => sink.record(record),
                        Err(why) => sink.unread(&why.to_string()),
                    }
                }
            }
        }
        Ok(())
    }

    fn mbox(&self, sink: &mut Sink<'_>, bytes: &AtomicU64) -> Result<()> {
        let mut mailbox = Mailbox::new(self.open(bytes)?);
        while sink.goes_on() {
            let Some(piece) = mailbox.next_piece()? else { return Ok(()) };
            match piece {
                Piece::Message(raw) => self.message(sink, &raw),
                Piece::TooLong => {
                    sink.read.items += 1;
                    sink.unread(&format!("it is longer than {MESSAGE_BYTES_MAX} bytes"));
                }
            }
        }
        Ok(())
    }

    fn maildir(&self, sink: &mut Sink<'_>) -> Result<()> {
        let mut folders = 0;
        for below in ["cur", "new"] {
            let folder = self.path.join(below);
            if !folder.is_dir() {
                continue;
            }
            folders += 1;
            for path in sorted(&folder)? {
                if !sink.goes_on() {
                    return Ok(());
                }
                let length = std::fs::metadata(&path).with_context(|| read_of(&folder))?.len();
                if length > MESSAGE_BYTES_MAX as u64 {
                    sink.read.items += 1;
                    sink.unread(&format!("it is longer than {MESSAGE_BYTES_MAX} bytes"));
                } else {
                    let raw = std::fs::read(&path).with_context(|| read_of(&folder))?;
                    self.message(sink, &raw);
                }
            }
        }
        if folders == 0 {
            bail!("import {}: a maildir has the folders cur and new: here is neither", self.path.display());
        }
        Ok(())
    }

    fn message(&self, sink: &mut Sink<'_>, raw: &[u8]) {
        sink.read.items += 1;
        match records(raw, &self.archive) {
            Ok(records) => records.into_iter().for_each(|record| sink.record(record)),
            Err(why) => sink.unread(&why.to_string()),
        }
    }
}

/// Names of files may hold addresses: an error names the folder.
fn read_of(folder: &Path) -> String {
    format!("read a message in {}", folder.display())
}

/// Files of a folder in the order of their names, so that a second run reads them alike.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for item in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = item.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A value below an object as a table's cell has it.
fn cell(object: &Value, name: &str) -> String {
    match name.split('.').try_fold(object, |value, step| value.get(step)) {
        None | Some(Value::Null | Value::Object(_) | Value::Array(_)) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// What the trail keeps of an import.
pub fn record(import: &Import, source: &str, read: &Reading, counts: [u64; 3]) -> Value {
    let [accepted, repeated, refused] = counts;
    let mut fields = json!({
        "source_name": source, "format": import.format.name(), "items": read.items, "accepted": accepted,
        "repeated": repeated, "refused": refused, "provenance": "unknown", "actor": crate::commands::actor(),
    });
    if let Some((_, digest)) = &import.mapping {
        fields["mapping_sha256"] = digest.as_str().into();
    }
    if let Some((first, last)) = read.span {
        fields["first_time"] = first.rfc3339().into();
        fields["last_time"] = last.rfc3339().into();
    }
    fields
}
