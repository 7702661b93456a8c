//! The long proofs on real hosts; `cargo xtask soak` plays them.

mod crashes;
mod damage;
mod errands;
mod kernel;
mod leaks;
mod outage;
mod partitions;
mod restarts;
mod updates;

pub use crashes::Crashes;
pub use damage::Damages;
pub use leaks::Leaks;
pub use outage::Outage;
pub use partitions::Partitions;
pub use restarts::Restarts;
pub use updates::Updates;
