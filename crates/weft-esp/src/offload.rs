//! What the kernel leaves to a network card, done here: checksums, and cutting large frames of TCP and UDP to size.
//!
//! A TAP device hands out frames with a header that says what is still to be done (`struct virtio_net_hdr`).

use weft_wire::vxlan::RemoteChecksum;

use crate::checksum::{check_value, fold, sum};
use crate::frame::{ETHERNET_LEN, IPV4, IPV6, Piece};
use crate::transport::Transport;

/// Length of the header that a TAP device puts before each frame, little-endian on the machines that Weft runs on.
pub const HEADER_LEN: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
/// Datagrams of UDP, of either family.
const GSO_UDP: u8 = 5;
/// Explicit congestion notification: only the first segment has the flag.
const GSO_ECN: u8 = 0x80;
/// IEEE 802.1Q and 802.1ad: four more bytes stand before the type.
const VLAN_TYPES: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const VLAN_LEN: usize = 4;
/// Flags of TCP in byte 13 of its header.
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// What is still to be done to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    checksum: Option<(usize, usize)>,
    gso: u8,
    size: usize,
}

impl Offload {
    /// Reads the header.
    pub fn parse(header: &[u8; HEADER_LEN]) -> Self {
        let word = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let checksum = (header[0] & NEEDS_CHECKSUM != 0).then(|| (word(6), word(6) + word(8)));
        Self { checksum, gso: header[1] & !GSO_ECN, size: word(4) }
    }

    /// To be cut into pieces with `size` bytes of data; the header of TCP or UDP begins at `start`.
    pub(crate) fn large(transport: Transport, v4: bool, start: usize, size: usize) -> Self {
        let gso = match transport {
            Transport::Tcp if v4 => GSO_TCP4,
            Transport::Tcp => GSO_TCP6,
            Transport::Udp => GSO_UDP,
        };
        Self { checksum: Some((start, start + transport.checksum_at())), gso, size }
    }

    /// Whole, but for a checksum.
    pub(crate) fn checksum(left: RemoteChecksum) -> Self {
        Self { checksum: Some((left.start(), left.at())), gso: GSO_NONE, size: 0 }
    }

    /// Writes the header of a frame with so many bytes of headers.
    pub(crate) fn header(&self, headers: usize) -> [u8; HEADER_LEN] {
        let (start, at) = self.checksum.unwrap_or_default();
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&[self.checksum.map_or(0, |_| NEEDS_CHECKSUM), self.gso]);
        let words = header[2..].as_chunks_mut::<2>().0;
        for (bytes, word) in words.iter_mut().zip([headers, self.size, start, at - start]) {
            *bytes = (word as u16).to_le_bytes();
        }
        header
    }

    /// Finishes the frame and gives it, in one piece or several, to `put`. False: it is none that makes sense.
    pub fn finish(self, frame: &mut [u8], checksums: Checksums, mut put: impl FnMut(Piece<'_>)) -> bool {
        let transport = match self.gso {
            GSO_NONE => {
                let left = self.checksum.and_then(|(start, at)| checksums.left(start, at));
                let is_done = left.is_some_and(|left| left.at() + 2 <= frame.len())
                    || self.checksum.is_none_or(|(start, at)| complete(frame, start, at));
                if is_done {
                    put(Piece { head: frame, data: &[], left });
                }
                return is_done;
            }
            GSO_TCP4 | GSO_TCP6 => Transport::Tcp,
            GSO_UDP => Transport::Udp,
            _ => return false,
        };
        let start = self.checksum.map(|(start, at)| (start, at == start + transport.checksum_at()));
        let Some((start, true)) = start else { return false };
        let whole = Whole::of(frame, transport, start, self.size);
        whole.map(|whole| whole.cut(frame, checksums, &mut put)).is_some()
    }
}

/// Who completes the checksums that the kernel left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// This side.
    Complete,
    /// The kernel of the receiver, if it ever has to: what it delivers to itself was authentic already.
    Left,
}

impl Checksums {
    fn left(self, start: usize, at: usize) -> Option<RemoteChecksum> {
        if self == Self::Left { RemoteChecksum::new(start, at) } else { None }
    }
}

/// The kernel has put the sum of the pseudo header in place; the rest is added.
fn complete(frame: &mut [u8], start: usize, at: usize) -> bool {
    if at + 2 > frame.len() || start > at {
        return false;
    }
    let check = check_value(sum(&frame[start..], 0));
    frame[at..at + 2].copy_from_slice(&check.to_be_bytes());
    true
}

