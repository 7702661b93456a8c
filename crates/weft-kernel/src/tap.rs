//! TAP devices: an interface whose frames a process reads and writes.
//!
//! A device is made persistent and of several queues, so that it stays a port of its bridge while no process holds it,
//! and so that two helpers can hold it while one takes over from the other. Frames for a device that nobody holds are
//! dropped by the kernel.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use weft_plan::LinkName;

use crate::{Netns, NetnsError};

const DEVICE: &str = "/dev/net/tun";
/// Before each frame stands this header (`struct virtio_net_hdr`, without the count of buffers).
const HEADER_LEN: usize = 10;
/// A frame may come in so many parts.
const MAX_PARTS: usize = 64;
/// Left to whoever reads: checksums, and cutting TCP to size.
const OFFLOADS: libc::c_ulong = (libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6) as libc::c_ulong;
/// The same for UDP. Kernels that know of it (6.2) take large frames of UDP, too.
const UDP_OFFLOADS: libc::c_ulong = (libc::TUN_F_USO4 | libc::TUN_F_USO6) as libc::c_ulong;

/// `struct ifreq` as far as TUNSETIFF looks at it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

#[allow(unsafe_code, reason = "requests to a device have no other door")]
mod requests {
    use super::{Request, libc};

    nix::ioctl_write_ptr_bad!(tunsetiff, libc::TUNSETIFF, Request);
    nix::ioctl_write_int_bad!(tunsetpersist, libc::TUNSETPERSIST);
    nix::ioctl_write_int_bad!(tunsetoffload, libc::TUNSETOFFLOAD);

    /// Asks for a queue of the device.
    pub(super) fn set_interface(fd: i32, request: &Request) -> nix::Result<()> {
        // SAFETY: the request is as long as the kernel's `struct ifreq` (40 bytes), and lives through the call.
        unsafe { tunsetiff(fd, request) }.map(drop)
    }

    /// The device stays when its last queue is closed.
    pub(super) fn set_persistent(fd: i32) -> nix::Result<()> {
        // SAFETY: the argument is a number; no memory is touched.
        unsafe { tunsetpersist(fd, 1) }.map(drop)
    }

    pub(super) fn set_offload(fd: i32, offloads: libc::c_ulong) -> nix::Result<()> {
        // SAFETY: the argument is a number; no memory is touched.
        unsafe { tunsetoffload(fd, offloads as libc::c_int) }.map(drop)
    }
}

/// One queue of a device. Does not block.
#[derive(Debug)]
pub struct Tap {
    file: File,
    takes_large_udp: bool,
}

impl Tap {
    /// Whether this machine can have such devices at all.
    pub fn is_available() -> bool {
        open_device().is_ok()
    }

    /// Holds a device that is there.
    pub fn open(netns: &Netns, name: &LinkName) -> Result<Self, NetnsError> {
        netns.socket_in(|| {
            let there = nix::net::if_::if_nametoindex(name.as_str());
            there.map_err(io::Error::from)?;
            let mut tap = Self::attach(name)?;
            let fd = tap.file.as_raw_fd();
            tap.takes_large_udp = requests::set_offload(fd, OFFLOADS | UDP_OFFLOADS).is_ok();
            if !tap.takes_large_udp {
                requests::set_offload(fd, OFFLOADS)?;
            }
            Ok(tap)
        })
    }

    /// A queue of the device in this thread's namespace, which is made if it is not there.
    pub(crate) fn attach(name: &LinkName) -> io::Result<Self> {
        let file = open_device()?;
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        let mut request = Request { name: [0; libc::IFNAMSIZ], flags: flags as libc::c_short, rest: [0; 22] };
        // Names are shorter than the field, which ends with a zero.
        request.name[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        requests::set_interface(file.as_raw_fd(), &request)?;
        Ok(Self { file, takes_large_udp: false })
    }

    /// The device outlives this queue.
    pub(crate) fn persist(&self) -> io::Result<()> {
        Ok(requests::set_persistent(self.file.as_raw_fd())?)
    }

    /// Whether a written frame may be many datagrams of UDP, which the kernel is to cut apart. Then read ones may be, too.
    pub fn takes_large_udp(&self) -> bool {
        self.takes_large_udp
    }

    /// Reads one frame with its header; `WouldBlock` where none waits.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one frame, given in parts, with what is left to do to it.
    pub fn write(&self, header: &[u8; HEADER_LEN], parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut all = [IoSlice::new(&[]); 1 + MAX_PARTS];
        all[0] = IoSlice::new(header);
        let room = all[1..].get_mut(..parts.len()).ok_or(io::ErrorKind::InvalidInput)?;
        room.copy_from_slice(parts);
        (&self.file).write_vectored(&all[..=parts.len()]).map(drop)
    }
}

/// The door to all such devices. Where nobody made its node it is made here; the kernel then loads the module by itself.
fn open_device() -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = Path::new(DEVICE).parent() {
                std::fs::create_dir_all(folder)?;
            }
            // Misc devices are 10, this one is 200 (Documentation/admin-guide/devices.txt). Another process may be first.
            let made = mknod(DEVICE, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 200));
            made.or_else(|errno| if errno == Errno::EEXIST { Ok(()) } else { Err(errno) })?;
            open()
        }
        opened => opened,
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<Request>(), size_of::<libc::ifreq>());
    }
}
