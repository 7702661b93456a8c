//! Nodes that fall silent.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use weft_wire::swarmkit::{Node, NodeStatus, node_status::State};

use super::sessions::{Session, random_fraction};
use crate::brain::Brain;
use crate::core::Core;
use crate::error::ControlError;

/// SwarmKit's text.
const SILENT: &str = "heartbeat failure";
const AWAY: &str = "heartbeat failure; the node's helper answers";
/// SwarmKit's text.
const UNKNOWN: &str = "Node moved to \"unknown\" state due to leadership change in cluster";

/// The time until a node's next heartbeat: the period, more or less a random part of it, so that nodes that began
/// together do not beat together.
pub(crate) fn jittered(core: &Core) -> Duration {
    let deviation = core.timing.heartbeat_jitter * (2.0 * random_fraction() - 1.0);
    core.heartbeat_period().mul_f64(1.0 + deviation)
}

/// Waits for a session to miss its deadline.
pub(crate) async fn watch(brain: Weak<Brain>, session: Arc<Session>) {
    loop {
        let deadline = session.deadline();
        tokio::select! {
            () = session.ended.cancelled() => return,
            () = sleep_until(deadline) => {}
        }
        if session.deadline() > Instant::now() {
            continue;
        }
        let Some(brain) = brain.upgrade() else { return };
        if brain.core.stopping.is_cancelled() || !expire(&brain, &session).await {
            return;
        }
    }
}

/// The node is silent. True: its helper lives, go on watching.
async fn expire(brain: &Brain, session: &Session) -> bool {
    let node_id = &session.node_id;
    let Some(node) = brain.core.view().node(node_id).cloned() else { return false };
    if brain.liveness.answers(&node).await {
        session.beat(brain.core.heartbeat_period());
        set_state(&brain.core, node_id, State::Disconnected, AWAY).await;
        return true;
    }
    if brain.sessions.end(session) {
        tracing::warn!(node = %node_id, session = session.id, "node is down: no heartbeat");
        set_state(&brain.core, node_id, State::Down, SILENT).await;
    }
    false
}

/// After a start of this manager nobody has been heard of yet.
pub(crate) async fn mark_unknown(core: &Core) {
    let changed: Result<(), ControlError> = core
        .change(|view, transaction| {
            for node in view.nodes() {
                let status = node.status.clone().unwrap_or_default();
                if matches!(status.state(), State::Ready | State::Disconnected) {
                    transaction.update(with_state(node, State::Unknown, UNKNOWN));
                }
            }
            Ok(())
        })
        .await;
    log_failure(changed);
}

/// Waits the longer grace that nodes have after a start of this manager, then gives up those that did not come.
pub(crate) async fn give_up_unknown(brain: Weak<Brain>) {
    let Some(grace) =
        brain.upgrade().map(|brain| brain.core.heartbeat_period() * brain.core.timing.grace_periods_unknown)
    else {
        return;
    };
    sleep(grace).await;
    let Some(brain) = brain.upgrade() else { return };
    let view = brain.core.view();
    for node in view.nodes() {
        let unknown = node.status.as_ref().is_some_and(|status| status.state() == State::Unknown);
        let described = node.description.is_some();
        if unknown
            && described
            && !brain.sessions.is_registered(&node.id)
            && !brain.liveness.answers(node).await
        {
            tracing::warn!(node = %node.id, "node is down: it did not come back after this manager started");
            set_state(&brain.core, &node.id, State::Down, SILENT).await;
        }
    }
}

async fn set_state(core: &Core, node_id: &str, state: State, message: &str) {
    let changed: Result<(), ControlError> = core
        .change(|view, transaction| {
            if let Some(node) = view.node(node_id) {
                let changed = with_state(node, state, message);
                if changed.status != node.status {
                    transaction.update(changed);
                }
            }
            Ok(())
        })
        .await;
    log_failure(changed);
}

fn with_state(node: &Node, state: State, message: &str) -> Node {
    let addr = node.status.as_ref().map(|status| status.addr.clone()).unwrap_or_default();
    Node {
        status: Some(NodeStatus { state: state.into(), message: message.to_owned(), addr }),
        ..node.clone()
    }
}

fn log_failure(changed: Result<(), ControlError>) {
    if let Err(error) = changed {
        tracing::error!(%error, "the state of a node cannot be stored");
    }
}
