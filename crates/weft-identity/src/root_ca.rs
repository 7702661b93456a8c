//! The swarm's own certificate authority.

use std::fmt;
use std::time::{Duration, SystemTime};

use rand::RngCore as _;
use rcgen::string::PrintableString;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use weft_types::{NodeId, SwarmId};
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{CertificateError, IssuerInfo, NodeRole, RootBundle, pem, token};

/// Lifetime of a root: 20 years of 365 days, as SwarmKit's.
const ROOT_VALIDITY: Duration = Duration::from_secs(630_720_000);
/// Default lifetime of a node certificate: 90 days, as SwarmKit's.
pub const DEFAULT_NODE_VALIDITY: Duration = Duration::from_secs(2160 * 3600);
/// SwarmKit replaces configured lifetimes below this by the default.
const MIN_NODE_VALIDITY: Duration = Duration::from_secs(3600);
/// How far in the past certificates begin, for nodes whose clocks are behind.
const BACKDATE: Duration = Duration::from_secs(3600);
/// DNS name that managers are verified by while joining.
pub const CA_SERVER_NAME: &str = "swarm-ca";

/// Root certificate and the key that signs node certificates.
pub struct RootCa {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl RootCa {
    /// A new self-signed root, valid from an hour before `now`.
    pub fn generate(now: SystemTime) -> Result<Self, CertificateError> {
        let failed = |source| CertificateError::Generate { action: "generate a root certificate", source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, printable(CA_SERVER_NAME)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(random_serial());
        params.not_before = OffsetDateTime::from(now - BACKDATE);
        params.not_after = OffsetDateTime::from(now + ROOT_VALIDITY);
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// The root that was kept as PEM. The first certificate is the issuer; more may follow during a rotation.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CertificateError> {
        RootBundle::parse(certificate_pem)?;
        let key = KeyPair::from_pem(key_pem).map_err(|_| CertificateError::NotPem("private key"))?;
        let mut certificates = pem::certificates(certificate_pem)?;
        let first = certificates.swap_remove(0);
        if !crate::node_identity::key_fits(&first, &key)? {
            return Err(CertificateError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&first, key)
            .map_err(|_| CertificateError::Malformed("root certificate"))?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), issuer })
    }

    /// The certificate, in exactly the bytes that join tokens digest.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key as PKCS#8 PEM: the swarm's greatest secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// SHA-256 of [`Self::certificate_pem`].
    pub fn digest(&self) -> [u8; 32] {
        token::root_digest(self.certificate_pem.as_bytes())
    }

