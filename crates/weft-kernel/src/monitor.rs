//! Word from the kernel that something in a namespace changed.
//!
//! What changed is not told: whoever hears of it compares the namespace with what it shall be. Neighbours that the
//! kernel learns by itself come and go all the time and are left out; that they go is not.

use std::io;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, AsyncSocketExt, Socket, TokioSocket};
use nix::errno::Errno;
use tokio::runtime::Handle;

use crate::{KernelError, Netns};

/// Groups of the route family (linux/rtnetlink.h): links, neighbours and FDB, addresses, routes and rules of both
/// protocols.
const ROUTE_GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
/// Group of the netfilter family (linux/netfilter/nfnetlink.h): tables.
const NETFILTER_GROUPS: [u32; 1] = [7];
/// Length of a netlink header.
const HEADER: usize = 16;
/// A neighbour or FDB entry is there or changed (linux/rtnetlink.h).
const RTM_NEWNEIGH: u16 = 28;
/// Where its state is, after the header (`struct ndmsg`).
const NEIGHBOUR_STATE: usize = 8;
/// States of entries that somebody set (linux/neighbour.h): no-ARP, permanent.
const SET_BY_HAND: u16 = 0x40 | 0x80;
/// Messages that wait in the kernel; when there are more, that itself is word.
const BACKLOG: i32 = 256 * 1024;
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Listens in one namespace.
pub struct Monitor {
    route: TokioSocket,
    netfilter: TokioSocket,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Monitor {
    /// Listens from now on, for a task of the runtime that calls.
    pub fn open(netns: &Netns) -> Result<Self, KernelError> {
        let runtime = Handle::current();
        let open = || -> io::Result<(TokioSocket, TokioSocket)> {
            let _entered = runtime.enter();
            Ok((listen(NETLINK_ROUTE, &ROUTE_GROUPS)?, listen(NETLINK_NETFILTER, &NETFILTER_GROUPS)?))
        };
        let socket = |source| KernelError::Socket { namespace: netns.path().display().to_string(), source };
        let (route, netfilter) = netns.run_in(open)?.map_err(socket)?;
        Ok(Self { route, netfilter, buffer: Vec::with_capacity(RECEIVE_BUFFER) })
    }

    /// Forgets what changed up to now, for who looks after this call anyway.
    pub fn forget(&mut self) -> io::Result<()> {
        take_all(self.route.socket_ref(), &mut self.buffer)?;
        take_all(self.netfilter.socket_ref(), &mut self.buffer)?;
        Ok(())
    }

    /// Waits until something changed since the last call.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut others = Vec::with_capacity(RECEIVE_BUFFER);
        loop {
            self.buffer.clear();
            others.clear();
            let (socket, heard, received) = tokio::select! {
                received = self.route.recv(&mut self.buffer) => (&self.route, &self.buffer, received),
                received = self.netfilter.recv(&mut others) => (&self.netfilter, &others, received),
            };
            let mut changed = is_lost(&received) || counts(heard);
            if !is_lost(&received) {
                received?;
            }
            changed |= take_all(socket.socket_ref(), &mut self.buffer)?;
            if changed {
                return Ok(());
            }
        }
    }
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut listening = TokioSocket::new(protocol)?;
    let socket = listening.socket_mut();
    socket.bind_auto()?;
    let _ = socket.set_rx_buf_sz(BACKLOG);
    // One that this kernel does not have says nothing.
    for group in groups {
        let _ = socket.add_membership(*group);
    }
    Ok(listening)
}

/// More was told than there is room for.
fn is_lost<T>(received: &io::Result<T>) -> bool {
    received.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::ENOBUFS as i32))
}

/// Reads all there is; says whether any of it counts.
fn take_all(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut changed = false;
    loop {
        buffer.clear();
        match socket.recv(buffer, 0) {
            Ok(_) => changed |= counts(buffer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
            lost @ Err(_) if is_lost(&lost) => changed = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a datagram has a message that counts; what cannot be read does.
fn counts(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(message) = rest.get(..len).filter(|_| len >= HEADER) else { return true };
        let state = message[HEADER..].get(NEIGHBOUR_STATE..).and_then(|state| state.first_chunk::<2>());
        let learnt = state.is_some_and(|state| u16::from_ne_bytes(*state) & SET_BY_HAND == 0);
        if kind != RTM_NEWNEIGH || !learnt {
            return true;
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, state: u16) -> Vec<u8> {
        let mut out = 28u32.to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend([0; 10]);
        out.extend([0; NEIGHBOUR_STATE]);
        out.extend(state.to_ne_bytes());
        out.extend([0; 2]);
        out
    }

    #[test]
    fn what_the_kernel_learns_does_not_count() {
        let (reachable, permanent, deleted) = (0x02, 0x80, 29);
        assert!(!counts(&message(RTM_NEWNEIGH, reachable)));
        assert!(!counts(&[message(RTM_NEWNEIGH, reachable), message(RTM_NEWNEIGH, reachable)].concat()));
        assert!(counts(&message(RTM_NEWNEIGH, permanent)));
        assert!(counts(&message(deleted, reachable)));
        assert!(counts(&[message(RTM_NEWNEIGH, reachable), message(16, 0)].concat()));
        assert!(counts(&message(RTM_NEWNEIGH, reachable)[..20]));
    }
}
