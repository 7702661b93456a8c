//! Shared pieces of the end-to-end tests: hosts with daemons, and the command lines that drive them.
//!
//! Every test has a lab of its own, named after it. The tests see what a user sees: the unmodified `docker` CLI,
//! `weft`, and the wire.

pub mod api;
pub mod balance;
mod certificates;
mod command;
mod dice;
pub mod dns;
mod holdings;
mod hosts;
mod load;
mod pause;
mod probe;
mod recording;
mod registry;
pub mod rotations;
pub mod rounds;
pub mod services;
pub mod slices;
pub mod soaks;
pub mod updates;

pub use certificates::Authority;
pub use command::{Failed, Words, refusal};
pub use dice::Dice;
pub use hosts::{Hosts, weft_exe};
pub use probe::{Ping, ping};
pub use recording::Recording;
pub use registry::Registry;
