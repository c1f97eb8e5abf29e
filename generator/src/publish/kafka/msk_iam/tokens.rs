//! All clients share one token. A thread of its own makes each; who asks waits for it, for a bounded time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A bit longer than a token may take to be made, so that its own words for a failure arrive.
const WAIT: Duration = Duration::from_secs(6);
/// A token that is about to expire may not outlive a login.
const LEAST_LEFT: Duration = Duration::from_secs(20);
/// A failure is told again, without waiting for the next try, for this long. librdkafka asks again after 10 s.
const RECENT: Duration = Duration::from_secs(60);

/// A token, until when it is good.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: String,
    pub(super) made: SystemTime,
    pub(super) expires: SystemTime,
}

impl Token {
    fn left(&self) -> Duration {
        self.expires.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// librdkafka asks for another one when a fifth of its life is left.
    fn is_fresh(&self) -> bool {
        self.left() >= self.expires.duration_since(self.made).unwrap_or_default() / 2
    }
}

type Make = Box<dyn Fn() -> Result<Token, String> + Send + Sync>;

/// The newest token, and how a new one is made.
pub(super) struct Tokens {
    make: Make,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Since the last token.
    failure: Option<(Instant, String)>,
    /// A thread makes a token.
    making: bool,
}

impl Tokens {
    pub(super) fn new(make: Make) -> Tokens {
        Tokens { make, state: Mutex::default(), changed: Condvar::new() }
    }

    /// A token that is alive: a fresh one, or the one before if none can be made now.
    pub(super) fn get_or_old(self: &Arc<Self>) -> Result<Token, String> {
        self.get().or_else(|why| {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.token.clone().filter(|token| token.left() >= LEAST_LEFT).ok_or(why)
        })
    }

    /// A fresh token, or why there is none. A client that is told why keeps the one that it has, and asks again.
    pub(super) fn get(self: &Arc<Self>) -> Result<Token, String> {
        let started = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.making && !state.token.as_ref().is_some_and(Token::is_fresh) {
            let tokens = Arc::clone(self);
            let thread = std::thread::Builder::new().name("msk-iam".to_owned()).spawn(move || tokens.renew());
            thread.map_err(|error| format!("the AWS credentials cannot be fetched: {error}"))?;
            state.making = true;
        }
        loop {
            if let Some(token) = state.token.as_ref().filter(|token| token.is_fresh()) {
                return Ok(token.clone());
            }
            if let Some((_, why)) = state.failure.as_ref().filter(|(at, _)| at.elapsed() < RECENT) {
                return Err(why.clone());
            }
            let wait = WAIT.saturating_sub(started.elapsed());
            if wait.is_zero() {
                return Err(format!("no AWS credentials arrived within {WAIT:?}"));
            }
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn renew(&self) {
        let made = (self.make)().and_then(|token| match token.left() >= LEAST_LEFT {
            true => Ok(token),
            false => Err(format!("the AWS credentials expire within {LEAST_LEFT:?}")),
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.making = false;
        match made {
            Ok(token) => (state.token, state.failure) = (Some(token), None),
            Err(why) => state.failure = Some((Instant::now(), why)),
        }
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Sender, channel};

    fn token(value: u32, age: u64, left: u64) -> Token {
        let now = SystemTime::now();
        Token { value: value.to_string(), made: now - Duration::from_secs(age), expires: now + Duration::from_secs(left) }
    }

    /// Tokens that a function of the number of the try makes.
    fn tokens(make: impl Fn(u32) -> Result<Token, String> + Send + Sync + 'static) -> (Arc<Tokens>, Arc<AtomicU32>) {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        (Arc::new(Tokens::new(Box::new(move || make(counted.fetch_add(1, Ordering::SeqCst))))), tries)
    }

    /// Who comes to the gate waits until something is sent.
    fn gate() -> (Sender<()>, impl Fn() -> Result<(), String> + Send + Sync) {
        let (go, gate) = channel();
        let gate = Mutex::new(gate);
        (go, move || gate.lock().unwrap().recv().map_err(|error| error.to_string()))
    }

    fn value(tokens: &Arc<Tokens>) -> Result<String, String> {
        tokens.get().map(|token| token.value)
    }

    /// Asks until the answer is this one: a new token is made in the background.
    fn becomes(tokens: &Arc<Tokens>, expected: Result<&str, &str>) {
        let started = Instant::now();
        loop {
            let got = value(tokens);
            if got.as_deref().map_err(String::as_str) == expected {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{got:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn all_share_one_token_while_it_is_fresh() {
        let (tokens, tries) = tokens(|number| Ok(token(number, 0, 900)));
        let others: Vec<_> =
            (0..8).map(|_| Arc::clone(&tokens)).map(|tokens| std::thread::spawn(move || value(&tokens))).collect();
        assert!(others.into_iter().all(|other| other.join().unwrap().as_deref() == Ok("0")));
        assert_eq!((value(&tokens).as_deref(), tries.load(Ordering::SeqCst)), (Ok("0"), 1));
    }

    #[test]
    fn the_old_one_serves_new_clients_while_none_can_be_made() {
        let (old, _) = tokens(|number| match number {
            0 => Ok(token(0, 0, 900)),
            _ => Err("nobody".to_owned()),
        });
        assert_eq!(value(&old).as_deref(), Ok("0"));
        let used_up = token(0, 720, 180);
        old.state.lock().unwrap().token = Some(used_up);
        assert_eq!(value(&old).unwrap_err(), "nobody", "a client that asks keeps its own, and asks again");
        assert_eq!(old.get_or_old().unwrap().value, "0");
    }

    #[test]
    fn a_renewal_gets_the_new_one() {
        let (go, gate) = gate();
        let (tokens, _) = tokens(move |number| match number {
            0 => Ok(token(0, 0, 900)),
            _ => gate().map(|()| token(number, 0, 900)),
        });
        assert_eq!(value(&tokens).as_deref(), Ok("0"));
        tokens.state.lock().unwrap().token = Some(token(0, 720, 180));
        go.send(()).unwrap();
        assert_eq!(value(&tokens).as_deref(), Ok("1"));
    }

    #[test]
    fn a_failure_is_told_without_waiting_again_and_tried_again() {
        let (go, gate) = gate();
        let (tokens, _) = tokens(move |number| match number {
            0 => Err("nobody".to_owned()),
            1 => gate().and(Err("still nobody".to_owned())),
            _ => Ok(token(number, 0, 900)),
        });
        assert_eq!(value(&tokens).unwrap_err(), "nobody");
        assert_eq!(value(&tokens).unwrap_err(), "nobody");
        go.send(()).unwrap();
        becomes(&tokens, Err("still nobody"));
        becomes(&tokens, Ok("2"));
    }

    #[test]
    fn a_token_at_its_end_is_not_handed_out() {
        let (old, _) = tokens(|_| Err("nobody".to_owned()));
        old.state.lock().unwrap().token = Some(token(0, 890, 10));
        assert_eq!(old.get_or_old().map(|token| token.value).unwrap_err(), "nobody");
        let (short, _) = tokens(|number| Ok(token(number, 0, 19)));
        assert_eq!(value(&short).unwrap_err(), "the AWS credentials expire within 20s");
    }
}
