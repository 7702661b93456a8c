//! The framing of a stream: one sealed message in each direction.

use super::keyring::Keyring;
use super::message::{Ack, Message, Ping};
use super::msgpack::{Map, MapWriter};
use super::push_pull::PushPull;
use super::seal::{self, Nonce};
use super::{compress, kind};
use crate::WireError;

/// Largest frame, and largest content after decompression (memberlist's limit of a push/pull).
pub const MAX_STREAM_CONTENT: usize = 20 * 1024 * 1024;
/// Type byte and length; also the additional data of the seal.
const HEADER_LEN: usize = 5;

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMessage {
    /// Whole membership; answered by the same.
    PushPull(PushPull),
    /// Opaque to memberlist; with Docker a NetworkDB gossip message. No answer.
    User(Vec<u8>),
    /// Probe where datagrams may be lost.
    Ping(Ping),
    /// Answer to a probe, on the same stream.
    Ack(Ack),
    /// The peer refused the request.
    Error(String),
}

impl StreamMessage {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::PushPull(exchange) => exchange.encode(),
            Self::User(content) => {
                let mut out =
                    MapWriter::new(vec![kind::USER], 1).uint("UserMsgLen", content.len() as u64).finish();
                out.extend(content);
                out
            }
            Self::Ping(ping) => Message::Ping(ping.clone()).encode(),
            Self::Ack(ack) => Message::Ack(ack.clone()).encode(),
            Self::Error(text) => MapWriter::new(vec![kind::ERROR], 1).text("Error", text).finish(),
        }
    }

    fn decode(content: &[u8]) -> Result<Self, WireError> {
        let (&kind, body) = content.split_first().ok_or(WireError::Truncated("stream message"))?;
        match kind {
            kind::PUSH_PULL => PushPull::decode(body).map(Self::PushPull),
            kind::USER => {
                let (header, rest) = Map::read("user message", body)?;
                let len: usize = header.uint("UserMsgLen")?;
                let content = rest.get(..len).ok_or(WireError::Truncated("user message"))?;
                Ok(Self::User(content.to_vec()))
            }
            kind::ERROR => Ok(Self::Error(Map::read("error", body)?.0.text("Error")?.to_owned())),
            _ => match Message::decode(content)? {
                Message::Ping(ping) => Ok(Self::Ping(ping)),
                Message::Ack(ack) => Ok(Self::Ack(ack)),
                _ => Err(WireError::UnexpectedType(kind)),
            },
        }
    }
}

/// The bytes of one direction of a stream, sealed with the primary key, compressed where that makes it smaller.
pub fn encode_stream(message: &StreamMessage, keyring: &Keyring, nonce: Nonce) -> Result<Vec<u8>, WireError> {
    let plain = message.encode();
    let packed = compress::wrap(&plain);
    let content = if packed.len() < plain.len() { packed } else { plain };
    let sealed_len = content.len() + seal::ENCRYPTION_OVERHEAD;
    if sealed_len > MAX_STREAM_CONTENT {
        return Err(WireError::TooLarge { what: "stream", limit: MAX_STREAM_CONTENT });
    }
    let mut header = [kind::ENCRYPT; HEADER_LEN];
    header[1..].copy_from_slice(&(sealed_len as u32).to_be_bytes());
    let mut stream = header.to_vec();
    seal::seal(keyring, nonce, &header, &content, &mut stream);
    Ok(stream)
}

/// Reads one whole stream direction; trailing bytes are refused.
pub fn decode_stream(bytes: &[u8], keyring: &Keyring) -> Result<StreamMessage, WireError> {
    let mut decoder = StreamDecoder::default();
    match decoder.push(bytes, keyring)? {
        Some(message) if decoder.buffered() == 0 => Ok(message),
        Some(_) => Err(WireError::TooLarge { what: "stream", limit: bytes.len() - decoder.buffered() }),
        None => Err(WireError::Truncated("stream")),
    }
}

/// Collects the pieces of one direction of a stream. After an error the stream is of no more use.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    buffer: Vec<u8>,
}

impl StreamDecoder {
    /// Takes what was received; gives the message once it is whole.
    pub fn push(&mut self, bytes: &[u8], keyring: &Keyring) -> Result<Option<StreamMessage>, WireError> {
        self.buffer.extend_from_slice(bytes);
        if let Some(&first) = self.buffer.first()
            && first != kind::ENCRYPT
        {
            return Err(WireError::NotEncrypted(first));
        }
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if len > MAX_STREAM_CONTENT {
            return Err(WireError::TooLarge { what: "stream", limit: MAX_STREAM_CONTENT });
        }
        let Some(sealed) = rest.get(..len) else { return Ok(None) };
        let message = decode_content(&seal::open(keyring, header, sealed)?)?;
        self.buffer.drain(..HEADER_LEN + len);
        Ok(Some(message))
    }

    /// Bytes received that do not yet make a message.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }
}

fn decode_content(content: &[u8]) -> Result<StreamMessage, WireError> {
    match content.split_first() {
        Some((&kind::COMPRESS, body)) => {
            StreamMessage::decode(&compress::unwrap(body, "stream", MAX_STREAM_CONTENT)?)
        }
        _ => StreamMessage::decode(content),
    }
}
