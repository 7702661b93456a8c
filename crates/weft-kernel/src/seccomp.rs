//! System call filters that were compiled before (seccomp(2)).

use std::io;

use nix::libc;

/// Bytes of one instruction (`struct sock_filter`).
const INSTRUCTION: usize = 8;

/// Puts a filter on the calling thread, for good: instructions of classic BPF in the machine's byte order, as
/// `seccomp_export_bpf(3)` writes them. Without `no_new_privs` the kernel wants `CAP_SYS_ADMIN`.
#[allow(unsafe_code, reason = "no library loads a filter without setting no_new_privs as well")]
pub fn load_syscall_filter(program: &[u8]) -> io::Result<()> {
    let (instructions, rest) = program.as_chunks::<INSTRUCTION>();
    let count = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    if count == 0 || !rest.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; INSTRUCTION]| libc::sock_filter {
        code: u16::from_ne_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
    };
    let mut instructions: Vec<libc::sock_filter> = instructions.iter().map(instruction).collect();
    let program = libc::sock_fprog { len: count, filter: instructions.as_mut_ptr() };
    // SAFETY: `program` says where `count` instructions are, and both live through the call; the kernel only reads and
    // checks them.
    let loaded =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if loaded == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_is_refused() {
        for program in [&[][..], &[0; 7], &[0; 9], &vec![0; 8 * 65_536]] {
            assert_eq!(load_syscall_filter(program).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        // Not even the kernel takes a program that does not end with a return.
        assert_eq!(load_syscall_filter(&[0; 8]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
