//! The login to Amazon MSK by IAM: a token is the URL of the action `kafka-cluster:Connect`, signed with AWS credentials (Signature
//! Version 4) and written in base64.
//!
//! Credentials come from AWS' usual chain: environment, profile, web identity, container, instance. That may mean questions over the
//! network, so a thread of its own asks them. All clients of the process share the token. No message holds a secret.

mod tokens;

use aws_config::Region;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokens::{Token, Tokens};
use tracing::subscriber::NoSubscriber;

/// How long a token is good for: what all of Amazon's signers set.
const LIFE: Duration = Duration::from_secs(900);
/// How long the credentials may take to arrive.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);
const NONE: &str = "no AWS credentials were found";
/// Variables whose values no message may hold.
const SECRETS: &[&str] = &["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];

/// A fresh token for clusters of this region.
pub(super) fn token(region: &str) -> Result<OAuthToken, String> {
    of(region).get().map(as_librdkafka_has_it)
}

/// The same for a new client, which has none yet: one that is alive will do.
pub(super) fn first_token(region: &str) -> Result<OAuthToken, String> {
    of(region).get_or_old().map(as_librdkafka_has_it)
}

fn of(region: &str) -> Arc<Tokens> {
    static REGIONS: Mutex<BTreeMap<String, Arc<Tokens>>> = Mutex::new(BTreeMap::new());
    let mut regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || {
        let region = region.to_owned();
        Arc::new(Tokens::new(Box::new(move || make(&region))))
    };
    Arc::clone(regions.entry(region.to_owned()).or_insert_with(new))
}

fn as_librdkafka_has_it(token: Token) -> OAuthToken {
    let lifetime_ms = token.expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    OAuthToken {
        token: token.value,
        // Only librdkafka sees it: the brokers take the user from the signature.
        principal_name: "tidemark".to_owned(),
        lifetime_ms: i64::try_from(lifetime_ms).unwrap_or(i64::MAX),
    }
}

/// Fetches credentials and signs. For a thread that may wait.
fn make(region: &str) -> Result<Token, String> {
    // The crates of AWS log whole profiles, and at the level `trace` what they sign.
    let _silence = tracing::subscriber::set_default(NoSubscriber::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the AWS credentials cannot be fetched: {error}"))?;
    let fetched = runtime.block_on(async { tokio::time::timeout(CREDENTIALS_TIMEOUT, credentials(region)).await });
    // Does not wait for the name of a host that is still looked up.
    runtime.shutdown_background();
    let credentials = fetched.map_err(|_| format!("no AWS credentials arrived within {CREDENTIALS_TIMEOUT:?}"))??;
    signed(&credentials, region, SystemTime::now())
}

/// Anew each time: a profile may have changed.
async fn credentials(region: &str) -> Result<Credentials, String> {
    // With ring, as all TLS of ours.
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_config::from_env().region(Region::new(region.to_owned())).http_client(http).load().await;
    let provider = config.credentials_provider().ok_or(NONE)?;
    provider.provide_credentials().await.map_err(|error| explain(&error))
}

/// The reasons of a failure in one line, without secrets.
fn explain(error: &CredentialsError) -> String {
    if let CredentialsError::CredentialsNotLoaded(_) = error {
        // Its reasons are a list of all places, most of which nobody uses.
        return NONE.to_owned();
    }
    let mut told = format!("the AWS credentials cannot be fetched: {error}");
    let mut reason = error.source();
    while let Some(error) = reason {
        told = format!("{told}: {error}");
        reason = error.source();
    }
    // What a program of the user's says when it fails (`credential_process`) may be anything.
    let told = told.split_once("Stderr:").map_or(told.as_str(), |(told, _)| told.trim_end());
    let secrets = SECRETS.iter().filter_map(|name| std::env::var(name).ok()).filter(|secret| !secret.is_empty());
    let told = secrets.fold(told.to_owned(), |told, secret| told.replace(&secret, "(secret)"));
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The token that these credentials give at this time.
fn signed(credentials: &Credentials, region: &str, now: SystemTime) -> Result<Token, String> {
    // Signatures are of whole seconds.
    let now = UNIX_EPOCH + Duration::from_secs(now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    let mut url = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let failed = |_| "the AWS credentials cannot sign a token".to_owned();

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFE);
    let identity = credentials.clone().into();
    let with = SigningParams::builder().identity(&identity).region(region).name("kafka-cluster").time(now).settings(settings);
    let with = with.build().expect("all of it is given").into();
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[])).map_err(failed)?;
    let (instructions, _) = sign(request, &with).map_err(failed)?.into_parts();

    for (name, value) in instructions.params() {
        url = url + "&" + name + "=" + &encoded(value);
    }
    // Not signed: for logs at Amazon's side.
    url += concat!("&User-Agent=tidemark%2F", env!("CARGO_PKG_VERSION"));
    let expires = credentials.expiry().map_or(now + LIFE, |expiry| expiry.min(now + LIFE));
    Ok(Token { value: BASE64_URL_SAFE_NO_PAD.encode(url), made: now, expires })
}

/// As Signature Version 4 wants it in a URL.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("a string takes all"),
        }
        encoded
    })
}

#[cfg(test)]
mod tests;
