//! The gRPC services of the manager port. Each only checks the caller, translates, and calls the parts that decide.

mod ca;
mod dispatcher;
mod forward;
mod health;
mod log_broker;
mod logs;
mod membership;
mod network_state;
mod node_ca;
mod raft;
mod resource;
mod witness;

use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::BoxStream;
use tonic::{Code, Status};
use weft_identity::TlsConn;
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::{
    ca_server::CaServer, dispatcher_server::DispatcherServer, health_server::HealthServer,
    log_broker_server::LogBrokerServer, logs_server::LogsServer, node_ca_server::NodeCaServer,
    raft_membership_server::RaftMembershipServer, resource_allocator_server::ResourceAllocatorServer,
};
use weft_wire::weft_v1::consensus_server::ConsensusServer;
use weft_wire::weft_v1::network_state_server::NetworkStateServer;
use weft_wire::weft_v1::witness_server::WitnessServer;

use crate::brain::Brain;
use crate::consensus::ConsensusError;
use crate::network::AttachError;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Largest message that managers send each other.
const MAX_PEER_MESSAGE: usize = 64 << 20;

/// Serves all of them until `stopping`.
pub(crate) async fn serve(
    brain: Arc<Brain>,
    incoming: impl Stream<Item = std::io::Result<TlsConn>> + Send + 'static,
    stopping: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let shared = Arc::clone(&brain);
    let brain = || Arc::clone(&shared);
    let consensus = ConsensusServer::new(raft::Consensus(brain()))
        .max_decoding_message_size(MAX_PEER_MESSAGE)
        .max_encoding_message_size(MAX_PEER_MESSAGE);
    tonic::transport::Server::builder()
        // A peer that vanished without a word is noticed, and its streams end.
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(15)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(15)))
        .tcp_nodelay(true)
        .layer(forward::ForwardLayer(brain()))
        .add_service(CaServer::new(ca::Ca(brain())))
        .add_service(NodeCaServer::new(node_ca::NodeCa(brain())))
        .add_service(DispatcherServer::new(dispatcher::Dispatcher(brain())))
        .add_service(ResourceAllocatorServer::new(resource::ResourceAllocator(brain())))
        .add_service(LogBrokerServer::new(log_broker::LogBroker(brain())))
        .add_service(LogsServer::new(logs::Logs(brain())))
        .add_service(HealthServer::new(health::Health(brain())))
        .add_service(RaftMembershipServer::new(membership::RaftMembership(brain())))
        .add_service(NetworkStateServer::new(network_state::NetworkState(brain())))
        .add_service(WitnessServer::new(witness::Witness(brain())))
        .add_service(consensus)
        .serve_with_incoming_shutdown(incoming, stopping)
        .await
}

fn boxed<T>(stream: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Answers<T> {
    Box::pin(stream)
}

fn consensus_status(error: &ConsensusError) -> Status {
    let text = consensus_text(error);
    match error {
        ConsensusError::NotLeader
        | ConsensusError::NoLeader
        | ConsensusError::Unconfirmed
        | ConsensusError::Behind => Status::unavailable(text),
        ConsensusError::Empty | ConsensusError::Stopped(_) | ConsensusError::Storage(_) => {
            Status::aborted(text)
        }
    }
}

/// The words without the code, which the status carries itself.
fn consensus_text(error: &ConsensusError) -> String {
    let text = error.to_string();
    text.split_once(" desc = ").map(|(_, words)| words.to_owned()).unwrap_or(text)
}

fn attach_status(error: &AttachError) -> Status {
    let text = error.to_string();
    match error {
        AttachError::NoSuchNetwork(_) | AttachError::NoSuchNode(_) | AttachError::NoSuchAttachment(_) => {
            Status::not_found(text)
        }
        AttachError::NotAttachable(_) | AttachError::ForeignAttachment { .. } => {
            Status::permission_denied(text)
        }
        AttachError::Missing(_) => Status::invalid_argument(text),
        AttachError::Allocation(error) => match error.kind() {
            ErrorKind::Unavailable => Status::resource_exhausted(text),
            ErrorKind::Forbidden => Status::failed_precondition(text),
            kind => Status::new(code(kind), text),
        },
        AttachError::Pools(_) => Status::failed_precondition(text),
        AttachError::Contention => Status::aborted(text),
        AttachError::Consensus(error) => consensus_status(error),
    }
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidParameter => Code::InvalidArgument,
        ErrorKind::Unauthorized => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::NotImplemented => Code::Unimplemented,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::NotModified | ErrorKind::System => Code::Internal,
    }
}
