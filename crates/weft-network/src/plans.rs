//! From the controller's state to desired states of namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_plan::{
    BridgeEndpoint, BridgeNetwork, HostPlan, IngressHost, LinkName, LocalEndpoint, NamespaceRef,
    OverlayNetwork, Published, RemoteEndpoint, ResolverHook, ResolverRedirect, SandboxInterface, Segment,
    VxlanGuard,
};
use weft_types::{EndpointAddress, Mtu, NetworkId, Underlay};

use crate::ingress;
use crate::network::{BridgeSettings, Network, Pool};
use crate::paths::Paths;
use crate::peers::NetworkPeers;
use crate::sandbox::Sandbox;
use crate::state::State;
use crate::swarm::{OverlaySpec, SwarmState};

/// What plans need beside the state.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) paths: Paths,
    pub(crate) host: NamespaceRef,
    /// How this kernel can redirect queries to the resolver.
    pub(crate) hook: ResolverHook,
    /// Whether this kernel shows bridged packets to the netfilter hooks of IP.
    pub(crate) bridge_netfilter: bool,
}

/// What the host's namespace shall hold. `data_path` is the interface with the data-path address.
pub(crate) fn host(
    state: &State,
    around: &Surroundings,
    data_path: Option<&LinkName>,
    members: &BTreeSet<IpAddr>,
    ingress: Option<IngressHost>,
) -> HostPlan {
    let bridges = state.networks().filter_map(|n| Some(bridge(state, around, n, n.bridge()?))).collect();
    let guard = state.swarm().map(|swarm| guard(swarm, data_path, members));
    HostPlan { bridges, guard, bridge_netfilter: around.bridge_netfilter, ingress }
}

fn guard(swarm: &SwarmState, interface: Option<&LinkName>, members: &BTreeSet<IpAddr>) -> VxlanGuard {
    VxlanGuard {
        address: swarm.data_path,
        port: swarm.data_path_port,
        interface: interface.cloned(),
        members: members.iter().copied().collect(),
    }
}

fn bridge(
    state: &State,
    around: &Surroundings,
    network: &Network,
    settings: &BridgeSettings,
) -> BridgeNetwork {
    let endpoints = state.endpoints_on(&network.id).map(|(sandbox, endpoint)| {
        let way_out = [false, true].map(|v6| state.gateway_endpoint(sandbox, v6).map(|(e, _)| &e.id));
        let mapped = sandbox.ports.iter().filter_map(|mapping| {
            let v6 = mapping.host_ip.is_ipv6();
            let target = if v6 { endpoint.address6 } else { endpoint.address }?;
            // Ports are published where the default route is: answers leave by the way they came.
            (way_out[usize::from(v6)] == Some(&endpoint.id))
                .then(|| Published { mapping: mapping.clone(), target: target.ip() })
        });
        BridgeEndpoint {
            id: endpoint.id.clone(),
            mac: endpoint.mac,
            sandbox: around.paths.sandbox_ref(&sandbox.id),
            interface: endpoint.interface.clone(),
            published: mapped.collect(),
        }
    });
    BridgeNetwork {
        id: network.id.clone(),
        bridge: settings.bridge.clone(),
        gateways: network.pools.iter().map(Pool::gateway_address).collect(),
        mtu: settings.mtu,
        inter_container: settings.inter_container,
        masquerade: settings.masquerade,
        internal: network.internal,
        endpoints: endpoints.collect(),
    }
}

/// MTU of an overlay's interfaces: the network's, else Ethernet's, without what the tunnel adds.
pub(crate) fn overlay_mtu(spec: &OverlaySpec, swarm: &SwarmState) -> Mtu {
    let told = swarm.networks.get(&spec.id).and_then(|network| network.mtu);
    let base = told.or(spec.mtu).unwrap_or(Mtu::ETHERNET);
    base.over_vxlan(Underlay::of(swarm.data_path)).unwrap_or(Mtu::MIN)
}

