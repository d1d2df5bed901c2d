//! `candor serve`: the trail open for good, over HTTP, with the logs of its sources followed.
//!
//! Owns the process: runtime, signals, the beats (once a minute what was refused, every five minutes of silence a
//! HEARTBEAT), the threads that follow logs. What a request means is `web`'s.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use access::api_key::{self, Grant, Keyring, REGISTER, Scope, Token};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use ledger::clock::{Clock, SystemClock};
use reads::decide::Purpose;
use reads::guard::{Guard, OwnRecord};
use reads::proofs::Proofs;
use seal::random::RandomPool;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use web::app::{App, Limits, Parts};
use web::submit::{Done, NotReplayed, RefusalCount, Submit, Unavailable};

use crate::commands::source::expected;
use crate::commands::{Data, look};
use crate::config::Config;
use crate::ingest::{BATCH_LINES, Input, Shown};
use crate::intake::{Intake, Why, refusal_record};
use crate::postfix::PostfixLog;
use crate::scrub::Scrub;
use crate::settings::Settings;
use crate::silence::Silence;
use crate::trail::{OpenMode, Paths, Trail};
use crate::workers::{Job, Workers};

/// Threads that take in what requests bring, for each core: some of them wait for the disk.
const WORKERS_A_CORE: usize = 2;
/// Between two records of refusals.
const BEAT: Duration = Duration::from_secs(60);
/// An idle trail says that it lives this often.
const HEARTBEAT_BEATS: u64 = 5;
/// Between two looks at whether the writer has ended.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at the clock's synchronisation.
const CLOCK_BEATS: u64 = 10;

/// `candor serve`
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    data: Data,
    /// Address and port to listen on; wins over the configuration.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Serve in clear beyond this machine, where no TLS files are configured: only behind a proxy that encrypts.
    #[arg(long)]
    insecure_http: bool,
}

