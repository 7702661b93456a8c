//! Changes of the membership, by the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time::timeout;

use super::MembershipChange;
use super::member::MemberNode;
use super::raft::{ANSWER_LIMIT, LEADER_LIMIT, RaftConsensus};

/// How long a new member may take to come as far as the others before it votes.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
impl RaftConsensus {
    /// Lets a manager in, or takes note of its new address. It votes once it has come as far as the others.
    pub(crate) async fn admit(&self, raft_id: u64, node: MemberNode) -> Result<(), MembershipChange> {
        let _one = self.changing.lock().await;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let known = membership.get_node(&raft_id);
        let voter = membership.voter_ids().any(|id| id == raft_id);
        if voter && known == Some(&node) {
            return Ok(());
        }
        // Before it is agreed on: the agreement may need this very member.
        self.peers.learn(raft_id, &node.addr);
        if known.is_some() && known != Some(&node) {
            self.change(ChangeMembers::SetNodes(BTreeMap::from([(raft_id, node.clone())]))).await?;
        }
        if voter {
            return Ok(());
        }
        // A manager that lost its log comes back with another number: the old one can never vote again.
        let stale = membership.nodes().filter(|(id, it)| **id != raft_id && it.node_id == node.node_id);
        let stale: BTreeSet<u64> = stale.map(|(id, _)| *id).collect();
        for id in stale {
            self.remove(id).await?;
        }
        match timeout(CATCH_UP_LIMIT, self.raft.add_learner(raft_id, node, true)).await {
            Ok(added) => drop(added.map_err(MembershipChange::from_raft)?),
            Err(_) => {
                self.change(ChangeMembers::RemoveNodes(BTreeSet::from([raft_id]))).await?;
                return Err(MembershipChange::Slow);
            }
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([raft_id]))).await
    }

    /// Takes a member out. Safe to repeat.
    pub(crate) async fn expel(&self, raft_id: u64) -> Result<(), MembershipChange> {
        let _one = self.changing.lock().await;
        self.remove(raft_id).await
    }

    /// Hands the leadership to another member, and waits a moment for it to take over.
    pub(crate) async fn hand_over(&self, to: u64) -> Result<(), MembershipChange> {
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|error| MembershipChange::Raft(error.to_string()))?;
        let mut leadership = self.leadership.clone();
        let own = self.seat.raft_id;
        let gone = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != own));
        match timeout(LEADER_LIMIT, gone).await {
            Ok(_) => Ok(()),
            Err(_) => Err(MembershipChange::Slow),
        }
    }

    async fn remove(&self, raft_id: u64) -> Result<(), MembershipChange> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let removal = BTreeSet::from([raft_id]);
        if membership.voter_ids().any(|id| id == raft_id) {
            return self.change(ChangeMembers::RemoveVoters(removal)).await;
        }
        if membership.get_node(&raft_id).is_some() {
            return self.change(ChangeMembers::RemoveNodes(removal)).await;
        }
        Ok(())
    }

    async fn change(&self, change: ChangeMembers<u64, MemberNode>) -> Result<(), MembershipChange> {
        match timeout(ANSWER_LIMIT, self.raft.change_membership(change, false)).await {
            Ok(changed) => changed.map(drop).map_err(MembershipChange::from_raft),
            Err(_) => Err(MembershipChange::Slow),
        }
    }
}
