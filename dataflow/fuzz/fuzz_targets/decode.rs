//! Any bytes: the decoder neither panics nor differs from the judge, and records before it change nothing.
#![no_main]

#[path = "../../tests/judge/mod.rs"]
mod judge;

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tidemark_dataflow::decode::Decoder;

thread_local! {
    /// Kept between inputs, as in production: scratch and remembered dates must not leak into answers.
    static DECODER: RefCell<Decoder> = RefCell::default();
}

fuzz_target!(|payload: &[u8]| {
    DECODER.with_borrow_mut(|decoder| drop(judge::agree(decoder, Some(payload))));
});
