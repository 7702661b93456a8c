//! openraft behind [`Consensus`]. Everything that names openraft's types lies in this folder.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, TryStreamExt as _};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{
    ClientWriteError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::{
    BasicNode, Config, EntryPayload, OptionalSend, Raft, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    SnapshotPolicy, StoredMembership,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::log_store::LogStore;
use super::state_file::{Applied, Image, StateFile};
use super::{Consensus, ConsensusError, Leadership, Machine, Member, StorageError, Verdict};
use crate::seal::Sealer;
use crate::store::View;

const LOG_FILE: &str = "raft-log.redb";
const STATE_FILE: &str = "raft-state.redb";
/// Raft id of the manager that starts a swarm.
const FIRST_MEMBER: u64 = 1;
/// How long opening waits for the log to be applied again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// How long stopping waits for the files to be closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A command in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Command(pub(super) Vec<u8>);

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

openraft::declare_raft_types!(
    pub(super) RaftTypes:
        D = Command,
        R = Verdict,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>,
);

type LogId = LogIdOf<RaftTypes>;
type Instance = Raft<RaftTypes, StateMachine>;

/// Paces of the group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RaftOptions {
    pub(crate) snapshot_interval: u64,
    pub(crate) log_entries_kept: u64,
}

/// A member of a Raft group.
pub(crate) struct RaftConsensus {
    raft: Instance,
    leadership: watch::Receiver<Leadership>,
    watcher: tokio::task::JoinHandle<()>,
    /// Ends when both files are closed.
    files: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl RaftConsensus {
    /// Opens the files in `folder`, starts a group of one if they are new, and waits until everything that was ever
    /// answered is applied again.
    pub(crate) async fn open(
        folder: &Path,
        address: &str,
        sealer: Arc<Sealer>,
        machine: Arc<dyn Machine>,
        options: RaftOptions,
    ) -> Result<Self, ConsensusError> {
        let (log_path, state_path) = (folder.join(LOG_FILE), folder.join(STATE_FILE));
        let (open, files) = mpsc::channel(1);
        let (log, state) = blocking(move || {
            let log = LogStore::open(&log_path, Arc::clone(&sealer), open.clone())?;
            Ok::<_, StorageError>((log, StateFile::open(&state_path, sealer, open)?))
        })
        .await??;
        let fresh = log.is_empty();
        let machine = StateMachine::new(machine, state);
        let config = Arc::new(config(options));
        let raft = Raft::new(FIRST_MEMBER, config, NoPeers, log, machine).await.map_err(stopped)?;
        if fresh {
            let first = BTreeMap::from([(FIRST_MEMBER, BasicNode::new(address))]);
            raft.initialize(first).await.map_err(stopped)?;
        } else {
            // The only voter need not wait for an election timeout to ask itself.
            raft.trigger().elect(false).await.map_err(stopped)?;
        }
        raft.wait(Some(RECOVERY_LIMIT))
            .current_leader(FIRST_MEMBER, "own election")
            .await
            .map_err(stopped)?;
        raft.wait_for_recovery(Some(RECOVERY_LIMIT)).await.map_err(stopped)?;
        let (leadership, watcher) = watch_leadership(&raft);
        Ok(Self { raft, leadership, watcher, files: tokio::sync::Mutex::new(files) })
    }
}

impl Drop for RaftConsensus {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Consensus for RaftConsensus {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Verdict, ConsensusError>> {
        async move {
            match self.raft.client_write(Command(command)).await {
                Ok(written) => Ok(written.data),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                    Err(ConsensusError::NotLeader)
                }
                Err(error) => Err(stopped(error)),
            }
        }
        .boxed()
    }

    fn subscribe(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn membership(&self) -> Vec<Member> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership().clone();
        membership
            .nodes()
            .map(|(id, node)| Member {
                raft_id: *id,
                address: node.addr.clone(),
                voter: membership.voter_ids().any(|voter| voter == *id),
            })
            .collect()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async move {
            if let Err(error) = self.raft.shutdown().await {
                tracing::warn!(%error, "raft did not stop cleanly");
            }
            // Nothing is ever sent: this ends with the last sender. Who stops may open the files again at once.
            if tokio::time::timeout(CLOSE_LIMIT, self.files.lock().await.recv()).await.is_err() {
                tracing::warn!("the store's files are still open");
            }
        }
        .boxed()
    }
}

fn config(options: RaftOptions) -> Config {
    let config = Config {
        cluster_name: "weft".to_owned(),
        // SwarmKit's pace: a beat a second, an election after ten. A slow disk must not look like a dead leader.
        heartbeat_interval: 1000,
        election_timeout_min: 5000,
        election_timeout_max: 10_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_interval),
        max_in_snapshot_log_to_keep: options.log_entries_kept,
        ..Config::default()
    };
    config.validate().expect("the constants above fit each other")
}

