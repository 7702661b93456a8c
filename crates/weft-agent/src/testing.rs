//! Tasks without managers, for this crate's tests with a real engine: assignments go straight into the core.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use weft_engine::Engine;
use weft_identity::IdentityHandle;
use weft_types::{ContainerId, TaskId};
use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::assignment_change::AssignmentAction;
use weft_wire::swarmkit::assignments_message::Type;
use weft_wire::swarmkit::{
    Assignment, AssignmentChange, AssignmentsMessage, LogSubscriptionOptions, TaskStatus,
};

use crate::core::Core;
use crate::error::StoreError;
use crate::network::{LocalView, NodeNetwork, Programmed, SwarmInputs};
use crate::store::Store;
use crate::task::engine::EngineRuntime;
use crate::task::runtime::{NodeFacts, TaskRuntime};
use crate::task::worker::Worker;

/// A worker with its tasks, told what to do by hand.
pub struct TaskBench {
    core: Arc<Core>,
    runtime: Arc<EngineRuntime>,
    store: Store,
    worker: AbortHandle,
    at: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for TaskBench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskBench").finish_non_exhaustive()
    }
}

impl TaskBench {
    /// Begins with what an earlier one has left below `dir`.
    pub async fn open(engine: Arc<Engine>, identity: IdentityHandle, dir: &Path) -> Result<Self, StoreError> {
        let store = Store::open(&dir.join("agent"))?;
        let core = Arc::new(Core::new(identity, Arc::new(Nowhere::default()), &[], store.load()?));
        let runtime = Arc::new(EngineRuntime::new(engine, &dir.join("swarm")));
        let node = NodeFacts {
            id: core.identity.identity().node_id.to_string(),
            hostname: "bench".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            os: std::env::consts::OS.to_owned(),
        };
        let worker = Worker::open(core.clone(), runtime.clone(), Arc::new(node)).await;
        let worker = tokio::spawn(worker.run()).abort_handle();
        Ok(Self { core, runtime, store, worker, at: 0.into() })
    }

    /// As a message of the dispatcher; the first is complete.
    pub fn assign(&self, items: Vec<Item>, removed: Vec<Item>) {
        let at = self.at.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let change = |action: AssignmentAction| {
            move |item| AssignmentChange {
                assignment: Some(Assignment { item: Some(item) }),
                action: action.into(),
            }
        };
        let updates = items.into_iter().map(change(AssignmentAction::Update));
        let removals = removed.into_iter().map(change(AssignmentAction::Remove));
        let message = AssignmentsMessage {
            r#type: if at == 0 { Type::Complete } else { Type::Incremental }.into(),
            applies_to: if at == 0 { String::new() } else { at.to_string() },
            results_in: (at + 1).to_string(),
            changes: updates.chain(removals).collect(),
        };
        if let Err(gap) = self.core.on_assignments(message) {
            tracing::error!(%gap, "assignments do not fit");
        }
    }

    /// What the managers would know of a task.
    pub fn status(&self, task: &str) -> Option<TaskStatus> {
        self.core.known_status(task)
    }

    /// All that a log has now.
    pub async fn log(&self, container: &str, tail: i64) -> Vec<(i32, Vec<u8>)> {
        let options = LogSubscriptionOptions { tail, ..LogSubscriptionOptions::default() };
        let mut lines = Vec::new();
        if let Ok(mut log) = self.runtime.logs(container, &options).await {
            while let Some(line) = log.recv().await {
                lines.push((line.stream.into(), line.data.to_vec()));
            }
        }
        lines
    }

    /// Ends as the daemon does: containers are left as they are, what is known is kept.
    pub fn close(self) -> Result<(), StoreError> {
        self.worker.abort();
        self.store.save(&self.core.memory())
    }

    /// As after `swarm leave`.
    pub async fn leave(self) {
        self.worker.abort();
        self.runtime.clear().await;
    }

    /// The task that a container belongs to, as the networks ask.
    pub fn task_of(&self, container: &ContainerId) -> Option<TaskId> {
        TaskId::try_from(self.core.task_of_container(container.as_str())?.id.clone()).ok()
    }
}

/// No networks.
#[derive(Default)]
struct Nowhere {
    local: watch::Sender<LocalView>,
    programmed: watch::Sender<Programmed>,
    served: watch::Sender<BTreeSet<String>>,
}

impl NodeNetwork for Nowhere {
    fn set_swarm(&self, _: Option<SwarmInputs<'_>>) {}

    fn local(&self) -> watch::Receiver<LocalView> {
        self.local.subscribe()
    }

    fn programmed(&self) -> watch::Receiver<Programmed> {
        self.programmed.subscribe()
    }

    fn set_serving(&self, tasks: BTreeSet<String>) {
        self.served.send_replace(tasks);
    }

    fn served(&self) -> watch::Receiver<BTreeSet<String>> {
        self.served.subscribe()
    }
}
