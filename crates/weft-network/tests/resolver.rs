//! The resolver inside containers, and the helper that runs it. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{
    Host, container, dns, dns_query, dns_result, dns_tcp, dns_within, eventually, helper_launch, helper_of,
    helper_pid, is_running, kill, sandbox, shell,
};
use weft_kernel::Netns;
use weft_network::{Controller, EndpointSpec, NetworkSpec, SandboxSpec};
use weft_types::ContainerId;

const SERVER: &str = "127.0.0.11:53";
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const HTTPS: u16 = 65;

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

fn host() -> Host {
    let mut host = Host::new();
    host.config.helper = Some(helper_launch());
    host
}

async fn run(controller: &Controller, name: &str, network: &str, aliases: &[&str]) -> (ContainerId, Netns) {
    let id = container();
    run_as(controller, sandbox(&id, name), network, aliases).await
}

async fn run_as(
    controller: &Controller,
    spec: SandboxSpec,
    network: &str,
    aliases: &[&str],
) -> (ContainerId, Netns) {
    let id = spec.container.clone();
    let made = controller.create_sandbox(spec).await.unwrap();
    let aliases = aliases.iter().map(|a| (*a).to_owned()).collect();
    let wish = EndpointSpec { aliases, ..EndpointSpec::default() };
    controller.connect(&id, network, wish).await.unwrap();
    (id, Netns::open(made.netns.unwrap()).unwrap())
}

fn addresses(netns: &Netns, name: &str) -> (u8, Vec<String>) {
    let (code, found) = dns_result(&dns(netns, SERVER, name, A).unwrap(), name);
    (code, found.iter().map(ToString::to_string).collect())
}

/// A server in a namespace that answers every query with 192.0.2.99, and keeps silent to names with `silent`. The
/// names it was asked for are noted, without dots.
fn upstream(netns: &Netns, address: &str) -> Arc<Mutex<Vec<String>>> {
    let address: SocketAddr = address.parse().unwrap();
    let socket = netns.run_in(|| UdpSocket::bind(address).unwrap()).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..len].to_vec();
            let name = answer[13..len - 5].iter().map(|byte| byte.max(&b' ')).map(|byte| char::from(*byte));
            noted.lock().unwrap().push(name.collect());
            if answer.windows(6).any(|w| w == b"silent") {
                continue;
            }
            answer[2] |= 0x80;
            answer[7] = 1;
            let name = answer[12..len - 4].to_vec();
            answer.extend_from_slice(&name);
            answer.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
            let _ = socket.send_to(&answer, from);
        }
    });
    asked
}

