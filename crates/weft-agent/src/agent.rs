//! The agent's life: started with an identity, it keeps a session open until it is stopped.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use weft_engine::Engine;
use weft_identity::IdentityHandle;
use weft_network::{AttachRefused, Controller, SwarmAttachment, SwarmNetworks};
use weft_types::{Classified, ContainerId, ErrorKind, TaskId};

use crate::attachments::{self, AttachError};
use crate::backoff::Backoff;
use crate::convert;
use crate::core::Core;
use crate::description::HostDescription;
use crate::error::{AgentError, SessionError, StoreError};
use crate::network::ControllerNetwork;
use crate::network_state;
use crate::renewal;
use crate::session::{self, Ended};
use crate::status::AgentStatus;
use crate::store::{Memory, Store};
use crate::task::engine::EngineRuntime;
use crate::task::runtime::{NodeFacts, TaskRuntime};
use crate::task::worker::Worker;

/// What managers read as the engine's version. Its text says that this node is Weft's, which they go by until its
/// first report.
const ENGINE_VERSION: &str = concat!("28.5.2+weft-", env!("CARGO_PKG_VERSION"));

/// What an agent needs.
pub struct AgentConfig {
    /// This node.
    pub identity: IdentityHandle,
    /// Managers to begin with; what is on disk is newer.
    pub managers: Vec<SocketAddr>,
    /// The networks of this node.
    pub controller: Arc<Controller>,
    /// Runs the containers of tasks.
    pub engine: Arc<Engine>,
    /// Its host name.
    pub hostname: String,
    /// Labels of the engine.
    pub labels: BTreeMap<String, String>,
    /// Address for gossip.
    pub advertise: IpAddr,
    /// Address for VXLAN.
    pub data_path: IpAddr,
    /// How long nodes that do not answer hold a task up that begins or ends; none: 5 s.
    pub drain_timeout: Option<Duration>,
    /// Where the agent keeps what it knows.
    pub state_dir: PathBuf,
    /// Where files of secrets and configs live, in memory; need not survive a reboot.
    pub run_dir: PathBuf,
}

/// A running agent.
pub struct Agent {
    core: Arc<Core>,
    network: Arc<ControllerNetwork>,
    controller: Arc<Controller>,
    runtime: Arc<EngineRuntime>,
    store: Arc<Store>,
    worker: AbortHandle,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("status", &*self.core.status().borrow()).finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts the agent. It is useful at once: until a session opens, the last word of the managers holds.
    pub async fn start(config: AgentConfig) -> Result<Arc<Self>, AgentError> {
        let store = Arc::new(Store::open(&config.state_dir)?);
        let memory = recall(&store)?;
        if memory.managers.is_empty() && config.managers.is_empty() {
            return Err(AgentError::NoManager);
        }
        let controller = Arc::clone(&config.controller);
        let (network, feed) = ControllerNetwork::new(controller, config.advertise, config.data_path).await;
        let network = Arc::new(network);
        let core = Core::new(config.identity, network.clone(), &config.managers, memory);
        let core = Arc::new(match config.drain_timeout {
            Some(limit) => core.with_drain_timeout(limit),
            None => core,
        });
        let host =
            HostDescription::of_this_machine(config.hostname, config.labels, ENGINE_VERSION.to_owned());
        let engine = config.engine.clone();
        let runtime = Arc::new(EngineRuntime::new(config.engine, &config.run_dir));
        // Before a container can ask for its networks: it must be known whose it is.
        let mut worker = Worker::open(core.clone(), runtime.clone(), facts(&core, &host)).await;
        config.controller.set_swarm(Some(Arc::new(Attacher { core: core.clone() })));
        // After the way to the networks is there, which a task's start needs.
        worker.resume();
        let mut tasks = JoinSet::new();
        tasks.spawn(feed);
        tasks.spawn(network.clone().watch_mtu());
        tasks.spawn({
            let (core, store) = (core.clone(), store.clone());
            async move { core.keep_memory(store).await }
        });
        tasks.spawn(renewal::run(core.clone()));
        tasks.spawn(attachments::disconnect_withdrawn(core.clone(), config.controller.clone(), engine));
        tasks.spawn(sessions(core.clone(), runtime.clone(), host));
        let worker = tasks.spawn(worker.run());
        Ok(Arc::new(Self {
            core,
            network,
            controller: config.controller,
            runtime,
            store,
            worker,
            tasks: Mutex::new(tasks),
        }))
    }

