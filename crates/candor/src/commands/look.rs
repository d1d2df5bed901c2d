//! Commands that read: search, show, history, receipt, verify.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use ledger::clock::{Clock, SystemClock};
use ledger::disk::RealDisk;
use ledger::guard::HighWater;
use ledger::verify::{self, Report};
use proof::note::VerifierKey;
use proof::time::UnixMillis;
use reads::guard::{Find, Guard, Of, OwnRecord, Purpose, Recorder};
use reads::registers::{Listing, Wanted};
use reads::shown::{PersonalState, Shown};
use record::identifier::IdentifierType;
use record::things;
use seal::crypto::{KeyedHash, subkey};
use seal::store::Named;
use serde_json::json;
use views::registers::Thing;

use super::{Data, Output, Person, Why};
use crate::intake::Intake;
use crate::trail::{OpenMode, Trail};

struct IntakeRecorder(Intake);

impl Recorder for IntakeRecorder {
    fn record(&self, records: Vec<OwnRecord>) -> Result<Vec<u64>, String> {
        self.0.own(records)
    }
}

/// A guard over an open trail.
pub fn guard(trail: &Trail) -> Result<Guard> {
    let view_key = trail.store.lock()?.named(Named::View);
    Ok(Guard {
        reader: Arc::clone(trail.intake.reader()),
        views: Arc::clone(trail.views()?),
        store: Arc::clone(&trail.store),
        catalogue: Arc::clone(&trail.catalogue),
        recorder: Arc::new(IntakeRecorder(trail.intake.clone())),
        digest: KeyedHash::new(subkey(&view_key, "candor/v1/word-digest\n").expose()),
    })
}

/// Opens a trail with a guard over it.
pub fn guarded<T>(data: &Path, read: impl FnOnce(&Guard, &Trail) -> Result<T>) -> Result<T> {
    let trail = Trail::open(data, OpenMode::default())?;
    let guard = guard(&trail)?;
    let result = read(&guard, &trail);
    drop(guard);
    let closed = trail.close();
    let value = result?;
    closed?;
    Ok(value)
}

pub fn purpose(why: &Why, command: &'static str) -> Purpose {
    Purpose { actor: super::actor(), purpose: why.purpose.clone(), justification: why.justification.clone(), command }
}

fn time(text: &str) -> Result<u64> {
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    UnixMillis::parse(full.as_bytes())
        .map(|time| time.0)
        .with_context(|| "give a day (2026-11-01) or a time (2026-11-01T08:00:00+02:00)")
}

