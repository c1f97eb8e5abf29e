//! The other processes of a running cluster: process 0's plan, the wish to stop, and the end of each.
//!
//! A thread for each of them listens; one more tells them of our own wish to stop, and every second that we live. Who closes the
//! connection without a word of leave, or says nothing for `SILENCE`, is taken for dead, and that ends this process too.

use super::Start;
use super::place::Place;
use super::words::{self, Word};
use crate::run::Control;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often we give a sign of life.
const SIGN: Duration = Duration::from_secs(1);
/// How long another process may give none: longer than any pause of a machine that is worth waiting for.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a word may take to be sent.
const SENDING: Duration = Duration::from_secs(5);
/// How long the others' leave is awaited.
const LEAVE: Duration = Duration::from_secs(2);
/// What follows from a process's end.
const THEREFORE: &str = "this one ends too; start all again, and they go on from what is stored";

/// Our connections to the other processes.
pub struct Peers {
    place: Place,
    links: Arc<Vec<Link>>,
    plan: Receiver<Box<Start>>,
    /// Disconnected once nobody listens any more.
    listening: Receiver<()>,
}

struct Link {
    process: usize,
    to: Mutex<TcpStream>,
}

impl Peers {
    /// Listens from now on; what the others want is done to `control`.
    pub fn start(place: &Place, words: Vec<Option<TcpStream>>, control: &Arc<Control>) -> Result<Peers, String> {
        let error = |error: std::io::Error| format!("connections to the other processes: {error}");
        let (planned, plan) = channel();
        let (listener, listening) = channel();
        let mut links = Vec::new();
        for (process, stream) in words.into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            stream.set_read_timeout(Some(SILENCE)).map_err(error)?;
            stream.set_write_timeout(Some(SENDING)).map_err(error)?;
            let from = stream.try_clone().map_err(error)?;
            links.push(Link { process, to: Mutex::new(stream) });
            let listen = Listen {
                name: place.name(process),
                from,
                plan: (process == 0).then(|| planned.clone()),
                control: Arc::clone(control),
                _listening: listener.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("hear-{process}"));
            thread.spawn(move || listen.run()).map_err(error)?;
        }
        let links = Arc::new(links);
        let (to, control) = (Arc::downgrade(&links), Arc::clone(control));
        let tell = move || {
            let mut told = false;
            let mut signed = Instant::now();
            // Until the peers are dropped.
            while let Some(links) = to.upgrade() {
                if control.stopping() && !std::mem::replace(&mut told, true) {
                    say(&links, &Word::Stop);
                } else if signed.elapsed() >= SIGN {
                    signed = Instant::now();
                    say(&links, &Word::Alive);
                }
                drop(links);
                let wait = SIGN.saturating_sub(signed.elapsed());
                if told { std::thread::sleep(wait) } else { control.wait_for_stop(wait) }
            }
        };
        std::thread::Builder::new().name("tell".to_owned()).spawn(tell).map_err(error)?;
        Ok(Peers { place: place.clone(), links, plan, listening })
    }

    /// Process 0 tells the others its plan.
    pub fn send_start(&self, start: Start) -> Result<(), String> {
        let word = Word::Start(Box::new(start));
        for link in &*self.links {
            let sent = words::write(&mut *link.lock(), &word);
            sent.map_err(|error| format!("{}: the plan could not be sent: {error}", self.place.name(link.process)))?;
        }
        Ok(())
    }

    /// The others wait for it, for as long as process 0 lives; none if the run is stopped or fails meanwhile.
    pub fn await_start(&self, control: &Control) -> Option<Box<Start>> {
        while !control.stopping() && control.failure().is_none() {
            match self.plan.recv_timeout(Duration::from_millis(50)) {
                Ok(start) => return Some(start),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        None
    }

    /// Takes leave: who says why it ends is not taken for dead.
    pub fn leave(self, failure: Option<&str>) {
        let word = failure.map_or(Word::Done, |failure| Word::Failed(failure.to_owned()));
        say(&self.links, &word);
        for link in &*self.links {
            // What is closed already needs no closing.
            let _ = link.lock().shutdown(Shutdown::Write);
        }
        if failure.is_none() {
            // Closing a connection on which something is still to be read would throw away our last word.
            let _ = self.listening.recv_timeout(LEAVE);
        }
    }
}

impl Link {
    fn lock(&self) -> std::sync::MutexGuard<'_, TcpStream> {
        self.to.lock().expect("nobody panics while holding a connection")
    }
}

