//! ESP in UDP (RFC 3948) by the kernel.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

/// Frames without a non-ESP marker are ESP (`UDP_ENCAP_ESPINUDP`, linux/udp.h).
const ESP_IN_UDP: libc::c_int = 2;
/// The option (`UDP_ENCAP`, linux/udp.h).
const UDP_ENCAP: libc::c_int = 100;

/// From now on the kernel takes ESP packets that come to this socket for itself. What begins with the non-ESP marker
/// still comes to the socket.
#[allow(unsafe_code, reason = "the option has no other door")]
pub fn take_esp_in_udp(socket: &UdpSocket) -> io::Result<()> {
    let (value, length) = (ESP_IN_UDP, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes of `value`, which is as long and lives through the call.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, UDP_ENCAP, (&raw const value).cast(), length)
    };
    Ok(Errno::result(set).map(drop)?)
}
