//! Hosts as network namespaces on one machine: for `weft lab`, the demo, the end-to-end tests and benchmarks.
//!
//! A lab is an underlay namespace (a bridge, or a router with one subnet per host) and hosts connected to it. A host
//! has its own network, mount and UTS namespace, a private `/run`, and a folder for a daemon's state. Nothing of a lab
//! touches the machine's own network, so labs with the same addresses run side by side.
//!
//! Everything a lab made can be removed from what it wrote down, also by a later process ([`Lab::open`]), and
//! dropping a [`Lab`] removes it unless [`Lab::keep`] was called.
//!
//! Not done here: loss and delay (this kernel has no netem), and anything that knows what a container is.

mod busybox;
mod capture;
mod daemon;
mod error;
mod host;
mod lab;
mod processes;
mod spec;
mod tool;
mod wait;

pub use busybox::busybox_rootfs;
pub use capture::Capture;
pub use daemon::{Daemon, DaemonSpec};
pub use error::LabError;
pub use host::Host;
pub use lab::Lab;
pub use spec::{LabSpec, Topology};
pub use wait::{eventually, patient, until};
