//! One change on a network with a thousand services: what it costs the node that hears of it. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Host, container, dns, dns_result, eventually, helper_launch, sandbox};
use weft_kernel::Netns;
use weft_network::{
    AttachRefused, Controller, EndpointSpec, OverlaySpec, OverlaySubnet, SourceMode, SwarmAttachment,
    SwarmEndpoint, SwarmMember, SwarmNetworkState, SwarmNetworks, SwarmServiceState, SwarmState,
};
use weft_types::{ContainerId, MacAddr, NodeId, TaskId, Vni};

const NETWORK: &str = "ov1ov1ov1ov1ov1ov1ov1ov11";
const SERVICES: usize = 1000;
const TASKS: usize = 3;
const CHANGES: usize = 10;

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

struct Managers;

#[async_trait::async_trait]
impl SwarmNetworks for Managers {
    async fn attach(
        &self,
        _term: &str,
        _container: &ContainerId,
        _addresses: Vec<IpAddr>,
    ) -> Result<SwarmAttachment, AttachRefused> {
        Ok(SwarmAttachment {
            attachment: TaskId::random(&mut rand::rng()),
            network: OverlaySpec {
                id: NETWORK.parse().unwrap(),
                name: "ov1".to_owned(),
                subnets: vec![OverlaySubnet {
                    subnet: "10.1.0.0/16".parse().unwrap(),
                    gateway: Some("10.1.0.1".parse().unwrap()),
                    vni: Some(Vni::try_from(4097).unwrap()),
                    range: None,
                    auxiliary: BTreeMap::new(),
                }],
                mtu: None,
                attachable: true,
                internal: false,
                encrypted: false,
                ingress: false,
                labels: BTreeMap::new(),
                options: BTreeMap::new(),
            },
            addresses: vec!["10.1.255.2/16".parse().unwrap()],
            service: None,
        })
    }

    async fn detach(&self, _attachment: &TaskId) -> Result<(), AttachRefused> {
        Ok(())
    }
}

/// 10.1.0.0 and `number` on.
fn address(number: usize) -> IpAddr {
    Ipv4Addr::from(0x0a01_0000 + number as u32).into()
}

fn services() -> SwarmNetworkState {
    let mut state = SwarmNetworkState::default();
    let node: NodeId = format!("{:025}", 2).parse().unwrap();
    for number in 0..SERVICES {
        let id = format!("{number:025}");
        let first = 2 + number * (TASKS + 1);
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
        state.endpoints.extend((1..=TASKS).map(|slot| SwarmEndpoint {
            id: format!("{:064x}", first + slot),
            node_id: node.clone(),
            vtep: "192.0.2.2".parse().unwrap(),
            addresses: vec![address(first + slot)],
            mac: MacAddr::from_ip(address(first + slot)),
            name: format!("s{number}.{slot}.{id}"),
            aliases: vec![format!("{:012x}", first + slot)],
            service: Some(id.clone()),
            healthy: true,
        }));
    }
    state
}

async fn tell(controller: &Controller, base: &SwarmState, network: &SwarmNetworkState) -> Duration {
    let mut state = base.clone();
    state.networks.insert(NETWORK.parse().unwrap(), network.clone());
    let begin = Instant::now();
    controller.set_swarm_state(Some(state)).await.unwrap();
    begin.elapsed()
}

/// Waits until the service that changes has so many tasks by name.
async fn named(inside: &Netns, tasks: usize) {
    eventually("names follow", || {
        dns(inside, "127.0.0.11:53", "tasks.s500", 1)
            .is_ok_and(|answer| dns_result(&answer, "tasks.s500").1.len() == tasks)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_among_a_thousand_services() {
    if let Ok(filter) = std::env::var("WEFT_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    let netns = Netns::anonymous().unwrap();
    let out = common::shell(
        &netns,
        "ip link add u0 type veth peer name u1; ip addr add 192.0.2.1/24 dev u0; ip link set u0 up",
    );
    assert!(out.is_empty(), "{out}");
    let mut host = Host::in_namespace(netns);
    host.config.helper = Some(helper_launch());
    let controller = host.controller().await;
    controller.set_swarm(Some(Arc::new(Managers)));
    let member = |n: u8| SwarmMember {
        node_id: format!("{n:025}").parse().unwrap(),
        data_path: [192, 0, 2, n].into(),
        is_weft: true,
        gossip_name: None,
    };
    let base = SwarmState {
        node_id: member(1).node_id,
        advertise: member(1).data_path,
        data_path: member(1).data_path,
        data_path_port: 4789,
        gossip_keys: Vec::new(),
        gossip_join: Vec::new(),
        members: vec![member(1), member(2)],
        managed: true,
        networks: BTreeMap::new(),
        ingress: None,
    };
    controller.set_swarm_state(Some(base.clone())).await.unwrap();
    let id = container();
    let made = controller.create_sandbox(sandbox(&id, "ann")).await.unwrap();
    controller.connect(&id, "ov1", EndpointSpec::default()).await.unwrap();
    let inside = Netns::open(made.netns.unwrap()).unwrap();

    let mut network = services();
    let all = tell(&controller, &base, &network).await;
    named(&inside, TASKS).await;
    let mut took = Vec::new();
    for change in 0..CHANGES {
        network.endpoints[1500].healthy = change % 2 == 1;
        network.index += 1;
        took.push(tell(&controller, &base, &network).await);
        named(&inside, TASKS - 1 + change % 2).await;
    }
    took.sort();
    let median = took[CHANGES / 2];
    println!(
        "{SERVICES} services at once: {all:?}; one change of them: median {median:?}, worst {:?}",
        took[CHANGES - 1]
    );
    // Unoptimised builds on busy machines: what matters is that it is no whole start.
    assert!(median < Duration::from_secs(1), "{took:?}");
    controller.shutdown(false).await;
}
