//! This node's life in a swarm: init, join, restart, leave. The API's [`SwarmBackend`].
//!
//! ```text
//! Inactive --init / join--> Active --leave--> Inactive
//!                             ^ restart: the record on disk leads back here
//! ```
//! Invariant: the record on disk is written after everything it stands for and removed before it.

mod addresses;
mod backend;
mod changes;
mod record;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use weft_agent::{Agent, AgentConfig};
use weft_api::{InitRequest, JoinRequest, SwarmError, SwarmResult};
use weft_engine::Engine;
use weft_identity::{IdentityHandle, JoinToken, NodeIdentity, NodeRole};
use weft_manager::{InitOptions, Manager, ManagerConfig};
use weft_network::Controller;
use weft_types::{Classified, ErrorKind};

use addresses::{NodeAddresses, Wanted};
use record::{NodeRecord, RecordError, SwarmDir};

/// As long as Docker's API lets a join take before it answers that it goes on behind.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// What a cluster needs of the rest of the daemon.
pub(super) struct ClusterConfig {
    /// Folder of the node's swarm state.
    pub(super) dir: PathBuf,
    pub(super) hostname: String,
    /// Labels of the daemon, which the swarm sees as engine labels.
    pub(super) labels: std::collections::BTreeMap<String, String>,
    pub(super) controller: Arc<Controller>,
    pub(super) engine: Arc<Engine>,
    /// For what need not survive a reboot.
    pub(super) run_dir: PathBuf,
}

/// This node's part in a swarm, or its absence.
pub(super) struct Cluster {
    config: ClusterConfig,
    dir: SwarmDir,
    /// Held while the membership changes; requests that only read take `member`.
    changing: Mutex<()>,
    member: RwLock<Option<Arc<Membership>>>,
    /// Why the recorded membership cannot be taken up.
    broken: RwLock<Option<String>>,
}

/// A membership that runs.
struct Membership {
    identity: IdentityHandle,
    addresses: NodeAddresses,
    agent: Arc<Agent>,
    manager: Option<Arc<Manager>>,
}

impl Cluster {
    /// A cluster that has not looked at its folder yet.
    pub(super) fn new(config: ClusterConfig) -> Arc<Self> {
        let dir = SwarmDir::new(config.dir.clone());
        Arc::new(Self {
            config,
            dir,
            changing: Mutex::default(),
            member: RwLock::default(),
            broken: RwLock::default(),
        })
    }

    /// Takes up the membership that the folder records. What prevents it is shown in `info` and can be left by force.
    pub(super) async fn resume(&self) {
        let _changing = self.changing.lock().await;
        let outcome = match self.dir.load() {
            Ok(Some(record)) => self.reopen(record).await,
            // The rest of an attempt that did not finish.
            Ok(None) => self.dir.clear().map_err(failed),
            Err(error) => Err(failed(error)),
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "the swarm membership cannot be taken up");
            *self.broken.write().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    }

    async fn reopen(&self, record: NodeRecord) -> SwarmResult<()> {
        let identity = IdentityHandle::open(&self.dir.identity()).map_err(refused)?;
        let manager = match identity.identity().role {
            NodeRole::Manager => {
                let manager = Manager::open(self.manager_config(&record.addresses), identity.clone()).await;
                Some(manager.map_err(refused)?)
            }
            NodeRole::Worker => None,
        };
        self.start(identity, record, manager).await
    }

