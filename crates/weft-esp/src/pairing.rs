//! How two nodes come to keys of their own: two datagrams, on the port of ESP, behind the non-ESP marker.
//!
//! ```text
//! | marker 4 | version 1 | kind 1 | 0 0 | tag 4 | SPI 4 | X25519 public key 32 | HMAC-SHA-256 32 |
//! ```
//!
//! Both sides show by the HMAC that they know the managers' key of that tag, and bring a fresh public key. The keys of
//! both directions come from the shared secret and the managers' key together, bound to both addresses, public keys and
//! SPIs. So nobody without the managers' key takes part, keys of an earlier pairing never come back, and who learns the
//! managers' key later cannot read what was recorded. The answer's HMAC covers the question: an old one fits none.

use std::net::IpAddr;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroize;

use crate::{NON_ESP_MARKER, Refused, TrafficKey};

const VERSION: u8 = 1;
const PUBLIC_LEN: usize = 32;
const MAC_LEN: usize = 32;
const BODY_LEN: usize = 4 + 4 + 4 + 4 + PUBLIC_LEN;
/// Length of either datagram.
const LEN: usize = BODY_LEN + MAC_LEN;
const AUTH_LABEL: &[u8] = b"weft esp pairing 1";
const KEYS_LABEL: &[u8] = b"weft esp keys 1";

/// A key as the managers hand it out. Never shown, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ManagerKey {
    tag: u32,
    bytes: Vec<u8>,
}

impl Drop for ManagerKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl std::fmt::Debug for ManagerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagerKey").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl ManagerKey {
    /// Tags are Lamport times, cut to 32 bits as Docker does.
    pub fn new(lamport_time: u64, bytes: Vec<u8>) -> Self {
        Self { tag: lamport_time as u32, bytes }
    }

    /// Its name in datagrams.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// The secret itself.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn mac_key(&self) -> hmac::Key {
        let mut bytes = [0; MAC_LEN];
        let secret = Salt::new(HKDF_SHA256, AUTH_LABEL).extract(&self.bytes);
        expand(&secret, &[AUTH_LABEL], &mut bytes);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        bytes.zeroize();
        key
    }
}

/// Randomness for one side of a pairing; never used twice.
#[derive(Clone)]
pub struct Fresh {
    /// The private key.
    pub private: [u8; PUBLIC_LEN],
    /// The SPI under which this side receives: not zero, unlike all others in use here.
    pub spi: u32,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").field("spi", &self.spi).finish_non_exhaustive()
    }
}

/// The two datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Question = 1,
    Answer = 2,
}

/// A datagram taken apart; nothing of it is to be believed before [`Message::is_authentic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) tag: u32,
    pub(crate) spi: u32,
    pub(crate) public: [u8; PUBLIC_LEN],
    pub(crate) bytes: [u8; LEN],
}

impl Message {
    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, Refused> {
        let bytes: [u8; LEN] = datagram.try_into().map_err(|_| Refused::Malformed)?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let kind = match bytes[4..8] {
            [VERSION, 1, 0, 0] => Kind::Question,
            [VERSION, 2, 0, 0] => Kind::Answer,
            _ => return Err(Refused::Malformed),
        };
        let mut public = [0; PUBLIC_LEN];
        public.copy_from_slice(&bytes[16..BODY_LEN]);
        let message = Self { kind, tag: word(8), spi: word(12), public, bytes };
        let sound = bytes[..4] == NON_ESP_MARKER && message.spi != 0;
        if sound { Ok(message) } else { Err(Refused::Malformed) }
    }

    /// Whether somebody with the key made it, for this way.
    pub(crate) fn is_authentic(&self, way: Way, key: &ManagerKey, question: Option<&Message>) -> bool {
        let covered = covered(way, &self.bytes[..BODY_LEN], question);
        hmac::verify(&key.mac_key(), &covered, &self.bytes[BODY_LEN..]).is_ok()
    }

