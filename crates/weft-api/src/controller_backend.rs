//! The network controller as the API sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use tokio_stream::wrappers::BroadcastStream;
use weft_engine::NetworkFailure;
use weft_network::{
    Controller, EndpointView, Network, NetworkError, NetworkEventSubject, NetworkSpec, OverlaySpec,
    OverlaySubnet, Pool, SwarmState,
};
use weft_types::Classified as _;

use crate::network_backend::{
    Attachment, LocalEndpoint, LocalNetwork, NetworkBackend, NetworkEvent, Peer, Subnet,
};

/// Option that tells a network's VNIs, one for each subnet.
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// Docker's names in gossip have so many characters.
const PEER_NAME_LENGTH: usize = 12;

#[async_trait]
impl NetworkBackend for Controller {
    fn networks(&self) -> Vec<LocalNetwork> {
        let swarm = self.swarm_state();
        Controller::networks(self).iter().map(|network| view(self, network, swarm.as_ref())).collect()
    }

    async fn create_network(&self, spec: NetworkSpec) -> Result<String, NetworkFailure> {
        let made = Controller::create_network(self, spec).await.map_err(|error| failure(&error))?;
        Ok(made.id.to_string())
    }

    async fn remove_network(&self, term: &str) -> Result<(), NetworkFailure> {
        Controller::remove_network(self, term).await.map_err(|error| failure(&error))?;
        Ok(())
    }

    fn events(&self) -> Pin<Box<dyn Stream<Item = NetworkEvent> + Send>> {
        let events = BroadcastStream::new(Controller::events(self));
        Box::pin(events.filter_map(|event| async move { event.ok().map(event_of) }))
    }
}

fn failure(error: &NetworkError) -> NetworkFailure {
    NetworkFailure { message: error.to_string(), kind: error.kind() }
}

fn event_of(event: weft_network::NetworkEvent) -> NetworkEvent {
    use weft_network::NetworkEvent as Of;
    let (action, subject, container) = match event {
        Of::Created(subject) => ("create", subject, None),
        Of::Destroyed(subject) => ("destroy", subject, None),
        Of::Connected(subject, container) => ("connect", subject, Some(container)),
        Of::Disconnected(subject, container) => ("disconnect", subject, Some(container)),
    };
    let NetworkEventSubject { id, name, driver } = subject;
    let mut attributes = BTreeMap::from([("name".to_owned(), name), ("type".to_owned(), driver)]);
    attributes.extend(container.map(|container| ("container".to_owned(), container.to_string())));
    NetworkEvent { action: action.to_owned(), network: id.to_string(), attributes, time: SystemTime::now() }
}

fn view(controller: &Controller, network: &Network, swarm: Option<&SwarmState>) -> LocalNetwork {
    let endpoints = controller.endpoints_of(&network.id);
    let overlay = network.overlay();
    let mut options = network.options.clone();
    if let Some(overlay) = overlay {
        let vnis: Vec<String> =
            overlay.subnets.iter().filter_map(|s| s.vni).map(|vni| u32::from(vni).to_string()).collect();
        options.entry(VNI_OPTION.to_owned()).or_insert_with(|| vnis.join(","));
    }
    LocalNetwork {
        id: network.id.to_string(),
        name: network.name.clone(),
        created: network.created,
        swarm_scope: overlay.is_some(),
        driver: network.driver_name().to_owned(),
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        internal: network.internal,
        attachable: network.attachable,
        ingress: overlay.is_some_and(|o| o.ingress),
        subnets: overlay.map_or_else(|| network.pools.iter().map(subnet).collect(), overlay_subnets),
        options,
        labels: network.labels.clone(),
        ipam_options: network.ipam_options.clone(),
        predefined: network.is_predefined(),
        peers: overlay.and(swarm).map(|swarm| peers(network, swarm)),
        attachments: overlay
            .and(swarm)
            .map(|swarm| attachments(network, &endpoints, swarm))
            .unwrap_or_default(),
        containers: endpoints.iter().map(endpoint).collect(),
    }
}

fn subnet(pool: &Pool) -> Subnet {
    Subnet {
        subnet: Some(pool.subnet),
        range: pool.range,
        gateway: pool.show_gateway.then_some(pool.gateway),
        auxiliary: pool.auxiliary.clone(),
    }
}

fn overlay_subnets(overlay: &OverlaySpec) -> Vec<Subnet> {
    let subnet = |s: &OverlaySubnet| Subnet {
        subnet: Some(s.subnet),
        range: s.range,
        gateway: s.gateway,
        auxiliary: s.auxiliary.clone(),
    };
    overlay.subnets.iter().map(subnet).collect()
}

fn endpoint(endpoint: &EndpointView) -> LocalEndpoint {
    LocalEndpoint {
        container: endpoint.container.to_string(),
        name: endpoint.name.clone(),
        endpoint_id: endpoint.id.to_string(),
        mac: endpoint.mac.to_string(),
        ipv4: endpoint.address.map(|a| a.to_string()).unwrap_or_default(),
        ipv6: endpoint.address6.map(|a| a.to_string()).unwrap_or_default(),
    }
}

/// This node, and all that have endpoints on the network by the managers' word.
fn peers(network: &Network, swarm: &SwarmState) -> Vec<Peer> {
    let remote = swarm.networks.get(&network.id).into_iter().flat_map(|n| &n.endpoints).map(|e| &e.node_id);
    let nodes: BTreeSet<_> = remote.chain([&swarm.node_id]).collect();
    let members = swarm.members.iter().filter(|member| nodes.contains(&member.node_id));
    let mut peers: Vec<Peer> = members
        .map(|member| Peer {
            name: member.gossip_name.clone().unwrap_or_else(|| short(member.node_id.as_str())),
            address: member.data_path,
        })
        .collect();
    if !swarm.members.iter().any(|member| member.node_id == swarm.node_id) {
        peers.push(Peer { name: short(swarm.node_id.as_str()), address: swarm.data_path });
    }
    peers
}

fn short(node_id: &str) -> String {
    node_id.chars().take(PEER_NAME_LENGTH).collect()
}

fn attachments(network: &Network, local: &[EndpointView], swarm: &SwarmState) -> Vec<Attachment> {
    let here = local.iter().filter_map(|e| {
        let address = e.address.or(e.address6)?.ip();
        let (name, endpoint_id) = (e.name.clone(), e.id.to_string());
        Some(Attachment { name, endpoint_id, address, host: swarm.data_path })
    });
    let remote = swarm.networks.get(&network.id).into_iter().flat_map(|n| &n.endpoints).filter_map(|e| {
        let address = *e.addresses.first()?;
        Some(Attachment { name: e.name.clone(), endpoint_id: e.id.clone(), address, host: e.vtep })
    });
    here.chain(remote).collect()
}
