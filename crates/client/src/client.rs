//! The client: records go to the spool first, and from there to the server, in order, in batches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use proof::time::UnixMillis;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::error::Error;
use crate::spool::{Numbered, Spool};

/// Records of one request, and their bytes, at most.
const BATCH_RECORDS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The first wait after a failure, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long nothing may come of a request.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Between two looks at an empty spool, where nobody wakes the thread.
const IDLE: Duration = Duration::from_secs(1);

/// How severe an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the words of the records")]
pub enum Severity {
    Debug,
    #[default]
    Info,
    Notice,
    Warning,
    Error,
    Critical,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

/// One event, as a kind of the trail has it (`GET /openapi.json` describes them all).
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Its kind, such as `EMAIL_SENT`.
    pub event_type: String,
    /// What it belongs to.
    pub correlation_id: String,
    /// How severe it is.
    pub severity: Severity,
    /// When it was; now unless given.
    pub timestamp: Option<UnixMillis>,
    /// Fields of the kind beside the common ones.
    pub fields: Map<String, Value>,
}

impl Record {
    /// A mail that was handed to the relay, about a customer.
    pub fn mail_sent(email_id: &str, customer_id: &str, address: &str, subject: &str) -> Record {
        let fields = json!({
            "email_id": email_id, "recipient_details": {"customer_id": customer_id, "email": address},
            "message_content": {"subject": subject}, "compliance_data": {"data_classification": "transactional"},
        });
        let correlation_id = format!("mail-{email_id}").chars().take(128).collect();
        let fields = fields.as_object().cloned().unwrap_or_default();
        Record { event_type: "EMAIL_SENT".into(), correlation_id, fields, ..Record::default() }
    }
}

/// A record that the server refused for good: it is not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its id.
    pub event_id: String,
    /// A stable code.
    pub code: String,
    /// One sentence, with nothing of the record in it.
    pub detail: String,
}

/// Where and how records go.
pub struct Config {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// A key with the scope append.
    pub key: String,
    /// What of the business's systems says it.
    pub source_component: String,
    /// production, test or the like.
    pub environment: String,
    /// For https: whom to trust.
    pub tls: Option<Arc<ClientConfig>>,
    /// Told of what was refused for good; it must not block.
    pub on_refused: Option<Box<dyn Fn(Refused) + Send>>,
}

struct Shared {
    spool: Mutex<Spool>,
    changed: Condvar,
    stop: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Shared {
    fn spool(&self) -> Result<MutexGuard<'_, Spool>, Error> {
        self.spool.lock().map_err(|_| Error::Stopped)
    }
}

