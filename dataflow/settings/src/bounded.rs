//! A TCP connection that ends at a set time, however slowly the other side talks.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection that ends at a set time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    longest: Duration,
    until: Instant,
}

impl Connection {
    /// Connects. Each exchange has `longest`, and all of them together end at `until`.
    pub fn open(address: SocketAddr, longest: Duration, until: Instant) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, patience(longest, until)?)?;
        Ok(Connection { stream, longest, until })
    }
}

/// How long may be waited now.
fn patience(longest: Duration, until: Instant) -> Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left.min(longest)) }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.stream.set_read_timeout(Some(patience(self.longest, self.until)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.stream.set_write_timeout(Some(patience(self.longest, self.until)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}
