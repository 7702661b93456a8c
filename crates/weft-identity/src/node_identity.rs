//! Who this node is: its certificate, key and the root it trusts, kept in one file.
//!
//! One file and one rename: after a crash the identity is the old one or the new one, never half of each.

use std::fmt;
use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use weft_types::{NodeId, SwarmId};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{CertificateError, NodeRole, PeerCertificate, RootBundle, StoreError, pem};

const FILE_NAME: &str = "node-identity.json";
/// With the private key as it is.
const PLAIN: u32 = 1;
/// With the private key sealed.
const SEALED: u32 = 2;

/// Certificate, key and root of this node; the ids and times are those in the certificate.
#[derive(Clone)]
pub struct NodeIdentity {
    /// This node.
    pub node_id: NodeId,
    /// The swarm it is in.
    pub swarm_id: SwarmId,
    /// What it is there.
    pub role: NodeRole,
    /// Chain, leaf first.
    pub certificate_pem: String,
    /// PKCS#8.
    pub key_pem: String,
    /// Bundle of trusted roots.
    pub root_pem: String,
    /// Begin of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    certificate: String,
    key: String,
    root: String,
}

impl NodeIdentity {
    /// Reads what the certificate says and checks that key and root are usable. Does not look at the clock.
    pub fn from_pem(
        certificate_pem: String,
        key_pem: String,
        root_pem: String,
    ) -> Result<Self, CertificateError> {
        RootBundle::parse(&root_pem)?;
        let chain = pem::certificates(&certificate_pem)?;
        let leaf = chain.first().ok_or(CertificateError::NotPem("certificate"))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| CertificateError::NotPem("private key"))?;
        if !key_fits(leaf, &key)? {
            return Err(CertificateError::KeyMismatch);
        }
        let (_, x509) =
            X509Certificate::from_der(leaf).map_err(|_| CertificateError::Malformed("certificate"))?;
        let peer = PeerCertificate::from_x509(&x509)?;
        let at =
            |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let (not_before, not_after) =
            (at(x509.validity().not_before.timestamp()), at(x509.validity().not_after.timestamp()));
        Ok(Self {
            node_id: peer.node_id,
            swarm_id: peer.swarm_id,
            role: peer.role,
            certificate_pem,
            key_pem,
            root_pem,
            not_before,
            not_after,
        })
    }

    /// Whether the certificate's time is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }

    /// When to renew: uniformly between 50 % and 80 % of the validity, in whole minutes, as SwarmKit does;
    /// `fraction` in 0..1 is the random part.
    pub fn renewal_time(&self, fraction: f64) -> SystemTime {
        let validity = self.not_after.duration_since(self.not_before).unwrap_or_default();
        let share = 0.5 + 0.3 * fraction.clamp(0.0, 1.0);
        let minutes = (validity.as_secs_f64() * share / 60.0) as u64;
        self.not_before + Duration::from_secs(minutes * 60)
    }

    /// Subject of the issuer and its public key, both DER: what `NodeDescription.tls_info` reports.
    pub fn issuer_info(&self) -> Result<IssuerInfo, CertificateError> {
        let malformed = || CertificateError::Malformed("certificate");
        let chain = pem::certificates(&self.certificate_pem)?;
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|_| malformed())?;
        // The issuer's key is in the certificate whose subject is the leaf's issuer: an intermediate, or a root.
        let roots = pem::certificates(&self.root_pem)?;
        for der in chain[1..].iter().chain(&roots) {
            let (_, issuer) = X509Certificate::from_der(der).map_err(|_| malformed())?;
            if issuer.subject() == leaf.issuer() && leaf.verify_signature(Some(issuer.public_key())).is_ok() {
                return Ok(IssuerInfo {
                    subject: leaf.issuer().as_raw().to_vec(),
                    public_key: issuer.public_key().raw.to_vec(),
                });
            }
        }
        Err(malformed())
    }

    /// Whether the private key kept in `dir` is sealed.
    pub fn is_sealed(dir: &Path) -> Result<bool, StoreError> {
        Ok(Stored::read(dir)?.format == SEALED)
    }

    /// The identity kept in `dir`; `seal` opens its private key if that is sealed.
    pub fn load(dir: &Path, seal: Option<&dyn KeySeal>) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        let stored = Stored::read(dir)?;
        let key = match (stored.format, seal) {
            (SEALED, Some(seal)) => open_key(&stored.key, seal).ok_or(StoreError::Sealed(path.clone()))?,
            (SEALED, None) => return Err(StoreError::Sealed(path)),
            _ => stored.key,
        };
        Self::from_pem(stored.certificate, key, stored.root)
            .map_err(|source| StoreError::Certificate { path, source })
    }

    /// Keeps the identity in `dir` (made if missing), its private key sealed if there is a seal; returns when it is
    /// safe on disk.
    pub fn store(&self, dir: &Path, seal: Option<&dyn KeySeal>) -> Result<(), StoreError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { action, path, source }
        };
        std::fs::create_dir_all(dir).map_err(io("create", dir))?;
        let path = dir.join(FILE_NAME);
        let stored = Stored {
            format: if seal.is_some() { SEALED } else { PLAIN },
            certificate: self.certificate_pem.clone(),
            key: match seal {
                Some(seal) => to_hex(&seal.seal(self.key_pem.as_bytes())),
                None => self.key_pem.clone(),
            },
            root: self.root_pem.clone(),
        };
        let bytes = serde_json::to_vec_pretty(&stored)
            .map_err(|source| StoreError::Malformed { path: path.clone(), source })?;
        weft_durable::replace(&path, &bytes, 0o600).map_err(io("write", &path))
    }

    /// Forgets the identity kept in `dir`, if there is one.
    pub fn remove(dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(FILE_NAME);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != IoErrorKind::NotFound => {
                Err(StoreError::Io { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }
}

impl Stored {
    fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE_NAME);
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
            IoErrorKind::NotFound => StoreError::Missing(dir.to_owned()),
            _ => StoreError::Io { action: "read", path: path.clone(), source },
        })?;
        let stored: Self = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Malformed { path: path.clone(), source })?;
        match stored.format {
            PLAIN | SEALED => Ok(stored),
            found => Err(StoreError::Format { path, found, known: SEALED }),
        }
    }
}

/// Seals the private key of a manager that is locked, so that the file says nothing without the swarm's unlock key.
pub trait KeySeal: Send + Sync {
    /// What is kept on disk.
    fn seal(&self, plain: &[u8]) -> Vec<u8>;
    /// The inverse; none of what another seal made, or of damaged bytes.
    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>>;
}

fn open_key(text: &str, seal: &dyn KeySeal) -> Option<String> {
    String::from_utf8(seal.open(&from_hex(text)?)?).ok()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Issuer of a node's certificate, as the manager wants to hear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerInfo {
    /// DER name.
    pub subject: Vec<u8>,
    /// DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

/// The key stays out of logs.
impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIdentity")
            .field("node_id", &self.node_id)
            .field("swarm_id", &self.swarm_id)
            .field("role", &self.role)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Whether `key` is the private half of the public key in the certificate `der`.
pub(crate) fn key_fits(der: &[u8], key: &KeyPair) -> Result<bool, CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed("certificate"))?;
    Ok(certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
}

#[cfg(test)]
#[path = "node_identity_test.rs"]
mod tests;
