//! Lines of a file, of a pipe or of the standard input, of which reading can be stopped while nothing comes.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, stdin};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often it is looked whether to stop.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// Bytes that one reading takes.
const AT_ONCE: usize = 64 << 10;

/// Opens a file; - is the standard input. Once `stop` is set, reading fails with [`ErrorKind::WouldBlock`].
pub fn open(path: &Path, stop: &Arc<AtomicBool>) -> Result<Box<dyn BufRead>> {
    let from = if path == Path::new("-") { File::from(stdin().as_fd().try_clone_to_owned()?) } else { File::open(path)? };
    Ok(Box::new(BufReader::with_capacity(AT_ONCE, Input { from, stop: Arc::clone(stop) })))
}

struct Input {
    from: File,
    stop: Arc<AtomicBool>,
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ErrorKind::WouldBlock.into());
            }
            match poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.from.read(into),
                Err(error) => return Err(Error::from(error)),
            }
        }
    }
}
