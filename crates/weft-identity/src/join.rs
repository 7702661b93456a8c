//! Becoming a member of a swarm, and staying one: issue and renewal of the node's certificate.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use weft_wire::swarmkit::ca_client::CaClient;
use weft_wire::swarmkit::issuance_status::State;
use weft_wire::swarmkit::node_ca_client::NodeCaClient;
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::{
    GetRootCaCertificateRequest, IssueNodeCertificateRequest, NodeCertificateStatusRequest,
    NodeCertificateStatusResponse,
};

use crate::{
    CertificateError, ChannelMode, IdentityHandle, JoinError, JoinToken, NodeIdentity, NodeKey, Refusal,
    RootBundle, TokenError, channel,
};

/// One call of `NodeCertificateStatus`, which managers hold open until the state is final (SwarmKit's value).
const STATUS_DEADLINE: Duration = Duration::from_secs(5);
/// Any other call; with the handshake, on a busy manager, and perhaps while a leader is being elected.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// All of a join or renewal; Docker's client waits this long (moby daemon/cluster).
const TOTAL_DEADLINE: Duration = Duration::from_secs(20);
/// First pause between polls, doubled up to [`MAX_POLL_PAUSE`].
const POLL_PAUSE: Duration = Duration::from_millis(200);
const MAX_POLL_PAUSE: Duration = Duration::from_secs(3);

/// Joins the swarm whose manager is at `address`. Nothing is stored.
pub async fn bootstrap(
    address: SocketAddr,
    token: &JoinToken,
    availability: Availability,
) -> Result<NodeIdentity, JoinError> {
    if token.requires_fips() {
        return Err(TokenError::FipsRequired.into());
    }
    let root_pem = download_root(address, token).await?;
    let key = NodeKey::generate()?;
    let csr = key.csr_pem()?;
    let joining = channel(address, ChannelMode::Joining { root_pem: &root_pem })?;
    let request = IssueNodeCertificateRequest {
        csr: csr.clone().into_bytes(),
        token: token.to_string(),
        availability: availability.into(),
        ..Default::default()
    };
    let (node_id, certificate_pem) = issue(joining, request).await.map_err(|failure| failure.at(address))?;
    let identity = NodeIdentity::from_pem(certificate_pem, key.key_pem(), root_pem)?;
    expect_subject(&node_id, identity.node_id.as_str())?;
    verify(&identity)?;
    tracing::info!(node = %identity.node_id, swarm = %identity.swarm_id, role = %identity.role, "got a certificate");
    Ok(identity)
}

/// Gets a new certificate over `manager`, a channel made with the present one, and puts it to use.
pub async fn renew(handle: &IdentityHandle, manager: Channel) -> Result<(), JoinError> {
    let old = handle.identity();
    let key = NodeKey::generate()?;
    let request = IssueNodeCertificateRequest { csr: key.csr_pem()?.into_bytes(), ..Default::default() };
    let (_, certificate_pem) = issue(manager, request).await.map_err(IssueFailure::without_address)?;
    // The root may have been updated while the call was out.
    let root_pem = handle.identity().root_pem.clone();
    let new = NodeIdentity::from_pem(certificate_pem, key.key_pem(), root_pem)?;
    expect_subject(old.node_id.as_str(), new.node_id.as_str())?;
    expect_subject(old.swarm_id.as_str(), new.swarm_id.as_str())?;
    verify(&new)?;
    tracing::info!(node = %new.node_id, role = %new.role, "renewed the certificate");
    handle.update(new)
}

/// Downloads the root bundle from `address` and checks it against the token.
pub async fn download_root(address: SocketAddr, token: &JoinToken) -> Result<String, JoinError> {
    let mut client = CaClient::new(channel(address, ChannelMode::TrustAny)?);
    let response = deadline(CALL_DEADLINE, client.get_root_ca_certificate(GetRootCaCertificateRequest {}))
        .await
        .map_err(|status| IssueFailure::Status(status).at(address))?;
    let bytes = response.into_inner().certificate;
    token.check_root(&bytes)?;
    let root_pem = String::from_utf8(bytes).map_err(|_| CertificateError::NotPem("certificate"))?;
    RootBundle::parse(&root_pem)?;
    Ok(root_pem)
}

enum IssueFailure {
    Status(Status),
    Timeout,
}

impl IssueFailure {
    /// A transport error and an answer of the manager are different things to users.
    fn at(self, address: SocketAddr) -> JoinError {
        match self {
            Self::Timeout => JoinError::Timeout,
            Self::Status(source) if is_transport(&source) => JoinError::Unreachable { address, source },
            Self::Status(status) => JoinError::Refused(Refusal(status)),
        }
    }

    fn without_address(self) -> JoinError {
        match self {
            Self::Timeout => JoinError::Timeout,
            Self::Status(status) => JoinError::Refused(Refusal(status)),
        }
    }
}

/// tonic gives errors of the connection a source and answers of the peer none.
fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some() || status.code() == Code::DeadlineExceeded
}

/// Asks for a certificate and polls until it is issued. Gives node id and chain.
async fn issue(
    manager: Channel,
    request: IssueNodeCertificateRequest,
) -> Result<(String, String), IssueFailure> {
    let csr = request.csr.clone();
    let end = Instant::now() + TOTAL_DEADLINE;
    let mut client = NodeCaClient::new(manager);
    let response = deadline(CALL_DEADLINE, client.issue_node_certificate(request))
        .await
        .map_err(IssueFailure::Status)?;
    let node_id = response.into_inner().node_id;
    let mut pause = POLL_PAUSE;
    loop {
        let request = NodeCertificateStatusRequest { node_id: node_id.clone() };
        match deadline(STATUS_DEADLINE, client.node_certificate_status(request)).await {
            Ok(response) => {
                if let Some(certificate) = finished(response.into_inner(), &csr)? {
                    return Ok((node_id, certificate));
                }
            }
            // The manager holds the call while it is at work, or has just lost its leadership: ask again.
            Err(status)
                if matches!(status.code(), Code::DeadlineExceeded | Code::Aborted | Code::Unavailable) => {}
            Err(status) => return Err(IssueFailure::Status(status)),
        }
        if Instant::now() + pause >= end {
            return Err(IssueFailure::Timeout);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_POLL_PAUSE);
    }
}

/// The certificate, once the state is final and it was made from our request.
fn finished(response: NodeCertificateStatusResponse, csr: &[u8]) -> Result<Option<String>, IssueFailure> {
    let status = response.status.unwrap_or_default();
    match status.state() {
        State::Issued | State::Rotate => {}
        State::Failed => return Err(IssueFailure::Status(Status::failed_precondition(status.err))),
        State::Unknown | State::Renew | State::Pending => return Ok(None),
    }
    let Some(certificate) = response.certificate.filter(|certificate| certificate.csr == csr) else {
        return Ok(None);
    };
    match String::from_utf8(certificate.certificate) {
        Ok(pem) => Ok(Some(pem)),
        Err(_) => Err(IssueFailure::Status(Status::internal("the certificate is not PEM"))),
    }
}

fn expect_subject(expected: &str, found: &str) -> Result<(), JoinError> {
    if expected == found {
        Ok(())
    } else {
        Err(JoinError::WrongSubject { expected: expected.to_owned(), found: found.to_owned() })
    }
}

fn verify(identity: &NodeIdentity) -> Result<(), CertificateError> {
    RootBundle::parse(&identity.root_pem)?.verify_node(&identity.certificate_pem, SystemTime::now())
}

async fn deadline<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("the manager did not answer in time")))
}
