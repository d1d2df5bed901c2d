//! Metrics in the text format of Prometheus. `docs/api.md` has the table; no label holds anything of a record.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// See the module.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    seconds: Family<Route, Histogram>,
    records: Family<Outcome, Counter>,
    size: Gauge<u64, AtomicU64>,
    pub(crate) connections: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("candor");
        let requests = Family::default();
        registry.register("http_requests", "Requests answered, by route and status", requests.clone());
        let seconds = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        registry.register("http_request_seconds", "Seconds from a request's head to its answer", seconds.clone());
        let records = Family::default();
        registry.register("records", "Records answered, by outcome", records.clone());
        let size = Gauge::default();
        registry.register("trail_entries", "Entries in the trail", size.clone());
        let connections = Gauge::default();
        registry.register("http_connections", "Open connections", connections.clone());
        Metrics { registry, requests, seconds, records, size, connections }
    }
}

impl Metrics {
    /// The route that a path belongs to: a fixed name, so that no path becomes a label.
    pub(crate) fn route(&self, path: &str) -> &'static str {
        const ROUTES: [(&str, &str); 17] = [
            ("/v1/counts", "counts"),
            ("/v1/records", "records"),
            ("/v1/search", "search"),
            ("/v1/entries/", "entries"),
            ("/v1/receipts/", "receipts"),
            ("/v1/customers/", "history"),
            ("/v1/correlations/", "history"),
            ("/v1/checkpoint", "checkpoint"),
            ("/v1/keys", "keys"),
            ("/trail/", "trail"),
            ("/health/", "health"),
            ("/metrics", "metrics"),
            ("/sign-", "sign-in"),
            ("/join/", "join"),
            ("/account", "account"),
            ("/users", "users"),
            ("/look", "look"),
        ];
        ROUTES.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or("other", |(_, name)| name)
    }

    pub(crate) fn observe(&self, route: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&Request { route, status }).inc();
        self.seconds.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    pub(crate) fn record(&self, outcome: &'static str) {
        self.records.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn write(&self, entries: u64) -> String {
        self.size.set(entries);
        let mut out = String::new();
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}
