//! How the client gets in: which settings belong together, and what to do when brokers or certificates say no.

use super::rules::AWS_MSK_IAM;
use super::{Properties, files, variable};
use crate::SettingsError;
use std::collections::BTreeMap;

/// Whether this build can speak TLS, SCRAM and OAUTHBEARER to Kafka.
pub const TLS: bool = cfg!(feature = "tls");

/// Whether this build can log in to Amazon MSK by IAM.
pub const MSK_IAM: bool = cfg!(feature = "msk-iam");

/// The version of a program that talks to Kafka, for `--version`.
pub const VERSION: &str = if MSK_IAM {
    concat!(env!("CARGO_PKG_VERSION"), " (with TLS, SCRAM, OAUTHBEARER and AWS_MSK_IAM for Kafka)")
} else if TLS {
    concat!(env!("CARGO_PKG_VERSION"), " (with TLS, SCRAM and OAUTHBEARER for Kafka)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (without TLS, SCRAM and OAUTHBEARER for Kafka)")
};

const WITHOUT_TLS: &str = "this build has no TLS, SCRAM and OAUTHBEARER for Kafka; use the images or the released programs, or build it \
                           after `apt-get install pkg-config libssl-dev libcurl4-openssl-dev` with make, or with cargo's --features tls";

const WITHOUT_MSK_IAM: &str = "this build has no AWS_MSK_IAM; build it after `apt-get install pkg-config libssl-dev libcurl4-openssl-dev` with \
                               cargo's --features msk-iam, or use SCRAM or mutual TLS";

/// Refuses what cannot work together, before librdkafka ignores it or says it in its own words. `places`: where each property was set.
pub(super) fn check(properties: &Properties, places: &BTreeMap<&str, String>) -> Result<(), SettingsError> {
    let refused = |name: &str, allowed: String| {
        let place = places.get(name).cloned().unwrap_or_else(|| variable(name));
        Err(SettingsError::Property { name: name.to_owned(), place, allowed })
    };
    let protocol = properties.get("security.protocol").unwrap_or("plaintext");
    let mechanism = properties.get("sasl.mechanisms");
    let with_login = if mechanism == Some(AWS_MSK_IAM) { "sasl_ssl" } else { "sasl_ssl, or sasl_plaintext" };
    let of_tls = |name: &str| ["ssl.", "enable.ssl."].iter().any(|start| name.starts_with(start));
    let of_sasl = |name: &str| name.starts_with("sasl.") || name.starts_with("enable.sasl.");
    for (name, value) in properties.iter() {
        let needs_tls = match name {
            "security.protocol" => value.ends_with("ssl"),
            "sasl.mechanisms" => value != "PLAIN",
            _ => of_tls(name) || name.starts_with("https.") || name.starts_with("sasl.oauthbearer."),
        };
        if value == AWS_MSK_IAM && name == "sasl.mechanisms" && !MSK_IAM {
            return refused(name, WITHOUT_MSK_IAM.to_owned());
        }
        if needs_tls && !TLS {
            return refused(name, WITHOUT_TLS.to_owned());
        }
        let (unused, instead) = match name {
            _ if of_tls(name) => (!protocol.ends_with("ssl"), "ssl or sasl_ssl"),
            _ if of_sasl(name) => (!protocol.starts_with("sasl"), with_login),
            _ => (false, ""),
        };
        if unused {
            let protocol_variable = variable("security.protocol");
            return refused(
                name,
                format!("it has no effect with security.protocol={protocol}: set {protocol_variable} to {instead}"),
            );
        }
        if mechanism == Some(AWS_MSK_IAM) {
            if name == "security.protocol" && value != "sasl_ssl" {
                return refused(name, "sasl.mechanisms=AWS_MSK_IAM needs sasl_ssl".to_owned());
            }
            if of_sasl(name) && name != "sasl.mechanisms" {
                return refused(name, "it has no effect with sasl.mechanisms=AWS_MSK_IAM: remove it".to_owned());
            }
        }
        if let Some(fault) = files::fault(properties, name, value) {
            return refused(name, fault);
        }
    }
    if !protocol.starts_with("sasl") {
        return Ok(());
    }
    let unset = |name: &&str| properties.get(name).is_none_or(str::is_empty);
    let needed: &[&str] = match (mechanism, properties.get("sasl.oauthbearer.method")) {
        (None, _) => &["sasl.mechanisms"],
        (Some(AWS_MSK_IAM), _) => &[],
        (Some("OAUTHBEARER"), Some("oidc")) => &[],
        (Some("OAUTHBEARER"), _) => match properties.get("enable.sasl.oauthbearer.unsecure.jwt") {
            Some("true") => &[],
            _ => return refused("sasl.mechanisms", format!("it needs {}=oidc", variable("sasl.oauthbearer.method"))),
        },
        (Some(_), _) => &["sasl.username", "sasl.password"],
    };
    match needed.iter().find(|name| unset(name)) {
        Some(name) => refused("security.protocol", format!("{protocol} needs {} too", variable(name))),
        None => Ok(()),
    }
}

/// What to do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// What to do, in one sentence.
    pub advice: &'static str,
    /// Waiting does not help: what the two sides are set to does not fit.
    pub lasting: bool,
}

