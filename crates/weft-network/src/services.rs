//! The services of a network with their tasks, from all sources. Pure.
//!
//! The managers' word says which services there are and which tasks of Weft's nodes take traffic; this node knows its
//! own tasks before the managers do; gossip tells of tasks on Docker's nodes. With Docker's managers there is no such
//! word: services then are what gossip and this node's own tasks say. What names answer, VIPs balance over and the
//! routing mesh leads to all follows from here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_types::NetworkId;

use crate::peers::{NetworkPeers, PeerTask};
use crate::state::State;
use crate::swarm::{IngressPort, SourceMode, SwarmService, SwarmServiceState};

/// A service on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownService {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) stack: Option<String>,
    /// None: its names stand for its tasks.
    pub(crate) virtual_ips: Vec<IpAddr>,
    /// Only on the ingress network.
    pub(crate) ports: Vec<IngressPort>,
    pub(crate) source: SourceMode,
    /// By name.
    pub(crate) backends: Vec<KnownBackend>,
}

/// A task of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownBackend {
    /// Its container's name.
    pub(crate) name: String,
    pub(crate) ips: Vec<IpAddr>,
    /// Takes new flows and is named in answers. False: it is about to end, begins, or is not well.
    pub(crate) ready: bool,
    /// On this node.
    pub(crate) local: bool,
    /// Data-path address of its node.
    pub(crate) vtep: IpAddr,
    /// Its node is Weft's.
    pub(crate) is_weft: bool,
}

impl KnownService {
    /// The virtual addresses that its names stand for: not one of a family that no task that takes flows is known by.
    /// Gossip tells one address of each of Docker's tasks, and who asked for the other family would be refused.
    pub(crate) fn named_virtual_ips(&self) -> Vec<IpAddr> {
        let ready = self.backends.iter().filter(|backend| backend.ready).flat_map(|backend| &backend.ips);
        let families: BTreeSet<bool> = ready.map(IpAddr::is_ipv6).collect();
        let named =
            self.virtual_ips.iter().filter(|ip| families.is_empty() || families.contains(&ip.is_ipv6()));
        named.copied().collect()
    }
}

/// The services of all networks that this node is on, the ingress network among them.
pub(crate) type Services = BTreeMap<NetworkId, Arc<Vec<KnownService>>>;

/// The services of `network`, by id.
pub(crate) fn known_services(
    state: &State,
    peers: Option<&NetworkPeers>,
    network: &NetworkId,
) -> Vec<KnownService> {
    let Some(swarm) = state.swarm() else { return Vec::new() };
    let mut known: BTreeMap<&str, KnownService> = BTreeMap::new();
    if let Some(told) = swarm.networks.get(network) {
        known.extend(told.services.values().map(|service| (service.id.as_str(), told_service(service))));
        for endpoint in told.endpoints.iter().filter(|endpoint| endpoint.node_id != swarm.node_id) {
            let Some(service) = endpoint.service.as_deref().and_then(|id| known.get_mut(id)) else {
                continue;
            };
            service.backends.push(KnownBackend {
                name: endpoint.name.clone(),
                ips: endpoint.addresses.clone(),
                ready: endpoint.healthy,
                local: false,
                vtep: endpoint.vtep,
                is_weft: true,
            });
        }
    }
    for (sandbox, endpoint) in state.endpoints_on(network) {
        let Some(service) = &endpoint.service else { continue };
        known.entry(&service.id).or_insert_with(|| own_service(service)).backends.push(KnownBackend {
            name: sandbox.spec.name.clone(),
            ips: endpoint.ips().collect(),
            ready: state.takes_traffic(endpoint),
            local: true,
            vtep: swarm.data_path,
            is_weft: true,
        });
    }
    for task in peers.into_iter().flat_map(|peers| &peers.tasks) {
        let service = match known.entry(&task.service_id) {
            Entry::Occupied(service) => service.into_mut(),
            // What services there are is the managers' to say.
            Entry::Vacant(_) if swarm.managed => continue,
            Entry::Vacant(place) => place.insert(gossiped_service(task)),
        };
        let backend = gossiped_backend(task);
        if !service.backends.iter().any(|known| known.ips.contains(&task.ip)) {
            service.backends.push(backend);
        }
    }
    known
        .into_values()
        .map(|mut service| {
            service.backends.sort_by(|a, b| (&a.name, &a.ips).cmp(&(&b.name, &b.ips)));
            service
        })
        .collect()
}

fn told_service(service: &SwarmServiceState) -> KnownService {
    KnownService {
        id: service.id.clone(),
        name: service.name.clone(),
        aliases: service.aliases.clone(),
        stack: service.stack.clone(),
        virtual_ips: service.virtual_ips.clone(),
        ports: service.ports.clone(),
        source: service.source,
        backends: Vec::new(),
    }
}

/// A service that so far only its task here tells of: the managers' word is on its way, or there is none.
fn own_service(service: &SwarmService) -> KnownService {
    KnownService {
        id: service.id.clone(),
        name: service.name.clone(),
        aliases: service.aliases.clone(),
        stack: service.stack.clone(),
        virtual_ips: service.virtual_ip.into_iter().chain(service.further_virtual_ips.clone()).collect(),
        ports: service.ports.clone(),
        source: SourceMode::default(),
        backends: Vec::new(),
    }
}

fn gossiped_service(task: &PeerTask) -> KnownService {
    KnownService {
        id: task.service_id.clone(),
        name: task.service_name.clone(),
        aliases: task.aliases.clone(),
        stack: None,
        virtual_ips: task.virtual_ip.into_iter().collect(),
        ports: task.ports.clone(),
        source: SourceMode::default(),
        backends: Vec::new(),
    }
}

fn gossiped_backend(task: &PeerTask) -> KnownBackend {
    KnownBackend {
        name: task.name.clone(),
        ips: vec![task.ip],
        ready: task.ready,
        local: false,
        vtep: task.vtep,
        is_weft: task.is_weft,
    }
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
