//! How long an answer is waited for: as long as there is evidence that the server works on the question.
//!
//! A statement on a slow disk or behind a lock is silent too. So after [`QUIET`] a second connection asks the same server what our
//! session does. Only if it is at work the waiting goes on, and the question is repeated. Each waiting that is not short is told.

use crate::run::Control;
use crate::trouble::Kind;
use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemark_tls::postgres;
use tokio::time::{sleep, timeout};
use tokio_postgres::{CancelToken, SimpleQueryMessage, SimpleQueryRow};

/// How long one address may take until it takes questions. Looking up a name may take as long.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take until it is told and the server is asked what it does, and between two such questions.
const QUIET: Duration = Duration::from_secs(5);
/// How long the second connection may take. With [`QUIET`]: a server that is gone is known to be gone within ten seconds.
const PROBE: Duration = Duration::from_secs(4);
/// How long an answer may take without evidence, where the server answers but does not say what our session does.
const NO_EVIDENCE: Duration = Duration::from_secs(65);
/// How long the answer may still be on its way when the server has nothing to do for us any more.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How long an exchange may go on once the run is to end.
pub(super) const AT_STOP: Duration = Duration::from_secs(10);
/// How long cancelling may take.
const CANCEL: Duration = Duration::from_secs(2);
/// How often it is looked whether the run is to end.
const LOOK: Duration = Duration::from_millis(250);

/// Nothing was heard in time: from whom, what was asked, and how long it was waited.
#[derive(Debug, thiserror::Error)]
#[error("{told}")]
pub(crate) struct NoAnswer {
    told: String,
    /// Whether the server may still be at work on what was asked.
    pub(super) at_work: bool,
}

impl NoAnswer {
    pub(super) fn of(told: String) -> NoAnswer {
        NoAnswer { told, at_work: false }
    }
}

/// One address, with a name for people.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) there: postgres::Server,
    pub(super) name: String,
}

/// A session of the server's. Its number alone may be another one's later.
#[derive(Debug)]
pub(super) struct Backend {
    pid: String,
    start: String,
}

impl Backend {
    /// From the columns `pid` and `backend_start`.
    pub(super) fn of(messages: &[SimpleQueryMessage]) -> Option<Backend> {
        let row = row(messages)?;
        Some(Backend { pid: row.get("pid")?.to_owned(), start: row.get("backend_start")?.to_owned() })
    }
}

fn row(messages: &[SimpleQueryMessage]) -> Option<&SimpleQueryRow> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

/// What a second connection found.
#[derive(Debug)]
enum Finding {
    /// Our session is at work, or waits for this.
    AtWork(Option<String>),
    /// Our session has nothing to do, or there is none: the question or the answer was lost.
    Lost,
    /// The server answers, but not to this.
    Unknown,
    /// No answer, and why.
    Nothing(String),
}

/// Watches over the exchanges of one connection.
pub(super) struct Overseer {
    server: Server,
    token: CancelToken,
    backend: Option<Backend>,
    control: Option<Arc<Control>>,
    /// When the waiting began that was told and has not ended.
    told: Cell<Option<Instant>>,
}

impl Overseer {
    pub(super) fn new(server: Server, token: CancelToken, backend: Option<Backend>, control: Option<Arc<Control>>) -> Overseer {
        Overseer { server, token, backend, control, told: Cell::new(None) }
    }

    /// Returns once the answer is to be waited for no longer.
    pub(super) async fn wait(&self, asked: &str, longest: Option<Duration>) -> NoAnswer {
        let started = Instant::now();
        let (mut evidence, mut probed, mut at_work) = (started, started, false);
        let server = &self.server.name;
        loop {
            sleep(LOOK).await;
            let waited = started.elapsed();
            let given_up = |why: String, at_work| NoAnswer {
                told: format!("{server} has not answered {asked} within {:.0} s: {why}", waited.as_secs_f64()),
                at_work,
            };
            if self.control.as_ref().and_then(|control| control.ending_for()).is_some_and(|ending| ending.min(waited) >= AT_STOP)
            {
                return given_up("the run is to end, and waits no longer".to_owned(), true);
            }
            if longest.is_some_and(|longest| waited >= longest) || evidence.elapsed() >= NO_EVIDENCE {
                return given_up("it is given no more time".to_owned(), true);
            }
            if probed.elapsed() < QUIET {
                continue;
            }
            if self.told.get().is_none() {
                self.told.set(Some(started));
                self.tell(asked);
            }
            let finding = self.probe().await;
            probed = Instant::now();
            match finding {
                Finding::AtWork(on) => {
                    evidence = probed;
                    if !std::mem::replace(&mut at_work, true) {
                        let on = on.map_or_else(String::new, |on| format!("; it waits for {on}"));
                        tracing::warn!("Postgres at {server} is at work on {asked}{on}; its answer is waited for");
                    }
                }
                Finding::Unknown => {}
                Finding::Nothing(why) => return given_up(format!("a second connection: {why}"), false),
                Finding::Lost => {
                    sleep(ON_ITS_WAY).await;
                    let why = "it has nothing to do for this connection any more, so something in between has lost it";
                    return given_up(why.to_owned(), false);
                }
            }
        }
    }

