//! The private key of a node and the request that its certificate is made from.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::CertificateError;

/// A P-256 key, made on the node and never sent anywhere.
pub struct NodeKey {
    pair: KeyPair,
}

impl NodeKey {
    /// A new key.
    pub fn generate() -> Result<Self, CertificateError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|source| CertificateError::Generate { action: "generate a key", source })?;
        Ok(Self { pair })
    }

    /// A certificate request with an empty subject and no extensions: the signer decides both.
    pub fn csr_pem(&self) -> Result<String, CertificateError> {
        let failed = |source| CertificateError::Generate { action: "make a certificate request", source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&self.pair).and_then(|request| request.pem()).map_err(failed)
    }

    /// The key as PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        self.pair.serialize_pem()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(…)")
    }
}
