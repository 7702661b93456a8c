//! A manager makes itself known: it asks the leader to be a member, and again whenever the group has another address
//! of it than it has.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;
use weft_wire::weft_v1::{JoinRequest, LeaveRequest, join_response, leave_response};

use crate::brain::Brain;
use crate::consensus::{Consensus as _, MemberNode};
use crate::core::Core;
use crate::membership;

/// Between two looks at what the group knows, and between attempts.
const LOOK: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(500);
/// One call: the leader dials back and waits for this manager to catch up.
const CALL_LIMIT: Duration = Duration::from_secs(75);
const LEAVE_LIMIT: Duration = Duration::from_secs(8);
/// Members that do not lead name the leader; more hops mean that they disagree.
const MAX_HOPS: usize = 4;

/// Why this manager is no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// The leader does not want it: it was demoted or removed.
    #[error("rpc error: code = {code} desc = {message}")]
    Refused {
        /// gRPC's name of the code.
        code: String,
        /// In the leader's words.
        message: String,
    },
    /// Nobody who could decide was found.
    #[error("no manager that leads the swarm can be reached: {0}")]
    NoLeader(String),
}

/// Keeps the group's word on this manager true until it stops.
pub(crate) async fn run(brain: Weak<Brain>) {
    loop {
        let Some(now) = brain.upgrade() else { return };
        let stopping = now.core.stopping.clone();
        // One that joins is in no group yet, and asks by itself. A call to a manager that does not answer must not hold a stop up.
        if !now.core.raft.membership().is_empty()
            && !is_known(&now.core)
            && let Some(Err(error)) = stopping.run_until_cancelled(announce(&now, &[])).await
        {
            tracing::warn!(%error, "this manager is not yet known to the others under its address");
        }
        drop(now);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Whether the group has this manager as it is.
pub(crate) fn is_known(core: &Core) -> bool {
    let own = own_node(core);
    core.raft.membership().iter().any(|member| {
        member.raft_id == core.raft.raft_id()
            && member.voter
            && member.address == own.addr
            && member.node_id == own.node_id
    })
}

fn own_node(core: &Core) -> MemberNode {
    MemberNode { node_id: core.node_id.to_string(), addr: core.advertise.to_string() }
}

/// Asks until a leader has let this manager in, for a manager that joins.
pub(crate) async fn join(
    brain: &Arc<Brain>,
    remotes: &[SocketAddr],
    limit: Duration,
) -> Result<(), AnnounceError> {
    let mut last = AnnounceError::NoLeader("no manager is known".to_owned());
    let attempts = async {
        loop {
            match announce(brain, remotes).await {
                Ok(()) => return Ok(()),
                Err(error @ AnnounceError::Refused { .. }) => return Err(error),
                Err(error) => last = error,
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    match timeout(limit, attempts).await {
        Ok(done) => done,
        Err(_) => Err(last),
    }
}

/// One round: every manager known is asked until one answers as leader.
async fn announce(brain: &Brain, remotes: &[SocketAddr]) -> Result<(), AnnounceError> {
    let core = &brain.core;
    if *core.in_office().borrow() {
        let admitted = core.raft.admit(core.raft.raft_id(), own_node(core)).await;
        admitted.map_err(|error| AnnounceError::NoLeader(error.to_string()))?;
        membership::record(brain).await;
        return Ok(());
    }
    let mut why = "no manager is known".to_owned();
    for address in candidates(core, remotes) {
        match ask(core, address).await {
            Ok(()) => return Ok(()),
            Err(error @ AnnounceError::Refused { .. }) => return Err(error),
            Err(AnnounceError::NoLeader(reason)) => why = reason,
        }
    }
    Err(AnnounceError::NoLeader(why))
}

/// The leader first, then the members, then who was named by the user or the agent.
fn candidates(core: &Core, remotes: &[SocketAddr]) -> Vec<String> {
    let leader = core.raft.leader().map(|(_, address)| address);
    let members = core.raft.membership().into_iter().map(|member| member.address);
    let mut all: Vec<String> = Vec::new();
    for address in leader.into_iter().chain(members).chain(remotes.iter().map(ToString::to_string)) {
        if address != core.advertise.to_string() && !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

async fn ask(core: &Core, first: String) -> Result<(), AnnounceError> {
    let request = JoinRequest { raft_id: core.raft.raft_id(), address: core.advertise.to_string() };
    let mut address = first;
    for _ in 0..MAX_HOPS {
        let unreachable = |why: String| AnnounceError::NoLeader(format!("{address}: {why}"));
        let mut client = core.peers.client(&address).map_err(|error| unreachable(error.to_string()))?;
        let call = timeout(CALL_LIMIT, client.join(request.clone())).await;
        let answer = match call {
            Ok(Ok(response)) => response.into_inner().answer,
            Ok(Err(status)) if is_final(status.code()) => {
                let code = format!("{:?}", status.code());
                return Err(AnnounceError::Refused { code, message: status.message().to_owned() });
            }
            Ok(Err(status)) => return Err(unreachable(status.message().to_owned())),
            Err(_) => return Err(unreachable("no answer".to_owned())),
        };
        match answer {
            Some(join_response::Answer::Joined(joined)) => {
                if core.raft.group() == 0 && joined.group != 0 {
                    let entered = core.raft.enter_group(joined.group).await;
                    entered.map_err(|status| unreachable(status.message().to_owned()))?;
                }
                return Ok(());
            }
            Some(join_response::Answer::NotLeader(leader)) if !leader.address.is_empty() => {
                address = leader.address;
            }
            _ => return Err(unreachable("it knows no leader".to_owned())),
        }
    }
    Err(AnnounceError::NoLeader("the managers do not agree who leads".to_owned()))
}

/// What asking again would not change.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied | Code::NotFound | Code::InvalidArgument | Code::Unknown | Code::Unimplemented
    )
}

/// Tells the leader, if one is to be found in time, that this manager leaves for good. A leader hands its office over
/// first. Without an answer the others count this manager as lost.
pub(crate) async fn leave(core: &Core) {
    let others = core.raft.membership().iter().any(|member| member.raft_id != core.raft.raft_id());
    if !others {
        return;
    }
    if timeout(LEAVE_LIMIT, try_leave(core)).await.is_err() {
        tracing::warn!("the other managers could not be told that this one leaves");
    }
}

async fn try_leave(core: &Core) {
    loop {
        if core.leadership().borrow().leading {
            let _ = membership::hand_over(core).await;
        }
        for address in candidates(core, &[]) {
            let Ok(mut client) = core.peers.client(&address) else { continue };
            let request = LeaveRequest { raft_id: core.raft.raft_id() };
            match client.leave(request).await.map(|response| response.into_inner().answer) {
                Ok(Some(leave_response::Answer::Left(_))) => return,
                Err(status) if status.code() == Code::FailedPrecondition => {
                    tracing::warn!(why = status.message(), "the other managers count this one as lost");
                    return;
                }
                _ => {}
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
