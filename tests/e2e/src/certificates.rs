//! Certificates for a daemon and its clients, as an administrator would make them with openssl.

use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority that signs for one daemon and its clients.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When there is no randomness.
    #[allow(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = params("authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` for the daemon at `address`.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn daemon(&self, dir: &Path, address: IpAddr) {
        let mut params = params("daemon", &[address.to_string()]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write(dir, &params);
    }

    /// Writes the same files for a client.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn client(&self, dir: &Path) {
        let mut params = params("client", &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.write(dir, &params);
    }

    fn write(&self, dir: &Path, params: &CertificateParams) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::create_dir_all(dir).expect("make a folder");
        let files = [
            ("ca.pem", &self.certificate),
            ("cert.pem", &certificate.pem()),
            ("key.pem", &key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(dir.join(name), text).expect("write a certificate or key");
        }
    }
}

fn params(name: &str, addresses: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(addresses.to_vec()).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
