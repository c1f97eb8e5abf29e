//! A network between a client and a server that can be cut, that can stall, and that can forget; and a server that says nothing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Nothing arrives, and nobody is told.
    Stalled,
    /// Everything that is sent arrives later by this.
    Slow(Duration),
    /// Connections end as soon as they are made.
    Closed,
    /// The next COMMIT does not arrive: the connection ends instead, and the way is closed for a moment.
    LoseCommit,
    /// The next COMMIT arrives, but not its answer: the connection ends instead, and the way is closed for a moment.
    LoseAnswer,
}

/// What Postgres's client sends to commit: a simple query.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// Bytes of a broker's address as it tells it: "127.0.0.1" and the port.
const ADDRESS: usize = 13;
/// For how long the way is closed when a commit or its answer was lost.
const MOMENT: Duration = Duration::from_millis(300);

#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: String,
}

struct Shared {
    /// What the server says of itself, and what the client hears instead; of the same length.
    address: Option<([u8; ADDRESS], [u8; ADDRESS])>,
    state: Mutex<State>,
}

struct State {
    /// HOST:PORT that new connections lead to.
    server: String,
    way: Way,
    /// Connections of an earlier one are forgotten.
    generation: u64,
    /// When a closed way opens by itself.
    opens: Option<Instant>,
    connections: Vec<TcpStream>,
    /// Commits or answers that were lost.
    lost: usize,
}

impl Proxy {
    /// A way to this server, open.
    pub fn to(server: &str) -> Proxy {
        Proxy::start(server, |_| None)
    }

    /// The same to the one broker of a Kafka at 127.0.0.1: also the connections that its client makes by itself go this way.
    pub fn to_broker(broker: &str) -> Proxy {
        let told = |port: u16| {
            let mut address = *b"127.0.0.1\0\0\0\0";
            address[11..].copy_from_slice(&port.to_be_bytes());
            address
        };
        let port = broker.strip_prefix("127.0.0.1:").expect("a broker of this machine").parse().expect("a port");
        Proxy::start(broker, |ours| Some((told(port), told(ours))))
    }

    fn start(server: &str, address: impl Fn(u16) -> Option<([u8; ADDRESS], [u8; ADDRESS])>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("it is bound");
        let (told, address) = (address(local.port()), local.to_string());
        let server = server.to_owned();
        let state = Mutex::new(State { server, way: Way::Open, generation: 0, opens: None, connections: Vec::new(), lost: 0 });
        let shared = Arc::new(Shared { address: told, state });
        let of_thread = Arc::clone(&shared);
        // It lives as long as the test process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                of_thread.connect(client);
            }
        });
        Proxy { shared, address }
    }

    /// HOST:PORT.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on. Closing ends all connections.
    pub fn set(&self, way: Way) {
        let mut state = self.shared.lock();
        (state.way, state.opens) = (way, None);
        if way == Way::Closed {
            state.end_all();
        }
    }

    /// Ends all connections; new ones lead to this server.
    pub fn lead_to(&self, server: &str) {
        let mut state = self.shared.lock();
        state.server = server.to_owned();
        state.end_all();
    }

    /// Forgets all connections: they stay open, what is sent is acknowledged and arrives nowhere. New ones can be made.
    pub fn forget(&self) {
        self.shared.lock().generation += 1;
    }

    /// Ends all connections; new ones can be made.
    pub fn cut(&self) {
        self.shared.lock().end_all();
    }

    /// Commits or answers that were lost so far.
    pub fn lost(&self) -> usize {
        self.shared.lock().lost
    }
}

/// A server that accepts connections and says nothing, at this HOST:PORT; it lives as long as the test process.
pub fn silent_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<TcpStream>>());
    address
}

impl State {
    fn end_all(&mut self) {
        for connection in self.connections.drain(..) {
            // It may have ended already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Once the way lets anything through.
    fn way(&self) -> Way {
        loop {
            let mut state = self.lock();
            if state.opens.is_some_and(|opens| Instant::now() >= opens) {
                (state.way, state.opens) = (Way::Open, None);
            }
            if state.way != Way::Stalled {
                return state.way;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        if self.lock().way != Way::Stalled && self.way() == Way::Closed {
            return;
        }
        let server = self.lock().server.clone();
        let Ok(server) = TcpStream::connect(server) else { return };
        let (Ok(client_end), Ok(server_end)) = (client.try_clone(), server.try_clone()) else { return };
        let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
        let mut state = self.lock();
        state.connections.extend([client_end, server_end]);
        let generation = state.generation;
        drop(state);
        let (there, back) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || there.pump(from_client, server, true, generation));
        std::thread::spawn(move || back.pump(from_server, client, false, generation));
    }

    fn pump(&self, from: TcpStream, to: TcpStream, to_server: bool, generation: u64) {
        // Either end may end at any time.
        let _ = self.carry(&from, &to, to_server, generation);
        if self.lock().generation != generation {
            // The other end never hears of it.
            return;
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream, to_server: bool, generation: u64) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            if let (false, Some((theirs, ours))) = (to_server, &self.address) {
                while let Some(at) = buffer[..read].windows(ADDRESS).position(|at| at == theirs) {
                    buffer[at..at + ADDRESS].copy_from_slice(ours);
                }
            }
            let bytes = &buffer[..read];
            let way = self.way();
            if let Way::Slow(later) = way {
                std::thread::sleep(later);
            }
            if self.lock().generation != generation {
                continue;
            }
            if to_server && matches!(way, Way::LoseCommit | Way::LoseAnswer) && bytes.windows(COMMIT.len()).any(|at| at == COMMIT)
            {
                if way == Way::LoseAnswer {
                    // The client hears nothing any more; the server reads the commit before it finds out.
                    from.shutdown(Shutdown::Both)?;
                    to.write_all(bytes)?;
                    to.shutdown(Shutdown::Write)?;
                }
                let mut state = self.lock();
                (state.way, state.opens) = (Way::Closed, Some(Instant::now() + MOMENT));
                state.lost += 1;
                return Ok(());
            }
            to.write_all(bytes)?;
        }
    }
}
