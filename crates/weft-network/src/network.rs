//! A network as the controller keeps it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_plan::LinkName;
use weft_types::{EndpointAddress, Mtu, NetworkId};

use crate::spec::IpamConfig;
use crate::sub_interface::SubInterfaceSettings;
use crate::swarm::OverlaySpec;
use crate::view::NetworkEventSubject;

/// Name of the default bridge network.
pub const DEFAULT_BRIDGE: &str = "bridge";
/// Name of the network through which containers on overlay networks reach the outside.
pub const GATEWAY_BRIDGE: &str = "docker_gwbridge";

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was made here.
    pub created: SystemTime,
    /// Its driver, with what that needs to know.
    pub driver: Driver,
    /// IPv4 addresses are given out.
    pub enable_ipv4: bool,
    /// IPv6 addresses are given out.
    pub enable_ipv6: bool,
    /// No way out.
    pub internal: bool,
    /// Plain containers may join (swarm networks).
    pub attachable: bool,
    /// Subnets, as they were resolved.
    pub pools: Vec<Pool>,
    /// Options of the address management driver; `None` is shown as null.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Options of the network driver.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Whose settings it took over.
    #[serde(default)]
    pub config_from: Option<String>,
}

/// The drivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of this host.
    Bridge(BridgeSettings),
    /// The host's own interfaces.
    Host,
    /// Nothing.
    Null,
    /// A network of the swarm.
    Overlay(Box<OverlaySpec>),
    /// Interfaces that share one of this host's: macvlan, ipvlan.
    SubInterface(SubInterfaceSettings),
    /// No network, but settings for others: subnets as they were given.
    Config(Vec<IpamConfig>),
}

/// What the bridge driver needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeSettings {
    /// The bridge's name.
    pub bridge: LinkName,
    /// MTU of its interfaces.
    pub mtu: Mtu,
    /// Containers may talk to each other.
    pub inter_container: bool,
    /// The outside sees the host's address.
    pub masquerade: bool,
    /// Where ports are published when the container does not say.
    pub host_binding: Option<IpAddr>,
    /// Begin of the interfaces' names inside.
    pub interface_prefix: String,
}

/// One subnet with its address plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: IpNet,
    /// Containers get addresses from here only.
    pub range: Option<IpNet>,
    /// The router: this host's address on the bridge.
    pub gateway: IpAddr,
    /// The user named the subnet: only then may containers ask for an address.
    pub user_subnet: bool,
    /// The gateway is shown: it was named, or the whole pool was chosen here.
    pub show_gateway: bool,
    /// Addresses that others use.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl Pool {
    /// The router's address with its prefix.
    pub fn gateway_address(&self) -> EndpointAddress {
        EndpointAddress::new(self.gateway, self.subnet)
    }
}

/// Who knows a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkScope {
    /// This host.
    #[default]
    Local,
    /// The swarm.
    Swarm,
    /// All hosts that share a key-value store.
    Global,
}

impl NetworkScope {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Swarm => "swarm",
            Self::Global => "global",
        }
    }
}

impl Network {
    /// Docker's word for the driver.
    pub fn driver_name(&self) -> &'static str {
        match &self.driver {
            Driver::Bridge(_) => "bridge",
            Driver::Host => "host",
            Driver::Null | Driver::Config(_) => "null",
            Driver::Overlay(_) => "overlay",
            Driver::SubInterface(settings) => settings.sharing.name(),
        }
    }

    /// Who knows it.
    pub fn scope(&self) -> NetworkScope {
        match self.driver {
            Driver::Overlay(_) if self.id.is_swarm() => NetworkScope::Swarm,
            Driver::Overlay(_) => NetworkScope::Global,
            _ => NetworkScope::Local,
        }
    }

    /// One of the daemon's own: `bridge`, `host`, `none`.
    pub fn is_predefined(&self) -> bool {
        matches!(self.driver, Driver::Host | Driver::Null) || self.is_default_bridge()
    }

    /// Whether it is the network of containers that name none.
    pub fn is_default_bridge(&self) -> bool {
        self.name == DEFAULT_BRIDGE && matches!(self.driver, Driver::Bridge(_))
    }

    /// The routing mesh's.
    pub(crate) fn is_ingress(&self) -> bool {
        self.overlay().is_some_and(|spec| spec.ingress)
    }

    /// Whether containers find each other by name here: never on the ingress network.
    pub(crate) fn gives_names(&self) -> bool {
        self.has_resolver() && !self.is_ingress()
    }

    /// Its containers find each other by name. Not on the default bridge, as with Docker.
    pub fn has_resolver(&self) -> bool {
        match &self.driver {
            Driver::Bridge(_) => !self.is_default_bridge() && self.name != GATEWAY_BRIDGE,
            Driver::Overlay(_) | Driver::SubInterface(_) => true,
            Driver::Host | Driver::Null | Driver::Config(_) => false,
        }
    }

    /// The bridge's settings.
    pub fn bridge(&self) -> Option<&BridgeSettings> {
        match &self.driver {
            Driver::Bridge(settings) => Some(settings),
            _ => None,
        }
    }

    /// The settings of interfaces that share one.
    pub fn sub_interface(&self) -> Option<&SubInterfaceSettings> {
        match &self.driver {
            Driver::SubInterface(settings) => Some(settings),
            _ => None,
        }
    }

    /// The subnets that it holds for others, if it is there for that.
    pub fn config(&self) -> Option<&[IpamConfig]> {
        match &self.driver {
            Driver::Config(ipam) => Some(ipam),
            _ => None,
        }
    }

    /// Whether containers get out by it to a router of its own.
    pub(crate) fn has_way_out(&self) -> bool {
        let outside =
            self.bridge().is_some() || self.sub_interface().is_some_and(SubInterfaceSettings::leads_outside);
        outside && !self.internal
    }

    /// The swarm's description.
    pub fn overlay(&self) -> Option<&OverlaySpec> {
        match &self.driver {
            Driver::Overlay(spec) => Some(spec),
            _ => None,
        }
    }

    /// Its subnets, whoever chose them.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        match self.overlay() {
            Some(spec) => spec.subnets.iter().map(|subnet| subnet.subnet).collect(),
            None => self.pools.iter().map(|pool| pool.subnet).collect(),
        }
    }

    /// Its name in events.
    pub(crate) fn subject(&self) -> NetworkEventSubject {
        NetworkEventSubject {
            id: self.id.clone(),
            name: self.name.clone(),
            driver: self.driver_name().to_owned(),
        }
    }
}
