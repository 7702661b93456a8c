//! Virtual IPs in clients' namespaces, with each engine that this kernel has.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/balanced.rs"]
mod balanced;
mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use balanced::*;
use common::*;
use weft_kernel::{Capabilities, Change, ConnectEngine, ConntrackFilter, Kernel};
use weft_plan::*;

fn engines() -> Vec<BalanceEngine> {
    let found = Capabilities::probe_blocking().unwrap();
    assert!(found.nft_balance);
    // The rules below programs do all of it, too.
    let mut engines = vec![BalanceEngine::Nft, BalanceEngine::Bpf];
    engines.extend(found.ipvs.then_some(BalanceEngine::Ipvs));
    engines
}

#[test]
fn connections_spread_over_the_tasks_also_from_a_task_itself() {
    for engine in engines() {
        let world = World::new(2..=6, engine);
        servers(&world, &[3, 4, 5, 6], 80);
        world.balance(&[2, 3], &[(3, 1), (4, 1), (5, 1)]);
        for vip in [format!("{VIP}:80"), format!("[{VIP6}]:80")] {
            for from in [2, 3] {
                let answers = spread(&world[from].netns, &vip, 120);
                let even = ["3", "4", "5"].iter().all(|n| (15..=70).contains(answers.get(*n).unwrap_or(&0)));
                assert!(even && answers.len() == 3, "{engine} from {from} to {vip}: {answers:?}");
            }
        }
        let client = &world[2].netns;
        assert!(pings(client, VIP) && pings(client, EMPTY) && pings(client, "10.0.1.4"), "{engine}");
        assert!(run(client, &format!("ping -6 -n -c 1 -W 1 {VIP6}")).0, "{engine}");
        assert!(pings(&world[3].netns, VIP), "{engine}");
        world.balance(&[2, 3], &[(3, 0), (4, 2), (5, 1)]);
        let answers = spread(client, &format!("{VIP}:80"), 90);
        assert!(answers.len() == 2 && answers["4"] > answers["5"], "{engine}: {answers:?}");
        // Away again, and nothing is left.
        clean(&world[2].kernel, &world.state(2, &NamespaceState::empty()));
        assert!(!ok(client, "nft list tables").contains("weft"));
    }
}

#[test]
fn what_nobody_listens_to_and_what_has_no_task_is_refused_at_once() {
    for engine in engines() {
        let world = World::new(2..=3, engine);
        world.balance(&[2], &[(3, 1)]);
        for address in [format!("{VIP}:81"), format!("[{VIP6}]:81"), format!("{EMPTY}:80")] {
            let refused = world[2].netns.run_in(|| {
                let begin = Instant::now();
                let error = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5));
                (error.unwrap_err().kind(), begin.elapsed())
            });
            let (kind, after) = refused.unwrap();
            assert_eq!(kind, std::io::ErrorKind::ConnectionRefused, "{engine} {address}");
            assert!(after < Duration::from_millis(500), "{engine} {address}: {after:?}");
        }
        // Also where somebody here listens at that port.
        servers(&world, &[2], 53);
        for (any, address) in [("0.0.0.0:0", EMPTY), ("[::]:0", EMPTY6)] {
            let socket = world[2].netns.udp_socket(any.parse().unwrap()).unwrap();
            socket.set_nonblocking(false).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.connect((ip(address), 53)).unwrap();
            assert_eq!(socket.send(b"query").ok(), Some(5), "{engine} {address}");
            let error = socket.recv(&mut [0; 64]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{engine} {address}");
        }
    }
}

