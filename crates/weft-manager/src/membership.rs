//! Who is a manager: joining, leaving, promotion and demotion, and what the store says of each.
//!
//! Three records follow each other, each derived from the one before by [`keep_record`] on the leader, again and again:
//! a node's `spec.desired_role` (the user's word) -> the Raft group and `node.role` (what it gets a certificate for) ->
//! `node.manager_status` (what others are told).
//! Promotion: role MANAGER -> the node renews -> its daemon starts a manager, which asks to [`join`].
//! Demotion: out of the Raft group first, then role WORKER -> the node renews -> its daemon stops the manager.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;
use weft_wire::swarmkit::health_client::HealthClient;
use weft_wire::swarmkit::raft_member_status::Reachability;
use weft_wire::swarmkit::{HealthCheckRequest, ManagerStatus, Node, NodeRole, NodeSpec};
use weft_wire::weft_v1::{
    JoinRequest, JoinResponse, Joined, LeaveRequest, LeaveResponse, Left, join_response, leave_response,
};

use crate::auth::Caller;
use crate::brain::Brain;
use crate::consensus::{Consensus as _, Member, MemberNode, MembershipChange};
use crate::core::Core;
use crate::error::ControlError;
use crate::store::View;

/// SwarmKit's limit for a new member to answer at its address.
const DIAL_BACK: Duration = Duration::from_secs(5);
/// A member that was not heard of for this long is unreachable. Ten heartbeats.
const SILENCE: Duration = Duration::from_secs(3);
/// How often the record is compared with the group.
const LOOK: Duration = Duration::from_secs(1);

/// A manager wants to be a member of the group, or says its new address.
pub(crate) async fn join(
    brain: &Brain,
    caller: &Caller,
    request: JoinRequest,
) -> Result<JoinResponse, Status> {
    let core = &brain.core;
    let answer = |answer| JoinResponse { answer: Some(answer) };
    if !*core.in_office().borrow() {
        return Ok(answer(join_response::Answer::NotLeader(core.raft.not_leader())));
    }
    check_role(&core.view(), &caller.node_id)?;
    if request.raft_id == 0 {
        return Err(Status::invalid_argument("no raft id"));
    }
    let mut address: SocketAddr = (request.address.parse())
        .map_err(|_| Status::invalid_argument(format!("{:?} is no address", request.address)))?;
    if address.ip().is_unspecified() {
        address.set_ip(caller.remote.ip().to_canonical());
    }
    dial_back(core, &address.to_string()).await?;
    let node = MemberNode { node_id: caller.node_id.clone(), addr: address.to_string() };
    match core.raft.admit(request.raft_id, node).await {
        Ok(()) => {}
        Err(MembershipChange::NotLeader) => {
            return Ok(answer(join_response::Answer::NotLeader(core.raft.not_leader())));
        }
        Err(error) => return Err(Status::aborted(error.to_string())),
    }
    record(brain).await;
    tracing::info!(node = caller.node_id, raft_id = request.raft_id, %address, "a manager is a member");
    Ok(answer(join_response::Answer::Joined(Joined { group: core.raft.group() })))
}

fn check_role(view: &View, node_id: &str) -> Result<(), Status> {
    let node = view.node(node_id).ok_or_else(|| Status::not_found(format!("node {node_id} not found")))?;
    if desired_role(node) != NodeRole::Manager || node.role() != NodeRole::Manager {
        return Err(Status::permission_denied(format!("node {node_id} is no longer a manager of the swarm")));
    }
    Ok(())
}

