//! A node of a swarm whose managers tell it of very many services on one network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use weft_kernel::Netns;
use weft_network::{
    AttachRefused, Controller, EndpointSpec, OverlaySpec, SourceMode, SwarmAttachment, SwarmEndpoint,
    SwarmMember, SwarmNetworkState, SwarmNetworks, SwarmServiceState, SwarmState,
};
use weft_types::{ContainerId, EndpointAddress, MacAddr, TaskId, Vni};

use super::{Host, container, helper_launch, overlay, sandbox, shell};

const NETWORK: &str = "ov1ov1ov1ov1ov1ov1ov1ov11";
/// Of each service, all on another node.
pub const TASKS: usize = 3;
/// Containers here have addresses from there on; services have those before.
const OWN: u32 = 0xff00;

struct Managers {
    attached: AtomicU32,
}

#[async_trait::async_trait]
impl SwarmNetworks for Managers {
    async fn attach(
        &self,
        term: &str,
        _container: &ContainerId,
        _addresses: Vec<IpAddr>,
    ) -> Result<SwarmAttachment, AttachRefused> {
        let attached = self.attached.fetch_add(1, Ordering::Relaxed);
        // By name, and by id where the node knows the network.
        let number = term.strip_prefix("ov").and_then(|number| number.parse().ok()).unwrap_or(1);
        let (network, own) = match number {
            1u32 => (network(), address((OWN + attached) as usize)),
            _ => (other_network(number), Ipv4Addr::from(subnet(number) + 2).into()),
        };
        let subnet = network.subnets[0].subnet;
        Ok(SwarmAttachment {
            attachment: TaskId::random(&mut rand::rng()),
            network,
            addresses: vec![EndpointAddress::new(own, subnet)],
            service: None,
        })
    }

    async fn detach(&self, _attachment: &TaskId) -> Result<(), AttachRefused> {
        Ok(())
    }
}

fn network() -> OverlaySpec {
    overlay(NETWORK, &[("10.1.0.0/16", "10.1.0.1")])
}

/// First address of a network's subnet of 256: from 10.100.0.0 on.
fn subnet(network: u32) -> u32 {
    0x0a64_0000 + network * 256
}

/// A network beside the one with all the services.
fn other_network(number: u32) -> OverlaySpec {
    let (first, gateway) = (Ipv4Addr::from(subnet(number)), Ipv4Addr::from(subnet(number) + 1));
    // Its begin names its namespace.
    let id = format!("n{number:05}{:0<19}", "");
    let mut spec = overlay(&id, &[(&format!("{first}/24"), &gateway.to_string())]);
    spec.name = format!("ov{number}");
    spec.subnets[0].vni = Some(Vni::try_from(5000 + number).unwrap());
    spec
}

/// 10.1.0.0 and `number` on.
fn address(number: usize) -> IpAddr {
    Ipv4Addr::from(0x0a01_0000 + number as u32).into()
}

/// So many services, each with [`TASKS`] tasks.
pub fn services(count: usize) -> SwarmNetworkState {
    let mut state = SwarmNetworkState::default();
    (0..count).for_each(|number| add_service(&mut state, number));
    state
}

/// One more.
pub fn add_service(state: &mut SwarmNetworkState, number: usize) {
    let first = 2 + number * (TASKS + 1);
    let id = add_bare_service(state, number, first);
    state.endpoints.extend((1..=TASKS).map(|slot| {
        let name = format!("s{number}.{slot}.{id}");
        SwarmEndpoint { service: Some(id.clone()), ..endpoint(first + slot, name) }
    }));
}

/// One service with so many tasks.
pub fn service_of(tasks: usize) -> SwarmNetworkState {
    let mut state = SwarmNetworkState::default();
    let id = add_bare_service(&mut state, 0, 2);
    state.endpoints.extend((1..=tasks).map(|slot| {
        let name = format!("s0.{slot}.{id}");
        SwarmEndpoint { service: Some(id.clone()), ..endpoint(2 + slot, name) }
    }));
    state
}

