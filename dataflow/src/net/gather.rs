//! Until everybody is there: each process dials those of lower index and is called by those of higher index.
//!
//! A process that dies while others still wait may come again; its place is free once its connections are closed. Who says nothing
//! in time, or something else than a greeting, is dropped and changes nothing. Who greets and does not fit ends the start.

use super::greeting::{self, Answer, Greeting, Purpose};
use super::place::Place;
use crate::run::Control;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a caller has for its greeting, and we for ours.
const GREETING: Duration = Duration::from_secs(5);
/// How long one attempt to reach another process may take.
const DIAL: Duration = Duration::from_secs(2);
/// The first pause after a vain attempt, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long our port may still be another's: that of our predecessor, who is about to end.
const PORT_TAKEN: Duration = Duration::from_secs(5);
/// Callers whose greeting is awaited at the same time; more are dropped.
const MOST_CALLERS: usize = 64;
/// Strangers that are told of; more are only counted.
const MOST_TOLD: usize = 20;
/// How often it is looked whether everybody is there.
const LOOK: Duration = Duration::from_millis(20);

/// A connection to each process but our own, in their order.
pub struct Team {
    /// For timely.
    pub rows: Vec<Option<TcpStream>>,
    /// For us.
    pub words: Vec<Option<TcpStream>>,
}

/// Waits until all are there; none if the run is stopped meanwhile.
pub fn gather(place: &Place, greeting: Greeting, patience: Duration, control: &Control) -> Result<Option<Team>, String> {
    let until = Instant::now() + patience;
    let last = place.process + 1 == place.processes();
    let Some(listener) = (if last { Some(None) } else { listen(place, control)?.map(Some) }) else { return Ok(None) };
    let door = Arc::new(Door { place: place.clone(), greeting, table: Mutex::default(), callers: AtomicUsize::new(0) });
    let _closing = Closing(Arc::clone(&door));
    if let Some(listener) = listener {
        let door = Arc::clone(&door);
        spawn("listen", move || door.listen(&listener))?;
    }
    for process in 0..place.process {
        let door = Arc::clone(&door);
        spawn("dial", move || door.dial(process))?;
    }
    let mut said = Instant::now();
    loop {
        let mut table = door.table();
        if let Some(error) = table.error.take() {
            return Err(error);
        }
        let absent = table.absent(place);
        if absent.is_empty() {
            return Ok(Some(table.take(place)));
        }
        drop(table);
        let names: Vec<String> = absent.into_iter().map(|process| place.name(process)).collect();
        let names = names.join(", ");
        if control.stopping() {
            return Ok(None);
        }
        if Instant::now() >= until {
            let why = "it must be started with the same --processes and --hostfile and reach this one, or raise --wait";
            return Err(format!("waited {patience:?} for {names}: {why}"));
        }
        if said.elapsed() > Duration::from_secs(5) {
            tracing::info!("waiting for {names}, for at most {patience:?} in all");
            said = Instant::now();
        }
        std::thread::sleep(LOOK);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(|error| format!("a thread: {error}"))
}

/// Our own port; none if the run is stopped meanwhile.
fn listen(place: &Place, control: &Control) -> Result<Option<TcpListener>, String> {
    let address = &place.addresses[place.process];
    let started = Instant::now();
    while !control.stopping() {
        match TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener)) {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && started.elapsed() < PORT_TAKEN => std::thread::sleep(LOOK),
            Err(error) => {
                let process = place.process;
                let what = format!("process {process} cannot listen at {address}: {error}");
                return Err(format!("{what}; line {} of the hostfile must be a free port of this machine", process + 1));
            }
        }
    }
    Ok(None)
}

/// Where connections come in.
struct Door {
    place: Place,
    greeting: Greeting,
    table: Mutex<Table>,
    /// Whose greeting is awaited.
    callers: AtomicUsize,
}

/// Who is there.
#[derive(Default)]
struct Table {
    seats: std::collections::BTreeMap<usize, Seat>,
    /// Why there will be no cluster.
    error: Option<String>,
    closed: bool,
    strangers: usize,
}

#[derive(Default)]
struct Seat {
    instance: u64,
    rows: Option<TcpStream>,
    words: Option<TcpStream>,
}

/// Ends the threads, however the waiting ended, and hangs up at once on whom they were kept for: the others see that we are gone before
/// we come again.
struct Closing(Arc<Door>);

impl Drop for Closing {
    fn drop(&mut self) {
        let mut table = self.0.table();
        table.closed = true;
        table.seats.clear();
    }
}

