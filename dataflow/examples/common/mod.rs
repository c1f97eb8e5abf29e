//! What the examples share that run the production loop.

#![allow(dead_code, reason = "each example uses its own part")]

use std::io::Write as _;
use tidemark_dataflow::cli::{Cli, Command};
use tidemark_dataflow::cluster::Options;

/// The program's own defaults but for these arguments of `run`.
pub fn options(arguments: &[&str]) -> anyhow::Result<Options> {
    let arguments = ["example", "run"].iter().chain(arguments);
    let Command::Run(run) = <Cli as clap::Parser>::parse_from(arguments).into_command() else { anyhow::bail!("run is run") };
    run.options().map_err(anyhow::Error::msg)
}

/// A line for people.
pub fn say(line: &str) {
    // Whoever closed the pipe does not want it.
    let _ = writeln!(std::io::stdout(), "{line}");
}
