//! What the service tells about itself at `/prometheus`.

use crate::freshness::Freshness;
use crate::queries::Store;
use crate::rows::Epoch;
use actix_web::HttpResponse;
use actix_web::web::Data;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Upper ends of the histogram's buckets, in seconds.
const BUCKETS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByAnswer {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByRoute {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// Counters and gauges of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<ByAnswer, Counter>,
    seconds: Family<ByRoute, Histogram, fn() -> Histogram>,
    connections: Family<ByState, Gauge>,
    live_clients: Gauge,
    epoch: Gauge,
    store_up: Gauge,
}

impl Metrics {
    /// Nothing counted yet; the memory counts for itself.
    pub fn new(freshness: &Freshness) -> Metrics {
        let mut registry = Registry::with_prefix("tidemark_api");
        let requests = Family::default();
        let seconds: Family<_, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let (connections, live_clients, epoch, store_up) =
            (Family::default(), Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("requests", "Answers by route and status", requests.clone());
        registry.register("request_seconds", "Time until an answer began, by route", seconds.clone());
        registry.register("pool_connections", "Connections for queries by state", connections.clone());
        registry.register("cache_hits", "Answers from memory", freshness.memory.hits.clone());
        registry.register("cache_misses", "Answers that the store was asked for", freshness.memory.misses.clone());
        registry.register("live_clients", "Clients of /live", live_clients.clone());
        registry.register("epoch", "Number of the newest commit that is known", epoch.clone());
        registry.register("store_up", "Whether the store answered when it was last asked", store_up.clone());
        Metrics { registry, requests, seconds, connections, live_clients, epoch, store_up }
    }

    /// A request was answered. The route is a pattern, so there are few.
    pub fn answered(&self, route: &str, status: u16, took: Duration) {
        let route = route.to_owned();
        self.requests.get_or_create(&ByAnswer { route: route.clone(), status }).inc();
        self.seconds.get_or_create(&ByRoute { route }).observe(took.as_secs_f64());
    }
}

/// The scrape.
pub async fn scrape(metrics: Data<Metrics>, store: Data<Store>, freshness: Data<Freshness>) -> HttpResponse {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for (state, connections) in store.connections() {
        metrics.connections.get_or_create(&ByState { state }).set(count(connections));
    }
    metrics.live_clients.set(count(freshness.feed.clients()));
    if let Some(Epoch(epoch)) = freshness.feed.now().and_then(|at| at.epoch) {
        metrics.epoch.set(epoch);
    }
    metrics.store_up.set(freshness.feed.is_up().into());
    let mut text = String::new();
    text::encode(&mut text, &metrics.registry).expect("memory takes all text");
    HttpResponse::Ok().content_type("application/openmetrics-text; version=1.0.0; charset=utf-8").body(text)
}
