//! An endpoint of one host, as the others need it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_network::LocalSwarmEndpoint;
use weft_types::{ContainerId, EndpointAddress, MacAddr, TaskId};

use super::Document;

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    format: u32,
    /// Its host, as that is registered: `address:port`.
    pub node: String,
    /// Address that its host receives VXLAN at.
    pub vtep: IpAddr,
    /// Whose claim its addresses are.
    pub attachment: TaskId,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<EndpointAddress>,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its container.
    pub container: ContainerId,
    /// The container's name.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
}

impl EndpointRecord {
    /// That of an endpoint of this host.
    pub fn of(endpoint: &LocalSwarmEndpoint, node: &str, vtep: IpAddr) -> Self {
        Self {
            format: Self::FORMAT,
            node: node.to_owned(),
            vtep,
            attachment: endpoint.attachment.clone(),
            addresses: endpoint.address.iter().chain(&endpoint.address6).copied().collect(),
            mac: endpoint.mac,
            container: endpoint.container.clone(),
            name: endpoint.name.clone(),
            aliases: endpoint.aliases.clone(),
        }
    }
}

impl Document for EndpointRecord {
    fn format(&self) -> u32 {
        self.format
    }
}
