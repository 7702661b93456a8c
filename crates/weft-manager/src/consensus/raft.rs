//! openraft behind [`Consensus`]. Everything that names openraft's types lies in this folder.
//!
//! A member that does not lead forwards what it is asked to the leader and then waits until its own state has come as
//! far: who was answered finds the answer's effect in this manager's view. Nothing is sent a second time unless it is
//! certain that it was not put into a log: whoever computed a transaction computes again from a newer view instead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use openraft::{ChangeMembers, Config, EntryPayload, Raft, RaftMetrics, ServerState, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use weft_wire::weft_v1::{self, Envelope, barrier_response, propose_response};

use super::log_store::LogStore;
use super::machine::StateMachine;
use super::member::{MemberNode, Seat, random_number};
use super::network::Lines;
use super::peers::Peers;
use super::state_file::StateFile;
use super::{
    Consensus, ConsensusError, Leadership, Machine, Member, MembershipChange, StorageError, Verdict, wire,
};
use crate::seal::Sealer;

const LOG_FILE: &str = "raft-log.redb";
const STATE_FILE: &str = "raft-state.redb";
/// Raft id in files that are older than the seat kept in them.
const FIRST_MEMBER: u64 = 1;
/// How long opening waits for the log of a group of one to be applied again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// How long stopping waits for the files to be closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// A request waits this long for a leader to be found, and then for its answer. Longer than an election, shorter
/// than a user's patience.
const LEADER_LIMIT: Duration = Duration::from_secs(4);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a new member may take to come as far as the others before it votes.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// A leader that a quorum has not answered for this long counts as none. More than the pause of a stalled disk costs
/// heartbeats, which are not written.
const QUORUM_LOST: Duration = Duration::from_secs(3);
/// How often the word on leadership is compared with the clock.
const LOOK: Duration = Duration::from_millis(250);

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
        Node = MemberNode,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>,
);

pub(super) type Instance = Raft<RaftTypes, StateMachine>;

/// Paces of the group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RaftOptions {
    pub(crate) snapshot_interval: u64,
    pub(crate) log_entries_kept: u64,
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A new group with this manager as its only member; an old store is opened as it is.
    Found,
    /// The store of a member.
    Resume,
    /// An empty store waits for a leader to fill it; an old one is opened as it is.
    Join,
    /// The store of a member of a group that is given up: it becomes the only member of a new group.
    Alone,
}

/// What a member is made of.
pub(crate) struct Parts<'a> {
    pub(crate) folder: &'a Path,
    /// This manager as the others shall know it.
    pub(crate) node: MemberNode,
    pub(crate) peers: Arc<Peers>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) options: RaftOptions,
}

/// A member of a Raft group.
pub(crate) struct RaftConsensus {
    pub(super) raft: Instance,
    pub(super) seat: Arc<Seat>,
    /// Until the store is closed.
    log: std::sync::Mutex<Option<LogStore>>,
    pub(super) peers: Arc<Peers>,
    own_address: String,
    alone: bool,
    leadership: watch::Receiver<Leadership>,
    watcher: tokio::task::JoinHandle<()>,
    /// Held while the membership changes: one change at a time.
    changing: tokio::sync::Mutex<()>,
    /// Ends when both files are closed.
    files: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl RaftConsensus {
    /// Opens the files in the folder. A group of one is ready when this returns: everything that was ever answered is
    /// applied again. A member of several learns from the others how far to apply. After a failure the files are
    /// closed: who asked may try again at once.
    pub(crate) async fn open(opening: Opening, parts: Parts<'_>) -> Result<Self, ConsensusError> {
        let (log_path, state_path) = (parts.folder.join(LOG_FILE), parts.folder.join(STATE_FILE));
        let (open, mut files) = mpsc::channel(1);
        let sealer = Arc::clone(&parts.sealer);
        let opened = blocking(move || {
            let log = LogStore::open(&log_path, Arc::clone(&sealer), open.clone())?;
            Ok::<_, StorageError>((log, StateFile::open(&state_path, sealer, open)?))
        })
        .await?;
        let begun = match opened {
            Ok((log, state)) => begin(opening, parts, log, state).await,
            Err(error) => Err(error.into()),
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
        let Begun { raft, seat, log, peers, own_address, alone } = begun;
        let (leadership, watcher) = watch_leadership(&raft, &seat);
        Self {
            raft,
            seat,
            log: std::sync::Mutex::new(Some(log)),
            peers,
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

    pub(super) fn log(&self) -> Option<LogStore> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn metrics(&self) -> RaftMetrics<RaftTypes> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Lets a manager in, or takes note of its new address. It votes once it has come as far as the others.
    pub(crate) async fn admit(&self, raft_id: u64, node: MemberNode) -> Result<(), MembershipChange> {
        let _one = self.changing.lock().await;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let known = membership.get_node(&raft_id);
        let voter = membership.voter_ids().any(|id| id == raft_id);
        if voter && known == Some(&node) {
            return Ok(());
        }
        // Before it is agreed on: the agreement may need this very member.
        self.peers.learn(raft_id, &node.addr);
        if known.is_some() && known != Some(&node) {
            self.change(ChangeMembers::SetNodes(BTreeMap::from([(raft_id, node.clone())]))).await?;
        }
        if voter {
            return Ok(());
        }
        // A manager that lost its log comes back with another number: the old one can never vote again.
        let stale = membership.nodes().filter(|(id, it)| **id != raft_id && it.node_id == node.node_id);
        let stale: BTreeSet<u64> = stale.map(|(id, _)| *id).collect();
        for id in stale {
            self.remove(id).await?;
        }
        match timeout(CATCH_UP_LIMIT, self.raft.add_learner(raft_id, node, true)).await {
            Ok(added) => drop(added.map_err(MembershipChange::from_raft)?),
            Err(_) => {
                self.change(ChangeMembers::RemoveNodes(BTreeSet::from([raft_id]))).await?;
                return Err(MembershipChange::Slow);
            }
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([raft_id]))).await
    }

    /// Takes a member out. Safe to repeat.
    pub(crate) async fn expel(&self, raft_id: u64) -> Result<(), MembershipChange> {
        let _one = self.changing.lock().await;
        self.remove(raft_id).await
    }

    /// Hands the leadership to another member, and waits a moment for it to take over.
    pub(crate) async fn hand_over(&self, to: u64) -> Result<(), MembershipChange> {
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|error| MembershipChange::Raft(error.to_string()))?;
        let mut leadership = self.leadership.clone();
        let own = self.seat.raft_id;
        let gone = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != own));
        match timeout(LEADER_LIMIT, gone).await {
            Ok(_) => Ok(()),
            Err(_) => Err(MembershipChange::Slow),
        }
    }

