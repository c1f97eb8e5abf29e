//! The application that `main` and the tests both start.

use crate::config::Config;
use crate::descriptors;
use crate::feed::Feed;
use crate::freshness::{EPOCH, Freshness, WATERMARK};
use crate::gate::{self, Gate};
use crate::memory::Memory;
use crate::queries::{Pooler, Store, StoreError};
use crate::routes::{self, LiveLimit, StaleAfter};
use crate::scrape::Metrics;
use crate::telemetry;
use actix_cors::Cors;
use actix_web::dev::{Server, ServerHandle};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::{Compress, Condition, NormalizePath, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use std::io;
use std::time::Duration;
use tidemark_settings::SettingsError;
use tidemark_settings::signals::hangup_is_ignored;
use tidemark_tls::https;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Pause between two looks for a store that is not up at the start.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// After a signal, requests that have begun get their own time and this much more; then they are cut.
const GRACE: Duration = Duration::from_secs(1);
/// So much later the process ends, whatever still runs: a stop takes the time of a request and 3 s at most.
const LAST_RESORT: Duration = Duration::from_secs(2);

/// Why the application cannot run. The sources say more.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// A setting that cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingsError),
    /// The connection string leads to something that is not Postgres itself.
    #[error("DATABASE_URL cannot be used")]
    Pooler(#[from] Pooler),
    /// TLS to Postgres does not come about, and waiting would not mend it.
    #[error("DATABASE_URL cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The limit of open files leaves no room for clients.
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// As it was configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("the server failed")]
    Server(#[from] io::Error),
}

/// The service: listening, but not yet answering.
pub struct Application {
    server: Server,
    port: u16,
    unusable: oneshot::Receiver<StartupError>,
}

impl Application {
    /// Listens on the configured address; port 0 takes a free one. The store need not be up. Must be called in the runtime
    /// that then runs the application.
    pub fn build(config: Config) -> Result<Application, StartupError> {
        let place = config.store.resolve(&config.data_dir)?;
        let timeout = config.api_request_timeout;
        let share = descriptors::share(&place, config.api_pool_size)?;
        let tls =
            https::config(("API_TLS_CERT", config.api_tls_cert.as_deref()), ("API_TLS_KEY", config.api_tls_key.as_deref()))?;
        let live_limit = Data::new(LiveLimit(config.api_live_clients.min(share.live_clients)));
        let (gate, stale_after) = (Data::new(Gate::new(&config)?), Data::new(StaleAfter(config.api_stale_after.duration())));
        let store = Data::new(Store::new(&place, share.pool, timeout)?);
        let feed = Data::new(Feed::default());
        let freshness = Freshness { feed: feed.clone(), memory: Data::new(Memory::default()), longest_wait: timeout };
        let (metrics, freshness) = (Data::new(Metrics::new(&freshness)), Data::new(freshness));
        let (shared_store, shared_feed, origins) = (store.clone(), feed.clone(), config.api_cors_origins);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared_store.clone())
                .app_data(shared_feed.clone())
                .app_data(live_limit.clone())
                .app_data(stale_after.clone())
                .app_data(freshness.clone())
                .app_data(metrics.clone())
                .app_data(gate.clone())
                .configure(routes::configure)
                // The replaced system answered to a path with a slash at its end too.
                .wrap(NormalizePath::trim())
                .wrap(Compress::default())
                .wrap(from_fn(gate::guard))
                .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
                .wrap(from_fn(telemetry::log_request))
        });
        let address = config.api_addr;
        let ending = feed.clone();
        let server = server.shutdown_signal(async move {
            stop_signal(timeout + GRACE + LAST_RESORT).await;
            // Answers without an end must not hold up the stop.
            ending.stop();
        });
        // A request that has begun is answered before a stop: none takes longer than its timeout.
        let server = server.shutdown_timeout((timeout + GRACE).as_secs());
        let server = server.workers(share.workers).max_connections(share.connections_of_a_worker);
        // Each may be in its TLS handshake: a client that is silent there costs no more than any other.
        let server = server.max_connection_rate(share.connections_of_a_worker);
        let server = server.keep_alive(share.patience()).client_request_timeout(share.patience());
        // A client that connects and begins no TLS has as long as one that asks nothing.
        let server = server.tls_handshake_timeout(share.patience());
        let bound = match tls {
            None => server.bind(&address),
            Some(tls) => server.bind_rustls_0_23(&address, tls),
        };
        let server = bound.map_err(|source| StartupError::Listen { address, source })?;
        let addresses = server.addrs();
        tracing::info!(?addresses, store = %place, connections = share.connections(), "listening");
        let (refuse, unusable) = oneshot::channel();
        tokio::spawn(announce(store.clone(), refuse));
        tokio::spawn(async move { feed.run(&store).await });
        Ok(Application { port: addresses.first().map_or(0, |address| address.port()), server: server.run(), unusable })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it from elsewhere.
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// Answers until SIGINT, SIGTERM or SIGHUP, then finishes the requests that have begun.
    pub async fn run_until_stopped(self) -> Result<(), StartupError> {
        tokio::select! {
            ended = self.server => Ok(ended?),
            Ok(why) = self.unusable => Err(why),
        }
    }
}

