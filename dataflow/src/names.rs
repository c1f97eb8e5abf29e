//! Names of streams, as one worker's readers meet them: the key of each, and up to which window its name was told.
//!
//! Few streams have most of the events, so those that were met last are remembered by their names as they stand in the event, and
//! neither hashed anew nor looked for among all that was told.

use crate::keys::{KeyMap, Keys, StreamKey, give_back_room};
use hashbrown::DefaultHashBuilder;
use hashbrown::hash_map::Entry;
use std::hash::BuildHasher;
use tidemark_model::Minute;

/// Places for streams that were met last, a power of two: half a megabyte.
const PLACES: usize = 8_192;
/// The longest name that is remembered: with it a place is a cache line. Longer ones are hashed each time.
const LONGEST: usize = 43;

/// What is known of streams' names.
pub struct Names {
    /// The newest window for which the name was told of each stream. It is known for older ones too: they are closed first.
    told: KeyMap<StreamKey, Minute>,
    /// No window before this one is open.
    first_open: Minute,
    /// The stream that was met last of those that share a place.
    met: Box<[Met]>,
    hasher: DefaultHashBuilder,
}

/// A stream that was met.
#[derive(Clone)]
#[repr(align(64))]
struct Met {
    stream: StreamKey,
    /// A window up to which its name was told.
    told: Minute,
    /// Bytes of its name; zero: nobody is here.
    length: u8,
    name: [u8; LONGEST],
}

const _: () = assert!(size_of::<Met>() == 64);

impl Default for Names {
    fn default() -> Names {
        let nobody = Met { stream: StreamKey(0, 0), told: Minute(0), length: 0, name: [0; LONGEST] };
        Names {
            told: KeyMap::default(),
            first_open: Minute(0),
            met: vec![nobody; PLACES].into(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Names {
    /// The key of a stream of which an event of this window was met, and whether its name is to be told for the window: the first time that
    /// it or a newer one is met.
    pub fn meet(&mut self, name: &str, minute: Minute, keys: &Keys) -> (StreamKey, bool) {
        if name.is_empty() || name.len() > LONGEST {
            let stream = keys.stream(name);
            return (stream, self.tell(stream, minute));
        }
        let place = usize::try_from(self.hasher.hash_one(name.as_bytes()) % PLACES as u64).expect("fewer than that");
        let Met { stream, told, length, name: other } = &self.met[place];
        let stream = match other[..usize::from(*length)] == *name.as_bytes() {
            true if *told >= minute => return (*stream, false),
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

    /// Whether the name is to be told for the window.
    fn tell(&mut self, stream: StreamKey, minute: Minute) -> bool {
        match self.told.entry(stream) {
            Entry::Occupied(told) if *told.get() >= minute => false,
            Entry::Occupied(mut told) => {
                told.insert(minute);
                true
            }
            Entry::Vacant(stream) => {
                stream.insert(minute);
                true
            }
        }
    }

    /// Forgets what was told for windows before `first_open`: no event of theirs is met again.
    pub fn close(&mut self, first_open: Minute) {
        if first_open > self.first_open {
            self.first_open = first_open;
            self.told.retain(|_, told| *told >= first_open);
            give_back_room(&mut self.told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::HashKey;

    #[test]
    fn a_name_is_told_once_for_a_newer_window_however_many_share_its_place_and_however_long_it_is() {
        let (keys, mut names) = (Keys::new(HashKey([7; 16])), Names::default());
        let long = "x".repeat(LONGEST);
        let all: Vec<String> = (0..2 * PLACES)
            .map(|number| format!("stream_{number}"))
            .chain([long.clone(), format!("{long}x"), format!("{long}xyz"), "stream_1\0".to_owned(), "ström".to_owned()])
            .collect();
        for (minute, newer) in [(5, true), (6, true), (5, false), (6, false), (1, false)] {
            for name in &all {
                for again in [false, true] {
                    let told = names.meet(name, Minute(minute), &keys);
                    assert_eq!(told, (keys.stream(name), newer && !again), "{name:?} {minute}");
                }
            }
        }
        // However many windows are open, what is remembered grows with the streams.
        assert_eq!(names.told.len(), all.len());
        assert!(names.meet("stream_7", Minute(8), &keys).1);
        names.close(Minute(7));
        assert_eq!(names.told.values().collect::<Vec<_>>(), [&Minute(8)]);
        let told: Vec<&String> = all.iter().filter(|name| names.meet(name, Minute(7), &keys).1).collect();
        assert!(told.len() == all.len() - 1 && !told.iter().any(|name| *name == "stream_7"));
    }
}
