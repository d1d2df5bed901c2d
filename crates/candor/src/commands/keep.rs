//! Commands that keep a trail in order: erase, keys, rebuild, doctor, config, clock.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use proof::time::UnixMillis;
use record::class::CLASSES;
use seal::log_keys::LogKeyState;
use seal::master::MasterKey;
use seal::random::RandomPool;
use serde_json::json;

use super::{Data, Output, Person, look};
use ledger::objects::Locking;
use ledger::segment::Identity;

use crate::config::Config;
use crate::control::{On, OnTrail};
use crate::trail::{OpenMode, Paths, Trail};

/// `candor erase`
#[derive(Args)]
pub struct Erase {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    person: Person,
    /// Why, such as the number of the request; it stays in the trail, so it must not name the person.
    #[arg(long)]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

impl Erase {
    pub fn run(self) -> Result<ExitCode> {
        look::identifier(&self.person)?;
        if !self.yes && !confirmed()? {
            bail!("erase: not confirmed: nothing was erased");
        }
        crate::control::run(&self)
    }
}

impl OnTrail for Erase {
    fn data(&self) -> &Path {
        &self.data.data
    }

    fn work(&self, on: &On<'_>, out: &mut dyn Write) -> Result<()> {
        let (kind, given) = look::identifier(&self.person)?;
        let certificate = crate::erase::erase(on.trail, kind, &given, &self.reason, &on.actor)?;
        if self.output.json {
            writeln!(out, "{}", serde_json::to_string(&certificate)?)?;
            return Ok(());
        }
        writeln!(
            out,
            "erased: the keys of {} entries are destroyed (entry {}, completed by entry {})",
            certificate.entries, certificate.erased_entry, certificate.completed_entry
        )?;
        writeln!(out, "places: {}", certificate.places.join(", "))?;
        writeln!(
            out,
            "beyond recovery after {}; other copies made outside this directory are yours to erase",
            certificate.beyond_recovery_after
        )?;
        Ok(())
    }
}

fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("erase: there is no terminal to ask: give --yes");
    }
    eprint!("Erase this person for ever? Type yes: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// `candor keys`
#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Count the keys, by class and state.
    List {
        #[command(flatten)]
        data: Data,
        #[command(flatten)]
        output: Output,
    },
    /// Wrap the key store by a new master key; the old one opens nothing afterwards. Also while the server runs.
    ///
    /// Without --new-master-key the key's file is replaced in its place; a stop at any point leaves a file that opens.
    Rewrap {
        #[command(flatten)]
        data: Data,
        /// File that the new master key is written to; it must not exist. candor.toml names it from then on.
        #[arg(long, value_name = "FILE")]
        new_master_key: Option<PathBuf>,
    },
    /// Sign with a new log key. Also while the server runs.
    ///
    /// The new key is made, an entry names it, and the old one signs beside it for a while, so that who trusts either can
    /// check everything; then it is destroyed. Receipts and copies of the journal say how the new key follows from the
    /// first: nobody needs to be told. It is for keys that are to change, not for one that was stolen: what a thief signs
    /// with it looks like ours, and only a successor trail (`candor init --succeeds`) ends that.
    ChangeLogKey {
        #[command(flatten)]
        data: Data,
        /// Days that both keys sign.
        #[arg(long, value_name = "DAYS", default_value_t = crate::log_key::BOTH_SIGN_DAYS, value_parser = clap::value_parser!(u32).range(0..=366))]
        both_sign_days: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Give up the bucket that the keys are in: they are in the data directory alone afterwards.
    ///
    /// What the bucket has is taken into the directory first, and then removed there. Also while the server runs. Take
    /// `keys` out of candor.toml afterwards: a start puts the keys into an empty bucket that it names. No other machine can
    /// go on from the bucket then, so back DIR/keys up (`candor backup`).
    Leave {
        #[command(flatten)]
        data: Data,
        /// The bucket is lost: go on from what the directory has of it. Never where another machine may have gone on
        /// from the bucket: of what it did since nothing is known here, also which keys it destroyed.
        #[arg(long)]
        lost: bool,
    },
}

impl OnTrail for Keys {
    fn data(&self) -> &Path {
        match &self.command {
            KeysCommand::List { data, .. }
            | KeysCommand::Rewrap { data, .. }
            | KeysCommand::ChangeLogKey { data, .. }
            | KeysCommand::Leave { data, .. } => &data.data,
        }
    }

    fn mode(&self) -> OpenMode {
        let keys_lost = matches!(self.command, KeysCommand::Leave { lost: true, .. });
        OpenMode { without_views: true, keys_lost, ..OpenMode::default() }
    }

    fn work(&self, on: &On<'_>, out: &mut dyn Write) -> Result<()> {
        match &self.command {
            KeysCommand::Leave { lost, .. } => leave(on.trail, *lost, out),
            KeysCommand::List { output, .. } => list(on.trail, *output, out),
            KeysCommand::Rewrap { new_master_key, .. } => rewrap(on, new_master_key.as_deref(), out),
            KeysCommand::ChangeLogKey { both_sign_days, output, .. } => {
                change_log_key(on, *both_sign_days, *output, out)
            }
        }
    }
}

fn leave(trail: &Trail, lost: bool, out: &mut dyn Write) -> Result<()> {
    let mut store = trail.store.lock()?;
    match (lost, store.is_copy()?, store.has_elsewhere()) {
        (_, false, false) => bail!("keys leave: the keys are in this directory alone already"),
        (true, _, true) => {
            bail!("keys leave: the server that runs has the bucket: leave it without --lost, or stop it first")
        }
        _ => {}
    }
    let left = store.leave_elsewhere()?;
    drop(store);
    if let Some(Err(error)) = left.map(|left| left.remove()) {
        writeln!(out, "objects stay in the bucket that nobody goes on from, and are yours to delete: {error}")?;
    }
    let keys = trail.paths.keys();
    writeln!(out, "left: the keys are in {} alone: take `keys` out of candor.toml, and back them up", keys.display())?;
    Ok(())
}

fn list(trail: &Trail, output: Output, out: &mut dyn Write) -> Result<()> {
    let (generation, subjects, periods) = {
        let store = trail.store.lock()?;
        (store.generation(), store.subject_count(), store.period_counts())
    };
    let published = trail.intake.reader().published();
    let identity = Identity { key_changes: published.key_changes, ..trail.intake.reader().identity().clone() };
    let keys: Vec<String> = identity.keys()?.iter().map(ToString::to_string).collect();
    let log = trail.store.lock()?.log_keys();
    let both_until = (log.state == LogKeyState::Both).then(|| UnixMillis(log.until_ms).rfc3339());
    let count = |place: usize| periods.get(&(place as u8)).copied().unwrap_or_default();
    if output.json {
        let classes: serde_json::Map<String, serde_json::Value> = CLASSES
            .iter()
            .enumerate()
            .map(|(place, class)| (class.name.to_owned(), json!({"live": count(place).0, "destroyed": count(place).1})))
            .collect();
        let row = json!({"generation": generation, "subjects_ever": subjects, "periods": classes, "vkey": identity.vkey, "log_keys": keys, "both_sign_until": both_until});
        writeln!(out, "{row}")?;
    } else {
        writeln!(out, "generation {generation} (keys ever made), {subjects} subjects ever")?;
        for (place, key) in keys.iter().enumerate() {
            let signs = match &both_until {
                _ if place + 1 == keys.len() => "signs".to_owned(),
                Some(until) if place + 2 == keys.len() => format!("signs until {until}"),
                _ => "signed once".to_owned(),
            };
            writeln!(out, "log key    {key}  {signs}")?;
        }
        for (place, class) in CLASSES.iter().enumerate() {
            let (live, destroyed) = count(place);
            writeln!(out, "{:<14} {live:>5} periods live, {destroyed:>5} destroyed", class.name)?;
        }
    }
    Ok(())
}

fn change_log_key(on: &On<'_>, days: u32, output: Output, out: &mut dyn Write) -> Result<()> {
    let made = crate::log_key::change(on.trail, &on.actor, days)?;
    if output.json {
        let until = made.until.rfc3339();
        let row = json!({"entry": made.entry, "vkey_old": made.old, "vkey_new": made.new, "both_sign_until": until});
        writeln!(out, "{row}")?;
    } else {
        writeln!(out, "changed: entry {} names the new log key\n{}", made.entry, made.new)?;
        writeln!(
            out,
            "the old key signs beside it until {}; back keys/ up now: a copy from before has not the key that signs",
            made.until.rfc3339()
        )?;
    }
    Ok(())
}

fn rewrap(on: &On<'_>, new: Option<&Path>, out: &mut dyn Write) -> Result<()> {
    let trail = on.trail;
    let key = MasterKey::generate(&mut RandomPool::default());
    let place = trail.paths.master_key(&trail.config);
    let beside = crate::trail::next_master_key(&place);
    let file = match new {
        Some(new) => on.folder.join(new),
        None if crate::trail::has_key_in_environment() || !place.exists() => bail!(
            "keys: the master key in use is not that of {}: give --new-master-key FILE, and hand on what is in it",
            place.display()
        ),
        None => {
            // Left by a rewrap that was stopped before it wrapped anything: the key in use opened the store.
            let _ = std::fs::remove_file(&beside);
            beside.clone()
        }
    };
    // The new key is durable in its file before anything is wrapped by it.
    key.write(&file).with_context(|| format!("write {}", file.display()))?;
    let generation = {
        let mut store = trail.store.lock()?;
        store.rewrap(key)?;
        store.generation()
    };
    if new.is_none() {
        // If we stop before this line: the next start finds the new key beside the old one, and does it.
        crate::trail::take_next_master_key(&place)?;
    }
    let fields = json!({"actor": on.actor, "generation": generation});
    trail.intake.own_one("KEYS_REWRAPPED", fields)?;
    match new {
        Some(_) => writeln!(
            out,
            "rewrapped: set master_key_file in candor.toml to {}, and destroy the old key file",
            file.display()
        )?,
        None => writeln!(
            out,
            "rewrapped: {} has the new key; back it up, and destroy copies of the old one",
            place.display()
        )?,
    }
    Ok(())
}

/// `candor rebuild`
#[derive(Args)]
pub struct Rebuild {
    #[command(flatten)]
    data: Data,
    /// Under what it was decided, such as a change number; it stands in the trail.
    #[arg(long, value_name = "ID")]
    reference: String,
}

impl Rebuild {
    pub fn run(self) -> Result<ExitCode> {
        let paths = Paths { data: self.data.data.clone() };
        // The lock and the keys are tried first, and that it begins is in the trail: nothing is removed that could not be
        // made again, or unsaid.
        let trail = Trail::open(&self.data.data, OpenMode { without_views: true, ..OpenMode::default() })?;
        let begun = trail.intake.own_one("VIEW_REBUILT", self.fields("begun"));
        trail.close()?;
        begun?;
        ledger::ledger::reset_derived(&paths.derived())?;
        ledger::ledger::reset_derived(&paths.views())?;
        let start = std::time::Instant::now();
        let trail = Trail::open(&self.data.data, OpenMode::default())?;
        let size = trail.intake.reader().size();
        let mut fields = self.fields("done");
        (fields["size"], fields["duration_ms"]) = (size.into(), (start.elapsed().as_millis() as u64).into());
        trail.intake.own_one("VIEW_REBUILT", fields)?;
        trail.close()?;
        println!("rebuilt from {size} entries");
        Ok(ExitCode::SUCCESS)
    }

    fn fields(&self, state: &str) -> serde_json::Value {
        json!({"view": "all", "actor": super::actor(), "change_reference": self.reference, "state": state})
    }
}

/// `candor doctor`
#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    output: Output,
}

