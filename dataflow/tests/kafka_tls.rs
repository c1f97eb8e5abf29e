//! TLS and logins against a real broker: every way to connect that it offers, with each program that talks to Kafka; the message for each
//! wrong setting; and a run that outlives a certificate. `cargo test --workspace --features tidemark-dataflow/tls --test kafka_tls --
//! --nocapture` shows the messages.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use support::brokers::{PASSWORD, USER, free_addresses};
use support::ca::Ca;
use support::logs::required;
use support::process::Process;
use support::proxy::Proxy;

const TOPIC: &str = "events";
const WRONG: &str = "hunter2";
/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

type Settings = Vec<(&'static str, String)>;

#[test]
fn a_broker_with_tls_and_logins() {
    let Some(kafka_sh) = required("TIDEMARK_TEST_KAFKA_SH") else { return };
    let broker = Broker::start(&kafka_sh);
    std::thread::scope(|scope| {
        scope.spawn(|| every_way_in(&broker));
        scope.spawn(|| what_does_not_fit(&broker));
    });
    a_run_outlives_a_certificate(&broker);
}

/// Each of the seven ways with every program: the generator writes, a run counts, `verify` compares, some rejected records are published
/// again, and a rebuild computes all rows anew.
fn every_way_in(broker: &Broker) {
    for (name, settings) in broker.ways() {
        let sent = broker.generator(&["--count", "300", "--rate", "max", "--malformed", "0.2"], &settings);
        assert!(said(&sent).contains("300 delivered, 0 failed"), "{name}, generator: {}", said(&sent));
        for command in [
            &["run", "--until-end"][..],
            &["verify"],
            &["dead-letters", "replay", "--to-offset", "50"],
            &["rebuild", "--yes"],
            &["verify"],
        ] {
            let output = broker.dataflow(command, &[settings.clone(), vec![("DATA_DIR", broker.path(name))]].concat());
            assert!(output.status.success(), "{name}, {command:?}: {}", said(&output));
        }
        eprintln!("{name}: generator, run, verify, replay, rebuild, verify: fine");
    }
}

/// Each is one line that says what, where, and what to do; no password and no key is in any log, however much is logged.
fn what_does_not_fit(broker: &Broker) {
    let tls = || broker.tls();
    let login = |mechanism: &str, password: &str| broker.login("sasl_ssl", mechanism, password);
    let oauth = |endpoint: &str, secret: &str| broker.oauth(endpoint, secret);
    let with = |settings: Settings, more: &[(&'static str, &str)]| {
        let more = more.iter().map(|&(name, value)| (name, value.to_owned()));
        settings
            .into_iter()
            .filter(|(name, _)| more.clone().all(|(other, _)| other != *name))
            .chain(more.clone())
            .collect::<Settings>()
    };
    let file = |name: &str| broker.path(name);
    let cert = |name: &str, key: &str| {
        let (name, key) = (file(name), file(key));
        with(tls(), &[("KAFKA__SSL_CERTIFICATE_LOCATION", &name), ("KAFKA__SSL_KEY_LOCATION", &key)])
    };
    let (wrong_key, no_pem) =
        (format!("KAFKA__SSL_KEY_LOCATION): {}", file("good.key")), format!("in the form PEM: {}", file("text")));
    let (none, key) = (file("none.pem"), std::fs::read_to_string(file("client.key")).expect("it was made"));
    let cases: Vec<(&str, &str, Settings, i32, [&str; 2])> = vec![
        (
            "wrong CA",
            "SSL",
            with(tls(), &[("KAFKA__SSL_CA_LOCATION", &file("other.pem"))]),
            1,
            ["is not accepted", "KAFKA__SSL_CA_LOCATION"],
        ),
        ("no CA", "SSL", vec![("KAFKA__SECURITY_PROTOCOL", "ssl".to_owned())], 1, ["is not accepted", "KAFKA__SSL_CA_LOCATION"]),
        ("expired certificate", "EXPIRED_TLS", tls(), 1, ["has expired", "renew"]),
        ("wrong host name", "BY_ADDRESS", tls(), 1, ["mismatch", "KAFKA_BOOTSTRAP"]),
        (
            "unknown mechanism",
            "LOGIN",
            login("SCRAM-SHA-1", PASSWORD),
            2,
            ["KAFKA__SASL_MECHANISMS", "allowed: PLAIN or SCRAM-SHA-256"],
        ),
        (
            "mechanism not offered",
            "OPEN",
            broker.login("sasl_plaintext", "SCRAM-SHA-256", PASSWORD),
            1,
            ["Unsupported SASL", "KAFKA__SASL_MECHANISMS"],
        ),
        ("wrong password", "LOGIN", login("PLAIN", WRONG), 1, ["Invalid username or password", "KAFKA__SASL_PASSWORD"]),
        ("wrong password, SCRAM", "LOGIN", login("SCRAM-SHA-512", WRONG), 1, ["invalid credentials", "KAFKA__SASL_PASSWORD"]),
        ("wrong client secret", "LOGIN", oauth(&broker.endpoint, WRONG), 1, ["token", "KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET"]),
        ("plain text to TLS", "SSL", vec![], 1, ["speaks TLS", "KAFKA__SECURITY_PROTOCOL"]),
        ("TLS to plain text", "CLIENT", tls(), 1, ["speaks no TLS", "KAFKA_BOOTSTRAP"]),
        ("a login is missing", "OPEN", vec![], 1, ["login", "KAFKA__SECURITY_PROTOCOL"]),
        (
            "a login too many",
            "CLIENT",
            broker.login("sasl_plaintext", "PLAIN", PASSWORD),
            1,
            ["no login", "KAFKA__SECURITY_PROTOCOL"],
        ),
        ("no certificate of ours", "MUTUAL", tls(), 1, ["alert", "KAFKA__SSL_CERTIFICATE_LOCATION"]),
        ("another authority's", "MUTUAL", cert("strange.pem", "strange.key"), 1, ["alert", "KAFKA__SSL_CERTIFICATE_LOCATION"]),
        ("another key", "MUTUAL", cert("client.pem", "good.key"), 2, ["mismatch", &wrong_key]),
        (
            "missing file",
            "SSL",
            with(tls(), &[("KAFKA__SSL_CA_LOCATION", &none)]),
            2,
            ["KAFKA__SSL_CA_LOCATION", "cannot be read"],
        ),
        ("not PEM", "SSL", with(tls(), &[("KAFKA__SSL_CA_LOCATION", &file("text"))]), 2, ["KAFKA__SSL_CA_LOCATION", &no_pem]),
        (
            "two passwords",
            "LOGIN",
            with(login("PLAIN", PASSWORD), &[("KAFKA__SASL_PASSWORD_FILE", &none)]),
            2,
            ["KAFKA__SASL_PASSWORD_FILE", "set one of them"],
        ),
        (
            "no file of a password",
            "LOGIN",
            with(login("PLAIN", ""), &[("KAFKA__SASL_PASSWORD_FILE", &none)]),
            2,
            ["KAFKA__SASL_PASSWORD_FILE", "cannot be read"],
        ),
        (
            "a key as text",
            "MUTUAL",
            with(tls(), &[("KAFKA__SSL_KEY_PEM", &key), ("KAFKA__SSL_CERTIFICATE_PEM", "none")]),
            2,
            ["ssl.certificate.pem", "PEM"],
        ),
    ];
    let (next, secrets) = (AtomicUsize::new(0), [PASSWORD, WRONG, key.lines().nth(1).expect("a key has lines")]);
    std::thread::scope(|scope| {
        let one_after_the_other = || {
            while let Some((name, listener, settings, status, says)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let loud = [("RUST_LOG", "debug"), ("KAFKA__DEBUG", "all"), ("WAIT", "1s"), ("GENERATOR_WAIT", "1s")];
                let data = (("DATA_DIR"), broker.path("nobody"));
                let settings = [broker.at(listener, with(settings.clone(), &loud)), vec![data]].concat();
                for output in
                    [broker.dataflow(&["run", "--until-end"], &settings), broker.generator(&["--count", "1"], &settings)]
                {
                    let said = said(&output);
                    let complaint = |line: &&str| line.contains("ERROR") || line.starts_with("tidemark-generator: ");
                    let complaints: Vec<&str> = said.lines().filter(complaint).collect();
                    assert_eq!((output.status.code(), complaints.len()), (Some(*status), 1), "{name}: {complaints:?} {said}");
                    assert!(says.iter().all(|words| complaints[0].contains(words)), "{name}: {}", complaints[0]);
                    assert!(!secrets.iter().any(|secret| said.contains(secret)), "{name} tells a secret");
                    eprintln!("{name}: {}", complaints[0].split_once("ERROR ").map_or(complaints[0], |(_, told)| told));
                }
            }
        };
        (0..4).for_each(|_| drop(scope.spawn(one_after_the_other)));
    });
}

/// The certificate that clients see expires under a run, and is renewed: the run tells it, goes on trying, and loses nothing.
fn a_run_outlives_a_certificate(broker: &Broker) {
    let settings = [broker.login("sasl_ssl", "SCRAM-SHA-256", PASSWORD), vec![("DATA_DIR", broker.path("outlives"))]].concat();
    let linked = broker.at("LINK", settings.clone());
    let direct = broker.at("LOGIN", settings);
    let own = [("METRICS_ADDR", "off".to_owned()), ("SLICE", "100ms".to_owned())];
    let mut run = Process::start(&[], &[linked, own.to_vec()].concat());
    let store = Path::new(&broker.path("outlives")).join("tidemark.db");
    let read = || {
        let store = rusqlite::Connection::open_with_flags(&store, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
        let sum = "select coalesce(sum(next_offset), 0) from progress_partitions";
        store.and_then(|store| store.query_row(sum, [], |row| row.get::<_, i64>(0))).unwrap_or(0)
    };
    let send = || {
        let sent = broker.generator(&["--count", "300", "--rate", "max"], &direct);
        assert!(said(&sent).contains("300 delivered"), "{}", said(&sent));
    };
    until("it reads what is there", || read() >= 300);
    let before = read();
    send();
    until("it reads what comes", || read() == before + 300);
    broker.link.lead_to(&broker.address("EXPIRED"));
    until("it tells what is wrong", || run.said().contains("certificate verify failed"));
    send();
    assert_eq!((read(), run.ended()), (before + 300, None), "it cannot read, and does not give up");
    broker.link.lead_to(&broker.address("LINK"));
    until("it goes on", || read() == before + 600);
    run.signal(Signal::TERM);
    let ended = run.ends_within(LONG).expect("it ends");
    assert!(ended.success() && run.errors().is_empty(), "{}", run.said());
    let verified = broker.dataflow(&["verify"], &direct);
    assert!(verified.status.success(), "{}", said(&verified));
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A broker with a listener for each way in; all of them but the script's own say that they are at `localhost`.
struct Broker {
    kafka_sh: String,
    dir: tempfile::TempDir,
    addresses: Vec<String>,
    /// The way to the listener LINK, which clients know by this address.
    link: Proxy,
    /// Where tokens are.
    endpoint: String,
}

/// Name, protocol, and whose certificate it shows. The last is the script's own.
const LISTENERS: &[(&str, &str, &str)] = &[
    ("SSL", "SSL", "good"),
    ("MUTUAL", "SSL", "good"),
    ("LOGIN", "SASL_SSL", "good"),
    ("OPEN", "SASL_PLAINTEXT", ""),
    ("EXPIRED_TLS", "SSL", "expired"),
    ("EXPIRED", "SASL_SSL", "expired"),
    ("LINK", "SASL_SSL", "good"),
    ("CLIENT", "PLAINTEXT", ""),
];

impl Broker {
    fn start(kafka_sh: &str) -> Broker {
        let dir = tempfile::Builder::new().prefix("tidemark-tls.").tempdir().expect("a directory");
        make_certificates(dir.path());
        let addresses = free_addresses(LISTENERS.len() + 1);
        let (addresses, controller) = (addresses[1..].to_vec(), &addresses[0]);
        let link = Proxy::to(&addresses[6]);
        let broker = Broker { kafka_sh: kafka_sh.to_owned(), dir, addresses, link, endpoint: token_server() };
        let each = |what: &dyn Fn(&str, &str, &str) -> String| {
            LISTENERS.iter().map(|&(name, protocol, _)| what(name, protocol, &broker.address(name))).collect::<Vec<_>>().join(",")
        };
        let advertised = |name: &str, _: &str, address: &str| match name {
            "CLIENT" => format!("CLIENT://{address}"),
            "LINK" => format!("LINK://{}", by_name(broker.link.address())),
            _ => format!("{name}://{}", by_name(address)),
        };
        let mut properties = vec![
            format!("listeners={},CONTROLLER://{controller}", each(&|name, _, address| format!("{name}://{address}"))),
            format!("advertised.listeners={}", each(&advertised)),
            format!(
                "listener.security.protocol.map={},CONTROLLER:PLAINTEXT",
                each(&|name, protocol, _| format!("{name}:{protocol}"))
            ),
            format!("controller.quorum.voters=1@{controller}"),
            "listener.name.mutual.ssl.client.auth=required".to_owned(),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned(),
            "listener.name.open.sasl.enabled.mechanisms=PLAIN".to_owned(),
        ];
        for &(name, protocol, certificate) in LISTENERS {
            let name = format!("listener.name.{}", name.to_lowercase());
            for store in ["key", "trust"].iter().filter(|_| !certificate.is_empty()) {
                let file = if *store == "key" { format!("{certificate}.store") } else { "ca.pem".to_owned() };
                properties.push(format!("{name}.ssl.{store}store.type=PEM"));
                properties.push(format!("{name}.ssl.{store}store.location={}", broker.path(&file)));
            }
            let module = "org.apache.kafka.common.security";
            for (mechanism, module) in [
                ("plain", format!("{module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\"")),
                ("scram-sha-256", format!("{module}.scram.ScramLoginModule required")),
                ("scram-sha-512", format!("{module}.scram.ScramLoginModule required")),
                (
                    "oauthbearer",
                    format!("{module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"{USER}\""),
                ),
            ] {
                if protocol.starts_with("SASL") {
                    properties.push(format!("{name}.{mechanism}.sasl.jaas.config={module};"));
                }
            }
        }
        let (data, port) = (broker.path("kafka"), port(&broker.address("CLIENT")));
        broker.script(&[&["start".to_owned(), data, port.clone()], &properties[..]].concat());
        broker.script(&["topics", &port, "--create", "--topic", TOPIC, "--partitions", "2"].map(str::to_owned));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let login = format!("{mechanism}=[password={PASSWORD}]");
            let tool = ["tool", "kafka.admin.ConfigCommand", "--bootstrap-server", &broker.address("CLIENT"), "--alter"];
            let user = ["--add-config", &login, "--entity-type", "users", "--entity-name", USER];
            broker.script(&tool.into_iter().chain(user).map(str::to_owned).collect::<Vec<_>>());
        }
        broker
    }

    fn script(&self, args: &[String]) {
        let output = Command::new(&self.kafka_sh).args(args).output().expect("the broker's script runs");
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    }

    /// A file of the test's.
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// HOST:PORT at which this one listens.
    fn address(&self, listener: &str) -> String {
        let at = LISTENERS.iter().position(|(name, ..)| *name == listener).expect("a listener");
        self.addresses[at].clone()
    }

    /// These settings at this listener.
    fn at(&self, listener: &str, settings: Settings) -> Settings {
        let bootstrap = match listener {
            "BY_ADDRESS" => self.address("SSL"),
            "LINK" => by_name(self.link.address()),
            _ => by_name(&self.address(listener)),
        };
        [vec![("KAFKA_BOOTSTRAP", bootstrap), ("KAFKA_TOPIC", TOPIC.to_owned())], settings].concat()
    }

    fn tls(&self) -> Settings {
        vec![("KAFKA__SECURITY_PROTOCOL", "ssl".to_owned()), ("KAFKA__SSL_CA_LOCATION", self.path("ca.pem"))]
    }

    fn login(&self, protocol: &str, mechanism: &str, password: &str) -> Settings {
        let ca = ("KAFKA__SSL_CA_LOCATION", if protocol == "sasl_ssl" { self.path("ca.pem") } else { String::new() });
        let login = [
            ("KAFKA__SECURITY_PROTOCOL", protocol),
            ("KAFKA__SASL_MECHANISMS", mechanism),
            ("KAFKA__SASL_USERNAME", USER),
            ("KAFKA__SASL_PASSWORD", password),
        ];
        login.map(|(name, value)| (name, value.to_owned())).into_iter().chain([ca]).collect()
    }

    fn oauth(&self, endpoint: &str, secret: &str) -> Settings {
        let oauth = [
            ("KAFKA__SECURITY_PROTOCOL", "sasl_ssl"),
            ("KAFKA__SASL_MECHANISMS", "OAUTHBEARER"),
            ("KAFKA__SASL_OAUTHBEARER_METHOD", "oidc"),
            ("KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", endpoint),
            ("KAFKA__SASL_OAUTHBEARER_CLIENT_ID", USER),
            ("KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET", secret),
        ];
        let ca = ("KAFKA__SSL_CA_LOCATION", self.path("ca.pem"));
        oauth.map(|(name, value)| (name, value.to_owned())).into_iter().chain([ca]).collect()
    }

    fn ways(&self) -> Vec<(&'static str, Settings)> {
        let certificate = vec![
            ("KAFKA__SSL_CERTIFICATE_LOCATION", self.path("client.pem")),
            ("KAFKA__SSL_KEY_LOCATION", self.path("client.key")),
        ];
        let login = |mechanism| self.at("LOGIN", self.login("sasl_ssl", mechanism, PASSWORD));
        vec![
            ("TLS", self.at("SSL", self.tls())),
            ("mutual TLS", self.at("MUTUAL", [self.tls(), certificate].concat())),
            ("PLAIN over TLS", login("PLAIN")),
            ("SCRAM-SHA-256 over TLS", login("SCRAM-SHA-256")),
            ("SCRAM-SHA-512 over TLS", login("SCRAM-SHA-512")),
            ("OAUTHBEARER over TLS", self.at("LOGIN", self.oauth(&self.endpoint, PASSWORD))),
            ("PLAIN in plain text", self.at("OPEN", self.login("sasl_plaintext", "PLAIN", PASSWORD))),
        ]
    }

    fn dataflow(&self, args: &[&str], settings: &[(&'static str, String)]) -> Output {
        run(Path::new(env!("CARGO_BIN_EXE_tidemark-dataflow")), args, settings, ("METRICS_ADDR", "off"))
    }

    fn generator(&self, args: &[&str], settings: &[(&'static str, String)]) -> Output {
        run(&generator(), args, settings, ("STREAM_IDS", "3"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The directory goes with it.
        let stopped = Command::new(&self.kafka_sh).args(["kill9", &self.path("kafka")]).status();
        assert!(std::thread::panicking() || stopped.expect("the broker's script runs").success());
    }
}

/// `cargo test --workspace` builds it beside the dataflow's program.
fn generator() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_tidemark-dataflow")).with_file_name("tidemark-generator")
}

fn run(program: &Path, args: &[&str], settings: &[(&'static str, String)], own: (&str, &str)) -> Output {
    let mut command = Command::new(program);
    command.env_clear().env("WAIT", "20s").env("NO_COLOR", "1").env(own.0, own.1).envs(settings.iter().cloned());
    command.args(args).stdin(Stdio::null()).output().expect("the program runs")
}

/// Both outputs.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn by_name(address: &str) -> String {
    format!("localhost:{}", port(address))
}

fn port(address: &str) -> String {
    address.rsplit_once(':').expect("HOST:PORT").1.to_owned()
}

/// A CA, a broker's certificate, one that has expired, a client's, and what another CA has signed.
fn make_certificates(dir: &Path) {
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("a file");
    let (ca, other) = (Ca::new("CA of the test"), Ca::new("another CA"));
    for (name, text) in [("ca.pem", &ca.pem()), ("other.pem", &other.pem()), ("text", &"none".to_owned())] {
        write(name, text);
    }
    for (name, days, of) in [("good", 30, &ca), ("expired", -1, &ca), ("client", 30, &ca), ("strange", 30, &other)] {
        let (certificate, key) = of.issue(&["localhost"], days);
        write(&format!("{name}.pem"), &certificate);
        write(&format!("{name}.key"), &key);
        write(&format!("{name}.store"), &format!("{key}{certificate}{}", of.pem()));
    }
}

/// Gives a token to who knows the secret, by client credentials; it lives as long as the test process.
fn token_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}/token", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that goes away is none of ours.
            let _ = give_token(client);
        }
    });
    endpoint
}

fn give_token(client: TcpStream) -> std::io::Result<()> {
    let (mut reader, mut length, mut knows) = (BufReader::new(&client), 0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap_or(0);
        }
        knows |= line == format!("authorization: basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))).to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let knows = knows && String::from_utf8_lossy(&body).contains("grant_type=client_credentials");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let claims = part(format!(r#"{{"sub":"{USER}","iat":{now},"exp":{}}}"#, now + 3_600));
    let (status, json) = match knows {
        true => (
            "200 OK",
            format!(r#"{{"access_token":"{}.{claims}.","token_type":"Bearer"}}"#, part(r#"{"alg":"none"}"#.to_owned())),
        ),
        false => ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        json.len()
    );
    (&client).write_all((head + &json).as_bytes())
}
