//! How admitted events travel to the worker that owns their viewer.
//!
//! Between threads of one process a batch is moved, and nothing here runs. Between processes it is written as rows of plain bytes:
//! [`row`] is that form, [`pod`] and `abomonated` are the two codecs for it. Timely's own way, bincode, takes each field by itself
//! and several times as long (`benches/codecs.rs`). What is small after `fold`, differences of rows, marks and changes, travels by
//! bincode.
//!
//! Timely lays messages out in units of eight bytes and does not promise more than that, not even to a codec that keeps to it when
//! another one does not: a batch is a multiple of eight bytes long, and readers take any alignment.

#[cfg(feature = "abomonation")]
pub mod abomonated;
pub mod pod;
pub mod row;

use crate::flow::Admitted;
use std::io::Write;
use timely::bytes::arc::Bytes;
use timely::container::{Accountable, DrainContainer, PushInto, SizableContainer};
use timely::dataflow::channels::ContainerBytes;

#[cfg(feature = "abomonation")]
use abomonated as codec;
/// The codec that this build has.
#[cfg(not(feature = "abomonation"))]
use pod as codec;

/// What the codec is called: processes that differ in it must not meet.
pub const CODEC: &str = codec::NAME;

/// A batch of events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events(pub Vec<Admitted>);

impl Accountable for Events {
    fn record_count(&self) -> i64 {
        self.0.record_count()
    }
}

impl DrainContainer for Events {
    type Item<'a> = Admitted;
    type DrainIter<'a> = std::vec::Drain<'a, Admitted>;

    fn drain(&mut self) -> Self::DrainIter<'_> {
        self.0.drain(..)
    }
}

impl SizableContainer for Events {
    fn at_capacity(&self) -> bool {
        self.0.at_capacity()
    }

    fn ensure_capacity(&mut self, stash: &mut Option<Events>) {
        let mut spare = stash.take().map(|events| events.0);
        self.0.ensure_capacity(&mut spare);
        *stash = spare.map(Events);
    }
}

impl PushInto<Admitted> for Events {
    fn push_into(&mut self, event: Admitted) {
        self.0.push(event);
    }
}

impl ContainerBytes for Events {
    fn from_bytes(bytes: Bytes) -> Events {
        Events(codec::decode(&bytes))
    }

    fn length_in_bytes(&self) -> usize {
        self.0.len() * row::BYTES
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        codec::encode(&self.0, writer).expect("timely gives room for what was announced");
    }
}
