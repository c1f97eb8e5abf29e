//! Which signals ask a program to end.

/// Whether the program was started to outlive its terminal, as `nohup` does: then SIGHUP stays ignored. Otherwise it asks for the end
/// as SIGTERM does. Where the system does not tell, it was not.
pub fn hangup_is_ignored() -> bool {
    const SIGHUP: u32 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}
