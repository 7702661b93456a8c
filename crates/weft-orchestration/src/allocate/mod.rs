//! What services and tasks hold in the swarm: virtual addresses, published ports, addresses of tasks.
//!
//! Each function completes one object and says what that object needs to hold alone ([`Claim`]) and what it no
//! longer needs; the leader proposes object and claims in one transaction. An object that is complete already is
//! left as it is, so asking again costs nothing, and what a service has stays through its updates as long as its
//! spec still asks for it.
//!
//! Invariants: on an error the object is unchanged; claims and the object's content say the same, so
//! [`service_claims`] and [`task_claims`] are all that it holds.

mod error;
mod networks;
mod ports;
mod service;
mod task;

#[cfg(test)]
mod tests;

use crate::Claim;

pub use error::AllocateError;
pub use networks::predefined_network;
pub use ports::check_ports;
pub use service::{allocate_service, service_claims};
pub use task::{allocate_task, note_failure, task_claims};

/// What goes into the transaction beside an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocated {
    /// The object is not as it was.
    pub is_changed: bool,
    /// To be claimed, with the object as holder.
    pub claims: Vec<Claim>,
    /// Held by the object so far, and to be released.
    pub releases: Vec<Claim>,
}