    /// `next`'s subject and key in a certificate signed by this root: an intermediate that makes what `next` signs valid
    /// under this root too, for as long as a rotation lasts.
    pub fn cross_sign(&self, next: &Self, now: SystemTime) -> Result<String, CertificateError> {
        let next_der = pem::certificates(&next.certificate_pem)?.swap_remove(0);
        let (_, next_x509) = X509Certificate::from_der(&next_der)
            .map_err(|_| CertificateError::Malformed("root certificate"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject_of(&next_x509)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(random_serial());
        params.not_before = OffsetDateTime::from(now - BACKDATE);
        params.not_after = OffsetDateTime::from(now + ROOT_VALIDITY);
        let cross = params
            .signed_by(next.issuer.key(), &self.issuer)
            .map_err(|source| CertificateError::Generate { action: "cross-sign a root", source })?;
        // Chains are built by comparing names as bytes.
        let (_, signed) = X509Certificate::from_der(cross.der())
            .map_err(|_| CertificateError::Malformed("cross-signed root"))?;
        if signed.subject().as_raw() != next_x509.subject().as_raw() {
            return Err(CertificateError::UnusableRoot("its subject cannot be written as it is"));
        }
        Ok(cross.pem())
    }

    /// Subject and public key, as nodes report of the issuer of their certificates.
    pub fn issuer_info(&self) -> Result<IssuerInfo, CertificateError> {
        let der = pem::certificates(&self.certificate_pem)?.swap_remove(0);
        let (_, x509) =
            X509Certificate::from_der(&der).map_err(|_| CertificateError::Malformed("root certificate"))?;
        Ok(IssuerInfo {
            subject: x509.subject().as_raw().to_vec(),
            public_key: x509.public_key().raw.to_vec(),
        })
    }

    /// End of the certificate's validity.
    pub fn not_after(&self) -> Result<SystemTime, CertificateError> {
        let der = pem::certificates(&self.certificate_pem)?.swap_remove(0);
        let (_, x509) =
            X509Certificate::from_der(&der).map_err(|_| CertificateError::Malformed("root certificate"))?;
        let seconds = u64::try_from(x509.validity().not_after.timestamp()).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// A certificate for the public key of `csr_pem`; everything else is decided here, not by the request.
    pub fn issue(
        &self,
        csr_pem: &str,
        role: NodeRole,
        node: &NodeId,
        swarm: &SwarmId,
        now: SystemTime,
        validity: Duration,
    ) -> Result<String, CertificateError> {
        let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
            .map_err(|_| CertificateError::Malformed("certificate request"))?;
        let mut request = CertificateSigningRequestParams::from_der(&der)
            .map_err(|_| CertificateError::Malformed("certificate request"))?;
        request.params = node_params(role, node, swarm, now, validity)?;
        let certificate = request
            .signed_by(&self.issuer)
            .map_err(|source| CertificateError::Generate { action: "sign a certificate", source })?;
        Ok(certificate.pem())
    }
}

impl fmt::Debug for RootCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCa").field("certificate", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// The subject with the parts that roots have.
fn subject_of(certificate: &X509Certificate<'_>) -> Result<DistinguishedName, CertificateError> {
    let mut name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let text =
            attribute.as_str().map_err(|_| CertificateError::UnusableRoot("its subject is no text"))?;
        let kind = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => DnType::CommonName,
            "2.5.4.6" => DnType::CountryName,
            "2.5.4.7" => DnType::LocalityName,
            "2.5.4.8" => DnType::StateOrProvinceName,
            "2.5.4.10" => DnType::OrganizationName,
            "2.5.4.11" => DnType::OrganizationalUnitName,
            _ => return Err(CertificateError::UnusableRoot("its subject has a part that is not known")),
        };
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => printable(text)?,
            _ => DnValue::Utf8String(text.to_owned()),
        };
        name.push(kind, value);
    }
    Ok(name)
}

fn node_params(
    role: NodeRole,
    node: &NodeId,
    swarm: &SwarmId,
    now: SystemTime,
    validity: Duration,
) -> Result<CertificateParams, CertificateError> {
    let validity = if validity < MIN_NODE_VALIDITY { DEFAULT_NODE_VALIDITY } else { validity };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // SwarmKit's nodes read the subject by type, but its own order is kept for those who compare names as bytes.
    params.distinguished_name.push(DnType::OrganizationName, printable(swarm.as_str())?);
    params.distinguished_name.push(DnType::OrganizationalUnitName, printable(role.as_str())?);
    params.distinguished_name.push(DnType::CommonName, printable(node.as_str())?);
    let mut names = vec![role.as_str(), node.as_str()];
    if role == NodeRole::Manager {
        names.push(CA_SERVER_NAME);
    }
    for name in names {
        let name =
            name.try_into().map_err(|source| CertificateError::Generate { action: "name a node", source })?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(random_serial());
    params.not_before = OffsetDateTime::from(now - BACKDATE);
    params.not_after = OffsetDateTime::from(now + validity);
    Ok(params)
}

/// Go's encoder, and so Docker's certificates, use PrintableString where the alphabet allows it.
fn printable(text: &str) -> Result<DnValue, CertificateError> {
    PrintableString::try_from(text)
        .map(DnValue::PrintableString)
        .map_err(|source| CertificateError::Generate { action: "name a certificate", source })
}

/// 20 random bytes, positive as RFC 5280 section 4.1.2.2 wants it.
fn random_serial() -> SerialNumber {
    let mut bytes = vec![0u8; 20];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from(bytes)
}

#[cfg(test)]
#[path = "root_ca_test.rs"]
mod tests;
