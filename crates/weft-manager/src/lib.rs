//! The swarm's brain: Raft store, CA, dispatcher, network state, control.
//!
//! ```text
//! control (this process)   gRPC services on the manager port
//!        \                  /      \
//!         v                v        v
//!     authority, network, dispatcher, network_state, drive      compute transactions from a view
//!                    |
//!                    v
//!     core: propose, recompute when refused
//!                    |
//!                    v
//!     consensus (openraft, redb, sealed)  --apply-->  store (views, commits)  --watch-->  streams to nodes
//! ```
//!
//! Invariants: what a node, user or peer is told was committed; addresses, VNIs and subnets are given in the
//! transaction that uses them; a worker changes and sees only what is its own.

mod announce;
mod auth;
mod authority;
mod autolock;
mod brain;
mod clock;
mod config;
mod consensus;
mod control;
mod core;
mod dispatcher;
mod drive;
mod error;
mod init;
mod keys;
mod liveness;
mod logs;
mod manager;
mod membership;
mod network;
mod network_state;
mod notice;
mod office;
mod reconcile;
mod root_rotation;
mod seal;
mod services;
#[cfg(feature = "simulation")]
pub mod simulation;
mod store;
mod taken;
mod verdict;
mod witness;

pub use announce::AnnounceError;
pub use config::{InitOptions, ManagerConfig, Timing};
pub use consensus::{Consensus, ConsensusError, Leadership, Member, StorageError, Verdict};
pub use control::{Control, LogStream, Rotation, ServiceProblem, ServiceStatus};
pub use error::{ControlError, ManagerError, SpecProblem};
pub use manager::Manager;
pub use network_state::{Acknowledged, Turn};
pub use notice::{Notice, Unacknowledged};
pub use seal::{KeyEncryptionKey, KeyFileError, SealError, SealProblem};
pub use store::{Change, Claim, Commit, Object, ObjectKind, Refusal, Transaction, View};
