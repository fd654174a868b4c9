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
