//! Words of the domain as types: ids, names, addresses, VNIs, ports, MTU arithmetic, error kinds.
//!
//! Every value here is valid by construction: it is checked where it enters (parsing, decoding) and the
//! proof is carried by the type. Nothing here does I/O or knows a clock; randomness is an argument.

mod duration;
mod endpoint_address;
mod error_chain;
mod error_kind;
mod ids;
mod mac;
mod mapped;
mod mtu;
mod name;
mod port;
mod vni;

pub use duration::parse_duration;
pub use endpoint_address::EndpointAddress;
pub use error_chain::error_chain;
pub use error_kind::{Classified, ErrorKind};
pub use ids::{
    ConfigId, ContainerId, EndpointId, GossipName, IdError, NetworkId, NodeId, SecretId, ServiceId, SwarmId,
    TaskId,
};
pub use mac::{MacAddr, MacError};
pub use mapped::mapped;
pub use mtu::{Mtu, MtuError, Underlay};
pub use name::{NameError, ObjectName};
pub use port::{PortError, PortMapping, PortProtocol};
pub use vni::{Vni, VniError};
