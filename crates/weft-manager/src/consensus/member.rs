//! Who is a member of the group, and which member this manager is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::randomness;

/// What the membership says of one member, beside its raft id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct MemberNode {
    /// Node id in the swarm; empty in files older than manager join.
    #[serde(default)]
    pub(crate) node_id: String,
    /// `address:port` of its manager port.
    pub(crate) addr: String,
}

impl std::fmt::Display for MemberNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.node_id, self.addr)
    }
}

/// This manager's place in a group, kept with its log: who loses the log loses the place, because its votes are lost
/// with it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Never given twice within a group.
    pub(crate) raft_id: u64,
    /// Made anew with each group; 0 until a leader has told a manager that joins.
    group: AtomicU64,
    /// When a leader was last heard of.
    heard: Mutex<Instant>,
}

impl Seat {
    pub(crate) fn new(raft_id: u64, group: u64) -> Self {
        Self { raft_id, group: AtomicU64::new(group), heard: Mutex::new(Instant::now()) }
    }

    pub(crate) fn group(&self) -> u64 {
        self.group.load(Ordering::Relaxed)
    }

    /// How long ago a leader was heard of; since this manager's start if none was.
    pub(super) fn silence(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// A leader was heard of just now.
    pub(super) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Takes a place in a group.
    pub(super) fn enter(&self, group: u64) {
        self.group.store(group, Ordering::Relaxed);
    }
}

/// A number that no other member and no other group has: 63 bits, as SwarmKit's raft ids, and never 0.
pub(crate) fn random_number() -> u64 {
    (randomness::number() >> 1).max(1)
}
