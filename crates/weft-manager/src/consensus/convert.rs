//! openraft's types as messages, and back.

use openraft::type_config::alias::{LeaderIdOf, LogIdOf, VoteOf};
use weft_wire::weft_v1;

use super::types::RaftTypes;

type LeaderId = LeaderIdOf<RaftTypes>;

pub(super) fn from_log_id(id: LogIdOf<RaftTypes>) -> weft_v1::LogId {
    weft_v1::LogId { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

pub(super) fn to_log_id(id: weft_v1::LogId) -> LogIdOf<RaftTypes> {
    LogIdOf::<RaftTypes> { leader_id: LeaderId { term: id.term, node_id: id.leader }, index: id.index }
}

pub(super) fn from_vote(vote: VoteOf<RaftTypes>) -> weft_v1::Ballot {
    weft_v1::Ballot {
        term: vote.leader_id.term,
        candidate: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

/// A missing vote is the lowest one: every receiver refuses it.
pub(super) fn to_vote(vote: Option<weft_v1::Ballot>) -> VoteOf<RaftTypes> {
    let vote = vote.unwrap_or_default();
    VoteOf::<RaftTypes> {
        leader_id: LeaderId { term: vote.term, node_id: vote.candidate },
        committed: vote.committed,
    }
}
