//! `Drain` and `Settle`: a node's tasks cease or begin to take traffic, and the node goes on once all others know.
//!
//! Who must acknowledge: every Weft node that is ready when it is asked (or has yet to come back to a new leader), and shares a network with one of the tasks;
//! where a task is on the ingress network, every ready Weft node. Who is no longer ready is no longer waited for. A
//! Docker node acknowledges nothing: gossip is given its time, as Docker gives it. Nobody waits beyond the limit, and
//! who is missing then is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::{Node, Task, node_status::State};
use weft_wire::weft_v1::MissingNode;

use super::progress::{Progress, Standing};
use super::watch::networks_of_node;
use crate::brain::Brain;
use crate::control::is_ingress;
use crate::dispatcher::{Session, Sessions};
use crate::network::{Reports, engine_of, is_overlay};
use crate::notice::{Notice, Unacknowledged};
use crate::store::{View, networks_of};

/// No task waits longer, whatever was asked for.
const MAX_LIMIT: Duration = Duration::from_secs(60);
/// What Docker's nodes wait for gossip to spread (moby `defaultGossipConvergeDelay`).
const GOSSIP_TIME: Duration = Duration::from_secs(2);

/// What tasks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// They end: nothing new is to be sent to them.
    Drain,
    /// They begin: what is sent shall find them.
    Settle,
}

/// A node may not speak for these tasks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("task {task} is not assigned to node {node}")]
    Foreign { task: String, node: String },
    #[error("node must disconnect")]
    Ended,
}

/// Who is to know.
#[derive(Debug, Default, PartialEq, Eq)]
struct Circle {
    /// Ready Weft nodes, each with the networks that it shares with the tasks.
    weft: BTreeMap<String, BTreeSet<String>>,
    /// A Docker node is among those that may send traffic.
    has_docker: bool,
}

impl Circle {
    fn of(view: &View, reports: &Reports, own: &str, tasks: &[&Task]) -> Self {
        let mut circle = Self::default();
        let ids: BTreeSet<&str> = tasks.iter().flat_map(|task| networks_of(task)).collect();
        for network in ids.into_iter().filter_map(|id| view.network(id)).filter(|it| is_overlay(it)) {
            if is_ingress(network) {
                view.nodes().for_each(|node| circle.add(view, reports, node, &network.id));
            } else {
                let on = view.tasks_of_network(&network.id).map(|task| task.node_id.as_str());
                let on: BTreeSet<&str> = on.collect();
                let nodes = on.into_iter().filter_map(|id| view.node(id));
                nodes.for_each(|node| circle.add(view, reports, node, &network.id));
            }
        }
        circle.weft.remove(own);
        circle
    }

    fn add(&mut self, view: &View, reports: &Reports, node: &Node, network: &str) {
        if !is_awaited(node) {
            return;
        }
        match engine_of(node, reports.of(view, &node.id).as_deref()) {
            Some(NodeEngine::Weft) => {
                self.weft.entry(node.id.clone()).or_default().insert(network.to_owned());
            }
            Some(NodeEngine::Docker) => self.has_docker = true,
            // It has not said what it is, hence has no endpoints yet.
            None => {}
        }
    }

    /// Those that do not follow as of `index`, with the reason where they gave one. Who fell away is not missed.
    fn missing(&self, view: &View, standing: impl Fn(&str, &str) -> Standing) -> BTreeMap<String, String> {
        let mut missing = BTreeMap::new();
        for (id, networks) in &self.weft {
            if !view.node(id).is_some_and(|node| is_awaited(node)) {
                continue;
            }
            for network in networks {
                let why = match standing(id, network) {
                    Standing::Follows => continue,
                    Standing::Silent => None,
                    Standing::Fails(why) => Some(why),
                };
                // Who has left the network is told nothing more of it.
                if !networks_of_node(view, id).contains(network) {
                    continue;
                }
                let known = missing.entry(id.clone()).or_insert_with(String::new);
                known.extend(why.filter(|_| known.is_empty()));
            }
        }
        missing
    }
}

/// Ready, or not heard of since this manager began to lead: such a node is back, or known to be down, within seconds, and
/// until then it sends where it sent before.
fn is_awaited(node: &Node) -> bool {
    let state = node.status.as_ref().map(|status| status.state());
    matches!(state, Some(State::Ready | State::Unknown))
}

