//! Compressed streams, recognised by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

/// Decompresses gzip and zstd; passes everything else through.
pub(crate) fn decompress<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let head = input.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(input)?))
    } else if head.starts_with(b"BZh") || head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z']) {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "bzip2 and xz archives are not supported: use gzip or zstd",
        ))
    } else {
        Ok(Box::new(input))
    }
}
