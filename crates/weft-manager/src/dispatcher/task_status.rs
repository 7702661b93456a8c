//! `UpdateTaskStatus`: what a node says of its tasks.
//!
//! A status only grows; hearing the same again changes nothing. An attachment that ended is removed, and its address
//! with it: nothing restarts it. A service's task that ended keeps its object, and its addresses are freed; one that
//! the managers took off its node keeps them until the node says that it has stopped.

use std::collections::BTreeMap;
use std::time::SystemTime;

use weft_wire::swarmkit::{Task, TaskState, TaskStatus, task_spec::Runtime};

use crate::consensus::ConsensusError;
use crate::core::{Contention, Core};
use crate::network;
use crate::store::{Transaction, View};

/// A report was refused as a whole. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    #[error("cannot update a task not assigned this node")]
    ForeignTask,
    #[error("the swarm's state changed too often while this request was computed")]
    Contention,
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

impl From<Contention> for UpdateError {
    fn from(_: Contention) -> Self {
        Self::Contention
    }
}

/// Takes a node's word on its tasks; later ones about the same task win. Unknown tasks are passed over.
pub(crate) async fn update(
    core: &Core,
    node_id: &str,
    updates: Vec<(String, TaskStatus)>,
) -> Result<(), UpdateError> {
    let mut latest: BTreeMap<String, TaskStatus> = BTreeMap::new();
    for (id, status) in updates {
        match latest.get(&id) {
            Some(known) if known.state > status.state => {}
            _ => drop(latest.insert(id, status)),
        }
    }
    core.change(|view, transaction| write(core, view, transaction, node_id, &latest)).await
}

fn write(
    core: &Core,
    view: &View,
    transaction: &mut Transaction,
    node_id: &str,
    latest: &BTreeMap<String, TaskStatus>,
) -> Result<(), UpdateError> {
    let mut ended = Vec::new();
    for (id, status) in latest {
        let Some(task) = view.task(id) else { continue };
        if task.node_id != node_id {
            return Err(UpdateError::ForeignTask);
        }
        if !is_news(task, status) {
            if has_ended(status) {
                free_late(view, transaction, task);
            }
            continue;
        }
        if is_attachment(task) && has_ended(status) {
            tracing::info!(task = id, node = node_id, state = ?status.state(), err = status.err, "attachment ended");
            ended.push(task.as_ref());
            continue;
        }
        if has_ended(status) && !task.status.as_ref().is_some_and(has_ended) {
            // What it held is free at once; its object stays for history.
            for claim in view.held_by(id) {
                transaction.release(claim);
            }
        }
        let status = TaskStatus {
            applied_by: core.node_id.to_string(),
            applied_at: Some(SystemTime::now().into()),
            ..status.clone()
        };
        transaction.update(Task { status: Some(status), ..Task::clone(task) });
    }
    if !ended.is_empty() {
        network::forget_tasks(view, transaction, node_id, &ended);
    }
    Ok(())
}

/// The managers took the task off its node, and only now its container has stopped: what it held is free.
fn free_late(view: &View, transaction: &mut Transaction, task: &Task) {
    let mut held = view.held_by(&task.id).peekable();
    if held.peek().is_none() || !task.status.as_ref().is_some_and(has_ended) {
        return;
    }
    for claim in held {
        transaction.release(claim);
    }
    // Written as it is: whoever computed the same from this version is refused, and frees nothing of others.
    transaction.update(task.clone());
}

fn has_ended(status: &TaskStatus) -> bool {
    status.state() > TaskState::Running
}

pub(crate) fn is_attachment(task: &Task) -> bool {
    matches!(task.spec.as_ref().and_then(|spec| spec.runtime.as_ref()), Some(Runtime::Attachment(_)))
}

fn is_news(task: &Task, status: &TaskStatus) -> bool {
    let Some(known) = &task.status else { return true };
    if status.state < known.state {
        return false;
    }
    let said =
        |status: &TaskStatus| TaskStatus { applied_by: String::new(), applied_at: None, ..status.clone() };
    said(known) != said(status)
}
