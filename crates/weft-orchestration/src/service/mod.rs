//! The loops that turn services into tasks, with SwarmKit's rules.
//!
//! ```text
//! Orchestrator ── which services, when
//!   └─ Pass: one service, its tasks by slot, what is asked of them
//!        replicated │ global │ replicated_job │ global_job │ removal
//!        scale → restart → update (failure, rollback) → start → orphan → history
//! ```
//!
//! Everything is derived from the [`Snapshot`](crate::Snapshot): spec versions, states, timestamps, update status.
//! What an [`Orchestrator`] remembers is when to look again, and since when the tasks of a running update run, so
//! a new leader's goes on where the old one stopped, and what is proposed twice does no harm.
//!
//! Invariants, also while proposals are refused: a desired state only grows; a slot has one wanted task, or two
//! while a start-first update replaces one; at most `parallelism` slots are in the hands of an update; a task is
//! removed only when nothing runs for it any more, or its node is gone.
//!
//! Not here: placing and enforcing placement (`schedule`), addresses and ports (`allocate`).

mod dirty;
mod global;
mod global_job;
mod history;
mod new_task;
mod orchestrator;
mod orphan;
mod pass;
mod placement;
mod removal;
mod replicated;
mod replicated_job;
mod restart;
mod rules;
mod running_since;
mod slot;
mod start;
mod time;
mod update;
mod update_status;

pub use orchestrator::Orchestrator;
