//! The compression layer: LZW as in GIF (least significant bit first, 8 bit literals), as Go's `compress/lzw`.

use weezl::{BitOrder, LzwStatus, decode, encode};

use super::kind;
use super::msgpack::{Map, MapWriter};
use crate::WireError;

const LITERAL_BITS: u8 = 8;
/// The only algorithm number that memberlist has.
const ALGORITHM_LZW: u64 = 0;
/// The output grows in steps of this many bytes, so that a claim costs nothing until content backs it.
const CHUNK: usize = 16 * 1024;

/// `content` behind the compress layer's type byte.
pub(super) fn wrap(content: &[u8]) -> Vec<u8> {
    let packed = encode::Encoder::new(BitOrder::Lsb, LITERAL_BITS)
        .encode(content)
        .expect("every byte is a literal of 8 bits");
    MapWriter::new(vec![kind::COMPRESS], 2).uint("Algo", ALGORITHM_LZW).bytes("Buf", &packed).finish()
}

/// The content of a compress layer whose type byte is already taken; at most `limit` bytes.
pub(super) fn unwrap(body: &[u8], what: &'static str, limit: usize) -> Result<Vec<u8>, WireError> {
    let (map, _) = Map::read("compress", body)?;
    if map.uint::<u64>("Algo")? != ALGORITHM_LZW {
        return Err(WireError::Compression);
    }
    inflate(map.bytes("Buf")?, what, limit)
}

fn inflate(mut packed: &[u8], what: &'static str, limit: usize) -> Result<Vec<u8>, WireError> {
    let mut decoder = decode::Decoder::new(BitOrder::Lsb, LITERAL_BITS);
    let mut out = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let step = decoder.decode_bytes(packed, &mut chunk);
        packed = &packed[step.consumed_in..];
        out.extend_from_slice(&chunk[..step.consumed_out]);
        if out.len() > limit {
            return Err(WireError::TooLarge { what, limit });
        }
        match step.status.map_err(|_| WireError::Compression)? {
            LzwStatus::Done => return Ok(out),
            LzwStatus::NoProgress => return Err(WireError::Truncated("compressed content")),
            LzwStatus::Ok => {}
        }
    }
}
