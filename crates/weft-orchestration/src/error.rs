//! Why nothing could be allocated.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_types::{Classified, ErrorKind, VniError};

/// A refused allocation. Nothing was changed; what clients rely on is Docker's wording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// A text of the network's IPAM configuration that is no subnet.
    #[error("invalid network config:\ninvalid subnet {0}: invalid CIDR block notation")]
    SubnetSyntax(String),
    /// A subnet with host bits.
    #[error("invalid network config:\ninvalid subnet {given}: it should be {network}")]
    HostBits {
        /// As the user wrote it.
        given: IpNet,
        /// Without the host bits.
        network: IpNet,
    },
    /// A gateway or reserved address that is no address, or not in its subnet.
    #[error(
        "invalid network config:\ninvalid {what} {given}: parent subnet {subnet} doesn't contain this address"
    )]
    OutsideSubnet {
        /// "gateway" or "auxiliary address".
        what: &'static str,
        /// As the user wrote it.
        given: String,
        /// The subnet it is given for.
        subnet: IpNet,
    },
    /// An address range that is none, or not in its subnet.
    #[error(
        "invalid network config:\ninvalid ip-range {given}: parent subnet {subnet} doesn't contain ip-range"
    )]
    RangeOutsideSubnet {
        /// As the user wrote it.
        given: String,
        /// The subnet it is given for.
        subnet: IpNet,
    },
    /// A subnet that has no room for anything but its gateway.
    #[error("subnet {subnet} of network {network} is too small: it has no address besides the gateway")]
    SubnetTooSmall {
        /// Name of the network.
        network: String,
        /// The subnet.
        subnet: IpNet,
    },
    /// A wanted subnet overlaps one in use, or another of the same network.
    #[error("invalid pool request: Pool overlaps with other one on this address space: {wanted} overlaps {taken}{}",
        holder.as_ref().map(|id| format!(" of network {id}")).unwrap_or_default())]
    Overlap {
        /// The wanted subnet.
        wanted: IpNet,
        /// The one that is in the way.
        taken: IpNet,
        /// Whose it is; none if the same request asks for it.
        holder: Option<String>,
    },
    /// Every subnet of the swarm's pools is in use.
    #[error(
        "could not find an available subnet for network {network}: all {total} subnets of size /{size} in the \
         default address pools ({pools}) are in use"
    )]
    PoolsExhausted {
        /// Name of the network.
        network: String,
        /// The pools.
        pools: String,
        /// Prefix length of the subnets that the pools are split into.
        size: u8,
        /// How many such subnets there are.
        total: u128,
    },
    /// A text in the network's own list that is no identifier.
    #[error("invalid VXLAN id {0:?} in option com.docker.network.driver.overlay.vxlanid_list")]
    VniSyntax(String),
    /// A number in the network's own list that does not fit.
    #[error(transparent)]
    VniRange(#[from] VniError),
    /// The network's own list names an identifier that is in use.
    #[error("VXLAN id {0} is already in use by another network")]
    VniTaken(u32),
    /// All identifiers are in use.
    #[error("could not find an available VXLAN id for network {network}: all {total} are in use")]
    VnisExhausted {
        /// Name of the network.
        network: String,
        /// How many there are.
        total: u32,
    },
    /// Every address is in use.
    #[error(
        "no available {family} addresses on this network's address pools: {network} ({id}): all {total} addresses \
         of {subnets} are in use"
    )]
    AddressesExhausted {
        /// Name of the network.
        network: String,
        /// Id of the network.
        id: String,
        /// IPv4 or IPv6.
        family: &'static str,
        /// How many addresses the subnets have for containers.
        total: u128,
        /// The subnets, or ranges where the user set one.
        subnets: String,
    },
    /// A wanted address is not one that the network gives out.
    #[error("no configured subnet or ip-range contain the IP address {0}")]
    NoSubnetContains(String),
    /// A wanted address is the gateway, reserved, or held by another container.
    #[error("Address already in use: {address} on network {network}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Name of the network.
        network: String,
    },
    /// A text that is no address.
    #[error("invalid IP address: {0}")]
    AddressSyntax(String),
    /// The network is not allocated, or its stored subnets cannot be read.
    #[error("network {0} has no subnets allocated")]
    NotAllocated(String),
    /// The MTU option is not a usable number.
    #[error("invalid value {value:?} for option {option}: want a number of bytes from 118 to 65535")]
    MtuOption {
        /// Which option.
        option: &'static str,
        /// As the user wrote it.
        value: String,
    },
    /// A driver that the swarm cannot allocate for.
    #[error("could not find plugin {0} in v1 plugin registry: plugin \"{0}\" not found")]
    Driver(String),
}

impl Classified for AllocationError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::SubnetSyntax(_)
            | Self::HostBits { .. }
            | Self::OutsideSubnet { .. }
            | Self::RangeOutsideSubnet { .. }
            | Self::SubnetTooSmall { .. }
            | Self::VniSyntax(_)
            | Self::VniRange(_)
            | Self::AddressSyntax(_)
            | Self::NoSubnetContains(_)
            | Self::MtuOption { .. } => ErrorKind::InvalidParameter,
            // Docker answers 403 to overlapping pools and taken addresses.
            Self::Overlap { .. } | Self::AddressTaken { .. } | Self::VniTaken(_) => ErrorKind::Forbidden,
            Self::PoolsExhausted { .. } | Self::VnisExhausted { .. } | Self::AddressesExhausted { .. } => {
                ErrorKind::Unavailable
            }
            Self::Driver(_) => ErrorKind::NotFound,
            Self::NotAllocated(_) => ErrorKind::Unavailable,
        }
    }
}