/// The setting at fault, if librdkafka makes no client and tells why. None: the system has nothing left for one.
pub(super) fn no_client(properties: &Properties, said: &str) -> Option<SettingsError> {
    if said.contains("thread") {
        return None;
    }
    let is_set = |word: &str| properties.values.get_key_value(word.trim_matches(|char: char| !char.is_ascii_alphanumeric()));
    let of_key = || if said.contains("rivate key") { properties.values.get_key_value("ssl.key.location") } else { None };
    let said = properties.redact(said);
    let blamed = said.split_whitespace().find_map(is_set).or_else(of_key);
    let of_password = blamed.is_some_and(|(name, value)| files::has_encrypted_key(name, value)) && !said.contains("mismatch");
    let advice = match remedy(&said) {
        _ if of_password => "; its key is encrypted: check KAFKA__SSL_KEY_PASSWORD".to_owned(),
        Some(remedy) => format!("; {}", remedy.advice),
        None => String::new(),
    };
    let Some((&name, value)) = blamed else { return Some(SettingsError::Conflict(format!("Kafka client: {said}{advice}"))) };
    let file = files::shown(name, value).map_or(String::new(), |path| format!("{path}: "));
    let place = properties.places.get(name).cloned().unwrap_or_else(|| variable(name));
    Some(SettingsError::Property { name: name.to_owned(), place, allowed: format!("{file}{said}{advice}") })
}

/// What to do about a refusal, if a text of librdkafka's tells one. By its words: not all that librdkafka says comes with a code.
pub fn remedy(told: &str) -> Option<Remedy> {
    const LOGIN: &str = "check KAFKA__SASL_MECHANISMS, KAFKA__SASL_USERNAME and KAFKA__SASL_PASSWORD";
    const CERTIFICATE: &str = "set KAFKA__SSL_CERTIFICATE_LOCATION and KAFKA__SSL_KEY_LOCATION to a certificate that the brokers trust and \
                               that has not expired, and to its key";
    const NO_TLS: &str =
        "set KAFKA_BOOTSTRAP to a port that speaks TLS, or KAFKA__SECURITY_PROTOCOL to plaintext or sasl_plaintext";
    const PEM: &str = "its file must be in the form PEM";
    // The first counts whose words are all in it.
    const REMEDIES: &[(&[&str], bool, &str)] = &[
        (&["topic authorization failed"], false, "grant its user Read and Describe on the topic"),
        (
            &["group authorization failed"],
            false,
            "grant its user Read on the group, or set KAFKA__GROUP_ID to one that it may use",
        ),
        (&["cluster authorization failed"], false, "grant its user the operation on the cluster"),
        // Certificates of brokers.
        (&["is not accepted", "has expired"], true, "renew the brokers' certificate"),
        (&["is not accepted", "not yet valid"], true, "compare this machine's clock with the broker's"),
        (
            &["is not accepted", "mismatch"],
            true,
            "set KAFKA_BOOTSTRAP, and the brokers' advertised.listeners, to a name that is in their certificate",
        ),
        (
            &["is not accepted"],
            true,
            "set KAFKA__SSL_CA_LOCATION to the certificate (PEM) of the authority that signed the brokers' certificate",
        ),
        (
            &["certificate verify failed"],
            true,
            "the brokers' certificate has expired, is for another name, or is of an authority that is not in KAFKA__SSL_CA_LOCATION",
        ),
        // Certificates of ours.
        (&["ssl alert number", "certificate"], true, CERTIFICATE),
        (&["ssl alert number", "unknown ca"], true, CERTIFICATE),
        (
            &["key values mismatch"],
            true,
            "KAFKA__SSL_KEY_LOCATION is not the key of KAFKA__SSL_CERTIFICATE_LOCATION: set one of them right",
        ),
        (&["private key check failed"], true, "set KAFKA__SSL_KEY_LOCATION to the key of KAFKA__SSL_CERTIFICATE_LOCATION"),
        (
            &["key too small"],
            true,
            "this system's OpenSSL takes no key that short: set KAFKA__SSL_CERTIFICATE_LOCATION and KAFKA__SSL_KEY_LOCATION to a \
             certificate with a longer key (RSA: 2048 bits)",
        ),
        (&["ssl.keystore", "mac verify"], true, "check KAFKA__SSL_KEYSTORE_PASSWORD"),
        (&["ssl.", "pem"], true, PEM),
        (&["ssl.", "decoder"], true, PEM),
        (&["ssl.", "no certificate or crl found"], true, PEM),
        // Protocols that differ.
        (&["ssl handshake failed", "plaintext broker"], false, NO_TLS),
        (&["speaks no tls"], true, NO_TLS),
        (&["wrong version number"], true, NO_TLS),
        (&["speaks tls"], true, "set KAFKA__SECURITY_PROTOCOL to ssl or sasl_ssl"),
        (&["may ask for a login"], false, "if it does, set KAFKA__SECURITY_PROTOCOL to sasl_ssl or sasl_plaintext"),
        (&["not valid in current sasl state"], true, "it asks for no login: set KAFKA__SECURITY_PROTOCOL to plaintext or ssl"),
        // Logins.
        (&["unsupported sasl mechanism"], true, "set KAFKA__SASL_MECHANISMS to one that the brokers offer"),
        (
            &["oauthbearer token", "aws credentials"],
            false,
            "check the AWS credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID, or the role of the instance, task or pod)",
        ),
        (
            &["oauthbearer token"],
            false,
            "check KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, KAFKA__SASL_OAUTHBEARER_CLIENT_ID and KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET",
        ),
        // Of Amazon MSK by IAM.
        (&["sasl authentication", "access denied"], true, "grant its AWS user or role kafka-cluster:Connect on the cluster"),
        (&["sasl authentication", "too many connects"], false, "wait: the brokers take only some new connections a second"),
        (&["sasl authentication"], true, LOGIN),
        (&["authentication failure"], true, LOGIN),
    ];
    let told = told.to_ascii_lowercase();
    let fits = |words: &[&str]| words.iter().all(|words| told.contains(words));
    REMEDIES.iter().find(|(words, ..)| fits(words)).map(|&(_, lasting, advice)| Remedy { advice, lasting })
}
