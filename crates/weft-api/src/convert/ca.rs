//! What `TLSInfo` says about the swarm's root certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::pem::parse_x509_pem;

/// `TLSInfo` of the swarm's root, from its PEM; with empty parts if it cannot be read.
pub(super) fn tls_info(root_pem: &[u8]) -> Value {
    let (subject, public_key) = issuer(root_pem).unwrap_or_default();
    described(root_pem, &subject, &public_key)
}

/// `TLSInfo` as a node described it.
pub(super) fn described(root_pem: &[u8], subject: &[u8], public_key: &[u8]) -> Value {
    json!({
        "TrustRoot": String::from_utf8_lossy(root_pem),
        "CertIssuerSubject": STANDARD.encode(subject),
        "CertIssuerPublicKey": STANDARD.encode(public_key),
    })
}

/// Subject and public key, both in DER.
fn issuer(root_pem: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, pem) = parse_x509_pem(root_pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some((certificate.subject().as_raw().to_vec(), certificate.public_key().raw.to_vec()))
}
