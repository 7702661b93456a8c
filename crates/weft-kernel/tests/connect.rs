//! Virtual IPs at connect time: real sockets in namespaces of their own, containers on one bridge.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/balanced.rs"]
mod balanced;
mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use balanced::*;
use common::*;
use weft_kernel::{ConnectCounters, ConnectEngine, ConnectReport, Netns};
use weft_plan::*;

/// Containers with programs beside their rules.
struct Bench {
    world: World,
    engine: Option<ConnectEngine>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(numbers: impl IntoIterator<Item = u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Self { world: World::new(numbers, BalanceEngine::Bpf), engine: None, folder };
        bench.open();
        bench
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("connect")
    }

    /// As a daemon that begins.
    fn open(&mut self) {
        self.engine = Some(ConnectEngine::open_blocking(&self.path()).unwrap());
    }

    fn wish(&self, containers: &[u8], weights: &[(u8, u16)]) -> ConnectWish {
        let namespaces = containers.iter().map(|n| self.world[*n].netns.reference()).collect();
        let reach = ConnectReach { namespaces, balancer: self.world.balancer(weights).into() };
        ConnectWish { reaches: [(7, reach)].into() }
    }

    /// Rules in the containers, and the programs' part.
    fn balance(&mut self, containers: &[u8], weights: &[(u8, u16)]) {
        self.world.balance(containers, weights);
        let report = self.programs(containers, weights, false);
        assert!(report.failed.is_empty() && report.repaired.is_empty(), "{report:?}");
    }

    fn programs(&mut self, containers: &[u8], weights: &[(u8, u16)], look: bool) -> ConnectReport {
        let wish = self.wish(containers, weights);
        self.engine.as_mut().unwrap().reconcile_blocking(&wish, look).unwrap()
    }

    fn counters(&self) -> ConnectCounters {
        self.engine.as_ref().unwrap().counters_blocking().unwrap()
    }

    fn client(&self) -> &Netns {
        &self.world[2].netns
    }

    /// Who answers a container.
    fn answers(&self, from: u8, address: &str) -> BTreeSet<String> {
        spread(&self.world[from].netns, address, 40).into_keys().collect()
    }

    /// Connections that programs took, while `work` is done.
    fn translated(&self, work: impl FnOnce()) -> u64 {
        let before = self.counters().translated;
        work();
        self.counters().translated - before
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What is pinned would outlive the test.
        let _ = ConnectEngine::remove_blocking(&self.path());
    }
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

fn connect(netns: &Netns, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    netns.run_in(|| TcpStream::connect_timeout(&address, Duration::from_secs(5))).unwrap()
}

#[test]
fn sockets_are_connected_to_tasks_and_show_the_virtual_ip() {
    let mut bench = Bench::new(2..=5);
    servers(&bench.world, &[2, 3, 4, 5], 80);
    bench.balance(&[2, 3], &[(3, 1), (4, 1), (5, 1)]);
    for address in [format!("{VIP}:80"), format!("[{VIP6}]:80"), format!("[::ffff:{VIP}]:80")] {
        for from in [2, 3] {
            let translated = bench.translated(|| {
                assert_eq!(bench.answers(from, &address), names(&["3", "4", "5"]), "{from} {address}");
            });
            assert_eq!(translated, 40, "{from} {address}");
        }
        let stream = connect(bench.client(), &address).unwrap();
        assert_eq!(stream.peer_addr().unwrap().to_string(), address);
    }
    // A task that reaches itself is tracked there, all else is nowhere.
    assert_eq!(tracked(bench.client()), 0, "translated before a packet leaves");
    assert_eq!(tracked(&bench.world[4].netns), 0);
    // Others are shown as they are, on both sides.
    let stream = connect(bench.client(), "10.0.1.4:80").unwrap();
    assert_eq!(stream.peer_addr().unwrap().to_string(), "10.0.1.4:80");
    let (translated, outside) = (bench.counters().translated, bench.world[4].netns.clone());
    assert!(connect(&outside, "10.0.1.3:80").is_ok());
    assert_eq!(bench.counters().translated, translated);
    // Another protocol goes by the rules.
    let socket = bench.client().udp_socket("0.0.0.0:0".parse().unwrap()).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(format!("{VIP}:80")).unwrap();
    socket.send(b"?").unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 1);
    assert!(pings(bench.client(), VIP) && tracked(bench.client()) > 0);
}