/// A frame larger than the wire takes.
struct Whole {
    transport: Transport,
    v4: bool,
    /// Where the header of IP begins.
    ip: usize,
    /// Where the one of TCP or UDP begins.
    start: usize,
    /// Bytes of all headers.
    headers: usize,
    /// Bytes of data in a piece.
    size: usize,
}

/// What the headers of the whole said, before a piece's were written over them.
struct Said {
    sequence: u32,
    flags: u8,
    id: u16,
}

impl Whole {
    fn of(frame: &[u8], transport: Transport, start: usize, size: usize) -> Option<Self> {
        let is_tagged = VLAN_TYPES.iter().any(|tag| frame.get(12..14) == Some(tag));
        let ip = ETHERNET_LEN + if is_tagged { VLAN_LEN } else { 0 };
        let kind = frame.get(ip - 2..ip)?;
        let v4 = kind == IPV4;
        if !v4 && kind != IPV6 {
            return None;
        }
        let least = ip + if v4 { 20 } else { 40 };
        let headers = start + transport.len_of(frame.get(start..)?)?;
        (start >= least && size > 0).then_some(Self { transport, v4, ip, start, headers, size })
    }

    /// The headers are written anew in place for each piece; the data is only looked at.
    fn cut(&self, frame: &mut [u8], checksums: Checksums, put: &mut impl FnMut(Piece<'_>)) {
        let left = checksums.left(self.start, self.start + self.transport.checksum_at());
        let (head, data) = frame.split_at_mut(self.headers);
        let said = self.said(head);
        let pieces = data.len().div_ceil(self.size).max(1);
        for piece in 0..pieces {
            let from = piece * self.size;
            let part = &data[from..data.len().min(from + self.size)];
            match self.transport {
                Transport::Tcp => self.write_tcp(head, &said, from, (piece, pieces)),
                Transport::Udp => self.write_udp(head, part.len()),
            }
            self.write_ip(head, said.id.wrapping_add(piece as u16), part.len());
            self.write_checksum(head, part, left);
            put(Piece { head, data: part, left });
        }
    }

    fn said(&self, head: &[u8]) -> Said {
        let id = u16::from_be_bytes([head[self.ip + 4], head[self.ip + 5]]);
        match (self.transport, &head[self.start..]) {
            (Transport::Tcp, &[_, _, _, _, a, b, c, d, _, _, _, _, _, flags, ..]) => {
                Said { sequence: u32::from_be_bytes([a, b, c, d]), flags, id }
            }
            _ => Said { sequence: 0, flags: 0, id },
        }
    }

    fn write_tcp(&self, head: &mut [u8], said: &Said, from: usize, (piece, pieces): (usize, usize)) {
        let tcp = &mut head[self.start..];
        tcp[4..8].copy_from_slice(&said.sequence.wrapping_add(from as u32).to_be_bytes());
        let last = if piece + 1 < pieces { !FIN_PSH } else { !0 };
        let first = if piece > 0 { !CWR } else { !0 };
        tcp[13] = said.flags & last & first;
    }

    fn write_udp(&self, head: &mut [u8], data: usize) {
        let len = Transport::Udp.header_len() + data;
        head[self.start + 4..self.start + 6].copy_from_slice(&(len as u16).to_be_bytes());
    }

    fn write_ip(&self, head: &mut [u8], id: u16, data: usize) {
        let (ip, len) = (self.ip, head.len() + data - self.ip);
        if !self.v4 {
            head[ip + 4..ip + 6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            return;
        }
        head[ip + 2..ip + 4].copy_from_slice(&(len as u16).to_be_bytes());
        head[ip + 4..ip + 6].copy_from_slice(&id.to_be_bytes());
        head[ip + 10..ip + 12].fill(0);
        let end = (ip + usize::from(head[ip] & 15) * 4).clamp(ip + 20, self.start);
        let check = !fold(sum(&head[ip..end], 0));
        head[ip + 10..ip + 12].copy_from_slice(&check.to_be_bytes());
    }

    /// The kernel's sum covers the pseudo header with the length of the whole, so it begins anew.
    fn write_checksum(&self, head: &mut [u8], data: &[u8], left: Option<RemoteChecksum>) {
        let addresses = if self.v4 { self.ip + 12..self.ip + 20 } else { self.ip + 8..self.ip + 40 };
        let len = head.len() - self.start + data.len();
        let pseudo = sum(&head[addresses], u32::from(self.transport.number()) + len as u32);
        let at = self.start + self.transport.checksum_at();
        if left.is_some() {
            head[at..at + 2].copy_from_slice(&fold(pseudo).to_be_bytes());
            return;
        }
        head[at..at + 2].fill(0);
        // Headers are even in length.
        let check = check_value(sum(data, sum(&head[self.start..], pseudo)));
        head[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
