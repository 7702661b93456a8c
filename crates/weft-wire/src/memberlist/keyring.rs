//! The keys of gossip as the managers hand them out.
//!
//! Invariants: at least two keys, in ascending order of Lamport time, no time twice; the second oldest encrypts,
//! all decrypt. The newest is thus known everywhere one rotation before anyone sends with it.

use std::fmt;

use super::seal::Cipher;
use crate::swarmkit::EncryptionKey;
use weft_types::{Classified, ErrorKind};

/// Subsystem name of the keys of gossip in SwarmKit's key list.
pub const GOSSIP_SUBSYSTEM: &str = "networking:gossip";
/// Subsystem name of the keys of encrypted overlays in SwarmKit's key list.
pub const IPSEC_SUBSYSTEM: &str = "networking:ipsec";

/// The encrypting key is the one after the oldest.
const PRIMARY: usize = 1;

/// One key of gossip. Its `Debug` form hides the key.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKey {
    /// Identity and age of the key: messages are matched by it, not by the key's bytes.
    pub lamport_time: u64,
    /// 16, 24 or 32 bytes.
    pub key: Vec<u8>,
}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipKey").field("lamport_time", &self.lamport_time).finish_non_exhaustive()
    }
}

/// A key list that cannot be used; the keys in use stay as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// With one key there is no second oldest to encrypt with.
    #[error("got {0} gossip keys from the managers, need at least 2")]
    TooFewKeys(usize),
    /// Not an AES key.
    #[error("gossip key {lamport_time} has {len} bytes, want 16, 24 or 32")]
    KeyLength {
        /// Which key.
        lamport_time: u64,
        /// Its length in bytes.
        len: usize,
    },
}

impl Classified for KeyringError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

/// What [`Keyring::update`] did, by Lamport time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyringChange {
    /// Keys that decrypt from now on.
    pub added: Vec<u64>,
    /// Keys that no longer decrypt.
    pub removed: Vec<u64>,
    /// The encrypting key, if it is another one than before.
    pub primary: Option<u64>,
}

impl KeyringChange {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The installed keys.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<(GossipKey, Cipher)>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(key, _)| key)).finish()
    }
}

impl Keyring {
    /// A ring of `keys`, in any order.
    pub fn new(keys: impl IntoIterator<Item = GossipKey>) -> Result<Self, KeyringError> {
        let mut keys: Vec<GossipKey> = keys.into_iter().collect();
        keys.sort_by_key(|key| key.lamport_time);
        keys.dedup_by_key(|key| key.lamport_time);
        if keys.len() <= PRIMARY {
            return Err(KeyringError::TooFewKeys(keys.len()));
        }
        let keys = keys.into_iter().map(|key| {
            let refusal = KeyringError::KeyLength { lamport_time: key.lamport_time, len: key.key.len() };
            let cipher = Cipher::new(&key.key).ok_or(refusal)?;
            Ok((key, cipher))
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// The gossip keys among those that a session message carries.
    pub fn from_bootstrap_keys(keys: &[EncryptionKey]) -> Result<Self, KeyringError> {
        let gossip = keys.iter().filter(|key| key.subsystem == GOSSIP_SUBSYSTEM);
        Self::new(gossip.map(|key| GossipKey { lamport_time: key.lamport_time, key: key.key.clone() }))
    }

    /// Takes a newer list of the managers, matched with the present one by Lamport time.
    pub fn update(
        &mut self,
        keys: impl IntoIterator<Item = GossipKey>,
    ) -> Result<KeyringChange, KeyringError> {
        let next = Self::new(keys)?;
        let lacks = |ring: &Self, time: &u64| !ring.times().any(|other| other == *time);
        let change = KeyringChange {
            added: next.times().filter(|time| lacks(self, time)).collect(),
            removed: self.times().filter(|time| lacks(&next, time)).collect(),
            primary: (next.primary() != self.primary()).then(|| next.primary().lamport_time),
        };
        *self = next;
        Ok(change)
    }

    /// The key that encrypts.
    pub fn primary(&self) -> &GossipKey {
        &self.keys[PRIMARY].0
    }

    /// All keys, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &GossipKey> {
        self.keys.iter().map(|(key, _)| key)
    }

    fn times(&self) -> impl Iterator<Item = u64> {
        self.keys().map(|key| key.lamport_time)
    }

    pub(super) fn primary_cipher(&self) -> &Cipher {
        &self.keys[PRIMARY].1
    }

    /// All ciphers, the encrypting one first because peers use it too.
    pub(super) fn ciphers(&self) -> impl Iterator<Item = &Cipher> {
        let others = self.keys.iter().enumerate().filter(|(index, _)| *index != PRIMARY).map(|(_, key)| key);
        std::iter::once(&self.keys[PRIMARY]).chain(others).map(|(_, cipher)| cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(lamport_time: u64) -> GossipKey {
        GossipKey { lamport_time, key: vec![lamport_time as u8; 16] }
    }

    #[test]
    fn the_second_oldest_encrypts() {
        let ring = Keyring::new([key(1002), key(1000), key(1001)]).unwrap();
        assert_eq!(ring.primary().lamport_time, 1001);
    }

    /// The list and the outcome that a dockerd showed.
    #[test]
    fn a_rotation_adds_moves_on_and_drops() {
        let mut ring = Keyring::new([1000, 1001, 1002].map(key)).unwrap();
        let change = ring.update([1001, 1002, 1006].map(key)).unwrap();
        assert_eq!(change, KeyringChange { added: vec![1006], removed: vec![1000], primary: Some(1002) });
        assert!(ring.update([1006, 1002, 1001].map(key)).unwrap().is_empty());
    }

    #[test]
    fn a_list_that_cannot_encrypt_is_refused_and_changes_nothing() {
        let mut ring = Keyring::new([1, 2, 3].map(key)).unwrap();
        assert_eq!(ring.update([key(9)]), Err(KeyringError::TooFewKeys(1)));
        let short = GossipKey { lamport_time: 5, key: vec![0; 15] };
        assert_eq!(ring.update([key(4), short]), Err(KeyringError::KeyLength { lamport_time: 5, len: 15 }));
        assert_eq!(ring.primary().lamport_time, 2);
    }

    #[test]
    fn debug_hides_the_keys() {
        let text = format!("{:?}", Keyring::new([1, 2].map(key)).unwrap());
        assert!(text.contains("lamport_time: 1") && !text.contains("[1, 1"), "{text}");
    }
}
