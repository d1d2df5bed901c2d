//! Commands that read: search, show, history, receipt.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use access::role::Role;
use anyhow::{Context, Result, bail};
use clap::Args;
use ledger::clock::{Clock, SystemClock};
use proof::time::UnixMillis;
use reads::decide::Purpose;
use reads::guard::{Find, Guard, Of, OwnRecord, Recorder};
use reads::mirrors::standing;
use reads::shown::{PersonalState, Shown};
use record::identifier::IdentifierType;
use record::things;
use seal::crypto::{KeyedHash, subkey};
use seal::store::Named;
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
        policy: crate::policy::of(trail)?,
        grants: RwLock::new(crate::people::grants(trail)?),
        staff: RwLock::default(),
        now: || SystemClock.now(),
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
    Purpose {
        actor: super::actor(),
        // Who has the data directory and its master key.
        roles: vec![Role::LocalOperator],
        second_factor: false,
        own: Vec::new(),
        session: None,
        purpose: why.purpose.clone(),
        justification: why.justification.clone(),
        command,
    }
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
        PersonalState::Ended => match shown.ended_by {
            Some(by) => format!("(ended by entry {by})"),
            None => "(ended)".into(),
        },
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
                guarded(&self.data.data, |guard, trail| {
                    let mut shown = serde_json::to_value(guard.show(&why, index)?.get())?;
                    let beside = standing(&crate::mirrors::known(&self.data.data), trail.intake.reader().size(), index);
                    shown["proof"] = serde_json::to_value(beside)?;
                    Ok(shown)
                })?
            }
            Some(id) => {
                let shape = things::shape(&self.what).with_context(|| {
                    let names: Vec<&str> = things::SHAPES.iter().map(|shape| shape.name).collect();
                    format!("show: there is no such sort of thing: one of {}", names.join(", "))
                })?;
                let at = super::moment("--at", self.at.as_deref())?;
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

/// `candor history`
#[derive(Args)]
pub struct History {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    of: Subject,
    /// Write the proof that nothing was left out to this file, for the person alone: it has their link key, by which
    /// their entries can be told. verifier/verify.py checks it against a copy of the journal.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
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
        if let Some(path) = &self.proof {
            let Of::Person(kind, given) = &of else {
                bail!("history: a proof is of a person: give --customer, --address or --phone")
            };
            if path.exists() {
                bail!("history: {} exists already: name another file", path.display());
            }
            let why = purpose(&self.why, "history-proof");
            let proof = guarded(&self.data.data, |guard, _| Ok(guard.history_proof(&why, *kind, given)?.into_inner()))?;
            let text = serde_json::to_string(&proof).context("write the proof")?;
            write_private(path, &format!("{text}\n")).with_context(|| format!("write {}", path.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let lines =
            guarded(&self.data.data, |guard, _| Ok(guard.history(&purpose(&self.why, "history"), &of)?.into_inner()))?;
        print_all(&lines, self.output)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes a new file that nobody else may read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
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
        // For who reads along: what is taken up by a program has the receipt alone.
        if std::io::stderr().is_terminal() {
            eprintln!("candor: {}", crate::mirrors::in_words(&self.data.data, self.index));
        }
        print!("{}", if self.format == "json" { receipt.to_text() } else { receipt.proof });
        Ok(ExitCode::SUCCESS)
    }
}

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
