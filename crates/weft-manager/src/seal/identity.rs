//! The private key of a locked manager's certificate, sealed as everything else that the manager keeps.
//!
//! Under the data key, which no new unlock key changes: the file of the identity and that of the data key need not be
//! written at one moment.

use std::path::Path;

use weft_identity::KeySeal;

use super::{KeyEncryptionKey, KeyFileError, Place, Sealer, key_file};

/// Seals the private key of this node's certificate.
pub(crate) struct IdentitySeal(pub(crate) Sealer);

/// Whoever opens it names the file.
fn place() -> Place<'static> {
    Place { file: Path::new(""), role: "identity", record: "private key" }
}

impl KeySeal for IdentitySeal {
    fn seal(&self, plain: &[u8]) -> Vec<u8> {
        self.0.seal(place(), plain)
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(place(), sealed).ok()
    }
}

/// The seal of the manager whose data key lies in this file.
pub(crate) fn identity_seal(path: &Path, kek: &KeyEncryptionKey) -> Result<IdentitySeal, KeyFileError> {
    key_file::open(path, kek).map(IdentitySeal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_what_it_sealed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data-key");
        let kek = KeyEncryptionKey::new(vec![5; 32]);
        key_file::open_or_create(&path, &kek).unwrap();
        let seal = identity_seal(&path, &kek).unwrap();
        let sealed = seal.seal(b"key");
        assert_eq!(identity_seal(&path, &kek).unwrap().open(&sealed).unwrap(), b"key");
        assert!(seal.open(&sealed[1..]).is_none());
        assert!(identity_seal(&path, &KeyEncryptionKey::default()).is_err());
        assert!(identity_seal(&dir.path().join("none"), &kek).is_err());
    }
}
