//! Which faults of a Postgres server may pass.

use super::StoreError;
use super::session;
use ::postgres::error::SqlState;
use std::error::Error;

/// What an SQLSTATE means for whoever gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It may pass: try again, on a new connection.
    Passes,
    /// It may pass under a run, because the run has worked with the same database before: a backup is being restored, a password is
    /// being changed. At the start it is a mistake in the settings or the grants.
    PassesUnderARun,
    /// The same statements would fail again.
    Stays,
}
use Verdict::{Passes, PassesUnderARun, Stays};

/// By class or code of Appendix A of Postgres's documentation; the first that the code begins with counts, and what is not named stays.
const VERDICTS: [(&str, Verdict); 18] = [
    ("08", Passes),          // the connection
    ("0A", PassesUnderARun), // a prepared statement whose tables were made anew
    ("25", Passes),          // read-only as before a promotion, idle or open for too long: gone with its session
    ("26", Passes),          // a prepared statement is gone: DISCARD, or a pooler
    ("28", PassesUnderARun), // a password or pg_hba.conf is being changed
    ("3D", PassesUnderARun), // the database is being made anew
    ("3F", PassesUnderARun), // the schema is being made anew
    ("40", Passes),          // serialization, deadlock
    ("42P05", Passes),       // a prepared statement is there already: a pooler
    ("42", PassesUnderARun), // tables, keys, grants are on their way back: a restore makes them one after the other
    ("53", Passes),          // disk, memory, connections
    ("55", Passes),          // locks, objects in use, recovery
    ("57", Passes),          // cancelled, timed out, shut down, starting
    ("58", Passes),          // the system
    ("72", Passes),          // a snapshot that is too old
    ("F0", Passes),          // configuration files that are being changed
    ("XX000", Passes),       // "tuple concurrently updated", a cache that was looked up while tables changed
    ("XX", Stays),           // corrupted data and indexes
];

/// Judges a fault at the start, or of a command.
pub(crate) fn judge(error: &session::Error, shown: &str) -> StoreError {
    if passes(error, false) { StoreError::Transient(said(error, shown)) } else { StoreError::Fatal(said(error, shown)) }
}

/// Judges a fault under a run that has begun.
pub(super) fn judge_under_run(error: &session::Error, shown: &str) -> StoreError {
    match error.code() {
        // The columns were there when it began.
        Some(&SqlState::UNDEFINED_COLUMN) => {
            StoreError::Superseded(format!("{}: the tables were replaced, perhaps by an older backup", said(error, shown)))
        }
        _ if passes(error, true) => StoreError::Transient(said(error, shown)),
        _ => StoreError::Fatal(said(error, shown)),
    }
}

/// Whether the server, or this side while the server was at work, ended a statement because it took too long.
pub(super) fn took_too_long(error: &session::Error) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED) || error.was_at_work()
}

/// Whether a prepared statement was lost, or met one of another client: poolers do this that hand each transaction to another server
/// process.
pub(super) fn statements_are_mixed_up(error: &session::Error) -> bool {
    [Some(&SqlState::INVALID_SQL_STATEMENT_NAME), Some(&SqlState::DUPLICATE_PSTATEMENT)].contains(&error.code())
}

fn said(error: &session::Error, shown: &str) -> String {
    match error.as_db_error() {
        // It says the SQLSTATE itself, if there is one.
        _ if matches!(error, session::Error::Connect(_)) => format!("Postgres {shown}: {error}"),
        Some(db) => format!("Postgres {shown}: {} (SQLSTATE {})", db.message(), db.code().code()),
        None => format!("Postgres {shown}: {}", chain(error)),
    }
}

pub(super) fn passes(error: &session::Error, under_run: bool) -> bool {
    match error.as_db_error() {
        // A pooler's refusal of a parameter in the URL is of class 08, but will not pass.
        Some(db) if db.message().contains("unsupported startup parameter") => false,
        Some(db) => match verdict(db.code().code()) {
            Passes => true,
            PassesUnderARun => under_run,
            Stays => false,
        },
        // A certificate, a key or a server without TLS: waiting mends none of them, but people do while a run goes on.
        None if matches!(error, session::Error::Connect(_)) => under_run,
        // What else has no SQLSTATE is the connection itself.
        None => error.is_closed() || is_io(error),
    }
}

fn verdict(code: &str) -> Verdict {
    VERDICTS.iter().find(|(prefix, _)| code.starts_with(prefix)).map_or(Stays, |&(_, verdict)| verdict)
}

fn is_io(error: &session::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    // A connection attempt that took too long has no cause.
    error.to_string().contains("timeout") || error.to_string().contains("connecting")
}

pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_stays_is_not() {
        let codes = |wanted: Verdict, codes: &[&str]| {
            for code in codes {
                assert_eq!(verdict(code), wanted, "{code}");
            }
        };
        // Appendix A: among others 25P04 transaction_timeout, 25006 read only, 57P05 idle_session_timeout, 55P03 lock_timeout.
        let passing =
            "08006 08P01 25006 25P03 25P04 26000 40001 40P01 42P05 53100 53200 53300 55006 55P03 57014 57P01 57P03 57P05 58030";
        codes(Passes, &passing.split(' ').collect::<Vec<_>>());
        codes(PassesUnderARun, &["0A000", "28P01", "3D000", "3F000", "42501", "42P01", "42P10"]);
        codes(Stays, &["22003", "22021", "23502", "23505", "54001", "P0001", "XX001", "XX002"]);
    }
}
