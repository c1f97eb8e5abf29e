//! librdkafka's admin calls: a question is sent at once, and its answer arrives in a queue that is looked at later. A worker never waits.

use super::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;
use std::ffi::{CStr, c_char};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// How often a queue is looked at while an answer is waited for.
const LOOK: Duration = Duration::from_millis(1);

/// Where answers arrive. Drop it before the client that the questions are sent through.
pub struct Answers(NonNull<sys::rd_kafka_queue_t>);

impl Answers {
    /// A queue of this client, which outlives it.
    pub fn new(consumer: &BaseConsumer<Context>) -> Answers {
        // SAFETY: the client is alive; the queue is released once, when this is dropped.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Answers(NonNull::new(queue).expect("librdkafka aborts when memory is out"))
    }

    /// The queue, for a call that sends a question.
    pub fn raw(&self) -> *mut sys::rd_kafka_queue_t {
        self.0.as_ptr()
    }

    /// The next answer, if one comes within this time. librdkafka itself waits by the wall clock: one that is set back would make it wait
    /// for as long again. So it is only looked at.
    pub fn next(&self, wait: Duration) -> Option<Answer> {
        let started = Instant::now();
        loop {
            // SAFETY: the queue is alive; the event is ours from here on.
            let answer = NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), 0) }).map(Answer);
            if answer.is_some() || started.elapsed() >= wait {
                return answer;
            }
            std::thread::sleep(LOOK.min(wait));
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        // SAFETY: the queue came from librdkafka, is released once and not used after.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// An answer, or the news that none came.
pub struct Answer(NonNull<sys::rd_kafka_event_t>);

impl Answer {
    /// The event; what it lends lives as long as this.
    pub fn raw(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }

    /// Why there is no answer, if there is none.
    pub fn error(&self) -> Option<String> {
        // SAFETY: the event is alive until `self` is dropped, and the text with it; it is copied.
        unsafe {
            let none = sys::rd_kafka_event_error(self.0.as_ptr()) == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            (!none).then(|| text(sys::rd_kafka_event_error_string(self.0.as_ptr())))
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the event came from librdkafka, is destroyed once and not used after.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// A copy of a text.
///
/// # Safety
/// `words` is null or a C string.
pub unsafe fn text(words: *const c_char) -> String {
    if words.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}
