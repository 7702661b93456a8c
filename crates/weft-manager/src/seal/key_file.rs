//! The file that holds the data key, wrapped.
//!
//! `"WFK" version flags key-id nonce wrapped-key tag`. The wrapping key is SHA-256 over a label and the
//! key-encryption key. An empty one wraps too: the format is the same before and after autolock.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;

use super::{KEY_LEN, Place, SealError, SealProblem, Sealer};

const MAGIC: &[u8; 3] = b"WFK";
const VERSION: u8 = 1;
/// Set when a key-encryption key that is not empty wraps the data key.
const FLAG_LOCKED: u8 = 1;
const FLAGS_AT: usize = 4;
const KEY_ID_AT: usize = 5;
const NONCE_AT: usize = 9;
const WRAPPED_AT: usize = NONCE_AT + NONCE_LEN;
const FILE_LEN: usize = WRAPPED_AT + KEY_LEN + 16;
const FIRST_KEY_ID: u32 = 1;
const LABEL: &[u8] = b"weft data key wrap 1\0";

/// What wraps the data key; empty unless the swarm locks its managers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyEncryptionKey(Vec<u8>);

impl KeyEncryptionKey {
    /// A key from autolock.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    fn wrapping_key(&self) -> LessSafeKey {
        let key = digest::digest(&digest::SHA256, &[LABEL, &self.0].concat());
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("SHA-256 gives 32 bytes");
        LessSafeKey::new(key)
    }
}

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "KeyEncryptionKey(empty)" } else { "KeyEncryptionKey(set)" })
    }
}

/// The key file cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Reading or writing failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its bytes are no key file, or the key does not unwrap.
    #[error(transparent)]
    Sealed(#[from] SealError),
}

/// The key file of an open store: it can be wrapped with another key.
pub(crate) struct KeyFile {
    path: PathBuf,
    kek: Mutex<KeyEncryptionKey>,
}

impl KeyFile {
    /// The file at `path`, which opens with `kek`.
    pub(crate) fn new(path: PathBuf, kek: KeyEncryptionKey) -> Self {
        Self { path, kek: Mutex::new(kek) }
    }

    /// What seals with the data key.
    pub(crate) fn sealer(&self) -> Result<Sealer, KeyFileError> {
        let kek = self.kek.lock().unwrap_or_else(PoisonError::into_inner);
        open(&self.path, &kek)
    }

    /// Wraps the data key with `next` from now on. Whether anything changed.
    pub(crate) fn rewrap(&self, next: &KeyEncryptionKey) -> Result<bool, KeyFileError> {
        let mut kek = self.kek.lock().unwrap_or_else(PoisonError::into_inner);
        if *kek == *next {
            return Ok(false);
        }
        let io_error = |action| move |source| KeyFileError::Io { action, path: self.path.clone(), source };
        let bytes = std::fs::read(&self.path).map_err(io_error("read"))?;
        let (key, key_id) = unwrap(&self.path, &bytes, &kek)?;
        weft_durable::replace(&self.path, &encode(&key, key_id, next), 0o600).map_err(io_error("write"))?;
        *kek = next.clone();
        Ok(true)
    }
}

/// Reads the key file.
pub(crate) fn open(path: &Path, kek: &KeyEncryptionKey) -> Result<Sealer, KeyFileError> {
    let io_error = |source| KeyFileError::Io { action: "read", path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(io_error)?;
    Ok(parse(path, &bytes, kek)?)
}

/// Reads the key file, or makes one with a fresh data key if there is none.
pub(crate) fn open_or_create(path: &Path, kek: &KeyEncryptionKey) -> Result<Sealer, KeyFileError> {
    let io_error = |action| move |source| KeyFileError::Io { action, path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => {
            file.read_to_end(&mut bytes).map_err(io_error("read"))?;
            Ok(parse(path, &bytes, kek)?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0u8; KEY_LEN];
            aws_lc_rs::rand::fill(&mut key).expect("the system has randomness");
            weft_durable::replace(path, &encode(&key, FIRST_KEY_ID, kek), 0o600)
                .map_err(io_error("write"))?;
            Ok(Sealer::new(&key, FIRST_KEY_ID))
        }
        Err(error) => Err(io_error("open")(error)),
    }
}

fn encode(key: &[u8; KEY_LEN], key_id: u32, kek: &KeyEncryptionKey) -> Vec<u8> {
    let mut nonce = [0u8; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).expect("the system has randomness");
    let mut out = Vec::with_capacity(FILE_LEN);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.push(if kek.0.is_empty() { 0 } else { FLAG_LOCKED });
    out.extend_from_slice(&key_id.to_le_bytes());
    let mut wrapped = key.to_vec();
    kek.wrapping_key()
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(out.as_slice()),
            &mut wrapped,
        )
        .expect("32 bytes are within AES-GCM's limits");
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&wrapped);
    out
}