    async fn remove(&self, raft_id: u64) -> Result<(), MembershipChange> {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let removal = BTreeSet::from([raft_id]);
        if membership.voter_ids().any(|id| id == raft_id) {
            return self.change(ChangeMembers::RemoveVoters(removal)).await;
        }
        if membership.get_node(&raft_id).is_some() {
            return self.change(ChangeMembers::RemoveNodes(removal)).await;
        }
        Ok(())
    }

    async fn change(&self, change: ChangeMembers<u64, MemberNode>) -> Result<(), MembershipChange> {
        match timeout(ANSWER_LIMIT, self.raft.change_membership(change, false)).await {
            Ok(changed) => changed.map(drop).map_err(MembershipChange::from_raft),
            Err(_) => Err(MembershipChange::Slow),
        }
    }

    /// Puts a command into the log of this member, which must lead.
    pub(super) async fn propose_here(&self, command: Vec<u8>) -> Result<Verdict, ConsensusError> {
        match timeout(ANSWER_LIMIT, self.raft.client_write(Command(command))).await {
            Ok(Ok(written)) => Ok(written.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(ConsensusError::NotLeader)
            }
            Ok(Err(RaftError::APIError(_))) | Err(_) => Err(ConsensusError::Unconfirmed),
            Ok(Err(RaftError::Fatal(error))) => Err(stopped(error)),
        }
    }

    /// The index up to which a reader must have applied; this member must lead.
    pub(super) async fn barrier_here(&self) -> Result<u64, ConsensusError> {
        match timeout(LEADER_LIMIT, self.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
            Ok(Ok(read)) => Ok(read.read_log_id().index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
                Err(ConsensusError::NotLeader)
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                Err(ConsensusError::NoLeader)
            }
            Ok(Err(RaftError::Fatal(error))) => Err(stopped(error)),
        }
    }

    /// Waits until this member's own state has come as far.
    async fn applied(&self, index: u64) -> Result<(), ConsensusError> {
        let wait = self.raft.wait(Some(ANSWER_LIMIT));
        let applied = wait.applied_index_at_least(Some(index), "answered elsewhere").await;
        applied.map(drop).map_err(|_| ConsensusError::Behind)
    }

    async fn propose_anywhere(&self, command: Vec<u8>) -> Result<Verdict, ConsensusError> {
        let mut leadership = self.leadership.clone();
        let end = Instant::now() + LEADER_LIMIT;
        loop {
            let leader = self.leader();
            let outcome = match &leader {
                Some((id, _)) if *id == self.seat.raft_id => self.propose_here(command.clone()).await,
                Some((id, address)) => self.propose_to(*id, address, command.clone()).await,
                None => Err(ConsensusError::NotLeader),
            };
            match outcome {
                // It is certain that nobody has it: another leader may take it.
                Err(ConsensusError::NotLeader) => wait_change(&mut leadership, end).await?,
                Ok(verdict) => {
                    self.applied(verdict.index).await?;
                    return Ok(verdict);
                }
                other => return other,
            }
        }
    }

