//! A Kafka and a Postgres of a test's own, which it may crash and bring back.

use super::logs::required;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Kafka,
    Postgres,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Kafka => "kafka",
            Service::Postgres => "postgres",
        }
    }
}

/// Both, on ports of their own, until this is dropped.
pub struct Services {
    dir: tempfile::TempDir,
    kafka_sh: String,
    /// Of the broker, HOST:PORT.
    pub bootstrap: String,
    /// Of the server, HOST:PORT.
    pub postgres: String,
}

impl Services {
    /// None where the machine has no services for tests.
    pub fn start() -> Option<Services> {
        let (kafka_sh, _) = (required("TIDEMARK_TEST_KAFKA_SH")?, required("TIDEMARK_TEST_POSTGRES")?);
        let dir = tempfile::Builder::new().prefix("tidemark-services.").tempdir().expect("a directory");
        let mut services = Services { dir, kafka_sh, bootstrap: String::new(), postgres: String::new() };
        let said = services.script("start", &[]);
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("services.sh says {name}:\n{said}")).to_owned()
        };
        services.bootstrap = value("TIDEMARK_TEST_KAFKA");
        let url = value("TIDEMARK_TEST_POSTGRES");
        services.postgres =
            url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).expect("postgres://user@host:port/").0.to_owned();
        Some(services)
    }

    /// Ends it as a crash would.
    pub fn crash(&self, service: Service) {
        self.script("crash", &[service.name()]);
    }

    /// Brings it back, with its data and on its port.
    pub fn revive(&self, service: Service) {
        self.script("start", &[service.name()]);
    }

    pub fn create_topic(&self, topic: &str, partitions: usize) {
        let port = self.bootstrap.rsplit_once(':').expect("HOST:PORT").1;
        let create = ["topics", port, "--create", "--topic", topic, "--partitions", &partitions.to_string()].map(str::to_owned);
        let output = Command::new(&self.kafka_sh).args(create).output().expect("the broker's script runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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

    fn script(&self, command: &str, which: &[&str]) -> String {
        let output = run(&self.kafka_sh, command, self.dir.path(), which);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "services.sh {command} {which:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        run(&self.kafka_sh, "stop", self.dir.path(), &[]);
    }
}

fn run(kafka_sh: &str, command: &str, dir: &Path, which: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services.sh");
    let mut run = Command::new(script);
    run.arg(command).arg(dir).args(which).env("TIDEMARK_KAFKA_SH", kafka_sh).stdin(Stdio::null());
    run.output().expect("the script runs")
}
