//! A network between a client and a server that can be cut, and that can stall.

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
/// For how long the way is closed when a commit or its answer was lost.
const MOMENT: Duration = Duration::from_millis(300);

#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: String,
}

struct Shared {
    server: String,
    state: Mutex<State>,
}

struct State {
    way: Way,
    /// When a closed way opens by itself.
    opens: Option<Instant>,
    connections: Vec<TcpStream>,
    /// How often all connections were forgotten.
    forgotten: usize,
    /// Commits or answers that were lost.
    lost: usize,
}

impl Proxy {
    /// A way to this server, open.
    pub fn to(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let state = Mutex::new(State { way: Way::Open, opens: None, connections: Vec::new(), forgotten: 0, lost: 0 });
        let shared = Arc::new(Shared { server: server.to_owned(), state });
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

    /// Ends all connections; new ones can be made.
    pub fn cut(&self) {
        self.shared.lock().end_all();
    }

    /// Forgets all connections without ending them: what is sent is taken and goes nowhere. New ones can be made.
    pub fn forget(&self) {
        self.shared.lock().forgotten += 1;
    }

    /// Commits or answers that were lost so far.
    pub fn lost(&self) -> usize {
        self.shared.lock().lost
    }
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
        let Ok(server) = TcpStream::connect(&self.server) else { return };
        let (Ok(client_end), Ok(server_end)) = (client.try_clone(), server.try_clone()) else { return };
        let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
        let made = {
            let mut state = self.lock();
            state.connections.extend([client_end, server_end]);
            state.forgotten
        };
        let (there, back) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || there.pump(from_client, server, true, made));
        std::thread::spawn(move || back.pump(from_server, client, false, made));
    }

    /// `made` is how often connections were forgotten before this one was made.
    fn pump(&self, from: TcpStream, to: TcpStream, to_server: bool, made: usize) {
        // Either end may end at any time.
        let _ = self.carry(&from, &to, to_server, made);
        let _ = from.shutdown(Shutdown::Both);
        // Whoever was forgotten does not hear of the other's end either.
        if self.lock().forgotten == made {
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream, to_server: bool, made: usize) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            let bytes = &buffer[..read];
            let way = self.way();
            if let Way::Slow(later) = way {
                std::thread::sleep(later);
            }
            if self.lock().forgotten != made {
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
