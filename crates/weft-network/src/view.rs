//! What callers see: endpoints and sandboxes as they stand.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::swarm::IngressPort;
use serde::{Deserialize, Serialize};
use weft_types::{ContainerId, EndpointAddress, EndpointId, MacAddr, NetworkId, PortMapping, TaskId};

/// A sandbox that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxView {
    /// Its id: 64 hexadecimal digits; empty for the host's namespace.
    pub id: String,
    /// File that pins the namespace; `None` for the host's.
    pub netns: Option<PathBuf>,
    /// To mount at `/etc/hosts`.
    pub hosts: PathBuf,
    /// To mount at `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// To mount at `/etc/hostname`.
    pub hostname: PathBuf,
    /// Published ports as bound.
    pub ports: Vec<PortMapping>,
}

/// An endpoint that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Its id.
    pub id: EndpointId,
    /// Its network.
    pub network_id: NetworkId,
    /// Its network's name.
    pub network: String,
    /// Whose it is.
    pub container: ContainerId,
    /// How network listings call it: the container's name, `gateway_…` on the gateway bridge.
    pub name: String,
    /// IPv4 address.
    pub address: Option<EndpointAddress>,
    /// IPv6 address.
    pub address6: Option<EndpointAddress>,
    /// The network's IPv4 router; not for overlay networks.
    pub gateway: Option<IpAddr>,
    /// The network's IPv6 router; not for overlay networks.
    pub gateway6: Option<IpAddr>,
    /// Ethernet address; all zero on the host's network and on `none`, where there is no interface.
    pub mac: MacAddr,
    /// Interface inside.
    pub interface: String,
    /// Aliases as asked for.
    pub aliases: Vec<String>,
    /// All names it resolves by on this network.
    pub dns_names: Vec<String>,
    /// The swarm's attachment, on overlay networks.
    pub attachment: Option<TaskId>,
}

/// A service on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceOnNetwork {
    /// Empty: containers that are no tasks.
    pub name: String,
    /// None: its names stand for its tasks.
    pub virtual_ip: Option<IpAddr>,
    /// Only on the ingress network.
    pub ports: Vec<IngressPort>,
    /// Its tasks, on all nodes.
    pub endpoints: Vec<EndpointOnNetwork>,
}

/// An endpoint on any node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointOnNetwork {
    /// 64 hexadecimal digits; empty where it is not known.
    pub id: String,
    /// Name of its container.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Data-path address of its node.
    pub host: IpAddr,
}

/// Where a node enters the routing mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshDoor {
    /// 64 hexadecimal digits, the same at every start.
    pub endpoint_id: String,
    /// Its Ethernet address on the ingress network.
    pub mac: MacAddr,
    /// Its address there: only while Docker nodes are in the swarm.
    pub address: Option<EndpointAddress>,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent {
    /// A network was made.
    Created(NetworkEventSubject),
    /// A network was removed.
    Destroyed(NetworkEventSubject),
    /// A container joined.
    Connected(NetworkEventSubject, ContainerId),
    /// A container left.
    Disconnected(NetworkEventSubject, ContainerId),
}

/// The network of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkEventSubject {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
}
