//! Stores that speak TLS and want a certificate.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use weft_kv::{Store, StoreError, TlsFiles};
use weft_lab::eventually;

use crate::server::{ServerTls, loopback};
use crate::{Client, Kind, Server, UP, with_each_store};

/// An authority with the files of whom it certified.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { dir: tempfile::tempdir().unwrap(), issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Certificate and key for a name or address.
    fn certify(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &self.issuer).unwrap();
        (
            self.write(&format!("{name}.pem"), &certificate.pem()),
            self.write(&format!("{name}.key"), &key.serialize_pem()),
        )
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn certificates_prove_both_ends(kind: Kind) {
    let (authority, ip) = (Authority::new(), loopback());
    let (certificate, key) = authority.certify(&ip.to_string());
    let server = Server::start_tls(kind, ip, &ServerTls { authority: authority.file(), certificate, key });
    let mut client = Client::new(&server.url());
    let open = |client: &Client, files: &TlsFiles| {
        let _guard = client.runtime.enter();
        Store::open(&server.url().parse().unwrap(), Some(files)).unwrap()
    };
    let ours = TlsFiles { authority: authority.file(), identity: Some(authority.certify("client")) };
    client.store = open(&client, &ours);
    eventually("the store answers", UP, || client.create("k", "1").map(drop));

    client.store = open(&client, &TlsFiles { identity: None, ..ours });
    assert!(client.run(client.store.get("k")).is_err(), "without a certificate");
    let other = Authority::new();
    let stranger = TlsFiles { authority: other.file(), identity: Some(other.certify("client")) };
    client.store = open(&client, &stranger);
    let error = client.run(client.store.get("k")).unwrap_err();
    assert!(matches!(error, StoreError::Silent { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

with_each_store!(certificates_prove_both_ends);
