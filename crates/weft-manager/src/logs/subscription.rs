//! One subscription: which nodes it waits for, and where their messages go.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use weft_wire::swarmkit::{LogMessage, LogSelector, SubscriptionMessage, Task, TaskState, TaskStatus};

use crate::store::View;

/// Batches that wait for a slow subscriber; nodes wait beyond that.
const BACKLOG: usize = 16;

pub(crate) struct Subscription {
    message: SubscriptionMessage,
    follow: bool,
    state: Mutex<State>,
}

struct State {
    /// Nodes that were told, or shall be.
    nodes: BTreeSet<String>,
    /// Those of them that are not done.
    waiting: BTreeSet<String>,
    /// Tasks that no node has yet.
    unscheduled: BTreeSet<String>,
    failures: Vec<String>,
    /// None once all nodes are done: the subscriber's end follows when the last publisher lets go.
    output: Option<mpsc::Sender<Vec<LogMessage>>>,
}

impl Subscription {
    pub(super) fn new(message: SubscriptionMessage) -> (Self, mpsc::Receiver<Vec<LogMessage>>) {
        let (output, messages) = mpsc::channel(BACKLOG);
        let state = State {
            nodes: BTreeSet::new(),
            waiting: BTreeSet::new(),
            unscheduled: BTreeSet::new(),
            failures: Vec::new(),
            output: Some(output),
        };
        let follow = message.options.as_ref().is_some_and(|options| options.follow);
        (Self { message, follow, state: Mutex::new(state) }, messages)
    }

    pub(crate) fn id(&self) -> &str {
        &self.message.id
    }

    /// As nodes are told of it.
    pub(super) fn message(&self) -> SubscriptionMessage {
        self.message.clone()
    }

    /// Where a node's messages go; none once the subscription is over.
    pub(crate) fn output(&self) -> Option<mpsc::Sender<Vec<LogMessage>>> {
        self.state().output.clone()
    }

    pub(super) fn concerns(&self, node_id: &str) -> bool {
        self.state().nodes.contains(node_id)
    }

    pub(super) fn told(&self) -> BTreeSet<String> {
        self.state().nodes.clone()
    }

    /// Finds the nodes of the selected tasks. Gives those that are new.
    pub(super) fn extend(&self, view: &View) -> Vec<String> {
        let selector = self.selector();
        let mut new: Vec<String> =
            selector.node_ids.iter().filter(|node| self.add_node(node)).cloned().collect();
        let tasks = selector.task_ids.iter().filter_map(|id| view.task(id));
        new.extend(tasks.filter_map(|task| self.add(task)));
        for service in &selector.service_ids {
            // Without following, a task that has not run yet has nothing to say.
            let speaks = |task: &&std::sync::Arc<Task>| self.follow || state_of(task) >= TaskState::Running;
            new.extend(view.tasks_of_service(service).filter(speaks).filter_map(|task| self.add(task)));
        }
        new
    }

    /// Adds a task if it is selected. Gives its node if that is new.
    pub(super) fn add(&self, task: &Task) -> Option<String> {
        let selector = self.selector();
        if !selector.task_ids.contains(&task.id) && !selector.service_ids.contains(&task.service_id) {
            return None;
        }
        if task.node_id.is_empty() {
            self.state().unscheduled.insert(task.id.clone());
            return None;
        }
        self.state().unscheduled.remove(&task.id);
        self.add_node(&task.node_id).then(|| task.node_id.clone())
    }

    fn add_node(&self, node: &str) -> bool {
        let mut state = self.state();
        state.waiting.insert(node.to_owned());
        state.nodes.insert(node.to_owned())
    }

    /// A node has sent all that it has, or will not.
    pub(crate) fn done(&self, node: &str, failure: Option<String>) {
        {
            let mut state = self.state();
            if state.waiting.remove(node) {
                state.failures.extend(failure);
            }
            if self.follow {
                // It may come back and go on.
                state.waiting.insert(node.to_owned());
            }
        }
        self.finish_if_done();
    }

    pub(super) fn finish_if_done(&self) {
        let mut state = self.state();
        if !self.follow && state.waiting.is_empty() {
            state.output = None;
        }
    }

    /// What could not be had, in SwarmKit's words.
    pub(super) fn take_failure(&self) -> Option<String> {
        let mut state = self.state();
        let mut reasons = std::mem::take(&mut state.failures);
        let unscheduled = std::mem::take(&mut state.unscheduled);
        reasons.extend(unscheduled.iter().map(|task| format!("task {task} has not been scheduled")));
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }

    fn selector(&self) -> &LogSelector {
        static EMPTY: LogSelector =
            LogSelector { service_ids: Vec::new(), node_ids: Vec::new(), task_ids: Vec::new() };
        self.message.selector.as_ref().unwrap_or(&EMPTY)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state_of(task: &Task) -> TaskState {
    task.status.as_ref().map_or(TaskState::New, TaskStatus::state)
}
