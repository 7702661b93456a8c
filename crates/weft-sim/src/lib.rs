//! Virtual time, network and faults: gossip here, services in [`swarm`], managers in [`weft_manager::simulation`],
//! which needs what only they see of themselves.
//!
//! One seed decides everything: delays, losses, crashes, what nodes do and when. [`run`] builds a cluster of gossip
//! nodes, disturbs it, lets it rest, and reports whether every node came to know what is true within [`bound`].
//!
//! Invariants, checked after every event:
//! * a node tells only values that their owner wrote, under the owner's name;
//! * it tells changes only, and ends only what it told;
//! * Lamport clocks never go back;
//! * queues hold at most one piece of news per subject.
//!
//! Not simulated: encryption (a sample of seeds runs every message through the codec), bandwidth, clock drift.

mod acts;
mod checker;
mod delivery;
mod faults;
mod outcome;
mod plan;
mod schedule;
mod soak;
pub mod swarm;
mod world;

pub use outcome::{Counts, Outcome};
pub use plan::{Plan, bound};
pub use soak::{Soak, SoakReport, Subject, soak};
pub use weft_manager::simulation::Failure;
pub use world::{run, run_traced};
