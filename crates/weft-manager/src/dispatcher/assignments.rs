//! `Assignments`: what a node shall run. Whole once, then what changed, numbered so that a gap shows.
//!
//! Invariant: what was sent so far, applied in order, equals the node's tasks as of some view; the loop compares that
//! with the newest view, so a commit that was missed only delays, it never loses.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::assignment_change::AssignmentAction;
use weft_wire::swarmkit::assignments_message::Type;
use weft_wire::swarmkit::{
    Annotations, Assignment, AssignmentChange, AssignmentsMessage, Meta, Task, TaskSpec, TaskState,
    TaskStatus, Version,
};

use super::sessions::Session;
use crate::brain::Brain;
use crate::network::engine_of;
use crate::store::{Commit, Object, View};

/// Messages that wait for a slow reader.
const BACKLOG: usize = 4;
/// Longest time that changes which keep coming hold a message back, in quiet times.
const PATIENCE: u32 = 10;

type Sender = mpsc::Sender<Result<AssignmentsMessage, Status>>;

/// The messages of one stream, until the session ends.
pub(crate) fn stream(
    brain: Arc<Brain>,
    session: Arc<Session>,
) -> ReceiverStream<Result<AssignmentsMessage, Status>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut stream = Stream { brain, session, sender, sent: BTreeMap::new(), number: 0 };
        if let Err(status) = stream.run().await {
            // The reader may be gone.
            let _ = stream.sender.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

struct Stream {
    brain: Arc<Brain>,
    session: Arc<Session>,
    sender: Sender,
    /// What the node knows.
    sent: BTreeMap<String, Arc<Task>>,
    /// Of the last message.
    number: u64,
}

/// The reader went away: no error.
struct Gone;

impl Stream {
    async fn run(&mut self) -> Result<(), Status> {
        let mut commits = self.brain.core.store.watch();
        let quiet = self.brain.core.timing.assignment_quiet;
        let changes = self.changes(&self.brain.core.view());
        if self.send(Type::Complete, changes).await.is_err() {
            return Ok(());
        }
        let mut last_sent = Instant::now();
        loop {
            self.wait(&mut commits).await?;
            // A Weft node that was left alone for a while is told at once. A Docker node waits for its
            // load-balancer address, so its session update goes first.
            if self.is_docker() || last_sent.elapsed() < quiet {
                self.settle(&mut commits).await?;
            }
            loop {
                let changes = self.changes(&self.brain.core.view());
                if changes.is_empty() {
                    break;
                }
                if self.send(Type::Incremental, changes).await.is_err() {
                    return Ok(());
                }
                last_sent = Instant::now();
            }
        }
    }

    /// Until something of this node changed.
    async fn wait(&self, commits: &mut tokio::sync::broadcast::Receiver<Arc<Commit>>) -> Result<(), Status> {
        let ended = || Status::aborted("node must disconnect");
        loop {
            tokio::select! {
                () = self.sender.closed() => return Err(Status::cancelled("the reader is gone")),
                () = self.session.ended.cancelled() => return Err(ended()),
                () = self.brain.core.stopping.cancelled() => return Err(ended()),
                commit = commits.recv() => match commit {
                    Ok(commit) if concerns(&commit, &self.session.node_id) => return Ok(()),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Ok(()),
                    Err(RecvError::Closed) => return Err(ended()),
                },
            }
        }
    }

    /// Until nothing of this node has changed for the quiet time, or enough has.
    async fn settle(
        &self,
        commits: &mut tokio::sync::broadcast::Receiver<Arc<Commit>>,
    ) -> Result<(), Status> {
        let timing = &self.brain.core.timing;
        let end = Instant::now() + timing.assignment_quiet * PATIENCE;
        for _ in 0..timing.assignment_batch {
            let until = end.min(Instant::now() + timing.assignment_quiet);
            match timeout_at(until, self.wait(commits)).await {
                Ok(changed) => changed?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn is_docker(&self) -> bool {
        let view = self.brain.core.view();
        let node_id = &self.session.node_id;
        let report = self.brain.reports.of(&view, node_id);
        view.node(node_id).and_then(|node| engine_of(node, report.as_deref())) != Some(NodeEngine::Weft)
    }

    /// What the node does not know yet, at most one message's worth unless it is the first; counts as sent.
    fn changes(&mut self, view: &View) -> Vec<AssignmentChange> {
        let limit = if self.number == 0 { usize::MAX } else { self.brain.core.timing.assignment_batch };
        let wanted: BTreeMap<&str, &Arc<Task>> = view
            .tasks_of_node(&self.session.node_id)
            .filter(|task| is_for_node(task))
            .map(|task| (task.id.as_str(), task))
            .collect();
        let mut changes = Vec::new();
        for (id, task) in &wanted {
            if changes.len() == limit {
                return changes;
            }
            if self.sent.get(*id).is_none_or(|sent| differs(sent, task)) {
                self.sent.insert((*id).to_owned(), Arc::clone(task));
                changes.push(change(Task::clone(task), AssignmentAction::Update));
            }
        }
        let gone: Vec<String> =
            self.sent.keys().filter(|id| !wanted.contains_key(id.as_str())).cloned().collect();
        for id in gone.into_iter().take(limit - changes.len().min(limit)) {
            self.sent.remove(&id);
            changes.push(change(id_only(id), AssignmentAction::Remove));
        }
        changes
    }

    async fn send(&mut self, kind: Type, changes: Vec<AssignmentChange>) -> Result<(), Gone> {
        let applies_to = if self.number == 0 { String::new() } else { self.number.to_string() };
        self.number += 1;
        let results_in = self.number.to_string();
        let message = AssignmentsMessage { r#type: kind.into(), applies_to, results_in, changes };
        self.sender.send(Ok(message)).await.map_err(|_| Gone)
    }
}

fn concerns(commit: &Commit, node_id: &str) -> bool {
    let objects = commit.changes.iter().flat_map(|change| [&change.before, &change.after]).flatten();
    { objects }.any(|object| matches!(object, Object::Task(task) if task.node_id == node_id))
}

/// Nodes hear of a task once it is theirs.
fn is_for_node(task: &Task) -> bool {
    let state = task.status.as_ref().map_or(TaskState::New, TaskStatus::state);
    (TaskState::Assigned..TaskState::Orphaned).contains(&state)
}

/// Whether a node needs to hear of a change: its own words are not repeated to it.
fn differs(sent: &Task, now: &Task) -> bool {
    let stable = |task: &Task| Task { status: None, meta: None, ..task.clone() };
    stable(sent) != stable(now)
}

fn change(task: Task, action: AssignmentAction) -> AssignmentChange {
    AssignmentChange { assignment: Some(Assignment { item: Some(Item::Task(task)) }), action: action.into() }
}

/// A removal names the task only; the parts that SwarmKit always writes are there and empty.
fn id_only(id: String) -> Task {
    Task {
        id,
        meta: Some(Meta { version: Some(Version::default()), ..Default::default() }),
        spec: Some(TaskSpec::default()),
        annotations: Some(Annotations::default()),
        service_annotations: Some(Annotations::default()),
        status: Some(TaskStatus::default()),
        ..Default::default()
    }
}
