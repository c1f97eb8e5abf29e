//! The answer by naive batch recomputation, written from the design and not from the dataflow.