/// Says a word to everybody. Who does not hear it any more is noticed by who listens to it.
fn say(links: &[Link], word: &Word) {
    for link in links {
        let _ = words::write(&mut *link.lock(), word);
    }
}

/// Listens to one process.
struct Listen {
    name: String,
    from: TcpStream,
    /// Only process 0 has a plan.
    plan: Option<Sender<Box<Start>>>,
    control: Arc<Control>,
    _listening: Sender<()>,
}

impl Listen {
    fn run(mut self) {
        let name = &self.name;
        let mut left = false;
        loop {
            match words::read(&mut self.from) {
                Ok(Word::Alive) => {}
                Ok(Word::Stop) => {
                    if !self.control.stopping() {
                        tracing::info!("stopping with {name}: committing what was read");
                    }
                    self.control.stop();
                }
                Ok(Word::Start(start)) => {
                    if let Some(plan) = &self.plan {
                        // Nobody waits for it if the run has been stopped.
                        let _ = plan.send(start);
                    }
                }
                Ok(Word::Done) => left = true,
                Ok(Word::Failed(why)) => {
                    left = true;
                    self.control.fail(format!("{name} failed: {why}; {THEREFORE}"));
                }
                Err(_) if left => return,
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return self.control.fail(format!("{name} has said nothing for {SILENCE:?}; {THEREFORE}"));
                }
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return self.control.fail(format!("{name} says what this one cannot read: {error}; {THEREFORE}"));
                }
                Err(_) => return self.control.fail(format!("{name} is gone; {THEREFORE}")),
            }
        }
    }
}

/// From now on a thread of timely's whose connection broke does not unwind: that would tear down the workers in the midst of their
/// work, and abort the process, before it has said why it ends. It waits for the end, which the peers' own connection brings; if
/// that one does not know of it, the broken one is the reason.
pub fn hold_broken_connections(control: &Arc<Control>) {
    let control = Arc::clone(control);
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        if !thread.name().is_some_and(|name| name.starts_with("timely:send-") || name.starts_with("timely:recv-")) {
            return others(panic);
        }
        let said = panic.payload_as_str().unwrap_or("it does not say why");
        tracing::debug!("a connection broke: {said}");
        std::thread::sleep(Duration::from_millis(500));
        control.fail(format!("a connection to another process broke: {said}; {THEREFORE}"));
        loop {
            std::thread::park();
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn two() -> [(Peers, Arc<Control>); 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let two = listener.accept().unwrap().0;
        let peers = |process, words| {
            let place = Place { process, addresses: vec!["a:1".to_owned(), "b:2".to_owned()] };
            let control = Arc::new(Control::default());
            (Peers::start(&place, words, &control).unwrap(), control)
        };
        [peers(0, vec![None, Some(one)]), peers(1, vec![Some(two), None])]
    }

    fn until(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < until, "it does not happen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_stop_reaches_the_others_and_a_leave_is_no_death() {
        let [(zero, of_zero), (one, of_one)] = two();
        of_one.stop();
        until(|| of_zero.stopping());
        let leaving = std::thread::spawn(move || one.leave(None));
        zero.leave(None);
        leaving.join().unwrap();
        assert_eq!((of_zero.failure(), of_one.failure()), (None, None));
    }

    #[test]
    fn a_death_is_told_with_its_place() {
        let [(zero, of_zero), (one, _)] = two();
        one.links[0].lock().shutdown(Shutdown::Both).unwrap();
        until(|| of_zero.failure().is_some());
        assert!(of_zero.failure().unwrap().starts_with("process 1 of the cluster (b:2) is gone;"));
        assert!(zero.await_start(&of_zero).is_none());
    }

    #[test]
    fn a_failure_is_told_with_its_reason() {
        let [(zero, _), (one, of_one)] = two();
        zero.leave(Some("no disk"));
        until(|| of_one.failure().is_some());
        assert!(of_one.failure().unwrap().starts_with("process 0 of the cluster (a:1) failed: no disk;"));
        assert!(one.await_start(&of_one).is_none());
    }
}