    async fn propose_to(
        &self,
        leader: u64,
        address: &str,
        command: Vec<u8>,
    ) -> Result<Verdict, ConsensusError> {
        let Ok(mut client) = self.peers.client(address) else { return Err(ConsensusError::NotLeader) };
        let request = weft_v1::ProposeRequest { envelope: self.envelope(leader), command };
        match timeout(ANSWER_LIMIT, client.propose(request)).await {
            Ok(Ok(response)) => match response.into_inner().answer {
                Some(propose_response::Answer::Verdict(verdict)) => {
                    wire::decode_verdict(&verdict).map_err(|_| ConsensusError::Unconfirmed)
                }
                Some(propose_response::Answer::NotLeader(_)) => Err(ConsensusError::NotLeader),
                None => Err(ConsensusError::Unconfirmed),
            },
            Ok(Err(status)) if was_not_sent(&status) => Err(ConsensusError::NotLeader),
            Ok(Err(_)) | Err(_) => Err(ConsensusError::Unconfirmed),
        }
    }

    async fn barrier_anywhere(&self) -> Result<u64, ConsensusError> {
        let mut leadership = self.leadership.clone();
        let end = Instant::now() + LEADER_LIMIT;
        loop {
            let outcome = match self.leader() {
                Some((id, _)) if id == self.seat.raft_id => self.barrier_here().await,
                Some((id, address)) => self.barrier_of(id, &address, end).await,
                None => Err(ConsensusError::NotLeader),
            };
            match outcome {
                Err(ConsensusError::NotLeader) => wait_change(&mut leadership, end).await?,
                Ok(index) => {
                    self.applied(index).await?;
                    return Ok(index);
                }
                other => return other,
            }
        }
    }

    /// Asking twice is no harm: whatever goes wrong, another leader may be asked.
    async fn barrier_of(&self, leader: u64, address: &str, end: Instant) -> Result<u64, ConsensusError> {
        let Ok(mut client) = self.peers.client(address) else { return Err(ConsensusError::NotLeader) };
        let request = weft_v1::BarrierRequest { envelope: self.envelope(leader) };
        let answer = timeout_at(end, client.barrier(request)).await.map_err(|_| ConsensusError::NoLeader)?;
        match answer.map(|response| response.into_inner().answer) {
            Ok(Some(barrier_response::Answer::Index(index))) => Ok(index),
            _ => Err(ConsensusError::NotLeader),
        }
    }

