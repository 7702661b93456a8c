//! AES-128-GCM as ESP uses it (RFC 4106), and the keys for it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::Zeroize;

use crate::Refused;

/// SPI and sequence number.
pub(crate) const AAD_LEN: usize = 8;
/// What GCM makes; less of it may be sent.
pub(crate) const TAG_LEN: usize = 16;
pub(crate) const KEY_LEN: usize = 16;
const SALT_LEN: usize = 4;

/// Key and salt of one direction. Never shown, wiped when dropped.
#[derive(Clone)]
pub struct TrafficKey(pub(crate) [u8; KEY_LEN + SALT_LEN]);

impl Drop for TrafficKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl TrafficKey {
    /// Bytes of key and salt.
    pub const LEN: usize = KEY_LEN + SALT_LEN;

    /// From key and salt.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Key and salt, for an engine that is not this crate's: the kernel's. Not to be copied further.
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    pub(crate) fn cipher(&self) -> Cipher {
        Cipher { key: Box::new(expanded(&self.0[..KEY_LEN])), secret: Box::new(self.clone()) }
    }
}

fn expanded(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).expect("16 bytes are a key of AES-128"))
}

impl std::fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrafficKey")
    }
}

/// A key made ready. Stays where it is, so that it can be wiped.
pub(crate) struct Cipher {
    key: Box<LessSafeKey>,
    /// What it was made of. The expanded key begins with it anyway.
    secret: Box<TrafficKey>,
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Cipher {
    /// The library does not wipe what it made of a key: another key takes its place.
    fn wipe(&mut self) {
        *self.key = expanded(&[0; KEY_LEN]);
        std::hint::black_box(&self.key);
        self.secret.0.zeroize();
    }

    pub(crate) fn secret(&self) -> &TrafficKey {
        &self.secret
    }

    /// Salt and initialisation vector (RFC 4106, section 4).
    fn nonce(&self, iv: [u8; 8]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..SALT_LEN].copy_from_slice(&self.secret.0[KEY_LEN..]);
        nonce[SALT_LEN..].copy_from_slice(&iv);
        Nonce::assume_unique_for_key(nonce)
    }

    pub(crate) fn seal(&self, iv: [u8; 8], aad: &[u8], body: &mut [u8]) -> Tag {
        let sealed = self.key.seal_in_place_separate_tag(self.nonce(iv), Aad::from(aad), body);
        sealed.expect("AES-GCM seals far more than a packet")
    }

    /// `sealed` ends with the whole tag.
    pub(crate) fn open(&self, iv: [u8; 8], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        let opened = self.key.open_in_place(self.nonce(iv), Aad::from(aad), sealed);
        opened.map(|_| ()).map_err(|_| Refused::NotAuthentic)
    }

    /// As [`Cipher::open`] where only the tag's first bytes were sent (RFC 4106, section 6). The library opens with whole
    /// tags alone. But GCM encrypts by adding a key stream, so encrypting what is encrypted gives the plain text (the tag
    /// of that is worth nothing), and encrypting the plain text again gives the tag that the sender got. When it does
    /// not begin with `icv`, what is in `body` then must be given to nobody. `scratch` only saves an allocation.
    pub(crate) fn open_truncated(
        &self,
        iv: [u8; 8],
        aad: &[u8],
        body: &mut [u8],
        icv: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let _ = self.seal(iv, aad, body);
        scratch.clear();
        scratch.extend_from_slice(body);
        let tag = self.seal(iv, aad, scratch);
        let begin = tag.as_ref().get(..icv.len()).ok_or(Refused::Malformed)?;
        verify_slices_are_equal(begin, icv).map_err(|_| Refused::NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_key_is_left_when_it_is_wiped() {
        let sealed = |cipher: &Cipher| {
            let mut body = [1; 40];
            let tag = cipher.seal([2; 8], &[3; AAD_LEN], &mut body);
            (body, tag.as_ref().to_vec())
        };
        let mut cipher = TrafficKey::new([7; TrafficKey::LEN]).cipher();
        let zero = TrafficKey::new([0; TrafficKey::LEN]).cipher();
        assert_ne!(sealed(&cipher), sealed(&zero));
        cipher.wipe();
        assert_eq!(sealed(&cipher), sealed(&zero));
    }

    /// Test case 4 of the specification of GCM that NIST took over (McGrew and Viega, appendix B), its 12-byte nonce
    /// taken apart into salt and initialisation vector as RFC 4106, section 4, has it.
    #[test]
    fn the_transform_is_the_published_one() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let mut key = [0; TrafficKey::LEN];
        key[..16].copy_from_slice(&bytes("feffe9928665731c6d6a8f9467308308"));
        key[16..].copy_from_slice(&bytes("cafebabe"));
        let cipher = TrafficKey::new(key).cipher();
        let iv = *bytes("facedbaddecaf888").first_chunk().unwrap();
        let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5\
             aa0de657ba637b39",
        );
        let mut body = plain.clone();
        let tag = cipher.seal(iv, &aad, &mut body);
        assert_eq!(
            hex::encode(&body),
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b39\
             6a0aac973d58e091"
        );
        assert_eq!(hex::encode(tag), "5bc94fbc3221a5db94fae95ae7121a47");
        // RFC 4106, section 6, allows for these lengths.
        for len in [8, 12, 16] {
            let mut opened = body.clone();
            cipher.open_truncated(iv, &aad, &mut opened, &tag.as_ref()[..len], &mut Vec::new()).unwrap();
            assert_eq!(opened, plain);
        }
    }
}