/// A server in a namespace that asks the embedded resolver there; says how often it was asked.
fn relay(netns: &Netns, address: &str) -> Arc<Mutex<usize>> {
    let address: SocketAddr = address.parse().unwrap();
    let open = || (UdpSocket::bind(address).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (socket, onward) = netns.run_in(open).unwrap();
    onward.connect(SERVER).unwrap();
    let back = (onward.try_clone().unwrap(), socket.try_clone().unwrap());
    let (count, requester) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(None)));
    let (counted, noted) = (count.clone(), requester.clone());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            *counted.lock().unwrap() += 1;
            *noted.lock().unwrap() = Some(from);
            let _ = onward.send(&buffer[..len]);
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok(len) = back.0.recv(&mut buffer) {
            if let Some(to) = *requester.lock().unwrap() {
                let _ = back.1.send_to(&buffer[..len], to);
            }
        }
    });
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_neighbours_resolve() {
    let host = host();
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    controller.create_network(NetworkSpec::bridge("back")).await.unwrap();
    let (web, in_web) = run(&controller, "web", "front", &["www"]).await;
    let (_, in_api) = run(&controller, "api", "front", &["www"]).await;
    let (_, in_db) = run(&controller, "db", "back", &[]).await;
    let resolv = std::fs::read_to_string(controller.sandbox(&web).unwrap().resolv_conf).unwrap();
    assert!(resolv.contains("nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n"), "{resolv}");

    assert_eq!(addresses(&in_api, "web"), (0, vec!["172.18.0.2".to_owned()]));
    assert_eq!(addresses(&in_api, "WeB"), (0, vec!["172.18.0.2".to_owned()]));
    assert_eq!(addresses(&in_api, "web.front"), (0, vec!["172.18.0.2".to_owned()]));
    assert_eq!(addresses(&in_api, web.short()), (0, vec!["172.18.0.2".to_owned()]));
    assert_eq!(addresses(&in_api, "www"), (0, vec!["172.18.0.2".to_owned(), "172.18.0.3".to_owned()]));
    // The other family: the name exists and has nothing.
    let none = dns(&in_api, SERVER, "web", AAAA).unwrap();
    assert_eq!((none[3] & 0x0f, none[7]), (0, 0));
    let reverse = dns(&in_api, SERVER, "2.0.18.172.in-addr.arpa", PTR).unwrap();
    assert!(reverse.ends_with(b"\x03web\x05front\0"));
    let tcp = dns_tcp(&in_api, SERVER, "web", A).unwrap();
    assert_eq!(dns_result(&tcp, "web").1[0].to_string(), "172.18.0.2");
    // Not on that network; and no server answers.
    assert_eq!(addresses(&in_db, "db").1.len(), 1);
    // No connection tracking in the container.
    let tracked = shell(&in_web, "cat /proc/sys/net/netfilter/nf_conntrack_count; nft list ruleset");
    assert!(!tracked.contains("ct ") && !tracked.contains("nat"), "{tracked}");

    controller.connect(&web, "back", EndpointSpec::default()).await.unwrap();
    assert_eq!(addresses(&in_db, "web"), (0, vec!["172.19.0.3".to_owned()]));
    assert_eq!(addresses(&in_web, "db"), (0, vec!["172.19.0.2".to_owned()]));
    controller.remove_sandbox(&web).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    while addresses(&in_db, "web.back").0 == 0 {
        assert!(Instant::now() < deadline, "the name of a removed container stays");
    }
    let pid = helper_pid(&host).unwrap();
    controller.shutdown(false).await;
    eventually("the helper ends with the daemon", || !is_running(pid)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_local_is_sent_on() {
    let mut host = host();
    std::fs::write(&host.config.resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    host.config.dns = Vec::new();
    upstream(&host.netns, "127.0.0.1:53");
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    let inner = NetworkSpec { internal: true, ..NetworkSpec::bridge("inner") };
    controller.create_network(inner).await.unwrap();
    let (_, in_web) = run(&controller, "web", "front", &[]).await;
    assert_eq!(addresses(&in_web, "example.org"), (0, vec!["192.0.2.99".to_owned()]));
    assert_eq!(addresses(&in_web, "single"), (0, vec!["192.0.2.99".to_owned()]));
    // The container's own choice is asked from inside.
    let id = container();
    let spec = SandboxSpec { dns: vec!["172.18.0.2".to_owned()], ..sandbox(&id, "own") };
    upstream(&in_web, "172.18.0.2:53");
    let (_, in_own) = run_as(&controller, spec, "front", &[]).await;
    assert_eq!(addresses(&in_own, "example.org"), (0, vec!["192.0.2.99".to_owned()]));
    // Who sets ndots wants single names left to the search list.
    let id = container();
    let spec = SandboxSpec { dns_options: vec!["ndots:1".to_owned()], ..sandbox(&id, "dots") };
    let (_, in_dots) = run_as(&controller, spec, "front", &[]).await;
    assert_eq!(addresses(&in_dots, "single"), (0, vec![]));
    // No way out: refused at once.
    let (_, in_inner) = run(&controller, "inner1", "inner", &[]).await;
    assert_eq!(addresses(&in_inner, "example.org").0, 2);
    assert_eq!(addresses(&in_inner, "inner1").0, 0);
    // A slow server does not slow local names down.
    let slow: Vec<_> = (0..50)
        .map(|n| {
            let netns = in_web.clone();
            std::thread::spawn(move || dns(&netns, SERVER, &format!("silent{n}.example"), A))
        })
        .collect();
    let before = Instant::now();
    assert_eq!(addresses(&in_web, "web").0, 0);
    assert!(before.elapsed() < Duration::from_millis(200), "{:?}", before.elapsed());
    slow.into_iter().for_each(|thread| drop(thread.join()));
    controller.shutdown(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_the_cluster_are_not_asked_elsewhere() {
    let mut host = host();
    std::fs::write(&host.config.resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    host.config.dns = Vec::new();
    let asked = upstream(&host.netns, "127.0.0.1:53");
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    controller.create_network(NetworkSpec::bridge("back_1")).await.unwrap();
    let (_, in_web) = run(&controller, "web", "front", &[]).await;
    let (other, _) = run(&controller, "other", "front", &[]).await;
    run(&controller, "db", "back_1", &[]).await;
    let code = |name: &str, kind: u16| {
        let answer = dns(&in_web, SERVER, name, kind).unwrap();
        (answer[3] & 0x0f, answer[7])
    };
    // Local names have nothing of other kinds.
    for kind in [TXT, SRV, HTTPS] {
        assert_eq!(code("other", kind), (0, 0), "{kind}");
    }
    for name in ["db", "DB", "tasks.db", "tasks.web", "db.back_1", "never.back_1", "_http._tcp.db"] {
        assert_eq!(code(name, A), (3, 0), "{name}");
    }
    assert_eq!(code("77.0.18.172.in-addr.arpa", PTR), (3, 0));
    controller.remove_sandbox(&other).await.unwrap();
    let gone = || dns(&in_web, SERVER, "other", A).unwrap()[3] & 0x0f == 3;
    eventually("the name of a removed container is unknown", gone).await;
    assert_eq!(*asked.lock().unwrap(), [""; 0]);
    assert_eq!(code("example.org", A), (0, 1));
    assert_eq!(*asked.lock().unwrap(), ["example org"]);
    controller.shutdown(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_questions_on_one_connection() {
    let mut host = host();
    std::fs::write(&host.config.resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    host.config.dns = Vec::new();
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    let (_, in_web) = run(&controller, "web", "front", &[]).await;
    // The first one waits for a server that is not there; the others do not wait for it.
    let mut questions = Vec::new();
    for n in 0..100u16 {
        let mut query = dns_query(if n == 0 { "example.org" } else { "web" }, A);
        query[..2].copy_from_slice(&n.to_be_bytes());
        questions.extend((query.len() as u16).to_be_bytes());
        questions.extend(query);
    }
    let answers = in_web
        .run_in(|| {
            let mut stream = TcpStream::connect(SERVER).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
            stream.write_all(&questions).unwrap();
            // Nothing more will be asked; what was is answered all the same, then the other side is done, too.
            stream.shutdown(Shutdown::Write).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        })
        .unwrap();
    let (mut codes, mut rest) = (std::collections::BTreeMap::new(), &answers[..]);
    while let [high, low, more @ ..] = rest {
        let (answer, more) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        codes.insert(u16::from_be_bytes([answer[0], answer[1]]), answer[3] & 0x0f);
        rest = more;
    }
    let wanted = (0..100).map(|n| (n, if n == 0 { 2 } else { 0 })).collect();
    assert_eq!(codes, wanted);
    controller.shutdown(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_resolvers_ends() {
    let host = host();
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    // Two servers that ask each other through their embedded resolvers.
    let id = container();
    let spec = SandboxSpec { dns: vec!["172.18.0.3".to_owned()], ..sandbox(&id, "one") };
    let (_, in_one) = run_as(&controller, spec, "front", &[]).await;
    let id = container();
    let spec = SandboxSpec { dns: vec!["172.18.0.2".to_owned()], ..sandbox(&id, "two") };
    let (_, in_two) = run_as(&controller, spec, "front", &[]).await;
    let counts = [relay(&in_one, "172.18.0.2:53"), relay(&in_two, "172.18.0.3:53")];
    let answer = dns_within(Duration::from_secs(6), &in_one, SERVER, "example.org", A).unwrap();
    assert_eq!(answer[3] & 0x0f, 2);
    let counts = counts.map(|count| *count.lock().unwrap());
    assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
    // The resolver as its own server.
    let id = container();
    let spec = SandboxSpec { dns: vec!["127.0.0.11".to_owned()], ..sandbox(&id, "self") };
    let (_, in_self) = run_as(&controller, spec, "front", &[]).await;
    let before = Instant::now();
    assert_eq!(addresses(&in_self, "example.org").0, 2);
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    controller.shutdown(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_not_waited_for() {
    let host = host();
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    let (_, in_servers) = run(&controller, "servers", "front", &[]).await;
    shell(&in_servers, "ip addr add 172.18.200.1/16 dev eth0; ip addr add 172.18.200.2/16 dev eth0");
    // One that is there and says nothing, one that answers.
    let silent = in_servers.run_in(|| UdpSocket::bind("172.18.200.1:53").unwrap()).unwrap();
    upstream(&in_servers, "172.18.200.2:53");
    let id = container();
    let dns = ["172.18.200.1", "172.18.200.2"].map(str::to_owned).to_vec();
    let (_, netns) = run_as(&controller, SandboxSpec { dns, ..sandbox(&id, "asks") }, "front", &[]).await;
    let took = |name: &str| {
        let before = Instant::now();
        assert_eq!(addresses(&netns, name), (0, vec!["192.0.2.99".to_owned()]));
        before.elapsed()
    };
    let (first, second) = (took("one.example"), took("two.example"));
    assert!(first > Duration::from_millis(1000), "in their order: {first:?}");
    assert!(second < Duration::from_millis(1000), "{second:?}");
    // It was asked all the same.
    let mut buffer = [0; 512];
    silent.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(silent.recv(&mut buffer).is_ok() && silent.recv(&mut buffer).is_ok());
    controller.shutdown(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_to_nowhere_costs_nobody_else() {
    let mut host = host();
    std::fs::write(&host.config.resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    host.config.dns = Vec::new();
    upstream(&host.netns, "127.0.0.1:53");
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    let (_, in_greedy) = run(&controller, "greedy", "front", &[]).await;
    let (_, in_modest) = run(&controller, "modest", "front", &[]).await;
    let flood = in_greedy.clone();
    let flooding = std::thread::spawn(move || {
        let open = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = flood.run_in(open).unwrap();
        socket.connect(SERVER).unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        let (start, mut sent) = (Instant::now(), 0u32);
        while Instant::now() < end {
            // Some thousands a second.
            while f64::from(sent) < start.elapsed().as_secs_f64() * 4000.0 {
                let _ = socket.send(&dns_query(&format!("silent{sent}.example"), A));
                sent += 1;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // Those that are too many are told at once.
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 512];
        let mut refused = 0;
        while let Ok(len) = socket.recv(&mut buffer) {
            refused += u32::from(len > 3 && buffer[3] & 0x0f == 5);
        }
        (sent, refused)
    });
    let mut slowest = [Duration::ZERO; 3];
    while !flooding.is_finished() {
        for (n, (netns, name)) in
            [(&in_greedy, "modest"), (&in_modest, "greedy"), (&in_modest, "example.org")]
                .into_iter()
                .enumerate()
        {
            let before = Instant::now();
            assert_eq!(addresses(netns, name).1.len(), 1, "{name}");
            slowest[n] = slowest[n].max(before.elapsed());
        }
    }
    let (sent, refused) = flooding.join().unwrap();
    assert!(sent > 4000 && refused > 0, "{sent} {refused}");
    // Generous, for a machine that does other things and a build that is not optimised.
    assert!(slowest.iter().all(|time| *time < Duration::from_millis(500)), "{slowest:?}");
    controller.shutdown(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_can_serve_dns_itself() {
    let host = host();
    let controller = host.controller().await;
    controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
    let (_, in_dns) = run(&controller, "dns", "front", &[]).await;
    let (_, in_client) = run(&controller, "client", "front", &[]).await;
    upstream(&in_dns, "0.0.0.0:53");
    let theirs = dns(&in_client, "172.18.0.2:53", "anything", A).unwrap();
    assert_eq!(dns_result(&theirs, "anything").1[0].to_string(), "192.0.2.99");
    let own = dns(&in_dns, "127.0.0.1:53", "anything", A).unwrap();
    assert_eq!(dns_result(&own, "anything").1[0].to_string(), "192.0.2.99");
    assert_eq!(addresses(&in_dns, "client"), (0, vec!["172.18.0.3".to_owned()]));
    controller.shutdown(false).await;
}

/// The helper puts back what someone takes away while there is no daemon.
fn damage_is_repaired(host: &Host, netns: &Netns) {
    shell(netns, "ip route del default");
    let deadline = Instant::now() + Duration::from_secs(2);
    while !shell(netns, "ip route").contains("default via 172.18.0.1") {
        let log = || std::fs::read_to_string(host.dir.path().join("run/helper/log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "no audit while the daemon is away: {}", log());
        #[allow(
            clippy::disallowed_methods,
            reason = "between two looks before a deadline, outside a runtime"
        )]
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A daemon that runs a container and is gone from one moment to the next: the container and the helper.
fn daemon_with_web(host: &Host) -> (ContainerId, Netns, i32) {
    let daemon = runtime();
    let left = daemon.block_on(async {
        let controller = host.controller().await;
        controller.create_network(NetworkSpec::bridge("front")).await.unwrap();
        let (id, netns) = run(&controller, "web", "front", &[]).await;
        (id, netns, helper_pid(host).unwrap())
    });
    daemon.shutdown_background();
    left
}

#[test]
fn repairs_are_counted_once_also_when_another_build_takes_over() {
    let mut host = host();
    // Of another build is what is another file.
    let other = host.dir.path().join("other-build");
    std::fs::copy(std::env::current_exe().unwrap(), &other).unwrap();
    host.config.helper = Some(helper_of(&other));
    let (id, in_web, pid) = daemon_with_web(&host);
    damage_is_repaired(&host, &in_web);

    host.config.helper = Some(helper_launch());
    let repaired = |controller: &Controller| controller.audit_counters().repairs.get("route").copied();
    let second = runtime();
    let count = second.block_on(async {
        let controller = host.controller().await;
        controller.adopt(std::slice::from_ref(&id)).await.unwrap();
        eventually("the other helper's repairs are counted", || repaired(&controller).is_some()).await;
        assert_ne!(helper_pid(&host), Some(pid), "a helper of this build took over");
        assert_eq!(addresses(&in_web, "web"), (0, vec!["172.18.0.2".to_owned()]));
        repaired(&controller)
    });
    second.shutdown_background();

    // What was told is told to nobody else.
    damage_is_repaired(&host, &in_web);
    runtime().block_on(async {
        let controller = host.controller().await;
        controller.adopt(std::slice::from_ref(&id)).await.unwrap();
        eventually("repairs since then are counted", || repaired(&controller).is_some()).await;
        assert_eq!(repaired(&controller), count);
        controller.shutdown(false).await;
    });
}

#[test]
fn lookups_survive_the_daemon_and_the_helper_is_healed() {
    let host = host();
    let (id, in_web, pid) = daemon_with_web(&host);
    assert_eq!(addresses(&in_web, "web"), (0, vec!["172.18.0.2".to_owned()]));
    damage_is_repaired(&host, &in_web);

    let second = runtime();
    second.block_on(async {
        let controller = host.controller().await;
        controller.adopt(std::slice::from_ref(&id)).await.unwrap();
        assert_eq!(addresses(&in_web, "web"), (0, vec!["172.18.0.2".to_owned()]));
        let (_, in_api) = run(&controller, "api", "front", &[]).await;
        assert_eq!(addresses(&in_web, "api").0, 0);
        assert_eq!(helper_pid(&host), Some(pid), "the running helper is adopted");
        let repaired = || controller.audit_counters().repairs.get("route").is_some_and(|count| *count >= 1);
        eventually("what the helper repaired is counted", repaired).await;

        kill(pid);
        let killed = Instant::now();
        let limit = Duration::from_millis(50);
        let answered =
            |netns: &Netns| dns_within(limit, netns, SERVER, "web", A).is_ok_and(|answer| answer[7] == 1);
        while !answered(&in_web) || !answered(&in_api) {
            assert!(killed.elapsed() < Duration::from_secs(1), "not healed within a second");
        }
        let successor = helper_pid(&host).unwrap();
        assert_ne!(successor, pid);
        controller.shutdown(false).await;
        eventually("the helper ends with the daemon", || !is_running(successor)).await;
    });
}
