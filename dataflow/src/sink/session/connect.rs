//! From a connection string to a connection: each address of each host in turn, each with a deadline.

use super::overseer::{AT_STOP, Backend, NoAnswer, Overseer};
use super::{Error, Wire, answer};
use crate::run::Control;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{Config, NoTls};

/// How long one address may take until it takes questions. Looking up a name may take as long.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How long all of them together may take.
pub(super) const IN_ALL: Duration = Duration::from_secs(20);
/// Which session of the server is ours. Its number alone may be another's later.
const OURS: &str = "select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()";

/// What drives one connection.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| NoAnswer::of(format!("no connection can be made on this machine: {error}")).into())
}

/// The first address that will do, and what watches over the exchanges there.
pub(super) async fn connect(
    config: &Config,
    control: Option<&Arc<Control>>,
) -> Result<(tokio_postgres::Client, Wire, Overseer), Error> {
    let started = Instant::now();
    let Some(places) = places(config) else {
        // The client says what is wrong with them, before it does anything.
        let refused = config.connect(NoTls).await.map(drop);
        return Err(
            refused.map_or_else(Error::from, |()| NoAnswer::of("the hosts and ports do not fit together".to_owned()).into())
        );
    };
    let mut last = None;
    'places: for place in places {
        let servers = place.servers(config).await.unwrap_or_else(|error| {
            last = Some(error);
            Vec::new()
        });
        for server in servers {
            let left = IN_ALL.saturating_sub(started.elapsed());
            let ending = control.and_then(|control| control.ending_for());
            if left.is_zero() || ending.is_some_and(|ending| ending.min(started.elapsed()) >= AT_STOP) {
                break 'places;
            }
            let limit = CONNECT.min(left);
            match timeout(limit, attempt(&server)).await {
                Ok(Ok((client, wire, backend))) => {
                    let overseer = Overseer::new(server, client.cancel_token(), backend, control.cloned());
                    return Ok((client, wire, overseer));
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => {
                    last = Some(NoAnswer::of(format!("{} has not answered a connection within {limit:?}", server.name)).into());
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| NoAnswer::of("no address could be tried".to_owned()).into()))
}

/// One address, with a name for people.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) name: String,
}

/// A host of the connection string.
struct Place {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

/// The hosts in the order in which they are tried; none if hosts, addresses and ports do not fit together.
fn places(config: &Config) -> Option<Vec<Place>> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let as_many = |others: usize| others <= 1 || others == count;
    if count == 0 || (!hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len()) || !as_many(ports.len()) {
        return None;
    }
    let place = |at: usize| Place {
        host: hosts.get(at).cloned(),
        address: addresses.get(at).copied(),
        port: ports.get(at).or(ports.first()).copied().unwrap_or(5432),
    };
    let mut places: Vec<Place> = (0..count).map(place).collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        let mut random = [0; 8];
        // Without random bytes the order is the user's.
        if getrandom::fill(&mut random).is_ok() {
            places.rotate_left(usize::from_ne_bytes(random) % count);
        }
    }
    Some(places)
}

impl Place {
    /// Its addresses. A name may stand for several servers: what is asked later must reach the one that was found here.
    async fn servers(&self, config: &Config) -> Result<Vec<Server>, Error> {
        let port = self.port;
        let addresses = match (&self.host, self.address) {
            (_, Some(address)) => vec![Some(address)],
            (Some(Host::Tcp(name)), None) => {
                let looked_up = timeout(CONNECT, lookup_host((name.as_str(), port))).await;
                let found = looked_up
                    .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT:?}"))));
                let found = found.map_err(|error| NoAnswer::of(format!("the name {name} cannot be looked up: {error}")))?;
                found.map(|address| Some(address.ip())).collect()
            }
            (Some(Host::Unix(_)) | None, None) => vec![None],
        };
        Ok(addresses.into_iter().map(|address| self.server(config, address)).collect())
    }

    fn server(&self, config: &Config, address: Option<IpAddr>) -> Server {
        let mut only = unaddressed(config);
        only.port(self.port);
        let host = match &self.host {
            Some(Host::Tcp(name)) => {
                only.host(name);
                Some(name.clone())
            }
            Some(Host::Unix(path)) => {
                only.host_path(path);
                Some(path.display().to_string())
            }
            None => None,
        };
        if let Some(address) = address {
            only.hostaddr(address);
        }
        let shown = match (host, address) {
            (Some(host), Some(address)) if host != address.to_string() => format!("{host} ({address})"),
            (Some(host), _) => host,
            (None, address) => address.map_or_else(String::new, |address| address.to_string()),
        };
        Server { config: only, name: format!("{shown} port {}", self.port) }
    }
}

/// All settings but where the server is.
fn unaddressed(config: &Config) -> Config {
    let mut only = Config::new();
    only.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    only.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    only.target_session_attrs(config.get_target_session_attrs()).channel_binding(config.get_channel_binding());
    only.connect_timeout(CONNECT);
    if let Some(user) = config.get_user() {
        only.user(user);
    }
    if let Some(password) = config.get_password() {
        only.password(password);
    }
    if let Some(database) = config.get_dbname() {
        only.dbname(database);
    }
    if let Some(options) = config.get_options() {
        only.options(options);
    }
    if let Some(name) = config.get_application_name() {
        only.application_name(name);
    }
    if let Some(&time) = config.get_tcp_user_timeout() {
        only.tcp_user_timeout(time);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        only.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        only.keepalives_retries(retries);
    }
    only
}

/// Connects, and learns which session is ours.
async fn attempt(server: &Server) -> Result<(tokio_postgres::Client, Wire, Option<Backend>), Error> {
    let (client, wire) = server.config.connect(NoTls).await?;
    let mut wire = Some(wire);
    let found = answer(&mut wire, client.simple_query(OURS)).await;
    match (wire, found) {
        // A server that does not tell may still keep our rows.
        (Some(wire), found) => Ok((client, wire, found.ok().as_deref().and_then(Backend::of))),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => Err(NoAnswer::of(format!("{} ended the connection at once", server.name)).into()),
    }
}
