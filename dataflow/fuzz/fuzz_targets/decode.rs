//! Any bytes: the decoder neither panics nor differs from the judge, and records before it change nothing.
//!
//! Takes the decoder's source instead of the crate, which would bring the Kafka and SQLite clients into every fuzz build.
//!
//! `cargo fuzz run decode -- -dict=json.dict -max_len=1024` finds its way into events sooner.
#![no_main]

extern crate self as tidemark_dataflow;

#[path = "../../src/decode/mod.rs"]
pub mod decode;
#[path = "../../tests/judge/mod.rs"]
mod judge;

use decode::Decoder;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    /// Kept between inputs, as in production: scratch and remembered dates must not leak into answers.
    static DECODER: RefCell<Decoder> = RefCell::default();
}

fuzz_target!(|payload: &[u8]| {
    DECODER.with_borrow_mut(|decoder| drop(judge::agree(decoder, Some(payload))));
});
