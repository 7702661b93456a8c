//! The UDP sockets of ESP, one for each queue, all on one port. The kernel gives everything that a node sends to the same
//! one of them (`SO_REUSEPORT`, by both addresses and ports), so packets of a node stay in order.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

/// Room for what comes while its thread does something else, in bytes: windows of several streams of TCP, which reach
/// megabytes each (`tcp_rmem`). With 4 MiB four streams lost packets, and a sixth of their rate with them.
const RECEIVE_BUFFER: usize = 16 << 20;
/// Room for what goes, in bytes: it waits here only where the device below is slower than this engine.
const SEND_BUFFER: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Sockets {
    first: UdpSocket,
    others: Vec<UdpSocket>,
}

impl Sockets {
    /// One for each of `queues`, and one at least.
    pub(super) fn open(address: SocketAddr, queues: usize) -> io::Result<Self> {
        if queues <= 1 {
            return Ok(Self { first: set_up(UdpSocket::bind(address)?)?, others: Vec::new() });
        }
        // Sockets that may share a port share it with anybody's who may: who has it alone, has nobody beside him.
        drop(UdpSocket::bind(address)?);
        let others = (1..queues).map(|_| shared(address)).collect::<io::Result<_>>()?;
        Ok(Self { first: shared(address)?, others })
    }

    /// The one of a queue.
    pub(super) fn of(&self, queue: usize) -> &UdpSocket {
        queue.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.first)
    }
}

fn shared(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    set_up(socket.into())
}

fn set_up(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    // Without, every datagram comes alone.
    if let Err(error) = setsockopt(&socket, sockopt::UdpGroSegment, &true) {
        tracing::warn!(%error, "datagrams of encrypted networks come one by one");
    }
    make_room(&socket);
    Ok(socket)
}

/// Beyond what the host's limits let others have; without, some packets are lost under load.
pub(super) fn make_room(socket: &impl AsFd) {
    let made = setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
        .and_then(|()| setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER));
    if let Err(error) = made {
        tracing::warn!(%error, "socket of encrypted networks has little room");
    }
}
