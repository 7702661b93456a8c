//! Service tasks: what the managers want to run here, and the containers that do.
//!
//! `machine` decides in the terms of `words`, one per task, without I/O; `worker` feeds the machines and carries their effects out over a
//! [`runtime::TaskRuntime`]; `engine` is that on this node's engine.

pub(crate) mod engine;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod naming;
#[cfg(test)]
pub(crate) mod pretended;
pub(crate) mod runtime;
pub(crate) mod words;
pub(crate) mod worker;
