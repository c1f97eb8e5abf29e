//! What holds the run up at the moment. Each trouble is one log line when it begins and one when it ends; the heartbeat writes all of
//! them into the store, where `/health` finds them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

/// A standstill that is told: no turn, or no slice, for this many microseconds.
pub const STANDSTILL: i64 = 5_000_000;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The brokers, or the leaders of some partitions, do not answer the worker with this index.
    Log(usize),
    /// A commit is being tried again.
    Store,
    /// This machine's clock was stepped, or disagrees with the store's.
    Clock,
    /// A part of the run stands still.
    Standstill,
}

/// All that holds a run up.
#[derive(Debug, Default)]
pub struct Troubles {
    /// At most one of each kind.
    present: Mutex<BTreeMap<Kind, (Instant, String)>>,
}

impl Troubles {
    /// Something holds the run up. It is logged when it begins; later words of the same trouble only replace what `/health` says.
    pub fn tell(&self, kind: Kind, sentence: String) {
        let mut present = self.present.lock().expect("nobody panics while holding the troubles");
        match present.get_mut(&kind) {
            Some((_, known)) => *known = sentence,
            None => {
                tracing::warn!(trouble = ?kind, "{sentence}");
                present.insert(kind, (Instant::now(), sentence));
            }
        }
    }

    /// It holds the run up no longer.
    pub fn over(&self, kind: Kind) {
        let ended = self.present.lock().expect("nobody panics while holding the troubles").remove(&kind);
        if let Some((since, sentence)) = ended {
            tracing::info!(trouble = ?kind, after = ?since.elapsed(), "over: {sentence}");
        }
    }

    /// The run that had them is over. The next one finds out by itself what holds it up.
    pub fn forget(&self) {
        self.present.lock().expect("nobody panics while holding the troubles").clear();
    }

    /// All sentences, or none.
    pub fn sentence(&self) -> Option<String> {
        let present = self.present.lock().expect("nobody panics while holding the troubles");
        let sentences: Vec<&str> = present.values().map(|(_, sentence)| sentence.as_str()).collect();
        (!sentences.is_empty()).then(|| sentences.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_present_from_its_first_word_to_its_end() {
        let troubles = Troubles::default();
        assert_eq!(troubles.sentence(), None);
        troubles.tell(Kind::Store, "the store does not answer".to_owned());
        troubles.tell(Kind::Log(0), "no broker answers".to_owned());
        troubles.tell(Kind::Log(0), "the leader of partition 3 does not answer".to_owned());
        assert_eq!(troubles.sentence().as_deref(), Some("the leader of partition 3 does not answer; the store does not answer"));
        troubles.over(Kind::Log(0));
        troubles.over(Kind::Log(0));
        assert_eq!(troubles.sentence().as_deref(), Some("the store does not answer"));
    }
}
