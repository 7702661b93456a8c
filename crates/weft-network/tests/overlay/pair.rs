//! Two hosts on one wire, and managers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use weft_kernel::Netns;
use weft_network::{
    AttachRefused, Controller, EndpointSpec, EndpointView, OverlayEngineChoice, OverlaySpec, SwarmAttachment,
    SwarmEndpoint, SwarmKey, SwarmMember, SwarmNetworkState, SwarmNetworks, SwarmState,
};
use weft_types::{ContainerId, EndpointAddress, Mtu, NodeId, TaskId};

use crate::common::{Host, at, container, helper_launch, overlay, sandbox, shell};

pub(crate) const NETWORK: &str = "ov1ov1ov1ov1ov1ov1ov1ov11";
pub(crate) const NOT_ATTACHABLE: &str =
    "rpc error: code = PermissionDenied desc = network {} not manually attachable";

/// Managers that give out addresses.
pub(crate) struct Managers {
    next: Mutex<u8>,
    pub(crate) detached: Mutex<Vec<TaskId>>,
    encrypted: bool,
}

fn spec(encrypted: bool) -> OverlaySpec {
    let subnets = [("10.0.1.0/24", "10.0.1.1"), ("fd00:1::/64", "fd00:1::1")];
    OverlaySpec { encrypted, ..overlay(NETWORK, &subnets) }
}

#[async_trait::async_trait]
impl SwarmNetworks for Managers {
    async fn attach(
        &self,
        term: &str,
        _container: &ContainerId,
        _addresses: Vec<IpAddr>,
    ) -> Result<SwarmAttachment, AttachRefused> {
        if matches!(term, "o" | "ov4") {
            return Err(AttachRefused::Other(NOT_ATTACHABLE.replace("{}", term)));
        }
        if term != "ov1" && term != NETWORK {
            return Err(AttachRefused::NoSuchNetwork(format!(
                "rpc error: code = NotFound desc = network {term} not found"
            )));
        }
        let mut next = self.next.lock().unwrap();
        *next += 1;
        let addresses = [format!("10.0.1.{next}/24"), format!("fd00:1::{:x}/64", *next)];
        Ok(SwarmAttachment {
            attachment: TaskId::random(&mut rand::rng()),
            network: spec(self.encrypted),
            addresses: addresses.iter().map(|a| a.parse::<EndpointAddress>().unwrap()).collect(),
            service: None,
        })
    }

    async fn detach(&self, attachment: &TaskId) -> Result<(), AttachRefused> {
        self.detached.lock().unwrap().push(attachment.clone());
        Ok(())
    }
}

pub(crate) struct Pair {
    pub(crate) hosts: [Host; 2],
    pub(crate) controllers: [Arc<Controller>; 2],
    pub(crate) managers: Arc<Managers>,
    pub(crate) nodes: [NodeId; 2],
    /// Lamport time of the oldest key.
    pub(crate) keys: u64,
}

pub(crate) fn underlay(n: usize) -> IpAddr {
    [192, 0, 2, 1 + n as u8].into()
}

impl Pair {
    pub(crate) async fn new() -> Self {
        Self::with(false, OverlayEngineChoice::default()).await
    }

    /// Without programs, which would go on where the bridges' tables are damaged.
    pub(crate) async fn by_bridges() -> Self {
        Self::with(false, OverlayEngineChoice::Bridge).await
    }

    /// On an encrypted network.
    pub(crate) async fn encrypted() -> Self {
        let mut pair = Self::new().await;
        pair.managers =
            Arc::new(Managers { next: Mutex::new(1), detached: Mutex::default(), encrypted: true });
        for controller in &pair.controllers {
            controller.set_swarm(Some(pair.managers.clone()));
        }
        pair
    }

