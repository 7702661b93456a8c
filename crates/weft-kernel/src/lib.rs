//! The only door to the kernel: namespaces, links, addresses, routes, forwarding and neighbour tables, nftables, ESP.
//!
//! ```text
//! Netns            a namespace: made and pinned by a file, opened, entered by fresh threads only
//! Kernel::open     netlink sockets made inside it, driven by the caller's runtime
//!   .observe()     reads what is there
//!   .apply(ops)    carries out a difference; goes on after errors and returns them all
//!   .reconcile()   observe, diff, apply
//! Monitor          word that something in a namespace changed
//! load_syscall_filter  a filter of system calls for the calling thread
//! ```
//!
//! Invariant: no thread of the caller ever changes its namespace. Entering happens on a fresh thread that then ends, so
//! neither a runtime's worker nor its blocking pool can be left behind in a foreign namespace.

mod apply;
mod bpf;
mod capabilities;
mod change;
mod conntrack;
mod counters;
mod elements;
mod error;
mod ipvs;
mod kernel;
mod link_settings;
mod message;
mod monitor;
mod netfilter;
mod netns;
mod nft;
mod observe;
mod seccomp;
mod signals;
mod socket;
mod steering;
mod sub_interface;
mod sysctl;
mod tap;
mod unread;
mod xfrm;

pub use apply::Report;
pub use bpf::{
    Attachment, ConnectCounters, ConnectEngine, ConnectError, ConnectReport, FastPathCounters,
    FastPathEngine, FastPathError, FastPathReport,
};
pub use capabilities::Capabilities;
pub use change::Change;
pub use conntrack::ConntrackFilter;
pub use counters::{LinkCounters, NftCounter};
pub use error::{ApplyError, KernelError, NetnsError};
pub use kernel::Kernel;
pub use monitor::Monitor;
pub use netns::Netns;
pub use seccomp::load_syscall_filter;
pub use signals::reset_signals;
pub use steering::{Steering, SteeringError, all_processors, same_processors};
pub use tap::Tap;
pub use unread::all_is_read;
pub use xfrm::{EspPolicy, EspState, SeenState, StateId, TunnelPackets, Way, Xfrm, take_esp_in_udp};
