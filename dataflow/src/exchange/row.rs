//! An event as nine words without padding: what the codecs write is all of it and nothing else.

use crate::flow::Admitted;
use crate::keys::{EventKey, StreamKey, ViewerKey};
use bytemuck::{Pod, Zeroable};
use tidemark_model::{Cents, Kind, Nanos};

/// Bytes of a row: a multiple of eight, as timely's messages want it.
pub const BYTES: usize = size_of::<Row>();

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Row {
    viewer: [u64; 2],
    stream: [u64; 2],
    id: [u64; 2],
    ts: i64,
    amount: i64,
    /// The position in [`Kind::ALL`], [`HAS_ID`] and [`BY_USER`].
    kind: u64,
}

/// Set in `kind` if the event has an id.
const HAS_ID: u64 = 1 << 32;
/// Set in `kind` if the viewer is a user.
const BY_USER: u64 = 1 << 33;

const _: () = assert!(BYTES == 72 && BYTES.is_multiple_of(8));

impl From<&Admitted> for Row {
    fn from(event: &Admitted) -> Row {
        let EventKey(a, b) = event.id.unwrap_or(EventKey(0, 0));
        Row {
            viewer: [event.viewer.0, event.viewer.1],
            stream: [event.stream.0, event.stream.1],
            id: [a, b],
            ts: event.ts.0,
            amount: event.amount.0,
            kind: event.kind as u64 | if event.id.is_some() { HAS_ID } else { 0 } | if event.by_user { BY_USER } else { 0 },
        }
    }
}

impl From<&Row> for Admitted {
    fn from(row: &Row) -> Admitted {
        let kind = usize::try_from(row.kind & !HAS_ID & !BY_USER).ok().and_then(|kind| Kind::ALL.get(kind));
        Admitted {
            viewer: ViewerKey(row.viewer[0], row.viewer[1]),
            by_user: row.kind & BY_USER != 0,
            stream: StreamKey(row.stream[0], row.stream[1]),
            id: (row.kind & HAS_ID != 0).then_some(EventKey(row.id[0], row.id[1])),
            ts: Nanos(row.ts),
            amount: Cents(row.amount),
            kind: *kind.expect("the processes are of the same build: the greeting sees to that"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Events that differ in all that a row holds.
    pub fn events(count: u64) -> Vec<Admitted> {
        let event = |i: u64| Admitted {
            viewer: ViewerKey(i, !i),
            by_user: i.is_multiple_of(5),
            stream: StreamKey(i ^ 0x55, i << 32),
            id: (!i.is_multiple_of(3)).then_some(EventKey(i << 1, i << 2)),
            ts: Nanos(i64::MAX - i.cast_signed()),
            amount: Cents(i.cast_signed() - 5),
            kind: Kind::ALL[usize::try_from(i % 6).unwrap()],
        };
        (0..count).map(event).collect()
    }

    /// What both codecs must do: any alignment is read, the length is as announced, and an odd number of bytes is refused.
    pub fn keeps_its_promises(
        encode: impl Fn(&[Admitted], &mut Vec<u8>) -> std::io::Result<()>,
        decode: impl Fn(&[u8]) -> Vec<Admitted>,
    ) {
        for count in [0, 1, 7, 300] {
            let events = events(count);
            let mut bytes = Vec::new();
            encode(&events, &mut bytes).unwrap();
            assert_eq!(bytes.len(), events.len() * BYTES);
            for shift in 0..8 {
                let mut shifted = vec![0xaa; shift];
                shifted.extend(&bytes);
                assert_eq!(decode(&shifted[shift..]), events, "shifted by {shift}");
            }
        }
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decode(&[0; BYTES + 8])));
        assert!(cut.is_err(), "a part of a row is no row");
    }

    #[test]
    fn a_kind_that_is_none_is_refused() {
        let row = Row { kind: 6, ..Row::from(&events(1)[0]) };
        assert!(std::panic::catch_unwind(|| Admitted::from(&row)).is_err());
    }
}
