//! Bytes on the wire, and nothing else: no sockets, no clock, no randomness.
//!
//! * [`swarmkit`]: SwarmKit's messages with clients and servers, package `docker.swarmkit.v1`.
//! * [`weft_v1`]: our own services beside them, `weft.v1.NetworkState` and, between managers, `weft.v1.Consensus`.
//! * [`memberlist`]: datagrams and streams of gossip. [`networkdb`]: what rides in them.
//! * [`vxlan`]: the header of the overlay's frames.

mod error;
pub mod memberlist;
pub mod networkdb;
pub mod vxlan;

pub use error::WireError;

/// Generated from `proto/docker/swarmkit/v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod swarmkit {
    tonic::include_proto!("docker.swarmkit.v1");
}

/// Generated from `proto/weft/v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod weft_v1 {
    tonic::include_proto!("weft.v1");
}
