//! What the leader does on its own: MTUs and balancer addresses follow what nodes are, freed addresses rest, lost nodes' attachments are given up.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast::error::RecvError;
use weft_wire::swarmkit::{Node, Task, TaskState, node_status::State};

use crate::brain::Brain;
use crate::control::{give_up_tasks, is_ingress};
use crate::error::ControlError;
use crate::network;
use crate::store::{Change, Commit, Object};

/// Longest time between two looks at nodes that are down.
const SLOWEST_LOOK: Duration = Duration::from_secs(60);

/// Follows commits until the manager stops.
pub(crate) async fn follow_commits(brain: Weak<Brain>) {
    let Some((mut commits, stopping)) =
        brain.upgrade().map(|brain| (brain.core.store.watch(), brain.core.stopping.clone()))
    else {
        return;
    };
    let mut nodes_changed = true;
    // A node waits for an address on a network that was full.
    let mut waiting = false;
    loop {
        let Some(now) = brain.upgrade() else { return };
        if std::mem::take(&mut nodes_changed) {
            log_failure("the MTU of networks", network::reconcile_mtu(&now.core, &now.reports).await);
            let settled = network::settle(&now.core, &now.reports).await;
            waiting = !matches!(settled, Ok(true));
            log_failure("the addresses of nodes", settled);
        }
        drop(now);
        let commit = tokio::select! {
            () = stopping.cancelled() => return,
            commit = commits.recv() => commit,
        };
        match commit {
            Ok(commit) => {
                nodes_changed = commit.changes.iter().any(is_about_nodes)
                    || (waiting && commit.changes.iter().any(frees_addresses));
                if let Some(now) = brain.upgrade() {
                    now.core.rest_freed(&commit).await;
                    warn_small_underlays(&now, &commit);
                    warn_clashing_subnets(&now, &commit);
                }
            }
            Err(RecvError::Lagged(_)) => nodes_changed = true,
            Err(RecvError::Closed) => return,
        }
    }
}

/// A report, a node's coming or going, or what it says it is; a network that all nodes are on.
fn is_about_nodes(change: &Change) -> bool {
    match (&change.before, &change.after) {
        (_, Some(Object::Resource(_))) | (Some(Object::Resource(_)), _) => true,
        (Some(Object::Node(before)), Some(Object::Node(after))) => {
            let seen = |node: &Node| {
                let status = node.status.as_ref();
                (node.description.clone(), status.map(|status| (status.state, status.addr.clone())))
            };
            seen(before) != seen(after)
        }
        (Some(Object::Node(_)), None) | (None, Some(Object::Node(_))) => true,
        (None, Some(Object::Network(network))) => is_ingress(network),
        _ => false,
    }
}

/// Something that held addresses ended.
fn frees_addresses(change: &Change) -> bool {
    match (&change.before, &change.after) {
        (Some(Object::Task(before)), Some(Object::Task(after))) => has_ended(after) && !has_ended(before),
        (Some(Object::Task(_) | Object::Service(_) | Object::Network(_)), None) => true,
        _ => false,
    }
}

fn has_ended(task: &Task) -> bool {
    task.status.as_ref().is_some_and(|status| status.state() > TaskState::Running)
}

/// A node whose report shows that it cannot carry the MTU that some network was given by its user.
fn warn_small_underlays(brain: &Brain, commit: &Commit) {
    if !commit.changes.iter().any(|change| matches!(change.after, Some(Object::Resource(_)))) {
        return;
    }
    let view = brain.core.view();
    for network in view.networks() {
        for warning in network::mtu_warnings(&view, &brain.reports, network) {
            tracing::warn!(network = network.id, warning, "a node's underlay is too small");
        }
    }
}

/// A node that by its newest report is in, or routes to, a subnet of some network.
fn warn_clashing_subnets(brain: &Brain, commit: &Commit) {
    let view = brain.core.view();
    for change in &commit.changes {
        let subnets = |object: Option<&Object>| match object {
            Some(Object::Resource(resource)) => network::decode_report(resource)
                .map(|report| network::subnets_of(&report))
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let now = subnets(change.after.as_ref());
        let Some(Object::Resource(resource)) = change.after.as_ref().filter(|_| !now.is_empty()) else {
            continue;
        };
        if now == subnets(change.before.as_ref()) {
            continue;
        }
        for network in view.networks() {
            if let Some(warning) = network::subnet_warning(network, &resource.id, &now) {
                tracing::warn!(
                    network = network.id,
                    node = resource.id,
                    warning,
                    "a network's subnet clashes"
                );
            }
        }
    }
}

/// Frees what nodes hold that have been down for too long, until the manager stops.
pub(crate) async fn give_up_lost_nodes(brain: Weak<Brain>) {
    loop {
        let Some(now) = brain.upgrade() else { return };
        let (limit, stopping) = (now.core.timing.orphan_after, now.core.stopping.clone());
        let lost: Vec<Arc<Node>> =
            now.core.view().nodes().filter(|node| is_lost(node, limit)).cloned().collect();
        for node in lost {
            let changed: Result<(), ControlError> = now
                .core
                .change(|view, transaction| {
                    if let Some(node) = view.node(&node.id).filter(|node| is_lost(node, limit)) {
                        give_up_tasks(view, transaction, node);
                    }
                    Ok(())
                })
                .await;
            log_failure("the tasks of a lost node", changed);
        }
        drop(now);
        let pause = (limit / 4).clamp(Duration::from_millis(10), SLOWEST_LOOK);
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn is_lost(node: &Node, limit: Duration) -> bool {
    let down = node.status.as_ref().is_some_and(|status| status.state() == State::Down);
    let since =
        node.meta.as_ref().and_then(|meta| meta.updated_at).and_then(|at| SystemTime::try_from(at).ok());
    down && since.is_some_and(|since| since.elapsed().is_ok_and(|elapsed| elapsed >= limit))
}

fn log_failure<T>(what: &str, changed: Result<T, impl std::fmt::Display>) {
    if let Err(error) = changed {
        tracing::error!(%error, what, "cannot be changed in the store");
    }
}
