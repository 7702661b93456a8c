//! The inside of an ESP packet in transport mode: a UDP datagram with the VXLAN header and an Ethernet frame.

use std::net::IpAddr;

use weft_types::{MacAddr, Vni};
use weft_wire::vxlan::{RemoteChecksum, VXLAN_HEADER_LEN, decode_vxlan_with, encode_vxlan_header_with};

use crate::checksum::{check_value, sum};
use crate::transport::Transport;

/// UDP header and VXLAN header.
pub const ENCAPSULATION_LEN: usize = UDP_HEADER_LEN + VXLAN_HEADER_LEN;
/// Two addresses and a type.
pub const ETHERNET_LEN: usize = 14;
/// The type of IPv4.
pub(crate) const IPV4: [u8; 2] = [0x08, 0x00];
/// The type of IPv6.
pub(crate) const IPV6: [u8; 2] = [0x86, 0xdd];
const UDP_HEADER_LEN: usize = Transport::Udp.header_len();
/// Source ports of tunnels (RFC 7348, section 5), which say nothing to whoever receives them.
const FIRST_SOURCE_PORT: u16 = 49152;
/// But a proof from this one says that its sender completes checksums that are left to it. The kernel's tunnels have
/// others, and what was before this had the first one.
const COMPLETES_SOURCE_PORT: u16 = FIRST_SOURCE_PORT + 1;
/// A VXLAN header that names no network.
pub const NO_NETWORK: [u8; VXLAN_HEADER_LEN] = [0; VXLAN_HEADER_LEN];

/// A frame that fits the wire, in two parts that belong one behind the other: headers and data, or everything and nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The first part.
    pub head: &'a [u8],
    /// The second part.
    pub data: &'a [u8],
    /// The checksum that the receiver has to complete; none: all are right.
    pub left: Option<RemoteChecksum>,
}

/// One node's side of the tunnels to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encapsulation {
    /// Address of this node.
    pub from: IpAddr,
    /// Address of the other one.
    pub to: IpAddr,
    /// The swarm's data-path port.
    pub port: u16,
    /// The network.
    pub vni: Vni,
}

impl Encapsulation {
    /// Appends headers and frame.
    pub fn put(&self, piece: Piece<'_>, out: &mut Vec<u8>) {
        let vxlan = encode_vxlan_header_with(self.vni, piece.left);
        self.write(FIRST_SOURCE_PORT, &vxlan, piece.head, piece.data, out);
    }

    fn write(
        &self,
        source: u16,
        vxlan: &[u8; VXLAN_HEADER_LEN],
        head: &[u8],
        data: &[u8],
        out: &mut Vec<u8>,
    ) {
        let begin = out.len();
        let len = (ENCAPSULATION_LEN + head.len() + data.len()) as u16;
        out.extend_from_slice(&source.to_be_bytes());
        out.extend_from_slice(&self.port.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        // Zero is allowed over IPv4 (RFC 768): the check value of ESP covers everything.
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(vxlan);
        out.extend_from_slice(head);
        out.extend_from_slice(data);
        if self.from.is_ipv6() {
            let check = self.checksum(&out[begin..]);
            out[begin + 6..begin + 8].copy_from_slice(&check.to_be_bytes());
        }
    }

    fn checksum(&self, datagram: &[u8]) -> u16 {
        let address = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => sum(&ip.octets(), 0),
            IpAddr::V6(ip) => sum(&ip.octets(), 0),
        };
        let udp = u32::from(Transport::Udp.number());
        check_value(sum(datagram, address(self.from) + address(self.to) + udp + datagram.len() as u32))
    }
}

/// A datagram for the tunnel's port that is for no network: its VXLAN header has no identifier, as its flags say (RFC 7348,
/// section 5), so whoever opens it drops it. Authentic, it shows that a key works, and that this side completes checksums.
pub fn proof(from: IpAddr, to: IpAddr, port: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let around = Encapsulation { from, to, port, vni: Vni::FIRST };
    around.write(COMPLETES_SOURCE_PORT, &NO_NETWORK, &[], &[], &mut out);
    out
}

/// What a proof says of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// It completes checksums that are left to it.
    pub completes_checksums: bool,
}

/// Reads such a datagram; `None` for any other.
pub fn read_proof(payload: &[u8]) -> Option<Proof> {
    let (source, _) = payload.split_first_chunk()?;
    let is_one = payload.len() == ENCAPSULATION_LEN && payload[UDP_HEADER_LEN..] == NO_NETWORK;
    let completes_checksums = u16::from_be_bytes(*source) == COMPLETES_SOURCE_PORT;
    is_one.then_some(Proof { completes_checksums })
}

/// Network and frame of what came out of a packet, padded or not (RFC 4303, section 2.7), and the frame's checksum that is left to complete; `None` where it is
/// not such a datagram.
pub fn take(payload: &[u8]) -> Option<(Vni, Option<RemoteChecksum>, &[u8])> {
    let (header, rest) = payload.split_first_chunk::<UDP_HEADER_LEN>()?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let (vni, left, frame) = decode_vxlan_with(rest.get(..len.checked_sub(UDP_HEADER_LEN)?)?).ok()?;
    (frame.len() >= ETHERNET_LEN).then_some((vni, left, frame))
}

