//! Joining, renewal and refusals over real TLS connections on loopback, against a small CA service.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use weft_identity::{
    ChannelMode, ConnectInfo, DEFAULT_NODE_VALIDITY, IdentityHandle, JoinError, JoinToken, NodeIdentity,
    NodeKey, NodeRole, RootCa, TokenError, bootstrap, channel, incoming, renew,
};
use weft_types::{NodeId, SwarmId};
use weft_wire::swarmkit::ca_client::CaClient;
use weft_wire::swarmkit::ca_server::{Ca, CaServer};
use weft_wire::swarmkit::dispatcher_client::DispatcherClient;
use weft_wire::swarmkit::issuance_status::State;
use weft_wire::swarmkit::node_ca_server::{NodeCa, NodeCaServer};
use weft_wire::swarmkit::node_spec::Availability;
use weft_wire::swarmkit::{
    Certificate, GetRootCaCertificateRequest, GetRootCaCertificateResponse, GetUnlockKeyRequest,
    GetUnlockKeyResponse, HeartbeatRequest, IssuanceStatus, IssueNodeCertificateRequest,
    IssueNodeCertificateResponse, NodeCertificateStatusRequest, NodeCertificateStatusResponse,
};

struct Authority {
    ca: RootCa,
    swarm: SwarmId,
    worker: JoinToken,
    /// Requests by node id.
    issued: Mutex<HashMap<String, Vec<u8>>>,
    /// Answers this many status calls with PENDING first.
    pending: Mutex<u32>,
}

#[derive(Clone)]
struct Service(Arc<Authority>);

#[tonic::async_trait]
impl Ca for Service {
    async fn get_root_ca_certificate(
        &self,
        _: Request<GetRootCaCertificateRequest>,
    ) -> Result<Response<GetRootCaCertificateResponse>, Status> {
        let certificate = self.0.ca.certificate_pem().as_bytes().to_vec();
        Ok(Response::new(GetRootCaCertificateResponse { certificate }))
    }

    async fn get_unlock_key(
        &self,
        request: Request<GetUnlockKeyRequest>,
    ) -> Result<Response<GetUnlockKeyResponse>, Status> {
        let info = request.extensions().get::<ConnectInfo>().unwrap();
        info.authorize(&self.0.swarm, &[NodeRole::Manager])?;
        Ok(Response::new(GetUnlockKeyResponse::default()))
    }
}

#[tonic::async_trait]
impl NodeCa for Service {
    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let peer = request.extensions().get::<ConnectInfo>().unwrap().peer.clone();
        let request = request.into_inner();
        let node = match peer {
            Some(peer) => peer.node_id.clone(),
            None if self.0.worker.text_matches(&request.token) => NodeId::random(&mut rand::rng()),
            None => {
                return Err(Status::invalid_argument("A valid join token is necessary to join this cluster"));
            }
        };
        self.0.issued.lock().unwrap().insert(node.to_string(), request.csr);
        Ok(Response::new(IssueNodeCertificateResponse { node_id: node.into(), node_membership: 1 }))
    }

    async fn node_certificate_status(
        &self,
        request: Request<NodeCertificateStatusRequest>,
    ) -> Result<Response<NodeCertificateStatusResponse>, Status> {
        let node_id = request.into_inner().node_id;
        let issued = self.0.issued.lock().unwrap();
        let csr = issued.get(&node_id).ok_or_else(|| Status::not_found("node not found"))?;
        let mut leaf = None;
        let mut pending = self.0.pending.lock().unwrap();
        let state = if *pending > 0 {
            *pending -= 1;
            State::Pending
        } else {
            let text = std::str::from_utf8(csr).unwrap();
            let node: NodeId = node_id.parse().unwrap();
            leaf = Some(leaf_for(&self.0, text, NodeRole::Worker, &node, SystemTime::now()));
            State::Issued
        };
        let status = IssuanceStatus { state: state.into(), err: String::new() };
        let certificate = Certificate {
            csr: csr.clone(),
            certificate: leaf.unwrap_or_default().into_bytes(),
            cn: node_id,
            ..Default::default()
        };
        Ok(Response::new(NodeCertificateStatusResponse {
            status: Some(status),
            certificate: Some(certificate),
        }))
    }
}

