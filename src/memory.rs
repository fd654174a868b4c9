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
