//! What the kernel leaves to a network card, done here: checksums, and cutting large frames of TCP to size.
//!
//! A TAP device hands out frames with a header that says what is still to be done (`struct virtio_net_hdr`).

use crate::checksum::{fold, sum};

/// Length of the header that a TAP device puts before each frame, little-endian on the machines that Weft runs on.
pub const HEADER_LEN: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
/// Explicit congestion notification: only the first segment has the flag.
const GSO_ECN: u8 = 0x80;
const ETHERNET_LEN: usize = 14;
const VLAN_TYPE: [u8; 2] = [0x81, 0x00];
/// TCP's number among protocols.
const TCP: u32 = 6;
const TCP_LEN: usize = 20;
/// Where a header of TCP has its checksum.
const TCP_CHECKSUM: usize = 16;
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

    /// To be cut into segments of `size` bytes; the header of TCP begins at `start`.
    pub(crate) fn of_tcp(v4: bool, start: usize, size: usize) -> Self {
        let gso = if v4 { GSO_TCP4 } else { GSO_TCP6 };
        Self { checksum: Some((start, start + TCP_CHECKSUM)), gso, size }
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

    /// Finishes the frame and gives it, in one piece or several, to `put`: each piece in two parts that belong one behind
    /// the other, headers and data, or everything and nothing. False: it is none that makes sense.
    pub fn finish(self, frame: &mut [u8], mut put: impl FnMut(&[u8], &[u8])) -> bool {
        match (self.gso, self.checksum) {
            (GSO_NONE, None) => put(frame, &[]),
            (GSO_NONE, Some((start, at))) => {
                if !complete(frame, start, at) {
                    return false;
                }
                put(frame, &[]);
            }
            (GSO_TCP4 | GSO_TCP6, Some((start, at))) if at == start + TCP_CHECKSUM => {
                return Tcp::of(frame, start, self.gso == GSO_TCP4, self.size)
                    .map(|tcp| tcp.cut(frame, &mut put))
                    .is_some();
            }
            _ => return false,
        }
        true
    }
}

/// The kernel has put the sum of the pseudo header in place; the rest is added.
fn complete(frame: &mut [u8], start: usize, at: usize) -> bool {
    if at + 2 > frame.len() || start > at {
        return false;
    }
    let check = match !fold(sum(&frame[start..], 0)) {
        // What UDP calls "no checksum"; for TCP both are the same.
        0 => 0xffff,
        other => other,
    };
    frame[at..at + 2].copy_from_slice(&check.to_be_bytes());
    true
}

/// A frame of TCP larger than the wire takes.
struct Tcp {
    ip: usize,
    tcp: usize,
    headers: usize,
    v4: bool,
    size: usize,
}

impl Tcp {
    fn of(frame: &[u8], tcp: usize, v4: bool, size: usize) -> Option<Self> {
        let ip = if frame.get(12..14)? == VLAN_TYPE { ETHERNET_LEN + 4 } else { ETHERNET_LEN };
        let least = ip + if v4 { 20 } else { 40 };
        if tcp < least || frame.len() < tcp + TCP_LEN || size == 0 {
            return None;
        }
        let headers = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        let sound = headers >= tcp + TCP_LEN && headers <= frame.len();
        sound.then_some(Self { ip, tcp, headers, v4, size })
    }

    /// The headers are written anew in place for each piece; the data is only looked at.
    fn cut(&self, frame: &mut [u8], put: &mut impl FnMut(&[u8], &[u8])) {
        let (head, data) = frame.split_at_mut(self.headers);
        let whole = Whole::of(head, self);
        let pieces = data.len().div_ceil(self.size).max(1);
        for piece in 0..pieces {
            let from = piece * self.size;
            let part = &data[from..data.len().min(from + self.size)];
            let sequence = whole.sequence.wrapping_add(from as u32);
            head[self.tcp + 4..self.tcp + 8].copy_from_slice(&sequence.to_be_bytes());
            let last = if piece + 1 < pieces { !FIN_PSH } else { !0 };
            let first = if piece > 0 { !CWR } else { !0 };
            head[self.tcp + 13] = whole.flags & last & first;
            self.write_ip(head, whole.id.wrapping_add(piece as u16), part.len());
            self.write_checksum(head, part);
            put(head, part);
        }
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
        let end = (ip + usize::from(head[ip] & 15) * 4).clamp(ip + 20, self.tcp);
        let check = !fold(sum(&head[ip..end], 0));
        head[ip + 10..ip + 12].copy_from_slice(&check.to_be_bytes());
    }

    /// The kernel's sum covers the pseudo header with the length of the whole, so it begins anew.
    fn write_checksum(&self, head: &mut [u8], data: &[u8]) {
        let addresses = if self.v4 { self.ip + 12..self.ip + 20 } else { self.ip + 8..self.ip + 40 };
        let pseudo = sum(&head[addresses], TCP + (head.len() - self.tcp + data.len()) as u32);
        head[self.tcp + 16..self.tcp + 18].fill(0);
        // Headers of TCP are even.
        let check = !fold(sum(data, sum(&head[self.tcp..], pseudo)));
        head[self.tcp + 16..self.tcp + 18].copy_from_slice(&check.to_be_bytes());
    }
}

/// What the headers of the whole said, before a piece's were written over them.
struct Whole {
    sequence: u32,
    flags: u8,
    id: u16,
}

impl Whole {
    fn of(head: &[u8], at: &Tcp) -> Self {
        let (ip, tcp) = (at.ip, at.tcp);
        Self {
            sequence: u32::from_be_bytes([head[tcp + 4], head[tcp + 5], head[tcp + 6], head[tcp + 7]]),
            flags: head[tcp + 13],
            id: u16::from_be_bytes([head[ip + 4], head[ip + 5]]),
        }
    }
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
