//! A running program and what it said.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub struct Process {
    child: Child,
    /// Our end of its standard error.
    stderr: UnixStream,
    said: Said,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// The lines that a process wrote, and when it last complained. Copies share them.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<(Vec<String>, Option<Instant>)>>);

impl Said {
    fn lock(&self) -> MutexGuard<'_, (Vec<String>, Option<Instant>)> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// When it last wrote a warning or an error.
    pub fn complained(&self) -> Option<Instant> {
        self.lock().1
    }

    fn add(&self, line: String) {
        let complaint = ["WARN", "ERROR", "panicked", "error:"].iter().any(|word| line.contains(word));
        let mut said = self.lock();
        if complaint {
            said.1 = Some(Instant::now());
        }
        said.0.push(line);
    }
}

impl Process {
    /// Starts `tidemark-dataflow run` with these arguments and these settings, and no others.
    pub fn start(args: &[String], settings: &[(&str, String)]) -> Process {
        let args = [&["run".to_owned()], args].concat();
        Process::of_program(Path::new(env!("CARGO_BIN_EXE_tidemark-dataflow")), &args, settings)
    }

    /// The same of any program.
    pub fn of_program(program: &Path, args: &[String], settings: &[(&str, String)]) -> Process {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(settings.iter().map(|(name, value)| (name, value)));
        Process::of(command.stdin(Stdio::null()))
    }

    /// Starts this command, whose standard input is set.
    pub fn of(command: &mut Command) -> Process {
        let (stderr, theirs) = UnixStream::pair().expect("two ends");
        let child = command.stdout(Stdio::null()).stderr(OwnedFd::from(theirs)).spawn().expect("the program starts");
        // The command holds their end too.
        command.stderr(Stdio::null());
        let (said, lines) = (Said::default(), BufReader::new(stderr.try_clone().expect("a descriptor")));
        let to = said.clone();
        let reader = std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(|line| to.add(line)));
        Process { child, stderr, said, reader: Some(reader) }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// All that it said so far.
    pub fn said(&self) -> String {
        self.said.lock().0.join("\n")
    }

    /// The same, for one who goes on listening.
    pub fn listen(&self) -> Said {
        self.said.clone()
    }

    /// Nobody reads its standard error any more.
    pub fn close_stderr(&self) {
        // It may have ended.
        let _ = self.stderr.shutdown(Shutdown::Both);
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
            kill_process(self.pid(), signal).expect("it is ours and was not waited for");
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
