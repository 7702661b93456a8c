//! The agent's life: started with an identity, it keeps a session open until it is stopped.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_identity::IdentityHandle;
use weft_network::{AttachRefused, Controller, SwarmAttachment, SwarmNetworks};
use weft_types::{ContainerId, TaskId};

use crate::attachments::{self, AttachError};
use crate::backoff::Backoff;
use crate::convert;
use crate::core::Core;
use crate::description::HostDescription;
use crate::error::{AgentError, SessionError, StoreError};
use crate::network::ControllerNetwork;
use crate::renewal;
use crate::session::{self, Ended};
use crate::status::AgentStatus;
use crate::store::{Memory, Store};

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
    /// Its host name.
    pub hostname: String,
    /// Labels of the engine.
    pub labels: BTreeMap<String, String>,
    /// Address for gossip.
    pub advertise: IpAddr,
    /// Address for VXLAN.
    pub data_path: IpAddr,
    /// Where the agent keeps what it knows.
    pub state_dir: PathBuf,
}

/// A running agent.
pub struct Agent {
    core: Arc<Core>,
    network: Arc<ControllerNetwork>,
    controller: Arc<Controller>,
    store: Arc<Store>,
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
        let core = Arc::new(Core::new(config.identity, network.clone(), &config.managers, memory));
        let host =
            HostDescription::of_this_machine(config.hostname, config.labels, ENGINE_VERSION.to_owned());
        let mut tasks = JoinSet::new();
        tasks.spawn(feed);
        tasks.spawn(network.clone().watch_mtu());
        tasks.spawn({
            let (core, store) = (core.clone(), store.clone());
            async move { core.keep_memory(store).await }
        });
        tasks.spawn(renewal::run(core.clone()));
        tasks.spawn(sessions(core.clone(), host));
        config.controller.set_swarm(Some(Arc::new(Attacher { core: core.clone() })));
        Ok(Arc::new(Self { core, network, controller: config.controller, store, tasks: Mutex::new(tasks) }))
    }

    /// The node's standing, whenever it changes.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.core.status()
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
async fn sessions(core: Arc<Core>, host: HostDescription) {
    let mut backoff = Backoff::default();
    loop {
        let Some(address) = core.choose_manager() else {
            core.session_closed(None, Some(SessionError::NoManager.to_string()), false);
            tokio::time::sleep(backoff.next(1.0)).await;
            continue;
        };
        let opened = core.session();
        let ended = session::run(&core, &host, address).await;
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
                core.session_closed(Some(address), Some(error.to_string()), error.forgets_session());
            }
        }
        tokio::time::sleep(backoff.next(rand::random())).await;
    }
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
        let wanted = addresses.iter().map(ToString::to_string).collect();
        let task =
            attachments::attach(&self.core, term, container.as_str(), wanted).await.map_err(refused)?;
        match convert::attachment(&task) {
            Ok(attachment) => Ok(attachment),
            Err(error) => {
                attachments::detach(&self.core, &task.id).await;
                Err(AttachRefused(error.to_string()))
            }
        }
    }

    async fn detach(&self, attachment: &TaskId) -> Result<(), AttachRefused> {
        attachments::detach(&self.core, attachment.as_str()).await;
        Ok(())
    }
}

/// The controller names the network itself.
fn refused(error: AttachError) -> AttachRefused {
    AttachRefused(error.reason())
}

#[cfg(test)]
#[path = "agent_test.rs"]
mod tests;
