//! The VXLAN header, RFC 7348 section 5: flags, 24 bits of network identifier, the rest reserved.

use weft_types::Vni;

use crate::WireError;

/// Length of the header in bytes.
pub const VXLAN_HEADER_LEN: usize = 8;
/// The destination port that Docker uses unless told otherwise (IANA's).
pub const VXLAN_PORT: u16 = 4789;

/// The I flag: the identifier is valid. Must be set; all other flags are ignored on receipt.
const FLAG_VNI_VALID: u8 = 0x08;

/// The header of a frame of network `vni`.
pub fn encode_vxlan_header(vni: Vni) -> [u8; VXLAN_HEADER_LEN] {
    let [_, a, b, c] = vni.get().to_be_bytes();
    [FLAG_VNI_VALID, 0, 0, 0, a, b, c, 0]
}

/// Splits the payload of a VXLAN datagram into network identifier and inner frame.
pub fn decode_vxlan(payload: &[u8]) -> Result<(Vni, &[u8]), WireError> {
    let (header, frame) =
        payload.split_first_chunk::<VXLAN_HEADER_LEN>().ok_or(WireError::Truncated("VXLAN header"))?;
    let [flags, _, _, _, a, b, c, _] = *header;
    if flags & FLAG_VNI_VALID == 0 {
        return Err(WireError::Field { message: "VXLAN header", field: "flags" });
    }
    let vni = Vni::try_from(u32::from_be_bytes([0, a, b, c]))
        .map_err(|_| WireError::Field { message: "VXLAN header", field: "VNI" })?;
    Ok((vni, frame))
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
    fn a_header_without_identifier_or_cut_short_is_refused() {
        assert_eq!(decode_vxlan(&[0; 8]), Err(WireError::Field { message: "VXLAN header", field: "flags" }));
        assert_eq!(decode_vxlan(&[8; 7]), Err(WireError::Truncated("VXLAN header")));
    }
}
