//! A Postgres database of a test's own, and a run that begins on a store.

use super::logs::required;
use postgres::{Client, NoTls};
use std::collections::BTreeMap;
use std::time::Instant;
use tidemark_dataflow::sink::postgres::PostgresStore;
use tidemark_dataflow::sink::{Begin, Decision, Store, StoreError, Stored};
use tidemark_model::Grain;

/// What the role needs.
pub const RIGHTS: &str =
    "grant usage on schema public to $; grant select, insert, update, delete on all tables in schema public to $";

/// A database of its own and a role that owns nothing.
pub struct Database {
    server: String,
    /// Of the database, and of the role.
    pub name: String,
}

impl Database {
    pub fn new(test: &str, options: &str) -> Option<Database> {
        let url = required("TIDEMARK_TEST_POSTGRES")?;
        let server = url.rsplit_once('/').expect("postgres://…/database").0.to_owned();
        let database = Database { server, name: format!("tidemark_{test}_{}", std::process::id()) };
        database.admin(&format!("create database {} {options}", database.name));
        database.admin(&format!("create role {} login", database.name));
        Some(database)
    }

    /// At the server, which names no user.
    pub fn address(&self) -> &str {
        self.server.rsplit_once('@').expect("postgres://user@host:port").1
    }

    pub fn admin(&self, command: &str) {
        let client = Client::connect(&format!("{}/postgres", self.server), NoTls);
        client.and_then(|mut client| client.batch_execute(command)).expect(command);
    }

    pub fn client(&self) -> Client {
        Client::connect(&format!("{}/{}", self.server, self.name), NoTls).expect("it answers")
    }

    pub fn sql(&self, commands: &str) {
        self.client().batch_execute(&commands.replace("$$", "\0").replace('$', &self.name).replace('\0', "$$")).expect(commands);
    }

    /// A store that writes as the role.
    pub fn writer(&self) -> PostgresStore {
        PostgresStore::new(&format!("postgres://{0}@{1}/{0}", self.name, self.address()), "under test").expect("a store")
    }

    pub fn owner(&self) -> PostgresStore {
        PostgresStore::new(&format!("{}/{}", self.server, self.name), "under test").expect("a store")
    }

    pub fn number(&self, select: &str) -> i64 {
        self.client().query_one(select, &[]).expect(select).get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.admin(&format!("drop database {} with (force)", self.name));
            self.admin(&format!("drop role {}", self.name));
        }
    }
}

pub fn begin_with(store: &mut dyn Store, grains: &'static [Grain]) -> Result<Stored, StoreError> {
    let begin = Begin {
        pipeline: "p".to_owned(),
        topic: "t".to_owned(),
        fingerprint: "f".to_owned(),
        start_offsets: BTreeMap::from([(0, 0)]),
        new_offsets: BTreeMap::from([(0, 0)]),
        hash_key: [0; 16],
        run: format!("{:?}", Instant::now()),
        again: false,
        grains,
    };
    store.begin(&begin, &mut |stored| {
        Ok(Decision { replay_from: stored.partitions.iter().map(|(&of, &(start, _))| (of, start)).collect(), above_fence: 0 })
    })
}