    /// With controllers that listen to the kernel, or not.
    pub(crate) async fn with(watch_kernel: bool, engine: OverlayEngineChoice) -> Self {
        let spaces = [Netns::anonymous().unwrap(), Netns::anonymous().unwrap()];
        let near = spaces[0].path().display().to_string();
        let far = spaces[1].path().display().to_string();
        // Both ends are made from inside the first host; the second end is moved by its descriptor.
        let out = shell(
            &spaces[0],
            &format!("ip link add u0 type veth peer name u0 netns {far} 2>&1 || echo {near}"),
        );
        assert!(out.is_empty(), "{out}");
        for (n, netns) in spaces.iter().enumerate() {
            let out = shell(netns, &format!("ip addr add {}/24 dev u0; ip link set u0 up", underlay(n)));
            assert!(out.is_empty(), "{out}");
        }
        let mut hosts = spaces.map(|netns| {
            let mut host = Host::in_namespace(netns);
            host.config.helper = Some(helper_launch());
            host.config.watch_kernel = watch_kernel;
            host.config.overlay_engine = engine;
            host
        });
        (hosts[0].config.encryption_queues, hosts[1].config.encryption_queues) = (4, 1);
        let controllers = [hosts[0].controller().await, hosts[1].controller().await];
        let managers =
            Arc::new(Managers { next: Mutex::new(1), detached: Mutex::default(), encrypted: false });
        for controller in &controllers {
            controller.set_swarm(Some(managers.clone()));
        }
        let nodes = [0, 1].map(|_| NodeId::random(&mut rand::rng()));
        Self { hosts, controllers, managers, nodes, keys: 1 }
    }

    pub(crate) fn state(&self, n: usize) -> SwarmState {
        let member = |n: usize| SwarmMember {
            node_id: self.nodes[n].clone(),
            data_path: underlay(n),
            is_weft: true,
            gossip_name: None,
        };
        SwarmState {
            node_id: self.nodes[n].clone(),
            advertise: underlay(n),
            data_path: underlay(n),
            data_path_port: 4789,
            gossip_keys: Vec::new(),
            encryption_keys: (self.keys..self.keys + 3)
                .map(|time| SwarmKey { lamport_time: time, key: vec![time as u8; 16] })
                .collect(),
            gossip_join: Vec::new(),
            members: vec![member(0), member(1)],
            managed: true,
            networks: BTreeMap::new(),
            ingress: None,
        }
    }

    /// The managers tell each node of the other's endpoints.
    pub(crate) async fn tell(&self, mtu: Option<u32>) {
        for n in [0, 1] {
            let theirs = self.controllers[1 - n].local_endpoints().borrow().clone();
            let endpoints = theirs.iter().map(|endpoint| SwarmEndpoint {
                id: endpoint.id.to_string(),
                node_id: self.nodes[1 - n].clone(),
                vtep: underlay(1 - n),
                addresses: endpoint.address.iter().chain(&endpoint.address6).map(|a| a.ip()).collect(),
                mac: endpoint.mac,
                name: endpoint.name.clone(),
                aliases: endpoint.aliases.clone(),
                service: None,
                healthy: true,
            });
            let network = SwarmNetworkState {
                mtu: mtu.map(|mtu| Mtu::try_from(mtu).unwrap()),
                endpoints: endpoints.collect(),
                ..SwarmNetworkState::default()
            };
            let mut state = self.state(n);
            state.networks.insert(NETWORK.parse().unwrap(), network);
            self.controllers[n].set_swarm_state(Some(state)).await.unwrap();
        }
    }

    /// The managers are Docker's, and say nothing of endpoints and nodes.
    pub(crate) async fn tell_by_gossip(&self) {
        for n in [0, 1] {
            let state = SwarmState {
                gossip_keys: [1, 2, 3].map(|n| SwarmKey { lamport_time: n, key: vec![n as u8; 16] }).to_vec(),
                gossip_join: vec![at(underlay(0), 7946)],
                members: Vec::new(),
                managed: false,
                ..self.state(n)
            };
            self.controllers[n].set_swarm_state(Some(state)).await.unwrap();
        }
    }

    pub(crate) async fn run(&self, n: usize, name: &str) -> (ContainerId, Netns, EndpointView) {
        let id = container();
        let made = self.controllers[n].create_sandbox(sandbox(&id, name)).await.unwrap();
        let joined = self.controllers[n].connect(&id, "ov1", EndpointSpec::default()).await.unwrap();
        (id, Netns::open(made.netns.unwrap()).unwrap(), joined)
    }

    pub(crate) async fn end(self) {
        for controller in &self.controllers {
            controller.shutdown(false).await;
        }
    }
}
