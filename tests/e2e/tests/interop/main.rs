//! One swarm, two engines: the same scenarios in every cell of {manager: Weft, Docker} × {worker: Weft, Docker}.
//!
//! Black boxes over the unmodified `docker` CLI. The cell with Docker on both sides shows that a scenario itself is
//! right; what this kernel keeps Docker from doing (its load balancer needs IPVS, its encryption ESP) is tested in the
//! virtual machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cell;
mod faults;
mod identity;
mod mesh;
mod migration;
mod names;
mod nodes;
mod tasks;
