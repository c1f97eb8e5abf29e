//! A Kafka and a Postgres of a test's own, which it may pause, crash and bring back.

use super::brokers::{Brokers, PASSWORD, USER};
use super::ca::Ca;
use super::logs::required;
use super::pause::Paused;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Both, on ports of their own, until this is dropped.
pub struct Services {
    pub brokers: Brokers,
    /// Of Postgres, HOST:PORT.
    pub postgres: String,
    /// What programs need to reach both by TLS.
    pub tls_settings: Vec<(&'static str, String)>,
    dir: tempfile::TempDir,
}

impl Services {
    /// With this many brokers. None where the machine has no services for tests.
    pub fn start(brokers: usize) -> Option<Services> {
        Services::start_both(brokers, None)
    }

    /// The same. The brokers' links take TLS and a login only; Postgres takes TLS too.
    pub fn start_with_tls(brokers: usize) -> Option<Services> {
        Services::start_both(brokers, Some(Ca::new("CA of the services")))
    }

    fn start_both(brokers: usize, ca: Option<Ca>) -> Option<Services> {
        let (kafka_sh, _) = (required("TIDEMARK_TEST_KAFKA_SH")?, required("TIDEMARK_TEST_POSTGRES")?);
        let dir = tempfile::Builder::new().prefix("tidemark-services.").tempdir().expect("a directory");
        let said = script("start", dir.path());
        let pair = ca.as_ref().map(|ca| ca.issue(&["127.0.0.1"], 30));
        let (root, store) = (dir.path().join("ca.pem"), dir.path().join("broker.pem"));
        if let (Some(ca), Some((certificate, key))) = (&ca, &pair) {
            std::fs::write(&root, ca.pem()).expect("a file");
            std::fs::write(&store, format!("{key}{certificate}")).expect("a file");
        }
        let brokers = Brokers::start(&kafka_sh, dir.path(), brokers, pair.as_ref().map(|_| store.as_path()));
        let line = said.lines().find_map(|line| line.strip_prefix("export TIDEMARK_TEST_POSTGRES="));
        let url = line.unwrap_or_else(|| panic!("services.sh says where Postgres is:\n{said}"));
        let (_, server) = url.rsplit_once('@').expect("postgres://user@host:port/");
        let postgres = server.split_once('/').expect("postgres://user@host:port/").0.to_owned();
        let mut services = Services { brokers, postgres, tls_settings: Vec::new(), dir };
        if let Some((certificate, key)) = pair {
            services.give_tls(&certificate, &key, &root);
        }
        Some(services)
    }

    fn give_tls(&mut self, certificate: &str, key: &str, root: &Path) {
        give(&self.data(), "server.crt", certificate);
        give(&self.data(), "server.key", key);
        let admin =
            || postgres::Client::connect(&self.database(&self.postgres, "postgres"), postgres::NoTls).expect("it answers");
        admin().batch_execute("alter system set ssl = on").expect("it may");
        reload(admin);
        let root = root.display().to_string();
        self.tls_settings = [
            ("KAFKA__SECURITY_PROTOCOL", "sasl_ssl"),
            ("KAFKA__SASL_MECHANISMS", "PLAIN"),
            ("KAFKA__SASL_USERNAME", USER),
            ("KAFKA__SASL_PASSWORD", PASSWORD),
            ("KAFKA__SSL_CA_LOCATION", &root),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", &root),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec();
    }

    /// Of Postgres.
    fn data(&self) -> PathBuf {
        let cluster = std::fs::read_to_string(self.dir.path().join("postgres.path")).expect("services.sh says where it is");
        PathBuf::from(cluster.trim_end()).join("data")
    }

    /// Ends Postgres as a crash would.
    pub fn crash_postgres(&self) {
        script("crash", self.dir.path());
    }

    /// Brings it back, with its data and on its port.
    pub fn revive_postgres(&self) {
        script("start", self.dir.path());
    }

    /// All its processes stand still until this is dropped.
    pub fn pause_postgres(&self) -> Paused {
        Paused::by_file(&self.data().join("postmaster.pid"))
    }

    /// This broker stands still until this is dropped.
    pub fn pause_broker(&self, node: usize) -> Paused {
        Paused::by_file(&self.brokers.pid_file(node))
    }

    /// The URL of a database, at the server itself or at a proxy's HOST:PORT.
    pub fn database(&self, at: &str, name: &str) -> String {
        format!("postgres://postgres@{at}/{name}")
    }

    pub fn create_database(&self, name: &str) {
        let url = self.database(&self.postgres, "postgres");
        let mut client = postgres::Client::connect(&url, postgres::NoTls).expect("it answers");
        client.batch_execute(&format!("create database {name}")).expect("it may create databases");
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        run("stop", self.dir.path());
    }
}

pub(super) fn script(command: &str, dir: &Path) -> String {
    let output = run(command, dir);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "services.sh {command}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

pub(super) fn run(command: &str, dir: &Path) -> Output {
    run_service(command, dir, "postgres")
}

/// `stop` stops all.
pub(super) fn run_service(command: &str, dir: &Path, service: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services.sh");
    let mut run = Command::new(script);
    run.arg(command).arg(dir);
    if command != "stop" {
        run.arg(service);
    }
    run.stdin(Stdio::null()).output().expect("the script runs")
}

/// A file in a Postgres's directory, of the same owner.
pub(super) fn give(data: &Path, name: &str, text: &str) {
    let path = data.join(name);
    std::fs::write(&path, text).expect("a file");
    let owner = std::fs::metadata(data).expect("its directory");
    std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).expect("we are root or the owner");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("we may");
}

/// Waits until a Postgres has read its files again.
pub(super) fn reload(admin: impl Fn() -> postgres::Client) {
    let loaded = "select pg_conf_load_time()::text";
    let mut first = admin();
    let before: String = first.query_one(loaded, &[]).expect("a time").get(0);
    first.batch_execute("select pg_reload_conf()").expect("it may");
    let until = Instant::now() + Duration::from_secs(20);
    while admin().query_one(loaded, &[]).expect("a time").get::<_, String>(0) == before {
        assert!(Instant::now() < until, "it reads its files");
        std::thread::sleep(Duration::from_millis(20));
    }
}