fn stopped(error: impl std::fmt::Display) -> ConsensusError {
    ConsensusError::Stopped(error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ConsensusError> {
    tokio::task::spawn_blocking(work).await.map_err(stopped)
}

fn watch_leadership(raft: &Instance) -> (watch::Receiver<Leadership>, tokio::task::JoinHandle<()>) {
    let mut metrics = raft.metrics();
    let current = |metrics: &openraft::RaftMetrics<RaftTypes>| Leadership {
        leading: metrics.current_leader == Some(metrics.id),
        leader: metrics.current_leader,
        term: metrics.current_term,
    };
    let (sender, receiver) = watch::channel(current(&metrics.borrow_watched()));
    let watcher = tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let now = current(&metrics.borrow_watched());
            sender.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
    });
    (receiver, watcher)
}

/// Our [`Machine`] as openraft wants it, with the image file.
#[derive(Clone)]
pub(super) struct StateMachine {
    machine: Arc<dyn Machine>,
    file: Arc<StateFile>,
    applied: Arc<Mutex<Applied>>,
}

impl StateMachine {
    fn new(machine: Arc<dyn Machine>, file: StateFile) -> Self {
        let image = file.image();
        machine.restore(image.view);
        Self { machine, file: Arc::new(file), applied: Arc::new(Mutex::new(image.applied)) }
    }

    fn applied(&self) -> std::sync::MutexGuard<'_, Applied> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, image: Image) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let written =
            tokio::task::spawn_blocking(move || file.write(&image)).await.map_err(io::Error::other)?;
        written.map_err(io::Error::other)
    }
}

impl RaftStateMachine<RaftTypes> for StateMachine {
    type SnapshotData = Arc<View>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<RaftTypes>)> {
        let applied = self.applied().clone();
        Ok((applied.log_id, applied.membership))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<RaftTypes>>> + Unpin + OptionalSend,
    {
        let entries: Vec<_> = entries.try_collect().await?;
        let mut answers = Vec::with_capacity(entries.len());
        for (entry, responder) in entries {
            let index = entry.log_id.index;
            let refusal = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => self.machine.apply(index, &command.0),
                EntryPayload::Membership(membership) => {
                    self.applied().membership = StoredMembership::new(Some(entry.log_id), membership);
                    None
                }
            };
            self.applied().log_id = Some(entry.log_id);
            if let Some(responder) = responder {
                answers.push((responder, Verdict { index, refusal }));
            }
        }
        // Visible before answered: who proposed may read its own write.
        self.machine.flush();
        for (responder, verdict) in answers {
            responder.send(verdict);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        // Taken here, between two batches, so that state and index are of one moment.
        let image = Image { applied: self.applied().clone(), view: self.machine.image() };
        SnapshotBuilder { machine: self.clone(), image }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<RaftTypes>,
        view: Arc<View>,
    ) -> io::Result<()> {
        let applied = Applied { log_id: meta.last_log_id, membership: meta.last_membership.clone() };
        self.write(Image { applied: applied.clone(), view: Arc::clone(&view) }).await?;
        self.machine.restore(view);
        *self.applied() = applied;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<RaftTypes, Arc<View>>>> {
        let image = self.file.image();
        Ok(image.applied.log_id.is_some().then(|| snapshot_of(&image)))
    }
}

/// Writes one image.
pub(super) struct SnapshotBuilder {
    machine: StateMachine,
    image: Image,
}

impl RaftSnapshotBuilder<RaftTypes> for SnapshotBuilder {
    type SnapshotData = Arc<View>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<RaftTypes, Arc<View>>> {
        self.machine.write(self.image.clone()).await?;
        Ok(snapshot_of(&self.image))
    }
}

fn snapshot_of(image: &Image) -> SnapshotOf<RaftTypes, Arc<View>> {
    let meta =
        SnapshotMeta { last_log_id: image.applied.log_id, last_membership: image.applied.membership.clone() };
    Snapshot { meta, snapshot: Arc::clone(&image.view) }
}

/// The network of a group that has one member: there is nobody to call.
struct NoPeers;

impl RaftNetworkFactory<RaftTypes> for NoPeers {
    type Network = Self;
    async fn new_client(&mut self, _: u64, _: &BasicNode) -> Self {
        Self
    }
}

fn nobody() -> Unreachable<RaftTypes> {
    Unreachable::new(&io::Error::other("managers do not yet talk to each other"))
}

impl RaftNetworkV2<RaftTypes> for NoPeers {
    type SnapshotData = Arc<View>;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<RaftTypes>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftTypes>, RPCError<RaftTypes>> {
        Err(RPCError::Unreachable(nobody()))
    }

    async fn vote(
        &mut self,
        _: VoteRequest<RaftTypes>,
        _: RPCOption,
    ) -> Result<VoteResponse<RaftTypes>, RPCError<RaftTypes>> {
        Err(RPCError::Unreachable(nobody()))
    }

    async fn pre_vote(
        &mut self,
        _: VoteRequest<RaftTypes>,
        _: RPCOption,
    ) -> Result<VoteResponse<RaftTypes>, RPCError<RaftTypes>> {
        Err(RPCError::Unreachable(nobody()))
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<RaftTypes>,
        _: SnapshotOf<RaftTypes, Arc<View>>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<RaftTypes>, StreamingError<RaftTypes>> {
        Err(StreamingError::Unreachable(nobody()))
    }
}

/// The files a store consists of, for removal when a node leaves its swarm.
pub(crate) fn files(folder: &Path) -> [PathBuf; 2] {
    [folder.join(LOG_FILE), folder.join(STATE_FILE)]
}
