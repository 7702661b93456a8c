//! Allocation as functions over a store snapshot: subnets, VXLAN network identifiers, addresses, MTU.
//!
//! The leader computes an allocation from what the store says is taken ([`Taken`]) and proposes it as explicit
//! writes plus [`Claim`]s in one Raft transaction; the store refuses claims that were taken meanwhile and the
//! leader computes again. So the store alone decides; [`Allocator`] only remembers in which order to try.
//!
//! Invariants: an address is given to one holder at a time, lies in its network's subnet and range, and is never
//! the gateway, a reserved address, or (IPv4) the network or broadcast address; what is freed can be given again,
//! but only after everything that was never given. No clock, no randomness, no I/O.

mod address;
mod allocate;
mod allocator;
mod claim;
mod error;
mod mtu;
mod network;
mod node_engine;
mod pipeline;
mod placeholder;
mod pools;
mod rotation;
mod schedule;
mod service;
mod snapshot;
mod subnet;
mod taken;
pub mod testing;
mod ula;

pub use address::AddressAllocation;
pub use allocate::{
    AllocateError, Allocated, allocate_service, allocate_task, check_ports, note_failure, predefined_network,
    service_claims, task_claims,
};
pub use allocator::{Allocator, AllocatorConfig};
pub use claim::Claim;
pub use error::AllocationError;
pub use mtu::{
    MTU_OPTION, MTU_OPTION_GENERIC, MtuChoice, NodeMtu, carry_mtu, choose_mtu, is_encrypted, mtu_option,
    too_small,
};
pub use network::{NetworkAllocation, VXLAN_ID_LIST_OPTION, network_vnis, subnet_clash};
pub use node_engine::NodeEngine;
pub use pipeline::{Pipeline, Proposal};
pub use placeholder::{
    Lookup, Malformed, PlaceholderFunctions, PlaceholderMistake, PlaceholderNode, Placeholders,
    check_placeholders,
};
pub use pools::{AddressPools, PoolError};
pub use schedule::{Constraint, ConstraintError, Scheduled, Scheduler, enforce};
pub use service::Orchestrator;
pub use snapshot::{Change, Dirty, Objects, Snapshot, is_waiting};
pub use taken::{InUse, Taken, TakenSince};
pub use ula::UlaPrefix;
