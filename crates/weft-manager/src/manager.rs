//! One manager: its store, its services on the manager port, and its reconcilers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use weft_identity::{IdentityHandle, KeySeal, NodeIdentity};
use weft_types::{NetworkId, NodeId, SwarmId};

use crate::announce::{self, AnnounceError};
use crate::brain::Brain;
use crate::config::{InitOptions, ManagerConfig};
use crate::consensus::{
    self, Consensus as _, ConsensusError, Files, MemberNode, Opening, Parts, Peers, RaftConsensus,
    RaftOptions,
};
use crate::control::Control;
use crate::core::Core;
use crate::dispatcher::Sessions;
use crate::error::{ControlError, ManagerError};
use crate::init::{Genesis, genesis, manager_status};
use crate::liveness::HelperProbe;
use crate::network::{self, Reports};
use crate::network_state::Progress;
use crate::notice::Notices;
use crate::seal::{self, KeyEncryptionKey, KeyFile};
use crate::store::{Store, Transaction};
use crate::{autolock, membership, office, services};

const KEY_FILE: &str = "data-key";
/// Connections that wait to be accepted, as many as Linux takes by default.
const BACKLOG: u32 = 4096;
/// How long opening waits for a manager that is sure to lead.
const OFFICE_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);
/// A stop waits this long for another leader.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// A running manager. [`Manager::stop`] ends it in order; dropping it ends its tasks at once.
pub struct Manager {
    brain: Arc<Brain>,
    local: SocketAddr,
    /// Until it serves.
    listener: Mutex<Option<TcpListener>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Manager {
    /// Starts a swarm of one node. The identity is the caller's to store.
    pub async fn init(
        config: ManagerConfig,
        options: InitOptions,
    ) -> Result<(Arc<Self>, NodeIdentity), ManagerError> {
        let (listener, advertise) = listen(&config)?;
        let Genesis { cluster, mut node, identity } = genesis(options, advertise)?;
        let opened = open_store(&config, advertise, &identity.node_id, Opening::Found).await?;
        if opened.store.view().cluster().is_some() {
            opened.raft.shutdown().await;
            return Err(ManagerError::AlreadyInitialised);
        }
        node.manager_status = Some(manager_status(advertise, opened.raft.raft_id()));
        let mut transaction = Transaction::new(SystemTime::now());
        transaction.create(cluster).create(node);
        let verdict = opened.raft.propose(transaction.encode()).await?;
        debug_assert!(verdict.refusal.is_none(), "nothing can be in the way in an empty store");
        let core = new_core(&config, advertise, opened, &identity.swarm_id, &identity.node_id);
        let manager = Self::start(core, listener, &config, true);
        manager.wait_office().await;
        let id = NetworkId::random_swarm(&mut rand::rng()).to_string();
        let ingress = (manager.brain.core)
            .allocate(|view, allocator, transaction| {
                network::create(
                    view,
                    allocator,
                    transaction,
                    &manager.brain.reports,
                    &id,
                    &network::ingress_spec(),
                )
            })
            .await;
        ingress.map_err(settings)?;
        tracing::info!(swarm = %identity.swarm_id, node = %identity.node_id, %advertise, "started a swarm");
        Ok((manager, identity))
    }

    /// Opens the store again after a stop or a crash. A single manager leads when this returns; one of several takes
    /// its place among the others once it serves.
    pub async fn open(config: ManagerConfig, identity: IdentityHandle) -> Result<Arc<Self>, ManagerError> {
        Self::reopen(config, identity, Opening::Resume).await
    }

    /// Opens the store of a swarm that has lost most of its managers, and goes on without them: networks, addresses,
    /// keys and services stay; the other managers are workers from now on, and come back as such or not at all.
    pub async fn open_alone(
        config: ManagerConfig,
        identity: IdentityHandle,
    ) -> Result<Arc<Self>, ManagerError> {
        let manager = Self::reopen(config, identity, Opening::Alone).await?;
        membership::forget_others(&manager.brain.core).await.map_err(settings)?;
        Ok(manager)
    }

    async fn reopen(
        config: ManagerConfig,
        identity: IdentityHandle,
        opening: Opening,
    ) -> Result<Arc<Self>, ManagerError> {
        let (listener, advertise) = listen(&config)?;
        let node = identity.identity();
        let opened = open_store(&config, advertise, &node.node_id, opening).await?;
        // A member of several may have an empty view until the others say how far its log is agreed on.
        let foreign = opened.store.view().cluster().is_some_and(|it| it.id != node.swarm_id.as_str());
        let alone = opened.raft.was_alone();
        if foreign || (alone && opened.store.view().cluster().is_none()) {
            opened.raft.shutdown().await;
            return Err(ManagerError::NoSwarm(config.state_dir));
        }
        opened.peers.introduce(&identity);
        let core = new_core(&config, advertise, opened, &node.swarm_id, &node.node_id);
        tracing::info!(swarm = %node.swarm_id, node = %node.node_id, %advertise, "opened a swarm's store");
        let manager = Self::start(core, listener, &config, false);
        if alone {
            manager.wait_office().await;
            manager.wait_known().await;
        }
        Ok(manager)
    }

    /// Makes this node, which has a manager's certificate, a member of the managers' group: it serves, asks the leader
    /// to be let in, and gets the swarm's state. `remotes` are managers to ask. Goes on where an attempt before ended.
    pub async fn join(
        config: ManagerConfig,
        identity: IdentityHandle,
        remotes: &[SocketAddr],
    ) -> Result<Arc<Self>, ManagerError> {
        let limit = config.timing.join_limit;
        let (listener, advertise) = listen(&config)?;
        let node = identity.identity();
        let opened = open_store(&config, advertise, &node.node_id, Opening::Join).await?;
        opened.peers.introduce(&identity);
        let core = new_core(&config, advertise, opened, &node.swarm_id, &node.node_id);
        let manager = Self::start(core, listener, &config, false);
        manager.serve(identity);
        let joined = async {
            announce::join(&manager.brain, remotes, limit).await?;
            manager.wait_state(limit).await
        };
        match joined.await {
            Ok(()) => {
                tracing::info!(swarm = %node.swarm_id, node = %node.node_id, %advertise, "joined the managers");
                Ok(manager)
            }
            Err(error) => {
                manager.stop().await;
                Err(ManagerError::Join(error))
            }
        }
    }

    /// Whether this manager leads the swarm.
    pub fn leads(&self) -> bool {
        *self.brain.core.in_office().borrow()
    }

    /// Whether its store has failed, for example because the disk is full. Stopped and opened anew it goes on from what
    /// is on the disk.
    pub fn has_failed(&self) -> bool {
        self.brain.core.raft.has_failed()
    }

    /// What its store is locked with, to open it again without asking anybody.
    pub fn kek(&self) -> KeyEncryptionKey {
        let view = self.brain.core.view();
        let key = view.cluster().and_then(|cluster| autolock::key_of(cluster));
        key.map(|key| KeyEncryptionKey::new(key.key.clone())).unwrap_or_default()
    }

    /// Whether this manager knows one that leads.
    pub fn has_leader(&self) -> bool {
        self.brain.core.leadership().borrow().leader.is_some()
    }

    /// Gives the leadership to another manager, if this one leads and another can: before a stop in order, so that
    /// nobody has to notice a silence first.
    pub async fn hand_over(&self) {
        let core = &self.brain.core;
        let others = core.raft.membership().iter().any(|it| it.voter && it.raft_id != core.raft.raft_id());
        if self.leads() && others {
            match timeout(HAND_OVER_LIMIT, membership::hand_over(core)).await {
                Ok(Ok(())) => tracing::info!("another manager leads now"),
                Ok(Err(_)) | Err(_) => tracing::warn!("the leadership could not be handed over"),
            }
        }
    }

    /// Tells the other managers, if they can be reached, that this one leaves for good, so that they no longer count
    /// it. To be followed by [`Manager::stop`] and [`Manager::erase`].
    pub async fn leave(&self) {
        announce::leave(&self.brain.core).await;
    }

    /// Until this manager leads. Only for one that is sure to.
    async fn wait_office(&self) {
        let mut office = self.brain.core.in_office();
        if timeout(OFFICE_LIMIT, office.wait_for(|holds| *holds)).await.is_err() {
            tracing::warn!("this manager does not lead its swarm yet");
        }
    }

    /// Until the group has this manager's present address.
    async fn wait_known(&self) {
        let known = async {
            while !announce::is_known(&self.brain.core) {
                tokio::time::sleep(PAUSE).await;
            }
            membership::record(&self.brain).await;
        };
        if timeout(OFFICE_LIMIT, known).await.is_err() {
            tracing::warn!("this manager's new address is not recorded yet");
        }
    }

    /// Until the swarm's state has arrived.
    async fn wait_state(&self, limit: Duration) -> Result<(), AnnounceError> {
        let core = &self.brain.core;
        let arrived = async {
            while core.view().cluster().is_none() || !announce::is_known(core) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let late = |_| AnnounceError::NoLeader("the swarm's state did not arrive".to_owned());
        timeout(limit, arrived).await.map_err(late)
    }

    /// What opens the private key of a node whose identity is sealed, because its manager is locked.
    pub fn identity_seal(state_dir: &Path, kek: &KeyEncryptionKey) -> Result<Arc<dyn KeySeal>, ManagerError> {
        match seal::identity_seal(&state_dir.join(KEY_FILE), kek) {
            Ok(seal) => Ok(Arc::new(seal)),
            Err(error) => Err(ManagerError::Storage(error.into())),
        }
    }

    /// Removes a swarm's files, for a node that leaves.
    pub fn erase(state_dir: &Path) -> std::io::Result<()> {
        for file in consensus::files(state_dir).into_iter().chain([state_dir.join(KEY_FILE)]) {
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Serves the manager port until [`Manager::stop`]; the port was bound when the manager was made. One that joined
    /// serves already: then this does nothing.
    pub fn serve(&self, identity: IdentityHandle) -> JoinHandle<()> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(listener) = listener else { return tokio::spawn(std::future::ready(())) };
        let stopping = self.brain.core.stopping.clone();
        self.brain.core.peers.introduce(&identity);
        let incoming = weft_identity::incoming(listener, identity);
        let brain = Arc::clone(&self.brain);
        tokio::spawn(async move {
            if let Err(error) = services::serve(brain, incoming, stopping.cancelled_owned()).await {
                tracing::error!(%error, "the manager port is no longer served");
            }
        })
    }

    /// Where the manager listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The control interface for this process.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.brain))
    }

    /// Ends all streams, stops serving and closes the store.
    pub async fn stop(&self) {
        self.brain.core.stopping.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
        self.brain.core.raft.shutdown().await;
    }

    fn start(core: Arc<Core>, listener: TcpListener, config: &ManagerConfig, founded: bool) -> Arc<Self> {
        let timing = core.timing;
        let key_file = Arc::new(KeyFile::new(config.state_dir.join(KEY_FILE), config.kek.clone()));
        let local = listener.local_addr().unwrap_or(core.advertise);
        let brain = Arc::new(Brain {
            core,
            sessions: Sessions::new(timing.rate_limit_count, timing.rate_limit_period),
            reports: Reports::default(),
            progress: Progress::default(),
            notices: Notices::default(),
            logs: Arc::default(),
            witnesses: Arc::default(),
            liveness: Arc::new(HelperProbe { port: timing.helper_port }),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(office::follow_leadership(Arc::downgrade(&brain), founded));
        tasks.spawn(announce::run(Arc::downgrade(&brain)));
        tasks.spawn(autolock::follow(Arc::downgrade(&brain), Arc::clone(&key_file)));
        tasks.spawn(autolock::follow_identity(Arc::downgrade(&brain), key_file));
        Arc::new(Self { brain, local, listener: Mutex::new(Some(listener)), tasks: Mutex::new(tasks) })
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.brain.core.stopping.cancel();
    }
}

fn settings(error: ControlError) -> ManagerError {
    ManagerError::Settings(Box::new(error))
}

/// Binds the port and says what to tell other nodes of it.
fn listen(config: &ManagerConfig) -> Result<(TcpListener, SocketAddr), ManagerError> {
    let bind = || -> std::io::Result<TcpListener> {
        let socket = if config.listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(config.listen)?;
        socket.listen(BACKLOG)
    };
    let listener = bind().map_err(|source| ManagerError::Listen { address: config.listen, source })?;
    let mut advertise = config.advertise;
    if advertise.port() == 0
        && let Ok(local) = listener.local_addr()
    {
        advertise.set_port(local.port());
    }
    Ok((listener, advertise))
}

/// A store with what replicates it.
struct Opened {
    store: Arc<Store>,
    raft: Arc<RaftConsensus>,
    peers: Arc<Peers>,
}

async fn open_store(
    config: &ManagerConfig,
    advertise: SocketAddr,
    node: &NodeId,
    opening: Opening,
) -> Result<Opened, ManagerError> {
    let folder = &config.state_dir;
    create_folder(folder).map_err(|source| ManagerError::StateDir { path: folder.clone(), source })?;
    let sealer = seal::open_or_create(&folder.join(KEY_FILE), &config.kek)
        .map_err(|error| ManagerError::Storage(error.into()))?;
    let store = Store::new();
    let peers = Arc::new(Peers::default());
    let parts = Parts {
        folder,
        disk: Arc::new(Files),
        node: MemberNode { node_id: node.to_string(), addr: advertise.to_string() },
        peers: Arc::clone(&peers),
        transport: Arc::clone(&peers) as _,
        sealer: Arc::new(sealer),
        machine: Arc::clone(&store) as _,
        options: RaftOptions {
            snapshot_interval: config.timing.snapshot_interval,
            log_entries_kept: config.timing.log_entries_kept,
        },
    };
    match RaftConsensus::open(opening, parts).await {
        Ok(raft) => Ok(Opened { store, raft: Arc::new(raft), peers }),
        Err(ConsensusError::Empty) => Err(ManagerError::NoSwarm(folder.clone())),
        Err(error) => Err(error.into()),
    }
}

fn create_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn new_core(
    config: &ManagerConfig,
    advertise: SocketAddr,
    opened: Opened,
    swarm: &SwarmId,
    node: &NodeId,
) -> Arc<Core> {
    let Opened { store, raft, peers } = opened;
    Core::new(store, raft, peers, swarm.clone(), node.clone(), config.timing, advertise)
}
