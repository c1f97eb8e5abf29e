//! What a changed share costs until it is a changed row, in differential: `cargo bench -p tidemark-dataflow --bench views`.
//!
//! The views alone, as the pipeline has them behind `fold`: in each slice some keys change, and it is timed until the rows are out.

mod common;

use common::{heading, report};
use differential_dataflow::AsCollection;
use rand::RngExt;
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tidemark_dataflow::Slice;
use tidemark_dataflow::flow::{RowKey, Share, Totals};
use tidemark_dataflow::keys::StreamKey;
use tidemark_dataflow::views;
use tidemark_model::{Metric, Minute, Values};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Inspect, Probe};

/// Minutes that are open.
const MINUTES: u32 = 12;
const SLICES: Slice = 200;
/// First slices, not counted: traces have grown.
const WARM_UP: Slice = 50;

fn main() {
    let data = format!("{MINUTES} open minutes; {} slices measured, one thread", SLICES - WARM_UP);
    heading("views", &data);
    for streams in [100, 1_000, 10_000] {
        // An event in a stream's present minute; and a join or leave in an early one, which changes all minutes after it.
        measure(&format!("{streams} streams, the present minute's rows change"), streams, 1);
        measure(&format!("{streams} streams, all rows change"), streams, MINUTES);
    }
}

/// In each slice every stream changes in this many of its newest minutes.
fn measure(name: &str, streams: usize, minutes: u32) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let keys: Vec<StreamKey> = (0..streams).map(|_| StreamKey(random.random(), random.random())).collect();
    let mut nanos = timely::execute_directly(move |worker| {
        let mut input: InputHandle<Slice, CapacityContainerBuilder<Vec<Share>>> = InputHandle::new();
        let rows = Rc::new(Cell::new(0_usize));
        let seen = Rc::clone(&rows);
        let probe = worker.dataflow::<Slice, _, _>(|scope| {
            let shares = input.to_stream(scope).as_collection();
            let rows = views::rows(shares).inner;
            rows.inspect(move |(_, _, diff)| seen.set(seen.get() + usize::from(*diff > 0))).probe().0
        });
        let mut nanos = Vec::new();
        for slice in 0..SLICES {
            // First all rows come into being.
            let first = if slice == 0 { 0 } else { MINUTES - minutes };
            let changes: Vec<(RowKey, Totals)> = keys
                .iter()
                .flat_map(|&stream| (first..MINUTES).map(move |minute| ((stream, Minute(minute).into()), change())))
                .collect();
            let expected = changes.len();
            rows.set(0);
            let start = Instant::now();
            changes.into_iter().for_each(|(key, change)| input.send((key, slice, change)));
            input.advance_to(slice + 1);
            input.flush();
            while probe.less_than(&(slice + 1)) {
                worker.step();
            }
            let took = start.elapsed();
            assert_eq!(rows.get(), expected, "{slice}: each change is a row");
            if slice >= WARM_UP {
                nanos.push(took.as_secs_f64() * 1e9 / expected as f64);
            }
        }
        input.close();
        nanos
    });
    report(name, "row", &mut nanos);
}

fn change() -> Totals {
    Totals { events: 1, values: Values::of([(Metric::ActiveViewers, 1)]) }
}
