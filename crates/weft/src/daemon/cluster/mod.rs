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
mod roles;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use weft_agent::{Agent, AgentConfig};
use weft_api::{InitRequest, JoinRequest, SwarmError, SwarmResult};
use weft_engine::Engine;
use weft_global::GlobalNetworks;
use weft_identity::{IdentityHandle, JoinToken, NodeIdentity, NodeRole};
use weft_manager::{Control, InitOptions, KeyEncryptionKey, Manager, ManagerConfig, ManagerError};
use weft_network::Controller;
use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::raft_member_status::Reachability;

pub(super) use addresses::address_of_interface;
use addresses::{NodeAddresses, Wanted};
use record::{NodeRecord, RecordError, SwarmDir};

/// As long as Docker's API lets a join take before it answers that it goes on behind.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// Gossip listens within milliseconds, unless somebody else has its port.
const GOSSIP_DEADLINE: Duration = Duration::from_secs(3);

/// Docker's words for a daemon that would be in both.
const INCOMPATIBLE: &str =
    "--cluster-store and --cluster-advertise daemon configurations are incompatible with swarm mode";

/// Refuses key-value mode on a node whose folder of swarm state says that it is in a swarm.
pub(super) fn refuse_member(dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !SwarmDir::new(dir.to_owned()).is_recorded()?,
        "{INCOMPATIBLE}: this node is in a swarm; leave it before, or start without them"
    );
    Ok(())
}

/// What a cluster needs of the rest of the daemon.
pub(super) struct ClusterConfig {
    /// Folder of the node's swarm state.
    pub(super) dir: PathBuf,
    pub(super) hostname: String,
    /// Labels of the daemon, which the swarm sees as engine labels.
    pub(super) labels: std::collections::BTreeMap<String, String>,
    pub(super) controller: Arc<Controller>,
    pub(super) engine: Arc<Engine>,
    /// Time between two rotations of the network keys; none: as Docker's.
    pub(super) key_rotation: Option<Duration>,
    /// How long nodes that do not answer hold a task up that begins or ends; none: the agent's default.
    pub(super) drain_timeout: Option<Duration>,
    /// For what need not survive a reboot.
    pub(super) run_dir: PathBuf,
    /// The networks of a key-value store: with them this node cannot be in a swarm as well.
    pub(super) global: Option<Arc<GlobalNetworks>>,
}

/// This node's part in a swarm, or its absence.
pub(super) struct Cluster {
    /// For what runs beside the requests.
    me: Weak<Self>,
    config: ClusterConfig,
    dir: SwarmDir,
    /// Held while the membership changes; requests that only read take `member`.
    changing: Mutex<()>,
    member: RwLock<Option<Arc<Membership>>>,
    /// Why the recorded membership cannot be taken up.
    broken: RwLock<Option<String>>,
    /// The record of a manager whose store waits for the swarm's unlock key.
    locked: RwLock<Option<NodeRecord>>,
}

/// A membership that runs.
struct Membership {
    identity: IdentityHandle,
    addresses: NodeAddresses,
    agent: Arc<Agent>,
    /// Managers of the record, until the agent is told of others.
    first_managers: Vec<SocketAddr>,
    /// Comes and goes with the certificate's role.
    manager: RwLock<Option<Arc<Manager>>>,
    /// Set when the membership has ended: nothing is begun for it any more.
    over: AtomicBool,
}

