//! Bytes to an event, or a reason why not. Pure: no I/O, no clock.
