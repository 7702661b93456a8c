//! The agent's knowledge, and who is told when it changes.
//!
//! One lock around one model; every method takes it, changes the model and publishes the outcome: to the network
//! controller as whole state, to the daemon as status, to the disk in the background. No I/O under the lock.

mod attaching;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tonic::transport::Channel;
use weft_identity::IdentityHandle;
use weft_network::GossipWord;
use weft_wire::swarmkit::update_task_status_request::TaskStatusUpdate;
use weft_wire::swarmkit::{
    AssignmentsMessage, ConfigReference, EncryptionKey, Node, SecretReference, SessionMessage, Task,
    TaskState, TaskStatus,
};
use weft_wire::weft_v1::WatchMessage;

use crate::assignments::{Assignments, Gap};
use crate::handover::{DEFAULT_LIMIT, Handovers};
use crate::managers::ManagerSet;
use crate::network::{NodeNetwork, SwarmInputs};
use crate::outlook::Outlook;
use crate::status::{AgentStatus, wants_renewal};
use crate::store::{Memory, Store};
use crate::task::engine::container_spec;
use crate::task::runtime::{Dependencies, Payload};
use crate::tasks::next_status;

/// Between two writes of the agent's memory.
const SAVE_PAUSE: Duration = Duration::from_millis(100);
/// Before another attempt: the disk may have room again.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// An open session: what other calls to the managers need.
#[derive(Clone)]
pub(crate) struct OpenSession {
    pub(crate) id: String,
    pub(crate) channel: Channel,
}

#[derive(Default)]
struct Model {
    managers: ManagerSet,
    node: Option<Node>,
    keys: Vec<EncryptionKey>,
    assignments: Assignments,
    statuses: BTreeMap<String, TaskStatus>,
    /// Statuses that the managers have not got yet.
    unsent: BTreeSet<String>,
    /// Attachments whose container holds, or is about to hold, its addresses.
    connected: BTreeSet<String>,
    /// Attachments that the managers took away while a container used them.
    withdrawn: Vec<String>,
    /// Containers that wait for an attachment now.
    attaching: BTreeSet<String>,
    /// Containers of service tasks, with their tasks' ids.
    containers: BTreeMap<String, String>,
    /// The managers' word on endpoints; none from managers that have no such word (Docker's).
    outlook: Option<Outlook>,
    /// Of the last session, for the next one.
    session_id: String,
    /// The managers want another certificate on this node.
    to_renew: bool,
}

/// Shared by all parts of the agent.
pub(crate) struct Core {
    pub(crate) identity: IdentityHandle,
    network: Arc<dyn NodeNetwork>,
    model: Mutex<Model>,
    status: watch::Sender<AgentStatus>,
    session: watch::Sender<Option<OpenSession>>,
    /// Counts changes of tasks; attachments and the worker wait on it.
    tasks_changed: watch::Sender<u64>,
    /// Service tasks that may get traffic.
    serving: watch::Sender<BTreeSet<String>>,
    /// Tasks that wait until all nodes know that they begin or end.
    pub(crate) handovers: Handovers,
    /// Counts changes of states of service tasks.
    states_changed: watch::Sender<u64>,
    pub(crate) unsent: Notify,
    pub(crate) renew_now: Notify,
    withdrawn: Notify,
    dirty: Notify,
}

impl Core {
    pub(crate) fn new(
        identity: IdentityHandle,
        network: Arc<dyn NodeNetwork>,
        managers: &[SocketAddr],
        memory: Memory,
    ) -> Self {
        let known = if memory.managers.is_empty() { managers } else { &memory.managers[..] };
        let connected = network.local().borrow().endpoints.iter().map(|e| e.attachment_id.clone()).collect();
        let model = Model {
            managers: ManagerSet::from_addresses(known),
            node: memory.node,
            keys: memory.keys,
            assignments: Assignments::restored(memory.tasks),
            outlook: memory.outlook.map(Outlook::from_full),
            statuses: memory.statuses.into_iter().collect(),
            connected,
            ..Model::default()
        };
        let status = AgentStatus {
            node: model.node.clone(),
            managers: model.managers.peers(),
            ..AgentStatus::default()
        };
        // What ran takes traffic until it is known better: a restart of the daemon is no reason to leave balancers.
        let runs = |id: &str| model.statuses.get(id).is_some_and(|s| s.state() == TaskState::Running);
        let tasks = model.assignments.tasks().values();
        let serving = tasks.filter(|task| container_spec(task).is_some() && runs(&task.id));
        let serving = serving.map(|task| task.id.clone()).collect();
        let core = Self {
            identity,
            network,
            model: Mutex::new(model),
            status: watch::Sender::new(status),
            session: watch::Sender::new(None),
            tasks_changed: watch::Sender::new(0),
            serving: watch::Sender::new(serving),
            handovers: Handovers::new(DEFAULT_LIMIT),
            states_changed: watch::Sender::new(0),
            unsent: Notify::new(),
            renew_now: Notify::new(),
            withdrawn: Notify::new(),
            dirty: Notify::new(),
        };
        core.publish(&core.lock());
        core.network.set_serving(core.serving.borrow().clone());
        core
    }

