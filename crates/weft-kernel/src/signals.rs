//! What a process does on signals.

use std::io;

use nix::libc;
use nix::sys::signal::SigSet;

/// `struct sigaction` as the kernel has it, with room for any architecture's: all zeros are the default.
const DEFAULT: [u64; 8] = [0; 8];
const LAST: libc::c_int = 64;
/// Bytes of the kernel's set of signals.
const SET: usize = 8;

/// Every signal does what it does by default, and none is blocked: what a process ignores and blocks would outlive
/// execve(2), and be another program's.
#[allow(unsafe_code, reason = "libraries do not set the two signals that the C library keeps for itself")]
pub fn reset_signals() -> io::Result<()> {
    for signal in (1..=LAST).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        let none: *const u64 = std::ptr::null();
        // SAFETY: the kernel reads `DEFAULT`, which is longer than what it reads and lives through the call, and writes
        // nothing, as there is no place for the old action. No handler is set.
        let done = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, SET) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    SigSet::empty().thread_set_mask().map_err(io::Error::from)
}
