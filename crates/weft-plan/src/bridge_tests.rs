use super::*;
use weft_types::PortProtocol;

fn network(bridge: &str, gateways: &[&str]) -> BridgeNetwork {
    BridgeNetwork {
        id: "c".repeat(64).parse().unwrap(),
        bridge: bridge.parse().unwrap(),
        gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
        mtu: Mtu::ETHERNET,
        inter_container: true,
        masquerade: true,
        internal: false,
        endpoints: vec![],
    }
}

fn published(protocol: PortProtocol, host_ip: &str, host_port: u16, target: &str) -> Published {
    let mapping = PortMapping { protocol, container_port: 80, host_ip: host_ip.parse().unwrap(), host_port };
    Published { mapping, target: target.parse().unwrap() }
}

fn plan() -> HostPlan {
    let mut docker0 = network("docker0", &["172.17.0.1/16", "fd00:17::1/64"]);
    docker0.endpoints.push(BridgeEndpoint {
        id: "ab".repeat(32).parse().unwrap(),
        mac: "02:42:ac:11:00:02".parse().unwrap(),
        ips: ["172.17.0.2", "fd00:17::2"].map(|ip| ip.parse().unwrap()).into(),
        sandbox: NamespaceRef("/run/weft/netns/one".to_owned()),
        interface: "eth0".parse().unwrap(),
        published: vec![
            published(PortProtocol::Tcp, "0.0.0.0", 8080, "172.17.0.2"),
            published(PortProtocol::Udp, "192.0.2.1", 53, "172.17.0.2"),
            published(PortProtocol::Tcp, "::", 8080, "fd00:17::2"),
        ],
    });
    let mut gateway = network("docker_gwbridge", &["172.18.0.1/16"]);
    gateway.inter_container = false;
    let mut inner = network("br-inner", &["172.19.0.1/16"]);
    inner.internal = true;
    HostPlan {
        bridges: vec![docker0, gateway, inner],
        bridge_netfilter: false,
        guard: None,
        ingress: None,
        parents: Vec::new(),
        uplinks: Default::default(),
    }
}

#[test]
fn golden_rules() {
    let state = plan().plan();
    let text = state.tables.values().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    crate::golden::assert_golden("bridge.nft", &text);
}

#[test]
fn golden_rules_with_bridge_netfilter() {
    let state = HostPlan { bridge_netfilter: true, ..plan() }.plan();
    let text = state.tables.values().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    crate::golden::assert_golden("bridge_netfilter.nft", &text);
}

#[test]
fn golden_operations() {
    let ops = crate::diff(&crate::Observed::default(), &plan().plan());
    let text: String = ops.iter().map(|op| format!("{op}\n")).collect();
    crate::golden::assert_golden("bridge.ops", &text);
}

#[test]
fn a_container_more_changes_no_rule() {
    let before = crate::model::observed(&plan().plan());
    let mut more = plan();
    let port = published(PortProtocol::Tcp, "0.0.0.0", 8081, "172.17.0.2");
    more.bridges[0].endpoints[0].published.push(port);
    let ops = crate::diff(&before, &more.plan());
    assert_eq!(ops.len(), 1, "{ops:?}");
    assert!(matches!(&ops[0], crate::Op::ChangeElements { add, .. } if add.len() == 1), "{ops:?}");
}

#[test]
fn without_bridges_the_host_is_left_as_it_is() {
    assert_eq!(HostPlan::default().plan(), NamespaceState::empty());
}

#[test]
fn internal_networks_publish_nothing() {
    let mut plan = plan();
    plan.bridges[0].internal = true;
    let state = plan.plan();
    let published: Vec<_> =
        state.tables.values().filter_map(|table| table.sets.get("published_any")).collect();
    assert!(!published.is_empty() && published.iter().all(|set| set.elements.is_empty()));
}

#[test]
fn isolation_follows_the_way_packets_take() {
    let port = |plan: &HostPlan| {
        let state = plan.plan();
        state.links[&port_name(&plan.bridges[0].endpoints[0].id)].port
    };
    let mut plan = plan();
    assert_eq!(port(&plan), Some(BridgePort::ENDPOINT));
    plan.bridges[0].inter_container = false;
    assert_eq!(port(&plan), Some(BridgePort::ISOLATED));
    plan.bridge_netfilter = true;
    assert_eq!(port(&plan), Some(BridgePort::HAIRPIN));
}
