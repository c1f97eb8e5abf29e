//! What a storm did, as a table.

use super::producer::Written;
use crate::support::tables::Found;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What came of one kind of blow.
#[derive(Debug, Default)]
struct Kind {
    count: usize,
    /// From the blow, or from the end of an outage, to the next commit.
    recoveries: Vec<Duration>,
}

#[derive(Debug, Default)]
pub struct Report {
    kinds: BTreeMap<&'static str, Kind>,
    /// Runs by processes and workers.
    runs: BTreeMap<(usize, usize), usize>,
    replayed: Vec<u64>,
    fenced: usize,
    retries: usize,
    lines: Vec<String>,
}

impl Report {
    pub fn blow(&mut self, kind: &'static str) {
        self.kinds.entry(kind).or_default().count += 1;
    }

    pub fn recovery(&mut self, kind: &'static str, took: Duration) {
        self.kinds.entry(kind).or_default().recoveries.push(took);
    }

    pub fn run(&mut self, processes: usize, workers: usize) {
        *self.runs.entry((processes, workers)).or_default() += 1;
    }

    /// What a run that is over has said.
    pub fn ended(&mut self, replayed: u64, fenced: bool, retries: usize) {
        self.replayed.push(replayed);
        self.fenced += usize::from(fenced);
        self.retries += retries;
    }

    pub fn produced(&mut self, written: &Written, again: usize) {
        let records: usize = written.iter().map(Vec::len).sum();
        self.lines
            .push(format!("records produced {records}; sent twice by the producer's client when the broker crashed {again}"));
    }

    pub fn compared(&mut self, found: &Found, differences: &[String], looks: u64, sets: usize) {
        let Found { rows, states, dead_letters, .. } = found;
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        dead_letters.values().for_each(|letter| *reasons.entry(letter.reason.as_str()).or_default() += 1);
        self.lines.push(format!("looks at the whole store meanwhile {looks}"));
        self.lines.push(format!(
            "compared with the oracle: {} rows, {} stream states, {} dead letters",
            rows.len(),
            states.len(),
            dead_letters.len()
        ));
        self.lines.push(format!("dead letters by reason: {reasons:?}"));
        self.lines.push(format!("sets of parts left {sets}"));
        self.lines.push(format!("differences {}", differences.len()));
    }

    pub fn took(&mut self, time: Duration) {
        self.lines.push(format!("took {:.0} s", time.as_secs_f64()));
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:<34}{:>6}{:>10}{:>10}{:>10}\n", "what", "times", "measured", "p50 s", "max s");
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all text");
        for (kind, Kind { count, recoveries }) in &self.kinds {
            let (p50, max) = summary(recoveries);
            line(format!("{kind:<34}{count:>6}{:>10}{p50:>10.2}{max:>10.2}", recoveries.len()));
        }
        let all: Vec<Duration> = self.kinds.values().flat_map(|kind| kind.recoveries.iter().copied()).collect();
        let count: usize = self.kinds.values().map(|kind| kind.count).sum();
        let (p50, max) = summary(&all);
        line(format!("{:<34}{count:>6}{:>10}{p50:>10.2}{max:>10.2}", "all", all.len()));
        line("(seconds to fresh rows: from the kill, or from the end of an outage; not measured: hit again before)".to_owned());
        let runs: Vec<String> =
            self.runs.iter().map(|((processes, workers), runs)| format!("{processes}x{workers}: {runs}")).collect();
        line(format!("runs {} (processes x workers: {})", self.runs.values().sum::<usize>(), runs.join(", ")));
        let (replayed, most) = (self.replayed.iter().sum::<u64>(), self.replayed.iter().max().copied().unwrap_or(0));
        line(format!(
            "records replayed {replayed}, most at once {most}; fenced off {}; commits tried again {}",
            self.fenced, self.retries
        ));
        self.lines.iter().for_each(|more| line(more.clone()));
        text
    }
}

/// Median and maximum in seconds.
fn summary(times: &[Duration]) -> (f64, f64) {
    let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    (times.get(times.len() / 2).copied().unwrap_or(f64::NAN), times.last().copied().unwrap_or(f64::NAN))
}