impl Cluster {
    /// A cluster that has not looked at its folder yet.
    pub(super) fn new(config: ClusterConfig) -> Arc<Self> {
        let dir = SwarmDir::new(config.dir.clone());
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            config,
            dir,
            changing: Mutex::default(),
            member: RwLock::default(),
            broken: RwLock::default(),
            locked: RwLock::default(),
        })
    }

    /// Takes up the membership that the folder records. What prevents it is shown in `info` and can be left by force.
    pub(super) async fn resume(&self) {
        let _changing = self.changing.lock().await;
        let outcome = match self.dir.load() {
            Ok(Some(record)) => self.reopen(record, KeyEncryptionKey::default()).await,
            // The rest of an attempt that did not finish.
            Ok(None) => self.dir.clear().map_err(failed),
            Err(error) => Err(failed(error)),
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "the swarm membership cannot be taken up");
            *self.broken.write().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
        if !self.is_member() && self.config.global.is_none() {
            self.forget_store().await;
        }
    }

    /// What a key-value store said in an earlier run counts no longer when the daemon is started without one.
    async fn forget_store(&self) {
        let controller = &self.config.controller;
        let told = controller.swarm_state().is_some_and(|state| !state.is_of_swarm());
        if told && let Err(error) = controller.set_swarm_state(None).await {
            tracing::warn!(%error, "the rest of a key-value store's networks could not be removed");
        }
    }

    async fn reopen(&self, mut record: NodeRecord, kek: KeyEncryptionKey) -> SwarmResult<()> {
        let addresses = record.addresses.renewed(&addresses::interfaces());
        if addresses != record.addresses {
            tracing::info!(from = ?record.addresses, to = ?addresses, "this node has other addresses");
            record.addresses = addresses;
            self.dir.save(&record).map_err(failed)?;
        }
        let identity = match self.open_identity(&kek) {
            Ok(identity) => identity,
            Err(IdentityProblem::Locked) => {
                self.wait_for_key(record);
                return Ok(());
            }
            Err(IdentityProblem::WrongKey) => return Err(wrong_key()),
            Err(IdentityProblem::Failed(error)) => return Err(error),
        };
        let manager = match identity.identity().role {
            NodeRole::Manager => {
                let config = ManagerConfig { kek, ..self.manager_config(&record.addresses) };
                match Manager::open(config, identity.clone()).await {
                    Ok(manager) => Some(manager),
                    Err(error) if error.is_locked() => {
                        self.wait_for_key(record);
                        return Ok(());
                    }
                    Err(error) if error.is_wrong_key() => return Err(wrong_key()),
                    // Its join never ended: it goes on beside the agent, which finds the managers.
                    Err(ManagerError::NoSwarm(_)) if !record.founded => None,
                    Err(error) => return Err(refused(error)),
                }
            }
            NodeRole::Worker => {
                // It was made a worker, and stopped before all of the manager was gone.
                identity.set_seal(None).map_err(refused)?;
                None
            }
        };
        self.start(identity, record, manager).await
    }

    /// The store of this manager, and the private key of its certificate, wait for the swarm's unlock key.
    fn wait_for_key(&self, record: NodeRecord) {
        tracing::warn!("the swarm's store is locked: it waits for the unlock key");
        *self.locked.write().unwrap_or_else(PoisonError::into_inner) = Some(record);
    }

    /// This node's identity; that of a locked manager opens with its unlock key.
    fn open_identity(&self, kek: &KeyEncryptionKey) -> Result<IdentityHandle, IdentityProblem> {
        let dir = self.dir.identity();
        let problem = |error| IdentityProblem::Failed(refused(error));
        let seal = match NodeIdentity::is_sealed(&dir).map_err(problem)? {
            false => None,
            true => match Manager::identity_seal(&self.dir.store(), kek) {
                Ok(seal) => Some(seal),
                Err(error) if error.is_locked() => return Err(IdentityProblem::Locked),
                Err(error) if error.is_wrong_key() => return Err(IdentityProblem::WrongKey),
                Err(error) => return Err(IdentityProblem::Failed(refused(error))),
            },
        };
        IdentityHandle::open(&dir, seal).map_err(problem)
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
            drain_timeout: self.config.drain_timeout,
            state_dir: self.dir.agent(),
        })
        .await
        .map_err(refused)?;
        let member = Arc::new(Membership {
            identity,
            addresses: record.addresses,
            agent,
            first_managers: record.managers,
            manager: RwLock::new(manager),
            over: AtomicBool::new(false),
        });
        tokio::spawn(roles::follow(self.me.clone(), Arc::downgrade(&member)));
        *self.member.write().unwrap_or_else(PoisonError::into_inner) = Some(member);
        Ok(())
    }

    fn manager_config(&self, addresses: &NodeAddresses) -> ManagerConfig {
        let mut config = ManagerConfig::new(self.dir.store(), addresses.listen, addresses.advertise);
        if let Some(period) = self.config.key_rotation {
            config.timing.key_rotation = period;
        }
        config
    }

    fn member(&self) -> Option<Arc<Membership>> {
        self.member.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_member(&self) -> bool {
        self.member().is_some()
            || self.is_locked()
            || self.broken.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn init_swarm(&self, request: InitRequest) -> SwarmResult<String> {
        let _changing = self.changing.lock().await;
        if request.force_new_cluster {
            return self.start_alone().await;
        }
        if self.is_member() {
            return Err(SwarmError::AlreadyInSwarm);
        }
        self.refuse_key_value_mode()?;
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

    fn refuse_key_value_mode(&self) -> SwarmResult<()> {
        match self.config.global.is_some() {
            true => Err(SwarmError::Failed { kind: ErrorKind::System, message: INCOMPATIBLE.to_owned() }),
            false => Ok(()),
        }
    }

    /// Goes on with this manager's state and without the other managers.
    async fn start_alone(&self) -> SwarmResult<String> {
        let record = self.dir.load().map_err(failed)?.ok_or(SwarmError::NoSwarm)?;
        if let Some(member) = self.member() {
            if member.manager().is_none() {
                return Err(SwarmError::NotManager);
            }
            member.stop().await;
            self.clear_member();
        }
        let identity = self.open_identity(&KeyEncryptionKey::default()).map_err(|problem| match problem {
            IdentityProblem::Failed(error) => error,
            IdentityProblem::Locked | IdentityProblem::WrongKey => locked(),
        })?;
        if identity.identity().role != NodeRole::Manager {
            return Err(SwarmError::NotManager);
        }
        let node_id = identity.identity().node_id.to_string();
        let config = self.manager_config(&record.addresses);
        let manager = Manager::open_alone(config, identity.clone()).await.map_err(refused)?;
        let record = NodeRecord::founded(record.addresses.clone(), vec![record.addresses.advertise]);
        self.dir.save(&record).map_err(failed)?;
        self.start(identity, record, Some(manager)).await?;
        self.wait_ready().await?;
        Ok(node_id)
    }

    /// Whether a manager's store waits for the unlock key.
    fn is_locked(&self) -> bool {
        self.locked.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn unlock_swarm(&self, key: &str) -> SwarmResult<()> {
        let _changing = self.changing.lock().await;
        let record = self.locked.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(record) = record else {
            return Err(if self.member().is_some() {
                SwarmError::Failed { kind: ErrorKind::Conflict, message: "swarm is not locked".to_owned() }
            } else {
                SwarmError::NoSwarm
            });
        };
        let kek = KeyEncryptionKey::from_unlock_key(key).ok_or_else(wrong_key)?;
        self.reopen(record, kek).await?;
        *self.locked.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn clear_member(&self) {
        *self.locked.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.member.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.broken.write().unwrap_or_else(PoisonError::into_inner) = None;
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
        let record = NodeRecord::founded(addresses.clone(), vec![addresses.advertise]);
        let outcome = self.enter(record, identity, Some(Arc::clone(&manager))).await;
        if outcome.is_err() {
            manager.stop().await;
        }
        outcome.map(|()| node_id)
    }

    /// Stores the identity, records the membership, starts everything. A node that joins as a manager is let in by the
    /// others here: its record stands before, so that a crash in between goes on with the attempt.
    async fn enter(
        &self,
        record: NodeRecord,
        identity: NodeIdentity,
        founded: Option<Arc<Manager>>,
    ) -> SwarmResult<()> {
        let identity = IdentityHandle::create(&self.dir.identity(), identity).map_err(refused)?;
        self.dir.save(&record).map_err(failed)?;
        let manager = match founded {
            None if identity.identity().role == NodeRole::Manager => {
                let config = self.manager_config(&record.addresses);
                Some(Manager::join(config, identity.clone(), &record.managers).await.map_err(refused)?)
            }
            founded => founded,
        };
        let outcome = self.start(identity, record, manager.clone()).await;
        if let (Err(_), Some(manager)) = (&outcome, manager) {
            manager.stop().await;
        }
        outcome
    }

    async fn join_swarm(&self, request: JoinRequest) -> SwarmResult<()> {
        let _changing = self.changing.lock().await;
        if self.is_member() {
            return Err(SwarmError::AlreadyInSwarm);
        }
        self.refuse_key_value_mode()?;
        let token: JoinToken = request.join_token.parse().map_err(|_| invalid("invalid join token"))?;
        let (manager, identity) = self.ask_managers(&request, &token).await?;
        let wanted = Wanted {
            listen: &request.listen_addr,
            advertise: &request.advertise_addr,
            data_path: &request.data_path_addr,
        };
        let addresses = NodeAddresses::resolve(wanted, Some(manager), &addresses::interfaces())?;
        self.dir.clear().map_err(failed)?;
        if let Err(error) = self.enter(NodeRecord::new(addresses, vec![manager]), identity, None).await {
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
        if !matches!(timeout(READY_DEADLINE, status.wait_for(|s| s.ready)).await, Ok(Ok(_))) {
            return Err(SwarmError::JoinTimeout);
        }
        self.wait_gossip().await;
        Ok(())
    }

    /// Who joins next speaks to this node's gossip at once, and one of Docker's only once a minute.
    async fn wait_gossip(&self) {
        let mut name = self.config.controller.gossip_name();
        if timeout(GOSSIP_DEADLINE, name.wait_for(|name| !name.is_empty())).await.is_err() {
            tracing::warn!("gossip does not listen yet; it goes on trying");
        }
    }

    async fn leave_swarm(&self, force: bool) -> SwarmResult<()> {
        let _changing = self.changing.lock().await;
        if !self.is_member() {
            return Err(SwarmError::NotInSwarm);
        }
        let member = self.member();
        if !force && self.is_locked() {
            return Err(locked());
        }
        let manager = member.as_ref().and_then(|member| member.manager());
        if !force && let Some(manager) = &manager {
            return Err(leaving(&manager.control()));
        }
        if let Some(member) = member {
            member.over.store(true, Ordering::Relaxed);
            if let Some(manager) = &manager {
                manager.leave().await;
            }
            member.agent.leave().await;
            member.stop().await;
            member.agent.remove_tasks().await;
        }
        self.clear_member();
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
        self.manager.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_manager(&self, manager: Option<Arc<Manager>>) {
        *self.manager.write().unwrap_or_else(PoisonError::into_inner) = manager;
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.agent.stop().await;
        if let Some(manager) = self.manager() {
            manager.hand_over().await;
            manager.stop().await;
        }
    }
}

/// Why the identity of this node does not open.
enum IdentityProblem {
    /// It needs the swarm's unlock key.
    Locked,
    /// The unlock key that was given is not the one.
    WrongKey,
    Failed(SwarmError),
}

/// Docker's words.
fn locked() -> SwarmError {
    SwarmError::Failed {
        kind: ErrorKind::Unavailable,
        message:
            "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message."
                .to_owned(),
    }
}

/// Docker's words.
fn wrong_key() -> SwarmError {
    SwarmError::Failed {
        kind: ErrorKind::Unauthorized,
        message: "swarm could not be unlocked: invalid key provided".to_owned(),
    }
}

/// Docker's words for a manager that would leave.
fn leaving(control: &Control) -> SwarmError {
    let nodes = control.nodes();
    let managers = nodes.iter().filter_map(|node| node.manager_status.as_ref());
    let (reachable, unreachable): (Vec<_>, Vec<_>) =
        managers.partition(|status| status.reachability() == Reachability::Reachable);
    let (reachable, unreachable) = (reachable.len(), unreachable.len());
    if reachable <= 1 && unreachable == 0 {
        return SwarmError::LastManagerLeaves;
    }
    let mut message =
        "You are attempting to leave the swarm on a node that is participating as a manager. ".to_owned();
    if reachable <= unreachable + 2 {
        message.push_str(&format!(
            "Removing this node leaves {} managers out of {}. Without a Raft quorum your swarm will be inaccessible. ",
            reachable.saturating_sub(1),
            reachable + unreachable
        ));
    }
    message.push_str(
        "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. \
         Use `--force` to suppress this message.",
    );
    SwarmError::Failed { kind: ErrorKind::Unavailable, message }
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