impl Door {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nobody panics while holding the table")
    }

    fn listen(self: &Arc<Door>, listener: &TcpListener) {
        while !self.table().closed {
            let Ok((stream, from)) = listener.accept() else {
                std::thread::sleep(LOOK);
                continue;
            };
            if self.callers.fetch_add(1, Ordering::AcqRel) >= MOST_CALLERS {
                self.callers.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let door = Arc::clone(self);
            let welcome = move || {
                let from = from.to_string();
                if let Err(error) = door.welcome(stream, &from) {
                    door.stranger(&from, &error);
                }
                door.callers.fetch_sub(1, Ordering::AcqRel);
            };
            if spawn("greet", welcome).is_err() {
                self.callers.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn stranger(&self, from: &str, error: &std::io::Error) {
        let mut table = self.table();
        table.strangers += 1;
        if table.strangers <= MOST_TOLD {
            tracing::warn!("dropped a connection from {from} to the cluster's port: {error}");
        }
    }

    /// A caller's connection.
    fn welcome(&self, mut stream: TcpStream, from: &str) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(GREETING))?;
        let theirs: Greeting = greeting::read(&mut stream, GREETING)?;
        let mut table = self.table();
        if table.closed {
            return Ok(());
        }
        let refusal = self.objection(&theirs, from, &table);
        let ours = Greeting { purpose: theirs.purpose, ..self.greeting.clone() };
        greeting::write(&mut stream, &Answer { greeting: ours, refusal: refusal.clone() })?;
        match refusal {
            Some(refusal) => table.error = table.error.take().or(Some(refusal)),
            None => table.seat(&theirs, stream),
        }
        Ok(())
    }

    /// Why a caller does not fit.
    fn objection(&self, theirs: &Greeting, from: &str, table: &Table) -> Option<String> {
        let other = format!("process {} (calling from {from})", theirs.process);
        let ours = self.place.process;
        let difference = self.greeting.difference(&other, theirs);
        difference.or_else(|| match theirs.process {
            process if process == ours => {
                Some(format!("two processes have --process {ours}: this one and one that calls from {from}; each needs its own"))
            }
            process if process < ours || process >= self.place.processes() => {
                Some(format!("{other} calls process {ours}, which it must not: all processes need the same hostfile"))
            }
            process => {
                let seat = table.seats.get(&process)?;
                (seat.instance != theirs.instance && seat.is_alive()).then(|| {
                    format!("two processes have --process {process}: one is there, another calls from {from}; each needs its own")
                })
            }
        })
    }

    /// Keeps connections to a process of lower index.
    fn dial(&self, process: usize) {
        let mut pause = PAUSES.0;
        loop {
            {
                let table = self.table();
                if table.closed {
                    return;
                }
                if table.seats.get(&process).is_some_and(|seat| seat.is_full() && seat.is_alive()) {
                    drop(table);
                    std::thread::sleep(LOOK);
                    continue;
                }
            }
            match self.call(process, Purpose::Rows).and_then(|()| self.call(process, Purpose::Words)) {
                Ok(()) => pause = PAUSES.0,
                Err(error) => {
                    tracing::debug!("{}: {error}; trying again", self.place.name(process));
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// One connection to a process of lower index.
    fn call(&self, process: usize, purpose: Purpose) -> std::io::Result<()> {
        let mut stream = connect(&self.place.addresses[process])?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(GREETING))?;
        greeting::write(&mut stream, &Greeting { purpose, ..self.greeting.clone() })?;
        let Answer { greeting: theirs, refusal } = greeting::read(&mut stream, GREETING)?;
        let name = self.place.name(process);
        let other = (theirs.process != process)
            .then(|| format!("at {} is process {}, not {process}: all processes need the same hostfile", name, theirs.process));
        let error =
            self.greeting.difference(&name, &theirs).or(other).or_else(|| refusal.map(|why| format!("{name} says: {why}")));
        let mut table = self.table();
        match error {
            Some(error) => table.error = table.error.take().or(Some(error)),
            None if table.closed => {}
            None => table.seat(&theirs, stream),
        }
        Ok(())
    }
}

/// Each address that the name stands for, for a bounded time.
fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut error = std::io::Error::new(ErrorKind::NotFound, "the name stands for no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DIAL) {
            Ok(stream) => return Ok(stream),
            Err(refused) => error = refused,
        }
    }
    Err(error)
}

impl Table {
    fn seat(&mut self, theirs: &Greeting, stream: TcpStream) {
        let seat = self.seats.entry(theirs.process).or_default();
        if seat.instance != theirs.instance {
            *seat = Seat { instance: theirs.instance, ..Seat::default() };
        }
        match theirs.purpose {
            Purpose::Rows => seat.rows = Some(stream),
            Purpose::Words => seat.words = Some(stream),
        }
    }

    fn absent(&self, place: &Place) -> Vec<usize> {
        let is_there = |process: &usize| self.seats.get(process).is_some_and(|seat| seat.is_full() && seat.is_alive());
        (0..place.processes()).filter(|process| *process != place.process && !is_there(process)).collect()
    }

    fn take(&mut self, place: &Place) -> Team {
        self.closed = true;
        let mut seats = std::mem::take(&mut self.seats);
        let mut seat = |process| seats.remove(&process).map_or((None, None), |seat| (seat.rows, seat.words));
        let (rows, words) = (0..place.processes()).map(&mut seat).unzip();
        Team { rows, words }
    }
}

impl Seat {
    fn is_full(&self) -> bool {
        self.rows.is_some() && self.words.is_some()
    }

    fn is_alive(&self) -> bool {
        self.rows.iter().chain(&self.words).all(is_open)
    }
}

/// Whether the other end has not hung up.
fn is_open(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let open = match stream.peek(&mut [0]) {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).is_ok() && open
}

#[cfg(test)]
mod tests {
    use super::super::greeting::tests::greeting;
    use super::*;
    use std::io::Write;

    /// Places of this many processes on free ports of this machine.
    fn places(processes: usize) -> Vec<Place> {
        let listeners: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<String> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        (0..processes).map(|process| Place { process, addresses: addresses.clone() }).collect()
    }

    fn start(
        place: &Place,
        change: impl FnOnce(&mut Greeting),
        patience: Duration,
    ) -> std::thread::JoinHandle<Result<Option<Team>, String>> {
        let place = place.clone();
        let mut greeting =
            Greeting { processes: place.processes(), instance: 100 + place.process as u64, ..greeting(place.process) };
        change(&mut greeting);
        std::thread::spawn(move || gather(&place, greeting, patience, &Control::default()))
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn all_find_each_other_in_spite_of_strangers() {
        let places = places(3);
        let second = start(&places[2], |_| (), LONG);
        let first = start(&places[0], |_| (), LONG);
        // Strangers at the door, one of whom stays.
        let mut silent = None;
        for bytes in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\0\0\0\0\0\0\0\x09", b""] {
            let until = Instant::now() + LONG;
            let mut stranger = loop {
                match connect(&places[0].addresses[0]) {
                    Ok(stream) => break stream,
                    Err(error) => assert!(Instant::now() < until, "{error}"),
                }
                std::thread::sleep(LOOK);
            };
            stranger.write_all(bytes).unwrap();
            silent = Some(stranger);
        }
        let third = start(&places[1], |_| (), LONG);
        // All of them first: who sees another one leave waits for it to come again.
        let teams = [first, third, second].map(|thread| thread.join().unwrap().unwrap().unwrap());
        for (process, team) in teams.into_iter().enumerate() {
            for links in [&team.rows, &team.words] {
                let there: Vec<usize> = (0..3).filter(|&other| links[other].is_some()).collect();
                assert_eq!(there, (0..3).filter(|&other| other != process).collect::<Vec<_>>());
            }
        }
        drop(silent);
    }

    #[test]
    fn who_does_not_fit_ends_the_start_on_both_sides() {
        let places = places(2);
        let ours = start(&places[0], |_| (), LONG);
        let theirs = start(&places[1], |greeting| greeting.workers = 3, LONG);
        let (ours, theirs) = (ours.join().unwrap().err().unwrap(), theirs.join().unwrap().err().unwrap());
        assert!(ours.contains("has --workers 3, this one (process 0) has --workers 1"), "{ours}");
        assert!(theirs.contains("has --workers 1, this one (process 1) has --workers 3"), "{theirs}");
    }

    #[test]
    fn an_index_is_free_once_its_process_is_gone() {
        let places = places(3);
        let first = start(&places[0], |_| (), LONG);
        // It leaves before the third has come.
        let gone = start(&places[1], |greeting| greeting.instance = 1, Duration::from_millis(500));
        let gone = gone.join().unwrap().err().unwrap();
        assert!(gone.contains("waited 500ms for process 2 of the cluster"), "{gone}");
        let again = start(&places[1], |greeting| greeting.instance = 2, LONG);
        let last = start(&places[2], |_| (), LONG);
        let teams = [first, again, last].map(|thread| thread.join().unwrap().unwrap());
        assert!(teams.iter().all(Option::is_some));
    }

    #[test]
    fn two_processes_with_one_index_are_refused() {
        let elsewhere = places(1)[0].addresses[0].clone();
        let places = places(3);
        let first = start(&places[0], |_| (), LONG);
        let one = start(&places[1], |greeting| greeting.instance = 1, Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(500));
        // The same index at an address of its own: a hostfile that was copied and changed.
        let mut other = places[1].clone();
        other.addresses[1] = elsewhere;
        let two = start(&other, |greeting| greeting.instance = 2, LONG);
        let (first, two) = (first.join().unwrap().err().unwrap(), two.join().unwrap().err().unwrap());
        assert!(first.contains("two processes have --process 1"), "{first}");
        assert!(two.contains("says: two processes have --process 1"), "{two}");
        assert!(one.join().unwrap().is_err());
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        let place = places(2).remove(0);
        let control = Control::default();
        control.stop();
        assert!(gather(&place, Greeting { processes: 2, ..greeting(0) }, LONG, &control).unwrap().is_none());
    }
}
