//! openraft behind [`Consensus`]. Everything that names openraft's types lies in this folder.
//!
//! How it is opened: `open`; what it is asked, and by whom: `asking`, `inbound`; who is a member: `changes`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use openraft::RaftMetrics;
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::leadership::watch_leadership;
use super::log_store::LogStore;
use super::member::Seat;
use super::open::{Begun, OpenFiles, begin};
use super::options::{Opening, Parts};
use super::peers::Peers;
use super::transport::Transport;
use super::types::{Instance, RaftTypes};
use super::{Consensus, ConsensusError, Leadership, Member, Verdict};

/// How long stopping waits for the files to be closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// A request waits this long for a leader to be found, and then for its answer. Longer than an election, shorter
/// than a user's patience.
pub(super) const LEADER_LIMIT: Duration = Duration::from_secs(4);
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A member of a Raft group.
pub(crate) struct RaftConsensus {
    pub(super) raft: Instance,
    pub(super) seat: Arc<Seat>,
    /// Until the store is closed.
    log: std::sync::Mutex<Option<LogStore>>,
    pub(super) peers: Arc<Peers>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) own_address: String,
    alone: bool,
    pub(super) leadership: watch::Receiver<Leadership>,
    watcher: tokio::task::JoinHandle<()>,
    /// Held while the membership changes: one change at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Ends when both files are closed.
    files: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl RaftConsensus {
    /// Opens the files in the folder. A group of one is ready when this returns: everything that was ever answered is
    /// applied again. A member of several learns from the others how far to apply. After a failure the files are
    /// closed: who asked may try again at once.
    pub(crate) async fn open(opening: Opening, parts: Parts<'_>) -> Result<Self, ConsensusError> {
        let (open, mut files) = mpsc::channel(1);
        let (disk, sealer) = (Arc::clone(&parts.disk), Arc::clone(&parts.sealer));
        let begun = match OpenFiles::open(parts.folder, disk, sealer, open).await {
            Ok(opened) => begin(opening, parts, opened).await,
            Err(error) => Err(error),
        };
        match begun {
            Ok(begun) => Ok(Self::new(begun, files)),
            Err(error) => {
                // The log's writer closes its file a moment after it was let go.
                let _ = timeout(CLOSE_LIMIT, files.recv()).await;
                Err(error)
            }
        }
    }

    fn new(begun: Begun, files: mpsc::Receiver<()>) -> Self {
        let Begun { raft, seat, log, peers, transport, own_address, alone } = begun;
        let (leadership, watcher) = watch_leadership(&raft, &seat);
        Self {
            raft,
            seat,
            log: std::sync::Mutex::new(Some(log)),
            peers,
            transport,
            own_address,
            alone,
            leadership,
            watcher,
            changing: tokio::sync::Mutex::default(),
            files: tokio::sync::Mutex::new(files),
        }
    }

    /// This member's number.
    pub(crate) fn raft_id(&self) -> u64 {
        self.seat.raft_id
    }

    /// Whether it was the only one that votes when its files were opened.
    pub(crate) fn was_alone(&self) -> bool {
        self.alone
    }

    /// The group's number, for a manager that joins.
    pub(crate) fn group(&self) -> u64 {
        self.seat.group()
    }

    /// The leader's number and `address:port`, if one is known.
    pub(crate) fn leader(&self) -> Option<(u64, String)> {
        let leader = self.leadership.borrow().leader?;
        let metrics = self.metrics();
        let recorded = || Some(metrics.membership_config.membership().get_node(&leader)?.addr.clone());
        Some((leader, self.peers.address_of(leader).or_else(recorded)?))
    }

    /// The members' last signs of life, by the leader's word; none where it does not lead or heard nothing yet.
    pub(crate) fn last_heard(&self) -> BTreeMap<u64, Option<Duration>> {
        let heartbeat = self.metrics().heartbeat.unwrap_or_default();
        heartbeat.into_iter().map(|(id, at)| (id, at.map(|at| at.elapsed()))).collect()
    }

    /// Whether it has given up: a disk that takes nothing any more ends a member. Opened anew it goes on.
    pub(crate) fn has_failed(&self) -> bool {
        self.metrics().running_state.is_err()
    }

    /// Writes an image of the state, which is otherwise done every so many entries.
    #[cfg(feature = "simulation")]
    pub(crate) async fn take_image(&self) {
        // A member that stops takes none.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// What it knows of itself and the others, to find out why they do not agree.
    #[cfg(feature = "simulation")]
    pub(crate) fn describe(&self) -> String {
        self.metrics().to_string()
    }

    pub(super) fn log(&self) -> Option<LogStore> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn metrics(&self) -> RaftMetrics<RaftTypes> {
        self.raft.metrics().borrow_watched().clone()
    }
}

impl Drop for RaftConsensus {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Consensus for RaftConsensus {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Verdict, ConsensusError>> {
        self.propose_anywhere(command).boxed()
    }

    fn barrier(&self) -> BoxFuture<'_, Result<u64, ConsensusError>> {
        self.barrier_anywhere().boxed()
    }

    fn subscribe(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn membership(&self) -> Vec<Member> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        membership
            .nodes()
            .map(|(id, node)| Member {
                raft_id: *id,
                node_id: node.node_id.clone(),
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
            drop(self.log.lock().unwrap_or_else(PoisonError::into_inner).take());
            if timeout(CLOSE_LIMIT, self.files.lock().await.recv()).await.is_err() {
                tracing::warn!("the store's files are still open");
            }
        }
        .boxed()
    }
}

pub(super) fn stopped(error: impl std::fmt::Display) -> ConsensusError {
    ConsensusError::Stopped(error.to_string())
}
