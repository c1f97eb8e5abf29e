//! A process that has no descriptor left, and one whose standard error nobody reads any more.

use super::Blow;
use crate::director::Director;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// More than a process with a full table can take.
const CONNECTIONS: usize = 50;
/// How soon metrics must be served again.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

impl Director<'_> {
    /// Its table is full for some seconds, and many connect to it.
    pub(super) fn fill_descriptors(&mut self, blow: Blow) {
        let victim = self.below(self.cluster.processes.len());
        let (address, number) = (self.cluster.metrics[victim].clone(), self.cluster.number);
        let pid = self.cluster.processes[victim].pid();
        // It listens once it has begun.
        self.mend(|director| director.cluster.number != number || serves(&director.cluster.metrics[victim]));
        let time = self.millis(2_000..6_000);
        if self.cluster.number == number
            && let Some(before) = limit(pid)
        {
            let connections: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(&address)).collect();
            self.go_on_for(time);
            drop(connections);
            // It may have ended.
            let _ = prlimit(Some(pid), Resource::Nofile, before);
        }
        self.hurt(blow, false);
        let until = Instant::now() + SERVES_WITHIN;
        self.mend(|director| director.cluster.number != number || Instant::now() >= until || serves(&address));
        if self.cluster.number == number && !serves(&address) {
            self.wrong(format!("metrics are not served within {SERVES_WITHIN:?} after the descriptors were used up"));
        }
    }

    /// It goes on and ends normally.
    pub(super) fn close_stderr(&mut self, blow: Blow) {
        self.mend(|director| director.cluster.took_over());
        self.cluster.processes.iter().for_each(|process| process.close_stderr());
        // Something to say.
        self.storm.network.cut();
        self.hurt(blow, false);
        self.mend(|director| director.recovered());
        self.stop();
        self.cluster = self.another();
    }
}

/// From now on it can have no more than it has. Gives the limit that it had.
fn limit(pid: Pid) -> Option<Rlimit> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).ok()?.count();
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(open as u64), maximum }).ok()
}

fn serves(address: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
