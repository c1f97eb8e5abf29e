//! The first bytes on each connection: who is calling, and what all processes of a cluster must agree on.
//!
//! ```text
//! caller:   magic ∙ version ∙ length ∙ Greeting as JSON
//! answerer: magic ∙ version ∙ length ∙ Answer as JSON      (its own greeting, and its objection if it has one)
//! ```
//!
//! JSON, because it is also read by processes of other builds, which are to understand why they are refused.

use crate::exchange::CODEC;
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Nothing else begins like this.
const MAGIC: [u8; 8] = *b"TIDEMARK";
/// Version of this exchange; raised when its form changes.
const VERSION: u32 = 1;
/// The longest greeting, in bytes.
const LONGEST: u32 = 16 << 10;

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// It carries timely's rows.
    Rows,
    /// It carries our own words.
    Words,
}

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The pipeline's name.
    pub pipeline: String,
    /// The program: rows travel as bytes whose form only the same build knows.
    pub build: String,
    /// How many processes it expects.
    pub processes: usize,
    /// Which of them it is.
    pub process: usize,
    /// Its worker threads: timely needs the same number everywhere.
    pub workers: usize,
    /// Settings that decide what is computed, for people.
    pub settings: String,
    /// Drawn anew by each process, to tell two with one index, and a process from its successor.
    pub instance: u64,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What the process that was called says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Of itself.
    pub greeting: Greeting,
    /// Why it refuses the connection, if it does.
    pub refusal: Option<String>,
}

impl Greeting {
    /// The first thing in which two processes differ and must not, naming both values. `other` is what the other one is called.
    pub fn difference(&self, other: &str, theirs: &Greeting) -> Option<String> {
        let processes = (self.processes.to_string(), theirs.processes.to_string());
        let workers = (self.workers.to_string(), theirs.workers.to_string());
        let all = [
            ("PIPELINE", (&self.pipeline, &theirs.pipeline)),
            ("build", (&self.build, &theirs.build)),
            ("--processes", (&processes.0, &processes.1)),
            ("--workers", (&workers.0, &workers.1)),
            ("settings", (&self.settings, &theirs.settings)),
        ];
        let (what, (ours, theirs)) = all.into_iter().find(|(_, (ours, theirs))| ours != theirs)?;
        let same = "all processes of a cluster need the same";
        Some(format!("{other} has {what} {theirs}, this one (process {}) has {what} {ours}: {same}", self.process))
    }
}

/// What tells this program from others whose rows it could not read: its version and sources, the codec, the machine's words.
pub fn build() -> String {
    let words = if cfg!(target_endian = "little") { "le" } else { "be" };
    let (version, sources) = (env!("CARGO_PKG_VERSION"), env!("TIDEMARK_SOURCES"));
    format!("{version} (sources {sources}, {CODEC}, {words}{})", usize::BITS)
}

/// Says something.
pub fn write<T: Serialize>(stream: &mut TcpStream, what: &T) -> Result<(), Error> {
    let text = serde_json::to_vec(what)?;
    let length = u32::try_from(text.len()).ok().filter(|&length| length <= LONGEST);
    let length = length.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the greeting is too long"))?;
    let mut bytes = Vec::with_capacity(16 + text.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(text);
    stream.write_all(&bytes)
}

/// Hears something, within `patience` in all.
pub fn read<T: for<'de> Deserialize<'de>>(stream: &mut TcpStream, patience: Duration) -> Result<T, Error> {
    let until = Instant::now() + patience;
    let mut head = [0; 16];
    read_exact(stream, &mut head[..8], until)?;
    if head[..8] != MAGIC {
        return Err(Error::new(ErrorKind::InvalidData, "it does not begin like a process of ours"));
    }
    read_exact(stream, &mut head[8..], until)?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(8) != VERSION {
        let version = format!("its greeting has version {}, ours {VERSION}: all processes need the same build", word(8));
        return Err(Error::new(ErrorKind::InvalidData, version));
    }
    if word(12) > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, "its greeting is too long"));
    }
    let mut text = vec![0; usize::try_from(word(12)).expect("it is small")];
    read_exact(stream, &mut text, until)?;
    Ok(serde_json::from_slice(&text)?)
}

/// A reading that ends in time even if the bytes come one by one.
fn read_exact(stream: &mut TcpStream, mut into: &mut [u8], until: Instant) -> Result<(), Error> {
    while !into.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::TimedOut, "it says nothing"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(into) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "it hung up")),
            Ok(read) => into = &mut into[read..],
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    stream.set_read_timeout(None)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::TcpListener;

    pub(in crate::net) fn greeting(process: usize) -> Greeting {
        Greeting {
            pipeline: "p".to_owned(),
            build: "b".to_owned(),
            processes: 2,
            process,
            workers: 1,
            settings: "s".to_owned(),
            instance: 7,
            purpose: Purpose::Words,
        }
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (caller, listener.accept().unwrap().0)
    }

    #[test]
    fn a_greeting_arrives() {
        let (mut caller, mut answerer) = pair();
        write(&mut caller, &greeting(1)).unwrap();
        assert_eq!(read::<Greeting>(&mut answerer, Duration::from_secs(5)).unwrap(), greeting(1));
    }

    #[test]
    fn strangers_are_told_apart() {
        let mut versioned = MAGIC.to_vec();
        versioned.extend([0, 0, 0, 9, 0, 0, 0, 1, b'{']);
        let mut long = MAGIC.to_vec();
        long.extend([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        let mut wrong = MAGIC.to_vec();
        wrong.extend([0, 0, 0, 1, 0, 0, 0, 2, b'{', b'}']);
        let strangers: [(&[u8], &str); 5] = [
            (b"GET / HTTP/1.1\r\n\r\n", "does not begin like"),
            (b"TIDE", "hung up"),
            (&versioned, "version 9"),
            (&long, "too long"),
            (&wrong, "missing field"),
        ];
        for (bytes, expected) in strangers {
            let (mut caller, mut answerer) = pair();
            caller.write_all(bytes).unwrap();
            drop(caller);
            let error = read::<Greeting>(&mut answerer, Duration::from_secs(5)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let (_caller, mut answerer) = pair();
        let started = Instant::now();
        assert_eq!(read::<Greeting>(&mut answerer, Duration::from_millis(50)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_difference_names_both_values() {
        let ours = greeting(0);
        assert_eq!(ours.difference("process 1 (x)", &greeting(1)), None);
        let theirs = Greeting { workers: 3, ..greeting(1) };
        let line = ours.difference("process 1 (x)", &theirs).unwrap();
        assert!(line.contains("process 1 (x) has --workers 3, this one (process 0) has --workers 1"), "{line}");
        let others = [
            (Greeting { pipeline: "q".to_owned(), ..greeting(1) }, "PIPELINE q"),
            (Greeting { build: "c".to_owned(), ..greeting(1) }, "build c"),
            (Greeting { processes: 3, ..greeting(1) }, "--processes 3"),
            (Greeting { settings: "t".to_owned(), ..greeting(1) }, "settings t"),
        ];
        for (theirs, expected) in others {
            assert!(ours.difference("x", &theirs).unwrap().contains(expected));
        }
    }
}
