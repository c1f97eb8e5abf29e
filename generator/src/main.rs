//! Settings, logging and signals; the work is in the library.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidemark_generator::app;
use tidemark_generator::config::{Cli, Command, UsageError};
use tidemark_generator::progress::Progress;
use tidemark_generator::publish::PublishError;
use tidemark_settings::process::{self, Process};
use tidemark_settings::{SettingsError, usage};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const FAILURE: u8 = 1;
const BAD_USAGE: u8 = 2;
/// How long after a signal the program ends at the latest, whatever does not answer. The last deliveries take at most 10 s of it.
const STOP_WITHIN: Duration = Duration::from_secs(15);

fn main() {
    process::run(program)
}

/// Returns the exit status.
fn program(process: &Process) -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => error.exit(),
        Err(error) => return complain(&one_line(&error), BAD_USAGE),
    };
    let mut progress = Progress::new();
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = start_logging(process, &progress).and_then(|()| catch_signals(&stop)) {
        return complain(&format!("{error:#}"), exit_status(&error));
    }
    let command = cli.command.unwrap_or_else(|| Command::Generate(Box::new(cli.generate)));
    let (line, result) = app::execute(command, &mut progress, &stop);
    if let Some(line) = line {
        // A reader of the summary that went away is no failure of the run.
        drop(writeln!(std::io::stdout(), "{line}"));
    }
    match result {
        Ok(()) => 0,
        Err(error) => complain(&format!("{error:#}"), exit_status(&error)),
    }
}

fn complain(text: &str, status: u8) -> u8 {
    process::tell(&format!("tidemark-generator: {text}"));
    status
}

fn exit_status(error: &anyhow::Error) -> u8 {
    let property = matches!(error.downcast_ref(), Some(PublishError::Property { .. } | PublishError::Settings(_)));
    let usage = property || error.is::<UsageError>() || error.is::<SettingsError>();
    if usage { BAD_USAGE } else { FAILURE }
}

fn start_logging(process: &Process, progress: &Progress) -> anyhow::Result<()> {
    let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::builder().parse(&directives).map_err(|error| {
        UsageError(format!("RUST_LOG={directives:?}: {error}; allowed: as in info, debug, or tidemark_generator=debug"))
    })?;
    process::write_to(progress.log_writer());
    let writer = process.log_writer();
    let colours = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colours);
    subscriber.with_writer(move || writer).init();
    process.log_is_ready();
    Ok(())
}

/// The first signal asks for a clean end, within [`STOP_WITHIN`]; a second one ends the program at once.
fn catch_signals(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let hangup = (!tidemark_settings::signals::hangup_is_ignored()).then_some(SIGHUP);
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    let stop = Arc::clone(stop);
    let end = || process::exit(i32::from(FAILURE));
    let last_resort = move || {
        std::thread::sleep(STOP_WITHIN);
        complain(
            &format!("{STOP_WITHIN:?} after a signal the log or the input still does not answer: ending without it"),
            FAILURE,
        );
        end();
    };
    let listen = move || {
        for _ in signals.forever() {
            let again = stop.swap(true, Ordering::Relaxed);
            if again || std::thread::Builder::new().name("last-resort".to_owned()).spawn(last_resort).is_err() {
                end();
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(())
}

/// clap's message without its usage text, and with the environment's name if the value came from there.
fn one_line(error: &clap::Error) -> String {
    let rendered = usage::told(error);
    let told = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text = told.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text).to_owned();
    match variable_at_fault(error) {
        Some(variable) => format!("{text} (from {variable} in the environment; see --help)"),
        None => format!("{text} (see --help)"),
    }
}

fn variable_at_fault(error: &clap::Error) -> Option<String> {
    let (Some(ContextValue::String(argument)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let mut definition = Cli::command();
    // An argument can be shown only once its definition is built.
    definition.build();
    let found = definition.get_arguments().find(|known| known.to_string() == *argument)?;
    let variable = found.get_env()?;
    (std::env::var_os(variable)?.to_str()? == value).then(|| variable.to_string_lossy().into_owned())
}
