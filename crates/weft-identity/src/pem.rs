//! Reading PEM without panics or copies of private keys in errors.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::CertificateError;

/// All certificates of `pem`, in order; at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let list = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| CertificateError::NotPem("certificate"))?;
    if list.is_empty() { Err(CertificateError::NotPem("certificate")) } else { Ok(list) }
}

/// The first private key of `pem`.
pub(crate) fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateError::NotPem("private key"))
}
