//! Frames of TCP and UDP as they come over the wire: what they must look like to be joined, and what they say once they
//! were.

use weft_wire::vxlan::RemoteChecksum;

use crate::checksum::{fold, sum};
use crate::frame::{ETHERNET_LEN, IPV4, IPV6};
use crate::transport::Transport;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// Version 4 and a header without options.
const PLAIN_IPV4: u8 = 0x45;
/// In the word that follows the identification (RFC 791, section 3.1).
const DONT_FRAGMENT: u16 = 0x4000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// A frame with data and nothing out of the ordinary: IPv4 without options and fragments or IPv6 without extension
/// headers; TCP with no flags but ACK and PSH, or UDP with a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Segment {
    pub(crate) transport: Transport,
    pub(crate) v4: bool,
    /// Bytes before the data, Ethernet's included.
    pub(crate) headers: usize,
    /// Bytes of data, at least one.
    pub(crate) len: usize,
    /// Of TCP, as the next two: those of UDP are zero.
    sequence: u32,
    /// Nothing may follow.
    pub(crate) push: bool,
    /// The identification of IPv4 where it means something: not in packets that must not be fragmented (RFC 6864,
    /// section 4).
    id: Option<u16>,
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

impl Segment {
    /// `None`: it is given on as it is. Checksums are not looked at, see [`Segment::is_sound`].
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let v4 = *frame.get(12..14)? == IPV4;
        let start = start(v4);
        let header = frame.get(start..)?;
        let (plain, protocol) = if v4 {
            let whole = word(frame, 20)? & !DONT_FRAGMENT == 0;
            let len = usize::from(word(frame, 16)?) == frame.len() - ETHERNET_LEN;
            (frame[14] == PLAIN_IPV4 && len && whole, frame[23])
        } else {
            let len = usize::from(word(frame, 18)?) == header.len();
            (frame[12..14] == IPV6 && frame[14] >> 4 == 6 && len, frame[20])
        };
        let transport = Transport::of(protocol).filter(|_| plain)?;
        let header_len = transport.len_of(header)?;
        let len = header.len().checked_sub(header_len).filter(|len| *len > 0)?;
        let id = word(frame, 18).filter(|_| v4 && word(frame, 20) == Some(0));
        let (mut sequence, mut push) = (0, false);
        // A checksum of zero would come out as another one: UDP's as one, where there was none.
        match transport {
            Transport::Tcp => {
                let usual = header[12] & 15 == 0 && header[13] & !PSH == ACK && word(header, 16)? != 0;
                sequence = u32::from_be_bytes(*header[4..].first_chunk().filter(|_| usual)?);
                push = header[13] & PSH != 0;
            }
            Transport::Udp => {
                let usual = usize::from(word(header, 4)?) == header.len() && word(header, 6)? != 0;
                usual.then_some(())?;
            }
        }
        Some(Self { transport, v4, headers: start + header_len, len, sequence, push, id })
    }

    /// Where the header of TCP or UDP begins.
    pub(crate) fn start(&self) -> usize {
        start(self.v4)
    }

    fn pseudo(&self, frame: &[u8], data: usize) -> u32 {
        let addresses = if self.v4 { 26..34 } else { 22..54 };
        let len = self.headers - self.start() + data;
        sum(&frame[addresses], u32::from(self.transport.number()) + len as u32)
    }

    /// Whether `next` goes on behind `data` bytes that begin with this one's.
    pub(crate) fn goes_on_with(&self, data: usize, next: &Self) -> bool {
        match self.transport {
            Transport::Tcp => next.sequence == self.sequence.wrapping_add(data as u32),
            Transport::Udp => true,
        }
    }

    /// Whether its checksums are right. What is joined is taken for right by the kernel, so this cannot be left to it.
    pub(crate) fn is_sound(&self, frame: &[u8]) -> bool {
        self.has_sound_header(frame)
            && fold(sum(&frame[self.start()..], self.pseudo(frame, self.len))) == 0xffff
    }

    /// The same of the header of IP alone.
    pub(crate) fn has_sound_header(&self, frame: &[u8]) -> bool {
        !self.v4 || fold(sum(&frame[ETHERNET_LEN..ETHERNET_LEN + IPV4_LEN], 0)) == 0xffff
    }

    /// Whether this is the checksum of TCP or UDP.
    pub(crate) fn has_checksum(&self, left: RemoteChecksum) -> bool {
        let start = self.start();
        (left.start(), left.at()) == (start, start + self.transport.checksum_at())
    }

    /// Whether `other`, the `place`th behind this one, says in its headers what cutting would make of this one's.
    pub(crate) fn leads_to(&self, frame: &[u8], other: &Self, other_frame: &[u8], place: usize) -> bool {
        let start = self.start();
        let id = self.id.map(|id| id.wrapping_add(place as u16));
        // Left out: lengths, identification, checksums, sequence numbers and flags, which are looked at one by one.
        let network = if self.v4 { [0..16, 20..24, 26..start + 4] } else { [0..14, 14..18, 20..start + 4] };
        let transport = match self.transport {
            Transport::Tcp => &[start + 8..start + 13, start + 14..start + 16, start + 18..self.headers][..],
            Transport::Udp => &[],
        };
        let mut ranges = network.iter().chain(transport);
        self.transport == other.transport
            && self.headers == other.headers
            && id == other.id
            && ranges.all(|range| frame[range.clone()] == other_frame[range.clone()])
    }

    /// Whether a frame may be of the same connection; where that cannot be seen, it is.
    pub(crate) fn may_be_with(&self, frame: &[u8], other: &[u8]) -> bool {
        let (addresses, start) = (if self.v4 { 26..34 } else { 22..54 }, self.start());
        if frame.get(12..14) != other.get(12..14) || frame.get(addresses.clone()) != other.get(addresses) {
            return false;
        }
        let (protocol, plain) = if self.v4 {
            let first = word(other, 20).is_some_and(|word| word & FRAGMENT_OFFSET == 0);
            (other[23], first && other[14] == PLAIN_IPV4)
        } else {
            (other[20], true)
        };
        let own = self.transport.number();
        match other.get(start..start + 4) {
            Some(ports) if plain && protocol == own => ports == &frame[start..start + 4],
            // Behind an extension header of IPv6 there may be anything.
            _ => protocol == own || !self.v4 && Transport::of(protocol).is_none(),
        }
    }

    /// Writes into the headers that `data` bytes follow, and for TCP or UDP the sum of the pseudo header alone: the kernel
    /// adds the rest where it needs to.
    pub(crate) fn write_whole(&self, head: &mut [u8], data: usize, push: bool) {
        let (start, len) = (self.start(), self.headers - ETHERNET_LEN + data);
        if self.v4 {
            head[16..18].copy_from_slice(&(len as u16).to_be_bytes());
            head[24..26].fill(0);
            let check = !fold(sum(&head[ETHERNET_LEN..start], 0));
            head[24..26].copy_from_slice(&check.to_be_bytes());
        } else {
            head[18..20].copy_from_slice(&((len - IPV6_LEN) as u16).to_be_bytes());
        }
        match self.transport {
            Transport::Tcp if push => head[start + 13] |= PSH,
            Transport::Tcp => {}
            Transport::Udp => {
                let len = self.headers - start + data;
                head[start + 4..start + 6].copy_from_slice(&(len as u16).to_be_bytes());
            }
        }
        let pseudo = fold(self.pseudo(head, data));
        let at = start + self.transport.checksum_at();
        head[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    }
}

fn start(v4: bool) -> usize {
    ETHERNET_LEN + if v4 { IPV4_LEN } else { IPV6_LEN }
}