/// What an overlay network's namespace shall hold; nothing when the swarm is unknown, or no endpoint is here and it is
/// not the ingress network.
pub(crate) fn overlay(
    state: &State,
    around: &Surroundings,
    network: &Network,
    peers: &BTreeMap<NetworkId, NetworkPeers>,
) -> Option<OverlayNetwork> {
    let (spec, swarm) = (network.overlay()?, state.swarm()?);
    let local: Vec<LocalEndpoint> = state
        .endpoints_on(&network.id)
        .filter_map(|(sandbox, endpoint)| {
            Some(LocalEndpoint {
                id: endpoint.id.clone(),
                ip: endpoint.ips().next()?,
                mac: endpoint.mac,
                sandbox: around.paths.sandbox_ref(&sandbox.id),
                interface: endpoint.interface.clone(),
            })
        })
        .collect();
    let is_mesh = state.ingress().is_some_and(|mesh| mesh.id == network.id);
    if local.is_empty() && !is_mesh {
        return None;
    }
    let own: Vec<_> = state.addresses_on(&network.id).into_iter().collect();
    let remote = peers.get(&network.id).map(|known| known.peers.as_slice()).unwrap_or_default();
    let remote = remote.iter().filter(|peer| !peer.ips.iter().any(|ip| own.contains(ip)));
    Some(OverlayNetwork {
        id: network.id.clone(),
        mtu: overlay_mtu(spec, swarm),
        vtep: swarm.data_path,
        port: swarm.data_path_port,
        host: around.host.clone(),
        segments: segments(spec),
        local,
        remote: remote
            .map(|peer| RemoteEndpoint { ips: peer.ips.clone(), mac: peer.mac, vtep: peer.vtep })
            .collect(),
        entries: is_mesh.then(|| ingress::entries(swarm)),
    })
}

/// One segment a VNI: subnets that share one are together, and those without one go with the first.
fn segments(spec: &OverlaySpec) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for subnet in spec.subnets.iter().filter(|subnet| subnet.vni.is_some()) {
        let Some(vni) = subnet.vni else { continue };
        if !segments.iter().any(|segment| segment.vni == vni) {
            segments.push(Segment { vni, gateways: Vec::new() });
        }
    }
    for subnet in &spec.subnets {
        let Some(gateway) = subnet.gateway.or_else(|| first_host(subnet.subnet)) else { continue };
        let index = subnet.vni.and_then(|vni| segments.iter().position(|s| s.vni == vni)).unwrap_or(0);
        if let Some(segment) = segments.get_mut(index) {
            segment.gateways.push(EndpointAddress::new(gateway, subnet.subnet));
        }
    }
    segments
}

/// The first address that a station can have: the router's by custom.
fn first_host(subnet: ipnet::IpNet) -> Option<IpAddr> {
    subnet.hosts().find(|ip| *ip != subnet.network())
}

/// What a container's namespace shall hold.
pub(crate) fn sandbox(state: &State, around: &Surroundings, sandbox: &Sandbox) -> weft_plan::Sandbox {
    let mut plan = weft_plan::Sandbox::default();
    for endpoint in &sandbox.endpoints {
        let Some(network) = state.network(&endpoint.network) else { continue };
        let mtu = match (network.bridge(), network.overlay(), state.swarm()) {
            (Some(settings), _, _) => settings.mtu,
            (_, Some(spec), Some(swarm)) => overlay_mtu(spec, swarm),
            _ => continue,
        };
        plan.interfaces.push(SandboxInterface {
            name: endpoint.interface.clone(),
            mac: endpoint.mac,
            mtu,
            addresses: endpoint.addresses().collect(),
        });
        for (key, value) in endpoint_sysctls(&endpoint.driver_opts) {
            plan.sysctls.push((key.replace("IFNAME", endpoint.interface.as_str()), value));
        }
    }
    for ipv6 in [false, true] {
        if let Some((endpoint, gateway)) = state.gateway_endpoint(sandbox, ipv6) {
            plan.gateways.push((gateway, endpoint.interface.clone()));
        }
    }
    plan.ingress = ingress::task(state, sandbox);
    plan.resolver = match sandbox.resolver {
        Some((udp, tcp)) if state.has_resolver(sandbox) => {
            Some(ResolverRedirect { udp, tcp, hook: around.hook })
        }
        _ => None,
    };
    plan
}

/// `com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,…`: only those of the interface itself.
fn endpoint_sysctls(options: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let Some(text) = options.get("com.docker.network.endpoint.sysctls") else { return Vec::new() };
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| {
            let words: Vec<&str> = key.split('.').collect();
            matches!(words.as_slice(), ["net", "ipv4" | "ipv6" | "mpls", "conf" | "neigh", "IFNAME", leaf]
                if leaf.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        })
        .map(|(key, value)| (key.trim().replace('.', "/"), value.trim().to_owned()))
        .collect()
}
