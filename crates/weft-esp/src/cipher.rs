//! AES-128-GCM as ESP uses it (RFC 4106), and the keys for it. Of two libraries the one that is faster on this processor.

use aws_lc_rs::aead as aws;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use ring::aead as plain;
use zeroize::Zeroize;

use crate::Refused;

/// SPI and sequence number.
pub(crate) const AAD_LEN: usize = 8;
/// What GCM makes; less of it may be sent.
pub(crate) const TAG_LEN: usize = 16;
pub(crate) const KEY_LEN: usize = 16;
const SALT_LEN: usize = 4;
const NONCE_LEN: usize = SALT_LEN + 8;

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
        self.cipher_of(Library::fastest())
    }

    fn cipher_of(&self, library: Library) -> Cipher {
        Cipher { key: library.expand(&self.0[..KEY_LEN]), secret: Box::new(self.clone()) }
    }
}

impl std::fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrafficKey")
    }
}

/// Who encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    /// ring: 2.1 times as fast as the other one without AVX-512.
    Ring,
    /// aws-lc-rs: a sixth faster with it.
    AwsLc,
}

impl Library {
    fn fastest() -> Self {
        // What aws-lc asks for (`crypto_gcm_avx512_enabled`).
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Self::AwsLc;
        }
        Self::Ring
    }

    fn expand(self, key: &[u8]) -> Key {
        match self {
            Self::Ring => Key::Ring(Box::new(ring_key(key))),
            Self::AwsLc => Key::AwsLc(aws_key(key)),
        }
    }
}

const EXPECTED_KEY: &str = "16 bytes are a key of AES-128";

fn ring_key(key: &[u8]) -> plain::LessSafeKey {
    plain::LessSafeKey::new(plain::UnboundKey::new(&plain::AES_128_GCM, key).expect(EXPECTED_KEY))
}

fn aws_key(key: &[u8]) -> aws::LessSafeKey {
    aws::LessSafeKey::new(aws::UnboundKey::new(&aws::AES_128_GCM, key).expect(EXPECTED_KEY))
}

/// Ready to encrypt. Stays where it is, so that it can be wiped.
enum Key {
    Ring(Box<plain::LessSafeKey>),
    /// A pointer to what the library allocated.
    AwsLc(aws::LessSafeKey),
}

impl Key {
    fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], body: &mut [u8]) -> [u8; TAG_LEN] {
        const EXPECTED: &str = "AES-GCM seals far more than a packet";
        let mut out = [0; TAG_LEN];
        match self {
            Self::Ring(key) => {
                let (nonce, aad) = (plain::Nonce::assume_unique_for_key(nonce), plain::Aad::from(aad));
                let tag = key.seal_in_place_separate_tag(nonce, aad, body).expect(EXPECTED);
                out.copy_from_slice(tag.as_ref());
            }
            Self::AwsLc(key) => {
                let (nonce, aad) = (aws::Nonce::assume_unique_for_key(nonce), aws::Aad::from(aad));
                let tag = key.seal_in_place_separate_tag(nonce, aad, body).expect(EXPECTED);
                out.copy_from_slice(tag.as_ref());
            }
        }
        out
    }

    /// `sealed` ends with the tag. False: it is not authentic.
    fn open(&self, nonce: [u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> bool {
        match self {
            Self::Ring(key) => {
                let nonce = plain::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, plain::Aad::from(aad), sealed).is_ok()
            }
            Self::AwsLc(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, aws::Aad::from(aad), sealed).is_ok()
            }
        }
    }
}

/// A key made ready.
pub(crate) struct Cipher {
    key: Key,
    /// What it was made of. The expanded key begins with it anyway.
    secret: Box<TrafficKey>,
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Cipher {
    /// ring does not wipe what it made of a key: another key takes its place. aws-lc wipes what it frees.
    fn wipe(&mut self) {
        match &mut self.key {
            Key::Ring(key) => {
                **key = ring_key(&[0; KEY_LEN]);
                std::hint::black_box(key);
            }
            Key::AwsLc(key) => *key = aws_key(&[0; KEY_LEN]),
        }
        self.secret.0.zeroize();
    }

    pub(crate) fn secret(&self) -> &TrafficKey {
        &self.secret
    }

    /// Salt and initialisation vector (RFC 4106, section 4).
    fn nonce(&self, iv: [u8; 8]) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[..SALT_LEN].copy_from_slice(&self.secret.0[KEY_LEN..]);
        nonce[SALT_LEN..].copy_from_slice(&iv);
        nonce
    }

    pub(crate) fn seal(&self, iv: [u8; 8], aad: &[u8], body: &mut [u8]) -> [u8; TAG_LEN] {
        self.key.seal(self.nonce(iv), aad, body)
    }

    /// `sealed` ends with the whole tag.
    pub(crate) fn open(&self, iv: [u8; 8], aad: &[u8], sealed: &mut [u8]) -> Result<(), Refused> {
        if self.key.open(self.nonce(iv), aad, sealed) { Ok(()) } else { Err(Refused::NotAuthentic) }
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
        let begin = tag.get(..icv.len()).ok_or(Refused::Malformed)?;
        verify_slices_are_equal(begin, icv).map_err(|_| Refused::NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARIES: [Library; 2] = [Library::Ring, Library::AwsLc];

    #[test]
    fn nothing_of_a_key_is_left_when_it_is_wiped() {
        LIBRARIES.into_iter().for_each(nothing_is_left);
    }

    fn nothing_is_left(library: Library) {
        let sealed = |cipher: &Cipher| {
            let mut body = [1; 40];
            let tag = cipher.seal([2; 8], &[3; AAD_LEN], &mut body);
            (body, tag.to_vec())
        };
        let mut cipher = TrafficKey::new([7; TrafficKey::LEN]).cipher_of(library);
        let zero = TrafficKey::new([0; TrafficKey::LEN]).cipher_of(library);
        assert_ne!(sealed(&cipher), sealed(&zero));
        cipher.wipe();
        assert_eq!(sealed(&cipher), sealed(&zero));
    }

    /// Test case 4 of the specification of GCM that NIST took over (McGrew and Viega, appendix B), its 12-byte nonce
    /// taken apart into salt and initialisation vector as RFC 4106, section 4, has it.
    #[test]
    fn the_transform_is_the_published_one() {
        LIBRARIES.into_iter().for_each(is_the_published_one);
    }

    fn is_the_published_one(library: Library) {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let mut key = [0; TrafficKey::LEN];
        key[..16].copy_from_slice(&bytes("feffe9928665731c6d6a8f9467308308"));
        key[16..].copy_from_slice(&bytes("cafebabe"));
        let cipher = TrafficKey::new(key).cipher_of(library);
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
            cipher.open_truncated(iv, &aad, &mut opened, &tag[..len], &mut Vec::new()).unwrap();
            assert_eq!(opened, plain);
        }
    }
}
