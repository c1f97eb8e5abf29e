//! The program: configuration → log → application. Exit status 0 after a stop by signal, 1 if it cannot run, 2 for a
//! setting that cannot be used.

use std::net::ToSocketAddrs;
use tidemark_api::config::{self, Config};
use tidemark_api::startup::{Application, StartupError};
use tidemark_api::telemetry;
use tidemark_settings::process::{self, Process};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    process::run(program)
}

/// Returns the exit status.
fn program(process: &Process) -> u8 {
    let config = config::from_command_line();
    if config.healthcheck {
        let found = config.api_addr.to_socket_addrs().map_err(|error| format!("API_ADDR={}: {error}", config.api_addr));
        let found = found.and_then(|mut found| found.next().ok_or_else(|| "API_ADDR names no address".to_owned()));
        return match found.and_then(|at| tidemark_tls::https::is_healthy(at, "/health")) {
            Ok(()) => 0,
            Err(why) => {
                process::tell(&why);
                1
            }
        };
    }
    telemetry::start_log(process, config.log_format);
    match actix_web::rt::System::new().block_on(run(config)) {
        Ok(()) => 0,
        Err(error) => {
            process::tell(&format!("tidemark-api: {error:#}"));
            let bad_setting = matches!(
                error.downcast_ref(),
                Some(StartupError::Setting(_) | StartupError::Pooler(_) | StartupError::Tls(_) | StartupError::Descriptors(_))
            );
            if bad_setting { 2 } else { 1 }
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let application = Application::build(config)?;
    application.run_until_stopped().await?;
    Ok(())
}
