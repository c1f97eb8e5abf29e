//! Tokens against a signature that is computed here, and clients that ask for them. What reads the process's environment runs in a process
//! of its own, for threads share it.

use super::super::{client_config, context::Deliveries};
use super::*;
use crate::publish::{KafkaOptions, KafkaPublisher, give_token};
use openssl::{hash::MessageDigest, pkey::PKey, sha::sha256, sign::Signer};
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{BaseProducer, Producer};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;
use tidemark_settings::kafka::{Properties, Role};
use tidemark_settings::log::KafkaTopic;

const REGION: &str = "eu-west-1";
const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SESSION: &str = "FwoGZXIvYXdzE//session+token==";
const SESSION_START: &str = "FwoGZXIvYXdzE";
/// 2026-01-02T03:04:05Z, and a bit.
const NOW: Duration = Duration::from_millis(1_767_323_045_678);

fn credentials(session: Option<&str>, expiry: Option<Duration>) -> Credentials {
    let expiry = expiry.map(|since| UNIX_EPOCH + since);
    Credentials::new(KEY_ID, SECRET, session.map(str::to_owned), expiry, "test")
}

fn url(token: &str) -> String {
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap()
}

fn pairs(url: &str) -> Vec<(&str, &str)> {
    let (_, query) = url.split_once('?').unwrap();
    query.split('&').map(|pair| pair.split_once('=').unwrap()).collect()
}

fn get<'a>(url: &'a str, name: &str) -> &'a str {
    pairs(url).into_iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} in {url}")).1
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.update(text.as_bytes()).unwrap();
    signer.sign_to_vec().unwrap()
}

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signature Version 4 of a URL, by its specification.
fn signature(url: &str, secret: &str) -> String {
    let mut signed: Vec<_> =
        pairs(url).into_iter().filter(|(name, _)| !["X-Amz-Signature", "User-Agent"].contains(name)).collect();
    signed.sort_unstable();
    let query = signed.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let host = url.strip_prefix("https://").unwrap().split_once('/').unwrap().0;
    let request = format!("GET\n/\n{query}\nhost:{host}\n\nhost\n{}", in_hex(&sha256(b"")));
    let time = get(url, "X-Amz-Date");
    let scope = get(url, "X-Amz-Credential").split_once("%2F").unwrap().1.replace("%2F", "/");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", in_hex(&sha256(request.as_bytes())));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part));
    in_hex(&hmac(&key, &to_sign))
}

#[test]
fn a_token_is_a_signed_url() {
    for session in [None, Some(SESSION)] {
        let token = signed(&credentials(session, None), REGION, UNIX_EPOCH + NOW).unwrap();
        let url = url(&token.value);
        assert!(url.starts_with("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-"), "{url}");
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "AKIDEXAMPLE%2F20260102%2Feu-west-1%2Fkafka-cluster%2Faws4_request"),
            ("X-Amz-Date", "20260102T030405Z"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-SignedHeaders", "host"),
        ] {
            assert_eq!(get(&url, name), value, "{url}");
        }
        let given = pairs(&url).into_iter().find(|(name, _)| *name == "X-Amz-Security-Token").map(|(_, value)| value);
        assert_eq!(given, session.map(|_| "FwoGZXIvYXdzE%2F%2Fsession%2Btoken%3D%3D"));
        assert!(get(&url, "User-Agent").starts_with("tidemark%2F"), "{url}");
        assert_eq!(get(&url, "X-Amz-Signature"), signature(&url, SECRET), "{url}");
        assert!(!url.contains(SECRET) && !token.value.contains('='), "{url}");
    }
}

#[test]
fn a_token_lives_as_long_as_its_signature_and_its_credentials() {
    let life = |expiry| {
        let token = signed(&credentials(None, expiry), REGION, UNIX_EPOCH + NOW).unwrap();
        (token.made, token.expires)
    };
    let signed = UNIX_EPOCH + Duration::from_secs(NOW.as_secs());
    assert_eq!(life(None), (signed, signed + LIFE));
    assert_eq!(life(Some(NOW + 2 * LIFE)), (signed, signed + LIFE));
    assert_eq!(life(Some(NOW + Duration::from_secs(60))).1, UNIX_EPOCH + NOW + Duration::from_secs(60));
}

/// Runs a test that is ignored otherwise, with these variables of AWS and no others.
fn in_a_process(test: &str, home: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.args([&format!("publish::kafka::msk_iam::tests::{test}"), "--exact", "--ignored", "--nocapture"]);
    // A machine of AWS' would have a role.
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true").envs(variables.iter().copied());
    command.output().unwrap()
}

fn passes(output: &Output) -> String {
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    // Also as a part of a URL.
    assert!(![SECRET, SESSION, SESSION_START].iter().any(|secret| told.contains(secret)), "a secret is told: {told}");
    told
}

const OF_ENVIRONMENT: &[(&str, &str)] =
    &[("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_SESSION_TOKEN", SESSION)];

