//! Docker's framing of output streams: `[stream 0 0 0][length, u32 big endian][payload]` (Docker Engine API,
//! "Stream format").

use bytes::{BufMut as _, Bytes, BytesMut};
use weft_engine::StreamKind;

/// Bytes of a frame's head.
const HEAD: usize = 8;

/// With a terminal there is one stream and no framing.
pub(crate) fn encode(kind: StreamKind, payload: Bytes, tty: bool) -> Bytes {
    if tty {
        return payload;
    }
    let mut frame = BytesMut::with_capacity(HEAD + payload.len());
    frame.put_u8(kind as u8);
    frame.put_bytes(0, 3);
    frame.put_u32(payload.len() as u32);
    frame.put(payload);
    frame.freeze()
}

/// The content type that tells the framing.
pub(crate) fn content_type(tty: bool) -> &'static str {
    if tty { RAW } else { MULTIPLEXED }
}

/// Raw bytes; also what clients before 1.42 expect in any case.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_look_as_recorded() {
        let frame = encode(StreamKind::Stdout, Bytes::from_static(b"out\n"), false);
        assert_eq!(&frame[..], b"\x01\0\0\0\0\0\0\x04out\n");
        assert_eq!(&encode(StreamKind::Stdout, Bytes::from_static(b"x"), true)[..], b"x");
    }
}
