//! Which node each task runs on.
//!
//! Placement is a function of a snapshot: what nodes can give, minus what the tasks on them reserve, filtered by
//! what a task demands, then the node with the fewest tasks of the service, then with the fewest tasks at all.
//! Tasks of one service and one version of its spec are placed together, so a thousand of them cost little more
//! than one.
//!
//! Invariants: a task is only put on a node that fits it, counting everything placed before it in the same call;
//! a task stays pending only if no node fits; the same input gives the same answer. What stays pending carries
//! the reason, in SwarmKit's words, and is tried again whenever it is handed in again.
//!
//! Not done here: cluster (CSI) volumes, which no node fits.

mod constraint;
mod demand;
mod enforce;
mod explanation;
mod failures;
mod generic;
mod node_state;
mod plugins;
mod scheduler;
mod spread;

#[cfg(test)]
mod enforce_test;
#[cfg(test)]
mod scheduler_test;
#[cfg(test)]
mod test_objects;

pub use constraint::{Constraint, ConstraintError};
pub use enforce::enforce;
pub use scheduler::{Scheduled, Scheduler};
