//! The engine that is the kernel's ESP.
//!
//! ```text
//! VXLAN device of a network, source ports of a block --policy of that block--> association --> wire
//! wire --UDP socket that gives ESP to the kernel--> association --> VXLAN device
//! the same socket, datagrams with the non-ESP marker --> this thread: keys
//! ```
//!
//! No packet passes through this process: it agrees on keys, gives them to the kernel, and watches what became of them.
//!
//! Invariants:
//! - A policy that forbids everything from the block stands before the first device is made ([`weft_kernel`] sees to
//!   it) and always after; what may be sent is an exception from it, for one node, by one association.
//! - A key is given to the kernel once. An association that somebody removed is not put back, which would begin its
//!   sequence numbers and its window anew: the nodes agree on another one.
//! - Associations of an earlier helper carry packets until new ones do.

mod driver;
mod engine;
mod node;
mod tables;

pub(super) use engine::Engine;
pub(super) use tables::clean_up;
