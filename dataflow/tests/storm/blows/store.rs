//! The store goes back to what it held some seconds ago, while the pipeline runs: a backup that is restored, a failover to a replica
//! that lacks the last commits.

use super::Blow;
use crate::director::Director;
use postgres::{Client, NoTls};
use std::time::{Duration, Instant};

/// How long the pipeline may keep the tables to itself.
const PATIENCE: Duration = Duration::from_secs(10);

impl Director<'_> {
    pub(super) fn store_goes_back(&mut self, blow: Blow) {
        self.mend(|director| director.recovered() && director.storm.watcher.seen().epoch > 0);
        let tables = match self.in_the_store(copy) {
            Ok(tables) => tables,
            Err(error) => return self.wrong(format!("the tables cannot be copied: {error}")),
        };
        let time = self.millis(500..10_000);
        self.go_on_for(time);
        self.note(&format!("the store goes back by {time:?}"));
        self.storm.watcher.forget();
        let until = Instant::now() + PATIENCE;
        // A commit of the pipeline and this may each wait for what the other one holds.
        let done = loop {
            let done = self.in_the_store(|client| restore(client, &tables));
            if done.is_ok() || Instant::now() >= until {
                break done;
            }
            self.tick();
        };
        let seen = self.in_the_store(|client| Ok(client.query_one("select epoch from progress", &[])?.get(0)));
        self.storm.watcher.forget();
        match done.and(seen) {
            Ok(epoch) => self.hurt_since(blow, epoch),
            Err(error) => self.wrong(format!("the tables cannot be restored: {error}")),
        }
    }

    pub(super) fn in_the_store<T>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, postgres::Error>,
    ) -> Result<T, postgres::Error> {
        work(&mut Client::connect(self.storm.store, NoTls)?)
    }
}

const TABLES: &str = "select relname::text from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition";

/// As of one commit.
fn copy(client: &mut Client) -> Result<Vec<String>, postgres::Error> {
    let tables: Vec<String> = client.query(TABLES, &[])?.iter().map(|row| row.get(0)).collect();
    let each = tables.iter().map(|table| format!("create table earlier.{table} as table public.{table};"));
    let copies: String = each.collect();
    client.batch_execute(&format!(
        "begin isolation level repeatable read; drop schema if exists earlier cascade; create schema earlier; {copies} commit"
    ))?;
    Ok(tables)
}

fn restore(client: &mut Client, tables: &[String]) -> Result<(), postgres::Error> {
    let each = tables.iter().map(|table| format!("insert into public.{table} select * from earlier.{table};"));
    let (all, inserts) = (tables.join(", "), each.collect::<String>());
    client.batch_execute(&format!("begin; set local lock_timeout = '5s'; truncate {all}; {inserts} commit"))
}
