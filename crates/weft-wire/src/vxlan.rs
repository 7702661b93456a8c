//! The VXLAN header, RFC 7348 section 5: flags, 24 bits of network identifier, the rest reserved; and of the reserved bits
//! those that leave a checksum to the receiver (draft-herbert-vxlan-rco-00, as Linux has it in `net/vxlan.h`).

use weft_types::Vni;

use crate::WireError;

/// Length of the header in bytes.
pub const VXLAN_HEADER_LEN: usize = 8;
/// The destination port that Docker uses unless told otherwise (IANA's).
pub const VXLAN_PORT: u16 = 4789;

/// The I flag: the identifier is valid. Must be set; all other flags are ignored on receipt.
const FLAG_VNI_VALID: u8 = 0x08;
/// The C flag, in the second byte: the last byte says which checksum is left to the receiver.
const FLAG_REMOTE_CHECKSUM: u8 = 0x20;
/// The O flag, in the last byte: the checksum is where UDP has it.
const REMOTE_UDP: u8 = 0x80;
/// Where UDP and TCP have their checksums, from the begin of their headers.
const UDP_CHECKSUM_AT: usize = 6;
const TCP_CHECKSUM_AT: usize = 16;
/// The rest of the last byte counts words of two bytes.
const WORD: usize = 2;

/// A checksum of the frame that the receiver has to complete: in its place is the sum of the pseudo header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteChecksum {
    /// Where in the frame what is to be added begins: an even number of bytes, 254 at most.
    start: u8,
    udp: bool,
}

impl RemoteChecksum {
    /// Everything from `start` on, to be added up into the two bytes at `at`; `None` where the header cannot say so.
    pub fn new(start: usize, at: usize) -> Option<Self> {
        let udp = match at.checked_sub(start)? {
            UDP_CHECKSUM_AT => true,
            TCP_CHECKSUM_AT => false,
            _ => return None,
        };
        let start = u8::try_from(start).ok().filter(|start| usize::from(*start).is_multiple_of(WORD))?;
        Some(Self { start, udp })
    }

    /// Where in the frame what is to be added begins.
    pub fn start(self) -> usize {
        usize::from(self.start)
    }

    /// Where in the frame the checksum is.
    pub fn at(self) -> usize {
        self.start() + if self.udp { UDP_CHECKSUM_AT } else { TCP_CHECKSUM_AT }
    }
}

/// The header of a frame of network `vni`.
pub fn encode_vxlan_header(vni: Vni) -> [u8; VXLAN_HEADER_LEN] {
    let [_, a, b, c] = vni.get().to_be_bytes();
    [FLAG_VNI_VALID, 0, 0, 0, a, b, c, 0]
}

/// The same of a frame of which this checksum is left to the receiver, if one is. Only for receivers that said that they
/// complete it: others may drop the frame or take it for damaged.
pub fn encode_vxlan_header_with(vni: Vni, left: Option<RemoteChecksum>) -> [u8; VXLAN_HEADER_LEN] {
    let mut header = encode_vxlan_header(vni);
    if let Some(RemoteChecksum { start, udp }) = left {
        header[1] = FLAG_REMOTE_CHECKSUM;
        header[7] = (start / WORD as u8) | if udp { REMOTE_UDP } else { 0 };
    }
    header
}

/// Splits the payload of a VXLAN datagram into network identifier and inner frame.
pub fn decode_vxlan(payload: &[u8]) -> Result<(Vni, &[u8]), WireError> {
    decode_vxlan_with(payload).map(|(vni, _, frame)| (vni, frame))
}

/// The same with the checksum of the frame that is left to the receiver. Whether the frame is long enough to have one there
/// is not looked at.
pub fn decode_vxlan_with(payload: &[u8]) -> Result<(Vni, Option<RemoteChecksum>, &[u8]), WireError> {
    let (header, frame) =
        payload.split_first_chunk::<VXLAN_HEADER_LEN>().ok_or(WireError::Truncated("VXLAN header"))?;
    let [flags, more, _, _, a, b, c, last] = *header;
    if flags & FLAG_VNI_VALID == 0 {
        return Err(WireError::Field { message: "VXLAN header", field: "flags" });
    }
    let vni = Vni::try_from(u32::from_be_bytes([0, a, b, c]))
        .map_err(|_| WireError::Field { message: "VXLAN header", field: "VNI" })?;
    let left = (more & FLAG_REMOTE_CHECKSUM != 0)
        .then(|| RemoteChecksum { start: (last & !REMOTE_UDP) * WORD as u8, udp: last & REMOTE_UDP != 0 });
    Ok((vni, left, frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_as_in_the_rfc() {
        let vni = Vni::try_from(4097).unwrap();
        let header = encode_vxlan_header(vni);
        assert_eq!(header, [8, 0, 0, 0, 0, 0x10, 1, 0]);
        let payload = [&header[..], b"frame"].concat();
        assert_eq!(decode_vxlan(&payload), Ok((vni, &b"frame"[..])));
    }

    #[test]
    fn a_checksum_may_be_left_to_the_receiver() {
        let vni = Vni::try_from(4097).unwrap();
        for (start, at, last) in [(34, 50, 17), (34, 40, 0x80 | 17), (54, 60, 0x80 | 27), (254, 270, 127)] {
            let left = RemoteChecksum::new(start, at).unwrap();
            let header = encode_vxlan_header_with(vni, Some(left));
            assert_eq!(header, [8, 0x20, 0, 0, 0, 0x10, 1, last]);
            assert_eq!((left.start(), left.at()), (start, at));
            assert_eq!(decode_vxlan_with(&header), Ok((vni, Some(left), &[][..])));
        }
        assert_eq!(encode_vxlan_header_with(vni, None), encode_vxlan_header(vni));
        // Odd, too far in, of another protocol, before its own begin.
        for (start, at) in [(35, 51), (256, 272), (34, 42), (34, 33)] {
            assert_eq!(RemoteChecksum::new(start, at), None);
        }
    }

    #[test]
    fn a_header_without_identifier_or_cut_short_is_refused() {
        assert_eq!(decode_vxlan(&[0; 8]), Err(WireError::Field { message: "VXLAN header", field: "flags" }));
        assert_eq!(decode_vxlan(&[8; 7]), Err(WireError::Truncated("VXLAN header")));
    }
}
