//! What the library does not offer: which programs a control group has, and another program for a link that is pinned.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

/// Commands of bpf(2), linux/bpf.h.
const OBJ_GET: libc::c_int = 7;
const PROG_QUERY: libc::c_int = 16;
const LINK_UPDATE: libc::c_int = 29;
/// The kernel takes no more programs of one kind on a control group (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGRAMS: usize = 64;

/// `union bpf_attr`, with room for what kernels to come may write back. They take what they do not know if it is zero.
type Attributes = [u8; 256];

fn attributes(fields: &[(usize, &[u8])]) -> Attributes {
    let mut all = [0; 256];
    for (at, field) in fields {
        all[*at..*at + field.len()].copy_from_slice(field);
    }
    all
}

#[allow(unsafe_code, reason = "commands of bpf(2) that the library has no function for")]
fn bpf(command: libc::c_int, attributes: &mut Attributes) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `attributes`, whose length it is told. What addresses in there point to is the
    // caller's and lives through the call: see `open` and `attached`.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An object by its pin.
#[allow(unsafe_code, reason = "a descriptor that the kernel has just made belongs to nobody else")]
fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut request = attributes(&[(0, &(path.as_ptr() as u64).to_ne_bytes())]);
    let fd = bpf(OBJ_GET, &mut request)?;
    // SAFETY: it is open and owned by nothing yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Puts another program into a link, in place of the one that it has.
pub(super) fn replace(pin: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open(pin)?;
    let fds = [link.as_raw_fd(), program.as_raw_fd()].map(RawFd::to_ne_bytes);
    bpf(LINK_UPDATE, &mut attributes(&[(0, &fds[0]), (4, &fds[1])])).map(drop)
}

/// The numbers of the programs of one kind (`enum bpf_attach_type`) on a control group itself.
pub(super) fn attached(group: impl AsFd, kind: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut request = attributes(&[
        (0, &group.as_fd().as_raw_fd().to_ne_bytes()),
        (4, &kind.to_ne_bytes()),
        // Flags, none; flags that the kernel gives back; where to, and how many.
        (16, &(ids.as_mut_ptr() as u64).to_ne_bytes()),
        (24, &(MAX_PROGRAMS as u32).to_ne_bytes()),
    ]);
    bpf(PROG_QUERY, &mut request)?;
    let mut count = [0; 4];
    count.copy_from_slice(&request[24..28]);
    Ok(ids.into_iter().take(u32::from_ne_bytes(count) as usize).collect())
}
