//! The routing mesh as this node has it: published ports with the tasks behind them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_plan::{Entries, EntryNode, IngressBackend, IngressHost, IngressTask, MeshPort, TaskPort};
use weft_types::{MacAddr, NetworkId, PortProtocol};

use crate::peers::NetworkPeers;
use crate::plans::overlay_mtu;
use crate::sandbox::{Endpoint, Sandbox};
use crate::services::{KnownBackend, KnownService, Services};
use crate::state::State;
use crate::swarm::{IngressPort, SourceMode, SwarmState};

/// A port of this node that the mesh answers at.
pub(crate) type MeshKey = (PortProtocol, u16);

/// The host's part; none where there is no ingress network.
pub(crate) fn host(
    state: &State,
    peers: &BTreeMap<NetworkId, NetworkPeers>,
    services: &Services,
) -> Option<IngressHost> {
    let (swarm, network) = (state.swarm()?, state.ingress()?);
    let spec = network.overlay()?;
    let macs = macs(state, peers.get(&network.id), &network.id);
    let mut ports: BTreeMap<MeshKey, Vec<IngressBackend>> = BTreeMap::new();
    for service in services.get(&network.id).into_iter().flat_map(|services| services.iter()) {
        for port in &service.ports {
            let backends =
                service.backends.iter().flat_map(|backend| addresses(service, backend, port, &macs));
            ports.entry((port.protocol, port.published)).or_default().extend(backends);
        }
    }
    let balancer = swarm.networks.get(&network.id).and_then(|told| told.load_balancer);
    Some(IngressHost {
        node: EntryNode(swarm.data_path),
        mtu: overlay_mtu(spec, swarm),
        ipv6: spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6()),
        load_balancer: balancer.map(|address| address.ip()).into_iter().collect(),
        ports: ports
            .into_iter()
            .map(|((protocol, published), backends)| MeshPort { protocol, published, backends })
            .collect(),
    })
}

/// Ethernet addresses on the network, by IP address.
fn macs(state: &State, peers: Option<&NetworkPeers>, network: &NetworkId) -> BTreeMap<IpAddr, MacAddr> {
    let local =
        state.endpoints_on(network).flat_map(|(_, endpoint)| endpoint.ips().map(|ip| (ip, endpoint.mac)));
    let remote = peers.into_iter().flat_map(|known| &known.peers);
    let remote = remote.flat_map(|peer| peer.ips.iter().map(|ip| (*ip, peer.mac)));
    remote.chain(local).collect()
}

/// A task's addresses; one whose Ethernet address is not known yet cannot be sent to.
fn addresses<'a>(
    service: &KnownService,
    backend: &'a KnownBackend,
    port: &IngressPort,
    macs: &'a BTreeMap<IpAddr, MacAddr>,
) -> impl Iterator<Item = IngressBackend> + use<'a> {
    // Docker's tasks are reached as Docker's nodes reach them: from an address of the network, at the published port.
    let source_nat = !backend.is_weft || service.source == SourceMode::Snat;
    let (port, ready) = (if backend.is_weft { port.target } else { port.published }, backend.ready);
    backend
        .ips
        .iter()
        .filter_map(move |ip| Some(IngressBackend { ip: *ip, mac: *macs.get(ip)?, port, ready, source_nat }))
}

/// Where connections enter: the Weft nodes of the swarm, by the managers' word.
pub(crate) fn entries(swarm: &SwarmState) -> Entries {
    let weft = swarm.members.iter().filter(|member| member.is_weft);
    let others: BTreeSet<EntryNode> = weft.map(|member| EntryNode(member.data_path)).collect();
    Entries { others: others.into_iter().filter(|node| node.0 != swarm.data_path).collect() }
}

/// A container's part; none for one that is no task with published ports.
pub(crate) fn task(state: &State, sandbox: &Sandbox) -> Option<IngressTask> {
    let swarm = state.swarm()?;
    let on_mesh = |endpoint: &&Endpoint| state.network(&endpoint.network).is_some_and(|n| n.is_ingress());
    let endpoint = sandbox.endpoints.iter().find(on_mesh)?;
    let service = endpoint.service.as_ref()?;
    let ports: BTreeSet<TaskPort> = service
        .ports
        .iter()
        .map(|p| TaskPort { protocol: p.protocol, published: p.published, target: p.target })
        .collect();
    let mut nodes = entries(swarm).others;
    nodes.push(EntryNode(swarm.data_path));
    Some(IngressTask {
        interface: endpoint.interface.clone(),
        addresses: endpoint.ips().collect(),
        entries: nodes,
        ports: ports.into_iter().collect(),
    })
}

#[cfg(test)]
#[path = "ingress_tests.rs"]
mod tests;
