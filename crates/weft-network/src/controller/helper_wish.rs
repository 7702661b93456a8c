//! What the helper shall do, from the controller's state: resolvers and their names, gossip, encryption, the audit.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;

use weft_plan::{EntryNode, NamespaceRef, NamespaceState};
use weft_types::{EndpointAddress, MacAddr, NetworkId};
use weft_wire::networkdb::{EndpointRecord, PeerRecord};

use crate::controller::audit::Place;
use crate::controller::{Controller, Touched, swarm::used};
use crate::helper::protocol::{GossipWish, HelperState, LeaseWish, OwnEntry, ResolverWish};
use crate::network::Network;
use crate::peers::{ENDPOINT_TABLE, PEER_TABLE};
use crate::plans;
use crate::resolver::{NameRecord, NamedPort, NetworkNames};
use crate::sandbox::{Endpoint, Sandbox};
use crate::services::{KnownService, Services};
use crate::state::State;
use crate::swarm::SwarmState;

/// What Docker calls a node's load balancer on the ingress network.
pub(super) const INGRESS_BALANCER: &str = "ingress-endpoint";
/// Port of gossip.
const GOSSIP_PORT: u16 = weft_gossip::GOSSIP_PORT;

impl Controller {
    /// What this host says in a key-value store is under this lease: it is kept while the daemon is away.
    pub fn keep_lease(&self, lease: Option<LeaseWish>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
        self.push_helper();
    }

    /// The present state as a wish.
    pub(super) fn helper_state(&self, state: &State) -> HelperState {
        let sandboxes = state.sandboxes.values().filter(|s| s.has_namespace() && state.has_resolver(s));
        let named =
            state.networks().filter(|n| n.gives_names() && state.endpoints_on(&n.id).next().is_some());
        HelperState {
            generation: 0,
            sandboxes: sandboxes.map(|sandbox| self.resolver_wish(state, sandbox)).collect(),
            networks: named.map(|network| self.names(state, network)).collect(),
            gossip: state.swarm().and_then(|swarm| gossip_wish(state, swarm)),
            encryption: plans::encryption(state, &self.around, &self.peers.load()),
            lease: self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            balance: self.balanced_places(state),
            // But for services: these are in the wish for each set of networks once.
            audit: self
                .desired_with(|sandbox| plans::sandbox(state, &self.around, sandbox).plan())
                .into_iter()
                .map(|(place, want)| match place {
                    Place::Host => (NamespaceRef::host(), want),
                    Place::Pinned(path) => (NamespaceRef::at(path), want),
                })
                .collect(),
        }
    }

    /// The part of [`HelperState::audit`] that a change concerns.
    pub(super) fn touched_wish(
        &self,
        state: &State,
        touched: &Touched,
        host: bool,
    ) -> Vec<(NamespaceRef, NamespaceState)> {
        let (peers, paths) = (self.peers.load(), &self.around.paths);
        let overlays = touched.overlays.iter().filter_map(|id| state.network(id)).filter_map(|network| {
            let plan = plans::overlay(state, &self.around, network, &peers)?;
            Some((NamespaceRef::at(paths.overlay_netns(&network.id)), plan.plan()))
        });
        let host = host.then(|| (NamespaceRef::host(), self.host_plan(state, self.mesh_plan(state))));
        let sandboxes = touched.sandboxes.iter().filter_map(|container| state.sandboxes.get(container));
        let sandboxes = sandboxes.filter(|sandbox| sandbox.has_namespace()).map(|sandbox| {
            (paths.sandbox_ref(&sandbox.id), plans::sandbox(state, &self.around, sandbox).plan())
        });
        overlays.chain(host).chain(sandboxes).collect()
    }

