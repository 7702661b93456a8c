//! Which tracked connections to forget.

use std::net::IpAddr;

use weft_types::PortProtocol;

/// Which tracked connections to forget; what is none matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConntrackFilter {
    /// Transport protocol.
    pub protocol: Option<PortProtocol>,
    /// The port first connected to, for example a published one.
    pub original_port: Option<u16>,
    /// The address first connected to, for example a virtual IP.
    pub original_destination: Option<IpAddr>,
    /// The address that answers, for example a container's.
    pub reply_source: Option<IpAddr>,
}
