//! From the controller's state to desired states of namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_plan::{
    BridgeEndpoint, BridgeNetwork, EncryptedPath, EncryptionEngine, FastPath, HostPlan, IngressHost,
    LinkName, LocalEndpoint, NamespaceRef, OverlayNetwork, Published, RemoteEndpoint, ResolverHook,
    ResolverRedirect, Route, SandboxDevice, SandboxInterface, Segment, Sharing, VxlanGuard,
};
use weft_types::{EndpointAddress, Mtu, NetworkId, Underlay};

use crate::encryption::{EncryptionScheme, EncryptionSetting};
use crate::helper::protocol::{EncryptedSegment, EncryptionWish};
use crate::ingress;
use crate::network::{BridgeSettings, Driver, Network, Pool};
use crate::paths::Paths;
use crate::peers::NetworkPeers;
use crate::sandbox::Sandbox;
use crate::state::State;
use crate::sub_interface::made_parents;
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
    /// How this node encrypts, if it does.
    pub(crate) encryption: Option<EncryptionSetting>,
    /// Whether programs carry frames past the bridges.
    pub(crate) fast: bool,
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
    let guard = state.swarm().map(|swarm| VxlanGuard {
        encryption: encrypted_path(state, around),
        ..guard(swarm, data_path, members)
    });
    let parents = made_parents(state.networks(), &around.host);
    let uplinks = uplinks(state, around);
    HostPlan { bridges, guard, bridge_netfilter: around.bridge_netfilter, ingress, parents, uplinks }
}

/// The ends of overlay networks' uplinks in the host's namespace. They do not depend on who else is on the networks.
pub(crate) fn uplinks(state: &State, around: &Surroundings) -> BTreeSet<LinkName> {
    if !around.fast {
        return BTreeSet::new();
    }
    let nobody = BTreeMap::new();
    let overlays = state.networks().filter_map(|network| overlay(state, around, network, &nobody));
    overlays.flat_map(|overlay| overlay.uplinks().collect::<Vec<_>>()).collect()
}

/// What programs carry on this node; nothing while it is in no swarm or its data path is not known. `data_path` is the
/// interface with the data-path address.
pub(crate) fn fast_path(
    state: &State,
    around: &Surroundings,
    data_path: Option<&LinkName>,
    peers: &BTreeMap<NetworkId, NetworkPeers>,
) -> Option<FastPath> {
    let (swarm, data_path) = (state.swarm()?, data_path?);
    let mut segments = BTreeMap::new();
    for network in state.networks() {
        let Some(plan) = overlay(state, around, network, peers) else { continue };
        let namespace = NamespaceRef::at(around.paths.overlay_netns(&network.id));
        segments.extend(plan.fast_segments(&namespace));
    }
    (!segments.is_empty()).then(|| FastPath {
        vtep: swarm.data_path,
        port: swarm.data_path_port,
        host: around.host.clone(),
        underlay: [data_path.clone()].into(),
        segments,
    })
}

fn guard(swarm: &SwarmState, interface: Option<&LinkName>, members: &BTreeSet<IpAddr>) -> VxlanGuard {
    VxlanGuard {
        address: swarm.data_path,
        port: swarm.data_path_port,
        interface: interface.cloned(),
        members: members.iter().copied().collect(),
        encryption: None,
    }
}

/// What never comes or goes in the clear. Known networks count, whether anyone here is on them or not.
fn encrypted_path(state: &State, around: &Surroundings) -> Option<EncryptedPath> {
    let encrypted = state.networks().filter_map(Network::overlay).filter(|spec| spec.encrypted);
    let vnis: BTreeSet<_> = encrypted.flat_map(|spec| spec.subnets.iter().filter_map(|s| s.vni)).collect();
    let EncryptionSetting { port, engine, .. } = around.encryption?;
    (!vnis.is_empty()).then_some(EncryptedPath { port, vnis, engine })
}

