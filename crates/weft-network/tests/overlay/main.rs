//! Overlay networks between two hosts, by the managers' word and by gossip. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../common/mod.rs"]
mod common;
mod encrypted;
mod pair;

use std::time::Duration;

use pair::{NETWORK, NOT_ATTACHABLE, Pair};

use common::{ask, at, container, dns, dns_result, eventually, sandbox, serve, shell};
use weft_kernel::Netns;
use weft_network::{EndpointSpec, IpamConfig, NetworkSpec, OverlayEngineChoice};

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_two_hosts_talk() {
    let pair = Pair::by_bridges().await;
    pair.tell(None).await;
    assert!(pair.hosts[0].shell("nft list tables").contains("weft-vxlan"));
    let (a, in_a, at_a) = pair.run(0, "a").await;
    let (b, in_b, at_b) = pair.run(1, "b").await;
    assert_eq!((at_a.interface.as_str(), at_a.gateway), ("eth0", None));
    assert_eq!(at_a.mac.to_string(), "02:42:0a:00:01:02");
    pair.tell(None).await;

    serve(&in_b, at(at_b.address.unwrap().ip(), 80), "b");
    serve(&in_b, at(at_b.address6.unwrap().ip(), 80), "b6");
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");
    assert_eq!(ask(&in_a, at(at_b.address6.unwrap().ip(), 80)).unwrap(), "b6 fd00:1::2");
    let found = dns_result(&dns(&in_a, "127.0.0.11:53", "b", 1).unwrap(), "b");
    assert_eq!(found.1[0].to_string(), "10.0.1.3");
    // The way out is docker_gwbridge's.
    let routes = shell(&in_a, "ip route; ip -o link");
    assert!(routes.contains("default via 172.18.0.1 dev eth1"), "{routes}");
    assert!(routes.contains("eth0@") && routes.contains("mtu 1450"), "{routes}");
    let gateway = pair.controllers[0].find("docker_gwbridge").unwrap();
    let views = pair.controllers[0].endpoints_of(&gateway.id);
    assert!(views.len() == 1 && views[0].name.starts_with("gateway_"), "{views:?}");
    assert_eq!(pair.controllers[0].endpoints(&a).len(), 1);

    // A smaller path: running interfaces follow.
    pair.tell(Some(1400)).await;
    for netns in [&in_a, &in_b] {
        assert!(shell(netns, "ip -o link show eth0").contains("mtu 1350"));
    }
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");

    // Poisoned and deleted entries come back.
    let overlay =
        Netns::open(pair.hosts[0].dir.path().join("run/netns").join(format!("1-{}", &NETWORK[..10])))
            .unwrap();
    shell(&overlay, "ip neigh flush all nud permanent; bridge fdb del 02:42:0a:00:01:03 dev vxlan0 self");
    assert!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).is_err());
    assert!(pair.controllers[0].audit().await.unwrap() >= 2);
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");
    let repairs = pair.controllers[0].audit_counters().repairs;
    assert!(repairs["fdb"] >= 1 && repairs["neighbour"] >= 1, "{repairs:?}");

    // The last endpoint takes the devices with it, the attachment goes back.
    pair.controllers[0].remove_sandbox(&a).await.unwrap();
    assert!(!overlay.path().exists());
    assert_eq!(*pair.managers.detached.lock().unwrap(), [at_a.attachment.unwrap()]);
    pair.controllers[1].disconnect(&b, "ov1").await.unwrap();
    assert!(!shell(&in_b, "ip -o link").contains("eth"), "the way out goes too");
    pair.end().await;
}

