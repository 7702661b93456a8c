//! A group of managers in virtual time: the real consensus, store and allocator, several members in one process.
//!
//! One seed decides everything: what the network loses and delays, which disks are slow, who crashes and when, what
//! users do. Time is tokio's paused clock, which moves on when nothing is left to do; calls between members go through
//! [`wire`], files lie on a [`disk`] that forgets what was not synced.
//!
//! Invariants, checked after every message, every applied command and every answer ([`checker`]):
//! * one leader per term, where a term is openraft's: a number and the candidate that won it;
//! * an index and a term name one entry, wherever it is seen;
//! * what one member applied at an index is what every member applies there: nothing committed is lost or changed;
//! * states of equal index are equal;
//! * no address has two holders;
//! * strict serializability: an answer's index is not below that of any answer given before the question was asked,
//!   over all members, reads (a barrier, then the view) and writes alike; who was answered sees the effect;
//! * what was answered with "nothing was changed" is in no log.
//!
//! Once nothing disturbs any more, within [`bound`]: all members know one leader, every member's changes go through,
//! and all states are equal.
//!
//! Not simulated: TLS, the manager's other services, a disk that lies about syncs or loses all it has.

mod act;
mod checker;
mod client;
mod disk;
mod host;
mod outcome;
mod plan;
mod state;
mod wire;
mod world;

pub use outcome::{Counts, Failure, Outcome};
pub use plan::{Mistake, Plan, bound};
pub use world::{run, run_traced};
