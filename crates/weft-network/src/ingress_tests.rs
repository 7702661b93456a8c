use std::sync::Arc;

use weft_types::NodeId;

use super::*;
use crate::network::{Driver, Network};
use crate::peers::Peer;
use crate::state::Lasting;
use crate::swarm::{OverlaySpec, OverlaySubnet, SwarmMember};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mesh() -> OverlaySpec {
    OverlaySpec {
        id: "ingressingressingressingr".parse().unwrap(),
        name: "ingress".to_owned(),
        subnets: vec![OverlaySubnet {
            subnet: "10.0.0.0/24".parse().unwrap(),
            gateway: Some(ip("10.0.0.1")),
            vni: 4096.try_into().ok(),
            range: None,
            auxiliary: BTreeMap::new(),
        }],
        mtu: None,
        attachable: false,
        internal: false,
        encrypted: false,
        ingress: true,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
    }
}

fn member(n: u8, is_weft: bool) -> SwarmMember {
    let node_id: NodeId = format!("{n:025}").parse().unwrap();
    SwarmMember { node_id, data_path: ip(&format!("192.0.2.{n}")), is_weft, gossip_name: None }
}

fn state() -> State {
    let spec = mesh();
    let network = Network {
        id: spec.id.clone(),
        name: spec.name.clone(),
        created: std::time::SystemTime::UNIX_EPOCH,
        driver: Driver::Overlay(Box::new(spec.clone())),
        enable_ipv4: true,
        enable_ipv6: false,
        internal: false,
        attachable: false,
        pools: Vec::new(),
        ipam_options: None,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        config_from: None,
    };
    let swarm = SwarmState {
        node_id: member(1, true).node_id,
        advertise: ip("192.0.2.1"),
        data_path: ip("192.0.2.1"),
        data_path_port: 4789,
        gossip_keys: Vec::new(),
        encryption_keys: Vec::new(),
        gossip_join: Vec::new(),
        members: vec![member(1, true), member(2, true), member(3, false)],
        managed: true,
        networks: BTreeMap::new(),
        ingress: Some(spec.clone()),
    };
    State {
        lasting: Arc::new(Lasting {
            unique_local: "fd00::/48".parse().unwrap(),
            networks: [(spec.id, network)].into(),
        }),
        sandboxes: Arc::default(),
        swarm: Some(Arc::new(swarm)),
        serving: Arc::default(),
    }
}

fn backend(last: u8, node: u8, is_weft: bool) -> KnownBackend {
    KnownBackend {
        name: format!("web.{last}"),
        ips: vec![ip(&format!("10.0.0.{last}"))],
        ready: true,
        local: false,
        vtep: ip(&format!("192.0.2.{node}")),
        is_weft,
    }
}

fn service(source: SourceMode) -> Services {
    let port = IngressPort { protocol: PortProtocol::Tcp, published: 8080, target: 80, name: String::new() };
    let service = KnownService {
        id: "s".to_owned(),
        name: "web".to_owned(),
        aliases: Vec::new(),
        stack: None,
        virtual_ips: Vec::new(),
        ports: vec![port],
        source,
        backends: vec![backend(5, 2, true), backend(6, 3, false), backend(7, 2, true)],
    };
    [(mesh().id, Arc::new(vec![service]))].into()
}

/// Of the task 10.0.0.7 nobody told the Ethernet address yet.
fn peers() -> BTreeMap<NetworkId, NetworkPeers> {
    let peer = |last: u8, node: u8| {
        let address = ip(&format!("10.0.0.{last}"));
        Peer { ips: vec![address], mac: MacAddr::from_ip(address), vtep: ip(&format!("192.0.2.{node}")) }
    };
    let known = NetworkPeers { peers: vec![peer(5, 2), peer(6, 3)], ..NetworkPeers::default() };
    [(mesh().id, known)].into()
}

fn seen(host: &IngressHost) -> Vec<String> {
    let shown =
        |b: &IngressBackend| format!("{}:{}{}", b.ip, b.port, if b.source_nat { " translated" } else { "" });
    host.ports.iter().flat_map(|port| &port.backends).map(shown).collect()
}

#[test]
fn tasks_on_nodes_of_docker_are_reached_at_the_published_port_with_another_source() {
    let host = host(&state(), &peers(), &service(SourceMode::Preserve)).unwrap();
    assert_eq!(seen(&host), ["10.0.0.5:80", "10.0.0.6:8080 translated"]);
    assert_eq!((host.ports[0].published, host.ipv6), (8080, false));
}

#[test]
fn a_service_may_ask_for_another_source() {
    let host = host(&state(), &peers(), &service(SourceMode::Snat)).unwrap();
    assert_eq!(seen(&host), ["10.0.0.5:80 translated", "10.0.0.6:8080 translated"]);
}

#[test]
fn only_nodes_of_weft_let_connections_in_with_their_clients_address() {
    let state = state();
    let others = entries(state.swarm().unwrap()).others;
    assert_eq!(others, [EntryNode(ip("192.0.2.2"))]);
}

#[test]
fn without_an_ingress_network_there_is_no_mesh() {
    let mut state = state();
    let mut swarm = SwarmState::clone(state.swarm().unwrap());
    swarm.ingress = None;
    state.swarm = Some(Arc::new(swarm));
    assert!(host(&state, &peers(), &service(SourceMode::Preserve)).is_none());
}