/// Whom a frame is for.
pub fn destination(frame: &[u8]) -> Option<MacAddr> {
    (frame.len() >= ETHERNET_LEN).then(|| frame.first_chunk().map(|mac| MacAddr(*mac))).flatten()
}

/// Who sent a frame.
pub fn source(frame: &[u8]) -> Option<MacAddr> {
    (frame.len() >= ETHERNET_LEN).then(|| frame[6..].first_chunk().map(|mac| MacAddr(*mac))).flatten()
}

/// A number for the flow that a frame belongs to, to spread flows by: the same in both directions, and for all frames of
/// one, fragments excepted.
pub fn flow(frame: &[u8]) -> u32 {
    const FRAGMENT: u16 = 0x3fff;
    let at = |from: usize| frame.get(from).copied().unwrap_or_default();
    let (addresses, protocol, ports) = match frame.get(12..).and_then(<[u8]>::first_chunk) {
        Some(&IPV4) => {
            let whole = u16::from_be_bytes([at(20), at(21)]) & FRAGMENT == 0;
            let ports = ETHERNET_LEN + usize::from(at(14) & 0x0f) * 4;
            (between(frame, 26, 4), at(23), Some(ports).filter(|_| whole))
        }
        Some(&IPV6) => (between(frame, 22, 16), at(20), Some(ETHERNET_LEN + 40)),
        _ => (between(frame, 0, 6), 0, None),
    };
    let ports = ports.filter(|_| Transport::of(protocol).is_some()).map(|from| between(frame, from, 2));
    // Spread over all bits (Knuth's multiplicative hashing).
    (addresses ^ ports.unwrap_or_default().rotate_left(16)).wrapping_mul(0x9e37_79b1)
}

/// Two fields of one length behind each other, in either order.
fn between(frame: &[u8], from: usize, len: usize) -> u32 {
    let field = |from| frame.get(from..from + len).unwrap_or_default();
    let pairs = field(from).iter().zip(field(from + len));
    pairs.fold(0, |sum: u32, (a, b)| sum.wrapping_mul(31).wrapping_add(u32::from(a ^ b)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn way(from: &str, to: &str) -> Encapsulation {
        let vni = Vni::try_from(4097).unwrap();
        Encapsulation { from: from.parse().unwrap(), to: to.parse().unwrap(), port: 4789, vni }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_flow(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            flow(&bytes);
        }

        #[test]
        fn a_frame_comes_out_as_it_went_in(
            frame in proptest::collection::vec(any::<u8>(), 14..200),
            at in any::<proptest::sample::Index>(),
        ) {
            let (head, data) = frame.split_at(at.index(frame.len()));
            for way in [way("192.0.2.1", "192.0.2.2"), way("2001:db8::1", "2001:db8::2")] {
                for left in [None, RemoteChecksum::new(34, 50)] {
                    let mut out = Vec::new();
                    way.put(Piece { head, data, left }, &mut out);
                    prop_assert_eq!(take(&out), Some((way.vni, left, &frame[..])));
                    out.resize(out.len() + 7, 0);
                    prop_assert_eq!(take(&out), Some((way.vni, left, &frame[..])), "padded");
                }
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some((_, _, frame)) = take(&bytes) {
                prop_assert!(frame.len() + ENCAPSULATION_LEN <= bytes.len());
            }
            let _ = read_proof(&bytes);
            let _ = (destination(&bytes), source(&bytes));
        }
    }

    /// From port `from` of 10.0.1.2 to port `to` of 10.0.1.3, or the other way.
    fn segment(from: u16, to: u16, back: bool) -> Vec<u8> {
        let mut frame = vec![0x02; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        let (mut addresses, mut ports) = ([[10, 0, 1, 2], [10, 0, 1, 3]], [from, to]);
        if back {
            addresses.reverse();
            ports.reverse();
        }
        frame.extend(addresses.concat());
        frame.extend(ports.map(u16::to_be_bytes).concat());
        frame
    }

    #[test]
    fn flows_spread_and_both_directions_are_one() {
        let mut seen = [0; 4];
        for from in 40_000..40_400 {
            assert_eq!(flow(&segment(from, 80, false)), flow(&segment(from, 80, true)));
            seen[(flow(&segment(from, 80, false)) >> 30) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (60..140).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_proof_is_for_no_network() {
        for (from, to) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let mut out = proof(from.parse().unwrap(), to.parse().unwrap(), 4789);
            assert!(take(&out).is_none());
            assert_eq!(read_proof(&out), Some(Proof { completes_checksums: true }));
            // As other versions and the kernel's tunnels make it.
            for source in [49152u16, 61440] {
                out[..2].copy_from_slice(&source.to_be_bytes());
                assert_eq!(read_proof(&out), Some(Proof { completes_checksums: false }));
            }
        }
        let mut real = Vec::new();
        way("192.0.2.1", "192.0.2.2").put(Piece { head: &[], data: &[], left: None }, &mut real);
        assert_eq!(read_proof(&real), None);
    }

    #[test]
    fn over_ipv6_the_checksum_is_right() {
        let way = way("2001:db8::1", "2001:db8::2");
        let mut out = Vec::new();
        way.put(Piece { head: &[7; 20], data: &[7; 41], left: None }, &mut out);
        assert_ne!(out[6..8], [0, 0]);
        // The sum over everything, its own field included, is all ones.
        assert_eq!(way.checksum(&out), 0xffff);
    }
}
