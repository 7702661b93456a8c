//! `Assignments`: what a node shall run. Whole once, then what changed, numbered so that a gap shows.
//!
//! Invariant: what was sent so far, applied in order, equals the node's tasks as of some view; the loop compares that
//! with the newest view, so a commit that was missed only delays, it never loses.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_orchestration::NodeEngine;
use weft_wire::swarmkit::assignments_message::Type;
use weft_wire::swarmkit::{AssignmentChange, AssignmentsMessage};

use super::known::Known;
use super::sessions::Session;
use crate::brain::Brain;
use crate::network::engine_of;
use crate::store::{Commit, Object};

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
        let mut stream = Stream { brain, session, sender, known: Known::default(), number: 0 };
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
    known: Known,
    /// Of the last message.
    number: u64,
}

/// The reader went away: no error.
struct Gone;

impl Stream {
    async fn run(&mut self) -> Result<(), Status> {
        let mut commits = self.brain.core.store.watch();
        let changes = self.changes();
        if self.send(Type::Complete, changes).await.is_err() {
            return Ok(());
        }
        loop {
            self.wait(&mut commits).await?;
            // A Weft node is told at once; while it is slow to read, changes gather. A Docker node waits for its
            // load-balancer address, so its session update goes first.
            if self.is_docker() {
                self.settle(&mut commits).await?;
            }
            loop {
                let changes = self.changes();
                if changes.is_empty() {
                    break;
                }
                if self.send(Type::Incremental, changes).await.is_err() {
                    return Ok(());
                }
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
    fn changes(&mut self) -> Vec<AssignmentChange> {
        let limit = if self.number == 0 { usize::MAX } else { self.brain.core.timing.assignment_batch };
        self.known.changes(&self.brain.core.view(), &self.session.node_id, limit)
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
