//! Memory of this process in bytes, as Linux counts it.

/// Forgets the peak so far and gives what is in use now.
pub(crate) fn begin() -> u64 {
    // Where it cannot be forgotten, the peak includes that of reading the case.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
    entry("VmRSS:")
}

/// The peak since [`begin`].
pub(crate) fn peak() -> u64 {
    entry("VmHWM:")
}

fn entry(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
