//! The routing mesh: how a connection from outside comes to a task and back (design, decision 7).
//!
//! ```text
//! client --> host of node A ----DNAT, mark----> weft-ingress ==veth==> ingress network's namespace of A
//!            (any address)                      (MAC of node A)              | VXLAN, or straight to a local port
//!                                                                            v
//!            task: frames from A's MAC get mark A; answers with mark A take route A: next hop = A's MAC
//! ```
//!
//! The client's address stays as it is all the way: nothing is translated but the destination, on the node where the
//! connection came in, and answers go back through that node because the task remembers it. Nothing here costs an
//! address of the network: a node is known by its tunnel endpoint, from which its Ethernet address, its mark and
//! its next hop follow ([`EntryNode`]).
//!
//! Translated as well is the source: for tasks on Docker's nodes, which answer to addresses of the network only, and
//! where a service asks for it (both to the node's load-balancer address); and for connections from the node's own
//! loopback and from its containers, whose addresses mean nothing elsewhere (to the node's address).

mod entry;
mod host;
mod spread;
mod task;

pub use entry::EntryNode;
pub use host::{INGRESS_LINK, IngressBackend, IngressHost, MeshPort};
pub use task::{IngressTask, TaskPort};
