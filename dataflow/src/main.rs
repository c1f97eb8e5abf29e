//! `tidemark-dataflow`: configuration → telemetry → cluster.

use anyhow::Context;
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemark_dataflow::cli::{Cli, Command};
use tidemark_dataflow::cluster::{self, RunError};
use tidemark_dataflow::config::{LogFormat, RunArgs};
use tidemark_dataflow::ops::args::{DeadLettersCommand, RebuildArgs, RecoverArgs};
use tidemark_dataflow::ops::{self, OpsError, Outcome};
use tidemark_dataflow::plan::PlanError;
use tidemark_dataflow::resume;
use tidemark_dataflow::run::{Control, STOP_WITHIN};
use tidemark_dataflow::sink::{Store, StoreError, postgres::PostgresStore, sqlite::SqliteStore};
use tidemark_dataflow::source::{self, SourceError};
use tidemark_dataflow::telemetry::{self, Metrics};
use tidemark_settings::kafka::Role;
use tidemark_settings::process::{self, Process, READER_GONE};
use tidemark_settings::{SettingsError, store, usage};
use tidemark_tls::https;
use tracing_subscriber::filter::LevelFilter;

fn main() {
    process::run(program)
}

/// Returns the exit status.
fn program(process: &Process) -> u8 {
    let command = Cli::try_parse().unwrap_or_else(|error| usage::exit(&error)).into_command();
    match &command {
        Command::Run(args) => start_logging(process, args.log_format, LevelFilter::INFO),
        Command::Rebuild(RebuildArgs { run, .. }) | Command::Recover(RecoverArgs { run, .. }) => {
            start_logging(process, run.log_format, LevelFilter::WARN);
        }
        Command::Verify(_) | Command::DeadLetters(_) | Command::Checkpoint(_) | Command::Healthcheck { .. } => {
            start_logging(process, LogFormat::Text, LevelFilter::WARN)
        }
    }
    #[cfg(feature = "failpoints")]
    tidemark_dataflow::fail_points::arm().expect("TIDEMARK_FAIL_POINT names a point");
    let mut out = std::io::stdout().lock();
    let outcome = match &command {
        Command::Run(args) => {
            return match run(args, &mut out) {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!("{error:#}");
                    let of_log = matches!(error.downcast_ref(), Some(RunError::Plan(PlanError::Source(SourceError::Setting(_)))));
                    if of_log || error.is::<SettingsError>() { 2 } else { 1 }
                }
            };
        }
        Command::Verify(args) => ops::verify::run(args, &mut out),
        Command::DeadLetters(command) => dead_letters(command, &mut out),
        Command::Checkpoint(command) => ops::checkpoint::run(command, &mut out),
        Command::Recover(args) => recover(args, &mut out),
        Command::Rebuild(args) => rebuild(args, &mut out),
        Command::Healthcheck { port } => {
            return match https::is_healthy(([127, 0, 0, 1], *port).into(), "/metrics") {
                Ok(()) => 0,
                Err(why) => {
                    tracing::error!("{why}");
                    Outcome::NotDone.status()
                }
            };
        }
    };
    match outcome {
        Ok(outcome) => outcome.status(),
        Err(OpsError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => READER_GONE,
        Err(error) => {
            tracing::error!("{error}");
            Outcome::NotDone.status()
        }
    }
}

fn recover(args: &RecoverArgs, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let target = args.run.store.resolve(&args.run.log.data_dir).map_err(|error| OpsError::Refused(error.to_string()))?;
    if let store::Store::Sqlite(path) = &target
        && !path.exists()
    {
        return Err(OpsError::Refused(format!("{target} is not there: check DATA_DIR")));
    }
    ops::recover::run(args, open_store(&target, &stoppable()?)?.as_mut(), &target.to_string(), out)
}

fn rebuild(args: &RebuildArgs, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    ops::rebuild::run(args, &stoppable()?, out)
}

fn dead_letters(command: &DeadLettersCommand, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    // What only reads may end at any moment.
    let control = if matches!(command, DeadLettersCommand::Replay(_)) { Some(stoppable()?) } else { None };
    ops::dead_letters::run(command, control.as_ref(), out)
}