impl Serve {
    pub fn run(self) -> Result<ExitCode> {
        let data = self.data.data.as_path();
        // With keys in a bucket a new machine begins with a configuration and the master key.
        let (paths, config) = (Paths { data: data.to_owned() }, Config::read(data)?);
        let first = !data.join("journal").exists()
            && !paths.keys().join("root").exists()
            && !crate::key_bucket::has_keys(data, &config)?;
        let trail = if first {
            Trail::create(data, None, None)?
        } else {
            // Each start tries the store again: it may be another one by now, or of another version.
            crate::home::probe(&crate::home::of(&paths, &config)?)?;
            Trail::open(data, OpenMode::default())?
        };
        let listen = self.listen.unwrap_or(trail.config.listen);
        let tls = acceptor(data, &trail.config)?;
        if tls.is_none() && !listen.ip().is_loopback() && !self.insecure_http {
            bail!(
                "serve: {listen} is beyond this machine, and keys and records would cross the network in clear: set tls_certificate and tls_key, or give --insecure-http behind a proxy that encrypts"
            );
        }
        // Also for a trail that another command made: without such a key nobody could make any.
        let administered =
            keyring(&trail)?.iter().any(|key| key.may(Scope::Admin) && key.check(SystemClock.now()).is_ok());
        let token = if administered { None } else { Some(create_admin(&trail)?) };
        let result = run(&trail, listen, tls, token);
        let closed = trail.close();
        result?;
        closed?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The first key of a trail.
fn create_admin(trail: &Trail) -> Result<Token> {
    let grant = Grant {
        scopes: vec![Scope::Admin],
        roles: Vec::new(),
        sources: Vec::new(),
        expires: None,
        label: Some("first".into()),
    };
    create_key(&trail.intake, &grant, &crate::commands::actor())
}

/// Makes a key by a record.
pub fn create_key(intake: &Intake, grant: &Grant, actor: &str) -> Result<Token> {
    let (token, mut facts) = api_key::create(&RandomPool::default().take(), grant, None);
    facts["actor"] = json!(actor);
    intake.own_one("API_KEY_CREATED", facts)?;
    Ok(token)
}

/// The keys of a trail, from the records about them.
pub fn keyring(trail: &Trail) -> Result<Keyring> {
    let mut keys = Keyring::default();
    trail.past()?.each(REGISTER, |kind, facts, _| {
        keys.apply(kind, facts);
        Ok(())
    })?;
    Ok(keys)
}

/// TLS, where certificate and key are configured.
fn acceptor(data: &Path, config: &Config) -> Result<Option<TlsAcceptor>> {
    let (certificate, key) = match (&config.tls_certificate, &config.tls_key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (data.join(certificate), data.join(key)),
        _ => bail!("serve: tls_certificate and tls_key belong together: set both or neither"),
    };
    let read = |path: &PathBuf| format!("read {}", path.display());
    let chain = CertificateDer::pem_file_iter(&certificate)
        .with_context(|| read(&certificate))?
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| read(&certificate))?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| read(&key))?;
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("serve: the certificate and its key do not belong together")?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

/// How the files differ by now from what the server started with.
fn settings(trail: &Trail) -> web::settings::Differ {
    let (data, held) = (trail.paths.data.clone(), trail.settled.settings.clone());
    Arc::new(move || {
        let files = Config::read(&data).and_then(|config| Settings::read(&data, &config));
        files.map(|files| files.differ(&held)).map_err(|why| format!("{why:#}"))
    })
}

/// The last part of an origin: what the published trail is called.
fn short_name(origin: &str) -> String {
    origin.rsplit('/').next().unwrap_or(origin).to_owned()
}

fn run(trail: &Trail, listen: SocketAddr, tls: Option<TlsAcceptor>, token: Option<Token>) -> Result<()> {
    let limits = Limits::default();
    let (people, welcome) = crate::people::open(trail)?;
    let reviewing = Arc::clone(&people);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = Workers::start(&trail.intake, cores * WORKERS_A_CORE)?;
    let newest = crate::scrub::Newest::default();
    let shown = Arc::clone(&newest);
    let guard = Arc::new(look::guard(trail)?);
    let submit = Arc::new(Intaking { intake: trail.intake.clone(), workers, guard: Arc::clone(&guard) });
    let limits_of_silence = trail.config.sources.iter().filter(|(_, source)| !source.out_of_use);
    let limits_of_silence = limits_of_silence.filter_map(|(name, source)| Some((name.clone(), source.quiet_after_s?)));
    let silence = Silence::new(Arc::clone(&guard), trail.intake.clone(), limits_of_silence.collect());
    let following = Arc::clone(&guard);
    let app = App::new(Parts {
        guard,
        proofs: Proofs::new(Arc::clone(trail.intake.reader())),
        submit,
        catalogue: Arc::clone(&trail.catalogue),
        keys: keyring(trail)?,
        changes: crate::people::changes(trail)?,
        second_person: trail.config.second_person.clone(),
        settings: settings(trail),
        proxies: crate::config::proxies(&trail.config)?,
        people: Some(people),
        reach: crate::mail::reach(&trail.paths.data, &trail.config)?,
        places: crate::config::places(&trail.paths.data, &trail.config)?,
        passkeys: trail.config.public_url.as_deref().and_then(access::passkey::Passkeys::of),
        provider: crate::sso::provider(&trail.paths.data, &trail.config)?,
        sources: trail.config.sources.iter().map(|(name, source)| (name.clone(), expected(source))).collect(),
        environment: trail.config.environment.clone(),
        name: short_name(&trail.intake.reader().identity().origin),
        now: Arc::new(|| SystemClock.now()),
        random: Arc::new(|| RandomPool::default().take()),
        mirrors: crate::mirrors::of(&trail.paths.data, trail.intake.reader()),
        answer: trail.config.answer,
        verified: Arc::new(move || shown.lock().ok().and_then(|newest| *newest)),
        // Behind a proxy that encrypts browsers speak TLS all the same.
        secure: tls.is_some() || trail.config.public_url.as_ref().is_some_and(|url| url.starts_with("https://")),
        limits,
    });
    app.know_staff();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(limits.unpacking_max + limits.reads_max + 16)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let secure = tls.is_some();
    let served = std::thread::scope(|scope| {
        // However this ends: the threads would be waited for and never end.
        let _stops = Stops(&stop);
        let scrub = Scrub {
            journal: Box::new(|| crate::home::to_read(&trail.paths, &trail.config)),
            intake: trail.intake.clone(),
            every: Duration::from_secs(u64::from(trail.config.verify_days) * 86_400),
            newest,
        };
        let stopped = &stop;
        std::thread::Builder::new()
            .name("scrub".into())
            .spawn_scoped(scope, move || scrub.run(stopped))
            .context("start a thread")?;
        std::thread::Builder::new()
            .name("silence".into())
            .spawn_scoped(scope, || silence.run(stopped))
            .context("start a thread")?;
        std::thread::Builder::new()
            .name("completeness".into())
            .spawn_scoped(scope, || crate::completeness::run(&following, &trail.intake, stopped))
            .context("start a thread")?;
        let reviewers = move || reviewing.users(crate::reviews::reviewers);
        std::thread::Builder::new()
            .name("reviews".into())
            .spawn_scoped(scope, || crate::reviews::run(&following, &trail.intake, reviewers, stopped))
            .context("start a thread")?;
        std::thread::Builder::new()
            .name("alerts".into())
            .spawn_scoped(scope, || crate::alerts::run(trail, stopped))
            .context("start a thread")?;
        std::thread::Builder::new()
            .name("control".into())
            .spawn_scoped(scope, || crate::control::serve(trail, stopped))
            .context("start a thread")?;
        std::thread::Builder::new()
            .name("ending".into())
            .spawn_scoped(scope, || crate::ending::serve(trail, stopped))
            .context("start a thread")?;
        std::thread::Builder::new()
            .name("log-key".into())
            .spawn_scoped(scope, || crate::log_key::serve(trail, stopped))
            .context("start a thread")?;
        if let Some(config) = &trail.config.backup {
            std::thread::Builder::new()
                .name("backup".into())
                .spawn_scoped(scope, || crate::backup::serve(trail, config, stopped))
                .context("start a thread")?;
        }
        follow(scope, trail, &stop)?;
        runtime.block_on(serve(Arc::clone(&app), trail, listen, tls, || greet(trail, listen, secure, token, welcome)))
    });
    // Every request was answered or cut; what it left in the runtime ends here.
    runtime.shutdown_timeout(Duration::from_secs(10));
    app.record_refusals();
    served
}

/// Sets its mark when it goes.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What an operator sees at start; the key only this once. That nobody reads it is no reason to stop.
fn greet(trail: &Trail, listen: SocketAddr, secure: bool, token: Option<Token>, welcome: Option<String>) {
    use std::io::Write;
    let scheme = if secure { "https" } else { "http" };
    let mut lines = vec![
        format!("listening  {scheme}://{listen}/"),
        format!("trail      {}", trail.intake.reader().identity().origin),
    ];
    if let Some(token) = token {
        lines.push(format!("admin key  {}", token.expose()));
        lines.push(
            "           it is shown this once: it makes further keys (POST /v1/keys), and reads nothing itself".into(),
        );
        lines.push(format!("back up    {}", trail.to_back_up()));
    }
    if let Some(path) = welcome {
        lines.push(format!("first link {scheme}://{listen}{path}"));
        lines.push(
            "           it opens once, for three days, and makes the first administrator, who invites everybody else"
                .into(),
        );
    }
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
    if !secure && !listen.ip().is_loopback() {
        eprintln!("candor: listening in clear beyond this machine, as --insecure-http asks");
    }
}

async fn serve(
    app: Arc<App>,
    trail: &Trail,
    listen: SocketAddr,
    tls: Option<TlsAcceptor>,
    greet: impl FnOnce(),
) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for a signal")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for a signal")?;
    greet();
    let beats = tokio::spawn(beat(Arc::clone(&app), trail.intake.clone()));
    let ended = async {
        while trail.failure().is_none() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = ended => {}
        }
    };
    web::server::serve(app, listener, tls, stop).await;
    beats.abort();
    // Whoever starts it again enters through recovery; going on would only refuse.
    trail.failure().map_or(Ok(()), |error| Err(anyhow::anyhow!("serve: nothing can be written any more: {error}")))
}

