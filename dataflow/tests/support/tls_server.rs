//! A Postgres with TLS.

use super::ca::Ca;
use super::logs::required;
use super::services::{give, reload, run_service, script};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Which of the server's users may log in, and how. `mutual` needs a certificate of that name.
const HBA: &str = "local all all trust
host all,replication postgres 127.0.0.1/32 trust
host all either all scram-sha-256
hostssl all secure all scram-sha-256
hostssl all mutual all scram-sha-256 clientcert=verify-full
hostnossl all plain all scram-sha-256
";
/// What its certificate is for.
const NAMES: &[&str] = &["localhost", "::1"];
pub const PASSWORD: &str = "p@ss:w/rd?#%";
pub const ENCODED: &str = "p%40ss%3Aw%2Frd%3F%23%25";

/// A server of a test's own.
pub struct TlsServer {
    pub ca: Ca,
    /// HOST:PORT, where the host is the one that the certificate names.
    pub address: String,
    data: PathBuf,
    dir: tempfile::TempDir,
}

impl TlsServer {
    /// None where the machine has no services for tests.
    pub fn start() -> Option<TlsServer> {
        required("TIDEMARK_TEST_POSTGRES")?;
        let dir = tempfile::Builder::new().prefix("tidemark-tls.").tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
        let said = script("start", &dir.path().join("run"));
        let line = said.lines().find_map(|line| line.strip_prefix("export TIDEMARK_TEST_POSTGRES=")).expect("it says where");
        let port = line.rsplit_once(':').expect("a port").1.split('/').next().expect("a port").to_owned();
        let cluster = std::fs::read_to_string(dir.path().join("run/postgres.path")).expect("services.sh says where it is");
        let data = PathBuf::from(cluster.trim_end()).join("data");
        let server = TlsServer { ca: Ca::new("CA of the server"), address: format!("localhost:{port}"), data, dir };
        server.give_certificate(&server.ca.issue(NAMES, 30));
        server.give("root.crt", &server.ca.pem());
        server.give("pg_hba.conf", HBA);
        let mut admin = server.admin("postgres");
        for name in ["either", "secure", "mutual", "plain"] {
            admin.batch_execute(&format!("create role {name} login superuser password '{PASSWORD}'")).expect("it may");
        }
        for setting in ["ssl = on", "ssl_ca_file = 'root.crt'", "log_connections = on"] {
            admin.batch_execute(&format!("alter system set {setting}")).expect("it may");
        }
        server.reload();
        Some(server)
    }

    /// A file of this test.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
        path
    }

    /// What it shows its clients, from the next connection on: a certificate of this CA for that many days.
    pub fn show_certificate_for(&self, days: i64) {
        self.give_certificate(&self.ca.issue(NAMES, days));
        self.reload();
    }

    /// The same with one that another program made.
    pub fn show(&self, pair: &(String, String)) {
        self.give_certificate(pair);
        self.reload();
    }

    /// Starts a copy of it that follows it. HOST:PORT.
    pub fn start_standby(&self) -> String {
        let run = run_service("start", &self.dir.path().join("run"), "standby");
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        let line = said.lines().find_map(|line| line.strip_prefix("export TIDEMARK_TEST_STANDBY="));
        let url = line.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&run.stderr)));
        url.rsplit_once('@').and_then(|(_, place)| place.split_once('/')).expect("a URL").0.replace("127.0.0.1", "localhost")
    }

    /// Ends it as a crash would.
    pub fn crash(&self) {
        script("crash", &self.dir.path().join("run"));
    }

    /// Whether it has TLS at all.
    pub fn switch_tls(&self, to: &str) {
        self.admin("postgres").batch_execute(&format!("alter system set ssl = {to}")).expect("it may");
        self.reload();
    }

    pub fn admin(&self, database: &str) -> postgres::Client {
        TlsServer::admin_at(&self.address, database)
    }

    /// The same at the standby's address, say.
    pub fn admin_at(address: &str, database: &str) -> postgres::Client {
        let address = address.replace("localhost", "127.0.0.1");
        postgres::Client::connect(&format!("postgres://postgres@{address}/{database}?sslmode=disable"), postgres::NoTls)
            .expect("it answers")
    }

    /// What it logged of the connections that were let in to this database.
    pub fn let_in(&self, database: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.data.with_file_name("postgres.log")).expect("its log");
        let marks = ["connection authorized", &format!("database={database} ")];
        log.lines().filter(|line| marks.iter().all(|mark| line.contains(mark))).map(str::to_owned).collect()
    }

    fn give_certificate(&self, (certificate, key): &(String, String)) {
        self.give("server.crt", certificate);
        self.give("server.key", key);
    }

    fn give(&self, name: &str, text: &str) {
        give(&self.data, name, text);
    }

    fn reload(&self) {
        reload(|| self.admin("postgres"));
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        super::services::run("stop", &self.dir.path().join("run"));
    }
}

/// The path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