    /// The node's standing, whenever it changes.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.core.status()
    }

    /// From here on nothing is done for service tasks and nothing said of them: the daemon ends, and what its end does
    /// to containers is judged at its next start, as Docker does.
    pub fn release_tasks(&self) {
        self.worker.abort();
    }

    /// Removes the containers of all tasks, with their secrets: this node leaves the swarm. After [`Self::stop`].
    pub async fn remove_tasks(&self) {
        self.runtime.clear().await;
    }

    /// Ends the session and tells the managers that this node leaves the swarm.
    pub async fn leave(&self) {
        let session = self.core.session().borrow().clone();
        self.stop().await;
        if let Some(session) = session {
            network_state::depart(session).await;
        }
    }

    /// Ends the session. Networks stay as they are: the caller knows whether this node leaves the swarm.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        self.controller.set_swarm(None);
        self.network.detach();
        tasks.shutdown().await;
        self.core.session_closed(None, None, false);
        if let Err(error) = self.store.save(&self.core.memory()) {
            tracing::error!(%error, "the agent's state could not be saved");
        }
    }
}

/// What is on disk. A damaged file holds nothing that the managers do not say again: it must not keep the node away.
fn recall(store: &Store) -> Result<Memory, StoreError> {
    match store.load() {
        Err(error @ StoreError::Malformed { .. }) => {
            tracing::warn!(%error, "starting without what was known before");
            Ok(Memory::default())
        }
        other => other,
    }
}

/// Keeps a session open with one manager or another.
async fn sessions(core: Arc<Core>, runtime: Arc<dyn TaskRuntime>, host: HostDescription) {
    let mut backoff = Backoff::default();
    loop {
        let Some(address) = core.choose_manager() else {
            core.session_closed(None, Some(SessionError::NoManager.to_string()), false);
            tokio::time::sleep(backoff.next(1.0)).await;
            continue;
        };
        let opened = core.session();
        let ended = session::run(&core, &runtime, &host, address).await;
        if opened.borrow().is_some() {
            backoff.reset();
        }
        match ended {
            Ok(Ended::IdentityChanged) => {
                core.session_closed(None, None, false);
                continue;
            }
            Err(error) => {
                tracing::warn!(manager = %address, %error, "session with the dispatcher ended");
                // The next leader will ask about this manager, if it died: gossip may as well begin now.
                let doubting = core.clone();
                tokio::spawn(async move { doubting.doubt(address.ip()).await });
                core.session_closed(Some(address), Some(error.to_string()), error.forgets_session());
            }
        }
        tokio::time::sleep(backoff.next(rand::random())).await;
    }
}

/// This node, for the placeholders of tasks.
fn facts(core: &Core, host: &HostDescription) -> Arc<NodeFacts> {
    Arc::new(NodeFacts {
        id: core.identity.identity().node_id.to_string(),
        hostname: host.hostname.clone(),
        architecture: std::env::consts::ARCH.to_owned(),
        os: std::env::consts::OS.to_owned(),
    })
}

/// The controller's way to the managers.
struct Attacher {
    core: Arc<Core>,
}

#[async_trait::async_trait]
impl SwarmNetworks for Attacher {
    async fn attach(
        &self,
        term: &str,
        container: &ContainerId,
        addresses: Vec<IpAddr>,
    ) -> Result<SwarmAttachment, AttachRefused> {
        // A task's places were given with the task.
        if let Some(task) = self.core.task_of_container(container.as_str()) {
            return convert::task_attachment(&task, term)
                .map_err(|error| AttachRefused::Other(error.to_string()));
        }
        let wanted = addresses.iter().map(ToString::to_string).collect();
        let task =
            attachments::attach(&self.core, term, container.as_str(), wanted).await.map_err(refused)?;
        match convert::attachment(&task) {
            Ok(attachment) => Ok(attachment),
            Err(error) => {
                attachments::detach(&self.core, &task.id).await;
                Err(AttachRefused::Other(error.to_string()))
            }
        }
    }

    async fn detach(&self, attachment: &TaskId) -> Result<(), AttachRefused> {
        // A task's places go with the task.
        if !self.core.is_service_task(attachment.as_str()) {
            attachments::detach(&self.core, attachment.as_str()).await;
        }
        Ok(())
    }
}

/// The controller names the network itself.
fn refused(error: AttachError) -> AttachRefused {
    match error.kind() {
        ErrorKind::NotFound => AttachRefused::NoSuchNetwork(error.reason()),
        _ => AttachRefused::Other(error.reason()),
    }
}

#[cfg(test)]
#[path = "agent_test.rs"]
mod tests;
