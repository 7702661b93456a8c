//! The loops that turn services into tasks.
//!
//! Everything is derived from the [`Snapshot`]: spec versions, states, timestamps, update status. What an
//! [`Orchestrator`] remembers is only when to look again, so a new leader's goes on where the old one stopped,
//! and what is proposed twice does no harm.

mod orchestrator;

pub use orchestrator::Orchestrator;
