//! How programming, memory and lookups grow with what a node has to know: `cargo xtask bench growth`. Needs root and a machine
//! that does nothing else. The node is a real one (controller, helper, kernel); what it hears of other nodes is made up.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests; figures are printed"
)]

mod common;

use std::fmt::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::helper_pid;
use common::many::{self, Node, TASKS, add_endpoint, add_service, first_vip, service_of, services};
use weft_kernel::Netns;
use weft_network::SwarmNetworkState;

/// Changes of one thing, whose median counts.
const CHANGES: usize = 11;
/// Requests, or first datagrams of flows, whose median counts.
const LOOKUPS: usize = 20_000;
/// Flows whose first datagrams are sent at once: each has a port.
const FLOWS: usize = 5_000;
const MIB: f64 = 1024.0 * 1024.0;

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

/// Memory, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    /// Resident, of controller and helper.
    processes: f64,
    /// The kernel's own, of the whole machine.
    kernel: f64,
}

impl Memory {
    fn now(node: &Node) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kernel = ["Slab:", "Percpu:", "KernelStack:", "PageTables:"].map(|key| kilobytes(&meminfo, key));
        let helper = helper_pid(&node.host).map_or(0.0, |pid| resident(&pid.to_string()));
        Self { processes: resident("self") + helper, kernel: kernel.iter().sum() }
    }

    /// More than before, in MiB.
    fn since(self, before: Self) -> [f64; 2] {
        [(self.processes - before.processes) / MIB, (self.kernel - before.kernel) / MIB]
    }
}

fn resident(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    kilobytes(&status, "VmRSS:")
}

/// Bytes of a line of `/proc` that gives kilobytes.
fn kilobytes(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

/// One size of one thing.
struct Point {
    count: usize,
    /// All at once, or one after the other where they can only come so.
    all: Duration,
    /// One more among them.
    one: Duration,
    memory: [f64; 2],
    lookup: Duration,
}

fn table(title: &str, lookup: &str, points: &[Point]) -> String {
    let mut text = format!(
        "\n## {title}\n\n| count | all, ms | one more, ms | controller and helper, MiB | kernel, MiB | {lookup}, µs |\n\
         |---:|---:|---:|---:|---:|---:|\n"
    );
    for Point { count, all, one, memory: [processes, kernel], lookup } in points {
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        let (all, one, lookup) = (ms(all), ms(one), lookup.as_secs_f64() * 1e6);
        writeln!(text, "| {count} | {all:.0} | {one:.1} | {processes:.1} | {kernel:.1} | {lookup:.2} |")
            .unwrap();
    }
    text
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Median of a request and its answer between two containers of the node.
fn round_trip(from: &Netns, to: &Netns, at: IpAddr) -> Duration {
    let server = to.run_in(|| UdpSocket::bind((at, 9000)).unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = [0; 8];
            while let Ok((1, from)) = server.recv_from(&mut byte) {
                server.send_to(&byte[..1], from).unwrap();
            }
        });
        let client = from.run_in(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        client.connect((at, 9000)).unwrap();
        let mut byte = [0; 8];
        let mut ask = || {
            let begin = Instant::now();
            client.send(&[1]).unwrap();
            client.recv(&mut byte).unwrap();
            begin.elapsed()
        };
        let took = (0..LOOKUPS).map(|_| ask()).collect();
        client.send(&[0; 2]).unwrap();
        median(took)
    })
}

/// Median of the first datagram of a flow to a virtual IP: of sockets that are there already.
fn first_datagram(from: &Netns) -> Duration {
    let bind = || (0..FLOWS).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect::<Vec<_>>();
    let sockets = from.run_in(bind).unwrap();
    let send = |socket: &UdpSocket| {
        let begin = Instant::now();
        socket.send_to(&[1], (first_vip(), 9000)).unwrap();
        begin.elapsed()
    };
    median(sockets.iter().map(send).collect())
}

/// What the managers tell of at one size, with what one more of it is, and what is looked up.
async fn told(
    count: usize,
    mut network: SwarmNetworkState,
    more: impl Fn(&mut SwarmNetworkState, usize),
    lookup: impl Fn(&Netns, (&Netns, IpAddr)) -> Duration,
) -> Point {
    let node = Node::start().await;
    let (ann, _) = node.container_on("ann", "ov1").await;
    let (bob, at) = node.container_on("bob", "ov1").await;
    let before = Memory::now(&node);
    let all = node.tell(&network).await;
    let memory = Memory::now(&node).since(before);
    let mut one = Vec::new();
    for number in 0..CHANGES {
        more(&mut network, count + number);
        network.index += 1;
        one.push(node.tell(&network).await);
    }
    let lookup = lookup(&ann, (&bob, at));
    node.controller.shutdown(false).await;
    Point { count, all, one: median(one), memory, lookup }
}

/// So many networks, a container on each.
async fn networks(count: usize) -> Point {
    let node = Node::start().await;
    let (ann, _) = node.container_on("ann", "ov1").await;
    let (bob, at) = node.container_on("bob", "ov1").await;
    let before = Memory::now(&node);
    let begin = Instant::now();
    for number in 1..count {
        node.container_on(&format!("c{number}"), &format!("ov{}", number + 1)).await;
    }
    let all = begin.elapsed();
    let memory = Memory::now(&node).since(before);
    let mut one = Vec::new();
    for number in count..count + CHANGES {
        let begin = Instant::now();
        node.container_on(&format!("c{number}"), &format!("ov{}", number + 1)).await;
        one.push(begin.elapsed());
    }
    let lookup = round_trip(&ann, &bob, at);
    node.controller.shutdown(false).await;
    Point { count, all, one: median(one), memory, lookup }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo xtask bench growth"]
async fn measured_curves() {
    if let Ok(filter) = std::env::var("WEFT_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    let mut curves: [Vec<Point>; 4] = Default::default();
    for count in [10, 100, 1_000, 10_000] {
        let round_trip = |from: &Netns, (to, at): (&Netns, IpAddr)| round_trip(from, to, at);
        curves[0].push(told(count, many::endpoints(count), add_endpoint, round_trip).await);
    }
    for count in [1, 10, 100, 1_000] {
        let first = |from: &Netns, _: (&Netns, IpAddr)| first_datagram(from);
        curves[2].push(told(count, services(count), add_service, first).await);
        let one_task = |network: &mut SwarmNetworkState, number| *network = service_of(number + 1);
        curves[3].push(told(count, service_of(count), one_task, first).await);
        curves[1].push(networks(count).await);
    }
    let [endpoints, networks, services, backends] = &curves;
    let text = [
        table("Endpoints on other nodes, of one network", "round trip beside them", endpoints),
        table("Networks, a container on each", "round trip beside them", networks),
        table(&format!("Services of {TASKS} tasks on one network"), "first datagram of a flow", services),
        table("Tasks of one service", "first datagram of a flow", backends),
    ]
    .concat();
    println!("{text}");
    if let (Ok(path), Ok(head)) = (std::env::var("WEFT_RECORD"), std::env::var("WEFT_RECORD_HEAD")) {
        std::fs::write(path, head + &text).unwrap();
    }
}