#[test]
fn only_flows_of_services_are_tracked() {
    let world = World::new(2..=5, BalanceEngine::Nft);
    servers(&world, &[2, 3, 4, 5], 80);
    // 5 is no task; 2 is a task of the service, and a client.
    world.balance(&[2, 3, 5], &[(2, 1), (3, 1), (4, 1)]);
    let before = tracked(&world[5].netns);
    assert_eq!(fetch(&world[2].netns, "10.0.1.5:80").as_deref(), Some("5"));
    assert_eq!(tracked(&world[5].netns), before, "a connection from a task is tracked by the server");
    assert_eq!(tracked(&world[2].netns), 0, "a connection to no task is tracked");
    let local = fetch(&world[2].netns, "127.0.0.1:80");
    assert_eq!((local.as_deref(), tracked(&world[2].netns)), (Some("2"), 0));
    for _ in 0..20 {
        assert!(fetch(&world[2].netns, &format!("{VIP}:80")).is_some());
    }
    assert!(tracked(&world[2].netns) >= 20);
    assert_eq!(tracked(&world[3].netns), 0, "connections by the virtual IP are tracked by the server");
}

#[test]
fn a_port_that_served_the_virtual_ip_serves_a_task_directly() {
    for engine in engines() {
        let world = World::new(2..=3, engine);
        servers(&world, &[3], 80);
        world.balance(&[2], &[(3, 1)]);
        let from = |target: &str| {
            let target: SocketAddr = target.parse().unwrap();
            world[2].netns.run_in(|| fetch_from(40_000, target)).unwrap()
        };
        for round in 0..3 {
            for target in [format!("{VIP}:80"), "10.0.1.3:80".to_owned()] {
                assert_eq!(from(&target).as_deref(), Some("3"), "{engine} {target} in round {round}");
            }
        }
        // Both at a time: the same port towards the same task.
        let held =
            world[2].netns.run_in(|| connect_from(40_001, format!("{VIP}:80").parse().unwrap())).unwrap();
        let direct = world[2].netns.run_in(|| fetch_from(40_001, "10.0.1.3:80".parse().unwrap())).unwrap();
        if engine != BalanceEngine::Ipvs {
            assert_eq!(direct.as_deref(), Some("3"));
        }
        drop(held);
    }
}