async fn dial_back(core: &Core, address: &str) -> Result<(), Status> {
    let refused = |why: String| {
        Status::unknown(format!(
            "could not connect to prospective new cluster member using its advertised address: {why}"
        ))
    };
    let channel = core.peers.channel(address).map_err(|error| refused(error.to_string()))?;
    let request = HealthCheckRequest { service: "Raft".to_owned() };
    match timeout(DIAL_BACK, HealthClient::new(channel).check(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => {
            Err(refused(format!("rpc error: code = {:?} desc = {}", status.code(), status.message())))
        }
        Err(_) => {
            Err(refused("rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()))
        }
    }
}

/// A manager leaves the swarm for good.
pub(crate) async fn leave(
    brain: &Brain,
    caller: &Caller,
    request: LeaveRequest,
) -> Result<LeaveResponse, Status> {
    let core = &brain.core;
    let answer = |answer| LeaveResponse { answer: Some(answer) };
    if !*core.in_office().borrow() {
        return Ok(answer(leave_response::Answer::NotLeader(core.raft.not_leader())));
    }
    let member = core.raft.membership().into_iter().find(|member| member.raft_id == request.raft_id);
    if member.is_some_and(|member| member.node_id != caller.node_id) {
        return Err(Status::permission_denied("a manager leaves only for itself"));
    }
    if !keeps_quorum(core, request.raft_id) {
        return Err(Status::failed_precondition(ControlError::QuorumLoss.to_string()));
    }
    core.raft.expel(request.raft_id).await.map_err(|error| Status::aborted(error.to_string()))?;
    record(brain).await;
    tracing::info!(node = caller.node_id, raft_id = request.raft_id, "a manager has left");
    Ok(answer(leave_response::Answer::Left(Left {})))
}

/// SwarmKit's rules for a demotion, in its words.
pub(crate) fn check_demotion(core: &Core, view: &View, node: &Node) -> Result<(), ControlError> {
    let mut managers = view.nodes().filter(|node| node.role() == NodeRole::Manager);
    if managers.all(|manager| manager.id == node.id) {
        return Err(ControlError::LastManager);
    }
    let member = core.raft.membership().into_iter().find(|member| member.node_id == node.id);
    match member {
        None => Err(ControlError::NotInMemberList),
        Some(member) if !would_keep_quorum(&core.raft.membership(), member.raft_id, &reachable(view)) => {
            Err(ControlError::QuorumLoss)
        }
        Some(_) => Ok(()),
    }
}

/// Whether a node is a member of the group, and may not be removed.
pub(crate) fn is_member(core: &Core, node: &Node) -> bool {
    desired_role(node) == NodeRole::Manager
        && core.raft.membership().iter().any(|member| member.node_id == node.id)
}

fn keeps_quorum(core: &Core, raft_id: u64) -> bool {
    would_keep_quorum(&core.raft.membership(), raft_id, &reachable(&core.view()))
}

/// Whether those that stay and can be reached are a majority of those that stay.
fn would_keep_quorum(members: &[Member], leaving: u64, reachable: &BTreeMap<u64, bool>) -> bool {
    let staying = members.iter().filter(|member| member.voter && member.raft_id != leaving);
    let (mut all, mut alive) = (0, 0);
    for member in staying {
        all += 1;
        alive += usize::from(reachable.get(&member.raft_id).copied().unwrap_or(true));
    }
    all > 0 && alive > all / 2
}

/// By the word of the leader that the store keeps.
fn reachable(view: &View) -> BTreeMap<u64, bool> {
    let status = view.nodes().filter_map(|node| node.manager_status.as_ref());
    status.map(|status| (status.raft_id, status.reachability() == Reachability::Reachable)).collect()
}

fn desired_role(node: &Node) -> NodeRole {
    node.spec.as_ref().map(NodeSpec::desired_role).unwrap_or_default()
}

/// Keeps the three records in step while this manager leads.
pub(crate) async fn keep_record(brain: Weak<Brain>) {
    loop {
        let Some(now) = brain.upgrade() else { return };
        let mut commits = now.core.store.watch();
        demote(&now).await;
        record(&now).await;
        drop(now);
        // A change of roles at once; silence of a member, and what failed, at the next look.
        let changed = async {
            loop {
                match commits.recv().await {
                    Ok(commit) if commit.changes.iter().all(|change| !is_role_change(change)) => {}
                    _ => return,
                }
            }
        };
        let _ = timeout(LOOK, changed).await;
    }
}

fn is_role_change(change: &crate::store::Change) -> bool {
    use crate::store::Object;
    match (&change.before, &change.after) {
        (Some(Object::Node(before)), Some(Object::Node(after))) => {
            desired_role(before) != desired_role(after) || before.role != after.role
        }
        (Some(Object::Node(_)), None) => true,
        _ => false,
    }
}

/// Takes out of the group who shall no longer be a member: demoted nodes, and nodes that are no longer there.
async fn demote(brain: &Brain) {
    let core = &brain.core;
    let view = core.view();
    for member in core.raft.membership() {
        let wanted = match view.node(&member.node_id) {
            Some(node) => desired_role(node) == NodeRole::Manager,
            // One that has not said which node it is, from a store older than manager join.
            None => member.node_id.is_empty(),
        };
        if wanted || !keeps_quorum(core, member.raft_id) {
            continue;
        }
        let done = if member.raft_id == core.raft.raft_id() {
            // The next leader takes this one out.
            hand_over(core).await
        } else {
            core.raft.expel(member.raft_id).await
        };
        match done {
            Ok(()) => tracing::info!(node = member.node_id, raft_id = member.raft_id, "demoted a manager"),
            Err(error) => tracing::warn!(node = member.node_id, %error, "cannot demote a manager yet"),
        }
    }
}

/// Gives the leadership to the member that was heard of last.
pub(crate) async fn hand_over(core: &Core) -> Result<(), MembershipChange> {
    let heard = core.raft.last_heard();
    let voters = core.raft.membership().into_iter().filter(|member| member.voter);
    let others = voters.filter(|member| member.raft_id != core.raft.raft_id());
    let next = others
        .filter_map(|member| Some((heard.get(&member.raft_id).copied().flatten()?, member.raft_id)))
        .min();
    match next {
        Some((_, raft_id)) => core.raft.hand_over(raft_id).await,
        None => Err(MembershipChange::Slow),
    }
}

/// Writes what follows from the group and the users' wishes into the nodes.
pub(crate) async fn record(brain: &Brain) {
    let core = &brain.core;
    let members = core.raft.membership();
    let heard = core.raft.last_heard();
    let own = core.raft.raft_id();
    let long = core.time_in_office() >= SILENCE;
    let changed: Result<(), ControlError> = core
        .change(|view, transaction| {
            for node in view.nodes() {
                let member = members.iter().find(|member| member.node_id == node.id && member.voter);
                let status = member.map(|member| {
                    let before = node.manager_status.as_ref();
                    let alive = member.raft_id == own
                        || is_alive(heard.get(&member.raft_id).copied().flatten(), before, long);
                    status_of(member, own, alive)
                });
                let role = role_of(node, members.iter().any(|member| member.node_id == node.id));
                if node.manager_status != status || node.role() != role {
                    transaction.update(Node {
                        manager_status: status,
                        role: role.into(),
                        ..Node::clone(node)
                    });
                }
            }
            Ok(())
        })
        .await;
    if let Err(error) = changed {
        tracing::warn!(%error, "what the store says of managers is not up to date");
    }
}

/// A node stays a manager until it is out of the group.
fn role_of(node: &Node, member: bool) -> NodeRole {
    match desired_role(node) {
        NodeRole::Worker if member => NodeRole::Manager,
        desired => desired,
    }
}

/// Who has just joined, or is new to a leader that has just begun, is alive until it is silent for too long. `long`:
/// this leader has waited for a first word of everybody.
fn is_alive(heard: Option<Duration>, before: Option<&ManagerStatus>, long: bool) -> bool {
    match (heard, before) {
        (Some(ago), _) => ago < SILENCE,
        (None, None) => true,
        (None, Some(before)) => !long && before.reachability() == Reachability::Reachable,
    }
}

fn status_of(member: &Member, own: u64, alive: bool) -> ManagerStatus {
    let reachability = if alive { Reachability::Reachable } else { Reachability::Unreachable };
    ManagerStatus {
        raft_id: member.raft_id,
        addr: member.address.clone(),
        leader: member.raft_id == own,
        reachability: reachability.into(),
    }
}

/// After a forced start of a new group: the managers of the old one are workers that have not been heard of.
pub(crate) async fn forget_others(core: &Core) -> Result<(), ControlError> {
    core.change(|view, transaction| {
        for node in view.nodes().filter(|node| node.id != core.node_id.as_str()) {
            if desired_role(node) == NodeRole::Manager {
                let spec =
                    node.spec.clone().map(|spec| NodeSpec { desired_role: NodeRole::Worker.into(), ..spec });
                transaction.update(Node {
                    spec,
                    role: NodeRole::Worker.into(),
                    manager_status: None,
                    ..Node::clone(node)
                });
            }
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_must_leave_a_reachable_majority() {
        let member =
            |raft_id| Member { raft_id, node_id: raft_id.to_string(), address: String::new(), voter: true };
        let members: Vec<Member> = (1..=3).map(member).collect();
        let all = BTreeMap::from([(1, true), (2, true), (3, true)]);
        assert!(would_keep_quorum(&members, 3, &all));
        let one_away = BTreeMap::from([(1, true), (2, false), (3, true)]);
        assert!(!would_keep_quorum(&members, 3, &one_away));
        assert!(would_keep_quorum(&members, 2, &one_away));
        assert!(!would_keep_quorum(&members[..1], 1, &all));
    }
}