/// See the module.
pub struct Client {
    shared: Arc<Shared>,
    component: String,
    environment: String,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts sending what a spool holds.
    ///
    /// # Errors
    /// The address is none; the thread could not be started.
    pub fn start(spool: Spool, config: Config) -> Result<Client, Error> {
        let target = Target::parse(&config)?;
        let shared = Arc::new(Shared {
            spool: Mutex::new(spool),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            trouble: Mutex::new(None),
        });
        let (component, environment) = (config.source_component.clone(), config.environment.clone());
        let sender = Sender { shared: Arc::clone(&shared), target, config };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|_| Error::Stopped)?;
        let thread = std::thread::Builder::new().name("candor-client".into());
        let thread = thread.spawn(move || runtime.block_on(sender.run())).map_err(|_| Error::Stopped)?;
        Ok(Client { shared, component, environment, thread: Some(thread) })
    }

    /// Takes a record; its event id. It is on the disk when this returns.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn record(&self, record: &Record) -> Result<String, Error> {
        self.record_all(std::slice::from_ref(record))?.pop().ok_or(Error::Stopped)
    }

    /// Takes records together: one wait for the disk.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn record_all(&self, records: &[Record]) -> Result<Vec<String>, Error> {
        // Their numbers are those that the spool gives; nobody else gives any meanwhile.
        let mut spool = self.shared.spool()?;
        let first = spool.next_number();
        let ids: Vec<String> =
            (first..).take(records.len()).map(|number| format!("{}:{number}", spool.stream())).collect();
        let lines = records.iter().zip(&ids).map(|(record, id)| self.line(record, id));
        spool.append(&lines.collect::<Result<Vec<_>, _>>()?)?;
        drop(spool);
        self.shared.changed.notify_all();
        Ok(ids)
    }

    fn line(&self, record: &Record, event_id: &str) -> Result<Vec<u8>, Error> {
        let common = json!({
            "timestamp": record.timestamp.unwrap_or_else(now).rfc3339(), "event_type": record.event_type,
            "correlation_id": record.correlation_id, "source_component": self.component,
            "environment": self.environment, "severity": record.severity.name(), "event_id": event_id,
        });
        let mut line = common.as_object().cloned().unwrap_or_default();
        for (name, value) in &record.fields {
            if line.insert(name.clone(), value.clone()).is_some() {
                return Err(Error::Invalid(format!("{name} is a common field: set it on the record itself")));
            }
        }
        Ok(Value::Object(line).to_string().into_bytes())
    }

    /// Records that the server does not have yet.
    ///
    /// # Errors
    /// The client has stopped.
    pub fn pending(&self) -> Result<u64, Error> {
        Ok(self.shared.spool()?.pending())
    }

    /// The last thing that went wrong, in one sentence; `None` when the last request was answered.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().ok().and_then(|trouble| trouble.clone())
    }

    /// Waits until nothing is pending; whether that was in time.
    ///
    /// # Errors
    /// The client has stopped.
    pub fn flush(&self, at_most: Duration) -> Result<bool, Error> {
        let spool = self.shared.spool()?;
        let waited = self.shared.changed.wait_timeout_while(spool, at_most, |spool| spool.pending() > 0);
        Ok(waited.map_err(|_| Error::Stopped)?.0.pending() == 0)
    }

    /// Sends what it can and ends; whether everything was sent. What was not is in the spool.
    ///
    /// # Errors
    /// The client has stopped.
    pub fn close(self, at_most: Duration) -> Result<bool, Error> {
        self.flush(at_most)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the client reads the clock")]
fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}

struct Target {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    fn parse(config: &Config) -> Result<Target, Error> {
        let bad = || Error::Invalid("url must be http://HOST:PORT or https://HOST:PORT".into());
        let uri: Uri = config.url.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let (port, tls) = match (uri.scheme_str(), &config.tls) {
            (Some("http"), _) => (uri.port_u16().unwrap_or(80), None),
            (Some("https"), Some(tls)) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
                (uri.port_u16().unwrap_or(443), Some((TlsConnector::from(Arc::clone(tls)), name)))
            }
            (Some("https"), None) => {
                return Err(Error::Invalid("https needs to be told whom to trust: set tls".into()));
            }
            _ => return Err(bad()),
        };
        Ok(Target { host, port, tls })
    }
}

type Connection = SendRequest<Full<Bytes>>;

/// Why a batch is to be sent again: what went wrong, and how long the server asked to wait.
struct Again {
    trouble: String,
    after: Option<Duration>,
}

fn again(trouble: impl Into<String>) -> Again {
    Again { trouble: trouble.into(), after: None }
}

struct Sender {
    shared: Arc<Shared>,
    target: Target,
    config: Config,
}

impl Sender {
    async fn run(self) {
        let (mut connection, mut wait) = (None, WAIT_MIN);
        while !self.shared.stop.load(Ordering::Acquire) {
            let batch =
                match self.shared.spool().and_then(|mut spool| spool.waiting(BATCH_RECORDS_MAX, BATCH_BYTES_MAX)) {
                    Ok(batch) => batch,
                    Err(error) => {
                        self.say(Some(error.to_string()));
                        self.rest(WAIT_MAX).await;
                        continue;
                    }
                };
            if batch.is_empty() {
                self.idle();
                continue;
            }
            match tokio::time::timeout(ANSWER_WAIT, self.send(&mut connection, &batch)).await {
                Ok(Ok(())) => {
                    wait = WAIT_MIN;
                    self.say(None);
                }
                // The server is away, busy, or died in the middle of an answer: the same records go again.
                failed => {
                    connection = None;
                    let Again { trouble, after } = failed.map_or_else(
                        |_| again("the server did not answer in time"),
                        |done| done.err().unwrap_or_else(|| again("")),
                    );
                    self.say(Some(trouble));
                    self.rest(after.unwrap_or(wait)).await;
                    wait = (2 * wait).min(WAIT_MAX);
                }
            }
        }
    }

