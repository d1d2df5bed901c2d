//! `candor serve`: the trail open for good, over HTTP, with the logs of its sources followed.
//!
//! Owns the process: runtime, signals, the beats (once a minute what was refused, every five minutes of silence a
//! HEARTBEAT), the threads that follow logs. What a request means is `web`'s.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::api_key::{self, Grant, Keyring, REGISTER, Scope, Token};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use ledger::clock::{Clock, SystemClock};
use reads::guard::OwnRecord;
use reads::proofs::Proofs;
use seal::random::RandomPool;
use serde_json::{Map, Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use views::open;
use views::registers::Thing;
use web::app::{App, Limits, Parts};
use web::submit::{Answer, RefusalCount, Submit, Unavailable};

use crate::commands::{Data, look};
use crate::config::Config;
use crate::ingest::{BATCH_LINES, Input, Shown};
use crate::intake::{Accepted, Intake, LineAnswer, Sent, Worker};
use crate::postfix::PostfixLog;
use crate::scrub::Scrub;
use crate::trail::{OpenMode, Trail};

/// Batches of one request under way at once.
const AHEAD_MAX: usize = 4;
/// Between two records of refusals.
const BEAT: Duration = Duration::from_secs(60);
/// An idle trail says that it lives this often.
const HEARTBEAT_BEATS: u64 = 5;
/// Records about keys that are read at start, at most.
const KEY_RECORDS_MAX: usize = 100_000;

/// `candor serve`
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    data: Data,
    /// Address and port to listen on; wins over the configuration.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub fn run(self) -> Result<ExitCode> {
        let data = self.data.data.as_path();
        let first = !data.join("journal").exists() && !data.join("keys").exists();
        let trail = if first { Trail::create(data, None, None)? } else { Trail::open(data, OpenMode::default())? };
        let listen = self.listen.unwrap_or(trail.config.listen);
        let tls = acceptor(data, &trail.config)?;
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
    let grant = Grant { scopes: vec![Scope::Admin], sources: Vec::new(), expires: None, label: Some("first".into()) };
    create_key(&trail.intake, &grant, &crate::commands::actor())
}

/// Makes a key by a record.
pub fn create_key(intake: &Intake, grant: &Grant, actor: &str) -> Result<Token> {
    let (token, mut facts) = api_key::create(&RandomPool::default().take(), grant, None);
    facts["actor"] = json!(actor);
    own(intake, "API_KEY_CREATED", facts).map_err(|why| anyhow!("{why}"))?;
    Ok(token)
}

fn own(intake: &Intake, kind: &'static str, fields: Value) -> Result<u64, String> {
    let indexes = intake.own(vec![OwnRecord { kind, fields, subject: None }])?;
    indexes.first().copied().ok_or_else(|| "the record has no index".to_owned())
}