#[test]
fn established_flows_stay_and_datagrams_leave_a_task_that_is_gone() {
    for engine in engines() {
        let world = World::new(2..=6, engine);
        servers(&world, &[3, 4, 5, 6], 53);
        (3..=6).for_each(|n| echo(&world[n].netns, "0.0.0.0:7"));
        world.balance(&[2], &[(3, 1), (4, 1), (5, 1)]);
        let target: SocketAddr = format!("{VIP}:7").parse().unwrap();
        let mut streams: Vec<TcpStream> =
            (0..30).map(|_| world[2].netns.run_in(|| TcpStream::connect(target).unwrap()).unwrap()).collect();
        let socket = world[2].netns.udp_socket("0.0.0.0:0".parse().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.connect(format!("{VIP}:53")).unwrap();
        let ask = |socket: &UdpSocket| -> Option<u8> {
            socket.send(b"?").ok()?;
            let mut answer = [0; 16];
            let length = socket.recv(&mut answer).ok()?;
            std::str::from_utf8(&answer[..length]).ok()?.parse().ok()
        };
        let first = ask(&socket).unwrap();
        // Others come and go.
        let others: Vec<u8> = [3, 4, 5].into_iter().filter(|n| *n != first).collect();
        let weights: Vec<(u8, u16)> =
            [(first, 1), (6, 1)].into_iter().chain(others.iter().map(|n| (*n, 0))).collect();
        world.balance(&[2], &weights);
        assert!((0..10).all(|_| ask(&socket) == Some(first)), "{engine}: a flow has moved");
        assert!(streams.iter_mut().all(alive), "{engine}: a connection broke although its task lives");
        // Its own task goes.
        world.balance(&[2], &[(6, 1)]);
        let gone = ConntrackFilter {
            original_destination: Some(ip(VIP)),
            reply_source: Some(v4(first).into()),
            ..ConntrackFilter::default()
        };
        world[2].kernel.forget_any_blocking(&[gone]).unwrap();
        let begin = Instant::now();
        eventually("the datagrams reach another task", || ask(&socket) == Some(6));
        assert!(begin.elapsed() < Duration::from_secs(1), "{engine}: {:?}", begin.elapsed());
    }
}

#[test]
fn elements_of_all_types_arrive_by_message_as_they_would_by_program() {
    let place = Place::new();
    let mut table = Table::new(TableId::new(Family::Inet, "types"));
    table.chains.insert("there".to_owned(), Chain::default());
    let mut add = |name: &str, mut set: NftSet, elements: &[&str]| {
        set.elements = elements.iter().map(|e| (*e).to_owned()).collect();
        table.sets.insert(name.to_owned(), set);
    };
    add("four", NftSet::set(&["ipv4_addr"]), &["192.0.2.1"]);
    add("six", NftSet::set(&["ipv6_addr"]), &["2001:db8::1"]);
    add("mac", NftSet::map(&["ether_addr"], &["mark"]), &["02:42:0a:00:01:02 : 3221225985"]);
    add("name", NftSet::set(&["ifname"]), &["\"eth0\""]);
    let key = ["inet_proto", "ipv4_addr", "inet_service"];
    add(
        "port",
        NftSet::map(&key, &["ipv4_addr", "inet_service"]),
        &["tcp . 192.0.2.1 . 80 : 10.0.0.2 . 8080"],
    );
    add("seven", NftSet::map(&["ipv6_addr", "integer"], &["ipv6_addr"]), &["2001:db8::1 . 7 : 2001:db8::2"]);
    add(
        "way",
        NftSet::map(&["ipv4_addr"], &["verdict"]),
        &["192.0.2.1 : goto there", "192.0.2.2 : jump there"],
    );
    let mut empty = table.clone();
    empty.sets.values_mut().for_each(|set| set.elements.clear());
    let state = |table: &Table| {
        let mut state = NamespaceState::empty();
        state.tables.insert(table.id.clone(), Arc::new(table.clone()));
        state
    };
    clean(&place.kernel, &state(&empty));
    let done = clean(&place.kernel, &state(&table));
    assert!(
        done.iter().all(|op| matches!(op, Op::ChangeElements { .. })) && done.len() == 7,
        "{}",
        show(&done)
    );
    clean(&place.kernel, &state(&empty));
}

#[test]
fn a_change_is_carried_out_only_where_it_belongs() {
    let world = World::new([2], BalanceEngine::Nft);
    let before = world.balancer(&[(3, 1)]).plan();
    let after = world.balancer(&[(3, 1), (4, 1)]).plan();
    let change = Change::between(before.clone(), after.clone());
    let kernel = &world[2].kernel;
    assert!(!kernel.advance_blocking(&change).unwrap(), "there is nothing to change");
    clean(kernel, &world.state(2, &before));
    assert!(kernel.advance_blocking(&change).unwrap());
    assert!(clean(kernel, &world.state(2, &after)).is_empty());
    assert!(!kernel.advance_blocking(&change).unwrap(), "it stands already");
    // Somebody else was here.
    clean(kernel, &world.state(2, &before));
    ok(&world[2].netns, &format!("nft delete element ip weft-balance vips {{ {VIP} }}"));
    assert!(!kernel.advance_blocking(&change).unwrap());
    clean(kernel, &world.state(2, &after));
    // A namespace that had no services gets its first.
    let nothing = Change::between(after.clone(), Default::default());
    assert!(kernel.advance_blocking(&nothing).unwrap());
    assert!(clean(kernel, &world.state(2, &Default::default())).is_empty());
    let first = Change::between(Default::default(), before.clone());
    assert!(kernel.advance_blocking(&first).unwrap());
    assert!(clean(kernel, &world.state(2, &before)).is_empty());
    let timeout = kernel.sysctl_blocking("net/netfilter/nf_conntrack_udp_timeout_stream").unwrap();
    assert_eq!(timeout.as_deref(), Some("300"));
}

/// Not a test of behaviour: what it costs to bring many services to one and to many containers, and one more of them.
#[test]
#[ignore = "measures; cargo xtask bench runs it"]
fn measured_programming_of_services() {
    for (containers, services) in [(1, 1_000u32), (50, 1_000)] {
        let places: Vec<Place> = (0..containers).map(|_| Place::new()).collect();
        let with = |services: u32| -> Balancer {
            let of = |n: u32| {
                let task = |t: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a02_0000 + n * 3 + t));
                BalancedService::new((0..3).map(|t| (task(t), 1)).collect(), None)
            };
            let vip = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a01_0000 + n));
            let services = (0..services).map(|n| (vip(n), of(n))).collect();
            Balancer { sockets: true, services, ..Balancer::default() }
        };
        let state = |balancer: &Balancer| {
            let mut state = NamespaceState::empty();
            state.links.insert(LinkName::lo(), Link::new(LinkKind::Loopback));
            state.merge(balancer.plan());
            state
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let each = |work: &(dyn Fn(&Kernel) + Sync)| {
            let begin = Instant::now();
            std::thread::scope(|scope| {
                for some in places.chunks(places.len().div_ceil(threads)) {
                    scope.spawn(|| some.iter().for_each(|place| work(&place.kernel)));
                }
            });
            begin.elapsed()
        };
        let first = state(&with(0));
        each(&|kernel| assert!(kernel.reconcile_blocking(&first).unwrap().is_clean()));
        let begin = Instant::now();
        let all = state(&with(services));
        let change = Change::between(first, all.clone());
        let planned = begin.elapsed();
        let programmed = each(&|kernel| assert!(kernel.advance_blocking(&change).unwrap()));
        let mut more = Vec::new();
        let mut now = all;
        for extra in 1..=20 {
            let begin = Instant::now();
            let next = state(&with(services + extra));
            let change = Change::between(now, next.clone());
            let planned = begin.elapsed();
            let applied = each(&|kernel| assert!(kernel.advance_blocking(&change).unwrap()));
            more.push(planned + applied);
            now = next;
        }
        more.sort();
        eprintln!(
            "{containers} containers: {services} services in {:?} (plan {planned:?}); one more: median {:?}, most {:?}",
            planned + programmed,
            more[more.len() / 2],
            more[more.len() - 1],
        );
    }
}

