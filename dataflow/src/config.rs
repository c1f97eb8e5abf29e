//! The settings of a run: flags with their environment variables; each doc comment is its help text.

use crate::background::Background;
use crate::checkpoint::directory::Directory;
use crate::checkpoint::{MOST_INCREMENTS, Parts};
use crate::clock::Clock;
use crate::cluster::Options;
use crate::fold::Stints;
use crate::net::place::Place;
use crate::plan::{StartingOffsets, Wish};
use crate::rules::Rules;
use crate::sink::retention::Retention;
use crate::worker::MOST_UNFOLDED;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::Grain;
use tidemark_settings::duration::{self, OrOff};
use tidemark_settings::log::LogArgs;
use tidemark_settings::store::StoreArgs;

/// Entries of `progress_history` are kept for so long.
const MOST_RETENTION_OF_LETTERS: Duration = Duration::from_secs(400 * 86_400);

/// The length of the shortest window.
const WINDOW: Duration = Duration::from_secs(60);

/// Settings of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Where the events are.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where the metrics go.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Name of the pipeline; there is one in a schema
    #[arg(long, env = "PIPELINE", value_name = "NAME", default_value = "tidemark")]
    pub pipeline: String,
    /// Worker threads of this process; partition p belongs to worker p mod all workers
    #[arg(long, short = 'w', env = "WORKERS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// Processes of the cluster; each runs with the same settings and a --process of its own
    #[arg(long, short = 'n', env = "PROCESSES", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub processes: u16,
    /// Which of them this one is, counted from 0; process 0 writes to the store
    #[arg(long, short = 'p', env = "PROCESS", value_name = "INDEX", default_value_t = 0)]
    pub process: u16,
    /// File whose lines are the addresses HOST:PORT at which processes 0, 1, … listen for each other; without it localhost:2101, 2102, …
    #[arg(long, env = "HOSTFILE", value_name = "FILE")]
    pub hostfile: Option<PathBuf>,
    /// Process what the log holds now, commit, print a summary and exit
    #[arg(long)]
    pub until_end: bool,
    /// Where to begin partitions that the store does not know
    #[arg(long, env = "STARTING_OFFSETS", value_name = "WHERE", value_enum, default_value = "earliest", ignore_case = true)]
    pub starting_offsets: StartingOffsets,
    /// Lateness: a window is over once an event that is this much later than its end was read in the same partition
    #[arg(long, env = "WATERMARK", value_name = "DURATION", default_value = "10 minutes", value_parser = duration::parse)]
    pub watermark: Duration,
    /// Events further ahead of their record time, or of this machine's clock, are rejected
    #[arg(long, env = "MAX_FUTURE_SKEW", value_name = "DURATION", default_value = "5 minutes", value_parser = duration::parse)]
    pub max_future_skew: Duration,
    /// A partition no longer holds windows open once its leader has confirmed that it was silent at its end for this long; or off
    #[arg(long, env = "IDLE_AFTER", value_name = "DURATION", default_value = "30s", value_parser = duration::parse_or_off)]
    pub idle_after: OrOff,
    /// A join counts this long unless a leave or another join comes
    #[arg(long, env = "VIEWER_TIMEOUT", value_name = "DURATION", default_value = "12h", value_parser = duration::parse_positive)]
    pub viewer_timeout: Duration,
    /// Wall-clock time of which all events are folded and committed together; less while a worker reads more than 200000 in it
    #[arg(long, env = "SLICE", value_name = "DURATION", default_value = "100ms", value_parser = duration::parse_positive)]
    pub slice: Duration,
    /// A partition further ahead of the pipeline's watermark waits for those that hold it; changes no result
    #[arg(long, env = "MAX_AHEAD", value_name = "DURATION", default_value = "1h", value_parser = duration::parse_positive)]
    pub max_ahead: Duration,
    /// Rows of hours and days too; those that are not final are deleted when it becomes less
    #[arg(long, env = "ROLLUPS", value_name = "WHICH", value_enum, default_value = "hour,day", ignore_case = true)]
    pub rollups: RollUps,
    /// How long rows and totals of minutes are kept: those that ended longer ago, by the watermark, are dropped; in whole days where the
    /// table is partitioned; or off: for ever
    #[arg(long, env = "RETENTION", value_name = "DURATION", default_value = "off", value_parser = duration::parse_or_off)]
    pub retention: OrOff,
    /// How long dead letters are kept, by the watermark as of when they were read; or off: for ever
    #[arg(long, env = "RETENTION_DEAD_LETTERS", value_name = "DURATION", default_value = "off", value_parser = duration::parse_or_off)]
    pub retention_dead_letters: OrOff,
    /// Where checkpoints are kept, shared by all processes; default: DATA_DIR/checkpoints
    #[arg(long, env = "CHECKPOINT_DIR", value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
    /// How often a checkpoint is made; if writing one takes long, less often
    #[arg(long, env = "CHECKPOINT_EVERY", value_name = "DURATION", default_value = "10s", value_parser = duration::parse_positive)]
    pub checkpoint_every: Duration,
    /// Replay the log from the first offset that was ever read: use neither checkpoints nor progress_history
    #[arg(long)]
    pub ignore_checkpoints: bool,
    /// How long a broker, topic, database or other process that is not there yet is waited for
    #[arg(long, env = "WAIT", value_name = "DURATION", default_value = "2 minutes", value_parser = duration::parse)]
    pub wait: Duration,
    /// Where Prometheus finds this process's metrics, as host:port; a port alone is one of 127.0.0.1, :PORT one of all addresses; or off
    #[arg(long, env = "METRICS_ADDR", value_name = "HOST:PORT", default_value = "127.0.0.1:9100", value_parser = address_or_off)]
    pub metrics_addr: MetricsAddr,
    /// File of a certificate, with those that link it to its CA: then the metrics are served by HTTPS only. It is read anew when it
    /// changes
    #[arg(long, env = "METRICS_TLS_CERT", value_name = "FILE", hide_env_values = true)]
    pub metrics_tls_cert: Option<PathBuf>,
    /// File of its key
    #[arg(long, env = "METRICS_TLS_KEY", value_name = "FILE", hide_env_values = true)]
    pub metrics_tls_key: Option<PathBuf>,
    /// Form of the log lines on standard error
    #[arg(long, env = "LOG_FORMAT", value_name = "FORM", value_enum, default_value = "text", ignore_case = true)]
    pub log_format: LogFormat,
}

