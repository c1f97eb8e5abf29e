//! Flags and environment. The doc comments are the text of `--help`.

use crate::proxies::Network;
use clap::{CommandFactory, Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use tidemark_settings::duration::{self, OrOff};
use tidemark_settings::{process, store::StoreArgs, usage};

/// Answers queries about the metrics over HTTP
#[derive(Clone, Debug, Parser)]
#[command(name = "tidemark-api", version)]
pub struct Config {
    /// Address to listen on, as host:port; 0.0.0.0:8000 is reachable from elsewhere
    #[arg(long, env = "API_ADDR", value_name = "HOST:PORT", default_value = "127.0.0.1:8000", value_parser = host_and_port)]
    pub api_addr: String,
    /// File of a certificate, with those that link it to its CA: then the service speaks HTTPS only. It is read anew when it changes
    #[arg(long, env = "API_TLS_CERT", value_name = "FILE", hide_env_values = true)]
    pub api_tls_cert: Option<PathBuf>,
    /// File of its key
    #[arg(long, env = "API_TLS_KEY", value_name = "FILE", hide_env_values = true)]
    pub api_tls_key: Option<PathBuf>,
    /// Where the metrics are.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Directory of the embedded store
    #[arg(long, env = "DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Most queries that the store answers at once: bounds its load; further requests wait their turn
    #[arg(long, env = "API_POOL_SIZE", value_name = "N", default_value_t = 8, value_parser = pool_size)]
    pub api_pool_size: usize,
    /// Longest time for a request, its turn included; then it is answered with 503 and the query is ended
    #[arg(long, env = "API_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = request_timeout)]
    pub api_request_timeout: Duration,
    /// Longest time without a sign of life of the pipeline's writer, which gives one every 2s; then /health answers with 503. off: never
    #[arg(long, env = "API_STALE_AFTER", value_name = "DURATION", default_value = "8s", value_parser = stale_after)]
    pub api_stale_after: OrOff,
    /// Most clients of /live at once, and at most half of the connections that the limit of open files allows; further ones are
    /// answered with 503
    #[arg(long, allow_negative_numbers = true, env = "API_LIVE_CLIENTS", value_name = "N", default_value_t = 2_000, value_parser = live_clients)]
    pub api_live_clients: usize,
    /// File that holds a token: every path but /health then asks for it, as Authorization: Bearer TOKEN
    #[arg(long, env = "API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// Sites whose pages may read the answers, with commas between them, as in https://a.example,https://b.example; or *
    #[arg(long, env = "API_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',', value_parser = origin)]
    pub api_cors_origins: Vec<String>,
    /// Most requests a second from one address, and at once; further ones are answered with 429. 0: no limit
    #[arg(long, env = "API_RATE_LIMIT", value_name = "N", default_value_t = 0, value_parser = rate_limit)]
    pub api_rate_limit: u32,
    /// Proxies whose X-Forwarded-For or Forwarded header is believed, as addresses or networks with commas between them, as in
    /// 10.0.0.1,192.168.0.0/16; without them all clients behind a proxy share one rate limit
    #[arg(long, env = "API_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',')]
    pub api_trusted_proxies: Vec<Network>,
    /// Only ask the service that runs on this machine for /health, by HTTPS: exit status 0 if it answers with 200
    #[arg(long)]
    pub healthcheck: bool,
    /// Form of the log on standard error; RUST_LOG sets its level (info, debug, ...)
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The configuration of this process. Ends the process after `--help` and, with one line and status 2, on a bad setting.
pub fn from_command_line() -> Config {
    Config::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        process::tell(&format!("tidemark-api: {}", one_line(&error)));
        process::exit(2)
    })
}

/// The first paragraph of clap's message as one line, with the environment name of the flag at fault: that may be where the value is from.
fn one_line(error: &clap::Error) -> String {
    let text = usage::told(error);
    let paragraph: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = paragraph.join(" ").replacen("error: ", "", 1);
    let command = Config::command();
    let named = command.get_arguments().find(|argument| {
        argument.get_long().is_some_and(|long| line.contains(&format!("'--{long} ")) || line.contains(&format!("'--{long}'")))
    });
    match named.and_then(|argument| argument.get_env()) {
        Some(name) => format!("{line} (in the environment: {})", name.to_string_lossy()),
        None => line,
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("allowed: host:port, as in 127.0.0.1:8000".to_owned()),
    }
}

fn pool_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 1..=1_000) => Ok(size),
        _ => Err("allowed: an integer from 1 to 1000".to_owned()),
    }
}

fn live_clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(clients @ 0..=100_000) => Ok(clients),
        _ => Err("allowed: an integer from 0 to 100000".to_owned()),
    }
}

fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    let plain =
        |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@']) && host.bytes().all(|byte| byte.is_ascii_graphic());
    if text == "*" || host.is_some_and(plain) {
        return Ok(text.to_owned());
    }
    Err("allowed: * or a scheme and host without a path, as in https://a.example".to_owned())
}

fn rate_limit(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(limit @ 0..=1_000_000) => Ok(limit),
        _ => Err("allowed: an integer from 0 to 1000000".to_owned()),
    }
}

fn stale_after(text: &str) -> Result<OrOff, String> {
    match duration::parse_or_off(text)? {
        OrOff::After(time) if time < Duration::from_secs(3) => {
            Err("must be at least 3s: a sign of life comes every 2s; or off".to_owned())
        }
        OrOff::After(time) if time > Duration::from_secs(86_400) => Err("must be at most 1 day, or off".to_owned()),
        time => Ok(time),
    }
}

fn request_timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration::parse_positive(text)?;
    match timeout {
        // Postgres keeps its own limit in whole milliseconds, where 0 means none.
        timeout if timeout < Duration::from_millis(1) => Err("must be at least 1ms".to_owned()),
        timeout if timeout > Duration::from_secs(3_600) => Err("must be at most 1 hour".to_owned()),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_setting_is_one_line_that_names_flag_and_variable() {
        for (flag, value, variable) in [
            ("--api-addr", "8000", "API_ADDR"),
            ("--api-pool-size", "0", "API_POOL_SIZE"),
            ("--api-request-timeout", "5", "API_REQUEST_TIMEOUT"),
            ("--api-live-clients", "-1", "API_LIVE_CLIENTS"),
            ("--api-rate-limit", "many", "API_RATE_LIMIT"),
            ("--api-stale-after", "2s", "API_STALE_AFTER"),
            ("--api-trusted-proxies", "10.0.0.0/33", "API_TRUSTED_PROXIES"),
            ("--api-cors-origins", "a.example", "API_CORS_ORIGINS"),
            ("--log-format", "xml", "LOG_FORMAT"),
        ] {
            let line = one_line(&Config::try_parse_from(["tidemark-api", flag, value]).unwrap_err());
            assert!(line.contains(flag) && line.contains(value) && line.contains(variable), "{line}");
            assert!(!line.contains('\n'));
        }
        let line = one_line(&Config::try_parse_from(["tidemark-api", "--wrong"]).unwrap_err());
        assert!(line.contains("--wrong"), "{line}");
    }
}