/// Once a minute: what was refused, what came again; after five minutes in which nothing came, a heartbeat; every ten minutes
/// who of the staff is a customer too, and whether the system says that its clock is synchronised.
async fn beat(app: Arc<App>, intake: Intake) {
    let (mut size, mut silent, mut beats) = (app.size(), 0, 0u64);
    let mut synchronised = true;
    let mut timer = tokio::time::interval(BEAT);
    timer.tick().await;
    loop {
        timer.tick().await;
        silent = if app.size() == size { silent + 1 } else { 0 };
        let (worker, intake) = (Arc::clone(&app), intake.clone());
        let heart = silent >= HEARTBEAT_BEATS;
        let look = beats.is_multiple_of(CLOCK_BEATS);
        beats += 1;
        let done = tokio::task::spawn_blocking(move || {
            worker.record_refusals();
            // What can't be recorded is said by what else can't.
            let _ = intake.record_sightings();
            if heart {
                worker.heartbeat();
            }
            if look {
                worker.know_staff();
                worker.close_expired();
            }
            let now = if look { crate::clock_state::synchronised().unwrap_or(true) } else { synchronised };
            if synchronised && !now {
                worker.clock_unsynchronised();
            }
            now
        });
        synchronised = done.await.unwrap_or(synchronised);
        if heart {
            silent = 0;
        }
        size = app.size();
    }
}