    fn resolver_wish(&self, state: &State, sandbox: &Sandbox) -> ResolverWish {
        let resolver = self.resolver_of(state, sandbox);
        let mut networks: Vec<&Network> = sandbox
            .endpoints
            .iter()
            .filter_map(|e| state.network(&e.network))
            .filter(|n| n.gives_names())
            .collect();
        // The swarm's networks are asked before local ones.
        networks.sort_by_key(|network| (network.overlay().is_none(), network.name.clone()));
        let private = sandbox.endpoints.iter().flat_map(|endpoint| {
            endpoint.links.iter().filter_map(|(alias, target)| {
                let found = state.endpoints_on(&endpoint.network).find(|(other, theirs)| {
                    other.dns_names(theirs).contains(target) || other.spec.container.as_str() == target
                });
                found.map(|(_, theirs)| (alias.clone(), theirs.ips().collect()))
            })
        });
        let way_out = [false, true].iter().any(|v6| state.gateway_endpoint(sandbox, *v6).is_some());
        ResolverWish {
            id: sandbox.id.clone(),
            netns: self.around.paths.sandbox_netns(&sandbox.id),
            ports: sandbox.resolver,
            networks: networks.iter().map(|network| network.id.to_string()).collect(),
            private: private.collect(),
            upstreams: resolver.upstreams,
            ndots_set: resolver.ndots_set,
            isolated: !way_out,
            stack: sandbox.endpoints.iter().find_map(|e| e.service.as_ref()?.stack.clone()),
        }
    }

    fn names(&self, state: &State, network: &Network) -> NetworkNames {
        let known = self.services.load().get(&network.id).cloned().unwrap_or_default();
        let stacks: BTreeMap<&str, Option<&String>> =
            known.iter().map(|service| (service.id.as_str(), service.stack.as_ref())).collect();
        let stack = |service: Option<&str>| service.and_then(|id| stacks.get(id).copied().flatten()).cloned();
        let local = state.endpoints_on(&network.id).filter(|(_, endpoint)| state.takes_traffic(endpoint));
        let mut records: Vec<NameRecord> = local
            .map(|(sandbox, endpoint)| NameRecord {
                names: sandbox.dns_names(endpoint),
                canonical: Some(sandbox.spec.name.clone()),
                ips: endpoint.ips().collect(),
                stack: stack(endpoint.service.as_ref().map(|service| service.id.as_str())),
                ..NameRecord::default()
            })
            .collect();
        let peers = self.peers.load();
        let remote = peers.get(&network.id).map(|known| known.names.as_slice()).unwrap_or_default();
        records.extend(remote.iter().map(|name| NameRecord {
            names: name.names.clone(),
            canonical: Some(name.canonical.clone()),
            ips: name.ips.clone(),
            stack: stack(name.service.as_deref()),
            ..NameRecord::default()
        }));
        let named_ports = named_ports(&self.services.load());
        let ports = |service: &KnownService| named_ports.get(&service.id).cloned().unwrap_or_default();
        records.extend(known.iter().flat_map(|service| service_names(service, ports(service))));
        let subnets = network.subnets();
        NetworkNames { id: network.id.to_string(), name: network.name.clone(), subnets, records }
    }
}

/// A service answers with its own addresses, or with its tasks'; `tasks.` always with its tasks'. Its names stand as
/// long as it does, also while none of its tasks takes traffic: nobody outside is asked for them.
fn service_names(service: &KnownService, ports: Vec<NamedPort>) -> [NameRecord; 2] {
    let names: Vec<String> = std::iter::once(&service.name).chain(&service.aliases).cloned().collect();
    let ready = service.backends.iter().filter(|backend| backend.ready);
    let tasks: Vec<IpAddr> = ready.flat_map(|backend| &backend.ips).copied().collect();
    let lasting = !service.virtual_ips.is_empty();
    let ips = if lasting { service.named_virtual_ips() } else { tasks.clone() };
    let of_tasks = NameRecord {
        names: names.iter().map(|name| format!("tasks.{name}")).collect(),
        ips: tasks,
        stack: service.stack.clone(),
        ..NameRecord::default()
    };
    [of_tasks, NameRecord { names, ips, stack: service.stack.clone(), lasting, ports, canonical: None }]
}

/// Published ports with names, by service: only on the ingress network they are known.
fn named_ports(services: &Services) -> BTreeMap<String, Vec<NamedPort>> {
    let mut named: BTreeMap<String, Vec<NamedPort>> = BTreeMap::new();
    for service in services.values().flat_map(|services| services.iter()) {
        let ports = service.ports.iter().filter(|port| !port.name.is_empty());
        let ports = ports.map(|port| NamedPort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.target,
        });
        named.entry(service.id.clone()).or_default().extend(ports);
    }
    named
}

