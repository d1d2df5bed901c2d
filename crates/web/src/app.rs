//! The application: what every handler shares, and which path leads where.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use access::api_key::Keyring;
use access::change::{Proposals, Sort};
use access::passkey::Passkeys;
use access::place::Places;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{delete, get, post};
use proof::time::UnixMillis;
use reads::alerts::PersonStep;
use reads::guard::Guard;
use reads::mirrors::Mirrors;
use reads::proofs::Proofs;
use reads::sources::Expected;
use record::kinds::Catalogue;
use record::things::SHAPES;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::mirrors::AnswerWhen;
use crate::people::{People, Provider, Reach};
use crate::problem::{Problem, RequestId};
use crate::refusals::Refusals;
use crate::submit::Submit;
use crate::{
    alerts, cases, changes, completeness, grants, keys, mirrors, openapi, page, quarantine, records, registers, search,
    trail,
};

/// Bounds of the server; each is documented in `docs/api.md`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body as it comes.
    pub body_bytes_max: usize,
    /// Bytes of a body once it is expanded.
    pub expanded_bytes_max: usize,
    /// Bytes of all bodies held at once.
    pub held_bytes_max: usize,
    /// Lines of a batch.
    pub lines_max: usize,
    /// Requests that write, waiting or under way.
    pub writes_max: usize,
    /// Of these, packed bodies that are expanded at once.
    pub unpacking_max: usize,
    /// Of all that write, those of one key.
    pub writes_of_key_max: usize,
    /// Reads under way.
    pub reads_max: usize,
    /// Connections.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 8 << 20,
            expanded_bytes_max: 32 << 20,
            held_bytes_max: 192 << 20,
            lines_max: 10_000,
            writes_max: 256,
            unpacking_max: 4,
            writes_of_key_max: 128,
            reads_max: 16,
            connections_max: 20_000,
        }
    }
}

/// What the application is made of.
pub struct Parts {
    /// Reads.
    pub guard: Arc<Guard>,
    /// The published proof plane.
    pub proofs: Proofs,
    /// Where records go.
    pub submit: Arc<dyn Submit>,
    /// Kinds, for the description of the API.
    pub catalogue: Arc<Catalogue>,
    /// Keys known at start.
    pub keys: Keyring,
    /// Changes that wait for a second person at start.
    pub changes: Proposals,
    /// What takes a second person.
    pub second_person: Vec<Sort>,
    /// The sources that may be written to, and what is expected of each.
    pub sources: BTreeMap<String, Expected>,
    /// Environment of the deployment, as records name it.
    pub environment: String,
    /// Last part of the trail's name, as in `/trail/<name>/`.
    pub name: String,
    /// The clock.
    pub now: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
    /// Fresh random bytes.
    pub random: Arc<dyn Fn() -> [u8; 38] + Send + Sync>,
    /// People who sign in; none where the server is for programs alone.
    pub people: Option<Arc<People>>,
    /// How customers are reached; none where nothing is sent to them.
    pub reach: Option<Reach>,
    /// Single sign-on; none where it is not configured.
    pub provider: Option<Arc<dyn Provider>>,
    /// Where addresses are.
    pub places: Places,
    /// Proxies whose word of who asks is believed.
    pub proxies: Vec<access::place::Range>,
    /// How the files of settings differ from what holds.
    pub settings: crate::settings::Differ,
    /// Passkeys; none where browsers would make none.
    pub passkeys: Option<Passkeys>,
    /// Who else has the journal.
    pub mirrors: Mirrors,
    /// When a record is answered.
    pub answer: AnswerWhen,
    /// When the trail was last verified, and whether it held.
    pub verified: Arc<dyn Fn() -> Option<(UnixMillis, bool)> + Send + Sync>,
    /// Whether connections are encrypted here.
    pub secure: bool,
    /// Bounds.
    pub limits: Limits,
}

/// See the module.
pub struct App {
    pub(crate) parts: Parts,
    pub(crate) keys: RwLock<Keyring>,
    pub(crate) changes: RwLock<Proposals>,
    pub(crate) metrics: Metrics,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) writes: Arc<Semaphore>,
    pub(crate) unpacking: Arc<Semaphore>,
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) bodies: Arc<Semaphore>,
    /// Writes under way of each key.
    pub(crate) writes_of: Mutex<std::collections::HashMap<String, usize>>,
    /// Keys and the day of their last recorded use.
    pub(crate) used: Mutex<std::collections::HashMap<String, UnixMillis>>,
    pub(crate) published: Mutex<Option<trail::PublishedAt>>,
    /// Told when a mirror says what it has.
    pub(crate) mirrored: tokio::sync::Notify,
    /// Mirrors of which it is recorded that they have another tree.
    pub(crate) alarmed: Mutex<std::collections::BTreeSet<String>>,
    pub(crate) description: String,
    pub(crate) stopping: AtomicBool,
    requests: AtomicU64,
    pub(crate) run: [u8; 8],
}

impl App {
    /// Puts the application together.
    pub fn new(mut parts: Parts) -> Arc<App> {
        let mut run = [0; 8];
        run.copy_from_slice(&(parts.random)()[..8]);
        let description = openapi::describe(
            &parts.catalogue,
            &parts.limits,
            &parts.sources.keys().cloned().collect::<Vec<_>>(),
            &parts.name,
        )
        .to_string();
        Arc::new(App {
            keys: RwLock::new(std::mem::take(&mut parts.keys)),
            changes: RwLock::new(std::mem::take(&mut parts.changes)),
            metrics: Metrics::default(),
            refusals: Mutex::default(),
            writes: Arc::new(Semaphore::new(parts.limits.writes_max)),
            unpacking: Arc::new(Semaphore::new(parts.limits.unpacking_max)),
            reads: Arc::new(Semaphore::new(parts.limits.reads_max)),
            bodies: crate::body::Share::all(parts.limits.held_bytes_max),
            writes_of: Mutex::default(),
            used: Mutex::default(),
            published: Mutex::default(),
            mirrored: tokio::sync::Notify::new(),
            alarmed: Mutex::default(),
            description,
            stopping: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            run,
            parts,
        })
    }

