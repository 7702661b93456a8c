//! How a member is opened, and its paces.

use std::path::Path;
use std::sync::Arc;

use openraft::{Config, SnapshotPolicy};

use super::Machine;
use super::disk::Disk;
use super::member::MemberNode;
use super::peers::Peers;
use super::transport::Transport;
use crate::seal::Sealer;

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
    pub(crate) disk: Arc<dyn Disk>,
    /// This manager as the others shall know it.
    pub(crate) node: MemberNode,
    /// Where the others are.
    pub(crate) peers: Arc<Peers>,
    /// How they are reached.
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) options: RaftOptions,
}

impl RaftOptions {
    pub(super) fn config(self) -> Config {
        let config = Config {
            cluster_name: "weft".to_owned(),
            // A follower asks for votes once it has heard nothing for the longer timeout plus a random one: a leader
            // that dies is replaced within 1.9 to 2.4 s, and a silence of up to 1.9 s is no death. Heartbeats do not
            // wait for disks.
            heartbeat_interval: 300,
            election_timeout_min: 700,
            election_timeout_max: 1200,
            enable_pre_vote: Some(true),
            // What is committed is not written down: a restarted leader has to ask before it knows.
            enable_leader_restore: Some(false),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_interval),
            max_in_snapshot_log_to_keep: self.log_entries_kept,
            replication_lag_threshold: self.snapshot_interval.max(self.log_entries_kept) * 2,
            ..Config::default()
        };
        config.validate().expect("the constants above fit each other")
    }
}