/// SIGINT, SIGTERM, or SIGHUP if it is not ignored. From then on the process ends at a second one, and after `longest` at the latest: neither waits for any
/// task or thread.
async fn stop_signal(longest: Duration) {
    let listen = |kind| signal(kind).expect("these can be listened for");
    let hangup = (!hangup_is_ignored()).then(SignalKind::hangup);
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup);
    let mut signals: Vec<_> = kinds.map(listen).collect();
    any(&mut signals).await;
    tracing::info!("stopping: requests that have begun are answered");
    std::thread::spawn(move || {
        std::thread::sleep(longest);
        tracing::warn!("stopped: some requests did not end in time");
        tidemark_settings::process::exit(0)
    });
    tokio::spawn(async move {
        any(&mut signals).await;
        tracing::warn!("stopped by a second signal");
        tidemark_settings::process::exit(0)
    });
}

async fn any(signals: &mut [Signal]) {
    let received = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures_util::future::select_all(received).await;
}

/// Which other sites' pages may read the answers.
fn cors(origins: &[String]) -> Cors {
    let told = [EPOCH, WATERMARK, telemetry::REQUEST_ID, header::ETAG, header::RETRY_AFTER];
    let asked = [header::AUTHORIZATION, header::IF_NONE_MATCH, telemetry::REQUEST_ID, HeaderName::from_static("last-event-id")];
    let cors = Cors::default().allowed_methods([Method::GET, Method::HEAD]).allowed_headers(asked).expose_headers(told);
    let cors = cors.block_on_origin_mismatch(false).max_age(3_600);
    if origins.iter().any(|origin| origin == "*") {
        return cors.allow_any_origin().send_wildcard();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// Says once that the store is not up yet, and once that it is; or refuses what only looks like one.
async fn announce(store: Data<Store>, refuse: oneshot::Sender<StartupError>) {
    let mut waiting = false;
    while let Err(error) = store.look().await {
        let why = match error {
            StoreError::Pooler(pooler) => Ok(StartupError::Pooler(pooler)),
            // Later it is an outage: who renews the certificate is waited for.
            StoreError::Tls(error) if !waiting => Ok(StartupError::Tls(error)),
            error => Err(error),
        };
        let error = match why {
            Err(error) => error,
            Ok(why) => {
                // Nobody waits for it any more: the service stops anyway.
                drop(refuse.send(why));
                return;
            }
        };
        let no_tables = matches!(error, StoreError::NoTables);
        if !waiting {
            error.log();
            tracing::warn!("waiting for the store; requests are answered with 503 until it is up");
        }
        waiting = true;
        if no_tables {
            store.wait_for_tables().await;
        }
        tokio::time::sleep(STORE_RETRY).await;
    }
    tracing::info!("the store is up");
}
