//! The layers of a datagram.

use super::keyring::Keyring;
use super::message::Message;
use super::seal::{self, Nonce};
use super::{MAX_COMPOUND_MESSAGES, compress, kind};
use crate::WireError;

/// Most bytes that the layers of one datagram may unfold to, all its parts together.
pub const MAX_DATAGRAM_CONTENT: usize = 64 * 1024;
/// Senders nest compress and compound once each; this leaves room without inviting bombs.
const MAX_LAYERS: usize = 4;

/// Which optional layers to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatagramLayers {
    /// Add a checksum; only for receivers that [understand it](super::Versions::understands_checksum).
    pub checksum: bool,
    /// Compress where that makes it smaller.
    pub compress: bool,
}

/// What a datagram held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Datagram {
    /// The messages that could be read, in order.
    pub messages: Vec<Message>,
    /// Why other parts were not read. One bad part does not spoil its neighbours.
    pub refused: Vec<WireError>,
}

/// Joins encoded messages into one: unchanged when there is one, else as compound.
pub fn compound(messages: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, WireError> {
    if let [message] = messages {
        return Ok(message.as_ref().to_vec());
    }
    if messages.len() > MAX_COMPOUND_MESSAGES {
        return Err(WireError::TooManyMessages(messages.len()));
    }
    let mut out = vec![kind::COMPOUND, messages.len() as u8];
    for message in messages {
        let len = u16::try_from(message.as_ref().len())
            .map_err(|_| WireError::TooLarge { what: "part of a compound", limit: u16::MAX.into() })?;
        out.extend(len.to_be_bytes());
    }
    for message in messages {
        out.extend(message.as_ref());
    }
    Ok(out)
}

/// A datagram of encoded messages ([`Message::encode`]), sealed with the primary key.
pub fn encode_datagram(
    messages: &[impl AsRef<[u8]>],
    layers: DatagramLayers,
    keyring: &Keyring,
    nonce: Nonce,
) -> Result<Vec<u8>, WireError> {
    let mut content = compound(messages)?;
    if layers.compress {
        let packed = compress::wrap(&content);
        if packed.len() < content.len() {
            content = packed;
        }
    }
    if layers.checksum {
        let sum = crc32(&content).to_be_bytes();
        content = [&[kind::CHECKSUM][..], &sum, &content].concat();
    }
    let mut datagram = Vec::with_capacity(content.len() + seal::ENCRYPTION_OVERHEAD);
    seal::seal(keyring, nonce, &[], &content, &mut datagram);
    Ok(datagram)
}

/// Opens a received datagram. Plaintext and unknown keys are errors of the whole.
pub fn decode_datagram(datagram: &[u8], keyring: &Keyring) -> Result<Datagram, WireError> {
    let content = seal::open(keyring, &[], datagram)?;
    let content = verify_checksum(&content)?;
    let mut unfolding = Unfolding { out: Datagram::default(), budget: MAX_DATAGRAM_CONTENT };
    unfolding.unfold_or_note(content, 0);
    Ok(unfolding.out)
}

fn verify_checksum(content: &[u8]) -> Result<&[u8], WireError> {
    let Some((&kind::CHECKSUM, rest)) = content.split_first() else { return Ok(content) };
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or(WireError::Truncated("checksum layer"))?;
    let (found, computed) = (u32::from_be_bytes(*sum), crc32(rest));
    if found == computed { Ok(rest) } else { Err(WireError::Checksum { found, computed }) }
}

/// Takes layers off until messages are left, within a budget of bytes.
struct Unfolding {
    out: Datagram,
    budget: usize,
}

impl Unfolding {
    fn unfold_or_note(&mut self, content: &[u8], depth: usize) {
        if let Err(error) = self.unfold(content, depth) {
            self.out.refused.push(error);
        }
    }

    fn unfold(&mut self, content: &[u8], depth: usize) -> Result<(), WireError> {
        let (&kind, body) = content.split_first().ok_or(WireError::Truncated("message"))?;
        match kind {
            kind::COMPRESS | kind::COMPOUND if depth >= MAX_LAYERS => Err(WireError::TooDeep("datagram")),
            kind::COMPRESS => {
                let content = compress::unwrap(body, "datagram", self.budget)?;
                self.budget -= content.len();
                self.unfold(&content, depth + 1)
            }
            kind::COMPOUND => self.unfold_compound(body, depth + 1),
            _ => {
                self.out.messages.push(Message::decode(content)?);
                Ok(())
            }
        }
    }

    fn unfold_compound(&mut self, body: &[u8], depth: usize) -> Result<(), WireError> {
        const CUT: WireError = WireError::Truncated("compound");
        let (&count, rest) = body.split_first().ok_or(CUT)?;
        let (lengths, mut parts) = rest.split_at_checked(2 * usize::from(count)).ok_or(CUT)?;
        for length in lengths.as_chunks::<2>().0 {
            let (part, behind) =
                parts.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(CUT)?;
            self.unfold_or_note(part, depth);
            parts = behind;
        }
        Ok(())
    }
}

/// CRC-32 as in IEEE 802.3, reflected, as Go's `crc32.ChecksumIEEE`.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum: u32, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32/ISO-HDLC.
    #[test]
    fn crc32_matches_its_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