/// The keys of a trail, from the records about them.
pub fn keyring(trail: &Trail) -> Result<Keyring> {
    let mut keys = Keyring::default();
    for index in trail.views()?.find(Thing::Own, REGISTER, KEY_RECORDS_MAX)? {
        let stored = trail.intake.reader().entry(index)?;
        let mut store = trail.store.lock()?;
        let opening = open::keys(&stored, None, &mut store)?;
        let opened = open::open(&stored, &opening, &trail.catalogue)?;
        let (Some(id), Ok(facts)) = (opened.kind, &opened.facts) else { continue };
        let kind = trail.catalogue.kind(id);
        let mut record = Map::new();
        for field in facts.fields() {
            if let Some(name) = kind.pointer(field.number).and_then(|pointer| pointer.strip_prefix('/')) {
                record.insert(name.to_owned(), serde_json::from_slice(field.value).unwrap_or(Value::Null));
            }
        }
        keys.apply(&kind.name, &Value::Object(record));
    }
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

/// The last part of an origin: what the published trail is called.
fn short_name(origin: &str) -> String {
    origin.rsplit('/').next().unwrap_or(origin).to_owned()
}

fn run(trail: &Trail, listen: SocketAddr, tls: Option<TlsAcceptor>, token: Option<Token>) -> Result<()> {
    let limits = Limits::default();
    let submit = Arc::new(Intaking { intake: trail.intake.clone(), workers: Mutex::default() });
    let newest = crate::scrub::Newest::default();
    let shown = Arc::clone(&newest);
    let app = App::new(Parts {
        guard: Arc::new(look::guard(trail)?),
        proofs: Proofs::new(Arc::clone(trail.intake.reader())),
        submit: Arc::clone(&submit) as Arc<dyn Submit>,
        catalogue: Arc::clone(&trail.catalogue),
        keys: keyring(trail)?,
        sources: trail.config.sources.keys().cloned().collect(),
        name: short_name(&trail.intake.reader().identity().origin),
        now: Arc::new(|| SystemClock.now()),
        random: Arc::new(|| RandomPool::default().take()),
        verified: Arc::new(move || shown.lock().ok().and_then(|newest| *newest)),
        secure: tls.is_some(),
        limits,
    });
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(limits.writers_max + limits.reads_max + 16)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let secure = tls.is_some();
    let served = std::thread::scope(|scope| {
        let scrub = Scrub {
            journal: trail.paths.journal(),
            intake: trail.intake.clone(),
            every: Duration::from_secs(u64::from(trail.config.verify_days) * 86_400),
            newest,
        };
        let stopped = &stop;
        std::thread::Builder::new()
            .name("scrub".into())
            .spawn_scoped(scope, move || scrub.run(stopped))
            .context("start a thread")?;
        let followers = follow(scope, trail, &stop)?;
        let served = runtime.block_on(serve(Arc::clone(&app), listen, tls, || greet(trail, listen, secure, token)));
        stop.store(true, Ordering::Release);
        drop(followers);
        served
    });
    // Every request was answered or cut; what it left in the runtime ends here.
    runtime.shutdown_timeout(Duration::from_secs(10));
    app.record_refusals();
    served
}

/// What an operator sees at start; the key only this once. That nobody reads it is no reason to stop.
fn greet(trail: &Trail, listen: SocketAddr, secure: bool, token: Option<Token>) {
    use std::io::Write;
    let scheme = if secure { "https" } else { "http" };
    let mut lines = vec![
        format!("listening  {scheme}://{listen}/"),
        format!("trail      {}", trail.intake.reader().identity().origin),
    ];
    if let Some(token) = token {
        let (data, master) = (trail.paths.data.display(), trail.paths.master_key(&trail.config));
        lines.push(format!("admin key  {}", token.expose()));
        lines.push(
            "           it is shown this once: it makes further keys (POST /v1/keys), and reads nothing itself".into(),
        );
        lines.push(format!("back up    {} (the master key), {data}/keys and {data}/journal", master.display()));
    }
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
    if !secure && !listen.ip().is_loopback() {
        eprintln!(
            "candor: listening in clear beyond this machine: set tls_certificate and tls_key, or put a proxy before it"
        );
    }
}

async fn serve(app: Arc<App>, listen: SocketAddr, tls: Option<TlsAcceptor>, greet: impl FnOnce()) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let listener = web::server::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for a signal")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for a signal")?;
    greet();
    let beats = tokio::spawn(beat(Arc::clone(&app)));
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    web::server::serve(app, listener, tls, stop).await;
    beats.abort();
    Ok(())
}

/// Once a minute: what was refused; after five minutes in which nothing came, a heartbeat.
async fn beat(app: Arc<App>) {
    let (mut size, mut silent) = (app.size(), 0);
    let mut timer = tokio::time::interval(BEAT);
    timer.tick().await;
    loop {
        timer.tick().await;
        silent = if app.size() == size { silent + 1 } else { 0 };
        let worker = Arc::clone(&app);
        let heart = silent >= HEARTBEAT_BEATS;
        let done = tokio::task::spawn_blocking(move || {
            worker.record_refusals();
            if heart {
                worker.heartbeat();
            }
        });
        let _ = done.await;
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
) -> Result<Vec<std::thread::ScopedJoinHandle<'scope, ()>>> {
    let mut threads = Vec::new();
    for (source, config) in &trail.config.sources {
        let Some(path) = &config.log else { continue };
        let log = PostfixLog::open(trail, source, &trail.paths.data.join(path), true)
            .with_context(|| format!("serve: source {source}"))?;
        let run = move || {
            let input =
                Input { source, workers: 1, stop, shown: Shown::Nothing, batch_lines: BATCH_LINES, derived_ids: true };
            // A log that can't be read ends its source, not the server: the state on disk is where it goes on.
            if let Err(error) = crate::ingest::ingest_log(&trail.intake, &input, log) {
                eprintln!("candor: source {source} stopped: {error:#}: mend the cause and restart");
            }
        };
        threads
            .push(std::thread::Builder::new().name("log".into()).spawn_scoped(scope, run).context("start a thread")?);
    }
    Ok(threads)
}