/// A way to the server: a name for it, and the address to connect to.
struct Way {
    name: &'static str,
    target: SocketAddr,
    seen: Vec<(f64, f64)>,
}

/// Connections and one stream across two hosts over VXLAN: to an address that is no task's, to a task's, and by the
/// virtual IP, in turns of short bursts. Wall time depends on what else the machine does; the CPU time of both ends does
/// not.
#[test]
#[ignore = "measures; cargo xtask bench runs it"]
fn measured_virtual_ips_beside_direct_access() {
    // Each on hosts of its own: ports that a server still remembers from elsewhere would cost a second.
    for line in [BalanceEngine::Nft, BalanceEngine::Bpf].into_iter().flat_map(measured_beside_direct_access) {
        eprintln!("{line}");
    }
}

fn measured_beside_direct_access(engine: BalanceEngine) -> Vec<String> {
    let mut lines = Vec::new();
    let (hosts, _switch) = hosts(2);
    let mut nodes = overlay(hosts);
    let tasks: Vec<IpAddr> = (20..220).map(|n| v4(n).into()).collect();
    nodes[0].overlay.remote[0].ips.extend(&tasks);
    clean(&nodes[0].network.kernel, &nodes[0].overlay.plan());
    let addresses = tasks.iter().map(|task| net(&format!("{task}/24")));
    nodes[1].sandbox.interfaces[0].addresses.extend(addresses);
    clean(&nodes[1].container.kernel, &nodes[1].sandbox.plan());
    let (client, server) = (nodes[0].container.netns.clone(), nodes[1].container.netns.clone());
    for netns in [&client, &server] {
        run(netns, "sysctl -qw net.ipv4.tcp_congestion_control=cubic");
    }
    let listener = server.run_in(|| TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"x");
        }
    });
    let sink = server.run_in(|| TcpListener::bind("0.0.0.0:81").unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 256 << 10];
        for mut stream in sink.incoming().flatten() {
            while stream.read(&mut bytes).is_ok_and(|length| length > 0) {}
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().join("connect");
    for (backends, services) in [(3, 1), (200, 1000u32)] {
        let of = |tasks: &[IpAddr]| BalancedService::new(tasks.iter().map(|ip| (*ip, 1)).collect(), None);
        let mut all: BTreeMap<IpAddr, BalancedService> = (1..services)
            .map(|n| (std::net::Ipv4Addr::from_bits(0x0a02_0000 + n).into(), of(&tasks[..3])))
            .collect();
        all.insert(ip("10.0.1.250"), of(&tasks[..backends]));
        let balancer = Arc::new(Balancer { engine, sockets: true, services: all, ..Balancer::default() });
        nodes[0].sandbox.balance = Some(Arc::new(balancer.plan()));
        clean(&nodes[0].container.kernel, &nodes[0].sandbox.plan());
        if engine == BalanceEngine::Bpf {
            let reach = ConnectReach { namespaces: [client.reference()].into(), balancer };
            let wish = ConnectWish { reaches: [(1, reach)].into() };
            let mut programs = ConnectEngine::open_blocking(&pins).unwrap();
            assert!(programs.reconcile_blocking(&wish, true).unwrap().failed.is_empty());
        }
        for (what, port, burst) in [
            ("connections/s", 80, connections as fn(SocketAddr) -> (f64, f64)),
            ("stream Gb/s", 81, stream as fn(SocketAddr) -> (f64, f64)),
        ] {
            let way = |name, address: &str| Way {
                name,
                target: format!("{address}:{port}").parse().unwrap(),
                seen: Vec::new(),
            };
            let mut ways =
                [way("no task", "10.0.1.3"), way("task", "10.0.1.20"), way("virtual IP", "10.0.1.250")];
            for round in 0..16 {
                for turn in 0..ways.len() {
                    let index = (round + turn) % ways.len();
                    let way = &mut ways[index];
                    let target = way.target;
                    way.seen.push(client.run_in(|| burst(target)).unwrap());
                }
            }
            let middle = |way: &Way, of: fn(&(f64, f64)) -> f64| {
                let mut all: Vec<f64> = way.seen.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            };
            for way in &ways {
                let (rate, cpu) = (middle(way, |seen| seen.0), middle(way, |seen| seen.1));
                let base = (middle(&ways[0], |seen| seen.0), middle(&ways[0], |seen| seen.1));
                lines.push(format!(
                    "{engine}, {backends} backends, {services} services: {what} {:>10}: {rate:>9.2} ({:.2} of direct), CPU {cpu:>7.3} ({:.2})",
                    way.name,
                    rate / base.0,
                    cpu / base.1
                ));
            }
        }
    }
    ConnectEngine::remove_blocking(&pins).unwrap();
    lines
}

const BURST: Duration = Duration::from_millis(100);

/// What all threads of this process have used so far, in seconds.
fn cpu() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    texts.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// Connections a second, and microseconds of CPU time each.
fn connections(target: SocketAddr) -> (f64, f64) {
    let (begin, used, mut count) = (Instant::now(), cpu(), 0.0);
    while begin.elapsed() < BURST {
        let mut stream = TcpStream::connect(target).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        count += 1.0;
    }
    (count / begin.elapsed().as_secs_f64(), (cpu() - used) / count * 1e6)
}

/// Gigabits a second, and seconds of CPU time a gigabyte.
fn stream(target: SocketAddr) -> (f64, f64) {
    let mut stream = TcpStream::connect(target).unwrap();
    let bytes = vec![0; 128 << 10];
    let (begin, used, mut sent) = (Instant::now(), cpu(), 0.0);
    while begin.elapsed() < BURST {
        sent += stream.write(&bytes).unwrap() as f64;
    }
    (sent * 8.0 / begin.elapsed().as_secs_f64() / 1e9, (cpu() - used) / (sent / 1e9))
}
