//! Checks that need a kernel which most machines that build do not run. `cargo xtask test vm` boots one and runs them.
//!
//! A check is a `#[test]` with `#[ignore = NEEDS_VM]`'s words; everything inside works as in the other end-to-end
//! tests. What needs no special kernel, but should be seen on an older one too, stays where it is and is named in
//! `xtask/src/vm/mod.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apparmor;
mod encryption;
mod ipsec;
mod ipvs;
mod kernel;
mod macvlan;
mod resolver;
mod sctp;

use std::time::Duration;

/// Time in which something happens; the machine multiplies it, because it is emulated and slow.
const SOON: Duration = Duration::from_secs(10);
