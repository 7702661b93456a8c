//! Agreement between managers on one order of commands, behind a trait of our own.
//!
//! ```text
//! propose(command) -> log (fsync, group commit) -> committed -> Machine::apply, in log order -> Verdict to the proposer
//!                                                             \-> every N entries: Machine::image -> state file -> log purge
//! ```
//!
//! Invariants: a command is answered only after it is durable on a quorum and applied; commands are applied in log
//! order, each exactly once per life of the process, beginning at the last image. Not here: what a command means
//! (`store`), and who may be a member (`membership`).

mod asking;
mod changes;
mod convert;
mod disk;
mod inbound;
mod leadership;
mod log_store;
mod machine;
#[cfg(test)]
mod measure_test;
mod member;
mod network;
mod open;
mod options;
#[cfg(feature = "simulation")]
mod ordered_watch;
mod peers;
mod raft;
mod randomness;
mod runtime;
#[cfg(any(test, feature = "simulation"))]
mod simulated_disk;
mod snapshot;
mod state_file;
mod transport;
mod types;
mod wire;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub(crate) use disk::Files;
pub(crate) use member::MemberNode;
pub(crate) use open::files;
pub(crate) use options::{Opening, Parts, RaftOptions};
pub(crate) use peers::Peers;
pub(crate) use raft::RaftConsensus;
#[cfg(feature = "simulation")]
pub(crate) use {
    disk::Disk,
    randomness::seed,
    simulated_disk::Platter,
    transport::{Call, CallError, Transport},
};

use crate::store::{Refusal, View};

/// Why there is no verdict. The command may or may not have been applied unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// Nothing was changed: this manager is not the leader.
    #[error("rpc error: code = Unavailable desc = this manager is not the leader of the swarm")]
    NotLeader,
    /// Nothing was changed: too few managers can be reached, or they have not agreed yet.
    #[error(
        "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are \
         online. Make sure more than half of the managers are online."
    )]
    NoLeader,
    /// The command may or may not take effect: the leader was lost before it answered.
    #[error(
        "rpc error: code = Unavailable desc = the managers did not confirm the change in time; it may have been made \
         or not"
    )]
    Unconfirmed,
    /// The command took effect, and this manager does not see it yet.
    #[error("rpc error: code = Unavailable desc = this manager is behind the leader of the swarm")]
    Behind,
    /// There is no store yet.
    #[error("the store is empty")]
    Empty,
    /// Raft has stopped; the reason is in the log.
    #[error("the swarm's store has stopped: {0}")]
    Stopped(String),
    /// The files of the store cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The store's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database file cannot be opened or made.
    #[error("open {}", path.display())]
    Open {
        /// Which one.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: redb::Error,
    },
    /// A record cannot be opened.
    #[error(transparent)]
    Sealed(#[from] crate::seal::SealError),
    /// The data key cannot be read.
    #[error(transparent)]
    Key(#[from] crate::seal::KeyFileError),
    /// Reading or writing failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The members were not changed as wanted; they may be changed in part, and asking again is safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MembershipChange {
    /// Only the leader can.
    #[error("this manager is not the leader of the swarm")]
    NotLeader,
    /// A member does not answer, or too few.
    #[error("the managers did not agree in time")]
    Slow,
    /// Another change is under way, or Raft has stopped.
    #[error("{0}")]
    Raft(String),
}

impl MembershipChange {
    fn from_raft(
        error: openraft::errors::RaftError<
            types::RaftTypes,
            openraft::errors::ClientWriteError<types::RaftTypes>,
        >,
    ) -> Self {
        use openraft::errors::{ClientWriteError, RaftError};
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Self::NotLeader,
            other => Self::Raft(other.to_string()),
        }
    }
}

/// What applying a command said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// Raft index of the command.
    pub index: u64,
    /// Why nothing was changed, or none if the command took effect.
    pub refusal: Option<Refusal>,
}

/// Who leads, by the word of this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Whether this member leads.
    pub leading: bool,
    /// Raft id of the leader, if known.
    pub leader: Option<u64>,
    /// Raft term.
    pub term: u64,
}

/// A manager in the Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Raft id.
    pub raft_id: u64,
    /// Node id in the swarm; empty for one that has not said it yet.
    pub node_id: String,
    /// `address:port` of its manager port.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
}

/// An agreed order of commands.
pub trait Consensus: Send + Sync {
    /// Puts a command into the log, of the leader wherever it is; answers after it was applied here.
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Verdict, ConsensusError>>;
    /// Waits until this manager's state has everything that was answered anywhere before this call.
    fn barrier(&self) -> BoxFuture<'_, Result<u64, ConsensusError>>;
    /// Changes of leadership.
    fn subscribe(&self) -> watch::Receiver<Leadership>;
    /// The members of the group.
    fn membership(&self) -> Vec<Member>;
    /// Stops; open proposals fail.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// What commands are applied to. Deterministic: equal commands in equal order give equal images.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Applies one command.
    fn apply(&self, index: u64, command: &[u8]) -> Option<Refusal>;
    /// Everything applied so far has been applied: tell watchers.
    fn flush(&self);
    /// The whole state, cheaply.
    fn image(&self) -> Arc<View>;
    /// Replaces the state.
    fn restore(&self, image: Arc<View>);
}
