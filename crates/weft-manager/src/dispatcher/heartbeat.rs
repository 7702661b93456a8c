//! Nodes that fall silent.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use weft_wire::swarmkit::{Node, NodeStatus, node_status::State};

use super::sessions::{Session, random_fraction};
use super::suspicion::{Next, Suspicion};
use crate::brain::Brain;
use crate::core::Core;
use crate::error::ControlError;
use crate::liveness::Answer;
use crate::verdict::Verdict;

/// Time for a node's stream to open once its session is registered.
const OPENING: Duration = Duration::from_millis(500);
/// Between two looks at a node that neighbours have not given up yet.
const AGAIN: Duration = Duration::from_millis(250);
/// Nodes that can come back to a new leader have done so after this.
const RETURN: Duration = Duration::from_secs(1);
/// Between two looks at those that have not.
const LOOK: Duration = Duration::from_millis(400);
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

/// Takes a heartbeat: the node lives.
pub(crate) async fn beat(core: &Core, session: &Session) {
    session.beat();
    let view = core.view();
    let status = view.node(&session.node_id).and_then(|node| node.status.as_ref());
    if status.is_some_and(|status| status.state() == State::Disconnected) {
        tracing::info!(node = session.node_id, "a node that was away is back");
        set_state(core, &session.node_id, State::Ready, "").await;
    }
}

/// Watches over a session: while its stream is open and heartbeats come in time, nothing is asked.
pub(crate) async fn watch(brain: Weak<Brain>, session: Arc<Session>) {
    let mut suspicion = Suspicion::default();
    // A session is registered before its stream opens.
    let mut pause = OPENING;
    loop {
        tokio::select! {
            () = session.ended.cancelled() => return,
            () = sleep(pause) => {}
        }
        let Some(now) = brain.upgrade() else { return };
        let late = session.heard() + late_after(&now.core);
        if !session.is_broken() && late > Instant::now() {
            suspicion = Suspicion::default();
            drop(now);
            tokio::select! {
                () = session.ended.cancelled() => return,
                () = session.broken() => {}
                () = sleep_until(late) => {}
            }
            pause = Duration::ZERO;
            continue;
        }
        if now.core.stopping.is_cancelled() {
            return;
        }
        match judge(&now, &session, &mut suspicion).await {
            Next::Probe { after } => pause = after,
            Next::Dead => return expire(&now, &session).await,
        }
    }
}

/// A node may come this late before it is suspected: its own period is a tenth longer than the mean at most.
fn late_after(core: &Core) -> Duration {
    core.heartbeat_period().mul_f64(1.0 + 2.0 * core.timing.heartbeat_jitter)
}

/// Asks who can speak for a node whose session broke or whose heartbeat is late.
async fn judge(brain: &Brain, session: &Session, suspicion: &mut Suspicion) -> Next {
    let core = &brain.core;
    let Some(node) = core.view().node(&session.node_id).cloned() else { return Next::Dead };
    let since = suspicion.since(Instant::now());
    let answer = brain.probe(&node).await;
    // What came in while the helper was asked counts.
    let overdue = Instant::now().saturating_duration_since(session.heard());
    let deadline = core.heartbeat_period() * core.timing.grace_periods;
    let Some(answer) = answer else {
        return match deadline.checked_sub(overdue).filter(|left| !left.is_zero()) {
            Some(left) => Next::Probe { after: left.min(late_after(core)) },
            None => Next::Dead,
        };
    };
    if since.elapsed() >= core.timing.away_limit && overdue >= deadline {
        return Next::Dead;
    }
    if answer == Answer::Accepted && overdue >= deadline {
        set_state(core, &session.node_id, State::Disconnected, AWAY).await;
    }
    if answer != Answer::Accepted && suspicion.is_first() {
        brain.alert(&node);
    }
    let mut next = suspicion.note(answer, overdue >= late_after(core));
    if next == Next::Dead && brain.verdict(&node, 0, overdue >= deadline).await != Verdict::Dead {
        next = Next::Probe { after: AGAIN };
    }
    let overdue = Instant::now().saturating_duration_since(session.heard());
    // A node that came back meanwhile has a stream, or another session.
    if next == Next::Dead && !session.is_broken() && overdue < late_after(core) {
        return Next::Probe { after: OPENING };
    }
    next
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

/// Follows the nodes that have not come back since this manager began to lead. Where only heartbeats speak for a node it
/// has the longer grace; a helper that is gone speaks against it sooner.
pub(crate) async fn give_up_unknown(brain: Weak<Brain>) {
    let Some((period, timing)) =
        brain.upgrade().map(|brain| (brain.core.heartbeat_period(), brain.core.timing))
    else {
        return;
    };
    let began = Instant::now();
    let grace = period * timing.grace_periods_unknown;
    let mut suspicions: HashMap<String, Suspicion> = HashMap::new();
    sleep(RETURN.min(grace)).await;
    loop {
        let Some(now) = brain.upgrade() else { return };
        let missing: Vec<_> =
            now.core.view().nodes().filter(|node| is_missing(&now, node)).cloned().collect();
        if missing.is_empty() {
            return;
        }
        let asked = missing.iter().map(|node| now.probe(node));
        let answers = futures_util::future::join_all(asked).await;
        // They live and are on their way: they may yet speak for others.
        let returning = answers.iter().filter(|answer| **answer == Some(Answer::Accepted)).count();
        for (node, answer) in missing.iter().zip(answers) {
            let over = began.elapsed() >= grace;
            let suspicion = suspicions.entry(node.id.clone()).or_default();
            let dead = match answer {
                None => over,
                Some(answer) => {
                    if answer != Answer::Accepted && suspicion.is_first() {
                        now.alert(node);
                    }
                    let missed = suspicion.note(answer, over) == Next::Dead
                        && now.verdict(node, returning, over).await == Verdict::Dead;
                    missed || began.elapsed() >= grace + timing.away_limit
                }
            };
            if now.sessions.is_registered(&node.id) || !(dead || over) {
                continue;
            }
            let (state, message) = if dead { (State::Down, SILENT) } else { (State::Disconnected, AWAY) };
            set_state(&now.core, &node.id, state, message).await;
        }
        drop(now);
        sleep(LOOK.min(period)).await;
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
