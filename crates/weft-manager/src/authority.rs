//! The swarm's certificate authority: who gets a certificate, for what, and how long.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use weft_identity::{CertificateError, DEFAULT_NODE_VALIDITY, JoinToken, NodeRole, RootCa};
use weft_types::{NodeId, SwarmId};
use weft_wire::swarmkit::issuance_status::State;
use weft_wire::swarmkit::node_spec::Membership;
use weft_wire::swarmkit::node_status;
use weft_wire::swarmkit::{
    self, Annotations, Certificate, Cluster, IssuanceStatus, IssueNodeCertificateRequest, JoinTokens, Node,
    NodeSpec, NodeStatus,
};

use crate::consensus::ConsensusError;
use crate::core::{Contention, Core};
use crate::root_rotation;

/// A certificate was not issued. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// SwarmKit's text.
    #[error("InvalidArgument")]
    NoRequest,
    #[error("the certificate request cannot be used")]
    BadRequest(#[source] CertificateError),
    /// SwarmKit's text.
    #[error("A valid join token is necessary to join this cluster")]
    Token,
    #[error(
        "only Weft's engines can be managers of this swarm: join this node as a worker (docker swarm join-token worker)"
    )]
    ForeignManager,
    #[error("node {0} not found when attempting to renew certificate")]
    NoSuchNode(String),
    #[error("the certificate authority is not usable")]
    Authority(#[source] CertificateError),
    #[error("the swarm's state changed too often while this request was computed")]
    Contention,
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

impl From<Contention> for IssueError {
    fn from(_: Contention) -> Self {
        Self::Contention
    }
}

/// Makes a node of a machine that shows a join token. Gives the node's id. Managers of another engine would wait for
/// ever to be members of a group that they cannot talk to, so they are refused before there is anything of them.
pub(crate) async fn admit(
    core: &Core,
    request: &IssueNodeCertificateRequest,
    remote: SocketAddr,
    is_ours: bool,
) -> Result<String, IssueError> {
    let csr = check_request(request)?;
    let role = role_of_token(&core.cluster(), &request.token)?;
    if role == NodeRole::Manager && !is_ours {
        tracing::warn!(%remote, "an engine that is not Weft's wants to be a manager");
        return Err(IssueError::ForeignManager);
    }
    let id = NodeId::random(&mut rand::rng());
    core.change(|view, transaction| {
        let cluster = view.cluster().cloned().unwrap_or_default();
        let certificate = sign(&cluster, &core.swarm_id, &id, role, csr)?;
        let spec = NodeSpec {
            annotations: Some(Annotations::default()),
            desired_role: to_wire(role).into(),
            membership: Membership::Accepted.into(),
            availability: request.availability,
        };
        transaction.create(Node {
            id: id.to_string(),
            spec: Some(spec),
            status: Some(NodeStatus { state: node_status::State::Unknown.into(), ..Default::default() }),
            certificate: Some(certificate),
            role: to_wire(role).into(),
            vxlanudp_port: cluster.vxlanudp_port,
            ..Default::default()
        });
        Ok::<(), IssueError>(())
    })
    .await?;
    tracing::info!(node = %id, %role, %remote, "admitted a node");
    Ok(id.to_string())
}

/// Gives a node a new certificate, in the role that it shall have from now on.
pub(crate) async fn renew(
    core: &Core,
    node_id: &str,
    request: &IssueNodeCertificateRequest,
) -> Result<String, IssueError> {
    let csr = check_request(request)?;
    let id: NodeId = node_id.parse().map_err(|_| IssueError::NoSuchNode(node_id.to_owned()))?;
    core.change(|view, transaction| {
        let cluster = view.cluster().cloned().unwrap_or_default();
        let node = view.node(node_id).ok_or_else(|| IssueError::NoSuchNode(node_id.to_owned()))?;
        // Not the desired role: a manager becomes a worker only once it is out of the managers' group.
        let certificate = sign(&cluster, &core.swarm_id, &id, from_wire(node.role()), csr)?;
        transaction.update(Node { certificate: Some(certificate), ..Node::clone(node) });
        Ok::<(), IssueError>(())
    })
    .await?;
    tracing::info!(node = %id, "renewed a certificate");
    Ok(node_id.to_owned())
}

fn check_request(request: &IssueNodeCertificateRequest) -> Result<&str, IssueError> {
    if request.csr.is_empty() {
        return Err(IssueError::NoRequest);
    }
    std::str::from_utf8(&request.csr)
        .map_err(|_| IssueError::BadRequest(CertificateError::NotPem("certificate request")))
}

/// Manager first, both compared in constant time (SwarmKit's order).
fn role_of_token(cluster: &Cluster, presented: &str) -> Result<NodeRole, IssueError> {
    let tokens =
        cluster.root_ca.as_ref().and_then(|root| root.join_tokens.as_ref()).ok_or(IssueError::Token)?;
    let matches = |text: &str| text.parse::<JoinToken>().is_ok_and(|token| token.text_matches(presented));
    // Both, so that the answer's time does not tell which one was nearer.
    match (matches(&tokens.manager), matches(&tokens.worker)) {
        (true, _) => Ok(NodeRole::Manager),
        (_, true) => Ok(NodeRole::Worker),
        _ => Err(IssueError::Token),
    }
}

fn sign(
    cluster: &Cluster,
    swarm: &SwarmId,
    node: &NodeId,
    role: NodeRole,
    csr: &str,
) -> Result<Certificate, IssueError> {
    let signer = Signer::of(cluster).map_err(IssueError::Authority)?;
    let mut chain = signer
        .root
        .issue(csr, role, node, swarm, SystemTime::now(), validity_of(cluster))
        .map_err(IssueError::BadRequest)?;
    chain.push_str(&signer.intermediate);
    Ok(issued(node, role, csr.as_bytes().to_vec(), chain))
}

/// Who signs now.
struct Signer {
    root: RootCa,
    /// PEM that goes after each certificate: during a rotation the next root, signed by the present one.
    intermediate: String,
}

impl Signer {
    fn of(cluster: &Cluster) -> Result<Self, CertificateError> {
        let root = cluster.root_ca.clone().unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match &root.root_rotation {
            Some(rotation) => Ok(Self {
                root: root_rotation::next_of(rotation)?,
                intermediate: text(&rotation.cross_signed_ca_cert),
            }),
            None => Ok(Self {
                root: RootCa::from_pem(&text(&root.ca_cert), &text(&root.ca_key))?,
                intermediate: String::new(),
            }),
        }
    }
}

/// The object that holds an issued certificate.
pub(crate) fn issued(node: &NodeId, role: NodeRole, csr: Vec<u8>, leaf: String) -> Certificate {
    Certificate {
        role: to_wire(role).into(),
        csr,
        status: Some(IssuanceStatus { state: State::Issued.into(), ..Default::default() }),
        certificate: leaf.into_bytes(),
        cn: node.to_string(),
    }
}

/// How long node certificates live.
pub(crate) fn validity_of(cluster: &Cluster) -> Duration {
    let configured = cluster.spec.as_ref().and_then(|spec| spec.ca_config.as_ref()?.node_cert_expiry);
    configured.and_then(|expiry| expiry.try_into().ok()).unwrap_or(DEFAULT_NODE_VALIDITY)
}

pub(crate) fn to_wire(role: NodeRole) -> swarmkit::NodeRole {
    match role {
        NodeRole::Worker => swarmkit::NodeRole::Worker,
        NodeRole::Manager => swarmkit::NodeRole::Manager,
    }
}

fn from_wire(role: swarmkit::NodeRole) -> NodeRole {
    match role {
        swarmkit::NodeRole::Worker => NodeRole::Worker,
        swarmkit::NodeRole::Manager => NodeRole::Manager,
    }
}

/// What the cluster keeps of a root, with fresh join tokens.
pub(crate) fn root_object(root: &RootCa) -> swarmkit::RootCa {
    let mut rng = rand::rng();
    let pem = root.certificate_pem();
    swarmkit::RootCa {
        ca_key: root.key_pem().into_bytes(),
        ca_cert: pem.as_bytes().to_vec(),
        ca_cert_hash: format!("sha256:{}", hex(&root.digest())),
        join_tokens: Some(JoinTokens {
            worker: JoinToken::generate(&mut rng, pem).to_string(),
            manager: JoinToken::generate(&mut rng, pem).to_string(),
        }),
        ..Default::default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
