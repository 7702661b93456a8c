//! A node as the managers see it: containers that get on, and reports.

use std::collections::BTreeMap;

use weft_wire::swarmkit::{Task, TaskState};

use super::objects::{BROKEN, image};

/// What a node has of one task.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) state: TaskState,
    pub(super) desired: TaskState,
    is_broken: bool,
    is_job: bool,
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// Whether it lives.
    pub(super) is_up: bool,
    /// Whether managers and it hear each other.
    pub(super) is_cut: bool,
    pub(super) work: BTreeMap<String, Work>,
    /// Virtual milliseconds of the last word from it.
    pub(super) heard: u64,
}

impl Worker {
    pub(super) fn is_connected(&self) -> bool {
        self.is_up && !self.is_cut
    }

    /// Takes over what it is assigned: exactly this, and nothing else.
    pub(super) fn assign<'a>(&mut self, tasks: impl Iterator<Item = (&'a Task, bool)>) {
        let mut gone = std::mem::take(&mut self.work);
        for (task, is_job) in tasks {
            let known = gone.remove(&task.id);
            let fresh = || Work {
                state: TaskState::Assigned,
                desired: TaskState::Running,
                is_broken: image(task) == BROKEN,
                is_job,
            };
            let mut work = known.unwrap_or_else(fresh);
            work.desired = task.desired_state();
            self.work.insert(task.id.clone(), work);
        }
    }

    /// It loses its containers, as in a power failure.
    pub(super) fn crash(&mut self) {
        self.is_up = false;
        for work in self.work.values_mut().filter(|work| work.state <= TaskState::Running) {
            // What was begun is known from the disk when the node is back.
            work.state = if work.state > TaskState::Assigned { TaskState::Failed } else { work.state };
        }
    }

    /// One task gets one step on. False if there is none to take.
    pub(super) fn step(&mut self, id: &str, fails: bool) -> bool {
        let Some(work) = self.work.get_mut(id) else { return false };
        let next = match work.state {
            state if state > TaskState::Running => return false,
            _ if work.desired >= TaskState::Shutdown => TaskState::Shutdown,
            TaskState::Assigned => TaskState::Accepted,
            TaskState::Accepted => TaskState::Preparing,
            TaskState::Preparing if fails => TaskState::Rejected,
            TaskState::Preparing => TaskState::Ready,
            TaskState::Ready if work.desired > TaskState::Ready => TaskState::Starting,
            TaskState::Starting if work.is_broken || fails => TaskState::Failed,
            TaskState::Starting => TaskState::Running,
            TaskState::Running if work.is_job => TaskState::Complete,
            TaskState::Running if fails => TaskState::Failed,
            _ => return false,
        };
        work.state = next;
        true
    }
}
