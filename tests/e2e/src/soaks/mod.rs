//! The long proofs of names, virtual IPs and the routing mesh; `cargo xtask soak` plays them.

mod damage;
mod kernel;
mod partitions;
mod updates;

pub use damage::Damages;
pub use partitions::Partitions;
pub use updates::Updates;
