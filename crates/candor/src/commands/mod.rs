//! The commands and their arguments.

mod add;
mod api_key;
mod backup;
mod completeness;
mod expire;
mod import;
mod keep;
pub mod look;
mod policy;
mod quarantine;
mod registers;
mod review;
pub mod source;
mod user;
mod verify;
mod watch;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use proof::time::UnixMillis;

use crate::control::{self, OnTrail};

/// An audit trail for everything a business says to and does for its customers.
///
/// Every record is validated, minimised, sealed and chained; every read is itself recorded; anyone can verify the
/// whole trail without keys, and a person can be forgotten without breaking it.
#[derive(Parser)]
#[command(
    name = "candor",
    version,
    max_term_width = 100,
    after_help = "EXIT STATUS\n  0  done; for verify: everything holds\n  1  failed; for verify: something does not fit\n  2  wrong usage, or could not be checked\n  3  ingest: some lines were refused, all others are in the trail\n\nFILES\n  DIR/candor.toml      configuration (candor config reference)\n  DIR/keys/            key store, master key, high-water mark: back this up\n  DIR/journal/         the trail: back this up too\n  DIR/ledger/, views/  can be made again (candor rebuild)\n\nENVIRONMENT\n  CANDOR_MASTER_KEY    the master key, 64 hexadecimal digits; wins over the file"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the trail is.
#[derive(Args, Clone)]
pub struct Data {
    /// Data directory of the trail.
    #[arg(long, value_name = "DIR", default_value = "candor-data")]
    pub data: PathBuf,
}

/// How results are printed.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// Print JSON: one object a line.
    #[arg(long)]
    pub json: bool,
}

/// Why something is read; it stands in the trail beside who read what.
#[derive(Args, Clone)]
pub struct Why {
    /// Purpose of the read, a short token.
    #[arg(long, default_value = "local-operator")]
    pub purpose: String,
    /// Case number or reason.
    #[arg(long)]
    pub justification: Option<String>,
}

/// Who a command is about.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
pub struct Person {
    /// The business's own customer number.
    #[arg(long, value_name = "ID")]
    pub customer: Option<String>,
    /// An e-mail address.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// A telephone number.
    #[arg(long, value_name = "NUMBER")]
    pub phone: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new trail: keys, journal, first entry. Asks nothing.
    Init(write::Init),
    /// Take records in; returns when all is durable and can be searched.
    ///
    /// Each line is one JSON record. Lines that are refused are named on standard error with the field and the limit;
    /// all others are in the trail. The summary is all that goes to standard output.
    Ingest(write::Ingest),
    /// Take in the history of an old system: tables, JSON Lines, mailboxes.
    ///
    /// Records keep their own times and have the source import.NAME, by which they are told apart. Of mail the envelope and
    /// hashes are kept, no bodies. Running it again goes on: what is in the trail already is not doubled.
    Import(import::Import),
    /// Write down by hand what was said outside every system: a chat, a letter, a talk, a call, a note.
    ///
    /// Who writes it down stands as its author, and the time of writing beside the time when it was: what is written
    /// more than a day later is marked as written late where the thing is shown.
    Add(add::Add),
    /// Find records by words and filters, newest first.
    Search(look::Search),
    /// Show one entry by its index, or a thing (a ticket, an order, a request) whole by its id.
    ///
    /// `candor show 1234` opens an entry; `candor show ticket T-1` folds all events of the ticket into the shape that
    /// docs/registers.md describes, each line of its history with its entry; --at shows it as it stood then.
    Show(look::Show),
    /// Show what a customer consented to, by purpose, now or at a time.
    Consent(registers::Consent),
    /// List things of a register by their state: open tickets, overdue requests.
    List(registers::List),
    /// Show everything about a person, message, correlation, template or document, oldest first.
    History(look::History),
    /// Write a receipt of one entry: a file that proves it to anyone, offline.
    Receipt(look::Receipt),
    /// Check a trail or a receipt; needs no keys and writes nothing.
    ///
    /// DIR is a data directory or its journal: every byte of the journal is hashed again. FILE is a receipt.
    Verify(verify::Verify),
    /// Erase a person: destroys their keys; every proof made before stays valid. Also while the server runs.
    Erase(keep::Erase),
    /// End keys that are due: what the law lets live no longer becomes noise; every proof stays valid.
    ///
    /// `candor serve` does it by itself each hour (expiry, retention in candor.toml).
    Expire(expire::Expire),
    /// Keep what a court or a regulator asks to be kept, although its keys are due.
    Hold(expire::Hold),
    /// Backups, encrypted to a key that is not here; `candor serve` makes one a day where candor.toml says where.
    Backup(backup::Backup),
    /// Make a data directory from a backup and the recovery key.
    ///
    /// The journal is verified in whole. The trail goes on only where it is known that nothing was signed after the backup;
    /// else a successor is opened (`candor init --succeeds DIR`), whose first entry names where this one ends.
    Restore(backup::Restore),
    /// Keep a second copy of a server's journal on this machine, without keys, each frame verified before it is written.
    ///
    /// What a server takes back or changes is noticed by who has a mirror.
    Mirror(crate::mirror::MirrorCommand),
    /// Serve the trail over HTTP, and follow the logs of its sources.
    ///
    /// Where there is no trail yet it is made; where there is no admin key, one is made and printed, this once. SIGTERM or Ctrl-C: what was taken is
    /// answered, then the server ends. docs/api.md describes the API; /openapi.json has it for programs.
    Serve(crate::serve::Serve),
    /// The keys of the HTTP API; while the server runs, use the API itself.
    #[command(name = "apikey", alias = "api-key")]
    ApiKey(api_key::ApiKey),
    /// People's accounts; while the server runs, use its page /users.
    User(user::User),
    /// The sources of records: what is known of each, and adding one.
    Source(source::Source),
    /// Who may do what: the policies, and why something is decided so.
    Policy(policy::Policy),
    /// Refused input that was kept for 30 days: list it, take it in again.
    Quarantine(quarantine::Quarantine),
    /// What began and did not end in time: mails without an end, tickets without an answer.
    Completeness(completeness::Completeness),
    /// Make a month's review of who read what due, as `candor serve` does when the month has ended.
    Review(review::Review),
    /// The rules that are watched: list them, check them, try them over the past.
    Watch(watch::Watch),
    /// What people do with alerts; `candor list alerts --open` lists them.
    Alert(watch::Alert),
    /// The key store: what is in it, and wrapping it by another master key.
    Keys(keep::Keys),
    /// Make index, registers and segment indexes again from the journal.
    Rebuild(keep::Rebuild),
    /// Measure this machine and this program together.
    Bench(crate::bench::Bench),
    /// Look for what is wrong or risky about this installation.
    Doctor(keep::Doctor),
    /// Check or explain the configuration.
    Config(keep::ConfigCommand),
    /// Accept the clock as it stands after it was corrected.
    Clock(keep::ClockCommand),
}

