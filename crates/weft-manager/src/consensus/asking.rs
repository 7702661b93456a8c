//! What a member is asked: by itself where it leads, else the leader.
//!
//! A member that does not lead forwards what it is asked to the leader and then waits until its own state has come as
//! far: who was answered finds the answer's effect in this manager's view. Nothing is sent a second time unless it is
//! certain that it was not put into a log: whoever computed a transaction computes again from a newer view instead.

use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use tokio::time::{Instant, timeout, timeout_at};
use weft_wire::weft_v1::{self, Envelope, barrier_response, propose_response};

use super::leadership::wait_change;
use super::raft::{ANSWER_LIMIT, LEADER_LIMIT, RaftConsensus, stopped};
use super::transport::CallError;
use super::types::Command;
use super::{ConsensusError, Verdict, wire};

impl RaftConsensus {
    /// Puts a command into the log of this member, which must lead.
    pub(super) async fn propose_here(&self, command: Vec<u8>) -> Result<Verdict, ConsensusError> {
        match timeout(ANSWER_LIMIT, self.raft.client_write(Command(command))).await {
            Ok(Ok(written)) => Ok(written.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(ConsensusError::NotLeader)
            }
            Ok(Err(RaftError::APIError(_))) | Err(_) => Err(ConsensusError::Unconfirmed),
            Ok(Err(RaftError::Fatal(error))) => Err(stopped(error)),
        }
    }

    /// The index up to which a reader must have applied; this member must lead.
    pub(super) async fn barrier_here(&self) -> Result<u64, ConsensusError> {
        match timeout(LEADER_LIMIT, self.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
            Ok(Ok(read)) => Ok(read.read_log_id().index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
                Err(ConsensusError::NotLeader)
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                Err(ConsensusError::NoLeader)
            }
            Ok(Err(RaftError::Fatal(error))) => Err(stopped(error)),
        }
    }

    /// Waits until this member's own state has come as far.
    async fn applied(&self, index: u64) -> Result<(), ConsensusError> {
        let wait = self.raft.wait(Some(ANSWER_LIMIT));
        let applied = wait.applied_index_at_least(Some(index), "answered elsewhere").await;
        applied.map(drop).map_err(|_| ConsensusError::Behind)
    }

    pub(super) async fn propose_anywhere(&self, command: Vec<u8>) -> Result<Verdict, ConsensusError> {
        let mut leadership = self.leadership.clone();
        let end = Instant::now() + LEADER_LIMIT;
        loop {
            let leader = self.leader();
            let outcome = match &leader {
                Some((id, _)) if *id == self.seat.raft_id => self.propose_here(command.clone()).await,
                Some((id, address)) => self.propose_to(*id, address, command.clone()).await,
                None => Err(ConsensusError::NotLeader),
            };
            match outcome {
                // It is certain that nobody has it: another leader may take it.
                Err(ConsensusError::NotLeader) => wait_change(&mut leadership, end).await?,
                Ok(verdict) => {
                    self.applied(verdict.index).await?;
                    return Ok(verdict);
                }
                other => return other,
            }
        }
    }

    async fn propose_to(
        &self,
        leader: u64,
        address: &str,
        command: Vec<u8>,
    ) -> Result<Verdict, ConsensusError> {
        let request = weft_v1::ProposeRequest { envelope: self.envelope(leader), command };
        match timeout(ANSWER_LIMIT, self.transport.propose(address, request)).await {
            Ok(Ok(response)) => match response.answer {
                Some(propose_response::Answer::Verdict(verdict)) => {
                    wire::decode_verdict(&verdict).map_err(|_| ConsensusError::Unconfirmed)
                }
                Some(propose_response::Answer::NotLeader(_)) => Err(ConsensusError::NotLeader),
                None => Err(ConsensusError::Unconfirmed),
            },
            Ok(Err(CallError::NoWay(_) | CallError::NotSent(_))) => Err(ConsensusError::NotLeader),
            Ok(Err(CallError::Failed(_))) | Err(_) => Err(ConsensusError::Unconfirmed),
        }
    }

    pub(super) async fn barrier_anywhere(&self) -> Result<u64, ConsensusError> {
        let mut leadership = self.leadership.clone();
        let end = Instant::now() + LEADER_LIMIT;
        loop {
            let outcome = match self.leader() {
                Some((id, _)) if id == self.seat.raft_id => self.barrier_here().await,
                Some((id, address)) => self.barrier_of(id, &address, end).await,
                None => Err(ConsensusError::NotLeader),
            };
            match outcome {
                Err(ConsensusError::NotLeader) => wait_change(&mut leadership, end).await?,
                Ok(index) => {
                    self.applied(index).await?;
                    return Ok(index);
                }
                other => return other,
            }
        }
    }

    /// Asking twice is no harm: whatever goes wrong, another leader may be asked.
    async fn barrier_of(&self, leader: u64, address: &str, end: Instant) -> Result<u64, ConsensusError> {
        let request = weft_v1::BarrierRequest { envelope: self.envelope(leader) };
        let asked = self.transport.barrier(address, request);
        let answer = timeout_at(end, asked).await.map_err(|_| ConsensusError::NoLeader)?;
        match answer.map(|response| response.answer) {
            Ok(Some(barrier_response::Answer::Index(index))) => Ok(index),
            _ => Err(ConsensusError::NotLeader),
        }
    }

    fn envelope(&self, to: u64) -> Option<Envelope> {
        let address = self.own_address.clone();
        Some(Envelope { group: self.seat.group(), from: self.seat.raft_id, to, address })
    }
}
