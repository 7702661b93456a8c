//! Two nodes that exchange real bytes, driven as a driver with sockets would.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use weft_gossip::{
    Config, Effect, Event, Gossip, GossipKey, RequestFailure, StreamId, Tick, TimerQueue, frame_len,
};

const NETWORK: &str = "fexb4ijrgcw3io3d48z3lthhw";

struct Node {
    gossip: Gossip,
    timers: TimerQueue,
    address: SocketAddr,
    events: Vec<Event>,
}

struct Pair {
    nodes: Vec<Node>,
    now: Tick,
    /// Datagrams on their way: from, to, bytes.
    wire: VecDeque<(usize, usize, Vec<u8>)>,
}

fn keys(times: [u64; 3]) -> Vec<GossipKey> {
    times.map(|time| GossipKey { lamport_time: time, key: vec![time as u8; 16] }).into()
}

fn rng(seed: u64) -> Box<StdRng> {
    Box::new(StdRng::seed_from_u64(seed))
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index as u8 + 1], 7946))
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self { nodes: Vec::new(), now: Tick::ZERO, wire: VecDeque::new() };
        for index in 0..2 {
            let mut out = Vec::new();
            let config = Config::docker(address(index));
            let seed = index as u64 * 2;
            let gossip = Gossip::new(Tick::ZERO, config, keys([1, 2, 3]), rng(seed), rng(seed + 1), &mut out)
                .expect("usable keys");
            let timers = TimerQueue::default();
            pair.nodes.push(Node { gossip, timers, address: address(index), events: Vec::new() });
            pair.perform(index, out);
        }
        pair
    }

    fn call(&mut self, index: usize, call: impl FnOnce(&mut Gossip, Tick, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        call(&mut self.nodes[index].gossip, self.now, &mut out);
        self.perform(index, out);
    }

    fn perform(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::SendUdp { to, datagram } => {
                    assert!(datagram.len() <= 1400, "{} bytes", datagram.len());
                    if let Some(target) = self.nodes.iter().position(|node| node.address == to) {
                        self.wire.push_back((index, target, datagram));
                    }
                }
                Effect::Request { id, to, content, .. } => {
                    assert_eq!(frame_len(&content), Ok(Some(content.len())));
                    let answer = self.exchange(index, to, &content);
                    self.call(index, |gossip, now, out| {
                        gossip.on_answer(now, id, answer.as_deref().map_err(|failure| *failure), out);
                    });
                }
                Effect::Answer { .. } => panic!("answer outside of a stream"),
                Effect::Arm { timer, at } => self.nodes[index].timers.arm(timer, at),
                Effect::Event(event) => self.nodes[index].events.push(event),
            }
        }
    }

    fn exchange(&mut self, from: usize, to: SocketAddr, request: &[u8]) -> Result<Vec<u8>, RequestFailure> {
        let target = self.nodes.iter().position(|node| node.address == to).ok_or(RequestFailure::Connect)?;
        let (from, mut out, mut answer) = (self.nodes[from].address, Vec::new(), Vec::new());
        self.nodes[target].gossip.on_stream(self.now, StreamId(1), from, request, &mut out);
        out.retain(|effect| match effect {
            Effect::Answer { content, .. } => {
                answer.clone_from(content);
                false
            }
            _ => true,
        });
        self.perform(target, out);
        Ok(answer)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some((from, to, datagram)) = self.wire.pop_front() {
                let from = self.nodes[from].address;
                self.call(to, |gossip, now, out| gossip.on_datagram(now, from, &datagram, out));
            }
            let next = self.nodes.iter().filter_map(|node| node.timers.next()).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = next;
            for index in 0..self.nodes.len() {
                while let Some(timer) = self.nodes[index].timers.pop_due(next) {
                    self.call(index, |gossip, now, out| gossip.on_timer(now, timer, out));
                }
            }
        }
        self.now = end;
    }

    fn join(&mut self) {
        for index in 0..2 {
            self.call(index, |gossip, now, out| gossip.join_network(now, NETWORK, out).expect("not leaving"));
        }
        self.call(0, |gossip, now, out| gossip.join_cluster(now, &[address(0)], out));
        self.call(1, |gossip, now, out| gossip.join_cluster(now, &[address(0)], out));
        self.pass(Duration::from_millis(500));
    }
}

