//! What the BPF programs of a node shall carry past the bridges (design: BPF engine).
//!
//! The fast path is additive: programs on devices that are there anyway. A packet that no program takes goes the
//! bridge's way, so that a network works before, without and after it, and everything odd (ARP, broadcast, fragments,
//! unknown stations) never has to be understood twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_types::{MacAddr, Vni};

use crate::{LinkName, NamespaceRef, OverlayNetwork};

/// The fast path of a node: which frames take it, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastPath {
    /// This node's data-path address.
    pub vtep: IpAddr,
    /// UDP port of the data path, one for the whole swarm.
    pub port: u16,
    /// The namespace the tunnels leave from.
    pub host: NamespaceRef,
    /// The interfaces of the host's namespace that tunnel packets come in by: those that carry the data-path address.
    pub underlay: BTreeSet<LinkName>,
    /// The segments that have a fast path here.
    pub segments: BTreeMap<Vni, FastSegment>,
}

/// One segment of an overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastSegment {
    /// The network's namespace.
    pub namespace: NamespaceRef,
    /// How frames leave it for other nodes.
    pub way_out: WayOut,
    /// The bridge's ports in that namespace, each with the station behind it: containers', and the routing mesh's.
    pub ports: BTreeMap<LinkName, MacAddr>,
    /// The stations on other nodes, each with its tunnel endpoint.
    pub remote: BTreeMap<MacAddr, IpAddr>,
}

/// How frames leave a segment for other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WayOut {
    /// In the clear, by a veth pair between the network's namespace and the host's, without addresses. What comes in by the
    /// outer end is a program's alone; the inner one may be a port of the bridge, which then takes what no program does.
    Uplink {
        /// Its end in the network's namespace.
        inside: LinkName,
        /// Its end in the host's.
        outside: LinkName,
    },
    /// By a device of the network's namespace that another engine serves: the TAP of a network that is encrypted in
    /// user space. Frames for it go in as they are, and its own are delivered.
    Device(LinkName),
    /// Not by the fast path: frames between this node's own endpoints take it, others the bridge.
    None,
}

impl FastSegment {
    /// Whether what is delivered to a port is sent on from there to other interfaces of the host. The kernel's own tunnel
    /// device forgets what it knew of the tunnel when it unpacks; a program cannot, and what was joined from several
    /// packets would confuse an interface that can cut tunnel packets by itself.
    pub fn forwards(port: &LinkName) -> bool {
        *port == OverlayNetwork::entry_name()
    }
}