    /// With another limit to how long nodes that do not answer hold up a task.
    pub(crate) fn with_drain_timeout(self, limit: Duration) -> Self {
        Self { handovers: Handovers::new(limit), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- managers and session ---

    pub(crate) fn choose_manager(&self) -> Option<SocketAddr> {
        self.lock().managers.choose(rand::random())
    }

    pub(crate) fn session_id(&self) -> String {
        self.lock().session_id.clone()
    }

    pub(crate) fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.subscribe()
    }

    pub(crate) fn session(&self) -> watch::Receiver<Option<OpenSession>> {
        self.session.subscribe()
    }

    pub(crate) fn tasks_changed(&self) -> watch::Receiver<u64> {
        self.tasks_changed.subscribe()
    }

    pub(crate) fn network(&self) -> &dyn NodeNetwork {
        &*self.network
    }

    /// The first message of a session has arrived over `channel` from `address`.
    pub(crate) fn session_opened(
        &self,
        address: SocketAddr,
        channel: Channel,
        message: SessionMessage,
    ) -> OpenSession {
        let open = OpenSession { id: message.session_id.clone(), channel };
        let mut model = self.lock();
        model.managers.observe(address, true);
        model.session_id = open.id.clone();
        model.assignments.begin_stream();
        // Statuses may have been lost with the session before: say all of them again.
        model.unsent = model.statuses.keys().cloned().collect();
        drop(model);
        self.on_session_message(message);
        self.unsent.notify_one();
        self.status.send_modify(|status| {
            status.ready = true;
            status.error = None;
        });
        self.session.send_replace(Some(open.clone()));
        open
    }

    /// The session is over; `failure` says why unless it was ended by us.
    pub(crate) fn session_closed(&self, address: Option<SocketAddr>, failure: Option<String>, forget: bool) {
        self.session.send_replace(None);
        let mut model = self.lock();
        if let (Some(address), true) = (address, failure.is_some()) {
            model.managers.observe(address, false);
        }
        if forget {
            model.session_id.clear();
        }
        drop(model);
        self.status.send_modify(|status| {
            status.ready = false;
            if failure.is_some() {
                status.error = failure;
            }
        });
    }

    pub(crate) fn on_session_message(&self, message: SessionMessage) {
        if !message.root_ca.is_empty() {
            self.update_root(&message.root_ca);
        }
        let mut model = self.lock();
        model.managers.replace(&message.managers);
        if !message.network_bootstrap_keys.is_empty() {
            model.keys = message.network_bootstrap_keys;
        }
        if let Some(node) = message.node {
            model.to_renew = wants_renewal(&node, self.identity.identity().role);
            if model.to_renew {
                self.renew_now.notify_one();
            }
            model.node = Some(node);
        }
        let (node, managers) = (model.node.clone(), model.managers.peers());
        self.publish(&model);
        drop(model);
        self.status.send_modify(|status| {
            status.node = node;
            status.managers = managers;
        });
    }

    /// Whether the managers still want another certificate on this node.
    pub(crate) fn is_to_renew(&self) -> bool {
        self.lock().to_renew
    }

    /// The certificate is new: what was said of the old one no longer counts.
    pub(crate) fn renewed(&self) {
        self.lock().to_renew = false;
    }

    fn update_root(&self, bundle: &[u8]) {
        let Ok(bundle) = std::str::from_utf8(bundle) else {
            tracing::warn!("the manager sent a root that is not PEM; keeping the old one");
            return;
        };
        match self.identity.update_root(bundle, SystemTime::now()) {
            Ok(true) => tracing::info!("the swarm's root certificate changed"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "refused a root certificate of the manager"),
        }
    }

    /// What this node's gossip says of the node at an address, which it looks after from now on.
    pub(crate) async fn doubt(&self, address: IpAddr) -> GossipWord {
        self.network.doubt(address).await
    }

    // --- tasks ---

    pub(crate) fn on_assignments(&self, message: AssignmentsMessage) -> Result<(), Gap> {
        let mut model = self.lock();
        let changes = model.assignments.apply(message)?;
        for id in &changes.removed {
            model.statuses.remove(id);
            model.unsent.remove(id);
            if model.connected.remove(id) {
                model.withdrawn.push(id.clone());
                self.withdrawn.notify_one();
            }
        }
        for task in changes.updated.iter().filter(|task| container_spec(task).is_none()) {
            model.advance(task);
        }
        self.publish(&model);
        drop(model);
        self.unsent.notify_one();
        self.tasks_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Waits for attachments that the managers took away while a container used them.
    pub(crate) async fn withdrawn(&self) -> Vec<String> {
        loop {
            let withdrawn = std::mem::take(&mut self.lock().withdrawn);
            if !withdrawn.is_empty() {
                return withdrawn;
            }
            self.withdrawn.notified().await;
        }
    }

    pub(crate) fn begin_assignments(&self) {
        self.lock().assignments.begin_stream();
    }

    /// Statuses to send now; [`Self::sent`] is to be called once they arrived.
    pub(crate) fn unsent_statuses(&self) -> Vec<TaskStatusUpdate> {
        let model = self.lock();
        let update =
            |id: &String| TaskStatusUpdate { task_id: id.clone(), status: model.statuses.get(id).cloned() };
        model.unsent.iter().map(update).collect()
    }

    /// `updates` have arrived. One that has grown meanwhile stays unsent.
    pub(crate) fn sent(&self, updates: &[TaskStatusUpdate]) {
        let mut model = self.lock();
        for update in updates {
            if model.statuses.get(&update.task_id) == update.status.as_ref() {
                model.unsent.remove(&update.task_id);
            }
        }
    }

    // --- service tasks ---

    /// All service tasks of this node, and of each whether its secrets and configs are here.
    pub(crate) fn service_tasks(&self) -> Vec<(Arc<Task>, bool)> {
        let model = self.lock();
        let tasks = model.assignments.tasks().values().filter(|task| container_spec(task).is_some());
        tasks.map(|task| (task.clone(), dependencies(&model.assignments, task).is_some())).collect()
    }

    /// Whether the managers have said all assignments: a task that is not among them is not ours.
    pub(crate) fn knows_assignments(&self) -> bool {
        self.lock().assignments.is_complete()
    }

    /// Secrets and configs of `task`; nothing while one is missing.
    pub(crate) fn dependencies(&self, task: &Task) -> Option<Dependencies> {
        dependencies(&self.lock().assignments, task)
    }

    /// What was last said of a task, here or by the managers.
    pub(crate) fn known_status(&self, id: &str) -> Option<TaskStatus> {
        let model = self.lock();
        let told = || {
            let status = model.assignments.tasks().get(id)?.status.clone()?;
            (status.state() > TaskState::Assigned).then_some(status)
        };
        model.statuses.get(id).cloned().or_else(told)
    }

    /// A service task has changed its state.
    pub(crate) fn set_task_status(&self, id: &str, status: TaskStatus) {
        let mut model = self.lock();
        if !model.assignments.tasks().contains_key(id) {
            return;
        }
        model.statuses.insert(id.to_owned(), status);
        model.unsent.insert(id.to_owned());
        drop(model);
        self.unsent.notify_one();
        self.dirty.notify_one();
        self.states_changed.send_modify(|count| *count += 1);
    }

    /// A service task begins or ceases to take traffic.
    pub(crate) fn set_serving(&self, id: &str, serving: bool) {
        let changed = self
            .serving
            .send_if_modified(|all| if serving { all.insert(id.to_owned()) } else { all.remove(id) });
        if changed {
            self.network.set_serving(self.serving.borrow().clone());
        }
    }

    /// Service tasks that may get traffic.
    pub(crate) fn serving(&self) -> watch::Receiver<BTreeSet<String>> {
        self.serving.subscribe()
    }

    /// `container` is that of a service task.
    pub(crate) fn bind_container(&self, container: &str, task: &str) {
        self.lock().containers.insert(container.to_owned(), task.to_owned());
    }

    pub(crate) fn release_container(&self, container: &str) {
        self.lock().containers.remove(container);
    }

    /// The service task whose container this is.
    pub(crate) fn task_of_container(&self, container: &str) -> Option<Arc<Task>> {
        let model = self.lock();
        let task = model.containers.get(container)?;
        model.assignments.tasks().get(task).cloned()
    }

    /// Whether this is the id of a service task, also of one that is gone while its container still is not.
    pub(crate) fn is_service_task(&self, id: &str) -> bool {
        let model = self.lock();
        let assigned = model.assignments.tasks().get(id);
        assigned.is_some_and(|task| container_spec(task).is_some())
            || model.containers.values().any(|task| task == id)
    }

    /// Service tasks whose container has been started, with its id.
    pub(crate) fn started_tasks(&self) -> Vec<(Arc<Task>, String)> {
        let model = self.lock();
        let started = |(container, id): (&String, &String)| {
            let status = model.statuses.get(id).filter(|status| status.state() >= TaskState::Running);
            let task = model.assignments.tasks().get(id)?.clone();
            status.map(|_| (task, container.clone()))
        };
        model.containers.iter().filter_map(started).collect()
    }

    pub(crate) fn states_changed(&self) -> watch::Receiver<u64> {
        self.states_changed.subscribe()
    }

    // --- the managers' word on endpoints ---

    pub(crate) fn on_outlook(&self, message: WatchMessage) -> u64 {
        let mut model = self.lock();
        let outlook = model.outlook.get_or_insert_default();
        outlook.apply(message);
        let index = outlook.index;
        self.publish(&model);
        index
    }

    /// The managers have no such word: gossip alone rules.
    pub(crate) fn no_outlook(&self) {
        let mut model = self.lock();
        if model.outlook.take().is_some() {
            self.publish(&model);
        }
    }

    // --- publishing ---

    fn publish(&self, model: &Model) {
        let identity = self.identity.identity();
        self.network.set_swarm(Some(SwarmInputs {
            node_id: &identity.node_id,
            node: model.node.as_ref(),
            keys: &model.keys,
            managers: &model.managers.addresses(),
            outlook: model.outlook.as_ref(),
        }));
        self.dirty.notify_one();
    }

    /// What belongs on disk now.
    pub(crate) fn memory(&self) -> Memory {
        let model = self.lock();
        Memory {
            managers: model.managers.addresses(),
            node: model.node.clone(),
            keys: model.keys.clone(),
            tasks: model.assignments.tasks().values().map(|task| Task::clone(task)).collect(),
            statuses: model.statuses.clone(),
            outlook: model.outlook.as_ref().map(Outlook::to_full),
        }
    }

    /// Keeps the disk in step with the model until the agent stops.
    pub(crate) async fn keep_memory(&self, store: Arc<Store>) {
        let mut saved = None;
        loop {
            self.dirty.notified().await;
            let memory = self.memory();
            if saved.as_ref() == Some(&memory) {
                continue;
            }
            let (store, copy) = (store.clone(), memory.clone());
            match tokio::task::spawn_blocking(move || store.save(&copy)).await {
                Ok(Ok(())) => {
                    saved = Some(memory);
                    // Many tasks change at once: the disk is for what they came to.
                    tokio::time::sleep(SAVE_PAUSE).await;
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the agent's state could not be saved");
                    tokio::time::sleep(SAVE_RETRY).await;
                    self.dirty.notify_one();
                }
                Err(error) => tracing::error!(%error, "saving the agent's state failed"),
            }
        }
    }
}

impl Model {
    /// Lets the status of `task` take its next step.
    fn advance(&mut self, task: &Task) {
        let now = SystemTime::now().into();
        let connected = self.connected.contains(&task.id);
        if let Some(status) = next_status(task, self.statuses.get(&task.id), connected, now) {
            tracing::info!(task = %task.id, state = ?status.state(), err = %status.err, "task changed state");
            self.statuses.insert(task.id.clone(), status);
            self.unsent.insert(task.id.clone());
        }
    }
}

/// Secrets and configs of `task`; nothing while one is missing.
fn dependencies(assignments: &Assignments, task: &Task) -> Option<Dependencies> {
    let spec = container_spec(task)?;
    let secret = |reference: &SecretReference| {
        let spec = assignments.secret(&reference.secret_id)?.spec.as_ref()?;
        let data = spec.data.clone().into();
        Some((reference.clone(), Payload { data, is_template: spec.templating.is_some() }))
    };
    let config = |reference: &ConfigReference| {
        let spec = assignments.config(&reference.config_id)?.spec.as_ref()?;
        let data = spec.data.clone().into();
        Some((reference.clone(), Payload { data, is_template: spec.templating.is_some() }))
    };
    Some(Dependencies {
        secrets: spec.secrets.iter().map(secret).collect::<Option<_>>()?,
        configs: spec.configs.iter().map(config).collect::<Option<_>>()?,
    })
}
