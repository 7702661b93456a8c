//! Calls to other members.

use std::future::Future;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status};
use weft_wire::weft_v1::consensus_client::ConsensusClient;
use weft_wire::weft_v1::{
    AppendRequest, AppendResponse, BarrierRequest, BarrierResponse, ProposeRequest, ProposeResponse,
    SnapshotChunk, SnapshotResponse, TransferRequest, TransferResponse, VoteRequest, VoteResponse,
};

use super::peers::{PeerError, Peers};

/// A call without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection can even be tried: nobody heard of the call.
    #[error(transparent)]
    NoWay(#[from] PeerError),
    /// It failed before a connection existed to carry it: nobody heard of the call.
    #[error("not sent: {0}")]
    NotSent(Status),
    /// The other side may have done what it was asked for.
    #[error(transparent)]
    Failed(Status),
}

pub(crate) type Call<T> = BoxFuture<'static, Result<T, CallError>>;

/// The way to other members by their address. Callers set the time limits.
pub(crate) trait Transport: Send + Sync + 'static {
    fn append(&self, address: &str, request: AppendRequest) -> Call<AppendResponse>;
    fn vote(&self, address: &str, request: VoteRequest) -> Call<VoteResponse>;
    fn install_snapshot(
        &self,
        address: &str,
        chunks: ReceiverStream<SnapshotChunk>,
    ) -> Call<SnapshotResponse>;
    fn transfer_leader(&self, address: &str, request: TransferRequest) -> Call<TransferResponse>;
    fn propose(&self, address: &str, request: ProposeRequest) -> Call<ProposeResponse>;
    fn barrier(&self, address: &str, request: BarrierRequest) -> Call<BarrierResponse>;
}

type Client = ConsensusClient<Channel>;

/// tonic over mutual TLS.
impl Transport for Peers {
    fn append(&self, address: &str, request: AppendRequest) -> Call<AppendResponse> {
        call(self, address, |mut client: Client| async move { client.append(request).await })
    }

    fn vote(&self, address: &str, request: VoteRequest) -> Call<VoteResponse> {
        call(self, address, |mut client: Client| async move { client.vote(request).await })
    }

    fn install_snapshot(
        &self,
        address: &str,
        chunks: ReceiverStream<SnapshotChunk>,
    ) -> Call<SnapshotResponse> {
        call(self, address, |mut client: Client| async move { client.install_snapshot(chunks).await })
    }

    fn transfer_leader(&self, address: &str, request: TransferRequest) -> Call<TransferResponse> {
        call(self, address, |mut client: Client| async move { client.transfer_leader(request).await })
    }

    fn propose(&self, address: &str, request: ProposeRequest) -> Call<ProposeResponse> {
        call(self, address, |mut client: Client| async move { client.propose(request).await })
    }

    fn barrier(&self, address: &str, request: BarrierRequest) -> Call<BarrierResponse> {
        call(self, address, |mut client: Client| async move { client.barrier(request).await })
    }
}

fn call<T, F>(peers: &Peers, address: &str, run: impl FnOnce(Client) -> F) -> Call<T>
where
    T: Send + 'static,
    F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
{
    match peers.client(address) {
        Ok(client) => {
            let running = run(client);
            async move { running.await.map(Response::into_inner).map_err(classify) }.boxed()
        }
        Err(error) => futures_util::future::ready(Err(error.into())).boxed(),
    }
}

fn classify(status: Status) -> CallError {
    if was_not_sent(&status) { CallError::NotSent(status) } else { CallError::Failed(status) }
}

/// Whether a call failed before a connection existed to carry it.
fn was_not_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