fn leaf_for(authority: &Authority, csr: &str, role: NodeRole, node: &NodeId, now: SystemTime) -> String {
    authority.ca.issue(csr, role, node, &authority.swarm, now, DEFAULT_NODE_VALIDITY).unwrap()
}

fn member(authority: &Authority, role: NodeRole, now: SystemTime) -> NodeIdentity {
    let key = NodeKey::generate().unwrap();
    let node = NodeId::random(&mut rand::rng());
    let leaf = leaf_for(authority, &key.csr_pem().unwrap(), role, &node, now);
    NodeIdentity::from_pem(leaf, key.key_pem(), authority.ca.certificate_pem().to_owned()).unwrap()
}

fn authority() -> Arc<Authority> {
    let ca = RootCa::generate(SystemTime::now()).unwrap();
    Arc::new(Authority {
        swarm: SwarmId::random(&mut rand::rng()),
        worker: JoinToken::generate(&mut rand::rng(), ca.certificate_pem()),
        issued: Mutex::default(),
        pending: Mutex::new(0),
        ca,
    })
}

async fn serve(authority: &Arc<Authority>) -> (SocketAddr, IdentityHandle) {
    let identity = member(authority, NodeRole::Manager, SystemTime::now());
    let handle = IdentityHandle::in_memory(identity).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Service(authority.clone());
    let router =
        Server::builder().add_service(CaServer::new(service.clone())).add_service(NodeCaServer::new(service));
    tokio::spawn(router.serve_with_incoming(incoming(listener, handle.clone())));
    (address, handle)
}

#[tokio::test]
async fn a_machine_joins_with_a_token_and_renews_with_its_certificate() {
    let authority = authority();
    *authority.pending.lock().unwrap() = 2;
    let (address, _) = serve(&authority).await;
    let identity = bootstrap(address, &authority.worker, Availability::Active).await.unwrap();
    assert_eq!(identity.swarm_id, authority.swarm);
    assert_eq!(identity.role, NodeRole::Worker);

    let dir = tempfile::tempdir().unwrap();
    let handle = IdentityHandle::create(dir.path(), identity.clone()).unwrap();
    renew(&handle, channel(address, ChannelMode::Node(&handle)).unwrap()).await.unwrap();
    let renewed = IdentityHandle::open(dir.path(), None).unwrap().identity();
    assert_eq!(renewed.node_id, identity.node_id);
    assert_ne!(renewed.certificate_pem, identity.certificate_pem);
    assert_ne!(renewed.key_pem, identity.key_pem);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_the_manager_in_its_words() {
    let authority = authority();
    let (address, _) = serve(&authority).await;
    let stranger = JoinToken::generate(&mut rand::rng(), authority.ca.certificate_pem());
    let error = bootstrap(address, &stranger, Availability::Active).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster"
    );
}

#[tokio::test]
async fn a_manager_with_another_root_never_sees_the_token() {
    let authority = authority();
    let (address, _) = serve(&authority).await;
    let elsewhere = JoinToken::generate(&mut rand::rng(), "another root");
    let error = bootstrap(address, &elsewhere, Availability::Active).await.unwrap_err();
    assert!(matches!(error, JoinError::Token(TokenError::DigestMismatch { .. })), "{error}");
    assert!(authority.issued.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_at_the_address_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let token = JoinToken::generate(&mut rand::rng(), "root");
    let error = bootstrap(address, &token, Availability::Active).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }), "{error:?}");
}

async fn unlock_key_code(address: SocketAddr, mode: ChannelMode<'_>) -> Option<Code> {
    let mut client = CaClient::new(channel(address, mode).unwrap());
    client.get_unlock_key(GetUnlockKeyRequest {}).await.err().map(|status| status.code())
}

