//! Memory that loading took.

use nix::libc;

/// Gives what is free back to the kernel. For every loader the library reads the running kernel's type information, which no
/// program here needs: 20 MB in small pieces, which the allocator would keep for good.
#[allow(unsafe_code, reason = "no library offers it")]
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and touches nothing that is in use; glibc allows it at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