    /// Starts manager (if any) and agent, and makes the membership visible.
    async fn start(
        &self,
        identity: IdentityHandle,
        record: NodeRecord,
        manager: Option<Arc<Manager>>,
    ) -> SwarmResult<()> {
        if let Some(manager) = &manager {
            manager.serve(identity.clone());
        }
        let agent = Agent::start(AgentConfig {
            identity: identity.clone(),
            managers: record.managers.clone(),
            controller: Arc::clone(&self.config.controller),
            engine: Arc::clone(&self.config.engine),
            run_dir: self.config.run_dir.clone(),
            hostname: self.config.hostname.clone(),
            labels: self.config.labels.clone(),
            advertise: record.addresses.advertise.ip(),
            data_path: record.addresses.data_path,
            state_dir: self.dir.agent(),
        })
        .await
        .map_err(refused)?;
        let member = Membership { identity, addresses: record.addresses, agent, manager };
        *self.member.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(member));
        Ok(())
    }

    fn manager_config(&self, addresses: &NodeAddresses) -> ManagerConfig {
        ManagerConfig::new(self.dir.store(), addresses.listen, addresses.advertise)
    }

    fn member(&self) -> Option<Arc<Membership>> {
        self.member.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_member(&self) -> bool {
        self.member().is_some() || self.broken.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn init_swarm(&self, request: InitRequest) -> SwarmResult<String> {
        if request.force_new_cluster {
            return Err(SwarmError::NotImplemented("swarm init --force-new-cluster"));
        }
        let _changing = self.changing.lock().await;
        if self.is_member() {
            return Err(SwarmError::AlreadyInSwarm);
        }
        let wanted = Wanted {
            listen: &request.listen_addr,
            advertise: &request.advertise_addr,
            data_path: &request.data_path_addr,
        };
        let addresses = NodeAddresses::resolve(wanted, None, &addresses::interfaces())?;
        let options = self.init_options(request)?;
        self.dir.clear().map_err(failed)?;
        match self.found(addresses, options).await {
            Ok(node_id) => {
                self.wait_ready().await?;
                Ok(node_id)
            }
            Err(error) => {
                self.clear_after_failure();
                Err(error)
            }
        }
    }

    fn init_options(&self, request: InitRequest) -> SwarmResult<InitOptions> {
        let data_path_port = u16::try_from(request.data_path_port)
            .map_err(|_| invalid("data path port must be in range 1024 to 49151"))?;
        let mut options = InitOptions::new(&self.config.hostname);
        options.spec = request.spec;
        options.default_addr_pool = request.default_addr_pool;
        options.subnet_size = request.subnet_size;
        options.data_path_port = data_path_port;
        options.availability = request.availability;
        Ok(options)
    }

    /// Makes the swarm and writes the record as the last step.
    async fn found(&self, addresses: NodeAddresses, options: InitOptions) -> SwarmResult<String> {
        let config = self.manager_config(&addresses);
        let (manager, identity) = Manager::init(config, options).await.map_err(refused)?;
        let node_id = identity.node_id.to_string();
        let outcome = self
            .enter(addresses.clone(), vec![addresses.advertise], identity, Some(Arc::clone(&manager)))
            .await;
        if outcome.is_err() {
            manager.stop().await;
        }
        outcome.map(|()| node_id)
    }

    /// Stores the identity, starts everything, records the membership.
    async fn enter(
        &self,
        addresses: NodeAddresses,
        managers: Vec<SocketAddr>,
        identity: NodeIdentity,
        manager: Option<Arc<Manager>>,
    ) -> SwarmResult<()> {
        let identity = IdentityHandle::create(&self.dir.identity(), identity).map_err(refused)?;
        let record = NodeRecord::new(addresses, managers);
        self.dir.save(&record).map_err(failed)?;
        self.start(identity, record, manager).await
    }

    async fn join_swarm(&self, request: JoinRequest) -> SwarmResult<()> {
        let _changing = self.changing.lock().await;
        if self.is_member() {
            return Err(SwarmError::AlreadyInSwarm);
        }
        let token: JoinToken = request.join_token.parse().map_err(|_| invalid("invalid join token"))?;
        let (manager, identity) = self.ask_managers(&request, &token).await?;
        if identity.role == NodeRole::Manager {
            return Err(SwarmError::NotImplemented("joining as a manager"));
        }
        let wanted = Wanted {
            listen: &request.listen_addr,
            advertise: &request.advertise_addr,
            data_path: &request.data_path_addr,
        };
        let addresses = NodeAddresses::resolve(wanted, Some(manager), &addresses::interfaces())?;
        self.dir.clear().map_err(failed)?;
        if let Err(error) = self.enter(addresses, vec![manager], identity, None).await {
            self.clear_after_failure();
            return Err(error);
        }
        self.wait_ready().await
    }

    /// The first of the given managers that issues a certificate; the last error if none does.
    async fn ask_managers(
        &self,
        request: &JoinRequest,
        token: &JoinToken,
    ) -> SwarmResult<(SocketAddr, NodeIdentity)> {
        let mut last = invalid("at least 1 RemoteAddr is required to join");
        for given in &request.remote_addrs {
            let address = addresses::manager_address(given).await?;
            match weft_identity::bootstrap(address, token, request.availability).await {
                Ok(identity) => return Ok((address, identity)),
                Err(error) => last = SwarmError::from_classified(&error),
            }
        }
        Err(last)
    }

    async fn wait_ready(&self) -> SwarmResult<()> {
        let Some(member) = self.member() else { return Ok(()) };
        let mut status = member.agent.status();
        let ready = tokio::time::timeout(READY_DEADLINE, status.wait_for(|s| s.ready)).await;
        match ready {
            Ok(Ok(_)) => Ok(()),
            _ => Err(SwarmError::JoinTimeout),
        }
    }

    async fn leave_swarm(&self, force: bool) -> SwarmResult<()> {
        let _changing = self.changing.lock().await;
        if !self.is_member() {
            return Err(SwarmError::NotInSwarm);
        }
        let member = self.member();
        if !force && member.as_ref().is_some_and(|m| m.manager.is_some()) {
            return Err(SwarmError::LastManagerLeaves);
        }
        if let Some(member) = member {
            member.agent.leave().await;
            member.stop().await;
            member.agent.remove_tasks().await;
        }
        *self.member.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.broken.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.config.controller.set_swarm_state(None).await.map_err(refused)?;
        self.dir.clear().map_err(failed)
    }

    /// Service tasks are left to themselves: the daemon ends.
    pub(super) fn release_tasks(&self) {
        if let Some(member) = self.member() {
            member.agent.release_tasks();
        }
    }

    /// Ends the membership's tasks; the record stays.
    pub(super) async fn stop(&self) {
        let _changing = self.changing.lock().await;
        if let Some(member) = self.member() {
            member.stop().await;
        }
    }

    fn clear_after_failure(&self) {
        if let Err(error) = self.dir.clear() {
            tracing::warn!(%error, "rest of a failed attempt not removed; it is at the next start");
        }
    }
}

impl Membership {
    /// The manager on this node, if it is one now: promotion and demotion change that while the membership lasts.
    fn manager(&self) -> Option<Arc<Manager>> {
        self.manager.clone()
    }

    async fn stop(&self) {
        self.agent.stop().await;
        if let Some(manager) = &self.manager {
            manager.stop().await;
        }
    }
}

fn failed(error: RecordError) -> SwarmError {
    SwarmError::Failed { kind: ErrorKind::System, message: error.to_string() }
}

fn invalid(message: &str) -> SwarmError {
    SwarmError::Failed { kind: ErrorKind::InvalidParameter, message: message.to_owned() }
}

/// A classified error of a crate below as the API shows it.
fn refused(error: impl Classified) -> SwarmError {
    SwarmError::from_classified(&error)
}
