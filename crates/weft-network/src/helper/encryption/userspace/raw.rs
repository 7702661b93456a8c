//! ESP alone (IP protocol 50), as Docker's nodes speak it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{SockaddrStorage, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use super::receive::sender;
use super::sockets::make_room;

const ESP: i32 = 50;

/// All ESP packets for an address. The kernel's own ESP, where there is one, sees them too and knows none of their SPIs.
#[derive(Debug)]
pub(super) struct Raw {
    socket: Socket,
    ipv6: bool,
}

impl Raw {
    pub(super) fn open(own: IpAddr) -> io::Result<Self> {
        let domain = if own.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(ESP)))?;
        socket.bind(&SocketAddr::new(own, 0).into())?;
        socket.set_nonblocking(true)?;
        make_room(&socket);
        Ok(Self { socket, ipv6: own.is_ipv6() })
    }

    /// Sends one packet; the kernel puts the IP header before it.
    pub(super) fn send(&self, to: IpAddr, packet: &[u8]) -> bool {
        let to = SocketAddr::new(to, 0).into();
        loop {
            match self.socket.send_to(packet, &to) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.is_ok(),
            }
        }
    }

    /// One packet's place in the buffer, behind its IP header, and its sender; none waits, or none that can be read.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<(Range<usize>, IpAddr)> {
        let (len, from) = recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), buffer).ok()?;
        // With the IP header over IPv4 (raw(7)), without it over IPv6 (RFC 3542, section 3).
        let begin = if self.ipv6 { 0 } else { usize::from(buffer.first()? & 0x0f) * 4 };
        Some((begin..len.max(begin), sender(&from?)?))
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
