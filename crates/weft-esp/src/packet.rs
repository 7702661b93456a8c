//! ESP packets (RFC 4303) with AES-GCM (RFC 4106).
//!
//! ```text
//! | SPI 4 | sequence 4 | IV 8 | payload | padding 0..3 | its length 1 | next header 1 | ICV 16 or 8 |
//!  `---- authenticated ----'   `---------------- encrypted -----------------------'
//! ```
//!
//! All numbers are big endian. Weft's nodes send the whole check value among themselves; Docker's kernels send and take
//! its first half.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cipher::{AAD_LEN, Cipher, TAG_LEN, TrafficKey};
use crate::numbers::Numbers;
use crate::offload::Checksums;
use crate::{Exhausted, Refused, Window};

/// SPI, sequence number and initialisation vector.
pub const HEADER_LEN: usize = 16;
/// The integrity check value between Weft's nodes.
pub const ICV_LEN: usize = TAG_LEN;
/// The integrity check value towards Docker's nodes: 64 bits.
pub const DOCKER_ICV_LEN: usize = 8;
/// Next header: a UDP datagram.
pub const NEXT_UDP: u8 = 17;
/// Begin of datagrams on the port that are no ESP packets (RFC 3948, section 2.2): an SPI of zero.
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// Payload, padding and two bytes fill words of four (RFC 4303, section 2.4).
const ALIGN: usize = 4;
/// Between Weft's nodes the initialisation vector is the sequence number: their keys are used once.
const NATIVE_FIRST_IV: u64 = 1;

/// The SPI that a packet begins with; `None` for what is none. Which check value it ends with, only the SPI's owner
/// knows: this lets the shortest pass.
pub fn spi_of(datagram: &[u8]) -> Option<u32> {
    let spi = u32::from_be_bytes(*datagram.first_chunk()?);
    (spi != 0 && datagram.len() > HEADER_LEN + DOCKER_ICV_LEN).then_some(spi)
}

/// The longest payload of a packet of `len` bytes between Weft's nodes, which are as many as such a packet can have.
pub const fn payload_of(len: usize) -> usize {
    len.saturating_sub(HEADER_LEN + ICV_LEN + 2)
}

/// A security association as an engine that is not this crate's gets it.
#[derive(Debug, Clone, Copy)]
pub struct Association<'a> {
    /// The receiver's name for it.
    pub spi: u32,
    /// Key and salt.
    pub key: &'a TrafficKey,
    /// Length of the check value in bytes.
    pub icv_len: usize,
    /// So many sequence numbers below the highest one may still come, each once; 0: packets are taken however often.
    pub window: u32,
}

/// Makes packets of one security association. May be shared by threads.
pub struct Sealer {
    spi: u32,
    cipher: Cipher,
    icv_len: usize,
    numbers: Numbers,
    /// Whether the receiver completes checksums that are left to it, as far as it said so.
    far_completes: Arc<AtomicBool>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("spi", &self.spi).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Towards a Weft node, for a key that no other sealer ever had.
    pub fn new(spi: u32, key: &TrafficKey) -> Self {
        Self::with(spi, key, ICV_LEN, Numbers::new(NATIVE_FIRST_IV))
    }

    /// Towards a Docker node. Its keys live longer than this process, which begins at sequence number 1 again:
    /// `first_iv`, where the initialisation vectors begin, must be random.
    pub fn docker(spi: u32, key: &TrafficKey, first_iv: u64) -> Self {
        Self::docker_with(spi, key, Numbers::new(first_iv))
    }

    /// Goes on where another one of the same key is.
    pub(crate) fn docker_with(spi: u32, key: &TrafficKey, numbers: Numbers) -> Self {
        Self::with(spi, key, DOCKER_ICV_LEN, numbers)
    }

    fn with(spi: u32, key: &TrafficKey, icv_len: usize, numbers: Numbers) -> Self {
        Self { spi, cipher: key.cipher(), icv_len, numbers, far_completes: Arc::default() }
    }

    pub(crate) fn far_completes(&self) -> Arc<AtomicBool> {
        self.far_completes.clone()
    }

    /// Who completes the checksums of what it seals.
    pub fn checksums(&self) -> Checksums {
        if self.far_completes.load(Ordering::Relaxed) { Checksums::Left } else { Checksums::Complete }
    }

    /// The receiver's name for it.
    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// Whether it is time for another key.
    pub fn is_low(&self) -> bool {
        self.numbers.is_low()
    }

