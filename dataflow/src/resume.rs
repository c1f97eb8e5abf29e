//! Runs that go on from what the store holds when the store went back under a run.

use crate::checkpoint::Parts;
use crate::cluster::{self, Options, RunError};
use crate::run::Control;
use crate::sink::{Store, StoreError};
use crate::source::Log;
use crate::telemetry::Metrics;
use crate::trouble::Kind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often in a row runs are superseded that lived less than [`LONG`], before the process gives up.
const MOST_IN_A_ROW: u32 = 10;
const LONG: Duration = Duration::from_secs(60);
/// The pause before a run goes on: a restore that made the tables one after the other comes to its end.
const PAUSE: Duration = Duration::from_secs(2);

/// Opens the store for a run with this control.
pub type OpenStore<'a> = &'a mut dyn FnMut(&Arc<Control>) -> Result<Box<dyn Store>, StoreError>;

/// Runs like [`cluster::run`], on a store that is opened anew for each run.
pub fn run(
    options: &Options,
    log: &Arc<dyn Log>,
    open_store: OpenStore<'_>,
    parts: &Arc<dyn Parts>,
    control: &Arc<Control>,
    metrics: &Arc<Metrics>,
) -> Result<(), RunError> {
    let (mut options, mut control) = (options.clone(), Arc::clone(control));
    let mut in_a_row = 0;
    loop {
        let started = Instant::now();
        let store = open_store(&control).map_err(|error| RunError::Plan(error.into()))?;
        let error = match cluster::run(&options, Arc::clone(log), store, Arc::clone(parts), &control, metrics) {
            Err(RunError::Superseded(error)) => error,
            ended => return ended,
        };
        in_a_row = if started.elapsed() < LONG { in_a_row + 1 } else { 1 };
        if control.stopping() || in_a_row > MOST_IN_A_ROW {
            return Err(RunError::Superseded(error));
        }
        tracing::error!("{error}; going on from what the store holds, in {PAUSE:?}");
        let sentence = "the store went back or was replaced; the run goes on from what it holds";
        control = Arc::new(control.of_next_run());
        control.troubles().tell(Kind::Store, sentence.to_owned());
        control.wait_for_stop(PAUSE);
        options.wish.again = true;
    }
}