#[tokio::test]
async fn roles_are_enforced() {
    let authority = authority();
    let (address, _) = serve(&authority).await;
    let now = SystemTime::now();
    let manager = IdentityHandle::in_memory(member(&authority, NodeRole::Manager, now)).unwrap();
    let worker = IdentityHandle::in_memory(member(&authority, NodeRole::Worker, now)).unwrap();
    let joining = ChannelMode::Joining { root_pem: authority.ca.certificate_pem() };
    assert_eq!(unlock_key_code(address, ChannelMode::Node(&manager)).await, None);
    assert_eq!(unlock_key_code(address, ChannelMode::Node(&worker)).await, Some(Code::PermissionDenied));
    assert_eq!(unlock_key_code(address, joining).await, Some(Code::PermissionDenied));
}

#[tokio::test]
async fn a_manager_of_another_swarm_under_the_same_root_is_refused() {
    let authority = authority();
    let (address, _) = serve(&authority).await;
    let key = NodeKey::generate().unwrap();
    let (node, swarm) = (NodeId::random(&mut rand::rng()), SwarmId::random(&mut rand::rng()));
    let csr = key.csr_pem().unwrap();
    let leaf = authority
        .ca
        .issue(&csr, NodeRole::Manager, &node, &swarm, SystemTime::now(), DEFAULT_NODE_VALIDITY)
        .unwrap();
    let root = authority.ca.certificate_pem().to_owned();
    let handle =
        IdentityHandle::in_memory(NodeIdentity::from_pem(leaf, key.key_pem(), root).unwrap()).unwrap();
    assert_eq!(unlock_key_code(address, ChannelMode::Node(&handle)).await, Some(Code::PermissionDenied));
}

#[tokio::test]
async fn expired_and_foreign_certificates_do_not_get_through_the_handshake() {
    let authority = authority();
    let (address, _) = serve(&authority).await;
    let long_ago = SystemTime::now() - DEFAULT_NODE_VALIDITY - Duration::from_secs(60);
    let expired = IdentityHandle::in_memory(member(&authority, NodeRole::Manager, long_ago)).unwrap();
    let code = unlock_key_code(address, ChannelMode::Node(&expired)).await;
    assert!(!matches!(code, None | Some(Code::PermissionDenied)), "{code:?}");

    // A certificate of another root, by a client that trusts our server.
    let other = self::authority();
    let foreign = NodeIdentity {
        root_pem: authority.ca.certificate_pem().to_owned(),
        ..member(&other, NodeRole::Manager, SystemTime::now())
    };
    let foreign = IdentityHandle::in_memory(foreign).unwrap();
    let code = unlock_key_code(address, ChannelMode::Node(&foreign)).await;
    assert!(!matches!(code, None | Some(Code::PermissionDenied)), "{code:?}");
}

#[tokio::test]
async fn a_client_refuses_a_server_that_is_no_manager_of_its_swarm() {
    let (authority, other) = (authority(), authority());
    let (address, handle) = serve(&authority).await;
    // A server with a worker's certificate.
    handle.update(member(&authority, NodeRole::Worker, SystemTime::now())).unwrap();
    let manager =
        IdentityHandle::in_memory(member(&authority, NodeRole::Manager, SystemTime::now())).unwrap();
    assert!(unlock_key_code(address, ChannelMode::Node(&manager)).await.is_some());
    // The same server as a manager again: the swap is seen by the next connection.
    handle.update(member(&authority, NodeRole::Manager, SystemTime::now())).unwrap();
    assert_eq!(unlock_key_code(address, ChannelMode::Node(&manager)).await, None);
    // A client of another swarm.
    let stranger = IdentityHandle::in_memory(member(&other, NodeRole::Manager, SystemTime::now())).unwrap();
    assert!(unlock_key_code(address, ChannelMode::Node(&stranger)).await.is_some());
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unimplemented() {
    let authority = authority();
    let (address, _) = serve(&authority).await;
    let worker = IdentityHandle::in_memory(member(&authority, NodeRole::Worker, SystemTime::now())).unwrap();
    let mut client = DispatcherClient::new(channel(address, ChannelMode::Node(&worker)).unwrap());
    let status = client.heartbeat(HeartbeatRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}
