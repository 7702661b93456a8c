//! Value of the endpoint table: what an endpoint is called and which service it belongs to.

use std::net::IpAddr;

use prost::Message as _;
use weft_types::PortProtocol;

use super::records::{self, port_config};
use crate::WireError;

const MESSAGE: &str = "endpoint record";
/// How Go prints an address that is not set; Docker's nodes write it where there is no virtual address.
const NO_ADDRESS: &str = "<nil>";

/// A port that is published on every node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IngressPort {
    /// Usually empty.
    pub name: String,
    /// Transport protocol.
    pub protocol: PortProtocol,
    /// Port in the container.
    pub target_port: u16,
    /// Port on the nodes.
    pub published_port: u16,
}

/// Names of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointRecord {
    /// Name of the container or task; never empty.
    pub name: String,
    /// Empty for plain containers.
    pub service_name: String,
    /// Empty for plain containers.
    pub service_id: String,
    /// Address of the whole service on this network.
    pub virtual_ip: Option<IpAddr>,
    /// Address of the endpoint.
    pub endpoint_ip: IpAddr,
    /// Only on the ingress network.
    pub ingress_ports: Vec<IngressPort>,
    /// Further names of the service on this network.
    pub aliases: Vec<String>,
    /// Short container id, and further names of the container.
    pub task_aliases: Vec<String>,
    /// The endpoint is about to stop: no new connections, no name.
    pub service_disabled: bool,
}

impl EndpointRecord {
    /// As in a table event's value.
    pub fn encode(&self) -> Vec<u8> {
        records::EndpointRecord {
            name: self.name.clone(),
            service_name: self.service_name.clone(),
            service_id: self.service_id.clone(),
            virtual_ip: self.virtual_ip.map_or_else(|| NO_ADDRESS.to_owned(), |ip| ip.to_string()),
            endpoint_ip: self.endpoint_ip.to_string(),
            ingress_ports: self.ingress_ports.iter().map(port_to_wire).collect(),
            aliases: self.aliases.clone(),
            task_aliases: self.task_aliases.clone(),
            service_disabled: self.service_disabled,
        }
        .encode_to_vec()
    }

    /// Reads a table event's value; refuses one without name or address, as Docker does.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let raw = records::EndpointRecord::decode(bytes)
            .map_err(|source| WireError::Protobuf { message: MESSAGE, source })?;
        let refuse = |field| WireError::Field { message: MESSAGE, field };
        if raw.name.is_empty() {
            return Err(refuse("name"));
        }
        let ports = raw.ingress_ports.iter().map(port_from_wire).collect::<Option<_>>();
        Ok(Self {
            name: raw.name,
            service_name: raw.service_name,
            service_id: raw.service_id,
            virtual_ip: raw.virtual_ip.parse().ok(),
            endpoint_ip: raw.endpoint_ip.parse().map_err(|_| refuse("endpoint_ip"))?,
            ingress_ports: ports.ok_or(refuse("ingress_ports"))?,
            aliases: raw.aliases,
            task_aliases: raw.task_aliases,
            service_disabled: raw.service_disabled,
        })
    }
}

fn port_to_wire(port: &IngressPort) -> records::PortConfig {
    let protocol = match port.protocol {
        PortProtocol::Tcp => port_config::Protocol::Tcp,
        PortProtocol::Udp => port_config::Protocol::Udp,
        PortProtocol::Sctp => port_config::Protocol::Sctp,
    };
    records::PortConfig {
        name: port.name.clone(),
        protocol: protocol.into(),
        target_port: port.target_port.into(),
        published_port: port.published_port.into(),
    }
}

fn port_from_wire(port: &records::PortConfig) -> Option<IngressPort> {
    let protocol = match port_config::Protocol::try_from(port.protocol).ok()? {
        port_config::Protocol::Tcp => PortProtocol::Tcp,
        port_config::Protocol::Udp => PortProtocol::Udp,
        port_config::Protocol::Sctp => PortProtocol::Sctp,
    };
    Some(IngressPort {
        name: port.name.clone(),
        protocol,
        target_port: port.target_port.try_into().ok()?,
        published_port: port.published_port.try_into().ok()?,
    })
}