/// What the helper encrypts, with those who share a network with this node. Weft's own keys are for those who are Weft
/// nodes by the managers' word; Docker's scheme, whose nonces can repeat, is for the others alone.
pub(crate) fn encryption(
    state: &State,
    around: &Surroundings,
    peers: &BTreeMap<NetworkId, NetworkPeers>,
) -> Option<EncryptionWish> {
    let (swarm, EncryptionSetting { port, engine, queues }) = (state.swarm()?, around.encryption?);
    let encrypted = state.networks().filter(|n| n.overlay().is_some_and(|spec| spec.encrypted));
    let plans = encrypted.filter_map(|n| Some((n, overlay(state, around, n, peers)?)));
    let mut segments = Vec::new();
    for (network, plan) in plans {
        let netns = around.paths.overlay_netns(&network.id);
        segments.extend(plan.segments.iter().enumerate().map(|(index, segment)| {
            EncryptedSegment {
                vni: segment.vni,
                netns: netns.clone(),
                device: OverlayNetwork::tunnel_name(index),
                stations: plan
                    .forwarding()
                    .filter(|(of, _, _)| *of == index)
                    .map(|(_, mac, vtep)| (mac, vtep))
                    .collect(),
            }
        }));
    }
    let weft: BTreeSet<IpAddr> = swarm.members.iter().filter(|m| m.is_weft).map(|m| m.data_path).collect();
    let on_them = segments.iter().flat_map(|segment| segment.stations.iter().map(|(_, vtep)| *vtep));
    let scheme = |vtep| match swarm.managed && weft.contains(&vtep) {
        true => EncryptionScheme::Paired,
        false => EncryptionScheme::Docker,
    };
    let peers = on_them.filter(|vtep| *vtep != swarm.data_path).map(|vtep| (vtep, scheme(vtep))).collect();
    (!segments.is_empty()).then(|| EncryptionWish {
        engine,
        queues,
        address: swarm.data_path,
        port,
        vxlan_port: swarm.data_path_port,
        keys: swarm.encryption_keys.clone(),
        peers,
        segments,
    })
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
            ips: endpoint.ips().collect(),
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
    let underlay = Underlay::of(swarm.data_path);
    // What stands in an encrypted network's own options is meant for Docker's way to compute it.
    let by_docker = told.is_none() && (spec.mtu.is_some() || !swarm.managed);
    let left = match (spec.encrypted, by_docker) {
        (false, _) => base.over_vxlan(underlay),
        (true, false) => base.over_encrypted_vxlan(underlay),
        (true, true) => base.over_dockers_encrypted_vxlan(underlay),
    };
    left.unwrap_or(Mtu::MIN)
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
                sandbox: match sandbox.is_handed() {
                    true => around.host.clone(),
                    false => around.paths.sandbox_ref(&sandbox.id),
                },
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
        // A node that does not encrypt has nobody on such a network. A device that leads nowhere is the safer one.
        encryption: spec
            .encrypted
            .then(|| around.encryption.map_or(EncryptionEngine::Userspace, |setting| setting.engine)),
        fast: around.fast,
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
        let (mtu, device) = match (&network.driver, state.swarm()) {
            (Driver::Bridge(settings), _) => (Some(settings.mtu), SandboxDevice::VethEnd),
            (Driver::Overlay(spec), Some(swarm)) => (Some(overlay_mtu(spec, swarm)), SandboxDevice::VethEnd),
            (Driver::SubInterface(settings), _) => {
                (settings.mtu, SandboxDevice::SubInterface(settings.device(&around.host)))
            }
            _ => continue,
        };
        plan.interfaces.push(SandboxInterface {
            name: endpoint.interface.clone(),
            mac: endpoint.mac,
            mtu,
            addresses: endpoint.addresses().collect(),
            device,
        });
        for (key, value) in endpoint_sysctls(&endpoint.driver_opts) {
            plan.sysctls.push((key.replace("IFNAME", endpoint.interface.as_str()), value));
        }
    }
    for ipv6 in [false, true] {
        if let Some((endpoint, gateway)) = state.gateway_endpoint(sandbox, ipv6) {
            // Where the parent's namespace routes there is nobody to ask for a router's Ethernet address.
            let sharing =
                state.network(&endpoint.network).and_then(Network::sub_interface).map(|s| s.sharing);
            if sharing.is_none_or(Sharing::has_neighbours) {
                plan.gateways.push((gateway, endpoint.interface.clone()));
            } else {
                let all = Route::default_via(gateway, endpoint.interface.clone()).destination;
                plan.routes.push(Route::on_link(all, endpoint.interface.clone()));
            }
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
