//! What stands before every request: bounds of size, rate and time, the token, and the headers that keep browsers careful.

use crate::config::Config;
use crate::error::ApiError;
use crate::proxies::{self, Network};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpRequest, ResponseError};
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use tidemark_settings::{SettingsError, secret};

/// Largest body: no path takes one.
const BODY_BYTES: u64 = 16 << 10;
/// Most addresses whose rate is kept in mind.
const ADDRESSES: usize = 65_536;
/// The path that supervisors ask without a token.
const OPEN_PATH: &str = "/health";

/// Own files and answers only, nothing inline; a page may bring a stricter policy of its own.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                              connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The bounds, as configured.
pub struct Gate {
    token: Option<String>,
    rate: Option<RateLimit>,
    proxies: Vec<Network>,
    longest: Duration,
}

impl Gate {
    /// Reads the token's file, if one is set.
    pub fn new(config: &Config) -> Result<Gate, SettingsError> {
        let token = secret::resolve("API_TOKEN", &None, &config.api_token_file)?;
        if token.as_ref().is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(SettingsError::Invalid {
                name: "API_TOKEN_FILE".to_owned(),
                value: config.api_token_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
                allowed: "allowed: a file that holds one token of visible ASCII characters".to_owned(),
            });
        }
        // A request may wait for an epoch, and then for the store.
        let longest = config.api_request_timeout * 2 + Duration::from_millis(500);
        let rate = NonZeroU32::new(config.api_rate_limit).map(RateLimit::new);
        Ok(Gate { token, rate, proxies: config.api_trusted_proxies.clone(), longest })
    }

    fn refusal(&self, request: &HttpRequest) -> Option<ApiError> {
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > BODY_BYTES) {
            return Some(ApiError::TooLarge);
        }
        if request.path().trim_end_matches('/') == OPEN_PATH {
            return None;
        }
        if self.token.as_ref().is_some_and(|token| !bears(request.headers(), token)) {
            return Some(ApiError::Unauthorized);
        }
        let (rate, address) = (self.rate.as_ref()?, proxies::client(request, &self.proxies)?);
        rate.take(address, Instant::now()).err().map(ApiError::TooMany)
    }
}

/// Lets a request through, or answers it here; and gives every answer the security headers.
pub async fn guard(
    gate: Data<Gate>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut response = match gate.refusal(request.request()) {
        Some(refusal) => request.into_response(refusal.error_response()),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    for (name, value) in SECURITY_HEADERS {
        if !response.headers().contains_key(&name) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    Ok(response)
}

/// Ends a request that takes too long. Stands behind the router, which must be the only holder of a request.
pub async fn deadline(
    gate: Data<Gate>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let plain = request.request().clone();
    match tokio::time::timeout(gate.longest, next.call(request)).await {
        Ok(answered) => Ok(answered?.map_into_boxed_body()),
        Err(_) => Ok(ServiceResponse::from_err(ApiError::Busy("the request took too long"), plain)),
    }
}

/// Whether the request has the token. The time that this takes tells nothing of where they differ.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    given.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case("bearer") && bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()))
    })
}

/// So many requests a second for each address, and as many at once; kept as the instant at which an address has used nothing.
struct RateLimit {
    interval: Duration,
    at_once: Duration,
    free_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl RateLimit {
    fn new(per_second: NonZeroU32) -> RateLimit {
        let interval = Duration::from_secs(1) / per_second.get();
        RateLimit { interval, at_once: Duration::from_secs(1), free_at: Mutex::default() }
    }

    /// Takes one, or says how long there is none.
    fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut all = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES {
            all.retain(|_, free_at| *free_at > now);
        }
        if all.len() >= ADDRESSES {
            all.clear();
        }
        let free_at = all.entry(whole_network(address)).or_insert(now);
        let next = (*free_at).max(now) + self.interval;
        let wait = next.saturating_duration_since(now).saturating_sub(self.at_once);
        if wait.is_zero() {
            *free_at = next;
        }
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }
}

/// One subscriber has a whole /64 of IPv6 addresses.
fn whole_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_for_each_address() {
        let limit = RateLimit::new(NonZeroU32::new(10).unwrap());
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let start = Instant::now();
        assert!((0..10).all(|_| limit.take(one, start).is_ok()));
        assert_eq!(limit.take(one, start), Err(Duration::from_millis(100)));
        assert!(limit.take(other, start).is_ok());
        assert!(limit.take(one, start + Duration::from_millis(100)).is_ok());
        assert!(limit.take(one, start + Duration::from_millis(150)).is_err());
        assert!((0..10).all(|_| limit.take(one, start + Duration::from_secs(9)).is_ok()));
        let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff".parse().unwrap());
        assert!((0..5).all(|_| limit.take(a, start).is_ok() && limit.take(b, start).is_ok()));
        assert!(limit.take(b, start).is_err());
    }

    #[test]
    fn the_addresses_kept_are_bounded() {
        let limit = RateLimit::new(NonZeroU32::new(1).unwrap());
        let start = Instant::now();
        for number in 0..200_000_u32 {
            assert!(limit.take(IpAddr::V4(number.into()), start).is_ok());
        }
        assert!(limit.free_at.lock().unwrap().len() <= ADDRESSES);
    }
}
