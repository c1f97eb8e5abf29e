//! What a storm did, as a table.

use super::producer::Written;
use super::vigil::Longest;
use crate::support::tables::Found;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// What came of one kind of blow.
#[derive(Debug, Default)]
struct Kind {
    count: usize,
    /// From the blow, or from the end of an outage, to the commit of all that was there then.
    recoveries: Vec<Duration>,
}

#[derive(Debug)]
pub struct Report {
    started: Instant,
    kinds: BTreeMap<&'static str, Kind>,
    longest: BTreeMap<&'static str, Longest>,
    /// Runs by processes and workers.
    runs: BTreeMap<(usize, usize), usize>,
    replayed: Vec<u64>,
    fenced: usize,
    retries: usize,
    /// From SIGTERM to the end.
    stops: Vec<Duration>,
    lines: Vec<String>,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            started: Instant::now(),
            kinds: BTreeMap::new(),
            longest: BTreeMap::new(),
            runs: BTreeMap::new(),
            replayed: Vec::new(),
            fenced: 0,
            retries: 0,
            stops: Vec::new(),
            lines: Vec::new(),
        }
    }
}

impl Report {
    pub fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

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

    /// SIGTERM was obeyed.
    pub fn obeyed(&mut self, took: Duration) {
        self.stops.push(took);
    }

    pub fn standstills(&mut self, longest: BTreeMap<&'static str, Longest>) {
        let most = |of: fn(&Longest) -> Duration| longest.values().map(of).max().unwrap_or_default().as_secs_f64();
        self.lines.push(format!(
            "longest standstill {:.1} s; longest silence that was not told: at all {:.1} s, by /health {:.1} s, by the log {:.1} s",
            most(|longest| longest.standstill),
            most(|longest| longest.untold),
            most(|longest| longest.untold_by_health),
            most(|longest| longest.untold_by_log),
        ));
        self.longest = longest;
    }

    pub fn produced(&mut self, written: &Written, again: usize, expired: usize) {
        let records: usize = written.iter().map(Vec::len).sum();
        self.lines.push(format!(
            "records produced {records}; sent twice by the producer's client when the broker crashed {again}; expired {expired}"
        ));
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

    /// Records of the steady partitions among the dead letters: those that were on time, and those that came late to their broker.
    pub fn rejected(&mut self, on_time: usize, tardy: usize) {
        self.lines.push(format!("on-time records among the dead letters {on_time} (steady, but late at their broker: {tardy})"));
    }

    pub fn took(&mut self, time: Duration) {
        self.lines.push(format!("took {:.0} s", time.as_secs_f64()));
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<34}{:>6}{:>10}{:>9}{:>9}{:>12}{:>10}\n",
            "what", "times", "measured", "p50 s", "max s", "standstill", "untold s"
        );
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all text");
        for (kind, Kind { count, recoveries }) in &self.kinds {
            let (p50, max) = summary(recoveries);
            let Longest { standstill, untold, .. } = self.longest.get(kind).copied().unwrap_or_default();
            let (standstill, untold) = (standstill.as_secs_f64(), untold.as_secs_f64());
            line(format!("{kind:<34}{count:>6}{:>10}{p50:>9.2}{max:>9.2}{standstill:>12.1}{untold:>10.1}", recoveries.len()));
        }
        let all: Vec<Duration> = self.kinds.values().flat_map(|kind| kind.recoveries.iter().copied()).collect();
        let count: usize = self.kinds.values().map(|kind| kind.count).sum();
        let (p50, max) = summary(&all);
        line(format!("{:<34}{count:>6}{:>10}{p50:>9.2}{max:>9.2}", "all", all.len()));
        line("(seconds until all records of that moment are committed: from the kill, or from the end of an outage;".to_owned());
        line(
            " not measured: hit again before. Standstill: records of a partition wait and none is committed; untold: neither"
                .to_owned(),
        );
        line(" /health nor a line of the log says that something is wrong)".to_owned());
        let runs: Vec<String> =
            self.runs.iter().map(|((processes, workers), runs)| format!("{processes}x{workers}: {runs}")).collect();
        line(format!("runs {} (processes x workers: {})", self.runs.values().sum::<usize>(), runs.join(", ")));
        let (replayed, most) = (self.replayed.iter().sum::<u64>(), self.replayed.iter().max().copied().unwrap_or(0));
        line(format!(
            "records replayed {replayed}, most at once {most}; fenced off {}; commits tried again {}",
            self.fenced, self.retries
        ));
        let (p50, max) = summary(&self.stops);
        line(format!("SIGTERM obeyed {} times, p50 {p50:.2} s, max {max:.2} s", self.stops.len()));
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
