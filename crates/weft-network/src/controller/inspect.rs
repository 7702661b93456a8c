//! What users ask to see of a network: services with their tasks on all nodes, containers on other nodes, the door
//! into the routing mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::PoisonError;

use weft_plan::EntryNode;
use weft_types::NetworkId;
use weft_wire::networkdb::EndpointRecord;

use super::Controller;
use super::helper_wish::{INGRESS_BALANCER, load_balancer_key};
use crate::network::Network;
use crate::peers::ENDPOINT_TABLE;
use crate::services::KnownService;
use crate::state::State;
use crate::view::{EndpointOnNetwork, MeshDoor, ServiceOnNetwork};

impl Controller {
    /// The services on a network, by name; containers that are no tasks last, under the empty name.
    pub fn services_on(&self, network: &NetworkId) -> Vec<ServiceOnNetwork> {
        let state = self.state.load();
        let named = self.named_endpoints(&state, network);
        let services = self.services.load();
        let known = services.get(network).map_or(&[][..], |known| known.as_slice());
        let mut all: Vec<ServiceOnNetwork> = known.iter().map(|service| view(service, &named)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let of_services: BTreeSet<IpAddr> =
            known.iter().flat_map(|service| &service.backends).flat_map(|b| b.ips.iter().copied()).collect();
        let plain = named.into_values().filter(|endpoint| !of_services.contains(&endpoint.address));
        let plain: Vec<EndpointOnNetwork> = plain.collect();
        if !plain.is_empty() {
            all.push(ServiceOnNetwork { endpoints: plain, ..ServiceOnNetwork::default() });
        }
        all
    }

    /// Where this node enters the routing mesh; none on other networks than the swarm's ingress network.
    pub fn mesh_door(&self, network: &NetworkId) -> Option<MeshDoor> {
        let state = self.state.load();
        let swarm = state.swarm()?;
        state.network(network).filter(|network| network.is_ingress())?;
        let address = swarm.networks.get(network).and_then(|told| told.load_balancer);
        let mac = EntryNode(swarm.data_path).mac();
        Some(MeshDoor { endpoint_id: load_balancer_key(network, swarm), mac, address })
    }

    /// All endpoints of a network that have a name, by address: this node's, those that the managers tell of, those of
    /// Docker's nodes.
    fn named_endpoints(&self, state: &State, network: &NetworkId) -> BTreeMap<IpAddr, EndpointOnNetwork> {
        let mut named = BTreeMap::new();
        let Some(swarm) = state.swarm() else { return named };
        let gossiped = self.gossiped.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in gossiped.of_network(network, ENDPOINT_TABLE) {
            let Ok(record) = EndpointRecord::decode(&value.value) else { continue };
            if record.name != INGRESS_BALANCER {
                let endpoint = EndpointOnNetwork {
                    id: key.key.clone(),
                    name: record.name,
                    address: record.endpoint_ip,
                    host: value.owner_address,
                };
                named.insert(endpoint.address, endpoint);
            }
        }
        drop(gossiped);
        for told in swarm.networks.get(network).into_iter().flat_map(|told| &told.endpoints) {
            let Some(address) = told.addresses.first().copied() else { continue };
            let endpoint =
                EndpointOnNetwork { id: told.id.clone(), name: told.name.clone(), address, host: told.vtep };
            named.insert(address, endpoint);
        }
        let object: Option<&Network> = state.network(network);
        for (sandbox, endpoint) in state.endpoints_on(network) {
            let (Some(address), Some(object)) = (endpoint.ips().next(), object) else { continue };
            let view = sandbox.view(endpoint, object);
            let id = endpoint.id.to_string();
            named.insert(address, EndpointOnNetwork { id, name: view.name, address, host: swarm.data_path });
        }
        named
    }
}

fn view(service: &KnownService, named: &BTreeMap<IpAddr, EndpointOnNetwork>) -> ServiceOnNetwork {
    let endpoints = service.backends.iter().filter_map(|backend| {
        let address = *backend.ips.first()?;
        let known = named.get(&address);
        Some(EndpointOnNetwork {
            id: known.map(|known| known.id.clone()).unwrap_or_default(),
            name: backend.name.clone(),
            address,
            host: backend.vtep,
        })
    });
    ServiceOnNetwork {
        name: service.name.clone(),
        virtual_ip: service.virtual_ips.first().copied(),
        ports: service.ports.clone(),
        endpoints: endpoints.collect(),
    }
}