    fn make(way: Way, kind: Kind, own: &Side, key: &ManagerKey, question: Option<&Message>) -> Self {
        let mut bytes = [0; LEN];
        bytes[4..8].copy_from_slice(&[VERSION, kind as u8, 0, 0]);
        bytes[8..12].copy_from_slice(&key.tag.to_be_bytes());
        bytes[12..16].copy_from_slice(&own.spi.to_be_bytes());
        bytes[16..BODY_LEN].copy_from_slice(&own.public);
        let mac = hmac::sign(&key.mac_key(), &covered(way, &bytes[..BODY_LEN], question));
        bytes[BODY_LEN..].copy_from_slice(mac.as_ref());
        Self { kind, tag: key.tag, spi: own.spi, public: own.public, bytes }
    }
}

/// From one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
}

impl Way {
    fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&long(self.from));
        bytes[16..].copy_from_slice(&long(self.to));
        bytes
    }

    pub(crate) fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// Any address in 16 bytes, those of IPv4 mapped (RFC 4291, section 2.5.5.2).
pub(crate) fn long(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn covered(way: Way, body: &[u8], question: Option<&Message>) -> Vec<u8> {
    let mut covered = way.bytes().to_vec();
    covered.extend_from_slice(body);
    covered.extend(question.iter().flat_map(|question| question.bytes));
    covered
}

/// Keys of both directions, as seen from here.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) send: TrafficKey,
    pub(crate) receive: TrafficKey,
}

/// One side's part: its private key lives until the keys are made.
pub(crate) struct Side {
    private: PrivateKey,
    public: [u8; PUBLIC_LEN],
    spi: u32,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("spi", &self.spi).finish_non_exhaustive()
    }
}

impl Side {
    pub(crate) fn new(fresh: &Fresh) -> Self {
        let private = PrivateKey::from_private_key(&X25519, &fresh.private);
        let private = private.expect("any 32 bytes are a private key of X25519");
        let mut public = [0; PUBLIC_LEN];
        let computed = private.compute_public_key().expect("the key is sound");
        public.copy_from_slice(computed.as_ref());
        Self { private, public, spi: fresh.spi }
    }

    pub(crate) fn spi(&self) -> u32 {
        self.spi
    }

    /// `way` is from here.
    pub(crate) fn question(&self, way: Way, key: &ManagerKey) -> Message {
        Message::make(way, Kind::Question, self, key, None)
    }

    /// `way` is from here.
    pub(crate) fn answer(&self, way: Way, key: &ManagerKey, question: &Message) -> Message {
        Message::make(way, Kind::Answer, self, key, Some(question))
    }

    /// The keys, once both datagrams are authentic. `way` is the question's.
    pub(crate) fn keys(
        &self,
        way: Way,
        key: &ManagerKey,
        question: &Message,
        answer: &Message,
    ) -> Result<Keys, Refused> {
        let asked = question.public == self.public;
        let theirs = if asked { answer.public } else { question.public };
        let theirs = UnparsedPublicKey::new(&X25519, theirs);
        let way = way.bytes();
        let secret = agreement::agree(&self.private, theirs, Refused::Malformed, |shared| {
            Ok(Salt::new(HKDF_SHA256, &key.bytes).extract(shared))
        })?;
        let direction = |number: u8| {
            let mut bytes = [0; TrafficKey::LEN];
            let info =
                [KEYS_LABEL, &[number], &way, &question.bytes[8..BODY_LEN], &answer.bytes[8..BODY_LEN]];
            expand(&secret, &info, &mut bytes);
            let key = TrafficKey::new(bytes);
            bytes.zeroize();
            key
        };
        let (there, back) = (direction(1), direction(2));
        Ok(if asked { Keys { send: there, receive: back } } else { Keys { send: back, receive: there } })
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(secret: &Prk, info: &[&[u8]], out: &mut [u8]) {
    let filled = secret.expand(info, Length(out.len())).and_then(|okm| okm.fill(out));
    filled.expect("HKDF gives more than a few dozen bytes");
}

#[cfg(test)]
#[path = "pairing_tests.rs"]
mod tests;
