//! Packets of one size to one node, sent by one call.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use weft_esp::frame::{Encapsulation, Piece};
use weft_esp::{HEADER_LEN, NEXT_UDP, Sealer, payload_of};
use weft_types::Vni;

use super::engine::Shared;
use super::node::Node;
use crate::encryption::EncryptionScheme as Scheme;
use crate::helper::encryption::counters::Drop;

/// The kernel cuts one call into so many datagrams at most (`UDP_MAX_SEGMENTS` of older kernels).
const MAX_PACKETS: usize = 64;
/// A UDP datagram over IPv4 has no more, and over IPv6 we want none.
const MAX_BYTES: usize = 65_000;
/// A packet that is shorter than the others is padded to their size while all padding is no more than this part of the
/// train: to begin another train costs more. What is padded says its length itself (RFC 4303, section 2.7).
const PADDING_PART: usize = 16;

/// See the module. All packets have the first one's size, but for the last one, which may be shorter.
pub(super) struct Train<'a> {
    shared: &'a Shared,
    socket: &'a UdpSocket,
    /// The network that is served now.
    vni: Option<Vni>,
    bytes: Vec<u8>,
    to: Option<Arc<Node>>,
    size: usize,
    count: usize,
    /// Bytes of padding.
    padding: usize,
    /// A shorter packet was the last one.
    closed: bool,
}

impl<'a> Train<'a> {
    pub(super) fn new(shared: &'a Shared, queue: usize) -> Self {
        let bytes = Vec::with_capacity(MAX_BYTES + 4096);
        Self {
            shared,
            socket: shared.socket_of(queue),
            vni: None,
            bytes,
            to: None,
            size: 0,
            count: 0,
            padding: 0,
            closed: false,
        }
    }

    /// Takes frames of this network from now on.
    pub(super) fn serve(&mut self, vni: Vni) {
        self.vni = Some(vni);
    }

    /// Encrypts a frame for a node.
    pub(super) fn add(&mut self, to: &Arc<Node>, sealer: &Sealer, piece: Piece<'_>) {
        let Some(vni) = self.vni else { return };
        let elsewhere = self.to.as_ref().is_some_and(|now| !Arc::ptr_eq(now, to));
        if elsewhere || self.count == MAX_PACKETS || self.closed {
            self.leave();
        }
        let begin = self.bytes.len();
        self.bytes.resize(begin + HEADER_LEN, 0);
        let (from, port) = (self.shared.own, self.shared.vxlan_port);
        let around = Encapsulation { from, to: to.address, port, vni };
        around.put(piece, &mut self.bytes);
        self.pad(begin + HEADER_LEN);
        // In use until here: keys may have changed since the train began, receivers do not mind.
        if sealer.seal(&mut self.bytes, begin, NEXT_UDP).is_err() {
            self.bytes.truncate(begin);
            self.shared.counters.count(Drop::NoKeys);
            return;
        }
        let len = self.bytes.len() - begin;
        let fits = self.count == 0 || (len <= self.size && self.bytes.len() <= MAX_BYTES);
        if !fits {
            let packet = self.bytes.split_off(begin);
            self.leave();
            self.bytes.extend_from_slice(&packet);
        }
        if self.count == 0 {
            self.size = len;
            self.to = Some(to.clone());
        }
        self.closed = len < self.size;
        self.count += 1;
    }

    /// Lets the train go on after the payload that begins here.
    fn pad(&mut self, begin: usize) {
        if self.to.as_ref().is_none_or(|to| to.scheme != Scheme::Paired) {
            return;
        }
        let padding = padding(payload_of(self.size), self.bytes.len() - begin, begin, self.padding);
        self.bytes.resize(self.bytes.len() + padding, 0);
        self.padding += padding;
    }

    /// Sends what there is.
    pub(super) fn leave(&mut self) {
        if let Some(to) = self.to.take().filter(|_| self.count > 0)
            && !self.send(&to)
        {
            self.shared.counters.count(Drop::NotSent);
        }
        self.bytes.clear();
        (self.count, self.size, self.padding, self.closed) = (0, 0, 0, false);
    }

    fn send(&self, to: &Node) -> bool {
        match to.scheme {
            Scheme::Paired => {
                let to = SocketAddr::new(to.address, self.shared.port);
                send(self.socket, to, &self.bytes, self.size)
            }
            Scheme::Docker => self
                .shared
                .raw()
                .is_some_and(|raw| self.bytes.chunks(self.size).all(|packet| raw.send(to.address, packet))),
        }
    }
}

/// Bytes to add to a payload of `len` so that it has the `wanted` length, behind `before` bytes of which `padded` are
/// padding; none where that is too many.
fn padding(wanted: usize, len: usize, before: usize, padded: usize) -> usize {
    let missing = wanted.saturating_sub(len);
    if padded + missing <= before / PADDING_PART { missing } else { 0 }
}

fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], size: usize) -> bool {
    if bytes.len() <= size {
        return socket.send_to(bytes, to).is_ok();
    }
    let Ok(segment) = u16::try_from(size) else { return false };
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::UdpGsoSegments(&segment)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(to)),
    );
    // Where the kernel, or the way there, cannot cut.
    sent.is_ok() || bytes.chunks(size).all(|packet| socket.send_to(packet, to).is_ok())
}

#[cfg(test)]
mod tests {
    use super::padding;

    #[test]
    fn padding_is_a_small_part_of_a_train() {
        assert_eq!(padding(1400, 1400, 16, 0), 0);
        assert_eq!(padding(1400, 1392, 1450, 0), 8);
        assert_eq!(padding(1400, 900, 10_000, 0), 500);
        assert_eq!(padding(1400, 900, 10_000, 500), 0, "that would be a tenth");
        assert_eq!(padding(1400, 52, 1450, 0), 0, "an acknowledgement");
        assert_eq!(padding(1400, 1404, 10_000, 0), 0, "it is longer, and begins another train");
    }
}
