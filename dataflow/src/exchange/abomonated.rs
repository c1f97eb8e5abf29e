//! Rows by the crate abomonation: an optional codec, off by default, behind the cargo feature `abomonation`.
//!
//! # Audit exception: RUSTSEC-2021-0120
//!
//! The crate is unsound in general, and no version without the faults exists: it reads types at addresses that are not aligned for
//! them, it relies on the layout of types that have none, it writes padding and pointers out, and `decode` gives out references
//! whose memory it has written to. Who turns the feature on accepts the exception that `deny.toml` states; it is tenable only
//! because of all of these, and each of them is seen to here:
//!
//! - Only [`Row`] goes through it: `repr(C)`, without padding (it is `Pod`, which the compiler checks), without pointers, so that
//!   nothing uninitialised and no address is ever written, and any bytes are a row.
//! - Bytes are copied into memory that is aligned for eight bytes before they are read, whatever their alignment was, and values are
//!   copied out of it at once. Under Tree Borrows that is defined; under Stacked Borrows every use of `decode` is not.
//! - `Vec` and `String` never go through it: it would write their headers, pointers included.
//! - Both ends are the same build (the greeting compares it) on a trusted network. Nothing that it wrote is kept on disk.
//!
//! It gains nothing over bytemuck: it writes as fast, and reads two nanoseconds an event slower, because of the copy into aligned
//! memory (`benches/codecs.rs`).

use super::row::{BYTES, Row};
use crate::flow::Admitted;
use abomonation::Abomonation;
use std::io::Write;

/// The codec's name.
pub const NAME: &str = "abomonation";

/// It has nothing outside itself that would have to be written: the trait's defaults do nothing.
impl Abomonation for Row {}

/// Writes events.
pub fn encode(events: &[Admitted], writer: &mut impl Write) -> std::io::Result<()> {
    for event in events {
        // SAFETY: a row is `Pod`: all of its bytes are initialised, and none of them is a pointer.
        unsafe { abomonation::encode(&Row::from(event), writer)? };
    }
    Ok(())
}

/// Reads what [`encode`] wrote, at any alignment.
pub fn decode(bytes: &[u8]) -> Vec<Admitted> {
    assert!(bytes.len().is_multiple_of(BYTES), "a batch is whole rows");
    // Words, for their alignment: it is that of a row.
    let mut words = vec![0_u64; bytes.len() / size_of::<u64>()];
    let aligned: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    aligned.copy_from_slice(bytes);
    let mut events = Vec::with_capacity(bytes.len() / BYTES);
    let mut rest = aligned;
    while !rest.is_empty() {
        // SAFETY: the memory is ours alone, aligned for a row because rows are whole words long, and any bytes are a row.
        let (row, more) = unsafe { abomonation::decode::<Row>(rest) }.expect("whole rows are left");
        events.push(Admitted::from(row));
        rest = more;
    }
    events
}

const _: () = assert!(align_of::<Row>() == align_of::<u64>());

#[cfg(test)]
mod tests {
    use crate::exchange::row::tests::keeps_its_promises;

    #[test]
    fn what_is_written_is_read() {
        keeps_its_promises(super::encode, super::decode);
    }

    #[test]
    fn both_codecs_write_the_same() {
        let events = crate::exchange::row::tests::events(10);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        super::encode(&events, &mut ours).unwrap();
        crate::exchange::pod::encode(&events, &mut theirs).unwrap();
        assert_eq!(ours, theirs);
    }
}