/// Parses, runs, and turns an error into one sentence.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Init(command) => command.run(),
        Command::Ingest(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Add(command) => command.run(),
        Command::Policy(command) => command.run(),
        Command::Quarantine(command) => command.run(),
        Command::Completeness(command) => command.run(),
        Command::Review(command) => command.run(),
        Command::Search(command) => command.run(),
        Command::Show(command) => command.run(),
        Command::List(command) => command.run(),
        Command::Consent(command) => command.run(),
        Command::History(command) => command.run(),
        Command::Receipt(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Erase(command) => command.run(),
        Command::Expire(command) => control::run(&command),
        Command::Hold(command) => control::run(&command),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Mirror(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::ApiKey(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Source(command) => command.run(),
        Command::Watch(command) => command.run(),
        Command::Alert(command) => command.run(),
        Command::Keys(command) => control::run(&command),
        Command::Rebuild(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Clock(command) => command.run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("candor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A command that a running server does for who asked it, from its arguments.
pub fn online(arguments: &[String]) -> Result<Box<dyn OnTrail>> {
    match Cli::try_parse_from(arguments)?.command {
        Command::Erase(command) => Ok(Box::new(command)),
        Command::Expire(command) => Ok(Box::new(command)),
        Command::Hold(command) => Ok(Box::new(command)),
        Command::Backup(command) => Ok(Box::new(command)),
        Command::Keys(command) => Ok(Box::new(command)),
        _ => anyhow::bail!("the server that has this trail does not take this command: stop it first"),
    }
}

/// Set by Ctrl-C or a request to end: what was begun is finished, nothing further is.
pub fn interrupts() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("watch for an interrupt")?;
    }
    Ok(stop)
}

/// A time that an option gives.
pub fn moment(option: &str, given: Option<&str>) -> Result<Option<UnixMillis>> {
    let read = |text: &str| {
        UnixMillis::parse(text.as_bytes())
            .with_context(|| format!("read {option}: give a time such as 2026-11-01T08:00:00Z"))
    };
    given.map(read).transpose()
}

/// The operating-system user, as the actor of an offline command.
pub fn actor() -> String {
    format!("os-user-{}", rustix::process::getuid().as_raw())
}
