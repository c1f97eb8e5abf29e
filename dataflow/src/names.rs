//! Names of streams, as one worker's readers meet them: the key of each, and whether its name was told for a window.
//!
//! Few streams have most of the events, so those that were met last are remembered by their names as they stand in the event, and
//! neither hashed anew nor looked for among all that was told.

use crate::keys::{KeySet, Keys, StreamKey};
use hashbrown::DefaultHashBuilder;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use tidemark_model::Minute;

/// Places for streams that were met last, a power of two: half a megabyte.
const PLACES: usize = 8_192;
/// The longest name that is remembered: with it a place is a cache line. Longer ones are hashed each time.
const LONGEST: usize = 43;

/// What is known of streams' names.
pub struct Names {
    /// By window: whose names were told for it.
    told: BTreeMap<Minute, KeySet<StreamKey>>,
    /// The stream that was met last of those that share a place.
    met: Box<[Met]>,
    hasher: DefaultHashBuilder,
}

/// A stream that was met.
#[derive(Clone)]
#[repr(align(64))]
struct Met {
    stream: StreamKey,
    /// A window for which its name was told.
    told: Minute,
    /// Bytes of its name; zero: nobody is here.
    length: u8,
    name: [u8; LONGEST],
}

const _: () = assert!(size_of::<Met>() == 64);

impl Default for Names {
    fn default() -> Names {
        let nobody = Met { stream: StreamKey(0, 0), told: Minute(0), length: 0, name: [0; LONGEST] };
        Names { told: BTreeMap::new(), met: vec![nobody; PLACES].into(), hasher: DefaultHashBuilder::default() }
    }
}

impl Names {
    /// The key of a stream of which an event of this window was met, and whether its name is to be told for the window: the first time.
    pub fn meet(&mut self, name: &str, minute: Minute, keys: &Keys) -> (StreamKey, bool) {
        if name.is_empty() || name.len() > LONGEST {
            let stream = keys.stream(name);
            return (stream, self.tell(stream, minute));
        }
        let place = usize::try_from(self.hasher.hash_one(name.as_bytes()) % PLACES as u64).expect("fewer than that");
        let Met { stream, told, length, name: other } = &self.met[place];
        let stream = match other[..usize::from(*length)] == *name.as_bytes() {
            true if *told == minute => return (*stream, false),
            true => *stream,
            false => keys.stream(name),
        };
        let first = self.tell(stream, minute);
        let met = &mut self.met[place];
        met.stream = stream;
        met.told = minute;
        met.length = u8::try_from(name.len()).expect("it is short");
        met.name[..name.len()].copy_from_slice(name.as_bytes());
        (stream, first)
    }

    /// Whether this is the first time for the window.
    fn tell(&mut self, stream: StreamKey, minute: Minute) -> bool {
        self.told.entry(minute).or_default().insert(stream)
    }

    /// Forgets what was told for windows before `first_open`: no event of theirs is met again.
    pub fn close(&mut self, first_open: Minute) {
        if self.told.first_key_value().is_some_and(|(&minute, _)| minute < first_open) {
            self.told = self.told.split_off(&first_open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::HashKey;

    #[test]
    fn a_name_is_told_once_a_window_however_many_share_its_place_and_however_long_it_is() {
        let (keys, mut names) = (Keys::new(HashKey([7; 16])), Names::default());
        let long = "x".repeat(LONGEST);
        let all: Vec<String> = (0..2 * PLACES)
            .map(|number| format!("stream_{number}"))
            .chain([long.clone(), format!("{long}x"), format!("{long}xyz"), "stream_1\0".to_owned(), "ström".to_owned()])
            .collect();
        for (round, minute) in [5, 6, 5, 6].map(Minute).into_iter().enumerate() {
            for name in &all {
                for again in [false, true] {
                    assert_eq!(names.meet(name, minute, &keys), (keys.stream(name), round < 2 && !again), "{name:?} {minute}");
                }
            }
        }
        names.close(Minute(6));
        assert_eq!(names.told.keys().collect::<Vec<_>>(), [&Minute(6)]);
        assert!(all.iter().all(|name| !names.meet(name, Minute(6), &keys).1 && names.meet(name, Minute(7), &keys).1));
    }
}