impl Doctor {
    pub fn run(self) -> Result<ExitCode> {
        let findings = examine(&self.data.data);
        let bad = findings.iter().any(|(level, _, _)| *level == "bad");
        for (level, what, advice) in &findings {
            if self.output.json {
                println!("{}", json!({"level": level, "what": what, "advice": advice}));
            } else {
                println!("{level:<5} {what}{}{advice}", if advice.is_empty() { "" } else { ": " });
            }
        }
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

type Finding = (&'static str, String, String);

fn examine(data: &Path) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut say = |level, what: &str, advice: &str| found.push((level, what.to_owned(), advice.to_owned()));
    let paths = Paths { data: data.to_owned() };
    let config = match Config::read(data) {
        Ok(config) => {
            say("good", "the configuration reads", "");
            config
        }
        Err(error) => {
            say("bad", &format!("the configuration does not read ({error:#})"), "mend candor.toml");
            return found;
        }
    };
    let master = paths.master_key(&config);
    match std::fs::metadata(&master) {
        Ok(meta) => {
            use std::os::unix::fs::{MetadataExt, PermissionsExt};
            if meta.permissions().mode() & 0o077 != 0 {
                say("bad", "others can read the master key", &format!("chmod 600 {}", master.display()));
            } else {
                say("good", "only its owner can read the master key", "");
            }
            if std::fs::metadata(data).is_ok_and(|data| data.dev() == meta.dev()) {
                say(
                    "risk",
                    "the master key lies on the same disk as the trail",
                    "a thief of the disk then has both: set master_key_file to another disk, or give CANDOR_MASTER_KEY from a secret store",
                );
            }
        }
        Err(_) => say("risk", "there is no master key file", "CANDOR_MASTER_KEY must be set at each start"),
    }
    match ledger::disk::is_network_file_system(data) {
        Ok(true) => say("bad", "the data directory is on a network file system", "move it to a local disk"),
        Ok(false) => say("good", "the data directory is on a local disk", ""),
        Err(error) => say("bad", &format!("the data directory cannot be looked at ({error})"), "check --data"),
    }
    if let Ok(space) = rustix::fs::statvfs(data) {
        let free = space.f_bavail * space.f_frsize;
        let level = if free < 1 << 30 { "bad" } else { "good" };
        say(
            level,
            &format!("{} MiB are free", free >> 20),
            if level == "bad" { "make room: appends stop when the disk is full" } else { "" },
        );
    }
    match crate::clock_state::synchronised() {
        Some(true) => say("good", "the system says that its clock is synchronised", ""),
        Some(false) => say(
            "risk",
            "the system says that its clock is not synchronised",
            "start systemd-timesyncd, chrony or another NTP client",
        ),
        None => say("risk", "whether the clock is synchronised is not known", "install systemd-timesyncd or chrony"),
    }
    examine_server(data, &config, &mut say);
    match &config.backup {
        Some(_) => say("good", "backups are made (candor backup list FOLDER)", ""),
        None => say(
            "risk",
            "no backups are made",
            "set backup.folder and backup.recipient, or copy keys/ and the journal yourself",
        ),
    }
    if let Some(url) = &config.journal {
        examine_bucket(data, &config, url, &mut say);
    }
    match Trail::open(data, OpenMode { without_views: true, ..OpenMode::default() }) {
        Ok(trail) => {
            say("good", &format!("the trail opens: {} entries", trail.intake.reader().size()), "");
            if let Err(error) = trail.close() {
                say("bad", &format!("the trail does not close ({error:#})"), "look at the disk");
            }
        }
        Err(error) => say("bad", &format!("the trail does not open ({error:#})"), ""),
    }
    found
}

/// Connections of a busy server, beside which a large trail has some files open.
const OPEN_FILES_WANTED: u64 = 4096;

/// What `candor serve` would meet: TLS, open files, the logs of relays.
/// The bucket that has the journal.
fn examine_bucket(data: &Path, config: &Config, url: &str, say: &mut dyn FnMut(&'static str, &str, &str)) {
    let locking = crate::home::objects(data, config, url).and_then(|objects| Ok(objects.store().locking()?));
    match locking {
        Ok(Locking::Compliance(days)) => {
            say("good", &format!("the journal's bucket locks in compliance mode for {days} days"), "");
        }
        Ok(_) => say(
            "risk",
            "the journal's bucket does not lock what is put in it in compliance mode",
            "who has its credentials can write over the trail: make a bucket with Object Lock and a default retention for the next trail",
        ),
        Err(error) => say(
            "bad",
            &format!("the journal's bucket does not answer ({error:#})"),
            "check journal and its credentials",
        ),
    }
}

fn examine_server(data: &Path, config: &Config, say: &mut dyn FnMut(&'static str, &str, &str)) {
    use std::os::unix::fs::PermissionsExt;
    match (&config.tls_certificate, &config.tls_key) {
        (Some(_), Some(key)) => {
            let open = std::fs::metadata(data.join(key)).map(|meta| meta.permissions().mode() & 0o077 != 0);
            match open {
                Ok(false) => say("good", "connections are encrypted, and only its owner can read the key", ""),
                Ok(true) => say("bad", "others can read the TLS key", "chmod 600 the file of tls_key"),
                Err(error) => say("bad", &format!("the TLS key cannot be read ({error})"), "check tls_key"),
            }
        }
        (None, None) if config.listen.ip().is_loopback() => say("good", "the server listens on this machine alone", ""),
        (None, None) => say(
            "risk",
            "the server listens in clear beyond this machine",
            "set tls_certificate and tls_key, or put a proxy with TLS before it",
        ),
        _ => say("bad", "tls_certificate and tls_key belong together", "set both or neither"),
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let (level, advice) = if limit < OPEN_FILES_WANTED {
        ("risk", "raise it for the server: LimitNOFILE= in its unit, or ulimit -n")
    } else {
        ("good", "")
    };
    say(level, &format!("{limit} files may be open at once"), advice);
    for (name, source) in &config.sources {
        let Some(log) = &source.log else { continue };
        match std::fs::File::open(data.join(log)) {
            Ok(_) => say("good", &format!("the log of source {name} can be read"), ""),
            Err(error) => say(
                "bad",
                &format!("the log of source {name} cannot be read ({error})"),
                "check its path, and let the server's account read it (group adm on Debian)",
            ),
        }
    }
}

/// `candor config`
#[derive(Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    command: ConfigSub,
}

#[derive(Subcommand)]
enum ConfigSub {
    /// Read candor.toml as a start would, and say whether it is good.
    Check {
        #[command(flatten)]
        data: Data,
    },
    /// Print the configuration in force, defaults included.
    Show {
        #[command(flatten)]
        data: Data,
    },
    /// Print the reference of all keys as Markdown.
    Reference,
}

impl ConfigCommand {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            ConfigSub::Check { data } => {
                let config = Config::read(&data.data)?;
                crate::trail::catalogue(&data.data, &config)?;
                println!("good");
            }
            ConfigSub::Show { data } => print!("{}", toml::to_string(&Config::read(&data.data)?)?),
            ConfigSub::Reference => print!("{}", Config::reference()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `candor clock`
#[derive(Args)]
pub struct ClockCommand {
    #[command(subcommand)]
    command: ClockSub,
}

#[derive(Subcommand)]
enum ClockSub {
    /// Go on with the clock as it stands, and record that it was corrected.
    Accept {
        #[command(flatten)]
        data: Data,
    },
}

impl ClockCommand {
    pub fn run(self) -> Result<ExitCode> {
        let ClockSub::Accept { data } = self.command;
        let trail =
            Trail::open(&data.data, OpenMode { accept_clock: true, without_views: true, ..OpenMode::default() })?;
        let before = trail.intake.reader().published().at.rfc3339();
        let after = ledger::clock::Clock::now(&ledger::clock::SystemClock).rfc3339();
        let fields = json!({"before": before, "after": after, "actor": super::actor()});
        trail.intake.own_one("CLOCK_CORRECTED", fields)?;
        trail.close()?;
        println!("accepted");
        Ok(ExitCode::SUCCESS)
    }
}
