//! Weft's networks for containers of other engines.
//!
//! ```text
//! Podman, nerdctl, containerd --CNI--> weft cni (a process a call) --unix socket--> CniFace --> Controller
//! dockerd ------------------------------Docker's plugin protocol--unix socket--> DockerFace --> Controller
//! ```
//!
//! Both ends of the CNI socket are this program; what stands between them is versioned all the same, because a daemon may
//! be older or newer than the program beside it. Faces keep nothing: what was asked for stands in the controller's state.

pub mod cni;
pub mod docker;
mod http;
mod server;

pub use server::{Answer, Face, PluginServer};
