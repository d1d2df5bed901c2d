//! Opening a data directory: lock, keys, ledger, views, in this order; and closing it in the other.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use access::policy::Policy;
use anyhow::{Context, Result, anyhow, bail};
use ledger::clock::{Clock, SystemClock};
use ledger::disk::is_network_file_system;
use ledger::home::Home;
use ledger::ledger::{Ledger, Options};
use ledger::reader::{Reader, StoredEntry};
use ledger::sequencer::{Sequencer, Submitter};
use proof::checkpoint::Checkpoint;
use proof::key_change;
use proof::time::UnixMillis;
use record::detect::Detector;
use record::kinds::Catalogue;
use record::minimal::number;
use seal::crypto::{KeyedHash, subkey};
use seal::master::MasterKey;
use seal::random::RandomPool;
use seal::sealed::Parts;
use seal::shared::{SharedStore, Ticket};
use seal::store::{KeyStore, Named};
use views::expire::Sources;
use views::notes::Notes;
use views::open::Opened;
use views::views::{Applied, Views};

use crate::config::Config;
use crate::ending::Unseen;
use crate::intake::{Companion, Intake};
use crate::past::Past;
use crate::settings::{Settled, settle};
use crate::source_state::Readings;
use crate::space::Space;
use crate::{key_bucket, log_key};

/// Paths below a data directory.
#[derive(Debug, Clone)]
pub struct Paths {
    pub data: PathBuf,
}

impl Paths {
    pub fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }
    pub fn keys(&self) -> PathBuf {
        self.data.join("keys")
    }
    pub fn derived(&self) -> PathBuf {
        self.data.join("ledger")
    }
    pub fn views(&self) -> PathBuf {
        self.data.join("views")
    }
    pub fn sources(&self) -> PathBuf {
        self.data.join("sources")
    }
    pub fn access(&self) -> PathBuf {
        self.data.join("access")
    }
    pub fn high_water(&self) -> PathBuf {
        self.keys().join("highwater")
    }
    /// Everywhere the high-water mark is kept.
    pub fn high_waters(&self, config: &Config) -> Vec<PathBuf> {
        let copy = config.high_water_copy.as_ref().map(|path| self.data.join(path));
        [self.high_water()].into_iter().chain(copy).collect()
    }
    pub fn master_key(&self, config: &Config) -> PathBuf {
        match &config.master_key_file {
            Some(path) => self.data.join(path),
            None => self.keys().join("master.key"),
        }
    }
}

/// How long a command waits for another one that has the directory.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// More entries than this that a stop left out of the views are written to disk once they are made up for: a process
/// that dies again and again must not do the same work again and again.
const CATCH_UP_KEPT: u64 = 4096;
/// How often the key store is looked after where nothing else wakes its thread.
const TIDY_EVERY: std::time::Duration = std::time::Duration::from_millis(250);
/// How often it is looked whether the keys' bucket needs a whole copy, and how long after a failure.
const COPY_KEYS_EVERY: std::time::Duration = std::time::Duration::from_mins(1);
const COPY_KEYS_AGAIN: std::time::Duration = std::time::Duration::from_mins(10);

/// What may be told an opening.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenMode {
    pub accept_clock: bool,
    pub without_views: bool,
    /// The keys' bucket is lost: what the directory has of them counts.
    pub keys_lost: bool,
}

/// An open trail.
pub struct Trail {
    pub paths: Paths,
    pub config: Config,
    pub store: Arc<SharedStore>,
    pub views: Option<Arc<Views>>,
    pub catalogue: Arc<Catalogue>,
    pub intake: Intake,
    /// Whether the trail says by which rules alerts are raised.
    pub rules_recorded: AtomicBool,
    /// Sessions that a rule ended.
    pub ended_before: web::people::EndedBefore,
    /// The policies that the trail says hold.
    pub policy: Mutex<Option<Arc<Policy>>>,
    /// The settings that it opened with.
    pub settled: Settled,
    /// Time of its last entry when it was opened; zero of a new one.
    pub last_before: UnixMillis,
    /// Id and epoch of this writer, where others could write to the same journal.
    taken_over: Option<(u64, u32)>,
    /// What destroys keys, one at a time.
    pub deciding: Mutex<()>,
    /// Logs that are being read.
    pub readings: Arc<Readings>,
    /// Something failed that may be in the trail and not carried out: the next start must look for it.
    pub unfinished: AtomicBool,
    /// An ending was cut off: none is begun before the next start has done it.
    pub ending_unfinished: AtomicBool,
    sequencer: Option<Sequencer<Companion>>,
    _copying: Option<SyncSender<()>>,
    _lock: File,
}

fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("lock {}", data.display()))?;
    // A search lasts a moment: whoever comes meanwhile waits for it rather than fails.
    let start = std::time::Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => {
                std::thread::park_timeout(LOCK_WAIT / 100);
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(ledger::error::Error::Locked(data.display().to_string()).into());
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", data.display()));
            }
        }
    }
}

/// Whether the master key comes from the environment, where no command can put another one.
pub fn has_key_in_environment() -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    std::env::var_os("CANDOR_MASTER_KEY").is_some()
}

/// The master key that the environment or the configured file has; `None` if neither is there.
fn configured_master_key(paths: &Paths, config: &Config) -> Result<Option<MasterKey>> {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    if let Some(text) = std::env::var_os("CANDOR_MASTER_KEY") {
        let text = zeroize::Zeroizing::new(text.into_encoded_bytes());
        return MasterKey::parse(&String::from_utf8_lossy(&text)).context("read CANDOR_MASTER_KEY").map(Some);
    }
    let path = paths.master_key(config);
    if !path.exists() {
        return Ok(None);
    }
    MasterKey::read(&path).with_context(|| format!("read {}", path.display())).map(Some)
}

/// Where a new master key waits to take the place of the one in use.
pub fn next_master_key(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    place.with_file_name(name)
}

/// Puts the new key in the place of the old one; durable.
pub fn take_next_master_key(place: &Path) -> Result<()> {
    std::fs::rename(next_master_key(place), place).with_context(|| format!("replace {}", place.display()))?;
    match place.parent() {
        Some(folder) => File::open(folder)
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("sync {}", folder.display())),
        None => Ok(()),
    }
}

/// Opens the key store, also where a rewrap was stopped before the new key had its place.
fn open_keys(paths: &Paths, config: &Config, lost: bool) -> Result<KeyStore> {
    let place = paths.master_key(config);
    let next = next_master_key(&place);
    let open = |master| -> Result<Result<KeyStore, seal::error::Error>> {
        let elsewhere = if lost { None } else { key_bucket::of(&paths.data, config)? };
        Ok(KeyStore::open_with(&paths.keys(), master, elsewhere))
    };
    match open(read_master_key(paths, config)?)? {
        Err(seal::error::Error::WrongMasterKey) if next.exists() => {
            let store = open(MasterKey::read(&next)?)??;
            take_next_master_key(&place)?;
            Ok(store)
        }
        opened => Ok(opened?),
    }
}

/// What nothing signs yet must be what this trail sealed. A frame has no code of its own, so who can write where the
/// journal is, and has no keys, could put one after the last; but its entries would open under no key, or stand there
/// already.
fn check_unsigned(reader: &Reader, entries: Range<u64>, store: &SharedStore, catalogue: &Catalogue) -> Result<()> {
    for index in entries {
        let stored = reader.entry(index)?;
        if !is_sealed_here(&stored, store, catalogue)? || reader.is_repeated(index)? {
            bail!(
                "entry {index}, which nothing signs yet, is none that this trail has sealed: somebody else wrote it where the journal is. Keep it as evidence, and open a successor (candor init --succeeds)"
            );
        }
    }
    Ok(())
}

/// Whether the entry's facts open to what it commits to, and say the kind that it says, under a key of the class that it
/// says.
fn is_sealed_here(stored: &StoredEntry, store: &SharedStore, catalogue: &Catalogue) -> Result<bool> {
    let (keys, span) = {
        let mut store = store.lock()?;
        let period = stored.sealed.as_deref().and_then(|sealed| Parts::parse(sealed).ok()).map(|parts| parts.period);
        (views::open::keys(stored, None, &mut store), period.and_then(|period| store.period_span(period)))
    };
    let opened = keys.and_then(|keys| views::open::open(stored, &keys, catalogue));
    let (Ok(entry), Ok(Opened { facts: Ok(facts), .. }), Some(span)) = (stored.entry(), opened, span) else {
        return Ok(false);
    };
    let kind = views::open::value(&facts.fields(), number::KIND);
    Ok(kind.as_deref() == Some(entry.kind) && span.class.class().name == entry.class)
}

