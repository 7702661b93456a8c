//! The network controller as the API sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _};
use tokio_stream::wrappers::BroadcastStream;
use weft_engine::NetworkFailure;
use weft_network::{
    Controller, EncryptionScheme, EndpointOnNetwork, EndpointView, IpamConfig, Network, NetworkError,
    NetworkEventSubject, NetworkSpec, OverlaySpec, OverlaySubnet, Pool, ServiceOnNetwork, SwarmState,
};
use weft_types::Classified as _;

use crate::network_backend::{
    Attachment, EncryptedPath, LocalEndpoint, LocalNetwork, NetworkBackend, NetworkEvent, NetworkFigures,
    NetworkService, Peer, Subnet,
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

    fn services_on(&self, id: &str) -> Vec<NetworkService> {
        let Ok(id) = id.parse() else { return Vec::new() };
        Controller::services_on(self, &id).into_iter().map(service).collect()
    }

    fn encrypted_paths(&self, id: &str) -> Option<Vec<EncryptedPath>> {
        let paths = Controller::encrypted_paths(self, &id.parse().ok()?)?;
        Some(paths.iter().map(encrypted_path).collect())
    }

    async fn figures(&self) -> NetworkFigures {
        let (encryption, audit) = (self.encryption(), self.audit_counters());
        NetworkFigures {
            encrypted_paths: encryption.paths.iter().map(encrypted_path).collect(),
            encryption_drops: encryption.dropped,
            repairs: audit.repairs,
            failed_repairs: audit.failures,
            fast_path: self.fast_path_counters().await,
        }
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

fn encrypted_path(path: &weft_network::EncryptedPath) -> EncryptedPath {
    EncryptedPath {
        address: path.address,
        scheme: match path.scheme {
            EncryptionScheme::Paired => "weft",
            EncryptionScheme::Docker => "docker",
        },
        key_age: path.key_age,
        last_received: path.heard_ago,
        replayed: path.replayed,
        not_authentic: path.not_authentic,
        trouble: path.trouble(),
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
        scope: network.scope(),
        driver: network.driver_name().to_owned(),
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        internal: network.internal,
        attachable: network.attachable,
        ingress: overlay.is_some_and(|o| o.ingress),
        subnets: match (overlay, network.config()) {
            (Some(overlay), _) => overlay_subnets(overlay),
            (_, Some(given)) => given.iter().map(given_subnet).collect(),
            _ => network.pools.iter().map(subnet).collect(),
        },
        options,
        labels: network.labels.clone(),
        ipam_options: network.ipam_options.clone(),
        config_only: network.config().is_some(),
        config_from: network.config_from.clone().unwrap_or_default(),
        predefined: network.is_predefined(),
        peers: overlay.and(swarm).filter(|swarm| swarm.is_of_swarm()).map(|swarm| peers(network, swarm)),
        containers: endpoints.iter().map(endpoint).chain(mesh_door(controller, network)).collect(),
    }
}

/// As it was given: nothing is chosen for settings.
fn given_subnet(config: &IpamConfig) -> Subnet {
    let address = |text: &String| text.parse().ok();
    Subnet {
        subnet: config.subnet.as_ref().and_then(|text| text.parse().ok()),
        range: config.ip_range.as_ref().and_then(|text| text.parse().ok()),
        gateway: config.gateway.as_ref().and_then(address),
        auxiliary: config
            .auxiliary
            .iter()
            .filter_map(|(name, ip)| Some((name.clone(), ip.parse().ok()?)))
            .collect(),
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

/// This node, and all that have endpoints on the network by the managers' word; every node is on the ingress network.
fn peers(network: &Network, swarm: &SwarmState) -> Vec<Peer> {
    let remote = swarm.networks.get(&network.id).into_iter().flat_map(|n| &n.endpoints).map(|e| &e.node_id);
    let nodes: BTreeSet<_> = remote.chain([&swarm.node_id]).collect();
    let on_all = network.overlay().is_some_and(|overlay| overlay.ingress);
    let members = swarm.members.iter().filter(|member| on_all || nodes.contains(&member.node_id));
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

fn service(service: ServiceOnNetwork) -> NetworkService {
    let endpoint = |e: EndpointOnNetwork| Attachment {
        name: e.name,
        endpoint_id: e.id,
        address: e.address,
        host: e.host,
    };
    NetworkService {
        name: service.name,
        virtual_ip: service.virtual_ip,
        ports: service.ports.iter().map(|port| (port.target, port.published)).collect(),
        endpoints: service.endpoints.into_iter().map(endpoint).collect(),
    }
}

/// Docker shows the sandbox that takes connections in from outside among the containers of the ingress network. Ours
/// has no address of its own there unless Docker's nodes need to answer to one.
fn mesh_door(controller: &Controller, network: &Network) -> Option<LocalEndpoint> {
    let door = controller.mesh_door(&network.id)?;
    Some(LocalEndpoint {
        container: "ingress-sbox".to_owned(),
        name: "ingress-endpoint".to_owned(),
        endpoint_id: door.endpoint_id,
        mac: door.mac.to_string(),
        ipv4: door.address.map(|address| address.to_string()).unwrap_or_default(),
        ipv6: String::new(),
    })
}