#[test]
fn without_waiting_and_again_with_another_address() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, connect_unspec, socket_with};
    let mut bench = Bench::new(2..=4);
    servers(&bench.world, &[3, 4], 80);
    bench.balance(&[2], &[(3, 1)]);
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let open = || socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    let socket = TcpStream::from(bench.client().run_in(open).unwrap());
    let begun = connect(&socket, &address(&format!("{VIP}:80")));
    assert!(matches!(begun, Ok(()) | Err(rustix::io::Errno::INPROGRESS)), "{begun:?}");
    let peer = || socket.peer_addr().map(|peer| peer.to_string()).ok();
    eventually("it is connected", || peer() == Some(format!("{VIP}:80")));
    // The same socket, directly, to the task that it had.
    connect_unspec(&socket).unwrap();
    let _ = connect(&socket, &address("10.0.1.3:80"));
    eventually("it is connected to the task", || peer().is_some_and(|peer| peer == "10.0.1.3:80"));
}

#[test]
fn a_service_without_tasks_refuses_at_once() {
    let mut bench = Bench::new(2..=3);
    servers(&bench.world, &[3], 80);
    bench.balance(&[2], &[(3, 1)]);
    let before = bench.counters();
    let empty = [format!("{EMPTY}:80"), format!("[{EMPTY6}]:80"), format!("[::ffff:{EMPTY}]:80")];
    for address in empty.iter().chain([&format!("{VIP}:81")]) {
        let begin = Instant::now();
        assert_eq!(connect(bench.client(), address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(begin.elapsed() < Duration::from_millis(500), "{address}: {:?}", begin.elapsed());
    }
    let refused = bench.counters().refused - before.refused;
    assert_eq!(refused, if bench.engine.as_ref().unwrap().can_refuse() { 3 } else { 0 });
}

#[test]
fn changes_are_followed_and_what_is_gone_is_forgotten() {
    let mut bench = Bench::new(2..=5);
    servers(&bench.world, &[3, 4, 5], 80);
    let vip = format!("{VIP}:80");
    bench.balance(&[2], &[(3, 1), (4, 1)]);
    assert_eq!(bench.answers(2, &vip), names(&["3", "4"]));
    let held = connect(bench.client(), &vip).unwrap();
    bench.balance(&[2], &[(5, 1)]);
    assert_eq!(bench.answers(2, &vip), names(&["5"]));
    assert_eq!(
        held.peer_addr().unwrap().to_string(),
        vip,
        "an older connection still shows what it asked for"
    );
    // Weight 0 takes no new flows.
    bench.balance(&[2], &[(5, 0), (4, 1)]);
    assert_eq!(bench.answers(2, &vip), names(&["4"]));
    // Another namespace in the same place of the wish: the first one has no services any more.
    bench.world.balance(&[3], &[(4, 1)]);
    assert_eq!(bench.programs(&[3], &[(4, 1)], false).changed, 2);
    assert_eq!(bench.translated(|| assert_eq!(bench.answers(2, &vip), names(&["4"]))), 0);
    assert_eq!(bench.translated(|| assert_eq!(bench.answers(3, &vip), names(&["4"]))), 40);
    // One that is not there is no reason to fail.
    let mut wish = bench.wish(&[3], &[(4, 1)]);
    wish.reaches.get_mut(&7).unwrap().namespaces.insert(NamespaceRef::at("/nowhere"));
    assert_eq!(bench.engine.as_mut().unwrap().reconcile_blocking(&wish, true).unwrap().changed, 0);
    // Nothing is wished any more.
    bench.engine.as_mut().unwrap().reconcile_blocking(&ConnectWish::default(), false).unwrap();
    assert_eq!(bench.translated(|| assert_eq!(bench.answers(3, &vip), names(&["4"]))), 0);
}

#[test]
fn the_next_daemon_finds_everything_and_without_one_it_goes_on() {
    let mut bench = Bench::new(2..=3);
    servers(&bench.world, &[3], 80);
    let vip = format!("{VIP}:80");
    bench.balance(&[2], &[(3, 1)]);
    let held = connect(bench.client(), &vip).unwrap();
    bench.engine = None;
    let stream = connect(bench.client(), &vip).unwrap();
    assert_eq!((stream.peer_addr().unwrap().to_string(), tracked(bench.client())), (vip.clone(), 0));
    bench.open();
    assert_eq!(bench.counters().translated, 2);
    // Only the four programs are put into the attachments.
    assert_eq!(bench.programs(&[2], &[(3, 1)], false), ConnectReport { changed: 4, ..Default::default() });
    assert_eq!(bench.programs(&[2], &[(3, 1)], true), ConnectReport::default());
    assert_eq!(bench.translated(|| assert_eq!(bench.answers(2, &vip), names(&["3"]))), 40);
    assert_eq!(held.peer_addr().unwrap().to_string(), vip);
    // Taken away, the rules do it.
    bench.engine = None;
    ConnectEngine::remove_blocking(&bench.path()).unwrap();
    assert!(!bench.path().exists());
    // The kernel lets go of attachments when it comes to it.
    eventually("the rules have it", || {
        assert_eq!(bench.answers(2, &vip), names(&["3"]));
        tracked(bench.client()) >= 40
    });
}

#[test]
fn what_somebody_else_damages_is_repaired() {
    let mut bench = Bench::new(2..=3);
    servers(&bench.world, &[3], 80);
    bench.balance(&[2], &[(3, 1)]);
    let whole = |bench: &mut Bench, damage: &str| {
        let report = bench.programs(&[2], &[(3, 1)], true);
        assert!(!report.repaired.is_empty() && report.failed.is_empty(), "{damage}: {report:?}");
        assert_eq!(bench.programs(&[2], &[(3, 1)], true), ConnectReport::default(), "{damage}");
        let translated = bench.translated(|| {
            assert_eq!(bench.answers(2, &format!("{VIP}:80")), names(&["3"]), "{damage}");
        });
        assert_eq!(translated, 40, "{damage}");
    };
    std::fs::remove_file(bench.path().join("attached/connect4")).unwrap();
    whole(&mut bench, "an attachment removed");
    for map in ["namespaces", "services", "slots"] {
        damaged(&bench.path().join("maps-1").join(map));
        whole(&mut bench, map);
    }
    std::fs::remove_file(bench.path().join("maps-1/slots")).unwrap();
    whole(&mut bench, "a map's pin removed");
    std::fs::remove_dir_all(bench.path().join("attached")).unwrap();
    whole(&mut bench, "the folder of attachments removed");
}

/// Empties a map behind the engine's back.
fn damaged(pin: &std::path::Path) {
    use aya::maps::{HashMap, Map, MapData};
    fn emptied<K: aya::Pod, V: aya::Pod>(map: Map) {
        let mut map: HashMap<MapData, K, V> = map.try_into().unwrap();
        let keys: Vec<K> = map.keys().flatten().collect();
        assert!(!keys.is_empty());
        keys.iter().for_each(|key| map.remove(key).unwrap());
    }
    let map = Map::HashMap(MapData::from_pin(pin).unwrap());
    match pin.file_name().unwrap().to_str().unwrap() {
        "namespaces" => emptied::<u64, u64>(map),
        "services" => emptied::<[u8; 24], u64>(map),
        _ => emptied::<[u8; 8], [u8; 16]>(map),
    }
}

#[test]
fn connections_to_tasks_that_are_gone_are_reset() {
    let mut bench = Bench::new(2..=4);
    [3, 4].iter().for_each(|n| echo(&bench.world[*n].netns, "[::]:7"));
    for (vip, task) in [(VIP, "10.0.1.3"), (VIP6, "fd00:1::3")] {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 7).to_string();
        bench.balance(&[2], &[(3, 1)]);
        let mapped = if vip == VIP { format!("[::ffff:{vip}]:7") } else { at(vip) };
        let mut lost = [at(vip), mapped].map(|target| connect(bench.client(), &target).unwrap());
        let mut direct = connect(bench.client(), &at(task)).unwrap();
        bench.balance(&[2], &[(4, 1)]);
        let mut stays = connect(bench.client(), &at(vip)).unwrap();
        let engine = bench.engine.as_ref().unwrap();
        let gone = [(ip(vip), ip(task))];
        assert_eq!(engine.reset_blocking(bench.client(), gone).unwrap(), 2, "{vip}");
        assert!(lost.iter_mut().all(|stream| !alive(stream)), "{vip}");
        assert!(alive(&mut direct) && alive(&mut stays), "{vip}");
        assert_eq!(engine.reset_blocking(bench.client(), gone).unwrap(), 0, "{vip}");
    }
}

/// Programs know nothing of it, or it is not theirs: the rules below have it, from ports that no socket gets.
#[test]
fn what_programs_leave_is_kept_apart_from_what_they_take() {
    let mut bench = Bench::new(2..=3);
    peers(&bench.world[3].netns, 80);
    echo(&bench.world[3].netns, "[::]:7");
    bench.world.balance(&[2], &[(3, 1)]);
    let ports = |bench: &Bench, target: &str| -> Vec<u16> {
        let port = |_| fetch(bench.client(), target).unwrap().parse().unwrap();
        (0..20).map(port).collect()
    };
    let both = [format!("{VIP}:80"), format!("[{VIP6}]:80")];
    for vip in &both {
        assert!(ports(&bench, vip).iter().all(|port| *port >= 61_000), "{vip}");
    }
    // One from before the programs, with a port that a socket then wants for the same task.
    let target = format!("{VIP}:7").parse().unwrap();
    let mut old = bench.client().run_in(|| connect_from(40_001, target)).unwrap().unwrap();
    bench.balance(&[2], &[(3, 1)]);
    for vip in &both {
        assert!(ports(&bench, vip).iter().all(|port| *port < 61_000), "{vip}");
    }
    let mut new =
        bench.client().run_in(|| connect_from(40_001, "10.0.1.3:7".parse().unwrap())).unwrap().unwrap();
    assert!(alive(&mut new), "a socket that knows its task");
    assert!(alive(&mut old), "a connection from before the programs");
}
