//! What a new connection to Postgres is told before it is used, and whether it is a session at all.
//!
//! Settings are made by SET: poolers refuse the startup parameter `options`, so it is sent only if the URL has it.

use super::StoreError;
use super::judge::{judge, statements_are_mixed_up};
use super::session::{self, Client};
use super::transaction::RUN_LOCK;

/// How long a statement may take: longer means that the server hangs.
const STATEMENT: &str = "set statement_timeout = '60s'";
/// How long the server lets a transaction of ours stand idle. A process that was paused, or whose network is gone, in the midst of a
/// commit holds the lock of the progress row: without this its successor could not take over before the process comes back.
const IDLE_IN_TRANSACTION: &str = "set idle_in_transaction_session_timeout = '5s'";
/// A commit is as many bounded statements as it needs, so it has no bound as a whole. Servers before 17 do not know the setting.
const TRANSACTION: &str = "select set_config(name, '0', false) from pg_settings where name = 'transaction_timeout'";
/// How often two connections are compared. Once is enough unless other clients of the same pooler are busy just then.
const COMPARISONS: u32 = 3;

/// For a command.
pub(super) fn of_command(client: &mut Client) -> Result<(), session::Error> {
    client.batch_execute(STATEMENT)
}

/// For a run. `schema` replaces the search path.
pub(super) fn of_run(client: &mut Client, schema: Option<&str>) -> Result<(), session::Error> {
    let search_path = schema.map_or_else(String::new, |schema| format!("set search_path = \"{}\";", schema.replace('"', "\"\"")));
    client.batch_execute(&format!("{STATEMENT}; {IDLE_IN_TRANSACTION}; {search_path} {TRANSACTION}"))
}

/// Takes the run lock, shared, for as long as the connection lives.
pub(super) fn refuse_during_rebuild(client: &mut Client, shown: &str) -> Result<(), StoreError> {
    let locked = client.query_one("select pg_try_advisory_lock_shared($1, hashtext(current_schema()))", &[&RUN_LOCK]);
    // Without any schema there is nothing to lock, and what comes next fails by itself.
    match locked.map_err(|error| judge_session(&error, shown))?.get(0) {
        Some(false) => Err(StoreError::Transient(format!("Postgres {shown}: a rebuild or recover is under way"))),
        _ => Ok(()),
    }
}

/// A pooler that lends a server process for one transaction at a time loses our settings, locks and prepared statements. Two
/// connections that are open together never have the same process, and one connection never changes it, unless such a pooler is in
/// between: it lends first what was given back last.
pub(super) fn refuse_transaction_pooler(
    client: &mut Client,
    shown: &str,
    connect: &mut dyn FnMut() -> Result<Client, session::Error>,
) -> Result<(), StoreError> {
    let judged = |error: session::Error| judge_session(&error, shown);
    let process = "select pg_backend_pid()";
    let first: i32 = client.query_one(process, &[]).map_err(judged)?.get(0);
    for _ in 0..COMPARISONS {
        // A role may have one connection only. Then a pooler is noticed when it loses a prepared statement.
        let Ok(mut other) = connect() else { return Ok(()) };
        let mut transaction = other.transaction().map_err(judged)?;
        let theirs: i32 = transaction.query_one(process, &[]).map_err(judged)?.get(0);
        let ours: i32 = client.query_one(process, &[]).map_err(judged)?.get(0);
        if theirs == ours || ours != first {
            let asked = transaction.query_one("select host(inet_server_addr()) || ':' || inet_server_port()", &[]);
            return Err(pooler(shown, asked.ok().and_then(|row| row.get(0))));
        }
    }
    Ok(())
}

fn judge_session(error: &session::Error, shown: &str) -> StoreError {
    if statements_are_mixed_up(error) { pooler(shown, None) } else { judge(error, shown) }
}

/// `server`: where the server behind it says it is.
fn pooler(shown: &str, server: Option<String>) -> StoreError {
    let instead = match shown.split_once("-pooler.") {
        Some((host, rest)) => format!(" ({host}.{rest})"),
        None if shown.contains(".pooler.supabase.com:6543") => {
            format!(" (db.REF.supabase.co:5432, or {})", shown.replace(":6543", ":5432"))
        }
        None => server.map_or_else(String::new, |server| format!(" ({server})")),
    };
    StoreError::Fatal(format!(
        "Postgres {shown} is behind a pooler in transaction mode, which loses a run's locks and settings: give DATABASE_URL the server's \
         direct address{instead}, or one where the pooler is in session mode"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_pooler_is_told_with_the_address_to_use() {
        for (shown, server, word) in [
            ("ep-a-1-pooler.eu.aws.neon.tech/db", None, "(ep-a-1.eu.aws.neon.tech/db)"),
            ("aws-0-eu.pooler.supabase.com:6543/postgres", None, "aws-0-eu.pooler.supabase.com:5432/postgres)"),
            ("localhost:6432/db", Some("10.0.0.1:5432".to_owned()), "direct address (10.0.0.1:5432), or"),
            ("localhost:6432/db", None, "direct address, or"),
        ] {
            let told = pooler(shown, server).to_string();
            assert!(told.contains(word), "{told}");
        }
    }
}