/// Where nodes stand, by what they said in their present sessions.
fn standing_of<'a>(
    progress: &'a Progress,
    sessions: &'a Sessions,
    index: u64,
) -> impl Fn(&str, &str) -> Standing + 'a {
    move |node, network| match sessions.current(node) {
        Some(session) => progress.standing(node, &session.id, network, index),
        None => Standing::Silent,
    }
}

/// Waits until everybody knows of the turn of these tasks, at most `limit`. Gives the nodes that did not say so.
pub(crate) async fn hand_over(
    brain: &Brain,
    session: &Session,
    turn: Turn,
    task_ids: &[String],
    limit: Duration,
) -> Result<Vec<MissingNode>, HandoverError> {
    let own = session.node_id.as_str();
    // Subscribed before the first look, so that nothing is missed.
    let mut progress = brain.progress.changed();
    let mut commits = brain.core.store.watch();
    let view = brain.core.view();
    let tasks: Vec<&Task> = task_ids.iter().filter_map(|id| view.task(id)).map(AsRef::as_ref).collect();
    if let Some(task) = tasks.iter().find(|task| task.node_id != own) {
        return Err(HandoverError::Foreign { task: task.id.clone(), node: own.to_owned() });
    }
    let circle = Circle::of(&view, &brain.reports, own, &tasks);
    let began = Instant::now();
    let end = began + limit.min(MAX_LIMIT);
    let standing = standing_of(&brain.progress, &brain.sessions, view.index());
    let missing = loop {
        progress.borrow_and_update();
        let missing = circle.missing(&brain.core.view(), &standing);
        if missing.is_empty() || Instant::now() >= end {
            break missing;
        }
        tokio::select! {
            _ = progress.changed() => {}
            commit = commits.recv() => if matches!(commit, Err(RecvError::Closed)) {
                return Err(HandoverError::Ended);
            },
            () = sleep_until(end) => {}
            () = session.ended.cancelled() => return Err(HandoverError::Ended),
            () = brain.core.stopping.cancelled() => return Err(HandoverError::Ended),
        }
    };
    tracing::debug!(node = own, ?turn, tasks = ?task_ids, took = ?began.elapsed(), "handover");
    if !missing.is_empty() {
        tell(brain, &view, turn, &tasks, &missing, began.elapsed());
    }
    if turn == Turn::Drain && circle.has_docker {
        tokio::select! {
            () = sleep_until(end.min(began + GOSSIP_TIME)) => {}
            () = session.ended.cancelled() => return Err(HandoverError::Ended),
            () = brain.core.stopping.cancelled() => return Err(HandoverError::Ended),
        }
    }
    let view = brain.core.view();
    let named = missing.into_iter().map(|(node_id, error)| {
        let hostname = view.node(&node_id).map(|node| hostname(node)).unwrap_or_default();
        MissingNode { node_id, hostname, error }
    });
    Ok(named.collect())
}

/// Lets users know who held tasks up.
fn tell(
    brain: &Brain,
    view: &View,
    turn: Turn,
    tasks: &[&Task],
    missing: &BTreeMap<String, String>,
    waited: Duration,
) {
    let services: BTreeSet<&str> = tasks.iter().map(|task| task.service_id.as_str()).collect();
    let services: Vec<_> = services.into_iter().filter_map(|id| view.service(id).cloned()).collect();
    for (id, error) in missing {
        let Some(node) = view.node(id) else { continue };
        tracing::warn!(
            node = id, hostname = hostname(node), ?turn, tasks = ?tasks.iter().map(|task| &task.id).collect::<Vec<_>>(),
            error, ?waited, "a node did not acknowledge in time"
        );
        brain.notices.tell(Notice::Unacknowledged(Unacknowledged {
            node: Arc::clone(node),
            services: services.clone(),
            tasks: tasks.iter().map(|task| task.id.clone()).collect(),
            turn,
            error: error.clone(),
        }));
    }
}

fn hostname(node: &Node) -> String {
    node.description.as_ref().map(|description| description.hostname.clone()).unwrap_or_default()
}

#[cfg(test)]
#[path = "handover_test.rs"]
mod tests;
