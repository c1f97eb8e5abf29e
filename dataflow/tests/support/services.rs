//! A Kafka and a Postgres of a test's own, which it may pause, crash and bring back.

use super::brokers::Brokers;
use super::logs::required;
use super::pause::Paused;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Both, on ports of their own, until this is dropped.
pub struct Services {
    pub brokers: Brokers,
    /// Of Postgres, HOST:PORT.
    pub postgres: String,
    dir: tempfile::TempDir,
}

impl Services {
    /// With this many brokers. None where the machine has no services for tests.
    pub fn start(brokers: usize) -> Option<Services> {
        let (kafka_sh, _) = (required("TIDEMARK_TEST_KAFKA_SH")?, required("TIDEMARK_TEST_POSTGRES")?);
        let dir = tempfile::Builder::new().prefix("tidemark-services.").tempdir().expect("a directory");
        let said = script("start", dir.path());
        let brokers = Brokers::start(&kafka_sh, dir.path(), brokers);
        let line = said.lines().find_map(|line| line.strip_prefix("export TIDEMARK_TEST_POSTGRES="));
        let url = line.unwrap_or_else(|| panic!("services.sh says where Postgres is:\n{said}"));
        let (_, server) = url.rsplit_once('@').expect("postgres://user@host:port/");
        let postgres = server.split_once('/').expect("postgres://user@host:port/").0.to_owned();
        Some(Services { brokers, postgres, dir })
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
        let cluster = std::fs::read_to_string(self.dir.path().join("postgres.path")).expect("services.sh says where it is");
        Paused::by_file(&PathBuf::from(cluster.trim_end()).join("data/postmaster.pid"))
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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services.sh");
    let mut run = Command::new(script);
    run.arg(command).arg(dir);
    if command != "stop" {
        run.arg("postgres");
    }
    run.stdin(Stdio::null()).output().expect("the script runs")
}