fn stoppable() -> Result<Arc<Control>, OpsError> {
    let control = Arc::new(Control::default());
    stop_on_signals(&control).map_err(|error| OpsError::File("signal handlers".to_owned(), error))?;
    Ok(control)
}

fn run(args: &RunArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = args.options().map_err(anyhow::Error::msg)?;
    let place = args.place().map_err(anyhow::Error::msg)?;
    let topic = args.log.resolve(Role::Consumer, &None)?;
    let target = args.store.resolve(&args.log.data_dir)?;
    let (process, processes) = (args.process, args.processes);
    if let (0, store::Store::Postgres { connection, .. }) = (process, &target) {
        // The files that it names are settings too, and only this process needs them.
        tidemark_tls::postgres::Server::parse(connection)?;
    }
    tracing::info!(log = %topic, store = %target, workers = options.workers, process, processes, "starting");
    let log = source::open(topic);
    let parts = args.checkpoints().map_err(anyhow::Error::msg)?;
    let (metrics, registry) = Metrics::new();
    if let Some(address) = args.metrics_addr.0.as_ref().filter(|_| !args.until_end) {
        let tls = https::config(
            ("METRICS_TLS_CERT", args.metrics_tls_cert.as_deref()),
            ("METRICS_TLS_KEY", args.metrics_tls_key.as_deref()),
        )?;
        telemetry::serve(address, registry, tls).map_err(anyhow::Error::msg)?;
    }
    let control = Arc::new(Control::default());
    stop_on_signals(&control).context("signal handlers")?;
    let started = Instant::now();
    match place {
        None => resume::run(&options, &log, &mut |control| open_store(&target, control), &parts, &control, &metrics)?,
        Some(place) => {
            let store = if process == 0 { Some(open_store(&target, &control)?) } else { None };
            cluster::run_with_others(&options, &place, log, store, parts, &control, &metrics)?;
        }
    }
    if args.until_end {
        let summary = summary(&metrics, started.elapsed());
        match out.write_all(summary.as_bytes()) {
            // The run is done, and nobody wants to know its figures.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.context("standard output")?,
        }
    }
    tracing::info!("stopped; everything that was read is committed");
    Ok(())
}

fn open_store(target: &store::Store, control: &Arc<Control>) -> Result<Box<dyn Store>, StoreError> {
    Ok(match target {
        store::Store::Postgres { connection, shown } => Box::new(PostgresStore::new(connection, shown)?.stopped_by(control)),
        store::Store::Sqlite(path) => Box::new(SqliteStore::open(path)?),
    })
}

fn start_logging(process: &Process, format: LogFormat, level: LevelFilter) {
    let filter = tracing_subscriber::EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let writer = process.log_writer();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    process.log_is_ready();
}

/// The first signal stops the run cleanly, within [`STOP_WITHIN`]; a second one ends the process at once.
fn stop_on_signals(control: &Arc<Control>) -> std::io::Result<()> {
    let hangup = (!tidemark_settings::signals::hangup_is_ignored()).then_some(SIGHUP);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    control.end_within(STOP_WITHIN)?;
    let control = Arc::clone(control);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signalled = false;
        for signal in signals.forever() {
            // Not `stopping`: another process of the cluster may have been the first to hear of the same stop.
            if std::mem::replace(&mut signalled, true) {
                process::exit(128 + signal);
            }
            tracing::info!(signal, "stopping: committing what was read");
            control.stop();
        }
    })?;
    Ok(())
}

/// What `--until-end` prints: a line for each figure.
fn summary(metrics: &Metrics, elapsed: Duration) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:<24} {value:>14}").expect("a string takes all text");
    let records = metrics.records.get();
    line("records", records.to_string());
    line("admitted", metrics.admitted.get().to_string());
    line("duplicates", metrics.duplicates.get().to_string());
    line("other event types", metrics.other_types.get().to_string());
    for (reason, records) in metrics.rejected_by_reason() {
        line(&format!("rejected {reason}"), records.to_string());
    }
    line("rows upserted", metrics.rows.get().to_string());
    line("commits", metrics.commits.get().to_string());
    line("epoch", metrics.epoch.get().to_string());
    line("seconds", format!("{:.3}", elapsed.as_secs_f64()));
    let seconds = elapsed.as_secs_f64().max(1e-6);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    line("records per second", format!("{:.0}", records as f64 / seconds));
    text
}