    fn envelope(&self, to: u64) -> Option<Envelope> {
        let address = self.own_address.clone();
        Some(Envelope { group: self.seat.group(), from: self.seat.raft_id, to, address })
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

/// A leader that dies or steps down is followed by another one within an election: wait for the news, or look again
/// after a moment, because the news may have come before the question.
async fn wait_change(
    leadership: &mut watch::Receiver<Leadership>,
    end: Instant,
) -> Result<(), ConsensusError> {
    if Instant::now() >= end {
        return Err(ConsensusError::NoLeader);
    }
    // Its sender lives as long as this member.
    let _ = timeout(LOOK.min(end - Instant::now()), leadership.changed()).await;
    Ok(())
}

/// Whether a call failed before a connection existed to carry it.
fn was_not_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

async fn take_seat(log: &LogStore, opening: Opening, fresh: bool) -> Result<Seat, ConsensusError> {
    let (raft_id, group) = match log.seat() {
        Some(seat) if opening != Opening::Alone => return Ok(seat),
        Some(seat) => (seat.raft_id, random_number()),
        None if fresh && opening == Opening::Join => (random_number(), 0),
        None if fresh => (random_number(), random_number()),
        None => (FIRST_MEMBER, if opening == Opening::Alone { random_number() } else { 0 }),
    };
    log.save_seat(raft_id, group).await.map_err(stopped)?;
    Ok(Seat::new(raft_id, group))
}

/// Raft on open files.
struct Begun {
    raft: Instance,
    seat: Arc<Seat>,
    log: LogStore,
    peers: Arc<Peers>,
    own_address: String,
    alone: bool,
}

async fn begin(
    opening: Opening,
    parts: Parts<'_>,
    log: LogStore,
    state: StateFile,
) -> Result<Begun, ConsensusError> {
    let Parts { node, peers, machine, options, .. } = parts;
    let fresh = log.is_empty();
    if fresh && matches!(opening, Opening::Resume | Opening::Alone) {
        return Err(ConsensusError::Empty);
    }
    let seat = Arc::new(take_seat(&log, opening, fresh).await?);
    let machine = StateMachine::new(machine, state, Arc::clone(&peers));
    if opening == Opening::Alone {
        machine.stand_alone(&log, seat.raft_id, node.clone()).await.map_err(stopped)?;
    }
    let voters = if fresh { Vec::new() } else { voters_of(&log, &machine) };
    let own_address = node.addr.clone();
    let lines = Lines { seat: Arc::clone(&seat), peers: Arc::clone(&peers), address: own_address.clone() };
    let raft = Raft::new(seat.raft_id, Arc::new(config(options)), lines, log.clone(), machine)
        .await
        .map_err(stopped)?;
    let alone = (fresh && opening == Opening::Found) || voters == [seat.raft_id];
    if alone && let Err(error) = lead_alone(&raft, seat.raft_id, fresh.then_some(node)).await {
        let _ = raft.shutdown().await;
        return Err(error);
    }
    Ok(Begun { raft, seat, log, peers, own_address, alone })
}

/// The only voter need not wait for an election timeout to ask itself, and can be waited for. `founder` begins a group.
async fn lead_alone(raft: &Instance, own: u64, founder: Option<MemberNode>) -> Result<(), ConsensusError> {
    match founder {
        Some(node) => raft.initialize(BTreeMap::from([(own, node)])).await.map_err(stopped)?,
        None => raft.trigger().elect(false).await.map_err(stopped)?,
    }
    raft.wait(Some(RECOVERY_LIMIT)).current_leader(own, "own election").await.map_err(stopped)?;
    raft.wait_for_recovery(Some(RECOVERY_LIMIT)).await.map_err(stopped)?;
    Ok(())
}

/// Who votes by the last word in the files, agreed on or not.
fn voters_of(log: &LogStore, machine: &StateMachine) -> Vec<u64> {
    let (entries, _) = log.everything();
    let last = entries.into_iter().rev().find_map(|entry| match entry.payload {
        EntryPayload::Membership(membership) => Some(membership),
        _ => None,
    });
    last.unwrap_or_else(|| machine.membership()).voter_ids().collect()
}

fn config(options: RaftOptions) -> Config {
    let config = Config {
        cluster_name: "weft".to_owned(),
        // A follower asks for votes once it has heard nothing for the longer timeout plus a random one: a leader that
        // dies is replaced within 1.9 to 2.4 s, and a silence of up to 1.9 s is no death. Heartbeats do not wait for
        // disks.
        heartbeat_interval: 300,
        election_timeout_min: 700,
        election_timeout_max: 1200,
        enable_pre_vote: Some(true),
        // What is committed is not written down: a restarted leader has to ask before it knows.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_interval),
        max_in_snapshot_log_to_keep: options.log_entries_kept,
        replication_lag_threshold: options.snapshot_interval.max(options.log_entries_kept) * 2,
        ..Config::default()
    };
    config.validate().expect("the constants above fit each other")
}

pub(super) fn stopped(error: impl std::fmt::Display) -> ConsensusError {
    ConsensusError::Stopped(error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ConsensusError> {
    tokio::task::spawn_blocking(work).await.map_err(stopped)
}

fn watch_leadership(
    raft: &Instance,
    seat: &Arc<Seat>,
) -> (watch::Receiver<Leadership>, tokio::task::JoinHandle<()>) {
    let mut metrics = raft.metrics();
    let (sender, receiver) = watch::channel(leadership_of(&metrics.borrow_watched(), seat));
    let seat = Arc::clone(seat);
    let watcher = tokio::spawn(async move {
        loop {
            // The silence of a quorum is no change of the metrics.
            if let Ok(Err(_)) = timeout(LOOK, metrics.changed()).await {
                return;
            }
            let now = leadership_of(&metrics.borrow_watched(), &seat);
            sender.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
    });
    (receiver, watcher)
}

fn leadership_of(metrics: &RaftMetrics<RaftTypes>, seat: &Seat) -> Leadership {
    let leading = metrics.state == ServerState::Leader && has_quorum(metrics);
    let leader = match metrics.current_leader {
        Some(id) if id == metrics.id => leading.then_some(id),
        // Raft keeps the last one in mind until there is another.
        other => other.filter(|_| seat.silence() < QUORUM_LOST),
    };
    Leadership { leading, leader, term: metrics.current_term }
}

/// Whether enough members have answered this leader lately.
fn has_quorum(metrics: &RaftMetrics<RaftTypes>) -> bool {
    let voters = metrics.membership_config.membership().voter_ids().count();
    voters <= 1 || metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < QUORUM_LOST)
}

/// The files a store consists of, for removal when a node leaves its swarm.
pub(crate) fn files(folder: &Path) -> [PathBuf; 2] {
    [folder.join(LOG_FILE), folder.join(STATE_FILE)]
}
