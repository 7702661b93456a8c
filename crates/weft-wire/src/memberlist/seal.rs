//! The encryption layer, version 1: `01 | nonce | AES-GCM(content) | tag`.

use std::sync::Arc;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, UnboundKey};

use super::keyring::Keyring;
use crate::WireError;

/// Encryption version 1 of memberlist: no padding.
const VERSION: u8 = 1;
const TAG_LEN: usize = 16;

/// Bytes that encryption adds: version, nonce and tag.
pub const ENCRYPTION_OVERHEAD: usize = 1 + NONCE_LEN + TAG_LEN;

/// Must be unique for each use of a key; callers draw it at random, as all peers do.
pub type Nonce = [u8; NONCE_LEN];

/// An AES-GCM key that was accepted by its length.
#[derive(Clone)]
pub(super) struct Cipher(Arc<LessSafeKey>);

impl Cipher {
    /// AES-128, 192 or 256 by the length of `key`.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &aead::AES_128_GCM,
            24 => &aead::AES_192_GCM,
            32 => &aead::AES_256_GCM,
            _ => return None,
        };
        UnboundKey::new(algorithm, key).ok().map(|key| Self(Arc::new(LessSafeKey::new(key))))
    }
}

/// Appends the sealed `content` to `out`, under the primary key, bound to `aad`.
pub(super) fn seal(keyring: &Keyring, nonce: Nonce, aad: &[u8], content: &[u8], out: &mut Vec<u8>) {
    out.push(VERSION);
    out.extend(nonce);
    let mut sealed = content.to_vec();
    keyring
        .primary_cipher()
        .0
        .seal_in_place_append_tag(aead::Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
        .expect("AES-GCM seals far more than the longest message");
    out.extend(sealed);
}

/// The content of a sealed layer, by whichever installed key opens it.
pub(super) fn open(keyring: &Keyring, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, WireError> {
    let (&version, rest) = sealed.split_first().ok_or(WireError::Truncated("encryption layer"))?;
    if version != VERSION {
        return Err(WireError::NotEncrypted(version));
    }
    if rest.len() < NONCE_LEN + TAG_LEN {
        return Err(WireError::Truncated("encryption layer"));
    }
    let (nonce, content) = rest.split_at(NONCE_LEN);
    for cipher in keyring.ciphers() {
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).expect("split at the length of a nonce");
        let mut buffer = content.to_vec();
        if let Ok(plain) = cipher.0.open_in_place(nonce, Aad::from(aad), &mut buffer) {
            let len = plain.len();
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
    Err(WireError::NoKeyDecrypts)
}
