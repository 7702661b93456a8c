//! Raft's messages to the other members.
//!
//! openraft owns one [`Line`] per member and calls it again and again; what fails is tried again by openraft. A line
//! knows whom it is for: the receiver refuses what was meant for another member.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{OptionalSend, RPCTypes};
use tonic::{Code, Status};
use weft_wire::weft_v1::append_response::Outcome;
use weft_wire::weft_v1::{self, Envelope};

use super::convert::{from_log_id, from_vote, to_log_id, to_vote};
use super::member::{MemberNode, Seat};
use super::peers::Peers;
use super::snapshot::{self, Header};
use super::transport::{Call, CallError, Transport};
use super::types::RaftTypes;
use super::wire;
use crate::store::View;

/// A message of entries is cut after the entry that reaches this size.
const APPEND_BYTES: usize = 1 << 20;
/// Entries are answered when they are on the receiver's disk, and a disk may stall.
const APPEND_DEADLINE: Duration = Duration::from_secs(10);
/// A whole state over a slow line.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(300);

/// Makes a line for each member.
pub(super) struct Lines {
    pub(super) seat: Arc<Seat>,
    pub(super) peers: Arc<Peers>,
    pub(super) transport: Arc<dyn Transport>,
    /// Where this member is reached.
    pub(super) address: String,
}

impl RaftNetworkFactory<RaftTypes> for Lines {
    type Network = Line;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> Line {
        Line {
            seat: Arc::clone(&self.seat),
            peers: Arc::clone(&self.peers),
            transport: Arc::clone(&self.transport),
            target,
            address: node.addr.clone(),
            own_address: self.address.clone(),
        }
    }
}

/// The way to one member.
pub(super) struct Line {
    seat: Arc<Seat>,
    peers: Arc<Peers>,
    transport: Arc<dyn Transport>,
    target: u64,
    /// Of the time when the line was made; the book may know better.
    address: String,
    own_address: String,
}

impl Line {
    fn envelope(&self) -> Option<Envelope> {
        Some(Envelope {
            group: self.seat.group(),
            from: self.seat.raft_id,
            to: self.target,
            address: self.own_address.clone(),
        })
    }

    /// Where the member is reached, by the newest word.
    fn address(&self) -> String {
        self.peers.address_of(self.target).unwrap_or_else(|| self.address.clone())
    }

    async fn answer<T>(
        &self,
        action: RPCTypes,
        limit: Duration,
        call: Call<T>,
    ) -> Result<T, RPCError<RaftTypes>> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(CallError::NoWay(error))) => Err(unreachable(&error)),
            Ok(Err(CallError::NotSent(status) | CallError::Failed(status))) => Err(failed(&status)),
            Err(_) => Err(RPCError::Timeout(Timeout {
                action,
                id: self.seat.raft_id,
                target: self.target,
                timeout: limit,
            })),
        }
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<RaftTypes>,
        before: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<RaftTypes>, RPCError<RaftTypes>> {
        let message = weft_v1::VoteRequest {
            envelope: self.envelope(),
            vote: Some(from_vote(request.vote)),
            last: request.last_log_id.map(from_log_id),
            before,
            transfer: request.leadership_transfer,
        };
        let call = self.transport.vote(&self.address(), message);
        let answer = self.answer(RPCTypes::Vote, option.hard_ttl(), call).await?;
        Ok(VoteResponse::new(to_vote(answer.vote), answer.last.map(to_log_id), answer.granted))
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> RPCError<RaftTypes> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// Nobody there is worth a pause; anything else may work the next time.
fn failed(status: &Status) -> RPCError<RaftTypes> {
    let error = io::Error::other(format!("{:?}: {}", status.code(), status.message()));
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::PermissionDenied | Code::Unimplemented => {
            unreachable(&error)
        }
        _ => RPCError::Network(NetworkError::new(&error)),
    }
}

fn malformed(what: &str) -> RPCError<RaftTypes> {
    unreachable(&io::Error::other(format!("malformed answer: {what}")))
}

impl RaftNetworkV2<RaftTypes> for Line {
    type SnapshotData = Arc<View>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftTypes>, RPCError<RaftTypes>> {
        let mut entries = Vec::with_capacity(request.entries.len());
        let (mut size, mut last) = (0, request.prev_log_id);
        for entry in &request.entries {
            if size >= APPEND_BYTES {
                break;
            }
            let encoded = wire::encode_entry(entry);
            size += encoded.len();
            last = Some(entry.log_id);
            entries.push(encoded);
        }
        let cut = entries.len() < request.entries.len();
        let limit = if entries.is_empty() { option.hard_ttl() } else { APPEND_DEADLINE };
        let message = weft_v1::AppendRequest {
            envelope: self.envelope(),
            vote: Some(from_vote(request.vote)),
            previous: request.prev_log_id.map(from_log_id),
            committed: request.leader_commit.map(from_log_id),
            entries,
        };
        let call = self.transport.append(&self.address(), message);
        let answer = self.answer(RPCTypes::AppendEntries, limit, call).await?;
        Ok(match answer.outcome() {
            Outcome::Success if cut => AppendEntriesResponse::PartialSuccess(last),
            Outcome::Success => AppendEntriesResponse::Success,
            Outcome::Partial => AppendEntriesResponse::PartialSuccess(answer.matching.map(to_log_id)),
            Outcome::Conflict => AppendEntriesResponse::Conflict,
            Outcome::HigherVote => AppendEntriesResponse::HigherVote(to_vote(answer.vote)),
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftTypes>, RPCError<RaftTypes>> {
        self.ask_vote(request, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftTypes>, RPCError<RaftTypes>> {
        self.ask_vote(request, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<RaftTypes>,
        snapshot: SnapshotOf<RaftTypes, Arc<View>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<RaftTypes>, StreamingError<RaftTypes>> {
        let envelope = self.envelope().unwrap_or_default();
        let chunks = snapshot::send(Header { envelope, vote, meta: snapshot.meta }, snapshot.snapshot);
        let call = self.transport.install_snapshot(&self.address(), chunks);
        let sending = self.answer(RPCTypes::InstallSnapshot, SNAPSHOT_DEADLINE, call);
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = sending => answer?,
        };
        Ok(SnapshotResponse::new(to_vote(answer.vote)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<RaftTypes>, RPCError<RaftTypes>> {
        let message = weft_v1::TransferRequest {
            envelope: self.envelope(),
            from_leader: Some(from_vote(*request.from_leader())),
            to_member: *request.to_node_id(),
            last: request.last_log_id().copied().map(from_log_id),
        };
        let call = self.transport.transfer_leader(&self.address(), message);
        let answer = self.answer(RPCTypes::TransferLeader, option.hard_ttl(), call).await?;
        match answer.refusal.as_str() {
            "" => Ok(Ok(())),
            refusal => Err(malformed(refusal)),
        }
    }
}
