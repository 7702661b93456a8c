//! Bridge networks with real namespaces. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::{Host, ask, at, container, eventually, sandbox, serve, shell};
use weft_kernel::Netns;
use weft_network::{EndpointSpec, IpamConfig, NetworkSpec, PortWish, SandboxKind};
use weft_types::{Classified, ErrorKind, PortProtocol};

fn subnet(text: &str) -> Vec<IpamConfig> {
    vec![IpamConfig { subnet: Some(text.to_owned()), ..IpamConfig::default() }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_containers_talk_on_the_default_bridge() {
    let host = Host::new();
    let controller = host.controller().await;
    let mut views = Vec::new();
    for name in ["a", "b"] {
        let id = container();
        let made = controller.create_sandbox(sandbox(&id, name)).await.unwrap();
        let netns = Netns::open(made.netns.as_ref().unwrap()).unwrap();
        let joined = controller.connect(&id, "bridge", EndpointSpec::default()).await.unwrap();
        views.push((id, netns, joined, made));
    }
    let (a, b) = (&views[0], &views[1]);
    assert_eq!(a.2.address.unwrap().to_string(), "172.17.0.2/16");
    assert_eq!(b.2.address.unwrap().to_string(), "172.17.0.3/16");
    assert_eq!(a.2.gateway.unwrap().to_string(), "172.17.0.1");
    serve(&b.1, at(b.2.address.unwrap().ip(), 80), "b");
    assert_eq!(ask(&a.1, at(b.2.address.unwrap().ip(), 80)).unwrap(), "b 172.17.0.2");
    // The host reaches containers, containers reach the host.
    assert_eq!(ask(&host.netns, at(b.2.address.unwrap().ip(), 80)).unwrap(), "b 172.17.0.1");
    let routes = shell(&a.1, "ip route");
    assert!(routes.contains("default via 172.17.0.1 dev eth0"), "{routes}");
    let resolv = std::fs::read_to_string(&a.3.resolv_conf).unwrap();
    assert!(resolv.contains("nameserver 192.0.2.53\nsearch example.org\n"), "{resolv}");
    let hosts = std::fs::read_to_string(&a.3.hosts).unwrap();
    assert!(hosts.ends_with(&format!("172.17.0.2\t{}\n", a.0.short())), "{hosts}");

    controller.remove_sandbox(&a.0).await.unwrap();
    controller.remove_sandbox(&a.0).await.unwrap();
    assert_eq!(controller.endpoints_of(&b.2.network_id).len(), 1);
    // The kernel follows behind the answer.
    eventually("nothing of it is left", || {
        let ports = host.shell("ip -o link show type veth").lines().count();
        ports == 1 && !a.3.netns.as_ref().unwrap().exists() && !a.3.hosts.exists()
    })
    .await;
}

/// Neighbours remember for half a minute and more which Ethernet address had an IP address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_comes_back_is_reached_at_once() {
    let host = Host::new();
    let controller = host.controller().await;
    let ipam = [subnet("10.91.7.0/24"), subnet("fd91:7::/64")].concat();
    let spec = NetworkSpec { ipam, enable_ipv6: true, ..NetworkSpec::bridge("n7") };
    controller.create_network(spec).await.unwrap();
    let neighbour = container();
    let made = controller.create_sandbox(sandbox(&neighbour, "neighbour")).await.unwrap();
    let neighbour_ns = Netns::open(made.netns.unwrap()).unwrap();
    controller.connect(&neighbour, "n7", EndpointSpec::default()).await.unwrap();
    let chosen = |last: u8| Some(format!("02:00:00:00:00:0{last}").parse().unwrap());
    for (round, mac) in [None, None, chosen(1), chosen(2)].into_iter().enumerate() {
        let id = container();
        let made = controller.create_sandbox(sandbox(&id, "back")).await.unwrap();
        let netns = Netns::open(made.netns.unwrap()).unwrap();
        let joined =
            controller.connect(&id, "n7", EndpointSpec { mac, ..EndpointSpec::default() }).await.unwrap();
        for ip in [joined.address.unwrap().ip(), joined.address6.unwrap().ip()] {
            assert!(["10.91.7.3", "fd91:7::3"].contains(&ip.to_string().as_str()), "{ip}");
            serve(&netns, at(ip, 80), "back");
            let answer = ask(&host.netns, at(ip, 80));
            assert!(answer.is_ok(), "round {round}, {ip}: {answer:?}");
            // Whoever chooses an Ethernet address of its own has to wait until other containers ask again.
            let answer = mac.is_none().then(|| ask(&neighbour_ns, at(ip, 80))).transpose();
            assert!(answer.is_ok(), "round {round}, {ip}: {answer:?}");
        }
        controller.remove_sandbox(&id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_are_joined_and_left_while_running() {
    let host = Host::new();
    let controller = host.controller().await;
    for (name, net) in [("n1", "10.91.1.0/24"), ("n2", "10.91.2.0/24")] {
        let spec = NetworkSpec { ipam: subnet(net), ..NetworkSpec::bridge(name) };
        controller.create_network(spec).await.unwrap();
    }
    let id = container();
    let made = controller.create_sandbox(sandbox(&id, "c1")).await.unwrap();
    let netns = Netns::open(made.netns.unwrap()).unwrap();
    let first = controller.connect(&id, "n1", EndpointSpec::default()).await.unwrap();
    assert_eq!((first.interface.as_str(), first.gateway.unwrap().to_string()), ("eth0", "10.91.1.1".into()));
    assert_eq!(first.dns_names, ["c1".to_owned(), id.short().to_owned()]);
    let wish = EndpointSpec {
        ipv4: Some("10.91.2.9".to_owned()),
        mac: Some("02:42:00:00:00:09".parse().unwrap()),
        gateway_priority: 10,
        aliases: vec!["x1".to_owned()],
        ..EndpointSpec::default()
    };
    let second = controller.connect(&id, "n2", wish).await.unwrap();
    assert_eq!(
        (second.interface.as_str(), second.address.unwrap().to_string()),
        ("eth1", "10.91.2.9/24".into())
    );
    assert!(shell(&netns, "ip route").contains("default via 10.91.2.1 dev eth1"));
    assert!(shell(&netns, "ip -o link show eth1").contains("02:42:00:00:00:09"));
    let hosts = std::fs::read_to_string(&made.hosts).unwrap();
    assert!(hosts.contains("10.91.1.2\t") && hosts.contains("10.91.2.9\t"), "{hosts}");

    let again = controller.connect(&id, "n2", EndpointSpec::default()).await.unwrap_err();
    assert_eq!(again.to_string(), "endpoint with name c1 already exists in network n2");
    assert_eq!(again.kind(), ErrorKind::Forbidden);

    controller.disconnect(&id, "n1").await.unwrap();
    let links = shell(&netns, "ip -o link");
    assert!(!links.contains("eth0") && links.contains("eth1"), "{links}");
    controller.connect(&id, "n1", EndpointSpec::default()).await.unwrap();
    assert!(shell(&netns, "ip -o link").contains("eth0"));
    controller.disconnect(&id, "n2").await.unwrap();
    assert!(shell(&netns, "ip route").contains("default via 10.91.1.1 dev eth0"));
    let absent = controller.disconnect(&id, "n2").await.unwrap_err();
    assert_eq!(absent.to_string(), format!("container {id} is not connected to network n2"));

    let busy = controller.remove_network("n1").await.unwrap_err();
    assert!(
        busy.to_string()
            .starts_with("error while removing network: network n1 has active endpoints (name:\"c1\" id:\"")
    );
    controller.remove_network("n2").await.unwrap();
    assert!(!host.shell("ip -o addr").contains("10.91.2.1/"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_worded_as_dockers() {
    let host = Host::new();
    let controller = host.controller().await;
    let refused = async |spec: NetworkSpec| controller.create_network(spec).await.unwrap_err().to_string();
    let n1 = NetworkSpec { ipam: subnet("10.99.1.0/24"), ..NetworkSpec::bridge("n1") };
    controller.create_network(n1.clone()).await.unwrap();
    let auto = controller.create_network(NetworkSpec::bridge("auto")).await.unwrap();
    assert_eq!(auto.pools[0].subnet.to_string(), "172.18.0.0/16");
    let six = NetworkSpec { enable_ipv6: true, ..NetworkSpec::bridge("six") };
    let six = controller.create_network(six).await.unwrap();
    assert!(
        six.pools[1].gateway_address().to_string().starts_with("fd")
            && six.pools[1].subnet.prefix_len() == 64
    );

    assert_eq!(refused(n1.clone()).await, "network with name n1 already exists");
    let overlapping = NetworkSpec { name: "n2".into(), ..n1 };
    assert_eq!(
        refused(overlapping).await,
        "invalid pool request: Pool overlaps with other one on this address space"
    );
    assert_eq!(refused(NetworkSpec::bridge("")).await, "invalid name: name is empty");
    assert_eq!(
        refused(NetworkSpec::bridge("none")).await,
        "operation is not permitted on predefined none network "
    );
    let other = NetworkSpec { driver: "nosuch".into(), ..NetworkSpec::bridge("x") };
    assert_eq!(refused(other).await, "plugin \"nosuch\" not found");
    let second_host = NetworkSpec { driver: "host".into(), ..NetworkSpec::bridge("x") };
    assert_eq!(refused(second_host).await, "only one instance of \"host\" network is allowed");
    let two = [subnet("10.99.4.0/24"), subnet("10.99.5.0/24")].concat();
    let two = NetworkSpec { ipam: two, ..NetworkSpec::bridge("x") };
    assert_eq!(refused(two).await, "bridge driver doesn't support multiple subnets");
    let malformed = NetworkSpec { ipam: subnet("foo"), ..NetworkSpec::bridge("x") };
    assert_eq!(
        refused(malformed).await,
        "invalid network config:\ninvalid subnet foo: invalid CIDR block notation"
    );
    let taken = BTreeMap::from([("com.docker.network.bridge.name".to_owned(), "docker0".to_owned())]);
    let taken = NetworkSpec { options: taken, ..NetworkSpec::bridge("x") };
    assert!(refused(taken).await.ends_with("(docker0): networks have same bridge name"));

    let removal = async |term: &str| controller.remove_network(term).await.unwrap_err().to_string();
    assert_eq!(removal("nosuch").await, "network nosuch not found");
    assert_eq!(removal("bridge").await, "bridge is a pre-defined network and cannot be removed");

    let wish = |ip: &str| EndpointSpec { ipv4: Some(ip.to_owned()), ..EndpointSpec::default() };
    let check = |network: &str, ip: &str| controller.check(network, &wish(ip)).unwrap_err().to_string();
    assert_eq!(
        check("n1", "10.88.1.130"),
        "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.88.1.130"
    );
    assert_eq!(
        check("bridge", "172.17.0.50"),
        "invalid endpoint settings:\n* user specified IP address is supported on user defined networks only\n\
         * user specified IP address is supported only when connecting to networks with user configured subnets"
    );
    assert_eq!(
        check("auto", "300.1.1.1"),
        "invalid endpoint settings:\n* invalid IPv4 address: 300.1.1.1\n\
         * user specified IP address is supported only when connecting to networks with user configured subnets"
    );
    let (a, b) = (container(), container());
    for (id, name) in [(&a, "a"), (&b, "b")] {
        controller.create_sandbox(sandbox(id, name)).await.unwrap();
    }
    controller.connect(&a, "n1", wish("10.99.1.130")).await.unwrap();
    let refused = controller.connect(&b, "n1", wish("10.99.1.130")).await.unwrap_err();
    assert_eq!(
        (refused.to_string().as_str(), refused.kind()),
        ("Address already in use", ErrorKind::Forbidden)
    );
    let unknown = controller.connect(&b, "nosuch", EndpointSpec::default()).await.unwrap_err();
    assert_eq!(
        (unknown.to_string().as_str(), unknown.kind()),
        ("network nosuch not found", ErrorKind::NotFound)
    );
    let host_network = controller.connect(&b, "host", EndpointSpec::default()).await.unwrap_err();
    assert_eq!(
        host_network.to_string(),
        "cannot connect container to host network - container must be created in host network mode"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_says_which_network_and_how_full() {
    let host = Host::new();
    let controller = host.controller().await;
    let spec = NetworkSpec { ipam: subnet("10.91.7.0/30"), ..NetworkSpec::bridge("tiny") };
    let tiny = controller.create_network(spec).await.unwrap();
    let (a, b) = (container(), container());
    for id in [&a, &b] {
        controller.create_sandbox(sandbox(id, "c")).await.unwrap();
    }
    controller.connect(&a, "tiny", EndpointSpec::default()).await.unwrap();
    let full = controller.connect(&b, "tiny", EndpointSpec::default()).await.unwrap_err();
    assert_eq!(
        full.to_string(),
        format!(
            "no available IPv4 addresses on this network's address pools: tiny ({}): 2 of 2 in use",
            tiny.id
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_ports_reach_the_container() {
    let host = Host::new();
    let controller = host.controller().await;
    let wish = |port: u16| PortWish {
        protocol: PortProtocol::Tcp,
        container_port: 80,
        host_ip: None,
        host_ports: port..=port,
    };
    let id = container();
    let spec = weft_network::SandboxSpec { ports: vec![wish(8080), wish(0)], ..sandbox(&id, "web") };
    let made = controller.create_sandbox(spec).await.unwrap();
    let netns = Netns::open(made.netns.unwrap()).unwrap();
    let joined = controller.connect(&id, "bridge", EndpointSpec::default()).await.unwrap();
    let bound = controller.publish(&id).await.unwrap();
    assert_eq!(bound.iter().map(|m| m.host_port).collect::<Vec<_>>(), [8080, 32768]);
    serve(&netns, at(joined.address.unwrap().ip(), 80), "web");
    let loopback: IpAddr = [127, 0, 0, 1].into();
    assert!(ask(&host.netns, at(loopback, 8080)).unwrap().starts_with("web"));
    assert!(ask(&host.netns, at(loopback, 32768)).unwrap().starts_with("web"));
    assert!(ask(&host.netns, at([172, 17, 0, 1].into(), 8080)).unwrap().starts_with("web"));

    let rival = container();
    let spec = weft_network::SandboxSpec { ports: vec![wish(8080)], ..sandbox(&rival, "c3") };
    controller.create_sandbox(spec).await.unwrap();
    let endpoint = controller.connect(&rival, "bridge", EndpointSpec::default()).await.unwrap();
    let refused = controller.publish(&rival).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "driver failed programming external connectivity on endpoint c3 ({}): Bind for 0.0.0.0:8080 failed: port is already allocated",
            endpoint.id
        )
    );
    controller.remove_sandbox(&id).await.unwrap();
    controller.publish(&rival).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_runs_and_removes_orphans() {
    let host = Host::new();
    let (lives, orphan) = (container(), container());
    let before = {
        let controller = host.controller().await;
        for (id, name) in [(&lives, "lives"), (&orphan, "orphan")] {
            controller.create_sandbox(sandbox(id, name)).await.unwrap();
            controller.connect(id, "bridge", EndpointSpec::default()).await.unwrap();
        }
        controller.shutdown(true).await;
        controller.endpoints(&lives)
    };
    let netns = Netns::open(host.controller().await.sandbox(&lives).unwrap().netns.unwrap()).unwrap();
    let address = before[0].address.unwrap().ip();
    serve(&netns, at(address, 80), "alive");
    // `ip` looks through the names of all namespaces, of which others may just go: what it says of that is no matter.
    let looks = "cat /sys/class/net/eth0/ifindex; ip -o link show eth0 2>/dev/null";
    let index = shell(&netns, looks);

    // What someone took away while the daemon was gone comes back.
    host.shell("nft flush ruleset");
    // What a daemon had begun when it died, and had not noted, goes.
    let files = host.dir.path().join("run/etc");
    std::fs::create_dir(files.join(container().as_str())).unwrap();
    let controller = host.controller().await;
    controller.adopt(std::slice::from_ref(&lives)).await.unwrap();
    assert_eq!(controller.endpoints(&lives), before);
    assert_eq!(ask(&host.netns, at(address, 80)).unwrap(), "alive 172.17.0.1");
    assert_eq!(shell(&netns, looks), index);
    assert!(controller.sandbox(&orphan).is_err());
    for folder in [files, host.dir.path().join("run/netns")] {
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "{}", folder.display());
    }
    assert!(host.shell("nft list tables").contains("weft-bridge"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_repairs_and_counts() {
    let host = Host::new();
    let controller = host.controller().await;
    let id = container();
    let made = controller.create_sandbox(sandbox(&id, "c")).await.unwrap();
    let netns = Netns::open(made.netns.unwrap()).unwrap();
    controller.connect(&id, "bridge", EndpointSpec::default()).await.unwrap();
    assert_eq!(controller.audit().await.unwrap(), 0);
    shell(&netns, "ip route del default; ip addr flush dev eth0");
    host.shell("nft delete table ip weft-bridge");
    assert!(controller.audit().await.unwrap() >= 3);
    assert!(shell(&netns, "ip route").contains("default via 172.17.0.1"));
    let repairs = controller.audit_counters().repairs;
    assert!(repairs["route"] >= 1 && repairs["address"] >= 1 && repairs["nftables"] >= 1, "{repairs:?}");
    // Even the whole interface.
    host.shell("ip -o link show type veth | sed 's/.*\\(veth[0-9a-f]*\\)@.*/\\1/' | xargs -n1 ip link del");
    controller.audit().await.unwrap();
    assert!(shell(&netns, "ip -o -4 addr show eth0").contains("172.17.0.2/16"));
    assert_eq!(controller.audit().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_none_and_shared_namespaces() {
    let host = Host::new();
    let controller = host.controller().await;
    let (own, shared, none, hosted) = (container(), container(), container(), container());
    let with = |id: &_, kind| weft_network::SandboxSpec { kind, ..sandbox(id, "c") };
    let first = controller.create_sandbox(with(&own, SandboxKind::Own)).await.unwrap();
    let second = controller.create_sandbox(with(&shared, SandboxKind::Shared(own.clone()))).await.unwrap();
    assert_eq!((second.netns, second.hosts), (first.netns, first.hosts));
    let none = controller.create_sandbox(with(&none, SandboxKind::None)).await.unwrap();
    let links = shell(&Netns::open(none.netns.unwrap()).unwrap(), "ip -o link; ip -o addr");
    assert!(links.contains("127.0.0.1/8") && !links.contains("eth0"), "{links}");
    let hosted = controller.create_sandbox(with(&hosted, SandboxKind::Host)).await.unwrap();
    assert_eq!((hosted.netns, hosted.id.as_str()), (None, ""));
    let refused = controller.connect(&shared, "bridge", EndpointSpec::default()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "container sharing network namespace with another container or host cannot be connected to any other network"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_and_ipv6_ports_are_published_too() {
    let host = Host::new();
    let controller = host.controller().await;
    let six = NetworkSpec { enable_ipv6: true, ..NetworkSpec::bridge("six") };
    controller.create_network(six).await.unwrap();
    let wish = |protocol, container_port| PortWish {
        protocol,
        container_port,
        host_ip: None,
        host_ports: 9000..=9000,
    };
    let id = container();
    let ports = vec![wish(PortProtocol::Tcp, 80), wish(PortProtocol::Udp, 53)];
    let spec = weft_network::SandboxSpec { ports, ..sandbox(&id, "web") };
    let made = controller.create_sandbox(spec).await.unwrap();
    let netns = Netns::open(made.netns.unwrap()).unwrap();
    let joined = controller.connect(&id, "six", EndpointSpec::default()).await.unwrap();
    let bound = controller.publish(&id).await.unwrap();
    let shown: Vec<String> = bound.iter().map(|m| format!("{} {}", m.protocol, m.host_ip)).collect();
    assert_eq!(shown, ["tcp 0.0.0.0", "tcp ::", "udp 0.0.0.0", "udp ::"]);
    assert!(shell(&netns, "ip -6 route").contains("default via fd"));

    serve(&netns, at(joined.address6.unwrap().ip(), 80), "web6");
    let outside = controller.find("six").unwrap().pools[1].gateway;
    assert!(ask(&host.netns, at(outside, 9000)).unwrap().starts_with("web6"));
    let inside = joined.address.unwrap().ip();
    let echo = netns.run_in(|| std::net::UdpSocket::bind((inside, 53)).unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((len, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..len], from);
        }
    });
    let answer = common::dns(&host.netns, "127.0.0.1:9000", "ping", 1).unwrap();
    assert!(answer.windows(4).any(|w| w == b"ping"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_leaves_no_half_made_endpoint() {
    let host = Host::new();
    let controller = host.controller().await;
    let id = container();
    controller.create_sandbox(sandbox(&id, "c")).await.unwrap();
    for wait in [0, 1, 5, 10, 20, 40] {
        let joining = controller.connect(&id, "bridge", EndpointSpec::default());
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(wait), joining).await;
        // Whatever became of it, the next request finds all or nothing.
        assert_eq!(controller.audit().await.unwrap(), 0, "given up after {wait} ms: {given_up:?}");
        let _ = controller.disconnect(&id, "bridge").await;
        assert_eq!(controller.audit().await.unwrap(), 0);
    }
    controller.connect(&id, "bridge", EndpointSpec::default()).await.unwrap();
}