fn parse(path: &Path, bytes: &[u8], kek: &KeyEncryptionKey) -> Result<Sealer, SealError> {
    let (key, key_id) = unwrap(path, bytes, kek)?;
    Ok(Sealer::new(&key, key_id))
}

/// The data key with its id.
fn unwrap(path: &Path, bytes: &[u8], kek: &KeyEncryptionKey) -> Result<([u8; KEY_LEN], u32), SealError> {
    let place = Place { file: path, role: "key", record: "data key" };
    if bytes.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
        return Err(place.error(0, SealProblem::Magic));
    }
    match bytes.get(MAGIC.len()) {
        Some(&VERSION) => {}
        Some(&other) => return Err(place.error(MAGIC.len(), SealProblem::Version(other))),
        None => return Err(place.error(bytes.len(), SealProblem::Truncated(bytes.len()))),
    }
    if bytes.len() != FILE_LEN {
        return Err(place.error(bytes.len(), SealProblem::Truncated(bytes.len())));
    }
    if bytes[FLAGS_AT] & FLAG_LOCKED != 0 && kek.0.is_empty() {
        return Err(place.error(FLAGS_AT, SealProblem::Locked));
    }
    let key_id = u32::from_le_bytes([
        bytes[KEY_ID_AT],
        bytes[KEY_ID_AT + 1],
        bytes[KEY_ID_AT + 2],
        bytes[KEY_ID_AT + 3],
    ]);
    let tag_error = |_| place.error(WRAPPED_AT, SealProblem::Tag);
    let nonce = Nonce::try_assume_unique_for_key(&bytes[NONCE_AT..WRAPPED_AT]).map_err(tag_error)?;
    let mut wrapped = bytes[WRAPPED_AT..].to_vec();
    let key = kek
        .wrapping_key()
        .open_in_place(nonce, Aad::from(&bytes[..NONCE_AT]), &mut wrapped)
        .map_err(tag_error)?;
    let key: [u8; KEY_LEN] =
        (&*key).try_into().map_err(|_| place.error(WRAPPED_AT, SealProblem::Truncated(bytes.len())))?;
    Ok((key, key_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &Path) -> Place<'_> {
        Place { file, role: "log", record: "1" }
    }

    #[test]
    fn the_key_survives_and_a_wrong_lock_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data-key");
        let kek = KeyEncryptionKey::new(b"lock".to_vec());
        let sealed = open_or_create(&path, &kek).unwrap().seal(place(&path), b"secret");
        assert_eq!(open_or_create(&path, &kek).unwrap().open(place(&path), &sealed).unwrap(), b"secret");
        let locked = open_or_create(&path, &KeyEncryptionKey::default()).unwrap_err();
        assert!(locked.to_string().contains("locked"), "{locked}");
        let wrong = KeyEncryptionKey::new(b"other".to_vec());
        assert!(open_or_create(&path, &wrong).unwrap_err().to_string().contains("data-key"));
    }

    #[test]
    fn another_lock_key_leaves_the_data_key_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data-key");
        let (none, lock) = (KeyEncryptionKey::default(), KeyEncryptionKey::new(vec![5; 32]));
        let sealed = open_or_create(&path, &none).unwrap().seal(place(&path), b"secret");
        let file = KeyFile::new(path.clone(), none.clone());
        assert!(file.rewrap(&lock).unwrap());
        assert!(!file.rewrap(&lock).unwrap());
        assert!(open_or_create(&path, &none).unwrap_err().to_string().contains("locked"));
        assert_eq!(open_or_create(&path, &lock).unwrap().open(place(&path), &sealed).unwrap(), b"secret");
        assert!(file.rewrap(&none).unwrap());
        assert_eq!(open_or_create(&path, &none).unwrap().open(place(&path), &sealed).unwrap(), b"secret");
    }

    #[test]
    fn a_damaged_key_file_is_an_error_with_its_name_at_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data-key");
        open_or_create(&path, &KeyEncryptionKey::default()).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let cut = parse(&path, &good[..at], &KeyEncryptionKey::default()).unwrap_err();
            assert!(cut.to_string().contains("data-key"), "{cut}");
            let mut changed = good.clone();
            changed[at] ^= 0x40;
            assert!(parse(&path, &changed, &KeyEncryptionKey::default()).is_err(), "byte {at}");
        }
    }
}
