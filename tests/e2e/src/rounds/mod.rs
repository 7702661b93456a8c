//! Rounds of faults on a swarm of real hosts: three managers, three workers, everything an acknowledged command said
//! must be there afterwards.
//!
//! A round is users' commands to any manager while one kind of fault happens, then the end of all faults, then the
//! wait until what runs is exactly what the store wishes, then the look at everything that must hold
//! ([`audit`]). A few rounds run in CI, hundreds in `cargo xtask soak quorum`.
//!
//! Not here: jumps of the clock. The machine's clock is one for all and no namespace has its own; they are part of the
//! simulation in virtual time.

mod arena;
mod audit;
mod fault;
mod model;
mod soak;

pub use arena::Arena;
pub use fault::Fault;
pub use soak::Quorum;
