//! Sealing of everything the manager keeps on disk.
//!
//! A record is `"WFT" version key-id nonce ciphertext tag`: AES-256-GCM under the data key, with the record's
//! place (file, table, key) as associated data, so that a record moved elsewhere does not open. The data key lies
//! in a key file, wrapped by a key-encryption key that is empty unless the swarm locks its managers.
//!
//! Not done here: rotating the data key (the key id in each header is there for it).

mod identity;
mod key_file;

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

pub(crate) use identity::{IdentitySeal, identity_seal};
pub use key_file::{KeyEncryptionKey, KeyFileError};
pub(crate) use key_file::{KeyFile, open_or_create};

const MAGIC: &[u8; 3] = b"WFT";
/// Format of one sealed record.
const VERSION: u8 = 1;
const KEY_ID_AT: usize = MAGIC.len() + 1;
const NONCE_AT: usize = KEY_ID_AT + 4;
const CIPHERTEXT_AT: usize = NONCE_AT + NONCE_LEN;
const TAG_LEN: usize = 16;
/// AES-256.
const KEY_LEN: usize = 32;

/// A stored record that cannot be opened. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {record}: byte {offset}: {problem}", file.display())]
pub struct SealError {
    /// The file that holds the record.
    pub file: PathBuf,
    /// Which record of that file.
    pub record: String,
    /// Where in the record reading stopped, counted from its first byte.
    pub offset: usize,
    /// What was wrong there.
    pub problem: SealProblem,
}

/// Why a record does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealProblem {
    /// Cut off.
    #[error("the record ends early ({0} bytes)")]
    Truncated(usize),
    /// Not one of our records.
    #[error("not a sealed record")]
    Magic,
    /// Written by a newer version.
    #[error("record format {0} is not known to this version, which reads format {VERSION}")]
    Version(u8),
    /// Sealed with another data key.
    #[error("sealed with data key {found}, this manager has key {have}")]
    Key {
        /// As the record says.
        found: u32,
        /// The open one.
        have: u32,
    },
    /// The bytes were changed, or lie in another place than they were written for.
    #[error("the record does not authenticate: it is damaged, or it is not the one written here")]
    Tag,
    /// It opened, and its content is malformed.
    #[error("malformed content: {0}")]
    Content(String),
    /// No key-encryption key, where one is needed.
    #[error("the data key cannot be unwrapped: the manager is locked with another key")]
    Locked,
}

/// Seals and opens records under one data key.
pub(crate) struct Sealer {
    key: LessSafeKey,
    key_id: u32,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Where a record lies: part of what is authenticated, and of every error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Path of the file, for errors only: a store may be moved.
    pub(crate) file: &'a Path,
    /// Role of the file, such as `log`.
    pub(crate) role: &'a str,
    /// The record within the file.
    pub(crate) record: &'a str,
}

impl Place<'_> {
    pub(crate) fn error(&self, offset: usize, problem: SealProblem) -> SealError {
        SealError { file: self.file.to_path_buf(), record: self.record.to_owned(), offset, problem }
    }

    pub(crate) fn malformed(&self, error: impl std::fmt::Display) -> SealError {
        self.error(CIPHERTEXT_AT, SealProblem::Content(error.to_string()))
    }

    fn associated(&self, header: &[u8]) -> Vec<u8> {
        [header, self.role.as_bytes(), b"\0", self.record.as_bytes()].concat()
    }
}

impl Sealer {
    pub(crate) fn new(key: &[u8; KEY_LEN], key_id: u32) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes");
        Self { key: LessSafeKey::new(key), key_id }
    }

    pub(crate) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0u8; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system has randomness");
        let mut record = Vec::with_capacity(CIPHERTEXT_AT + plain.len() + TAG_LEN);
        record.extend_from_slice(MAGIC);
        record.push(VERSION);
        record.extend_from_slice(&self.key_id.to_le_bytes());
        let associated = place.associated(&record);
        record.extend_from_slice(&nonce);
        let mut body = plain.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated.as_slice()),
                &mut body,
            )
            .expect("a record is shorter than AES-GCM's limit of 64 GiB");
        record.extend_from_slice(&body);
        record
    }

    pub(crate) fn open(&self, place: Place<'_>, record: &[u8]) -> Result<Vec<u8>, SealError> {
        let truncated = || place.error(record.len(), SealProblem::Truncated(record.len()));
        let header = record.get(..NONCE_AT).ok_or_else(truncated)?;
        if &header[..MAGIC.len()] != MAGIC {
            return Err(place.error(0, SealProblem::Magic));
        }
        if header[MAGIC.len()] != VERSION {
            return Err(place.error(MAGIC.len(), SealProblem::Version(header[MAGIC.len()])));
        }
        let found = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if found != self.key_id {
            return Err(place.error(KEY_ID_AT, SealProblem::Key { found, have: self.key_id }));
        }
        let nonce = record.get(NONCE_AT..CIPHERTEXT_AT).ok_or_else(truncated)?;
        if record.len() < CIPHERTEXT_AT + TAG_LEN {
            return Err(truncated());
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| truncated())?;
        let mut body = record[CIPHERTEXT_AT..].to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(place.associated(header).as_slice()), &mut body)
            .map_err(|_| place.error(CIPHERTEXT_AT, SealProblem::Tag))?;
        let length = plain.len();
        body.truncate(length);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(record: &str) -> Place<'_> {
        Place { file: Path::new("/x/log.redb"), role: "log", record }
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_only_in_its_place(plain in proptest::collection::vec(any::<u8>(), 0..300)) {
            let sealer = Sealer::new(&[7; 32], 1);
            let record = sealer.seal(place("entry 5"), &plain);
            prop_assert_eq!(sealer.open(place("entry 5"), &record).unwrap(), plain);
            prop_assert!(sealer.open(place("entry 6"), &record).is_err());
            prop_assert!(Sealer::new(&[8; 32], 1).open(place("entry 5"), &record).is_err());
        }

        #[test]
        fn every_cut_and_every_changed_byte_is_an_error_with_file_and_offset(
            plain in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<proptest::sample::Index>(),
            change in 1u8..,
        ) {
            let sealer = Sealer::new(&[7; 32], 1);
            let record = sealer.seal(place("entry 5"), &plain);
            let at = at.index(record.len());
            let cut = sealer.open(place("entry 5"), &record[..at]).unwrap_err();
            prop_assert!(cut.offset <= record.len());
            prop_assert!(cut.to_string().starts_with("/x/log.redb: entry 5: byte "));
            let mut changed = record.clone();
            changed[at] ^= change;
            prop_assert!(sealer.open(place("entry 5"), &changed).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Sealer::new(&[7; 32], 1).open(place("x"), &bytes).is_err());
        }
    }
}
