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
const LEFT: &str = "node left the swarm";
const AWAY: &str = "heartbeat failure; the node's helper answers";
/// SwarmKit's text.
const UNKNOWN: &str = "Node moved to \"unknown\" state due to leadership change in cluster";

/// The time until a node's next heartbeat: the period, more or less a random part of it, so that nodes that began
/// together do not beat together.
pub(crate) fn jittered(core: &Core) -> Duration {
    let deviation = core.timing.heartbeat_jitter * (2.0 * random_fraction() - 1.0);
    core.heartbeat_period().mul_f64(1.0 + deviation)
}

/// Takes a heartbeat: the node lives for another grace period.
pub(crate) async fn beat(core: &Core, session: &Session) {
    session.beat(core.heartbeat_period() * core.timing.grace_periods);
    let view = core.view();
    let status = view.node(&session.node_id).and_then(|node| node.status.as_ref());
    if status.is_some_and(|status| status.state() == State::Disconnected) {
        tracing::info!(node = session.node_id, "a node that was away is back");
        set_state(core, &session.node_id, State::Ready, "").await;
    }
}

/// Waits for a session to miss its deadline.
pub(crate) async fn watch(brain: Weak<Brain>, session: Arc<Session>) {
    let mut away_since = None;
    loop {
        let deadline = session.deadline();
        tokio::select! {
            () = session.ended.cancelled() => return,
            () = sleep_until(deadline) => {}
        }
        if session.deadline() > Instant::now() {
            away_since = None;
            continue;
        }
        let Some(brain) = brain.upgrade() else { return };
        if brain.core.stopping.is_cancelled() {
            return;
        }
        let since = *away_since.get_or_insert_with(Instant::now);
        if !is_kept(&brain, &session, since).await {
            expire(&brain, &session).await;
            return;
        }
    }
}

/// Whether a silent node stays, because its helper answers and it has not been away for too long.
async fn is_kept(brain: &Brain, session: &Session, since: Instant) -> bool {
    let node_id = &session.node_id;
    let Some(node) = brain.core.view().node(node_id).cloned() else { return false };
    if since.elapsed() >= brain.core.timing.away_limit || !brain.is_away(&node).await {
        return false;
    }
    // A heartbeat may have come while the helper was asked.
    if session.deadline() <= Instant::now() {
        session.wait_until(Instant::now() + brain.core.heartbeat_period());
        set_state(&brain.core, node_id, State::Disconnected, AWAY).await;
    }
    true
}

async fn expire(brain: &Brain, session: &Session) {
    if brain.sessions.end(session) {
        tracing::warn!(node = session.node_id, session = session.id, "node is down: no heartbeat");
        set_state(&brain.core, &session.node_id, State::Down, SILENT).await;
    }
}

/// Takes a node's word that it leaves the swarm. It stays known until it is removed.
pub(crate) async fn depart(brain: &Brain, session: &Session) {
    if brain.sessions.end(session) {
        tracing::info!(node = session.node_id, session = session.id, "node left the swarm");
        set_state(&brain.core, &session.node_id, State::Down, LEFT).await;
    }
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
    let Some((period, timing)) =
        brain.upgrade().map(|brain| (brain.core.heartbeat_period(), brain.core.timing))
    else {
        return;
    };
    let grace = period * timing.grace_periods_unknown;
    let end = Instant::now() + grace + timing.away_limit;
    sleep(grace).await;
    loop {
        let Some(now) = brain.upgrade() else { return };
        let missing: Vec<_> =
            now.core.view().nodes().filter(|node| is_missing(&now, node)).cloned().collect();
        if missing.is_empty() {
            return;
        }
        for node in missing {
            let kept = Instant::now() < end && now.is_away(&node).await;
            if now.sessions.is_registered(&node.id) {
                continue;
            }
            let (state, message) = if kept { (State::Disconnected, AWAY) } else { (State::Down, SILENT) };
            tracing::warn!(node = node.id, ?state, "node did not come back after this manager started");
            set_state(&now.core, &node.id, state, message).await;
        }
        drop(now);
        sleep(period).await;
    }
}

/// A node that had a session once and has none with this manager. One that has just joined is given its time.
fn is_missing(brain: &Brain, node: &Node) -> bool {
    let state = node.status.as_ref().map(NodeStatus::state);
    let waiting = matches!(state, Some(State::Unknown | State::Disconnected));
    waiting && node.description.is_some() && !brain.sessions.is_registered(&node.id)
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
