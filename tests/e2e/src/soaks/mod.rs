//! The long proofs of names, virtual IPs and the routing mesh; `cargo xtask soak` plays them.

mod damage;
mod kernel;
mod outage;
mod partitions;
mod restarts;
mod updates;

pub use damage::Damages;
pub use outage::Outage;
pub use partitions::Partitions;
pub use restarts::Restarts;
pub use updates::Updates;
