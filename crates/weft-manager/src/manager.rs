//! One manager: its store, its services on the manager port, and its reconcilers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use weft_identity::{IdentityHandle, NodeIdentity};
use weft_types::{NetworkId, NodeId, SwarmId};
use weft_wire::swarmkit::Node;

use crate::brain::Brain;
use crate::config::{InitOptions, ManagerConfig};
use crate::consensus::{self, Consensus, RaftConsensus, RaftOptions};
use crate::control::Control;
use crate::core::Core;
use crate::dispatcher::{self, Sessions};
use crate::error::{ControlError, ManagerError};
use crate::init::{Genesis, genesis, manager_status};
use crate::liveness::HelperProbe;
use crate::network::{self, Reports};
use crate::network_state::Progress;
use crate::seal;
use crate::store::{Store, Transaction};
use crate::{reconcile, services};

const KEY_FILE: &str = "data-key";
/// Connections that wait to be accepted, as many as Linux takes by default.
const BACKLOG: u32 = 4096;

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
        let Genesis { cluster, node, identity } = genesis(options, advertise)?;
        let (store, consensus) = open_store(&config, advertise).await?;
        if store.view().cluster().is_some() {
            consensus.shutdown().await;
            return Err(ManagerError::AlreadyInitialised);
        }
        let mut transaction = Transaction::new(SystemTime::now());
        transaction.create(cluster).create(node);
        let verdict = consensus.propose(transaction.encode()).await?;
        debug_assert!(verdict.refusal.is_none(), "nothing can be in the way in an empty store");
        let core = new_core(&config, advertise, store, consensus, &identity.swarm_id, &identity.node_id);
        let manager = Self::start(core, listener, false);
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

    /// Opens the store again after a stop or a crash.
    pub async fn open(config: ManagerConfig, identity: IdentityHandle) -> Result<Arc<Self>, ManagerError> {
        let (listener, advertise) = listen(&config)?;
        let (store, consensus) = open_store(&config, advertise).await?;
        let identity = identity.identity();
        if store.view().cluster().is_none_or(|cluster| cluster.id != identity.swarm_id.as_str()) {
            consensus.shutdown().await;
            return Err(ManagerError::NoSwarm(config.state_dir));
        }
        let core = new_core(&config, advertise, store, consensus, &identity.swarm_id, &identity.node_id);
        advertise_again(&core).await.map_err(settings)?;
        dispatcher::mark_unknown(&core).await;
        tracing::info!(swarm = %identity.swarm_id, node = %identity.node_id, %advertise, "opened a swarm's store");
        Ok(Self::start(core, listener, true))
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

    /// Serves the manager port until [`Manager::stop`]; the port was bound when the manager was made.
    ///
    /// # Panics
    /// If it serves already.
    pub fn serve(self: &Arc<Self>, identity: IdentityHandle) -> JoinHandle<()> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = listener.expect("a manager serves once");
        let stopping = self.brain.core.stopping.clone();
        let incoming = weft_identity::incoming(listener, identity);
        let router = services::router(&self.brain);
        tokio::spawn(async move {
            let served = router.serve_with_incoming_shutdown(incoming, stopping.cancelled_owned()).await;
            if let Err(error) = served {
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
        self.brain.core.consensus().shutdown().await;
    }

    fn start(core: Arc<Core>, listener: TcpListener, reopened: bool) -> Arc<Self> {
        let timing = core.timing;
        let local = listener.local_addr().unwrap_or(core.advertise);
        let brain = Arc::new(Brain {
            core,
            sessions: Sessions::new(timing.rate_limit_count, timing.rate_limit_period),
            reports: Reports::default(),
            progress: Progress::default(),
            liveness: Arc::new(HelperProbe { port: timing.helper_port }),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(reconcile::follow_commits(Arc::downgrade(&brain)));
        tasks.spawn(reconcile::give_up_lost_nodes(Arc::downgrade(&brain)));
        if reopened {
            let stopping = brain.core.stopping.clone();
            let waiting = dispatcher::give_up_unknown(Arc::downgrade(&brain));
            tasks.spawn(async move { stopping.run_until_cancelled(waiting).await.unwrap_or_default() });
        }
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

async fn open_store(
    config: &ManagerConfig,
    advertise: SocketAddr,
) -> Result<(Arc<Store>, Arc<dyn Consensus>), ManagerError> {
    let folder = &config.state_dir;
    create_folder(folder).map_err(|source| ManagerError::StateDir { path: folder.clone(), source })?;
    let sealer = seal::open_or_create(&folder.join(KEY_FILE), &config.kek)
        .map_err(|error| ManagerError::Storage(error.into()))?;
    let store = Store::new();
    let options = RaftOptions {
        snapshot_interval: config.timing.snapshot_interval,
        log_entries_kept: config.timing.log_entries_kept,
    };
    let machine = Arc::clone(&store);
    let consensus =
        RaftConsensus::open(folder, &advertise.to_string(), Arc::new(sealer), machine, options).await?;
    Ok((store, Arc::new(consensus)))
}

fn create_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn new_core(
    config: &ManagerConfig,
    advertise: SocketAddr,
    store: Arc<Store>,
    consensus: Arc<dyn Consensus>,
    swarm: &SwarmId,
    node: &NodeId,
) -> Arc<Core> {
    Core::new(store, consensus, swarm.clone(), node.clone(), config.timing, advertise)
}

/// The address may have changed since the last start.
async fn advertise_again(core: &Core) -> Result<(), ControlError> {
    core.change(|view, transaction| {
        if let Some(node) = view.node(core.node_id.as_str()) {
            let status = Some(manager_status(core.advertise));
            if node.manager_status != status {
                transaction.update(Node { manager_status: status, ..Node::clone(node) });
            }
        }
        Ok(())
    })
    .await
}
