//! Wall clocks of processes that a test steps: a library that is loaded before the C library shifts what it says.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, compiled.
pub struct Shim {
    library: PathBuf,
    dir: PathBuf,
}

impl Shim {
    /// Compiles it into this directory.
    pub fn build(dir: &Path) -> Shim {
        let library = dir.join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storm/clock.c");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(source);
        let output = cc.output().expect("a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Shim { library, dir: dir.to_owned() }
    }

    /// A clock of this name that is right.
    pub fn clock(&self, name: &str) -> Clock {
        let path = self.dir.join(format!("clock.{name}"));
        let file = File::create(&path).expect("a file");
        let clock = Clock { library: self.library.clone(), path, file };
        clock.step_to(0);
        clock
    }
}

/// One wall clock.
pub struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Clock {
    /// What a process needs in its environment to go by this clock.
    pub fn settings(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.library.display().to_string()), ("TIDEMARK_TEST_CLOCK", self.path.display().to_string())]
    }

    /// From now on it is this many microseconds ahead of the machine's; less than 0 is behind.
    pub fn step_to(&self, ahead: i64) {
        self.file.write_all_at(&ahead.to_ne_bytes(), 0).expect("the file takes it");
    }
}
