//! A running `tidemark-dataflow` and what it said.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Starts the program with these arguments and these settings, and no others.
    pub fn start(args: &[String], settings: &[(&str, String)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-dataflow"));
        command.arg("run").args(args).env_clear().envs(settings.iter().map(|(name, value)| (name, value)));
        Process::of(command.stdin(Stdio::null()))
    }

    /// Starts this command, whose standard input is set.
    pub fn of(command: &mut Command) -> Process {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let to = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                to.lock().expect("nobody panics while holding it").push(line);
            }
        });
        Process { child, lines, reader: Some(reader) }
    }

    /// All that it said so far.
    pub fn said(&self) -> String {
        self.lines.lock().expect("nobody panics while holding it").join("\n")
    }

    /// Its error lines.
    pub fn errors(&self) -> Vec<String> {
        self.said().lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).map(str::to_owned).collect()
    }

    /// How it ended, if it has. Then all that it said is there.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("it is ours")?;
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it only reads");
        }
        Some(status)
    }

    /// How it ends, if it does in time.
    pub fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() >= until {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).expect("it is ours and was not waited for");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process is killed too. It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