#[test]
fn an_entry_is_visible_on_the_other_node_within_a_tenth_of_a_second() {
    let mut pair = Pair::new();
    pair.join();
    assert!(pair.nodes.iter().all(|node| node.events.contains(&Event::Joined)));
    pair.pass(Duration::from_secs(5));
    pair.call(1, |gossip, now, out| {
        gossip.put_entry(now, NETWORK, "endpoint_table", "key", b"value", out).unwrap();
    });
    pair.pass(Duration::from_millis(100));
    let entries: Vec<_> = pair.nodes[0].gossip.entries().collect();
    assert_eq!(entries.len(), 1);
    assert_eq!((&*entries[0].value, entries[0].owner_address), (&b"value"[..], address(1)));
    assert_eq!(entries[0].owner, *pair.nodes[1].gossip.name());
}

#[test]
fn entries_made_before_joining_arrive_too() {
    let mut pair = Pair::new();
    pair.call(1, |gossip, now, out| gossip.join_network(now, NETWORK, out).unwrap());
    for key in 0..40 {
        pair.call(1, |gossip, now, out| {
            gossip.put_entry(now, NETWORK, "endpoint_table", &format!("{key:064x}"), &[1; 150], out).unwrap();
        });
    }
    pair.join();
    assert_eq!(pair.nodes[0].gossip.entries().count(), 40);
}

#[test]
fn keys_rotate_without_a_gap() {
    let mut pair = Pair::new();
    pair.join();
    pair.nodes[0].gossip.set_keys(keys([2, 3, 4])).unwrap();
    pair.pass(Duration::from_secs(30));
    pair.nodes[1].gossip.set_keys(keys([2, 3, 4])).unwrap();
    pair.pass(Duration::from_secs(30));
    let downs = |node: &Node| node.events.iter().filter(|e| matches!(e, Event::MemberDown { .. })).count();
    assert_eq!(pair.nodes.iter().map(downs).sum::<usize>(), 0);
    assert!(pair.nodes[0].gossip.set_keys(keys([2, 3, 4]).into_iter().take(1)).is_err());
}

#[test]
fn a_foreign_cluster_is_not_heard() {
    let mut pair = Pair::new();
    pair.nodes[1].gossip.set_keys(keys([7, 8, 9])).unwrap();
    pair.join();
    assert!(!pair.nodes[0].events.iter().any(|event| matches!(event, Event::MemberUp { .. })));
    assert!(pair.nodes[1].events.contains(&Event::JoinFailed { tried: 1 }));
}

#[test]
fn a_restarted_node_comes_back_unnoticed() {
    let mut pair = Pair::new();
    pair.join();
    pair.call(1, |gossip, now, out| {
        gossip.put_entry(now, NETWORK, "endpoint_table", "key", b"value", out).unwrap();
    });
    pair.pass(Duration::from_secs(2));
    let saved = pair.nodes[1].gossip.snapshot(pair.now);
    pair.pass(Duration::from_secs(1));
    let mut out = Vec::new();
    let config = Config::docker(address(1));
    pair.nodes[1].gossip = Gossip::restore(pair.now, config, &saved, rng(8), rng(9), &mut out).unwrap();
    pair.nodes[1].timers = TimerQueue::default();
    pair.perform(1, out);
    pair.pass(Duration::from_secs(60));
    let down = |event: &Event| matches!(event, Event::MemberDown { .. } | Event::EntryDown(_));
    assert!(!pair.nodes[0].events.iter().any(down), "{:?}", pair.nodes[0].events);
    assert_eq!(pair.nodes[0].gossip.entries().count(), 1);
}

#[test]
fn a_node_that_leaves_takes_its_entries_along() {
    let mut pair = Pair::new();
    pair.join();
    pair.call(1, |gossip, now, out| {
        gossip.put_entry(now, NETWORK, "endpoint_table", "key", b"value", out).unwrap();
    });
    pair.pass(Duration::from_secs(2));
    pair.call(1, |gossip, now, out| gossip.leave(now, out));
    pair.pass(Duration::from_secs(6));
    assert!(pair.nodes[1].events.contains(&Event::Left));
    assert_eq!(pair.nodes[0].gossip.entries().count(), 0);
    assert!(pair.nodes[0].events.iter().any(|e| matches!(e, Event::MemberDown { left: true, .. })));
}
