//! The namespace of one container.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_types::{EndpointAddress, MacAddr, Mtu};

use crate::{
    Address, IngressTask, Link, LinkKind, LinkName, NamespaceState, ResolverRedirect, Route, Sharing,
    SubInterface,
};

/// A container's namespace as it shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its interfaces.
    pub interfaces: Vec<SandboxInterface>,
    /// Default routers, at most one a family, with the interface each is reached through.
    pub gateways: Vec<(IpAddr, LinkName)>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// How queries to the embedded resolver reach it.
    pub resolver: Option<ResolverRedirect>,
    /// How connections by published ports come in, for tasks that have some.
    pub ingress: Option<IngressTask>,
    /// Services reached by virtual IP, as [`crate::Balancer::plan`] has it; one plan for all that see the same services.
    pub balance: Option<Arc<NamespaceState>>,
    /// Settings asked for by the user, slashes in the name.
    pub sysctls: Vec<(String, String)>,
}

/// One interface of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxInterface {
    /// Its name, for example `eth0`.
    pub name: LinkName,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its MTU; none leaves it to the kernel.
    pub mtu: Option<Mtu>,
    /// Its addresses.
    pub addresses: Vec<EndpointAddress>,
    /// What it is.
    #[serde(default)]
    pub device: SandboxDevice,
}

/// What a container's interface is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxDevice {
    /// The far end of a pair, whose near end is made with it elsewhere.
    #[default]
    VethEnd,
    /// One that shares an interface of the host.
    SubInterface(SubInterface),
}

impl Sandbox {
    /// What the container's namespace shall hold.
    pub fn plan(&self) -> NamespaceState {
        let mut state = NamespaceState::default();
        state.links.insert(LinkName::lo(), Link::new(LinkKind::Loopback));
        for interface in &self.interfaces {
            plan_interface(interface, &mut state);
        }
        for (gateway, link) in &self.gateways {
            state.routes.insert(Route::default_via(*gateway, link.clone()));
        }
        state.routes.extend(self.routes.iter().cloned());
        if let Some(resolver) = &self.resolver {
            state.add_table(resolver.table());
        }
        if let Some(ingress) = &self.ingress {
            state.merge(ingress.plan());
        }
        if let Some(balance) = &self.balance {
            state.merge(NamespaceState::clone(balance));
        }
        for (key, value) in &self.sysctls {
            state.set(key.clone(), value);
        }
        state
    }
}

fn plan_interface(interface: &SandboxInterface, state: &mut NamespaceState) {
    let (kind, own_mac) = match &interface.device {
        SandboxDevice::VethEnd => (LinkKind::VethEnd, true),
        SandboxDevice::SubInterface(sub) => {
            (LinkKind::SubInterface(sub.clone()), matches!(sub.sharing, Sharing::Macvlan(_)))
        }
    };
    let link = Link { mac: own_mac.then_some(interface.mac), mtu: interface.mtu, ..Link::new(kind) };
    state.links.insert(interface.name.clone(), link);
    for address in &interface.addresses {
        state.addresses.insert(Address { link: interface.name.clone(), address: *address });
    }
    // As Docker: no IPv6 on an interface whose networks have none, so that nothing leaves through a link-local address.
    let off = interface.addresses.iter().all(|address| address.ip().is_ipv4());
    state.set(format!("net/ipv6/conf/{}/disable_ipv6", interface.name), if off { "1" } else { "0" });
    // Addresses are unique by allocation, the link-local one by its MAC; detection only delays the first packets.
    state.set(format!("net/ipv6/conf/{}/accept_dad", interface.name), "0");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_get_their_addresses_and_the_default_route() {
        let eth0: LinkName = "eth0".parse().unwrap();
        let sandbox = Sandbox {
            interfaces: vec![SandboxInterface {
                name: eth0.clone(),
                mac: "02:42:0a:00:01:02".parse().unwrap(),
                mtu: Some(Mtu::ETHERNET),
                addresses: vec!["10.0.1.2/24".parse().unwrap()],
                device: SandboxDevice::VethEnd,
            }],
            gateways: vec![("10.0.1.1".parse().unwrap(), eth0.clone())],
            ..Sandbox::default()
        };
        let state = sandbox.plan();
        assert_eq!(state.links[&eth0].kind, LinkKind::VethEnd);
        assert_eq!(state.sysctls["net/ipv6/conf/eth0/disable_ipv6"], "1");
        assert_eq!(state.routes.len(), 1);
        assert!(state.tables.is_empty());
    }
}
