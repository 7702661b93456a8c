//! The memberlist wire format as Docker's nodes speak it (hashicorp/memberlist, protocol versions 1 to 5).
//!
//! Outermost first, a datagram is
//!
//! ```text
//! [ encryption 01 | nonce 12 | AES-GCM( inner ) | tag 16 ]
//! inner = [ checksum 0C | CRC-32 ]  [ compress 09 | MessagePack ]  message, or compound of messages
//! ```
//!
//! and a stream `0A | length | 01 | nonce | AES-GCM( [compress] message ) | tag`, with the first five bytes as
//! additional data. Bodies are MessagePack maps in its old form (strings and bytes alike are "raw").
//!
//! Invariants: no decoder panics or allocates more than a constant multiple of its input plus the decompression
//! limit; what an encoder writes, the decoder of the same name reads back unchanged. Nonces are arguments.
//! Not done here: labels, encryption version 0, plaintext clusters. Docker uses none of them.

mod compress;
mod datagram;
mod keyring;
mod message;
mod msgpack;
mod push_pull;
mod seal;
mod stream;

pub use datagram::{
    Datagram, DatagramLayers, MAX_DATAGRAM_CONTENT, compound, decode_datagram, encode_datagram,
};
pub use keyring::{GOSSIP_SUBSYSTEM, GossipKey, IPSEC_SUBSYSTEM, Keyring, KeyringChange, KeyringError};
pub use message::{Ack, Alive, Dead, IndirectPing, Message, Nack, Ping, Suspect, Versions};
pub use push_pull::{NodeStateKind, PushNodeState, PushPull};
pub use seal::{ENCRYPTION_OVERHEAD, Nonce};
pub use stream::{MAX_STREAM_CONTENT, StreamDecoder, StreamMessage, decode_stream, encode_stream};

/// The port of gossip, UDP and TCP; Docker has no option for it.
pub const GOSSIP_PORT: u16 = 7946;

/// Bytes that a compound adds: its type and its count.
pub const COMPOUND_OVERHEAD: usize = 2;
/// Bytes that a compound adds for each message: its length.
pub const COMPOUND_OVERHEAD_PER_MESSAGE: usize = 2;
/// Bytes that the checksum layer adds.
pub const CHECKSUM_OVERHEAD: usize = 5;
/// Most messages in one compound: the count is one byte.
pub const MAX_COMPOUND_MESSAGES: usize = 255;

/// Type bytes, from memberlist's `net.go`.
mod kind {
    pub(super) const PING: u8 = 0;
    pub(super) const INDIRECT_PING: u8 = 1;
    pub(super) const ACK: u8 = 2;
    pub(super) const SUSPECT: u8 = 3;
    pub(super) const ALIVE: u8 = 4;
    pub(super) const DEAD: u8 = 5;
    pub(super) const PUSH_PULL: u8 = 6;
    pub(super) const COMPOUND: u8 = 7;
    pub(super) const USER: u8 = 8;
    pub(super) const COMPRESS: u8 = 9;
    pub(super) const ENCRYPT: u8 = 10;
    pub(super) const NACK: u8 = 11;
    pub(super) const CHECKSUM: u8 = 12;
    pub(super) const ERROR: u8 = 13;
}
