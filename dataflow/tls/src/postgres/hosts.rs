//! The hosts of a connection string, each with settings of its own.

use super::Server;
use std::net::IpAddr;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts};

/// A host of the connection string.
pub struct Place {
    /// Its name or its socket.
    pub host: Option<Host>,
    /// Where it is, if the connection string says so.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// The hosts in the order in which they are tried; none if hosts, addresses and ports do not fit together.
pub fn places(config: &Config) -> Option<Vec<Place>> {
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

impl Server {
    /// The same with one host only, perhaps at an address that was looked up.
    pub fn at(&self, place: &Place, address: Option<IpAddr>) -> Server {
        let mut config = unaddressed(&self.config);
        config.port(place.port);
        let address = address.or(place.address);
        match (&place.host, address) {
            (Some(Host::Tcp(name)), _) => config.host(name),
            (Some(Host::Unix(path)), _) => config.host_path(path),
            // It takes the name that a certificate must have.
            (None, Some(address)) => config.host(address.to_string()),
            (None, None) => &mut config,
        };
        if let Some(address) = address {
            config.hostaddr(address);
        }
        Server { config, ssl: self.ssl.clone() }
    }
}

/// All settings but where the server is.
fn unaddressed(config: &Config) -> Config {
    let mut only = Config::new();
    only.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    only.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    only.target_session_attrs(config.get_target_session_attrs()).channel_binding(config.get_channel_binding());
    if let Some(&time) = config.get_connect_timeout() {
        only.connect_timeout(time);
    }
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
