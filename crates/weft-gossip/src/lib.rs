//! SWIM membership with Lifeguard, and NetworkDB's tables, as a state machine without I/O.
//!
//! [`Gossip`] is the whole: bytes and times in, [`Effect`]s out. Inside, [`Core`] works on messages and the codec makes
//! bytes of them; simulations use `Core` alone. Both speak what Docker's nodes speak on port 7946
//! (hashicorp/memberlist, moby libnetwork/networkdb).
//!
//! Invariants: an entry changes only by messages of its owner's time line, so replicas that heard the same agree;
//! Lamport clocks and incarnations never go back; every queue is bounded by the number of members and entries;
//! no received message makes it panic.
//! Not done here: sockets, real time, storing snapshots, judging an entry's content (the node above does).

mod codec;
mod config;
mod core;
mod effect;
mod error;
mod gossip;
pub mod message;
mod snapshot;
mod tick;
mod timer_queue;

pub use codec::{Codec, frame_len};
pub use config::{Config, Timing};
pub use core::{Core, CoreEffect};
pub use effect::{
    Effect, EntryView, Event, RequestFailure, RequestId, StreamId, Text, Timer, TimerKind, Word,
};
pub use error::GossipError;
pub use gossip::{Gossip, Rng};
pub use snapshot::{SavedEntry, SavedMember, SavedNetwork, Snapshot};
pub use tick::Tick;
pub use timer_queue::TimerQueue;
pub use weft_wire::memberlist::{GOSSIP_PORT, GossipKey, KeyringChange, KeyringError};
