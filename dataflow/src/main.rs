//! `tidemark-dataflow`: configuration → telemetry → cluster.

use anyhow::Context;
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemark_dataflow::checkpoint::{Parts, directory::Directory};
use tidemark_dataflow::cluster;
use tidemark_dataflow::config::{Cli, LogFormat, RunArgs};
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::{Store, postgres::PostgresStore, sqlite::SqliteStore};
use tidemark_dataflow::source::{Log, file_log::FileLog, kafka::KafkaLog};
use tidemark_dataflow::telemetry::{self, Metrics};
use tidemark_settings::{log, store};

/// Many small hash-table entries: this allocator is measurably faster at them than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidemark_settings::unset_empty_variables();
    let args = Cli::parse().into_run();
    start_logging(args.log_format);
    #[cfg(feature = "failpoints")]
    tidemark_dataflow::fail_points::arm().expect("TIDEMARK_FAIL_POINT names a point");
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            if args.processes > 1 {
                // Workers that wait for a process that is gone still run: nothing of theirs must run into the end of this one.
                signal_hook::low_level::exit(1);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    let options = args.options().map_err(anyhow::Error::msg)?;
    let place = args.place().map_err(anyhow::Error::msg)?;
    let topic = args.log.resolve(&None)?;
    let target = args.store.resolve(&args.log.data_dir)?;
    let (process, processes) = (args.process, args.processes);
    tracing::info!(log = %topic, store = %target, workers = options.workers, process, processes, "starting");
    let log = open_log(topic);
    let parts = open_checkpoints(args)?;
    let (metrics, registry) = Metrics::new();
    if let Some(address) = args.metrics_addr.0.filter(|_| !args.until_end) {
        telemetry::serve(address, registry).map_err(anyhow::Error::msg)?;
    }
    let control = Arc::new(Control::default());
    stop_on_signals(&control).context("signal handlers")?;
    let started = Instant::now();
    match place {
        None => cluster::run(&options, log, open_store(&target)?, parts, &control, &metrics)?,
        Some(place) => {
            let store = if process == 0 { Some(open_store(&target)?) } else { None };
            cluster::run_with_others(&options, &place, log, store, parts, &control, &metrics)?;
        }
    }
    if args.until_end {
        let summary = summary(&metrics, started.elapsed());
        std::io::stdout().write_all(summary.as_bytes()).context("standard output")?;
    }
    tracing::info!("stopped; everything that was read is committed");
    Ok(())
}

fn open_log(topic: log::Log) -> Arc<dyn Log> {
    match topic {
        log::Log::Kafka(topic) => Arc::new(KafkaLog::new(topic)),
        log::Log::File { dir, topic } => Arc::new(FileLog::new(dir, topic)),
    }
}

fn open_store(target: &store::Store) -> anyhow::Result<Box<dyn Store>> {
    Ok(match target {
        store::Store::Postgres { connection, shown } => Box::new(PostgresStore::new(connection, shown)?),
        store::Store::Sqlite(path) => Box::new(SqliteStore::open(path)?),
    })
}

fn open_checkpoints(args: &RunArgs) -> anyhow::Result<Arc<dyn Parts>> {
    let path = args.checkpoint_dir.clone().unwrap_or_else(|| args.log.data_dir.join("checkpoints"));
    let directory = Directory::open(&path).with_context(|| format!("CHECKPOINT_DIR={}", path.display()))?;
    Ok(Arc::new(directory))
}

fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// The first signal stops the run cleanly; a second one ends the process.
fn stop_on_signals(control: &Arc<Control>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let control = Arc::clone(control);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signalled = false;
        for signal in signals.forever() {
            // Not `stopping`: another process of the cluster may have been the first to hear of the same stop.
            if std::mem::replace(&mut signalled, true) {
                std::process::exit(128 + signal);
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
