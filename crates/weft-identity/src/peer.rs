//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use tonic::Status;
use weft_types::{NodeId, SwarmId};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{CertificateError, NodeRole};

/// What a node's certificate says about it. It says so truly only if the chain was verified before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Common name.
    pub node_id: NodeId,
    /// Organisation.
    pub swarm_id: SwarmId,
    /// Organisational unit.
    pub role: NodeRole,
}

impl PeerCertificate {
    /// Reads the subject of a DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed("certificate"))?;
        Self::from_x509(&certificate)
    }

    pub(crate) fn from_x509(certificate: &X509Certificate<'_>) -> Result<Self, CertificateError> {
        let subject = certificate.subject();
        let cn = subject.iter_common_name().next().and_then(|a| a.as_str().ok());
        let ou = subject.iter_organizational_unit().next().and_then(|a| a.as_str().ok());
        let o = subject.iter_organization().next().and_then(|a| a.as_str().ok());
        Ok(Self {
            node_id: cn.and_then(|text| text.parse().ok()).ok_or(CertificateError::Subject("node id"))?,
            swarm_id: o.and_then(|text| text.parse().ok()).ok_or(CertificateError::Subject("swarm id"))?,
            role: ou.ok_or(CertificateError::Subject("role"))?.parse()?,
        })
    }
}

/// What tonic puts into the extensions of each request: `request.extensions().get::<ConnectInfo>()`.
#[derive(Debug, Clone)]
pub struct ConnectInfo {
    /// Address of the peer.
    pub remote: SocketAddr,
    /// Its certificate, verified against the swarm's root; none for a machine that joins.
    pub peer: Option<Arc<PeerCertificate>>,
}

impl ConnectInfo {
    /// The peer, if it is a member of `swarm` in one of `roles`; else SwarmKit's refusal.
    #[allow(clippy::result_large_err, reason = "tonic's own error type; every caller returns it as it is")]
    pub fn authorize(&self, swarm: &SwarmId, roles: &[NodeRole]) -> Result<&PeerCertificate, Status> {
        let peer = self.peer.as_deref().ok_or_else(|| {
            Status::permission_denied("Permission denied: no client certificates in request")
        })?;
        if !roles.contains(&peer.role) {
            let wanted: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
            return Err(Status::permission_denied(format!(
                "Permission denied: remote certificate not part of OUs: [{}]",
                wanted.join(" ")
            )));
        }
        if peer.swarm_id != *swarm {
            return Err(Status::permission_denied(format!(
                "Permission denied: remote certificate not part of organization: {swarm}"
            )));
        }
        Ok(peer)
    }
}