    fn say(&self, trouble: Option<String>) {
        if let Ok(mut held) = self.shared.trouble.lock() {
            *held = trouble;
        }
    }

    /// Waits until something is handed over, or a while.
    fn idle(&self) {
        if let Ok(spool) = self.shared.spool() {
            let none = |spool: &mut Spool| spool.pending() == 0 && !self.shared.stop.load(Ordering::Acquire);
            let _ = self.shared.changed.wait_timeout_while(spool, IDLE, none);
        }
    }

    /// Waits, but not beyond a stop.
    async fn rest(&self, how_long: Duration) {
        let mut left = how_long;
        while left > Duration::ZERO && !self.shared.stop.load(Ordering::Acquire) {
            let some = left.min(Duration::from_millis(50));
            tokio::time::sleep(some).await;
            left -= some;
        }
    }

    async fn connect(&self) -> Result<Connection, Again> {
        let away = |_| again("the server can't be reached");
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await.map_err(away)?;
        let _ = stream.set_nodelay(true);
        match &self.target.tls {
            None => open(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                open(TokioIo::new(stream.map_err(|_| again("the server's certificate is not trusted"))?)).await
            }
        }
    }

    async fn send(&self, held: &mut Option<Connection>, batch: &[Numbered]) -> Result<(), Again> {
        let mut connection = match held.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let lines: Vec<&[u8]> = batch.iter().map(|(_, record)| record.as_slice()).collect();
        let request = Request::post("/v1/records")
            .header(header::HOST, format!("{}:{}", self.target.host, self.target.port))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.config.key))
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .body(Full::new(Bytes::from(lines.join(&b'\n'))))
            .map_err(|_| again("the key can't be sent in a header"))?;
        let broken = |_| again("the server went away before it answered");
        connection.ready().await.map_err(broken)?;
        let response = connection.send_request(request).await.map_err(broken)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| again("the server went away while it answered"))?.to_bytes();
        if status != hyper::StatusCode::OK {
            let asked = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            // A key that does not open is mended by people: what waits goes on waiting.
            let busy = matches!(status.as_u16(), 429 | 503);
            let after = asked.map(Duration::from_secs).or((!busy).then_some(WAIT_MAX));
            return Err(Again { trouble: format!("the server answered {status}"), after });
        }
        self.answered(batch, &body)?;
        *held = Some(connection);
        Ok(())
    }

    /// Takes note of the server's answer to a batch.
    fn answered(&self, batch: &[Numbered], body: &[u8]) -> Result<(), Again> {
        let answer: Value = serde_json::from_slice(body).map_err(|_| again("the server's answer can't be read"))?;
        let results = answer["results"].as_array().ok_or_else(|| again("the server's answer can't be read"))?;
        let mut spool = self.shared.spool().map_err(|error| again(error.to_string()))?;
        for result in results {
            let status = result["status"].as_str().unwrap_or_default();
            let line = result["line"].as_u64().and_then(|line| batch.get(line.checked_sub(1)? as usize));
            if let (true, Some((number, _)), Some(told)) =
                (matches!(status, "refused" | "conflict"), line, &self.config.on_refused)
            {
                let text = |name: &str, otherwise: &str| result[name].as_str().unwrap_or(otherwise).to_owned();
                told(Refused {
                    event_id: format!("{}:{number}", spool.stream()),
                    code: text("code", "conflict"),
                    detail: text("detail", "its id was used for another record"),
                });
            }
        }
        let last = batch.last().map_or(0, |(number, _)| *number);
        let kept = spool.acknowledge(last);
        drop(spool);
        self.shared.changed.notify_all();
        kept.map_err(|error| again(error.to_string()))
    }
}

async fn open<T>(io: T) -> Result<Connection, Again>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (connection, driver) = handshake(io).await.map_err(|_| again("the server does not speak HTTP"))?;
    tokio::spawn(async move {
        // Its end is seen by the next request.
        let _ = driver.await;
    });
    Ok(connection)
}