    fn tell(&self, asked: &str) {
        let what = format!("has not answered {asked} for {QUIET:?}; a second connection asks what it does");
        match &self.control {
            // `/health` shows this to everybody, so it names no server.
            Some(control) => control.troubles().tell(Kind::Store, format!("the store {what}")),
            None => tracing::warn!("Postgres at {} {what}", self.server.name),
        }
    }

    /// The answer has come. Says so if the waiting was told. What becomes of a question that was given up, the one who asked says.
    pub(super) fn answered(&self, asked: &str) {
        let Some(since) = self.told.take() else { return };
        match &self.control {
            Some(control) => control.troubles().over(Kind::Store),
            None => tracing::info!(after = ?since.elapsed(), "Postgres at {} has answered {asked}", self.server.name),
        }
    }

    /// Asks the server, in a connection of its own, what our session does.
    async fn probe(&self) -> Finding {
        let asked = async {
            let (client, mut wire) = self.server.there.connect_here().await?;
            let session = match &self.backend {
                Some(Backend { pid, start }) => format!("pid = {pid} and backend_start = '{start}'"),
                None => "false".to_owned(),
            };
            let question = format!("select state, wait_event_type, wait_event from pg_stat_activity where {session}");
            let question = async {
                let found = client.simple_query(&question).await?;
                let finding = if self.backend.is_some() { read(&found) } else { Finding::Unknown };
                if let (Finding::Lost, Some(Backend { pid, start })) = (&finding, &self.backend) {
                    // It would keep its locks for as long as whatever is in between acknowledges in our name.
                    let end = "select pg_terminate_backend(pid) from pg_stat_activity";
                    let _ = client.simple_query(&format!("{end} where pid = {pid} and backend_start = '{start}'")).await;
                }
                Ok::<_, tokio_postgres::Error>(finding)
            };
            let mut question = pin!(question);
            tokio::select! {
                found = &mut question => found,
                ended = &mut wire => { ended?; question.await }
            }
        };
        match timeout(PROBE.min(CONNECT), asked).await {
            Ok(Ok(finding)) => finding,
            // Too many connections, or a server that starts: it is alive, and more is not known.
            Ok(Err(error)) if error.as_db_error().is_some() => Finding::Unknown,
            Ok(Err(error)) => Finding::Nothing(crate::sink::judge::chain(&error)),
            Err(_) => Finding::Nothing(format!("no answer within {PROBE:?}")),
        }
    }

    /// Tells the server that nobody waits for the answer any more.
    pub(super) async fn cancel(&self) {
        let cancelled = timeout(CANCEL, self.server.there.cancel(&self.token)).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::debug!("Postgres at {} cannot be told that nobody waits for it any more", self.server.name);
        }
    }
}

/// What the row of `pg_stat_activity` says; none: there is no such session.
fn read(found: &[SimpleQueryMessage]) -> Finding {
    let Some(row) = row(found) else { return Finding::Lost };
    match (row.get("state"), row.get("wait_event_type"), row.get("wait_event")) {
        (Some(state), ..) if state.starts_with("idle") => Finding::Lost,
        // It waits for us, as we wait for it.
        (Some("active"), Some("Client"), _) => Finding::Unknown,
        (Some("active"), Some(kind), Some(event)) => Finding::AtWork(Some(format!("{kind} {event}"))),
        (Some("active"), ..) => Finding::AtWork(None),
        // A server that keeps no account of it.
        _ => Finding::Unknown,
    }
}