/// This node's part in gossip: the networks it is on, its endpoints, and its load-balancer addresses.
pub(super) fn gossip_wish(state: &State, swarm: &SwarmState) -> Option<GossipWish> {
    if swarm.gossip_keys.is_empty() {
        return None;
    }
    let networks = used(state);
    let mut entries = Vec::new();
    for network in &networks {
        for (sandbox, endpoint) in state.endpoints_on(network) {
            let serving = state.takes_traffic(endpoint);
            entries.extend(endpoint_entries(network, sandbox, endpoint, swarm, serving));
        }
        let known = swarm.networks.get(network);
        if let Some(address) = known.and_then(|known| known.load_balancer) {
            let ingress = state.network(network).is_some_and(Network::is_ingress);
            entries.extend(load_balancer_entries(network, address, swarm, ingress));
        }
    }
    let owners = swarm.managed.then(|| swarm.members.iter().map(|member| member.data_path).collect());
    Some(GossipWish {
        advertise: SocketAddr::new(swarm.advertise, GOSSIP_PORT),
        keys: swarm.gossip_keys.clone(),
        join: swarm.gossip_join.clone(),
        networks: networks.iter().map(NetworkId::to_string).collect(),
        entries,
        owners,
    })
}

/// Docker's nodes have a name for it on the ingress network only.
fn load_balancer_entries(
    network: &NetworkId,
    address: EndpointAddress,
    swarm: &SwarmState,
    ingress: bool,
) -> Vec<OwnEntry> {
    let entry = |table: &str, value: Vec<u8>| OwnEntry {
        network: network.to_string(),
        table: table.to_owned(),
        key: load_balancer_key(network, swarm),
        value,
    };
    // Replies of Docker's tasks come to where clients enter this node.
    let mac = if ingress { EntryNode(swarm.data_path).mac() } else { MacAddr::from_ip(address.ip()) };
    let peer = PeerRecord { address, mac, vtep: swarm.data_path };
    let name = EndpointRecord {
        name: INGRESS_BALANCER.to_owned(),
        service_name: String::new(),
        service_id: String::new(),
        virtual_ip: None,
        endpoint_ip: address.ip(),
        ingress_ports: Vec::new(),
        aliases: Vec::new(),
        task_aliases: Vec::new(),
        service_disabled: false,
    };
    let name = ingress.then(|| entry(ENDPOINT_TABLE, name.encode()));
    std::iter::once(entry(PEER_TABLE, peer.encode())).chain(name).collect()
}

/// An endpoint's id has 64 hexadecimal digits; this one is the same at every start.
pub(super) fn load_balancer_key(network: &NetworkId, swarm: &SwarmState) -> String {
    let text = format!("{network}{}", swarm.node_id);
    hex::encode(&text.as_bytes()[..32.min(text.len())])
}

fn endpoint_entries(
    network: &NetworkId,
    sandbox: &Sandbox,
    endpoint: &Endpoint,
    swarm: &SwarmState,
    serving: bool,
) -> Vec<OwnEntry> {
    let Some(address) = endpoint.address.or(endpoint.address6) else { return Vec::new() };
    let entry = |table: &str, value: Vec<u8>| OwnEntry {
        network: network.to_string(),
        table: table.to_owned(),
        key: endpoint.id.to_string(),
        value,
    };
    let mut names = sandbox.dns_names(endpoint);
    let service = endpoint.service.as_ref();
    let names = EndpointRecord {
        name: names.remove(0),
        service_name: service.map(|service| service.name.clone()).unwrap_or_default(),
        service_id: service.map(|service| service.id.clone()).unwrap_or_default(),
        virtual_ip: service.and_then(|service| service.virtual_ip),
        endpoint_ip: address.ip(),
        ingress_ports: service.into_iter().flat_map(|service| &service.ports).map(Into::into).collect(),
        aliases: service.map(|service| service.aliases.clone()).unwrap_or_default(),
        task_aliases: names,
        service_disabled: !serving,
    };
    let peer = PeerRecord { address, mac: endpoint.mac, vtep: swarm.data_path };
    vec![entry(PEER_TABLE, peer.encode()), entry(ENDPOINT_TABLE, names.encode())]
}
