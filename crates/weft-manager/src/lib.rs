//! The swarm's brain: Raft store, CA, dispatcher, network state, control.

mod config;
mod consensus;
mod control;
mod error;
mod manager;
mod seal;
mod store;

pub use config::{InitOptions, ManagerConfig, Timing};
pub use consensus::{Consensus, ConsensusError, Leadership, Member, StorageError, Verdict};
pub use control::{Control, Rotation};
pub use error::{ControlError, IpamProblem, ManagerError, SpecProblem};
pub use manager::Manager;
pub use seal::{KeyEncryptionKey, SealError, SealProblem};
pub use store::{Change, Claim, Commit, Object, ObjectKind, Refusal, Transaction, View};
