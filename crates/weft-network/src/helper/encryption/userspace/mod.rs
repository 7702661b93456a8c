//! The engine in user space.
//!
//! ```text
//! TAP devices of the networks --worker, one a queue--> Train --> UDP socket (ESP in UDP, RFC 3948)
//! UDP socket -----------------the same worker------------------> TAP devices
//! raw socket -----------------once there are Docker's nodes----> TAP devices
//! ```
//!
//! It uses threads of its own: packets do not wait for the helper's other work. Plaintext is in this process and in
//! namespaces without a way to the underlay, nowhere else: what the engine cannot encrypt it drops and counts.

mod engine;
mod node;
mod pace;
mod port;
mod raw;
mod receive;
mod sockets;
mod train;
mod worker;

pub(super) use engine::Engine;
