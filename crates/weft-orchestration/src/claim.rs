//! Things of which there is only one.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_types::Vni;

/// What an allocation needs to hold alone for its writes to be right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A subnet together with everything it overlaps.
    Subnet(IpNet),
    /// A VXLAN network identifier.
    Vni(Vni),
    /// An address of a network.
    Address {
        /// Id of the network.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// A port that every node listens on for a service.
    Port {
        /// SwarmKit's number of the protocol: ports of different protocols do not meet.
        protocol: i32,
        /// The port.
        port: u16,
    },
}
