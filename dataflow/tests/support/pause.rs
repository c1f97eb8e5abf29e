//! Stops all processes of a program, as a paused container or a virtual machine that is moved does.

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// A process and its children, stopped until this is dropped.
pub struct Paused(Vec<Pid>);

impl Paused {
    pub fn process(first: Pid) -> Paused {
        let mut stopped = Vec::new();
        // A process that is stopped has no further children, so the list grows to its end.
        let mut found = vec![first];
        while let Some(pid) = found.pop() {
            // A child may have ended since it was found.
            if kill_process(pid, Signal::STOP).is_ok() {
                stopped.push(pid);
                found.extend(children(pid));
            }
        }
        Paused(stopped)
    }

    /// The process whose id is the first word of this file.
    pub fn by_file(path: &Path) -> Paused {
        let text = std::fs::read_to_string(path).expect("a file with a process's id");
        let pid = text.split_whitespace().next().and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
        Paused::process(pid.expect("a process's id"))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // It may have been killed meanwhile.
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

fn children(of: Pid) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(|&pid| parent(pid) == Some(of.as_raw_nonzero().get())).filter_map(Pid::from_raw).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; then come the state and the parent.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
