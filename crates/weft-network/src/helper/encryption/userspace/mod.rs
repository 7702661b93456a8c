//! The engine in user space.
//!
//! ```text
//! TAP device of a network --transmit thread, one a queue--> Train --> UDP sockets (ESP in UDP, RFC 3948)
//! UDP sockets --receive thread, one a queue; the first looks after the peers' keys--> TAP device
//! raw socket --the same for Docker's nodes, once there are any----------------------> TAP device
//! ```
//!
//! It uses threads of its own: packets do not wait for the helper's other work. Plaintext is in this process and in
//! namespaces without a way to the underlay, nowhere else: what the engine cannot encrypt it drops and counts.

mod engine;
mod node;
mod pace;
mod raw;
mod receive;
mod sockets;
mod train;
mod transmit;

pub(super) use engine::Engine;
