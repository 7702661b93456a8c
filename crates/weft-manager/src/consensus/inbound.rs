//! What other members send: checked, handed to openraft, answered.

use futures_util::Stream;
use openraft::Snapshot;
use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use tonic::Status;
use weft_wire::weft_v1::append_response::Outcome;
use weft_wire::weft_v1::{self, Envelope, NotLeader, barrier_response, propose_response};

use super::convert::{from_log_id, from_vote, to_log_id, to_vote};
use super::raft::RaftConsensus;
use super::{ConsensusError, snapshot, wire};

#[allow(clippy::result_large_err, reason = "tonic's own error type; the service returns it as it is")]
impl RaftConsensus {
    /// Checks that a message is for this member of this group. The first message to a manager that joins tells it
    /// the group: only the leader that it asked knows its number.
    async fn accept(&self, envelope: Option<&Envelope>) -> Result<(), Status> {
        let envelope = envelope.cloned().unwrap_or_default();
        if envelope.to != self.seat.raft_id {
            return Err(Status::failed_precondition("this manager is not the member that is meant"));
        }
        if self.seat.group() == 0 && envelope.group != 0 && self.log().is_some_and(|log| log.is_empty()) {
            self.enter_group(envelope.group).await?;
        }
        if envelope.group != self.seat.group() {
            return Err(Status::failed_precondition("this manager belongs to another group of managers"));
        }
        self.peers.learn(envelope.from, &envelope.address);
        Ok(())
    }

    /// Remembers the group of the leader that lets this manager in.
    pub(crate) async fn enter_group(&self, group: u64) -> Result<(), Status> {
        let log = self.log().ok_or_else(|| Status::unavailable("this manager stops"))?;
        log.save_seat(self.seat.raft_id, group).await.map_err(|error| Status::internal(error.to_string()))?;
        self.seat.enter(group);
        Ok(())
    }

    /// Entries or a heartbeat of a leader.
    pub(crate) async fn on_append(
        &self,
        request: weft_v1::AppendRequest,
    ) -> Result<weft_v1::AppendResponse, Status> {
        self.accept(request.envelope.as_ref()).await?;
        let entries: Result<Vec<_>, _> =
            request.entries.iter().map(|entry| wire::decode_entry(entry)).collect();
        let entries = entries.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let request = AppendEntriesRequest {
            vote: to_vote(request.vote),
            prev_log_id: request.previous.map(to_log_id),
            entries,
            leader_commit: request.committed.map(to_log_id),
        };
        let answer = self.raft.append_entries(request).await.map_err(fatal)?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.seat.hear();
        }
        let (outcome, matching, vote) = match answer {
            AppendEntriesResponse::Success => (Outcome::Success, None, None),
            AppendEntriesResponse::PartialSuccess(matching) => (Outcome::Partial, matching, None),
            AppendEntriesResponse::Conflict => (Outcome::Conflict, None, None),
            AppendEntriesResponse::HigherVote(vote) => (Outcome::HigherVote, None, Some(vote)),
        };
        Ok(weft_v1::AppendResponse {
            outcome: outcome.into(),
            matching: matching.map(from_log_id),
            vote: vote.map(from_vote),
        })
    }

    /// A candidate's question.
    pub(crate) async fn on_vote(
        &self,
        request: weft_v1::VoteRequest,
    ) -> Result<weft_v1::VoteResponse, Status> {
        self.accept(request.envelope.as_ref()).await?;
        let mut vote = VoteRequest::new(to_vote(request.vote), request.last.map(to_log_id));
        vote.leadership_transfer = request.transfer;
        let answer = if request.before { self.raft.pre_vote(vote).await } else { self.raft.vote(vote).await };
        let answer = answer.map_err(fatal)?;
        Ok(weft_v1::VoteResponse {
            vote: Some(from_vote(answer.vote)),
            granted: answer.vote_granted,
            last: answer.last_log_id.map(from_log_id),
        })
    }

    /// A whole state.
    pub(crate) async fn on_snapshot(
        &self,
        chunks: impl Stream<Item = Result<weft_v1::SnapshotChunk, Status>> + Unpin,
    ) -> Result<weft_v1::SnapshotResponse, Status> {
        let (header, view) = snapshot::receive(chunks).await?;
        self.accept(Some(&header.envelope)).await?;
        let snapshot = Snapshot { meta: header.meta, snapshot: view };
        let answer = self.raft.install_full_snapshot(header.vote, snapshot).await;
        let answer = answer.map_err(|error| Status::internal(error.to_string()))?;
        self.seat.hear();
        Ok(weft_v1::SnapshotResponse { vote: Some(from_vote(answer.vote)) })
    }

    /// The leader wants this member to lead.
    pub(crate) async fn on_transfer(
        &self,
        request: weft_v1::TransferRequest,
    ) -> Result<weft_v1::TransferResponse, Status> {
        self.accept(request.envelope.as_ref()).await?;
        let transfer = TransferLeaderRequest::new(
            to_vote(request.from_leader),
            request.to_member,
            request.last.map(to_log_id),
        );
        let answer = self.raft.handle_transfer_leader(transfer).await;
        let refusal = match answer.map_err(|error| Status::internal(error.to_string()))? {
            Ok(()) => String::new(),
            Err(refusal) => refusal.to_string(),
        };
        Ok(weft_v1::TransferResponse { refusal })
    }

    /// A follower's transaction.
    pub(crate) async fn on_propose(
        &self,
        request: weft_v1::ProposeRequest,
    ) -> Result<weft_v1::ProposeResponse, Status> {
        self.accept(request.envelope.as_ref()).await?;
        let answer = match self.propose_here(request.command).await {
            Ok(verdict) => propose_response::Answer::Verdict(wire::encode_verdict(&verdict)),
            Err(ConsensusError::NotLeader | ConsensusError::NoLeader) => {
                propose_response::Answer::NotLeader(self.not_leader())
            }
            Err(error) => return Err(Status::aborted(error.to_string())),
        };
        Ok(weft_v1::ProposeResponse { answer: Some(answer) })
    }

    /// A follower's reader.
    pub(crate) async fn on_barrier(
        &self,
        request: weft_v1::BarrierRequest,
    ) -> Result<weft_v1::BarrierResponse, Status> {
        self.accept(request.envelope.as_ref()).await?;
        let answer = match self.barrier_here().await {
            Ok(index) => barrier_response::Answer::Index(index),
            Err(ConsensusError::NotLeader | ConsensusError::NoLeader) => {
                barrier_response::Answer::NotLeader(self.not_leader())
            }
            Err(error) => return Err(Status::aborted(error.to_string())),
        };
        Ok(weft_v1::BarrierResponse { answer: Some(answer) })
    }

    /// Whom to ask instead.
    pub(crate) fn not_leader(&self) -> NotLeader {
        match self.leader() {
            Some((leader, address)) if leader != self.seat.raft_id => NotLeader { leader, address },
            _ => NotLeader::default(),
        }
    }
}

fn fatal(error: RaftError<super::types::RaftTypes>) -> Status {
    Status::internal(error.to_string())
}