/// Windows that are made of minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RollUps {
    /// Hours and days.
    #[value(name = "hour,day")]
    HourDay,
    /// Hours.
    Hour,
    /// None.
    Off,
}

impl RollUps {
    /// The windows that rows are of, with minutes.
    fn grains(self) -> &'static [Grain] {
        match self {
            RollUps::HourDay => &Grain::ALL,
            RollUps::Hour => &Grain::ALL[..2],
            RollUps::Off => &Grain::ALL[..1],
        }
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// An address to listen on, as host:port, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsAddr(pub Option<String>);

fn address_or_off(text: &str) -> Result<MetricsAddr, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") {
        return Ok(MetricsAddr(None));
    }
    let (host, port) = match text.rsplit_once(':') {
        None => ("127.0.0.1", text),
        Some(("", port)) => ("0.0.0.0", port),
        Some((host, port)) => (host, port),
    };
    let is_name = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let is_v6 = |host: &str| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')?.parse::<Ipv6Addr>().ok()).is_some();
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if is_port && (is_name(host) || is_v6(host)) {
        Ok(MetricsAddr(Some(format!("{host}:{port}"))))
    } else {
        Err("allowed: host:port, as in 127.0.0.1:9100, localhost:9100 or [::1]:9100; 9100; :9100; or off".to_owned())
    }
}

impl RunArgs {
    /// Where the checkpoints are.
    pub fn checkpoints(&self) -> Result<Arc<dyn Parts>, String> {
        let path = self.checkpoint_dir.clone().unwrap_or_else(|| self.log.data_dir.join("checkpoints"));
        let unusable = |error| format!("CHECKPOINT_DIR={}: {error}", path.display());
        Ok(Arc::new(Directory::open(&path).map_err(unusable)?))
    }

    /// This process's place in its cluster; none if it is alone.
    pub fn place(&self) -> Result<Option<Place>, String> {
        Place::of(self.processes, self.process, self.hostfile.as_deref())
    }

    /// How long rows are kept. What a resume may still need is not dropped however short that is; but a duration below the time in which
    /// an event can change a row is surely a mistake.
    fn retention(&self) -> Result<Retention, String> {
        let least = self.watermark.saturating_add(self.viewer_timeout).saturating_add(WINDOW);
        let checked = |name: &str, given: OrOff| {
            let Some(given) = given.duration() else { return Ok(None) };
            if given < least {
                let least = duration::shown(least);
                return Err(format!("{name} must be at least {least} (WATERMARK + VIEWER_TIMEOUT + a minute), or off"));
            }
            duration::micros(given).map(Some).map_err(|error| format!("{name} {error}"))
        };
        // Dead letters go by entries of `progress_history`, and of those older than this none are kept.
        if self.retention_dead_letters.duration().is_some_and(|given| given > MOST_RETENTION_OF_LETTERS) {
            return Err("RETENTION_DEAD_LETTERS must be at most 400d, or off".to_owned());
        }
        Ok(Retention {
            minutes: checked("RETENTION", self.retention)?,
            dead_letters: checked("RETENTION_DEAD_LETTERS", self.retention_dead_letters)?,
        })
    }

    /// What the pipeline needs of it.
    pub fn options(&self) -> Result<Options, String> {
        let rules = Rules::new(self.watermark, self.max_future_skew, self.viewer_timeout)?;
        for (name, duration) in [("SLICE", self.slice), ("MAX_AHEAD", self.max_ahead)] {
            duration::micros(duration).map_err(|error| format!("{name} {error}"))?;
        }
        Ok(Options {
            wish: Wish {
                pipeline: self.pipeline.clone(),
                rules,
                starting_offsets: self.starting_offsets,
                until_end: self.until_end,
                ignore_checkpoints: self.ignore_checkpoints,
                known: None,
                again: false,
                grains: self.rollups.grains(),
            },
            workers: usize::from(self.workers),
            slice: self.slice,
            idle_after: self.idle_after.duration(),
            max_ahead: self.max_ahead,
            patience: self.wait,
            checkpoint_every: self.checkpoint_every,
            retention: self.retention()?,
            clock: Clock::System,
            background: Background::Threads,
            stints: Stints::default(),
            most_unfolded: MOST_UNFOLDED,
            most_increments: MOST_INCREMENTS,
        })
    }
}
