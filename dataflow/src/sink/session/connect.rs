//! From a connection string to a connection: each address of each host in turn, each with a deadline.

use super::overseer::{AT_STOP, Backend, CONNECT, NoAnswer, Overseer, Server};
use super::{Error, answer};
use crate::run::Control;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemark_tls::postgres::{self, Place, Wire};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::Host;

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
    server: &postgres::Server,
    control: Option<&Arc<Control>>,
) -> Result<(tokio_postgres::Client, Wire, Overseer), Error> {
    let started = Instant::now();
    let places = postgres::places(&server.config).expect("it was looked at when the connection string was read");
    let mut last = None;
    'places: for place in places {
        let servers = servers(&place, server).await.unwrap_or_else(|error| {
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

/// The addresses of a host. A name may stand for several servers: what is asked later must reach the one that was found here.
async fn servers(place: &Place, server: &postgres::Server) -> Result<Vec<Server>, Error> {
    let addresses = match (&place.host, place.address) {
        (_, Some(address)) => vec![Some(address)],
        (Some(Host::Tcp(name)), None) => {
            let looked_up = timeout(CONNECT, lookup_host((name.as_str(), place.port))).await;
            let found = looked_up
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT:?}"))));
            let found = found.map_err(|error| NoAnswer::of(format!("the name {name} cannot be looked up: {error}")))?;
            found.map(|address| Some(address.ip())).collect()
        }
        (Some(Host::Unix(_)) | None, None) => vec![None],
    };
    let host = match &place.host {
        Some(Host::Tcp(name)) => Some(name.clone()),
        Some(Host::Unix(path)) => Some(path.display().to_string()),
        None => None,
    };
    let named = |address: Option<IpAddr>| {
        let shown = match (&host, address) {
            (Some(host), Some(address)) if *host != address.to_string() => format!("{host} ({address})"),
            (Some(host), _) => host.clone(),
            (None, address) => address.map_or_else(String::new, |address| address.to_string()),
        };
        Server { there: server.at(place, address), name: format!("{shown} port {}", place.port) }
    };
    Ok(addresses.into_iter().map(named).collect())
}

/// Connects, and learns which session is ours.
async fn attempt(server: &Server) -> Result<(tokio_postgres::Client, Wire, Option<Backend>), Error> {
    let (client, wire) = server.there.connect_here().await.map_err(|error| server.there.explain(error))?;
    let mut wire = Some(wire);
    let found = answer(&mut wire, client.simple_query(OURS)).await;
    match (wire, found) {
        // A server that does not tell may still keep our rows.
        (Some(wire), found) => Ok((client, wire, found.ok().as_deref().and_then(Backend::of))),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => Err(NoAnswer::of(format!("{} ended the connection at once", server.name)).into()),
    }
}
