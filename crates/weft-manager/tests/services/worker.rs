//! A node that pretends to run what it is told to, over the real protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::task::JoinHandle;
use tonic::Streaming;
use weft_identity::{ChannelMode, IdentityHandle, NodeIdentity, channel};
use weft_wire::swarmkit::assignment::Item;
use weft_wire::swarmkit::assignment_change::AssignmentAction;
use weft_wire::swarmkit::assignments_message::Type;
use weft_wire::swarmkit::dispatcher_client::DispatcherClient;
use weft_wire::swarmkit::log_broker_client::LogBrokerClient;
use weft_wire::swarmkit::update_task_status_request::TaskStatusUpdate;
use weft_wire::swarmkit::*;

use super::common::{Swarm, next};

/// What a worker knows and has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) configs: BTreeMap<String, Config>,
    /// Ids of all tasks of each message, in order.
    pub(crate) messages: Vec<BTreeSet<String>>,
    /// Tasks that came before a file that they need.
    pub(crate) too_early: Vec<String>,
    /// Attachments of the last session message.
    pub(crate) attachments: Vec<NetworkAttachment>,
}

pub(crate) struct Worker {
    pub(crate) id: String,
    /// Kept for as long as the channel uses it.
    _identity: IdentityHandle,
    pub(crate) channel: tonic::transport::Channel,
    pub(crate) session_id: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the tasks of a service come to, by the image's name.
fn fate(task: &Task) -> TaskState {
    let image = match task.spec.as_ref().and_then(|spec| spec.runtime.as_ref()) {
        Some(task_spec::Runtime::Container(container)) => container.image.as_str(),
        _ => "",
    };
    match image {
        "broken" => TaskState::Failed,
        "job" => TaskState::Complete,
        _ => TaskState::Running,
    }
}

fn description(hostname: &str, version: &str) -> NodeDescription {
    let plugin = |kind: &str, name: &str| PluginDescription { r#type: kind.into(), name: name.into() };
    NodeDescription {
        hostname: hostname.to_owned(),
        platform: Some(Platform { architecture: "x86_64".into(), os: "linux".into() }),
        resources: Some(Resources { nano_cpus: 8_000_000_000, memory_bytes: 8 << 30, ..Default::default() }),
        engine: Some(EngineDescription {
            engine_version: version.to_owned(),
            plugins: vec![
                plugin("Network", "overlay"),
                plugin("Volume", "local"),
                plugin("Log", "json-file"),
            ],
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Worker {
    pub(crate) async fn weft(swarm: &Swarm, hostname: &str) -> Self {
        Self::open(swarm, swarm.join().await, hostname, "28.5.2+weft-0.1.0").await
    }

    pub(crate) async fn docker(swarm: &Swarm, hostname: &str) -> Self {
        Self::open(swarm, swarm.join().await, hostname, "28.5.2").await
    }

    async fn open(swarm: &Swarm, identity: NodeIdentity, hostname: &str, version: &str) -> Self {
        let identity = IdentityHandle::in_memory(identity).unwrap();
        let channel = channel(swarm.address(), ChannelMode::Node(&identity)).unwrap();
        let mut client = DispatcherClient::new(channel.clone());
        let request =
            SessionRequest { description: Some(description(hostname, version)), ..Default::default() };
        let mut session = client.session(request).await.unwrap().into_inner();
        let first = next(&mut session).await;
        let session_id = first.session_id.clone();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let request = AssignmentsRequest { session_id: session_id.clone() };
        let assignments = client.assignments(request).await.unwrap().into_inner();
        let tasks = vec![
            tokio::spawn(follow_session(session, Arc::clone(&seen))),
            tokio::spawn(work(client, assignments, session_id.clone(), Arc::clone(&seen))),
        ];
        let id = identity.identity().node_id.to_string();
        Self { id, _identity: identity, channel, session_id, seen, tasks }
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Tasks that shall run here.
    pub(crate) fn running(&self) -> Vec<Task> {
        let wanted = |task: &&Task| task.desired_state() <= TaskState::Running;
        self.seen().tasks.values().filter(wanted).cloned().collect()
    }

    pub(crate) async fn beat(&self) {
        let request = HeartbeatRequest { session_id: self.session_id.clone() };
        DispatcherClient::new(self.channel.clone()).heartbeat(request).await.unwrap();
    }

    /// Says what became of a task.
    pub(crate) async fn report(&self, task: &Task, state: TaskState) {
        let updates = vec![update(task, state)];
        let request = UpdateTaskStatusRequest { session_id: self.session_id.clone(), updates };
        DispatcherClient::new(self.channel.clone()).update_task_status(request).await.unwrap();
    }

    pub(crate) fn log_broker(&self) -> LogBrokerClient<tonic::transport::Channel> {
        LogBrokerClient::new(self.channel.clone())
    }

    /// Its processes die: nothing is said any more.
    pub(crate) fn die(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.die();
    }
}

async fn follow_session(mut session: Streaming<SessionMessage>, seen: Arc<Mutex<Seen>>) {
    while let Ok(Some(message)) = session.message().await {
        seen.lock().unwrap().attachments = message.node.map(|node| node.attachments).unwrap_or_default();
    }
}

async fn work(
    mut client: DispatcherClient<tonic::transport::Channel>,
    mut assignments: Streaming<AssignmentsMessage>,
    session_id: String,
    seen: Arc<Mutex<Seen>>,
) {
    while let Ok(Some(message)) = assignments.message().await {
        let updates = apply(&mut seen.lock().unwrap(), message);
        for updates in updates {
            let request = UpdateTaskStatusRequest { session_id: session_id.clone(), updates };
            if client.update_task_status(request).await.is_err() {
                return;
            }
        }
    }
}

/// Takes a message, and gives the reports to send for it, one after the other.
fn apply(seen: &mut Seen, message: AssignmentsMessage) -> Vec<Vec<TaskStatusUpdate>> {
    if message.r#type() == Type::Complete {
        seen.tasks.clear();
        seen.secrets.clear();
        seen.configs.clear();
    }
    let mut ids = BTreeSet::new();
    let mut reports = vec![Vec::new(), Vec::new()];
    for change in message.changes {
        let remove = change.action() == AssignmentAction::Remove;
        match change.assignment.and_then(|assignment| assignment.item) {
            Some(Item::Task(task)) if remove => drop(seen.tasks.remove(&task.id)),
            Some(Item::Task(task)) => {
                ids.insert(task.id.clone());
                note_early(seen, &task);
                let states = if task.desired_state() >= TaskState::Shutdown {
                    vec![TaskState::Shutdown]
                } else if task.desired_state() < TaskState::Running {
                    vec![TaskState::Ready]
                } else {
                    vec![TaskState::Preparing, fate(&task)]
                };
                for (report, state) in reports.iter_mut().rev().zip(states.into_iter().rev()) {
                    report.push(update(&task, state));
                }
                seen.tasks.insert(task.id.clone(), task);
            }
            Some(Item::Secret(secret)) if remove => drop(seen.secrets.remove(&secret.id)),
            Some(Item::Secret(secret)) => drop(seen.secrets.insert(secret.id.clone(), secret)),
            Some(Item::Config(config)) if remove => drop(seen.configs.remove(&config.id)),
            Some(Item::Config(config)) => drop(seen.configs.insert(config.id.clone(), config)),
            _ => {}
        }
    }
    seen.messages.push(ids);
    reports.retain(|report| !report.is_empty());
    reports
}

fn note_early(seen: &mut Seen, task: &Task) {
    if let Some(task_spec::Runtime::Container(container)) =
        task.spec.as_ref().and_then(|spec| spec.runtime.as_ref())
        && task.desired_state() <= TaskState::Running
        && !container.secrets.iter().all(|reference| seen.secrets.contains_key(&reference.secret_id))
    {
        seen.too_early.push(task.id.clone());
    }
}

fn update(task: &Task, state: TaskState) -> TaskStatusUpdate {
    let status = TaskStatus {
        state: state.into(),
        timestamp: Some(SystemTime::now().into()),
        message: "pretended".to_owned(),
        err: if state == TaskState::Failed { "task: non-zero exit (1)".to_owned() } else { String::new() },
        ..Default::default()
    };
    TaskStatusUpdate { task_id: task.id.clone(), status: Some(status) }
}
