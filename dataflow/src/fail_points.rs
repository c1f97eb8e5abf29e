//! Points of commit and checkpoint at which a test ends the process as `kill -9` would. Only with the feature `failpoints`; without
//! it they are nothing.

/// A step before or after which a crash must change no number.
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}
pub(crate) use fail_point;

/// All of them, in the order of what happens.
#[cfg(feature = "failpoints")]
pub const ALL: [&str; 13] = [
    "took-over",
    "commit-before-transaction",
    "commit-after-fence",
    "commit-after-rows",
    "commit-after-dead-letters",
    "commit-after-progress",
    "commit-after-commit",
    "snapshot-begun",
    "part-created",
    "part-half-written",
    "part-not-persisted",
    "part-persisted",
    "checkpoint-named",
];

/// Arms the point that `TIDEMARK_FAIL_POINT=NAME:N` names: the process ends there the N-th time.
#[cfg(feature = "failpoints")]
pub fn arm() -> Result<(), String> {
    use std::sync::atomic::{AtomicU64, Ordering};
    let Ok(text) = std::env::var("TIDEMARK_FAIL_POINT") else { return Ok(()) };
    let wrong = || format!("TIDEMARK_FAIL_POINT={text}; allowed: NAME:N, with N from 1 and a NAME of {ALL:?}");
    let (name, times) = text.split_once(':').ok_or_else(wrong)?;
    let left = AtomicU64::new(times.parse().ok().filter(|&times| times > 0).ok_or_else(wrong)?);
    if !ALL.contains(&name) {
        return Err(wrong());
    }
    let end = move || {
        if left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    };
    fail::cfg_callback(name, end)
}