/// So many containers on the other node.
pub fn endpoints(count: usize) -> SwarmNetworkState {
    let mut state = SwarmNetworkState::default();
    (0..count).for_each(|number| add_endpoint(&mut state, number));
    state
}

/// One more.
pub fn add_endpoint(state: &mut SwarmNetworkState, number: usize) {
    state.endpoints.push(endpoint(2 + number, format!("c{number}")));
}

/// The virtual IP of the first service.
pub fn first_vip() -> IpAddr {
    address(2)
}

fn endpoint(number: usize, name: String) -> SwarmEndpoint {
    SwarmEndpoint {
        id: format!("{number:064x}"),
        node_id: format!("{:025}", 2).parse().unwrap(),
        vtep: "192.0.2.2".parse().unwrap(),
        addresses: vec![address(number)],
        mac: MacAddr::from_ip(address(number)),
        name,
        aliases: vec![format!("{number:012x}")],
        service: None,
        healthy: true,
    }
}

/// Without tasks.
fn add_bare_service(state: &mut SwarmNetworkState, number: usize, first: usize) -> String {
    let id = format!("{number:025}");
    let service = SwarmServiceState {
        id: id.clone(),
        name: format!("s{number}"),
        aliases: Vec::new(),
        stack: None,
        virtual_ips: vec![address(first)],
        ports: Vec::new(),
        source: SourceMode::Preserve,
    };
    state.services.insert(id.clone(), service);
    id
}

/// The node.
pub struct Node {
    pub controller: Arc<Controller>,
    base: SwarmState,
    pub host: Host,
}

impl Node {
    pub async fn start() -> Self {
        let netns = Netns::anonymous().unwrap();
        let out = shell(
            &netns,
            "ip link add u0 type veth peer name u1; ip addr add 192.0.2.1/24 dev u0; ip link set u0 up",
        );
        assert!(out.is_empty(), "{out}");
        let mut host = Host::in_namespace(netns);
        host.config.helper = Some(helper_launch());
        let controller = host.controller().await;
        controller.set_swarm(Some(Arc::new(Managers { attached: AtomicU32::new(2) })));
        let base = swarm();
        controller.set_swarm_state(Some(base.clone())).await.unwrap();
        Self { controller, base, host }
    }

    /// Starts a container on the network.
    pub async fn container(&self, name: &str) -> Netns {
        self.container_on(name, "ov1").await.0
    }

    /// The same on any network `ov` and a number, with its address.
    pub async fn container_on(&self, name: &str, network: &str) -> (Netns, IpAddr) {
        let id = container();
        let made = self.controller.create_sandbox(sandbox(&id, name)).await.unwrap();
        let joined = self.controller.connect(&id, network, EndpointSpec::default()).await.unwrap();
        (Netns::open(made.netns.unwrap()).unwrap(), joined.address.unwrap().ip())
    }

    /// Says what is on the network; how long that took to follow.
    pub async fn tell(&self, network: &SwarmNetworkState) -> Duration {
        let mut state = self.base.clone();
        state.networks.insert(NETWORK.parse().unwrap(), network.clone());
        let begin = Instant::now();
        self.controller.set_swarm_state(Some(state)).await.unwrap();
        begin.elapsed()
    }
}

/// Two nodes, this one the first.
fn swarm() -> SwarmState {
    let member = |n: u8| SwarmMember {
        node_id: format!("{n:025}").parse().unwrap(),
        data_path: [192, 0, 2, n].into(),
        is_weft: true,
        gossip_name: None,
    };
    SwarmState {
        node_id: member(1).node_id,
        advertise: member(1).data_path,
        data_path: member(1).data_path,
        data_path_port: 4789,
        gossip_keys: Vec::new(),
        encryption_keys: Vec::new(),
        gossip_join: Vec::new(),
        members: vec![member(1), member(2)],
        managed: true,
        networks: BTreeMap::new(),
        ingress: None,
    }
}