/// The intake as `web` sees it. Workers are kept from call to call for their buffers.
struct Intaking {
    intake: Intake,
    workers: Mutex<Vec<Worker>>,
}

static LOGGED: AtomicU64 = AtomicU64::new(0);

impl Intaking {
    fn run(&self, worker: &mut Worker, source: &str, lines: &[(u64, &[u8])]) -> Result<Vec<LineAnswer>> {
        if let [_] = lines {
            return self.intake.lines(worker, source, lines);
        }
        let mut answers = Vec::with_capacity(lines.len());
        let mut ahead: VecDeque<Sent> = VecDeque::new();
        for some in lines.chunks(usize::from(BATCH_LINES)) {
            if ahead.len() == AHEAD_MAX
                && let Some(sent) = ahead.pop_front()
            {
                answers.extend(self.intake.land(worker, source, sent)?);
            }
            let prepared = self.intake.prepare(worker, source, some)?;
            ahead.push_back(self.intake.send(prepared)?);
        }
        for sent in ahead {
            answers.extend(self.intake.land(worker, source, sent)?);
        }
        Ok(answers)
    }
}

fn answer(accepted: std::result::Result<Accepted, crate::intake::Refused>) -> Answer {
    match accepted {
        Ok(Accepted::Committed { index, leaf }) => Answer::Committed { index, leaf },
        Ok(Accepted::Repeated { index, .. }) => Answer::Repeated { index },
        Ok(Accepted::Conflict { index }) => Answer::Conflict { index },
        Err(refused) => Answer::Refused {
            code: refused.refusal.code(),
            detail: refused.refusal.to_string(),
            kind: refused.kind.map(|kind| kind.to_string()),
            rule: refused.refusal.rule(),
        },
    }
}

impl Submit for Intaking {
    fn submit(&self, source: &str, lines: &[(u64, &[u8])]) -> std::result::Result<Vec<(u64, Answer)>, Unavailable> {
        if self.intake.recipients(source).is_err() {
            return Err(Unavailable::NoSource);
        }
        let mut worker = self.workers.lock().ok().and_then(|mut kept| kept.pop()).unwrap_or_default();
        let result = self.run(&mut worker, source, lines);
        if let Ok(mut kept) = self.workers.lock() {
            kept.push(worker);
        }
        match result {
            Ok(answers) => Ok(answers.into_iter().map(|(line, accepted)| (line, answer(accepted))).collect()),
            Err(error) => {
                // One line for the operator and then each hundredth: a full disk must not fill the log too.
                if LOGGED.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
                    eprintln!("candor: records can't be taken: {error:#}");
                }
                Err(Unavailable::Now("records can't be taken now, and nothing unanswered was: send this again; the server's log says why".into()))
            }
        }
    }

    fn own(&self, kind: &'static str, facts: Value) -> std::result::Result<u64, String> {
        own(&self.intake, kind, facts)
    }

    fn refused(&self, counts: Vec<RefusalCount>) -> std::result::Result<(), String> {
        let record = |refusal: RefusalCount| {
            let mut fields = json!({"from_source": refusal.source, "code": refusal.code, "count": refusal.count});
            if let Some(kind) = refusal.kind {
                fields["kind_name"] = kind.into();
            }
            if let Some(rule) = refusal.rule {
                fields["rule"] = rule.into();
            }
            OwnRecord { kind: "INPUT_REFUSED", fields, subject: None }
        };
        self.intake.own(counts.into_iter().map(record).collect()).map(drop)
    }
}