/// `candor search`
#[derive(Args)]
pub struct Search {
    #[command(flatten)]
    data: Data,
    /// Words, all of which must be there.
    #[arg(value_name = "WORDS")]
    words: Vec<String>,
    /// Only this kind, such as EMAIL_SENT.
    #[arg(long)]
    kind: Option<String>,
    /// Only with this status.
    #[arg(long)]
    status: Option<String>,
    /// Only from this source.
    #[arg(long)]
    source: Option<String>,
    /// Only with this template.
    #[arg(long)]
    template: Option<String>,
    /// Only this severity.
    #[arg(long)]
    severity: Option<String>,
    /// Not before this day or time (of the record).
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this day or time (of the record).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Hits, at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only entries below this index: the next page.
    #[arg(long, value_name = "INDEX")]
    below: Option<u64>,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

impl Search {
    pub fn run(self) -> Result<ExitCode> {
        let filters = [
            ("kind", &self.kind),
            ("status", &self.status),
            ("source", &self.source),
            ("template", &self.template),
            ("severity", &self.severity),
        ];
        let find = Find {
            words: self.words.join(" "),
            filters: filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect(),
            from_ms: self.from.as_deref().map(time).transpose().context("read --from")?,
            until_ms: self.until.as_deref().map(time).transpose().context("read --until")?,
            below: self.below,
            limit: usize::from(self.limit),
        };
        let hits = guarded(&self.data.data, |guard, _| {
            Ok(guard.find(&purpose(&self.why, "search"), &find)?.into_inner().lines)
        })?;
        print_all(&hits, self.output)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print_all(lines: &[Shown], output: Output) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for line in lines {
        let text = if output.json { serde_json::to_string(line)? } else { one_line(line) };
        // A reader that has seen enough (`| head`) is no failure.
        if writeln!(out, "{text}").is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// One line for a person: index, the record's own time, kind, who, what.
fn one_line(shown: &Shown) -> String {
    let text = |pointer: &str| shown.record.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
    let who = text("/recipient_details/email").or_else(|| text("/recipient")).unwrap_or_else(|| match shown.personal {
        PersonalState::Erased => "(erased)".into(),
        PersonalState::Ended => "(ended)".into(),
        _ => "-".into(),
    });
    let what = text("/message_content/subject")
        .or_else(|| text("/status"))
        .or_else(|| text("/purpose"))
        .or_else(|| text("/kind_name"))
        .or_else(|| text("/reason"))
        .unwrap_or_default();
    // Whatever a sender wrote stays one line and cannot command a terminal.
    let safe = |text: String| -> String { text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect() };
    let when = text("/timestamp").unwrap_or_else(|| shown.at.clone());
    format!("{:>8}  {}  {:<24} {:<32} {}", shown.index, when, shown.kind, safe(who), safe(what))
}

/// `candor show`
#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    data: Data,
    /// Index of an entry; or what sort of thing: email, template, ticket, call, message, order, session, data, request,
    /// consent, breach.
    what: String,
    /// Id of the thing.
    id: Option<String>,
    /// The thing as it stood at this time, such as 2026-11-01T08:00:00Z, instead of now.
    #[arg(long, value_name = "TIME", requires = "id")]
    at: Option<String>,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub fn run(self) -> Result<ExitCode> {
        let why = purpose(&self.why, "show");
        let shown = match &self.id {
            None => {
                let index = self.what.parse().context("show: give the index of an entry, or a thing and its id")?;
                guarded(&self.data.data, |guard, _| Ok(serde_json::to_value(guard.show(&why, index)?.get())?))?
            }
            Some(id) => {
                let shape = things::shape(&self.what).with_context(|| {
                    let names: Vec<&str> = things::SHAPES.iter().map(|shape| shape.name).collect();
                    format!("show: there is no such sort of thing: one of {}", names.join(", "))
                })?;
                let at = self.at.as_deref().map(|text| time_or_now(Some(text))).transpose()?;
                let now = SystemClock.now();
                guarded(&self.data.data, |guard, _| Ok(guard.thing(&why, shape, id, at, now)?.into_inner()))?
            }
        };
        let text =
            if self.output.json { serde_json::to_string(&shown)? } else { serde_json::to_string_pretty(&shown)? };
        println!("{text}");
        Ok(ExitCode::SUCCESS)
    }
}

/// `candor consent`
#[derive(Args)]
pub struct Consent {
    #[command(flatten)]
    data: Data,
    /// The customer.
    #[arg(long, value_name = "ID")]
    customer: String,
    /// As it stood at this time, such as 2026-11-01T08:00:00Z, instead of now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    why: Why,
}

impl Consent {
    pub fn run(self) -> Result<ExitCode> {
        let (why, at) = (purpose(&self.why, "consent"), time_or_now(self.at.as_deref())?);
        let states = guarded(&self.data.data, |guard, _| Ok(guard.consents(&why, &self.customer, at)?.into_inner()))?;
        println!("{}", serde_json::to_string_pretty(&states)?);
        Ok(ExitCode::SUCCESS)
    }
}

fn time_or_now(given: Option<&str>) -> Result<UnixMillis> {
    match given {
        Some(text) => UnixMillis::parse(text.as_bytes()).context("read --at: give a time such as 2026-11-01T08:00:00Z"),
        None => Ok(SystemClock.now()),
    }
}

/// `candor list`
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    data: Data,
    /// Register: templates, tickets, calls, orders, sessions, data, requests, consents, breaches.
    register: String,
    /// Only what waits for somebody.
    #[arg(long, conflicts_with = "ended")]
    open: bool,
    /// Only what waits for nobody.
    #[arg(long)]
    ended: bool,
    /// Only what waits and whose time is over.
    #[arg(long)]
    overdue: bool,
    /// Only in this state.
    #[arg(long)]
    status: Option<String>,
    /// Only of this category, type or purpose.
    #[arg(long)]
    category: Option<String>,
    /// Only of this priority.
    #[arg(long)]
    priority: Option<String>,
    /// Only what this person has in charge.
    #[arg(long, value_name = "ID")]
    staff: Option<String>,
    /// Only of this customer.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Things, at most, those that began last first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

impl List {
    pub fn run(self) -> Result<ExitCode> {
        let place = things::SHAPES.iter().position(|shape| shape.path == self.register || shape.name == self.register);
        let place = place.with_context(|| {
            let names: Vec<&str> =
                things::SHAPES.iter().filter(|shape| shape.is_listed()).map(|shape| shape.path).collect();
            format!("list: there is no such register: one of {}", names.join(", "))
        })?;
        let now = SystemClock.now();
        let wanted = Wanted {
            register: place as u8,
            open: if self.open { Some(true) } else { self.ended.then_some(false) },
            due_before: self.overdue.then_some(now.0),
            status: self.status,
            category: self.category,
            priority: self.priority,
            staff: self.staff,
            below: None,
            limit: usize::from(self.limit),
        };
        let (listing, why) = (Listing { wanted, customer: self.customer }, purpose(&self.why, "list"));
        let shape = &things::SHAPES[place];
        let page = guarded(&self.data.data, |guard, _| Ok(guard.list(&why, shape, &listing, now)?.into_inner()))?;
        let text = |thing: &serde_json::Value, name: &str| thing[name].as_str().unwrap_or("-").to_owned();
        for thing in &page.things {
            if self.output.json {
                println!("{thing}");
            } else {
                let due = thing["clock"]["due"].as_str().map(|due| format!("  due {due}")).unwrap_or_default();
                let rules = thing["flags"].as_array().into_iter().flatten().filter_map(|flag| flag["rule"].as_str());
                let rules: String = rules.map(|rule| format!("  ! {rule}")).collect();
                println!(
                    "{:<24} {:<16} {}{due}{rules}",
                    text(thing, shape.id),
                    text(thing, "status"),
                    text(thing, "last_change")
                );
            }
        }
        if page.next_below.is_some() {
            eprintln!("candor: there are more: raise --limit, or narrow the list");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `candor history`
#[derive(Args)]
pub struct History {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    of: Subject,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    output: Output,
}

/// Whose history.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// Of a person, by the business's own customer number.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Of a person, by e-mail address.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Of a person, by telephone number.
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
    /// Of a correlation id.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Of a message, by email_id or message_id.
    #[arg(long, value_name = "ID")]
    message: Option<String>,
    /// Of a template.
    #[arg(long, value_name = "ID")]
    template: Option<String>,
    /// Of a document.
    #[arg(long, value_name = "ID")]
    document: Option<String>,
}

impl Subject {
    fn of(&self) -> Result<Of> {
        let person = [
            (IdentifierType::CustomerId, &self.customer),
            (IdentifierType::Address, &self.address),
            (IdentifierType::Phone, &self.phone),
        ];
        if let Some((kind, Some(given))) = person.into_iter().find(|(_, given)| given.is_some()) {
            return Ok(Of::Person(kind, given.clone()));
        }
        let thing = [
            (Thing::Correlation, &self.correlation),
            (Thing::Message, &self.message),
            (Thing::Template, &self.template),
            (Thing::Document, &self.document),
        ];
        match thing.into_iter().find(|(_, given)| given.is_some()) {
            Some((thing, Some(id))) => Ok(Of::Thing(thing, id.clone())),
            _ => bail!("history: say whose"),
        }
    }
}

impl History {
    pub fn run(self) -> Result<ExitCode> {
        let of = self.of.of()?;
        let lines =
            guarded(&self.data.data, |guard, _| Ok(guard.history(&purpose(&self.why, "history"), &of)?.into_inner()))?;
        print_all(&lines, self.output)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `candor receipt`
#[derive(Args)]
pub struct Receipt {
    #[command(flatten)]
    data: Data,
    /// Index of the entry.
    index: u64,
    /// json = the receipt file; tlog-proof = the bare C2SP text.
    #[arg(long, default_value = "json", value_parser = ["json", "tlog-proof"])]
    format: String,
    #[command(flatten)]
    why: Why,
}

impl Receipt {
    pub fn run(self) -> Result<ExitCode> {
        let receipt = guarded(&self.data.data, |guard, _| {
            Ok(guard.receipt(&purpose(&self.why, "receipt"), self.index)?.into_inner())
        })?;
        print!("{}", if self.format == "json" { receipt.to_text() } else { receipt.proof });
        Ok(ExitCode::SUCCESS)
    }
}

/// `candor verify`
#[derive(Args)]
pub struct Verify {
    /// A data directory, its journal, or a receipt file.
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// The verifier key that you trust; without it the trail or receipt is held against its own key.
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// Keep a note of finished segments in this file and go on from it.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Threads; 0 = one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    output: Output,
}

/// Could not be checked.
const UNCHECKED: u8 = 2;

impl Verify {
    pub fn run(self) -> Result<ExitCode> {
        match self.check() {
            Ok(code) => Ok(code),
            Err(error) => {
                eprintln!("candor: {error:#}");
                Ok(ExitCode::from(UNCHECKED))
            }
        }
    }

    fn check(&self) -> Result<ExitCode> {
        let key = self.key.as_deref().map(VerifierKey::parse).transpose().context("read --key")?;
        let meta = std::fs::metadata(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        if meta.is_dir() { self.trail(key.as_ref()) } else { self.receipt(key.as_ref()) }
    }

    fn receipt(&self, key: Option<&VerifierKey>) -> Result<ExitCode> {
        let bytes = std::fs::read(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        let result = proof::receipt::Receipt::parse(&bytes).and_then(|receipt| receipt.verify(key));
        match result {
            Ok(verified) => {
                if self.output.json {
                    println!(
                        "{}",
                        json!({"holds": true, "index": verified.index, "size": verified.checkpoint.size, "origin": verified.checkpoint.origin, "key_is_pinned": verified.key_is_pinned})
                    );
                } else {
                    println!(
                        "holds: entry {} is in the tree of {} entries signed by {}",
                        verified.index, verified.checkpoint.size, verified.checkpoint.origin
                    );
                    if !verified.key_is_pinned {
                        println!(
                            "note: held against the key in the receipt itself; give --key to hold it against the one you trust"
                        );
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                if self.output.json {
                    println!("{}", json!({"holds": false, "finding": error.to_string()}));
                } else {
                    println!("does not hold: {error}");
                }
                Ok(ExitCode::FAILURE)
            }
        }
    }

    fn trail(&self, key: Option<&VerifierKey>) -> Result<ExitCode> {
        let (journal, mark) = if self.path.join("journal").is_dir() {
            (
                self.path.join("journal"),
                HighWater::read(&self.path.join("keys/highwater"), None).context("read the high-water mark")?,
            )
        } else {
            (self.path.clone(), None)
        };
        let disk = RealDisk::read_only(&journal);
        let total: u64 =
            std::fs::read_dir(&journal)?.filter_map(|item| item.ok()?.metadata().ok()).map(|meta| meta.len()).sum();
        let done = match &self.resume {
            Some(path) if path.exists() => {
                serde_json::from_slice(&std::fs::read(path)?).with_context(|| format!("read {}", path.display()))?
            }
            _ => std::collections::BTreeMap::new(),
        };
        let settle = || std::thread::park_timeout(SETTLE);
        let written = crate::trail::is_open(&self.path);
        let options = verify::Options {
            key,
            mark: mark.as_ref(),
            threads: self.threads,
            done,
            settle: written.then_some(&settle as &(dyn Fn() + Sync)),
        };
        let progress = verify::Progress::default();
        let kept = std::sync::Mutex::new(options.done.clone());
        let each = |number: u32, state: &verify::SegmentState| {
            if let (Some(path), Ok(mut kept)) = (&self.resume, kept.lock()) {
                kept.insert(number, state.clone());
                if let Ok(text) = serde_json::to_vec(&*kept) {
                    let _ = std::fs::write(path, text);
                }
            }
        };
        let finished = std::sync::atomic::AtomicBool::new(false);
        let start = std::time::Instant::now();
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut line = crate::progress::Progress::new("verifying bytes", Some(total));
                while !finished.load(std::sync::atomic::Ordering::Relaxed) {
                    line.set(progress.bytes.load(std::sync::atomic::Ordering::Relaxed));
                    std::thread::park_timeout(std::time::Duration::from_millis(100));
                }
            });
            let report = verify::verify(&disk, &options, &progress, &each);
            finished.store(true, std::sync::atomic::Ordering::Relaxed);
            report
        })?;
        self.print(&report, mark.is_some(), start.elapsed())?;
        Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, report: &Report, marked: bool, took: std::time::Duration) -> Result<()> {
        if self.output.json {
            let mut value = serde_json::to_value(report)?;
            value["holds"] = json!(report.holds());
            value["high_water_checked"] = json!(marked);
            value["seconds"] = json!(took.as_secs_f64());
            println!("{value}");
        } else if let Some(finding) = &report.finding {
            println!("does not hold: {finding}");
            // A kill in the middle of a write leaves the same end as a cut; only a start may judge and mend it.
            if finding.to_string().ends_with(&ledger::frame::Broken::Short.to_string()) {
                println!(
                    "note: a writer that was killed can leave such an end: if one was, start candor once on this trail (it says what it leaves out, or refuses) and verify again"
                );
            }
        } else {
            println!(
                "holds: {} entries in {} frames, {} bytes hashed again in {:.2} s",
                report.entries,
                report.frames,
                report.bytes,
                took.as_secs_f64()
            );
            println!("trail: {}", report.vkey);
            for (by, count) in &report.ended {
                println!("note: the bodies of {count} entries were ended by entry {by}");
            }
            if report.unsigned_tail > 0 {
                println!(
                    "note: the last {} entries are chained, but the journal does not carry their signature yet",
                    report.unsigned_tail
                );
            }
            if !marked {
                println!(
                    "note: without the high-water mark a cut tail cannot be seen: compare size and root with a receipt or another copy"
                );
            }
        }
        Ok(())
    }
}

/// How long a verification beside a running writer waits before it reads an unfinished last frame again.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(100);

/// The identifier that a command names.
pub fn identifier(person: &Person) -> Result<(IdentifierType, String)> {
    let all = [
        (IdentifierType::CustomerId, &person.customer),
        (IdentifierType::Address, &person.address),
        (IdentifierType::Phone, &person.phone),
    ];
    match all.into_iter().find(|(_, given)| given.is_some()) {
        Some((kind, Some(given))) => Ok((kind, given.clone())),
        _ => bail!("say who: --customer, --address or --phone"),
    }
}
