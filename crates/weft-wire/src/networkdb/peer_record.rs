//! Value of the overlay's peer table: where an endpoint's tunnel ends.

use std::net::IpAddr;

use prost::Message as _;
use weft_types::{EndpointAddress, MacAddr};

use super::records;
use crate::WireError;

const MESSAGE: &str = "peer record";

/// One endpoint and the node it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerRecord {
    /// Address of the endpoint on the overlay.
    pub address: EndpointAddress,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// Data-path address of its node.
    pub vtep: IpAddr,
}

impl PeerRecord {
    /// As in a table event's value.
    pub fn encode(&self) -> Vec<u8> {
        records::PeerRecord {
            endpoint_ip: self.address.to_string(),
            endpoint_mac: self.mac.to_string(),
            tunnel_endpoint_ip: self.vtep.to_string(),
        }
        .encode_to_vec()
    }

    /// Reads a table event's value; refuses what is no address.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let raw = records::PeerRecord::decode(bytes)
            .map_err(|source| WireError::Protobuf { message: MESSAGE, source })?;
        let refuse = |field| WireError::Field { message: MESSAGE, field };
        Ok(Self {
            address: raw.endpoint_ip.parse().map_err(|_| refuse("endpoint_ip"))?,
            mac: raw.endpoint_mac.parse().map_err(|_| refuse("endpoint_mac"))?,
            vtep: raw.tunnel_endpoint_ip.parse().map_err(|_| refuse("tunnel_endpoint_ip"))?,
        })
    }
}