    /// What another engine needs to seal in its place. From then on this one must not.
    pub fn association(&self) -> Association<'_> {
        Association { spi: self.spi, key: self.cipher.secret(), icv_len: self.icv_len, window: 0 }
    }

    /// Another engine seals with this key, and gave out sequence numbers up to this one.
    pub fn note_used(&self, last: u32) {
        self.numbers.note_used(u64::from(last));
    }

    /// Seals the last bytes of `out`: from `begin` there are [`HEADER_LEN`] bytes of room and then the payload.
    pub fn seal(&self, out: &mut Vec<u8>, begin: usize, next_header: u8) -> Result<(), Exhausted> {
        let number = self.numbers.next()?;
        let inside = begin + HEADER_LEN;
        let padding = (ALIGN - (out.len() - inside + 2) % ALIGN) % ALIGN;
        out.extend_from_slice(&[1, 2, 3][..padding]);
        out.extend_from_slice(&[padding as u8, next_header]);
        let (head, body) = out.split_at_mut(inside);
        let head = &mut head[begin..];
        head[..4].copy_from_slice(&self.spi.to_be_bytes());
        head[4..8].copy_from_slice(&number.sequence.to_be_bytes());
        head[8..].copy_from_slice(&number.iv);
        let tag = self.cipher.seal(number.iv, &head[..AAD_LEN], body);
        out.extend_from_slice(&tag[..self.icv_len]);
        Ok(())
    }
}

/// What was in a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The payload, in the packet's own memory.
    pub payload: &'a mut [u8],
    /// What it is.
    pub next_header: u8,
}

/// Opens packets of one security association.
pub struct Opener {
    cipher: Cipher,
    checks: Checks,
}

/// How it is known that a packet is to be taken.
enum Checks {
    /// By the whole check value, and each at most once.
    Native(Box<Window>),
    /// By half of it, however often it comes: a Docker node that restarts begins at sequence number 1 again, under the
    /// same SPI and key, and Docker's own states have no window either. Holds what [`Cipher::open_truncated`] needs.
    Docker(Vec<u8>),
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Opener {
    /// For packets of a Weft node; the window is one in which nothing came.
    pub fn new(key: &TrafficKey) -> Self {
        Self { cipher: key.cipher(), checks: Checks::Native(Box::default()) }
    }

    /// For packets of a Docker node, which are taken as often as they come.
    pub fn docker(key: &TrafficKey) -> Self {
        Self { cipher: key.cipher(), checks: Checks::Docker(Vec::new()) }
    }

    fn icv_len(&self) -> usize {
        match self.checks {
            Checks::Native(_) => ICV_LEN,
            Checks::Docker(_) => DOCKER_ICV_LEN,
        }
    }

    /// What another engine needs to open in its place; `spi` is its name.
    pub fn association(&self, spi: u32) -> Association<'_> {
        let window = match self.checks {
            Checks::Native(_) => Window::SIZE,
            Checks::Docker(_) => 0,
        };
        Association { spi, key: self.cipher.secret(), icv_len: self.icv_len(), window }
    }

    /// Opens a packet whose SPI is this association's. After an error nothing in `packet` is to be believed.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<Opened<'a>, Refused> {
        let sealed = packet.len().checked_sub(HEADER_LEN + self.icv_len()).ok_or(Refused::Malformed)?;
        if sealed < ALIGN || !sealed.is_multiple_of(ALIGN) {
            return Err(Refused::Malformed);
        }
        let (head, body) = packet.split_at_mut(HEADER_LEN);
        let sequence = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let (aad, rest) = head.split_at(AAD_LEN);
        let mut iv = [0; 8];
        iv.copy_from_slice(rest);
        match &mut self.checks {
            Checks::Native(window) => {
                if !window.is_new(sequence) {
                    return Err(Refused::Replayed);
                }
                self.cipher.open(iv, aad, body)?;
                window.note(sequence);
            }
            Checks::Docker(scratch) => {
                let (body, icv) = body.split_at_mut(sealed);
                self.cipher.open_truncated(iv, aad, body, icv, scratch)?;
            }
        }
        inside(&mut body[..sealed])
    }
}

/// Takes the trailer off.
fn inside(plain: &mut [u8]) -> Result<Opened<'_>, Refused> {
    let end = plain.len().checked_sub(2).ok_or(Refused::Malformed)?;
    let (padding, next_header) = (usize::from(plain[end]), plain[end + 1]);
    let len = end.checked_sub(padding).ok_or(Refused::Malformed)?;
    if !plain[len..end].iter().zip(1..=u8::MAX).all(|(byte, expected)| *byte == expected) {
        return Err(Refused::Malformed);
    }
    Ok(Opened { payload: &mut plain[..len], next_header })
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