#[test]
fn credentials_come_from_the_environment_and_from_profiles() {
    let home = tempfile::tempdir().unwrap();
    passes(&in_a_process("of_this_process_s_credentials", home.path(), OF_ENVIRONMENT));
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let program = home.path().join("program");
    std::fs::write(
        &program,
        format!(r#"{{"Version":1,"AccessKeyId":"{KEY_ID}","SecretAccessKey":"{SECRET}","SessionToken":"{SESSION}"}}"#),
    )
    .unwrap();
    let profiles = format!(
        "[profile keys]\naws_access_key_id={KEY_ID}\naws_secret_access_key={SECRET}\naws_session_token={SESSION}\n\
         [profile program]\ncredential_process=cat {}\n",
        program.display()
    );
    std::fs::write(home.path().join(".aws/config"), profiles).unwrap();
    for profile in ["keys", "program"] {
        passes(&in_a_process("of_this_process_s_credentials", home.path(), &[("AWS_PROFILE", profile), ("RUST_LOG", "trace")]));
    }
}

#[test]
#[ignore = "run by credentials_come_from_the_environment_and_from_profiles"]
fn of_this_process_s_credentials() {
    // All log lines: none may hold a secret.
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).init();
    let token = token(REGION).unwrap();
    let url = url(&token.token);
    assert_eq!(get(&url, "X-Amz-Signature"), signature(&url, SECRET), "not signed with these credentials");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let left = u128::try_from(token.lifetime_ms).unwrap() - now;
    assert!((880_000..=900_000).contains(&left), "{left}");
}

#[test]
fn what_is_wrong_with_credentials_is_told_without_them() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    let failing = format!("[default]\ncredential_process=sh -c 'echo {SECRET} >&2; exit 3'\n");
    let garbled = format!("[default]\ncredential_process=echo {SECRET}\n");
    let broken = format!("[default]\naws_access_key_id={KEY_ID}\n{SECRET}\n");
    let half = format!("[default]\naws_secret_access_key={SECRET}\n");
    for (profile, says) in [
        ("", "no AWS credentials were found"),
        (failing.as_str(), "exited with code"),
        (&garbled, "could not parse response"),
        (&broken, "config"),
        (&half, "AWS credentials cannot be fetched"),
    ] {
        std::fs::write(&config, profile).unwrap();
        let variables = [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("SAYS", says)];
        passes(&in_a_process("of_this_process_s_faults", home.path(), &variables));
    }
    // A container's credentials, from where nobody listens; and from where nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, says) in [(silent.local_addr().unwrap(), "arrived within 5s"), (nobody, "cannot be fetched")] {
        let address = format!("http://{address}/");
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address.as_str()), ("SAYS", says)];
        let started = Instant::now();
        passes(&in_a_process("of_this_process_s_faults", home.path(), &variables));
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}

#[test]
#[ignore = "run by what_is_wrong_with_credentials_is_told_without_them"]
fn of_this_process_s_faults() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).init();
    let Err(told) = token(REGION) else { panic!("there are credentials") };
    let says = std::env::var("SAYS").unwrap();
    assert!(told.contains(&says) && told.contains("AWS credentials") && !told.contains('\n'), "{told}");
    std::io::stderr().write_all(told.as_bytes()).unwrap();
}

/// Its settings, as a user gives them.
fn topic(bootstrap: &str) -> KafkaTopic {
    let given = [("KAFKA__SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA__SASL_MECHANISMS", "AWS_MSK_IAM"), ("AWS_REGION", REGION)];
    let environment = given.into_iter().map(|(name, value)| (name.into(), value.into()));
    let properties = Properties::read(Role::Producer, bootstrap, None, environment).unwrap();
    KafkaTopic { bootstrap: bootstrap.to_owned(), topic: "t".to_owned(), properties }
}

fn refusal(bootstrap: &str) -> String {
    let options = KafkaOptions { wait: Duration::from_secs(3), create_with_partitions: None, stop: Arc::default() };
    match KafkaPublisher::open(&topic(bootstrap), &options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("nobody is there"),
    }
}

#[test]
fn librdkafka_asks_for_a_token_and_a_failure_is_told_with_advice() {
    let home = tempfile::tempdir().unwrap();
    passes(&in_a_process("a_client_without_credentials", home.path(), &[]));
    passes(&in_a_process("a_client_with_credentials", home.path(), OF_ENVIRONMENT));
}

#[test]
#[ignore = "run by librdkafka_asks_for_a_token_and_a_failure_is_told_with_advice"]
fn a_client_without_credentials() {
    let told = refusal("127.0.0.1:1");
    let words = ["no AWS credentials were found", "AWS_PROFILE"];
    assert!(words.iter().all(|words| told.contains(words)) && !told.contains('\n'), "{told}");
}

/// A client tries to connect only once it has a token.
#[test]
#[ignore = "run by librdkafka_asks_for_a_token_and_a_failure_is_told_with_advice"]
fn a_client_with_credentials() {
    let nowhere = "127.0.0.1:1";
    let told = refusal(nowhere);
    assert!(told.contains("Connection refused"), "{told}");

    let (topic, config) = (topic(nowhere), client_config(&topic(nowhere)));
    let context = || Deliveries::new(topic.properties.clone());
    // Only by being polled.
    let producer: BaseProducer<Deliveries> = config.create_with_context(context()).unwrap();
    let started = Instant::now();
    while !producer.context().trouble().is_some_and(|told| told.contains("Connection refused")) {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", producer.context().trouble());
        producer.poll(Duration::from_millis(50));
    }
    // Only by being given one.
    let admin = AdminClient::from_config_and_context(&config, context()).unwrap();
    give_token(admin.inner(), &topic.properties).unwrap();
}
