//! What every service of the manager shares: the store, the way to change it, and the swarm's constants.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weft_orchestration::{Allocator, AllocatorConfig, service_claims, task_claims};
use weft_types::{NodeId, SwarmId};
use weft_wire::swarmkit::{Cluster, Task, TaskState};

use crate::clock;
use crate::config::Timing;
use crate::consensus::{Consensus as _, ConsensusError, Leadership, Peers, RaftConsensus};
use crate::error::ControlError;
use crate::store::{Change, Commit, Object, Store, Transaction, View};
use crate::taken::ViewTaken;

/// How often a refused transaction is computed again before giving up. Each refusal means that another one took
/// effect, so this is only reached under a storm of changes to one object.
const ATTEMPTS: usize = 64;
/// SwarmKit's default (manager/dispatcher).
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);

/// Shared by all services.
pub(crate) struct Core {
    pub(crate) store: Arc<Store>,
    pub(crate) raft: Arc<RaftConsensus>,
    /// Connections to the other managers.
    pub(crate) peers: Arc<Peers>,
    /// Whether this manager leads and is prepared to.
    office: watch::Sender<bool>,
    /// Since when.
    office_since: std::sync::Mutex<Option<std::time::Instant>>,
    pub(crate) swarm_id: SwarmId,
    /// This manager's own node.
    pub(crate) node_id: NodeId,
    pub(crate) timing: Timing,
    pub(crate) advertise: SocketAddr,
    /// Held from computing an allocation to its commit: two that want the next free address then do not collide.
    allocator: Mutex<Option<Allocator>>,
    /// Cancelled when the manager stops.
    pub(crate) stopping: CancellationToken,
}

impl Core {
    pub(crate) fn new(
        store: Arc<Store>,
        raft: Arc<RaftConsensus>,
        peers: Arc<Peers>,
        swarm_id: SwarmId,
        node_id: NodeId,
        timing: Timing,
        advertise: SocketAddr,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            raft,
            peers,
            office: watch::Sender::new(false),
            office_since: std::sync::Mutex::default(),
            swarm_id,
            node_id,
            timing,
            advertise,
            allocator: Mutex::new(None),
            stopping: CancellationToken::new(),
        })
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.store.view()
    }

    /// The swarm. A manager without one is never built.
    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.view().cluster().cloned().unwrap_or_default()
    }

    /// Who leads, by the word of this manager.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.raft.subscribe()
    }

    /// Whether this manager leads and has begun to do what only the leader does.
    pub(crate) fn in_office(&self) -> watch::Receiver<bool> {
        self.office.subscribe()
    }

    pub(crate) fn set_in_office(&self, holds: bool) {
        *self.office_since.lock().unwrap_or_else(PoisonError::into_inner) =
            holds.then(std::time::Instant::now);
        self.office.send_replace(holds);
    }

    /// How long this manager has led; zero while it prepares.
    pub(crate) fn time_in_office(&self) -> Duration {
        let since = *self.office_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Waits until the view has everything that was answered anywhere before this call.
    pub(crate) async fn barrier(&self) -> Result<(), ConsensusError> {
        self.raft.barrier().await.map(drop)
    }

    /// A connection to the leader, where it is another manager.
    #[allow(dead_code, reason = "for services whose other end is on the leader")]
    pub(crate) fn leader_channel(&self) -> Option<Channel> {
        let (id, address) = self.raft.leader()?;
        (id != self.raft.raft_id()).then(|| self.peers.channel(&address).ok()).flatten()
    }

    /// Mean time between two heartbeats of a node.
    pub(crate) fn heartbeat_period(&self) -> Duration {
        let configured = || {
            let cluster = self.cluster();
            let period = cluster.spec.as_ref()?.dispatcher.as_ref()?.heartbeat_period?;
            Duration::try_from(period).ok().filter(|period| !period.is_zero())
        };
        self.timing.heartbeat_period.or_else(configured).unwrap_or(DEFAULT_HEARTBEAT)
    }

    /// Computes a transaction from the newest view and proposes it, again and again while it is refused.
    /// An empty transaction is not proposed. Gives what `compute` gave beside the transaction that took effect.
    pub(crate) async fn change<T, E>(
        &self,
        mut compute: impl FnMut(&View, &mut Transaction) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<ConsensusError> + From<Contention>,
    {
        for _ in 0..ATTEMPTS {
            let view = self.view();
            let mut transaction = Transaction::new(clock::now());
            let outcome = compute(&view, &mut transaction)?;
            if transaction.is_empty() || self.propose(&transaction).await? {
                return Ok(outcome);
            }
        }
        Err(Contention.into())
    }

    /// As [`Core::change`], with the allocator.
    pub(crate) async fn allocate<T, E>(
        &self,
        mut compute: impl FnMut(&View, &mut Allocator, &mut Transaction) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<ConsensusError> + From<Contention> + From<weft_orchestration::PoolError>,
    {
        let mut guard = self.allocator.lock().await;
        for _ in 0..ATTEMPTS {
            let view = self.view();
            let allocator = match guard.as_mut() {
                Some(allocator) => allocator,
                None => guard.insert(rebuild(&view)?),
            };
            let mut transaction = Transaction::new(clock::now());
            let outcome = compute(&view, allocator, &mut transaction)?;
            if transaction.is_empty() || self.propose(&transaction).await? {
                return Ok(outcome);
            }
        }
        Err(Contention.into())
    }

    async fn propose(&self, transaction: &Transaction) -> Result<bool, ConsensusError> {
        let verdict = self.raft.propose(transaction.encode()).await?;
        if let Some(refusal) = &verdict.refusal {
            tracing::debug!(index = verdict.index, %refusal, "transaction refused, computing it again");
        }
        Ok(verdict.refusal.is_none())
    }

    /// Tells the allocator what a commit freed, so that it rests. Runs beside the commits: losing one costs only
    /// an earlier reuse.
    pub(crate) async fn rest_freed(&self, commit: &Commit) {
        let freed: Vec<&Object> = commit.changes.iter().filter_map(freed_by).collect();
        if freed.is_empty() {
            return;
        }
        let mut guard = self.allocator.lock().await;
        let Some(allocator) = guard.as_mut() else { return };
        for object in freed {
            match object {
                Object::Task(task) => allocator.rest(&task_claims(task)),
                Object::Service(service) => allocator.rest(&service_claims(service)),
                Object::Network(network) => allocator.forget_network(&network.id),
                _ => {}
            }
        }
    }
}

/// What held something until this change: it is gone, or it is a task that has ended.
fn freed_by(change: &Change) -> Option<&Object> {
    let has_ended =
        |task: &Task| task.status.as_ref().is_some_and(|status| status.state() > TaskState::Running);
    match (change.before.as_ref()?, &change.after) {
        (before, None) => Some(before),
        (before @ Object::Task(task), Some(Object::Task(after))) if !has_ended(task) && has_ended(after) => {
            Some(before)
        }
        _ => None,
    }
}

/// The address of a text such as `10.0.1.3/24`.
pub(crate) fn host_address(text: &str) -> Option<std::net::IpAddr> {
    text.split('/').next()?.parse().ok()
}

fn rebuild(view: &View) -> Result<Allocator, weft_orchestration::PoolError> {
    let cluster = view.cluster().cloned().unwrap_or_default();
    let config = AllocatorConfig::of_cluster(&cluster)?;
    Ok(Allocator::rebuild(config, view.networks().map(AsRef::as_ref), &ViewTaken::new(view)))
}

/// A transaction was refused too often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contention;

impl From<Contention> for ControlError {
    fn from(_: Contention) -> Self {
        Self::Contention
    }
}
