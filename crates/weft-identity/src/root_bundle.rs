//! The root certificates that a node trusts: one, or several during a rotation.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{CertificateError, pem, tls};

/// A parsed PEM bundle in which each certificate is a usable root.
#[derive(Debug, Clone)]
pub struct RootBundle {
    store: Arc<RootCertStore>,
}

impl RootBundle {
    /// Parses `text`; each certificate must be a self-signed CA with RSA or ECDSA over SHA-2.
    pub fn parse(text: &str) -> Result<Self, CertificateError> {
        let mut store = RootCertStore::empty();
        for der in pem::certificates(text)? {
            check_root(&der)?;
            store.add(der).map_err(|source| CertificateError::Tls { source })?;
        }
        Ok(Self { store: Arc::new(store) })
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        self.store.clone()
    }

    /// Checks that the chain `leaf_pem` (leaf first) leads to one of these roots and is valid at `now`.
    pub fn verify_node(&self, leaf_pem: &str, now: SystemTime) -> Result<(), CertificateError> {
        let chain = pem::certificates(leaf_pem)?;
        let (leaf, intermediates) = chain.split_first().ok_or(CertificateError::NotPem("certificate"))?;
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        tls::client_verifier(self)?
            .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since_epoch))
            .map(|_| ())
            .map_err(|source| CertificateError::Untrusted { source })
    }
}

fn check_root(der: &CertificateDer<'_>) -> Result<(), CertificateError> {
    let (rest, root) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed("root certificate"))?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed("root certificate"));
    }
    let accepted = [
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_SIG_ECDSA_WITH_SHA512,
    ];
    if !accepted.contains(&root.signature_algorithm.algorithm) {
        return Err(CertificateError::UnusableRoot("signature algorithm is not accepted"));
    }
    if !root.is_ca() {
        return Err(CertificateError::UnusableRoot("it is no certificate authority"));
    }
    if root.subject() != root.issuer() || root.verify_signature(None).is_err() {
        return Err(CertificateError::UnusableRoot("it is not self-signed"));
    }
    Ok(())
}
