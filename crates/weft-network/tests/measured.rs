//! Measurements of the resolver and of programming services; needs root and a machine that does nothing else: `cargo xtask bench`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests; figures are printed"
)]

mod common;

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::many::{Node, add_service, services};
use common::{Host, container, dns_query, helper_launch, sandbox};
use weft_kernel::Netns;
use weft_network::{EndpointSpec, NetworkSpec, SandboxSpec};

const RESOLVER: &str = "127.0.0.11:53";
const A: u16 = 1;
/// Queries that wait for their answers when the rate is measured.
const OUTSTANDING: usize = 50;
/// Queries a second when the delay is measured.
const PACE: u32 = 20_000;
const BURST: Duration = Duration::from_secs(2);
/// A query without an answer in this time is lost, and counts as so long.
const LOST: Duration = Duration::from_secs(1);

#[test]
#[ignore = "not a test: the helper process of the other tests"]
fn helper_entry() {
    common::helper_entry();
}

/// A container that asks.
struct Asker {
    netns: Netns,
    names: Vec<String>,
}

impl Asker {
    fn ask<T: Send>(&self, work: impl FnOnce(&UdpSocket) -> T + Send) -> T {
        let asked = self.netns.run_in(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(RESOLVER).unwrap();
            socket.set_read_timeout(Some(LOST)).unwrap();
            work(&socket)
        });
        asked.unwrap()
    }

    /// Queries for all names, under ids that are set when they are sent.
    fn queries(&self) -> Vec<Vec<u8>> {
        self.names.iter().map(|name| dns_query(name, A)).collect()
    }

    /// Answers per second with [`OUTSTANDING`] queries on their way.
    fn rate(&self) -> f64 {
        self.ask(|socket| {
            let queries = self.queries();
            let (mut next, mut answers, mut buffer) = (0, 0u32, [0; 512]);
            let mut ask = |count: usize| {
                for _ in 0..count {
                    socket.send(&queries[next % queries.len()]).unwrap();
                    next += 1;
                }
            };
            ask(OUTSTANDING);
            let start = Instant::now();
            while start.elapsed() < BURST {
                let lost = socket.recv(&mut buffer).is_err();
                answers += u32::from(!lost);
                ask(if lost { OUTSTANDING } else { 1 });
            }
            f64::from(answers) / start.elapsed().as_secs_f64()
        })
    }

    /// 99th percentile of the delay at [`PACE`] queries a second.
    fn delay(&self) -> Duration {
        self.ask(|socket| {
            socket.set_nonblocking(true).unwrap();
            let mut queries = self.queries();
            let (start, step) = (Instant::now(), Duration::from_secs(1) / PACE);
            let mut waiting: VecDeque<Option<Instant>> = VecDeque::new();
            let (mut first, mut next, mut delays) = (0u32, 0u32, Vec::new());
            let mut buffer = [0; 512];
            let total = PACE * BURST.as_secs() as u32;
            while next < total || (!waiting.is_empty() && start.elapsed() < BURST + LOST) {
                if next < total && start.elapsed() >= step * next {
                    let count = queries.len();
                    let query = &mut queries[next as usize % count];
                    query[..2].copy_from_slice(&(next as u16).to_be_bytes());
                    waiting.push_back(Some(Instant::now()));
                    let _ = socket.send(query);
                    next += 1;
                }
                if socket.recv(&mut buffer).is_ok() {
                    let at = u16::from_be_bytes([buffer[0], buffer[1]]).wrapping_sub(first as u16);
                    if let Some(sent) = waiting.get_mut(usize::from(at)).and_then(Option::take) {
                        delays.push(sent.elapsed());
                    }
                    while waiting.front().is_some_and(Option::is_none) {
                        waiting.pop_front();
                        first += 1;
                    }
                }
            }
            delays.resize(total as usize, LOST);
            percentile(delays)
        })
    }

    /// The same for local names, asked one after the other, while the container floods a server that never answers.
    fn delay_beside_a_black_hole(&self) -> Duration {
        let end = Instant::now() + BURST;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.ask(|socket| {
                    let (start, mut sent) = (Instant::now(), 0u32);
                    while Instant::now() < end {
                        let due = (start.elapsed().as_secs_f64() * f64::from(PACE)) as u32;
                        for n in sent..due {
                            let _ = socket.send(&dns_query(&format!("n{n}.example.org"), A));
                        }
                        sent = due;
                        std::thread::park_timeout(Duration::from_micros(500));
                    }
                });
            });
            self.ask(|socket| {
                let (queries, mut delays, mut buffer) = (self.queries(), Vec::new(), [0; 512]);
                while Instant::now() < end {
                    let sent = Instant::now();
                    socket.send(&queries[delays.len() % queries.len()]).unwrap();
                    let _ = socket.recv(&mut buffer);
                    delays.push(sent.elapsed());
                }
                percentile(delays)
            })
        })
    }
}

fn percentile(mut delays: Vec<Duration>) -> Duration {
    delays.sort();
    delays[delays.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo xtask bench"]
async fn measured_queries() {
    let mut host = Host::new();
    host.config.helper = Some(helper_launch());
    // Goals: 60,000 queries a second (twice Docker's resolver), 1 ms, 5 ms.
    for count in [3, 1000] {
        let controller = host.controller().await;
        controller.create_network(NetworkSpec::bridge("n")).await.unwrap();
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        let bearer = container();
        let made = controller.create_sandbox(sandbox(&bearer, "bearer")).await.unwrap();
        let wish = EndpointSpec { aliases: names.clone(), ..EndpointSpec::default() };
        let joined = controller.connect(&bearer, "n", wish).await.unwrap();
        let inside = Netns::open(made.netns.unwrap()).unwrap();
        let _hole = inside.run_in(|| UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
        let id = container();
        let dns = vec![joined.address.unwrap().ip().to_string()];
        let made = controller.create_sandbox(SandboxSpec { dns, ..sandbox(&id, "asks") }).await.unwrap();
        controller.connect(&id, "n", EndpointSpec::default()).await.unwrap();
        let asker = Asker { netns: Netns::open(made.netns.unwrap()).unwrap(), names };
        println!("{count} names: {:.0} queries a second with {OUTSTANDING} outstanding", asker.rate());
        println!("{count} names: 99th percentile {:?} at {PACE} a second", asker.delay());
        println!(
            "{count} names: 99th percentile {:?} beside {PACE} a second to a black hole",
            asker.delay_beside_a_black_hole()
        );
        for id in [id, bearer] {
            controller.remove_sandbox(&id).await.unwrap();
        }
        controller.remove_network("n").await.unwrap();
        controller.shutdown(false).await;
    }
}

/// From the managers' word on a node with so many containers until the kernel and the resolver follow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo xtask bench"]
async fn measured_programming() {
    const SERVICES: usize = 1000;
    const MORE: usize = 20;
    if let Ok(filter) = std::env::var("WEFT_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
    for containers in [1, 50] {
        let node = Node::start().await;
        for number in 0..containers {
            node.container(&format!("c{number}")).await;
        }
        let mut network = services(SERVICES);
        let all = node.tell(&network).await;
        let mut took = Vec::new();
        for more in 0..MORE {
            add_service(&mut network, SERVICES + more);
            network.index += 1;
            took.push(node.tell(&network).await);
        }
        took.sort();
        println!("{containers} containers: {SERVICES} services (goal <= 2 s): {all:?}");
        let (median, most) = (took[MORE / 2], took[MORE - 1]);
        println!(
            "{containers} containers: one service more (goal <= 10 ms): median {median:?}, most {most:?}"
        );
        node.controller.shutdown(false).await;
    }
}
