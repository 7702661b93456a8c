//! `weft.v1.Consensus`: what managers say to each other.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming, async_trait};
use weft_wire::weft_v1::consensus_server;
use weft_wire::weft_v1::{
    AppendRequest, AppendResponse, BarrierRequest, BarrierResponse, JoinRequest, JoinResponse, LeaveRequest,
    LeaveResponse, ProposeRequest, ProposeResponse, SnapshotChunk, SnapshotResponse, TransferRequest,
    TransferResponse, VoteRequest, VoteResponse,
};

use crate::auth::{MANAGERS, authorize};
use crate::brain::Brain;
use crate::membership;

pub(super) struct Consensus(pub(super) Arc<Brain>);

#[async_trait]
impl consensus_server::Consensus for Consensus {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        self.0.core.raft.on_append(request.into_inner()).await.map(Response::new)
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        self.0.core.raft.on_vote(request.into_inner()).await.map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        self.0.core.raft.on_snapshot(request.into_inner()).await.map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        self.0.core.raft.on_transfer(request.into_inner()).await.map(Response::new)
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        self.0.core.raft.on_propose(request.into_inner()).await.map(Response::new)
    }

    async fn barrier(&self, request: Request<BarrierRequest>) -> Result<Response<BarrierResponse>, Status> {
        authorize(&self.0.core, &request, MANAGERS)?;
        self.0.core.raft.on_barrier(request.into_inner()).await.map(Response::new)
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MANAGERS)?;
        membership::join(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let caller = authorize(&self.0.core, &request, MANAGERS)?;
        membership::leave(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }
}
