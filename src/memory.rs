//! The allocator of the whole program.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Gives memory that was freed back to the system now: the allocator keeps it for a while, and a library with an
/// allocator of its own cannot use what it keeps.
pub(crate) fn release() {
    #[allow(unsafe_code, reason = "the allocator's own interface is in C")]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Keeps memory that was freed for what comes next: the buffers of a training step are those of the last one, and fresh pages cost
/// a tenth of a step.
pub(crate) fn keep() {
    /// `mi_option_purge_delay` of mimalloc 2 and 3; -1 is never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    #[allow(unsafe_code, reason = "the allocator's own interface is in C")]
    // SAFETY: it may be called at any time, from any thread, and an option is a number.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

/// The most memory that this process has had at once, in bytes; known on Linux.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_holds_what_is_used() {
        let block = vec![1u8; 300 << 20];
        let peak = peak().unwrap();
        assert!((block.len() as u64..1 << 40).contains(&peak), "{peak}");
    }
}
