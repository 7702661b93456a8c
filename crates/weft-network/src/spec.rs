//! What callers ask for: networks, sandboxes, endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_types::{ContainerId, MacAddr, PortProtocol};

/// A request for a network, as in `docker network create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// `bridge` (also when empty), `macvlan`, `ipvlan`, `host`, `null`.
    pub driver: String,
    /// `local`, or empty.
    pub scope: String,
    /// Give out IPv4 addresses.
    pub enable_ipv4: bool,
    /// Give out IPv6 addresses.
    pub enable_ipv6: bool,
    /// No way out.
    pub internal: bool,
    /// Only has a meaning for swarm networks; shown back.
    pub attachable: bool,
    /// The routing mesh's; refused here.
    pub ingress: bool,
    /// Subnets, as given.
    pub ipam: Vec<IpamConfig>,
    /// Options of the address management driver; shown back, also that there were none.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Options of the network driver.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// No network, but settings for others.
    pub config_only: bool,
    /// The name of such a one, whose settings it takes over.
    pub config_from: Option<String>,
}

impl NetworkSpec {
    /// A bridge network with everything left to the daemon.
    pub fn bridge(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            driver: "bridge".to_owned(),
            scope: String::new(),
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            ingress: false,
            ipam: Vec::new(),
            ipam_options: None,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            config_only: false,
            config_from: None,
        }
    }
}

/// One subnet as the user wrote it; checked by the controller, which words the refusals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// `--subnet`.
    pub subnet: Option<String>,
    /// `--ip-range`.
    pub ip_range: Option<String>,
    /// `--gateway`.
    pub gateway: Option<String>,
    /// `--aux-address`.
    pub auxiliary: BTreeMap<String, String>,
}

/// What kind of network namespace a container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxKind {
    /// Its own, with endpoints.
    Own,
    /// The host's.
    Host,
    /// Its own, with a loopback only.
    None,
    /// That of another container.
    Shared(ContainerId),
    /// One that another program made, at this path, and that is removed by it.
    Foreign(PathBuf),
    /// Unknown: interfaces wait in the host's namespace until another program moves them. Only on overlay networks.
    Handed,
}

/// A request for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Whose it is.
    pub container: ContainerId,
    /// The container's name, without the slash.
    pub name: String,
    /// Kind of namespace.
    pub kind: SandboxKind,
    /// Host name inside.
    pub hostname: String,
    /// Domain name inside, may be empty.
    pub domainname: String,
    /// `--dns`; the daemon's when empty.
    pub dns: Vec<String>,
    /// `--dns-search`; the daemon's when empty.
    pub dns_search: Vec<String>,
    /// `--dns-option`; the daemon's when empty.
    pub dns_options: Vec<String>,
    /// `--add-host`, `name:address`.
    pub extra_hosts: Vec<String>,
    /// Ports to publish.
    pub ports: Vec<PortWish>,
}

/// A port to publish, before the host's port is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortWish {
    /// Transport protocol.
    pub protocol: PortProtocol,
    /// Port in the container.
    pub container_port: u16,
    /// Address at the host; `None` asks for all (the network's `host_binding_ipv4`).
    pub host_ip: Option<IpAddr>,
    /// Port at the host, any free one of these; `0..=0` asks for any at all.
    pub host_ports: RangeInclusive<u16>,
}

/// Wishes for one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// `--ip`, as given.
    pub ipv4: Option<String>,
    /// `--ip6`, as given.
    pub ipv6: Option<String>,
    /// `--mac-address`.
    pub mac: Option<MacAddr>,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--link` on this network: names private to this container, with the container they stand for.
    pub links: Vec<(String, String)>,
    /// `--driver-opt`.
    pub driver_opts: BTreeMap<String, String>,
    /// `--gw-priority`: the network with the highest gives the default route.
    pub gateway_priority: i64,
    /// The interface's name inside, as another program wants it; the next free one when absent.
    pub interface: Option<String>,
    /// The other program's name for the network that it wants the place for; empty for containers of our own.
    pub claim: String,
}
