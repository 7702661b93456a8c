//! One swarm, two engines: the same scenarios in every cell of {manager: Weft, Docker} × {worker: Weft, Docker}.
//!
//! Black boxes over the unmodified `docker` CLI. The cell with Docker on both sides shows that a scenario itself is
//! right; what most machines' kernels keep Docker from doing (its load balancer needs IPVS, its encryption ESP) is
//! ignored here and runs in the virtual machine: one cell of `across` in every run, all by `cargo xtask soak interop`, or
//! one of it by `WEFT_VM_ONLY=name cargo xtask test vm`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod across;
mod cell;
mod faults;
mod identity;
mod mesh;
mod migration;
mod names;
mod nodes;
mod outage;
mod tasks;
