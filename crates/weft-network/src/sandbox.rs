//! A sandbox and its endpoints as the controller keeps them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weft_plan::LinkName;
use weft_types::{EndpointAddress, EndpointId, MacAddr, NetworkId, PortMapping, TaskId};

use crate::network::{Driver, Network};
use crate::spec::{SandboxKind, SandboxSpec};
use crate::swarm::SwarmService;
use crate::view::EndpointView;

/// The network side of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    /// Its id.
    pub(crate) id: String,
    /// As asked for.
    pub(crate) spec: SandboxSpec,
    /// In the order of joining.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Ports as bound.
    pub(crate) ports: Vec<PortMapping>,
    /// The resolver's ports inside, UDP and TCP, once the helper told.
    pub(crate) resolver: Option<(u16, u16)>,
}

/// One place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) network: NetworkId,
    pub(crate) address: Option<EndpointAddress>,
    pub(crate) address6: Option<EndpointAddress>,
    pub(crate) mac: MacAddr,
    pub(crate) interface: LinkName,
    pub(crate) aliases: Vec<String>,
    pub(crate) links: Vec<(String, String)>,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) priority: i64,
    pub(crate) attachment: Option<TaskId>,
    /// The service whose task has this place.
    #[serde(default)]
    pub(crate) service: Option<SwarmService>,
    /// Made by the controller itself, as the way out of overlay networks.
    pub(crate) automatic: bool,
    /// Another program's name for the network, where it asked for this place.
    #[serde(default)]
    pub(crate) claim: String,
}

impl Endpoint {
    /// All its addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = EndpointAddress> + '_ {
        self.address.iter().chain(&self.address6).copied()
    }

    /// All its addresses without prefix.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses().map(|address| address.ip())
    }
}

impl Sandbox {
    /// Whether it has a namespace of its own.
    pub(crate) fn has_namespace(&self) -> bool {
        matches!(self.spec.kind, SandboxKind::Own | SandboxKind::None | SandboxKind::Foreign(_))
    }

    /// Where another program keeps its namespace, if it made it.
    pub(crate) fn foreign_netns(&self) -> Option<&Path> {
        match &self.spec.kind {
            SandboxKind::Foreign(path) => Some(path),
            _ => None,
        }
    }

    /// Whether its interfaces are handed on to another program.
    pub(crate) fn is_handed(&self) -> bool {
        self.spec.kind == SandboxKind::Handed
    }

    /// Whether it is another program's.
    pub(crate) fn is_others(&self) -> bool {
        self.is_handed() || self.foreign_netns().is_some()
    }

    /// The endpoint on a network.
    pub(crate) fn endpoint_on(&self, network: &NetworkId) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network == *network)
    }

    /// Name of the next interface: the least number that is free under this prefix.
    pub(crate) fn free_interface(&self, prefix: &str) -> LinkName {
        (0u32..)
            .filter_map(|n| format!("{prefix}{n}").parse::<LinkName>().ok())
            .find(|name| self.endpoints.iter().all(|endpoint| endpoint.interface != *name))
            .unwrap_or_else(LinkName::lo)
    }

    /// The names this container has on a network, in Docker's order: its name, aliases, short id, host name. Aliases
    /// of a service stand for the service, not for its task.
    pub(crate) fn dns_names(&self, endpoint: &Endpoint) -> Vec<String> {
        let spec = &self.spec;
        let short = spec.container.short();
        let of_service = |name: &String| {
            endpoint
                .service
                .as_ref()
                .is_some_and(|service| service.name == *name || service.aliases.contains(name))
        };
        let all = std::iter::once(spec.name.as_str())
            .chain(endpoint.aliases.iter().filter(|name| !of_service(name)).map(String::as_str))
            .chain([short, spec.hostname.as_str()]);
        let mut names: Vec<String> = Vec::new();
        for name in all.filter(|name| !name.is_empty()) {
            if !names.iter().any(|have| have == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The endpoint as callers see it.
    pub(crate) fn view(&self, endpoint: &Endpoint, network: &Network) -> EndpointView {
        let router = |ipv6: bool| {
            let pool = network.pools.iter().find(|pool| pool.subnet.addr().is_ipv6() == ipv6)?;
            network.has_way_out().then_some(pool.gateway)
        };
        let short = &self.id[..12.min(self.id.len())];
        EndpointView {
            id: endpoint.id.clone(),
            network_id: network.id.clone(),
            network: network.name.clone(),
            container: self.spec.container.clone(),
            name: if endpoint.automatic { format!("gateway_{short}") } else { self.spec.name.clone() },
            address: endpoint.address,
            address6: endpoint.address6,
            gateway: endpoint.address.and_then(|_| router(false)),
            gateway6: endpoint.address6.and_then(|_| router(true)),
            // Nothing is made on the host's network and on none: there is no interface to have one.
            mac: if matches!(network.driver, Driver::Bridge(_) | Driver::Overlay(_) | Driver::SubInterface(_))
            {
                endpoint.mac
            } else {
                MacAddr([0; 6])
            },
            interface: endpoint.interface.to_string(),
            aliases: endpoint.aliases.clone(),
            dns_names: if network.has_resolver() { self.dns_names(endpoint) } else { Vec::new() },
            attachment: endpoint.attachment.clone(),
        }
    }
}
