//! A swarm in virtual time: leaders come and go, nodes work, fail and are cut off, users change their minds.
//!
//! The loops, the allocator and the scheduler are the real ones. The store is the one in memory, with the claims of
//! transactions; a leader computes from the newest state, but what it proposes takes effect later, so that others'
//! writes come in between. Nodes are modelled: they do what they are assigned, late, and report it, later.
//!
//! Invariants, checked after every transaction:
//! * no address and no port has two holders, and what lives has what it holds;
//! * a task's state never goes back;
//! * a slot of a service has one wanted task, two while it starts the next one first.
//!
//! When nothing disturbs any more, within [`bound`]: each service has exactly its tasks, running, of the newest spec,
//! on nodes that may have them; containers are those of the store; nothing else holds an address.
//!
//! Not simulated: Raft itself. A proposal of a leader that is deposed takes effect or is lost, as in Raft, before the
//! next leader begins.

mod disturb;
mod leader;
mod objects;
mod rules;
mod store;
mod worker;
mod world;

pub use world::{SwarmCounts, SwarmOutcome, SwarmPlan, bound, run};