    /// The clock.
    pub(crate) fn now(&self) -> UnixMillis {
        (self.parts.now)()
    }

    /// Records what was refused since the last call; called once a minute and at the end.
    pub fn record_refusals(&self) {
        let (counts, used) = match self.refusals.lock() {
            Ok(mut held) => (held.take(), std::mem::take(&mut held.used)),
            Err(_) => return,
        };
        for (id, at) in used {
            let facts = serde_json::json!({"key_id": id, "timestamp": at.rfc3339()});
            let _ = self.parts.submit.own("API_KEY_USED", facts);
        }
        if !counts.is_empty() && self.parts.submit.refused(counts.clone()).is_err() {
            // Not lost: they are recorded with the next minute's.
            if let Ok(mut held) = self.refusals.lock() {
                held.put_back(counts);
            }
        }
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.parts.proofs.size()
    }

    /// Says that an idle trail lives.
    pub fn heartbeat(&self) {
        let _ = self.parts.submit.own("HEARTBEAT", serde_json::json!({"size": self.size()}));
    }

    /// Says that the system's clock is not synchronised any more.
    pub fn clock_unsynchronised(&self) {
        let _ = self.parts.submit.own("CLOCK_UNSYNCED", serde_json::json!({"severity": "warning"}));
    }

    /// Tells `/health/ready` that no more work is wanted.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

/// Every path. A path is described in `openapi.rs` too; a test holds the two together.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for shape in SHAPES {
        let thing = move |state, id, query, headers| registers::thing(state, id, query, headers, shape);
        router = router.route(&format!("/v1/{}/{{id}}", shape.path), get(thing));
        if shape.is_listed() {
            let things = move |state, query, headers| registers::things(state, query, headers, shape);
            router = router.route(&format!("/v1/{}", shape.path), get(things));
        }
    }
    router
        .route("/v1/records", post(records::post))
        .route("/v1/add", post(records::add))
        .route("/v1/quarantine", get(quarantine::list))
        .route("/v1/quarantine/{entry}/replay", post(quarantine::replay))
        .route("/v1/search", get(search::search))
        .route("/v1/counts", get(search::counts))
        .route("/v1/entries/{index}", get(search::entry))
        .route("/v1/receipts/{index}", get(search::receipt))
        .route("/v1/customers/{id}/history", get(search::customer))
        .route("/v1/correlations/{id}/history", get(search::correlation))
        .route("/v1/sources", get(registers::sources))
        .route("/v1/sources/{name}", get(registers::source))
        .route("/v1/customers/{id}/consents", get(registers::consents))
        .route("/v1/templates/{id}/statistics", get(registers::template_statistics))
        .route(
            "/v1/alerts/{id}/acknowledge",
            post(|state, id, headers, body| alerts::step(state, id, headers, body, PersonStep::Acknowledge)),
        )
        .route(
            "/v1/alerts/{id}/resolve",
            post(|state, id, headers, body| alerts::step(state, id, headers, body, PersonStep::Resolve)),
        )
        .route("/v1/cases/{id}/note", post(cases::note))
        .route("/v1/cases/{id}/close", post(cases::close))
        .route("/v1/completeness", get(completeness::all))
        .route("/v1/completeness/{cycle}", get(completeness::one))
        .route("/v1/changes", get(changes::list))
        .route("/v1/checkpoint", get(trail::checkpoint))
        .route("/v1/journal/segments/{number}", get(trail::segment))
        .route("/v1/journal/mirrored", post(mirrors::told))
        .route("/v1/grants", get(grants::list).post(grants::create))
        .route("/v1/grants/{id}/revoke", post(grants::revoke))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::revoke))
        .route("/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/trail/{name}/{*path}", get(trail::published))
        .route("/health/live", get(page::live))
        .route("/health/ready", get(page::ready))
        .route("/metrics", get(page::metrics))
        .route("/openapi.json", get(page::description))
        .route("/static/candor.css", get(page::style))
        .route("/static/passkey.js", get(crate::people::passkeys::script))
        .route("/", get(page::home))
        .route("/tail", get(page::tail).post(page::open_tail))
        .route("/tail/close", post(page::close_tail))
        .merge(crate::people::routes())
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not take this method")
        })
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

/// What a page may load, and where its forms may go.
pub(crate) const CONTENT_POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What every request gets: an id, headers of safety, a count.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let number = app.requests.fetch_add(1, Ordering::Relaxed);
    let id = RequestId(format!("{}-{number}", proof::encoding::hex(&app.run)));
    let route = app.metrics.route(request.uri().path());
    let start = tokio::time::Instant::now();
    // A browser says that it reads pages; programs take what they are given.
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let reads_pages = accepts.contains("text/html");
    let mut response = id.clone().within(next.run(request)).await;
    if reads_pages {
        response = crate::people::as_page(response).await;
    }
    app.metrics.observe(route, response.status().as_u16(), start.elapsed());
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        headers.insert("x-request-id", id);
    }
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not no-referrer: browsers then say that forms are from nowhere (Origin: null), and those are refused.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Two pages run a script, and say so themselves.
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