/// A thread for each source that has a log. They end when `stop` is set.
fn follow<'scope, 'env>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    trail: &'env Trail,
    stop: &'env Arc<AtomicBool>,
) -> Result<()> {
    for (source, config) in &trail.config.sources {
        let Some(path) = &config.log else { continue };
        let log = PostfixLog::open(trail, source, &trail.paths.data.join(path), true)
            .with_context(|| format!("serve: source {source}"))?;
        let run = move || {
            let input = Input {
                source,
                workers: 1,
                stop,
                shown: Shown::Nothing,
                batch_lines: BATCH_LINES,
                derived_ids: true,
                bytes: None,
            };
            // A log that can't be read ends its source, not the server: the state on disk is where it goes on.
            if let Err(error) = crate::ingest::ingest_log(&trail.intake, &input, log) {
                eprintln!("candor: source {source} stopped: {error:#}: mend the cause and restart");
            }
        };
        std::thread::Builder::new().name("log".into()).spawn_scoped(scope, run).context("start a thread")?;
    }
    Ok(())
}

/// The intake as `web` sees it.
struct Intaking {
    intake: Intake,
    workers: Workers,
    guard: Arc<Guard>,
}

impl Submit for Intaking {
    fn submit(&self, source: &str, lines: Vec<(u64, Bytes)>, done: Done) {
        if self.intake.recipients(source).is_err() {
            return done(Err(Unavailable::NoSource));
        }
        self.workers.take(Job { source: source.to_owned(), lines, done });
    }

    fn own_all(&self, records: Vec<(&'static str, Value, Option<u64>)>) -> std::result::Result<Vec<u64>, String> {
        let record = |(kind, fields, subject)| OwnRecord { kind, fields, subject };
        self.intake.own(records.into_iter().map(record).collect())
    }

    fn replay(&self, entry: u64, purpose: &Purpose) -> std::result::Result<Value, NotReplayed> {
        crate::quarantine::replay(&self.guard, &self.intake, purpose, entry)
    }

    fn refused(&self, counts: Vec<RefusalCount>) -> std::result::Result<(), String> {
        let record = |refusal: RefusalCount| {
            let why = Why { code: refusal.code, kind: refusal.kind.map(Arc::from), rule: refusal.rule };
            refusal_record(&refusal.source, &why, refusal.count)
        };
        self.intake.own(counts.into_iter().map(record).collect()).map(drop)
    }
}
