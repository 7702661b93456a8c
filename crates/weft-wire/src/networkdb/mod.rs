//! NetworkDB: what Docker's nodes gossip about networks, inside memberlist's user messages.
//!
//! [`GossipMessage`] is the envelope; [`PeerRecord`] and [`EndpointRecord`] are the values of the two tables.
//! Invariant: decoding bounds nesting, and one bad part of a compound does not spoil the others.

mod endpoint_record;
mod gossip_message;
mod peer_record;

pub use endpoint_record::{EndpointRecord, IngressPort};
pub use gossip_message::{GossipMessage, Unfolded};
pub use peer_record::PeerRecord;
pub use proto::{
    BulkSyncMessage, NetworkEntry, NetworkEvent, NetworkPushPull, NodeEvent, TableEvent, network_event,
    node_event, table_event,
};

/// Table of tunnel endpoints: key is the endpoint id, value a [`PeerRecord`].
pub const OVERLAY_PEER_TABLE: &str = "overlay_peer_table";
/// Table of names and services: key is the endpoint id, value an [`EndpointRecord`].
pub const ENDPOINT_TABLE: &str = "endpoint_table";

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod proto {
    tonic::include_proto!("networkdb");
}

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod records {
    tonic::include_proto!("libnetwork");
}
