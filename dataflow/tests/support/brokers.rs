//! Kafka brokers of a test's own. Clients reach each one at its own address, and through a network that the test rules.

use super::proxy::Proxy;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

/// Who may log in by PLAIN where links have TLS.
pub const USER: &str = "tide";
pub const PASSWORD: &str = "secret-of-tide";

pub struct Brokers {
    kafka_sh: String,
    each: Vec<Broker>,
}

struct Broker {
    dir: PathBuf,
    properties: Vec<String>,
    /// HOST:PORT.
    address: String,
    /// The way to the listener whose advertised address is the proxy's: who begins here stays here.
    link: Proxy,
}

impl Brokers {
    /// Starts this many. The first is also the controller. With a file of key and certificate the links take TLS and a login only.
    pub fn start(kafka_sh: &str, dir: &Path, count: usize, tls: Option<&Path>) -> Brokers {
        let controller = &free_addresses(1)[0];
        let each = (1..=count).map(|node| Broker::new(&dir.join(format!("kafka.{node}")), node, controller, tls)).collect();
        let brokers = Brokers { kafka_sh: kafka_sh.to_owned(), each };
        for node in 0..count {
            if node > 0 {
                brokers.join_the_first(node);
            }
            brokers.revive(node);
        }
        brokers
    }

    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// HOST:PORT of all, by commas.
    pub fn addresses(&self) -> String {
        let each: Vec<&str> = self.each.iter().map(|broker| broker.address.as_str()).collect();
        each.join(",")
    }

    /// The same, through the links.
    pub fn linked_addresses(&self) -> String {
        let each: Vec<&str> = self.each.iter().map(|broker| broker.link.address()).collect();
        each.join(",")
    }

    pub fn link(&self, node: usize) -> &Proxy {
        &self.each[node].link
    }

    /// A file with its process's id.
    pub fn pid_file(&self, node: usize) -> PathBuf {
        self.each[node].dir.join("broker.pid")
    }

    /// Ends it as a crash would.
    pub fn crash(&self, node: usize) {
        self.script(&["kill9", &self.each[node].dir.display().to_string()]);
    }

    /// Brings it back, with its data and at its address.
    pub fn revive(&self, node: usize) {
        let broker = &self.each[node];
        let (dir, port) = (broker.dir.display().to_string(), port(&broker.address));
        let properties = broker.properties.iter().map(String::as_str);
        let start: Vec<&str> = ["start", &dir, port].into_iter().chain(properties).collect();
        // Another test may have its port for a moment.
        for _ in 0..10 {
            match self.tried(&start) {
                Err(said) if said.contains("is in use") => std::thread::sleep(Duration::from_secs(1)),
                tried => return tried.unwrap_or_else(|said| panic!("{start:?}: {said}")),
            }
        }
        panic!("{}: another program keeps its port", broker.address);
    }

    /// The brokers lead its partitions in turns.
    pub fn create_topic(&self, topic: &str, partitions: usize) {
        let leaders: Vec<String> = (0..partitions).map(|partition| (partition % self.count() + 1).to_string()).collect();
        let leaders = leaders.join(",");
        self.script(&["topics", port(&self.each[0].address), "--create", "--topic", topic, "--replica-assignment", &leaders]);
    }

    /// The records below these offsets expire.
    pub fn expire(&self, topic: &str, below: &BTreeMap<i32, i64>) {
        let partition = |(of, offset): (&i32, &i64)| format!(r#"{{"topic":"{topic}","partition":{of},"offset":{offset}}}"#);
        let list = below.iter().map(partition).collect::<Vec<_>>().join(",");
        let file = self.each[0].dir.join("expire.json");
        std::fs::write(&file, format!(r#"{{"partitions":[{list}],"version":1}}"#)).expect("a file");
        let (class, file) = ("org.apache.kafka.tools.DeleteRecordsCommand", file.display().to_string());
        self.script(&["tool", class, "--bootstrap-server", &self.addresses(), "--offset-json-file", &file]);
    }

    /// Its storage says that it belongs to the first one's cluster.
    fn join_the_first(&self, node: usize) {
        let properties = |node: usize| self.each[node].dir.join("data/meta.properties");
        let first = std::fs::read_to_string(properties(0)).expect("the first broker has its storage");
        let cluster = first.lines().find(|line| line.starts_with("cluster.id=")).expect("a cluster's id");
        std::fs::create_dir_all(self.each[node].dir.join("data")).expect("a directory");
        let text = format!("version=1\n{cluster}\nnode.id={}\n", node + 1);
        std::fs::write(properties(node), text).expect("a file");
    }

    fn script(&self, args: &[&str]) {
        self.tried(args).unwrap_or_else(|said| panic!("{args:?}: {said}"));
    }

    fn tried(&self, args: &[&str]) -> Result<(), String> {
        let output = Command::new(&self.kafka_sh).args(args).output().expect("the broker's script runs");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        // The controller last, for the others wait for it when they stop.
        for broker in self.each.iter().rev() {
            let stopped = Command::new(&self.kafka_sh).arg("kill9").arg(&broker.dir).status();
            if !std::thread::panicking() {
                assert!(stopped.expect("the broker's script runs").success());
            }
        }
    }
}

impl Broker {
    fn new(dir: &Path, node: usize, controller: &str, tls: Option<&Path>) -> Broker {
        let addresses = free_addresses(2);
        let link = Proxy::to(&addresses[1]);
        let (roles, listener) = match node {
            1 => ("broker,controller", format!(",CONTROLLER://{controller}")),
            _ => ("broker", String::new()),
        };
        let protocol = if tls.is_some() { "SASL_SSL" } else { "PLAINTEXT" };
        let mut properties = vec![
            format!("process.roles={roles}"),
            format!("node.id={node}"),
            format!("controller.quorum.voters=1@{controller}"),
            format!("listeners=LINK://{},CLIENT://{}{listener}", addresses[1], addresses[0]),
            // The last is the one that the script takes for the broker's address.
            format!("advertised.listeners=LINK://{},CLIENT://{}", link.address(), addresses[0]),
            format!("listener.security.protocol.map=CLIENT:PLAINTEXT,LINK:{protocol},CONTROLLER:PLAINTEXT"),
        ];
        if let Some(store) = tls {
            let login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
            properties.extend([
                "sasl.enabled.mechanisms=PLAIN".to_owned(),
                "listener.name.link.ssl.keystore.type=PEM".to_owned(),
                format!("listener.name.link.ssl.keystore.location={}", store.display()),
                format!("listener.name.link.plain.sasl.jaas.config={login} user_{USER}=\"{PASSWORD}\";"),
            ]);
        }
        Broker { dir: dir.to_owned(), properties, address: addresses[0].clone(), link }
    }
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').expect("HOST:PORT").1
}

/// Below the ports that the system gives to outgoing connections, which would take one at any moment; each is given once.
pub fn free_addresses(count: usize) -> Vec<String> {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    // Other tests that run at the same time begin elsewhere.
    static FIRST: LazyLock<u16> = LazyLock::new(|| (RandomState::new().hash_one(()) % 20_000) as u16);
    let mut held = Vec::new();
    while held.len() < count {
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        held.extend(TcpListener::bind(("127.0.0.1", 10_000 + (*FIRST + next) % 20_000)));
    }
    held.iter().map(|listener| listener.local_addr().expect("it is bound").to_string()).collect()
}