/// What a namespace holds, in an order of its own.
fn contents(netns: &Netns) -> Vec<String> {
    let all = "ip -o addr; ip -o link; ip route; ip -6 route; ip rule; bridge fdb show; ip neigh show nud permanent; nft \
               list ruleset";
    let text = shell(netns, all);
    // Link-local addresses are tried out for a while.
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.contains("fe80:")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_and_poisoned_entries_are_back_within_a_second() {
    let pair = Pair::with(true, OverlayEngineChoice::default()).await;
    pair.tell(None).await;
    let (_, in_a, _) = pair.run(0, "a").await;
    pair.run(1, "b").await;
    pair.tell(None).await;
    let path = pair.hosts[0].dir.path().join("run/netns").join(format!("1-{}", &NETWORK[..10]));
    let overlay = Netns::open(path).unwrap();
    let host = pair.hosts[0].netns.clone();
    let other = "02:42:0a:00:01:03";
    let damages = [
        ("fdb", &overlay, format!("bridge fdb del {other} dev vxlan0 self")),
        ("fdb", &overlay, format!("bridge fdb replace {other} dev vxlan0 dst 192.0.2.77 self permanent")),
        ("neighbour", &overlay, "ip neigh flush all nud permanent".to_owned()),
        (
            "neighbour",
            &overlay,
            "ip neigh replace 10.0.1.3 lladdr 02:00:00:00:00:09 dev br0 nud permanent".to_owned(),
        ),
        ("route", &in_a, "ip route del default".to_owned()),
        ("address", &in_a, "ip addr del 10.0.1.2/24 dev eth0".to_owned()),
        ("nftables", &in_a, "nft flush ruleset".to_owned()),
        ("nftables", &host, "nft flush ruleset".to_owned()),
        ("link", &in_a, "ip link set eth0 mtu 1280".to_owned()),
        ("link", &overlay, "ip link set vxlan0 down".to_owned()),
    ];
    let controller = &pair.controllers[0];
    let mut took = Vec::new();
    for (kind, netns, damage) in damages {
        let whole = contents(netns);
        let repairs = || controller.audit_counters().repairs.get(kind).copied().unwrap_or_default();
        let before = repairs();
        let said = shell(netns, &damage);
        assert!(said.is_empty(), "{damage}: {said}");
        let damaged = std::time::Instant::now();
        eventually(&damage, || repairs() > before && contents(netns) == whole).await;
        took.push((damaged.elapsed(), damage));
    }
    took.sort();
    println!("{took:#?}");
    // Each in a second; the machine may do other things for one of them.
    assert!(took[took.len() - 2].0 < Duration::from_secs(1), "{took:?}");
    // Each damage is looked at, and the repair; nothing goes on and on.
    assert!(controller.audit_counters().looks < 60, "{:?}", controller.audit_counters());
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_the_managers_are_passed_on() {
    let pair = Pair::new().await;
    pair.tell(None).await;
    let id = container();
    pair.controllers[0].create_sandbox(sandbox(&id, "a")).await.unwrap();
    let refused = pair.controllers[0].connect(&id, "ov4", EndpointSpec::default()).await.unwrap_err();
    let words = NOT_ATTACHABLE.replace("{}", "ov4");
    assert_eq!(refused.to_string(), format!("Could not attach to network ov4: {words}"));
    let unknown = pair.controllers[0].connect(&id, "ov5", EndpointSpec::default()).await.unwrap_err();
    assert!(unknown.to_string().ends_with("code = NotFound desc = network ov5 not found"), "{unknown}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_the_swarm_comes_before_the_beginning_of_an_id_here() {
    let pair = Pair::new().await;
    pair.tell(None).await;
    let controller = &pair.controllers[0];
    pair.run(0, "a").await;
    let (id, spec) = (container(), EndpointSpec::default());
    controller.create_sandbox(sandbox(&id, "b")).await.unwrap();
    // "o" begins the id of the network that is here; in the swarm it is the name of another.
    let refused = controller.connect(&id, "o", spec.clone()).await.unwrap_err().to_string();
    assert!(refused.ends_with(&NOT_ATTACHABLE.replace("{}", "o")), "{refused}");
    // What names nothing in the swarm is the beginning of an id.
    let joined = controller.connect(&id, &NETWORK[..8], spec.clone()).await.unwrap();
    assert_eq!(joined.network_id.as_str(), NETWORK);
    assert!(controller.connect(&id, &NETWORK[..8], spec).await.unwrap_err().to_string().contains("already"));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_alone_is_enough_and_survives_its_sources() {
    let pair = Pair::new().await;
    pair.tell_by_gossip().await;
    let (_, in_a, _) = pair.run(0, "a").await;
    let (b, in_b, at_b) = pair.run(1, "b").await;
    serve(&in_b, at(at_b.address.unwrap().ip(), 80), "b");
    eventually("the endpoint is told by gossip", || {
        ask(&in_a, at(at_b.address.unwrap().ip(), 80)).is_ok_and(|text| text == "b 10.0.1.2")
    })
    .await;
    let named = |netns: &Netns| {
        dns(netns, "127.0.0.11:53", "b", 1).is_ok_and(|answer| !dns_result(&answer, "b").1.is_empty())
    };
    eventually("its name too", || named(&in_a)).await;

    // The helper dies: its successor comes back under the same name, and nothing was taken away meanwhile.
    let pid = common::helper_pid(&pair.hosts[1]).unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while !pair.hosts[1].dir.path().join("run/helper/gossip.json").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    common::kill(pid);
    eventually("a new helper", || common::helper_pid(&pair.hosts[1]).is_some_and(|new| new != pid)).await;
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");

    // A deletion by the owner acts at once.
    pair.controllers[1].remove_sandbox(&b).await.unwrap();
    eventually("the name is gone", || !named(&in_a)).await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_inject() {
    let pair = Pair::new().await;
    pair.tell(None).await;
    let (_, in_a, at_a) = pair.run(0, "a").await;
    pair.tell(None).await;
    // A tunnel of a node that is no member: the second host under another address.
    let out = shell(
        &pair.hosts[1].netns,
        "ip addr add 192.0.2.66/24 dev u0; \
         ip link add vx type vxlan id 4097 local 192.0.2.66 remote 192.0.2.1 dstport 4789 && \
         ip addr add 10.0.1.99/24 dev vx && ip link set vx up && \
         ip neigh add 10.0.1.2 lladdr 02:42:0a:00:01:02 dev vx; \
         ping -c 2 -i 0.2 -W 1 10.0.1.2",
    );
    assert!(out.contains("100% packet loss"), "{out}");
    let dropped = pair.hosts[0].shell("nft list counters");
    assert!(!dropped.contains("stranger {\n\t\tpackets 0"), "{dropped}");
    drop((in_a, at_a));
    pair.end().await;
}

#[test]
fn the_overlay_survives_the_daemon_and_its_restart() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let (pair, a, in_a, far, in_b) = first.block_on(async {
        let pair = Pair::new().await;
        pair.tell(None).await;
        let (a, in_a, _) = pair.run(0, "a").await;
        let (_, in_b, at_b) = pair.run(1, "b").await;
        pair.tell(None).await;
        (pair, a, in_a, at(at_b.address.unwrap().ip(), 80), in_b)
    });
    serve(&in_b, far, "b");
    assert_eq!(ask(&in_a, far).unwrap(), "b 10.0.1.2");
    // Both daemons are gone from one moment to the next; without managers the last word stands.
    first.shutdown_background();
    assert_eq!(ask(&in_a, far).unwrap(), "b 10.0.1.2");
    let second = runtime();
    second.block_on(async {
        let before = shell(&in_a, "ip -o link show eth0; ip -o addr show eth0");
        let controller = pair.hosts[0].controller().await;
        controller.adopt(std::slice::from_ref(&a)).await.unwrap();
        assert_eq!(shell(&in_a, "ip -o link show eth0; ip -o addr show eth0"), before);
        assert_eq!(controller.audit().await.unwrap(), 0);
        assert_eq!(ask(&in_a, far).unwrap(), "b 10.0.1.2");
        assert_eq!(controller.local_endpoints().borrow().len(), 1);
        let found = dns_result(&dns(&in_a, "127.0.0.11:53", "b", 1).unwrap(), "b");
        assert_eq!(found.1[0].to_string(), "10.0.1.3");
        // Leaving the swarm takes the guard away.
        controller.remove_sandbox(&a).await.unwrap();
        controller.set_swarm_state(None).await.unwrap();
        assert!(!pair.hosts[0].shell("nft list tables").contains("vxlan"));
        controller.shutdown(false).await;
        let other = pair.hosts[1].controller().await;
        other.adopt(&[]).await.unwrap();
        other.shutdown(false).await;
    });
}

/// The first change of a daemon with programs is another network's: it finds what an earlier one left without their ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_come_to_networks_of_a_daemon_without() {
    let mut pair = Pair::by_bridges().await;
    pair.tell(None).await;
    let (a, in_a, _) = pair.run(0, "a").await;
    let (_, in_b, at_b) = pair.run(1, "b").await;
    pair.tell(None).await;
    serve(&in_b, at(at_b.address.unwrap().ip(), 80), "b");
    assert!(!pair.hosts[0].shell("ip -o link").contains("weft-"));

    pair.controllers[0].shutdown(true).await;
    pair.hosts[0].config.overlay_engine = OverlayEngineChoice::Bpf;
    pair.controllers[0] = pair.hosts[0].controller().await;
    pair.controllers[0].set_swarm(Some(pair.managers.clone()));
    pair.controllers[0].create_network(NetworkSpec::bridge("other")).await.unwrap();
    assert!(pair.hosts[0].shell("ip -o link show up").contains("weft-"));
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");
    pair.controllers[0].adopt(&[a]).await.unwrap();
    assert_eq!(ask(&in_a, at(at_b.address.unwrap().ip(), 80)).unwrap(), "b 10.0.1.2");
    pair.end().await;
}

/// Row D6: the user's bridge takes the place of the one that an earlier swarm left behind, and stays the user's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_gateway_bridge_is_used() {
    let pair = Pair::new().await;
    let controller = &pair.controllers[0];
    let spec = || {
        let mut spec = NetworkSpec::bridge("docker_gwbridge");
        spec.ipam = vec![IpamConfig { subnet: Some("10.11.0.0/16".into()), ..IpamConfig::default() }];
        spec.options = [
            ("com.docker.network.bridge.name", "docker_gwbridge"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "false"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        spec
    };
    controller.set_swarm_state(Some(pair.state(0))).await.unwrap();
    let automatic = controller.find("docker_gwbridge").unwrap();
    let refused = controller.create_network(spec()).await.unwrap_err();
    assert_eq!(refused.to_string(), "network with name docker_gwbridge already exists");
    controller.set_swarm_state(None).await.unwrap();
    assert_eq!(controller.find("docker_gwbridge").unwrap().id, automatic.id);

    let made = controller.create_network(spec()).await.unwrap();
    assert!(made.id != automatic.id);
    assert!(controller.create_network(spec()).await.is_err(), "the user's own does not give way");
    let addresses = pair.hosts[0].shell("ip -o -4 addr show docker_gwbridge");
    assert!(addresses.contains("10.11.0.1/16") && addresses.lines().count() == 1, "{addresses}");
    for _ in 0..2 {
        pair.tell(None).await;
        let (a, in_a, _) = pair.run(0, "a").await;
        let routes = shell(&in_a, "ip route");
        assert!(routes.contains("default via 10.11.0.1 dev eth1"), "{routes}");
        assert_eq!(controller.find("docker_gwbridge").unwrap().id, made.id);
        controller.remove_sandbox(&a).await.unwrap();
        controller.set_swarm_state(None).await.unwrap();
    }
    pair.end().await;
}
