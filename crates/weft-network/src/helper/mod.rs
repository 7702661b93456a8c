//! The helper process: what must answer while the daemon is away.
//!
//! One a node, started by the daemon and adopted again after the daemon's restart. It holds the resolver's sockets and
//! the gossip endpoint, encrypts networks, and audits the kernel against the last state it was given while no daemon is connected. It
//! takes no decisions of its own: everything it does follows from the daemon's last wish.
//!
//! A daemon of another build starts a helper of its own build beside the old one; that takes over what is open
//! ([`handover`]), so that no question to a resolver and no message of gossip is lost in between.

mod audit;
mod callers;
pub(crate) mod delta;
mod encryption;
mod gossip;
pub(crate) mod handover;
mod main_loop;
mod own_entries;
pub(crate) mod protocol;
mod renewal;
mod resolvers;
mod streams;

pub use main_loop::helper_main;
pub use protocol::LeaseWish;
