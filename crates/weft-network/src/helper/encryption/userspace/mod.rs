//! The engine in user space.
//!
//! ```text
//! TAP device of a network --transmit thread, one a device--> Train --> UDP socket (ESP in UDP, RFC 3948)
//! UDP socket --receive thread, which also looks after the peers' keys--> TAP device
//! raw socket --the same for Docker's nodes, once there are any------------> TAP device
//! ```
//!
//! It uses threads of its own: packets do not wait for the helper's other work. Plaintext is in this process and in
//! namespaces without a way to the underlay, nowhere else: what the engine cannot encrypt it drops and counts.

mod engine;
mod node;
mod pace;
mod raw;
mod receive;
mod train;
mod transmit;

pub(super) use engine::Engine;