/// Whether another process has the trail open and may be writing.
pub fn is_open(data: &Path) -> bool {
    let file = OpenOptions::new().read(true).open(data.join("lock"));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

pub fn read_master_key(paths: &Paths, config: &Config) -> Result<MasterKey> {
    configured_master_key(paths, config)?.with_context(|| {
        let path = paths.master_key(config);
        format!("read {}: give the master key file that `candor init` made, or set CANDOR_MASTER_KEY", path.display())
    })
}

/// The checkpoint of the last entry of a journal that is only read.
pub fn newest_checkpoint(paths: &Paths, config: &Config, store: &KeyStore) -> Result<String> {
    let disk = crate::home::to_read(paths, config)?;
    let last = disk.segments()?.checked_sub(1).context("the journal has no segment")?;
    let position = ledger::directory::scan(disk.as_ref(), last, |_, _| Ok(()))?.end;
    let checkpoint = Checkpoint::new(store.origin(), position.range.size(), position.range.root());
    Ok(key_change::sign(&checkpoint, &log_key::signers(store)?))
}

fn mac(store: &KeyStore) -> KeyedHash {
    KeyedHash::new(subkey(&store.named(Named::Id), "candor/v1/highwater\n").expose())
}

/// The catalogue with the deployment's kinds.
pub fn catalogue(data: &Path, config: &Config) -> Result<Catalogue> {
    let mut catalogue = Catalogue::shipped()?;
    if let Some(folder) = &config.kinds_folder {
        let folder = data.join(folder);
        let mut paths = std::fs::read_dir(&folder)
            .with_context(|| format!("read {}", folder.display()))?
            .map(|item| item.map(|item| item.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            catalogue.add(&text).with_context(|| format!("read {}", path.display()))?;
        }
    }
    Ok(catalogue)
}

impl Trail {
    /// Makes a new trail: directory, keys, journal, first entries.
    /// `succeeds` is the last signed checkpoint of the trail that this one goes on from, as text.
    pub fn create(data: &Path, origin: Option<String>, succeeds: Option<String>) -> Result<Trail> {
        let paths = Paths { data: data.to_owned() };
        if paths.keys().join("root").exists() || paths.journal().exists() {
            bail!("init {}: there is a trail already: choose another directory", data.display());
        }
        std::fs::create_dir_all(data).with_context(|| format!("create {}", data.display()))?;
        if is_network_file_system(data).with_context(|| format!("look at {}", data.display()))? {
            return Err(ledger::error::Error::NetworkFileSystem(data.display().to_string()).into());
        }
        let guard = lock(data)?;
        let config = Config::read(data)?;
        let mut random = RandomPool::default();
        let configured = configured_master_key(&paths, &config)?;
        let home = crate::home::of(&paths, &config)?;
        if let Home::Objects(objects) = &home
            && objects.has_trail()?
        {
            bail!(
                "init {}: the bucket has a trail already: restore its keys/ here, or give this one a prefix of its own",
                data.display()
            );
        }
        crate::home::probe(&home)?;
        if key_bucket::has_keys(data, &config)? {
            bail!(
                "init {}: the bucket of keys has a trail's keys already: give these a prefix of their own",
                data.display()
            );
        }
        key_bucket::probe(data, &config)?;
        make_private(&paths.keys())?;
        if matches!(home, Home::Directory(_)) {
            make_private(&paths.journal())?;
        }
        let master = match configured {
            Some(master) => master,
            None => {
                let master = MasterKey::generate(&mut random);
                master.write(&paths.master_key(&config))?;
                master
            }
        };
        let origin = origin.unwrap_or_else(|| format!("candor.invalid/{}", proof::encoding::hex(&random.take::<16>())));
        if !proof::checkpoint::is_origin(&origin) {
            bail!(
                "init: the origin must be 1 to 255 bytes without white space and plus signs, such as audit.example/trail"
            );
        }
        let elsewhere = key_bucket::of(data, &config)?;
        let store = KeyStore::create_with(&paths.keys(), master, &origin, elsewhere)?;
        let (identity, _) = log_key::signing(&store)?;
        let vkey = identity.vkey.clone();
        Ledger::create(&home, &identity)?;
        if !data.join("candor.toml").exists() {
            std::fs::write(data.join("candor.toml"), Config::template())?;
        }
        let mut trail = Trail::assemble(paths, config, store, guard, OpenMode::default())?;
        let mut fields = serde_json::json!({"origin": origin, "vkey": vkey, "format_version": 1, "software": concat!("candor/", env!("CARGO_PKG_VERSION"))});
        if let Some(checkpoint) = succeeds {
            fields["succeeds"] = checkpoint.into();
        }
        trail.intake.own_one("TRAIL_OPENED", fields)?;
        trail.record_settings()?;
        Ok(trail)
    }

    /// Opens a trail for reading and writing.
    pub fn open(data: &Path, options: OpenMode) -> Result<Trail> {
        let paths = Paths { data: data.to_owned() };
        let is_here = paths.keys().join("root").exists();
        if !is_here && (options.keys_lost || !key_bucket::has_keys(data, &Config::read(data)?)?) {
            if paths.journal().exists() {
                bail!("open {}: the key store is missing: restore keys/ from its backup", data.display());
            }
            bail!("open {}: there is no trail here: run `candor init --data {}`", data.display(), data.display());
        }
        let guard = lock(data)?;
        let config = Config::read(data)?;
        crate::backup::refuse_restored(&paths, &config)?;
        // What a stopped backup left has keys that may have been destroyed since.
        let _ = std::fs::remove_dir_all(data.join(crate::backup::WORK));
        // The key store writes when it opens, and recovery may have to copy the last segment's good part.
        Space::new(data).for_own()?;
        make_private(&paths.keys())?;
        if !options.keys_lost {
            // Each time: the bucket may be set otherwise by now, or its store be of another version.
            key_bucket::probe(data, &config)?;
        }
        let store = open_keys(&paths, &config, options.keys_lost)?;
        if store.is_copy()? && !options.keys_lost {
            bail!(
                "open {}: its keys follow those in a bucket, which candor.toml does not name any more: set `keys` as it was, or give the bucket up (candor keys leave --lost)",
                data.display()
            );
        }
        let mut trail = Trail::assemble(paths, config, store, guard, options)?;
        trail.record_writer()?;
        trail.record_settings()?;
        Ok(trail)
    }

    /// Another machine may have the same bucket: the first frame of this writer says that it has taken over, and who had it
    /// before is told by it.
    fn record_writer(&self) -> Result<()> {
        if let Some((writer, epoch)) = self.taken_over {
            let fields = serde_json::json!({
                "writer": format!("{writer:016x}"), "epoch": epoch,
                "software": concat!("candor/", env!("CARGO_PKG_VERSION")),
            });
            self.intake.own_one("WRITER_STARTED", fields).context("take the trail over")?;
        }
        Ok(())
    }

    /// What changed in the files is in the trail before anything is done by it.
    fn record_settings(&mut self) -> Result<()> {
        let records = self.settled.take_records();
        if !records.is_empty() {
            self.intake.own(records).map_err(|why| anyhow!("record the settings: {why}"))?;
        }
        Ok(())
    }

    fn assemble(
        paths: Paths,
        mut config: Config,
        mut store: KeyStore,
        guard: File,
        options: OpenMode,
    ) -> Result<Trail> {
        let catalogue = Arc::new(catalogue(&paths.data, &config)?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let home = crate::home::of(&paths, &config)?;
        let shared = matches!(home, Home::Objects(_));
        make_private(&paths.derived())?;
        make_private(&paths.views())?;
        make_private(&paths.sources())?;
        let writer = u64::from_be_bytes(RandomPool::default().take());
        log_key::end_old(&mut store, clock.now())?;
        let (identity, signers) = log_key::signing(&store)?;
        let mut ledger = Ledger::open(Options {
            journal: home,
            derived: paths.derived(),
            high_water: paths.high_waters(&config),
            mac: mac(&store),
            identity,
            signers,
            clock: Arc::clone(&clock),
            accept_clock: options.accept_clock,
            key_generation: store.generation(),
            writer,
            segment_bytes_max: None,
        })?;
        let last_before = ledger.reader().published().at;
        let taken_over = shared.then(|| (writer, ledger.epoch()));
        let torn = ledger.recovered().torn_bytes;
        if torn > 0 {
            eprintln!(
                "candor: a crash left {torn} bytes of an unfinished commit at the end of the journal; nobody had been answered for them, and they were left out"
            );
        }
        let reader = ledger.reader();
        let store = Arc::new(SharedStore::new(store));
        let unsigned = ledger.unsigned_from()..reader.size();
        if !unsigned.is_empty() {
            check_unsigned(&reader, unsigned, &store, &catalogue)
                .with_context(|| format!("open {}", paths.data.display()))?;
            // Signed before anything is done by what it says: keys may be destroyed by it that opened it.
            ledger.close()?;
        }
        let unseen = Unseen::look(&reader, &store)?;
        log_key::carry_out(&mut ledger, &store, &catalogue, &unseen)?;
        let view_key = store.lock()?.named(Named::View);
        let redone = unseen.erase(&reader, &store, &catalogue, &Notes::new(&paths.views(), &view_key))?;
        let mut carried_out = true;
        let views = if options.without_views {
            None
        } else {
            let rules = Arc::new(crate::alerts::rules(&paths.data, &config, &catalogue)?);
            let views = Views::open(&paths.views(), &view_key, rules)?;
            let mut progress = crate::progress::Progress::new("indexing", Some(reader.size()));
            let behind = reader.size().saturating_sub(views.cursor());
            views.catch_up(&reader, &store, &catalogue, |done| progress.set(done))?;
            if behind > CATCH_UP_KEPT {
                views.flush()?;
            }
            views.forget_noted()?;
            let sources =
                Sources { reader: Arc::clone(&reader), store: Arc::clone(&store), catalogue: Arc::clone(&catalogue) };
            carried_out = unseen.carry_out(&sources, &views)?;
            Some(Arc::new(views))
        };
        let settled = match &views {
            Some(views) => {
                let past = Past { reader: &reader, views, store: &store, catalogue: &catalogue };
                settle(&paths.data, &mut config, past)?
            }
            None => Settled::unseen(&paths.data, &config)?,
        };
        store.lock()?.set_retention(config.retention_of_classes());
        let sink_views = views.clone();
        let gate_store = Arc::clone(&store);
        let gate = move |needs| gate_store.ensure(Ticket(needs)).map_err(|error| error.to_string());
        let sequencer = Sequencer::start(ledger, Box::new(gate), move |committed, _| {
            let Some(views) = &sink_views else { return };
            let documents = committed
                .into_iter()
                .map(|entry: ledger::ledger::Committed<Companion>| Applied {
                    entry: entry.index,
                    at_ms: entry.at.0,
                    subject: entry.subject,
                    document: entry.companion.document,
                })
                .collect();
            // A view that fails is behind, not wrong: it follows again at the next start.
            if let Err(error) = views.apply(documents) {
                eprintln!("candor: {error}");
            }
        });
        let submitter: Submitter<Companion> = sequencer.submitter();
        let keys = commit_keys(&store)?;
        let copying = config.keys.as_ref().map(|_| copy_keys(&store)).transpose()?;
        let intake = Intake::new(
            &config,
            Arc::clone(&catalogue),
            Arc::new(Detector::new()),
            Arc::clone(&store),
            submitter,
            keys,
            Space::new(&paths.data),
            reader,
            views.clone(),
            clock,
        )?;
        let trail = Trail {
            paths,
            config,
            store,
            views,
            catalogue,
            intake,
            rules_recorded: AtomicBool::new(false),
            ended_before: web::people::EndedBefore::default(),
            policy: Mutex::default(),
            settled,
            last_before,
            taken_over,
            deciding: Mutex::default(),
            readings: Arc::default(),
            unfinished: AtomicBool::new(!carried_out),
            ending_unfinished: AtomicBool::new(false),
            sequencer: Some(sequencer),
            _copying: copying,
            _lock: guard,
        };
        if redone {
            crate::source_state::forget_erased(&trail)?;
        }
        Ok(trail)
    }

    /// Why nothing can be written any more; none while it can.
    pub fn failure(&self) -> Option<Arc<ledger::error::Error>> {
        self.sequencer.as_ref()?.failure()
    }

    /// The open views.
    pub fn views(&self) -> Result<&Arc<Views>> {
        self.views.as_ref().context("this command opened the trail without its views")
    }

    /// What reading entries again takes.
    pub fn sources(&self) -> Sources {
        Sources {
            reader: Arc::clone(self.intake.reader()),
            store: Arc::clone(&self.store),
            catalogue: Arc::clone(&self.catalogue),
        }
    }

    /// What must be backed up, in words.
    pub fn to_back_up(&self) -> String {
        let (data, master) = (self.paths.data.display(), self.paths.master_key(&self.config));
        // A bucket is the store's to keep.
        match self.config.journal {
            None => format!("{} (the master key), {data}/keys and {data}/journal", master.display()),
            Some(_) => format!("{} (the master key) and {data}/keys", master.display()),
        }
    }

    /// What it says of itself.
    pub fn past(&self) -> Result<Past<'_>> {
        let (reader, views) = (self.intake.reader(), self.views()?);
        Ok(Past { reader, views, store: &self.store, catalogue: &self.catalogue })
    }

    /// Commits, closes and writes everything.
    pub fn close(mut self) -> Result<()> {
        // A full disk, say: how often something came again is no reason not to close.
        if let Err(error) = self.intake.record_sightings() {
            eprintln!("candor: repeats could not be recorded: {error:#}");
        }
        if let Err(error) = crate::alerts::record_all(&self) {
            eprintln!("candor: alerts could not be recorded: {error:#}: they are at the next start");
        }
        let size = self.intake.reader().size();
        drop(self.intake);
        if let Some(sequencer) = self.sequencer.take() {
            sequencer.stop().map_err(|error| anyhow!("{error}"))?;
        }
        // Without views what was decided about holds and periods was not carried out; what failed half-way neither.
        let unfinished = self.unfinished.load(Ordering::Acquire) || self.ending_unfinished.load(Ordering::Acquire);
        if self.views.is_some() && !unfinished {
            let mut store = self.store.lock()?;
            store.set_erased_up_to(size);
            store.commit()?;
        }
        if let Some(views) = self.views.take() {
            match Arc::try_unwrap(views) {
                Ok(views) => views.stop()?,
                Err(views) => views.flush()?,
            }
        }
        Ok(())
    }
}

/// Starts the thread that makes keys durable while the batches that took them are still being sealed, and that tidies
/// the key store. It ends with the last sender. What fails here fails again, and is told, where the writer asks for it.
fn commit_keys(store: &Arc<SharedStore>) -> Result<SyncSender<()>> {
    let (sender, nudges) = sync_channel(1);
    let store = Arc::clone(store);
    let run = move || {
        loop {
            match nudges.recv_timeout(TIDY_EVERY) {
                Ok(()) => drop(store.lock().map(|store| store.ticket()).and_then(|ticket| store.ensure(ticket))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // The log grows until it can be copied; a disk that refuses that refuses the next key, which is told.
            let _ = store.tidy();
        }
    };
    std::thread::Builder::new().name("keys".into()).spawn(run).context("start a thread")?;
    Ok(sender)
}

/// Starts the thread that keeps what a new machine has to read of the keys' bucket short. It ends with the sender.
fn copy_keys(store: &Arc<SharedStore>) -> Result<SyncSender<()>> {
    let (sender, stopped) = sync_channel(0);
    let store = Arc::clone(store);
    let run = move || {
        let mut failed = false;
        loop {
            let wait = if failed { COPY_KEYS_AGAIN } else { COPY_KEYS_EVERY };
            match stopped.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let copied = store.copy_elsewhere();
            if let Err(error) = &copied
                && !failed
            {
                eprintln!(
                    "candor: the keys' bucket got no whole copy, or still has one that is needless: {error}; this is tried again every {} minutes",
                    COPY_KEYS_AGAIN.as_secs() / 60
                );
            }
            failed = copied.is_err();
        }
    };
    std::thread::Builder::new().name("keys-copy".into()).spawn(run).context("start a thread")?;
    Ok(sender)
}

pub fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("create {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_says_another_kind_or_class_than_was_sealed_is_none_of_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("trail");
        let trail = Trail::create(&data, Some("audit.example/log1".into()), None).expect("a trail");
        let held = || trail.intake.reader().entry(0).expect("an entry");
        let ours = |stored: &StoredEntry| is_sealed_here(stored, &trail.store, &trail.catalogue).expect("readable");
        assert!(ours(&held()));
        let class = held().entry().expect("it parses").class.to_owned();
        let other = if class == "access" { "compliance" } else { "access" };
        for (what, instead) in
            [("TRAIL_OPENED", "WRITER_STARTED"), (&*class, other), ("\"facts\":\"", "\"facts\":\"00")]
        {
            let mut stored = held();
            let text = String::from_utf8(stored.bytes).expect("UTF-8");
            let mut changed = text.replacen(what, instead, 1);
            if what.starts_with('"') {
                let end = changed.find("\",\"sealed").expect("the commitment ends");
                changed.replace_range(end - 2..end, "");
            }
            assert_ne!(changed, text);
            stored.bytes = changed.into_bytes();
            assert!(!ours(&stored), "{instead}");
        }
        let stored = StoredEntry { sealed: None, ..held() };
        assert!(!ours(&stored));
        trail.close().expect("closed");
    }
}
