//! The encrypted data path, without sockets and without a clock.
//!
//! ```text
//! Peer        who talks to whom under which keys: pairing, rotation, retirement. Datagrams and time in, effects out
//! DockerPeer  the same where the other node is Docker's: keys come from the managers alone
//! Sealer      payload -> ESP packet (RFC 4303) with AES-GCM (RFC 4106), framed for UDP (RFC 3948)
//! Opener      ESP packet -> payload, at most once each (not so from Docker's nodes): Window remembers what came
//! frame       Ethernet frame <-> the UDP and VXLAN headers inside a packet
//! offload     the kernel's large frames -> frames that fit the wire
//! Joiner      frames as they came over the wire -> large frames for the kernel
//! ```
//!
//! Invariant: the numbers of a key, from which its initialisation vectors come, are given out in one place, and none
//! twice. A key comes from a pairing to which both sides brought fresh randomness, so neither a restart of a node nor a
//! second pairing can bring a key back. Docker's keys do come back; [`docker`] says what stands in for it there.

mod checksum;
mod cipher;
pub mod docker;
mod error;
pub mod frame;
mod inbound;
mod join;
mod numbers;
pub mod offload;
mod packet;
mod pairing;
mod peer;
#[cfg(test)]
mod samples;
mod segment;
#[cfg(test)]
mod timings;
mod transport;
mod window;

pub use cipher::TrafficKey;
pub use docker::DockerPeer;
pub use error::{Exhausted, Refused};
pub use inbound::Inbound;
pub use join::{Frame, Joiner, Takes};
pub use packet::{
    Association, DOCKER_ICV_LEN, HEADER_LEN, ICV_LEN, NEXT_UDP, NON_ESP_MARKER, Opened, Opener, Sealer,
    payload_of, spi_of,
};
pub use pairing::{Fresh, ManagerKey};
pub use peer::{Effect, Peer, PeerView};
pub use window::Window;
