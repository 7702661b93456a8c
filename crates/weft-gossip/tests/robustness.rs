//! Whatever comes in, nothing panics, and clocks do not go back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use weft_gossip::message::{
    Alive, BulkSync, IndirectPing, MemberState, Message, NetworkEvent, NetworkPushPull, NodeEvent, Ping,
    PushPull, StreamBody, TableChange, TableEvent, Verdict,
};
use weft_gossip::{
    Config, Core, CoreEffect, Effect, Gossip, GossipKey, RequestFailure, StreamId, Text, Tick, TimerQueue,
};
use weft_wire::memberlist::{NodeStateKind, Versions};

#[derive(Debug, Clone)]
enum Step {
    Hear(Vec<Message>),
    Stream(StreamBody),
    Wait(u64),
    Put(u8, u8),
    Delete(u8, u8),
    JoinNetwork(u8),
    LeaveNetwork(u8),
    JoinCluster(u8),
    Restore,
    Leave,
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7946))
}

/// Few names, so that they meet; "me" stands for the node's own.
fn name() -> impl Strategy<Value = Text> {
    prop_oneof![Just("me"), Just("a"), Just("b"), Just("c"), Just("")].prop_map(Text::from)
}

fn network() -> impl Strategy<Value = Text> {
    (0u8..3).prop_map(|n| Text::from(format!("network{n}")))
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..20, Just(u64::MAX), Just(1 << 62)]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..6, Just(u32::MAX), Just(u32::MAX / 2)]
}

fn alive() -> impl Strategy<Value = Alive> {
    (small(), name(), 0u8..6, any::<[u8; 6]>(), any::<bool>()).prop_map(
        |(incarnation, node, last, odd, docker)| {
            let versions = if docker { Versions::DOCKER } else { Versions::from(odd) };
            Alive { incarnation, node, address: address(last), meta: Arc::from([]), versions }
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    (small(), name(), name()).prop_map(|(incarnation, node, from)| Verdict { incarnation, node, from })
}

fn network_event() -> impl Strategy<Value = NetworkEvent> {
    (any::<bool>(), number(), name(), network()).prop_map(|(leave, time, node, network)| NetworkEvent {
        leave,
        time,
        node,
        network,
    })
}

fn table_event() -> impl Strategy<Value = Arc<TableEvent>> {
    (0u8..3, number(), name(), network(), 0u8..3, any::<u32>()).prop_map(
        |(change, time, owner, network, key, residual_seconds)| {
            Arc::new(TableEvent {
                change: [TableChange::Create, TableChange::Update, TableChange::Delete][usize::from(change)],
                time,
                owner,
                network,
                table: "endpoint_table".into(),
                key: format!("k{key}").into(),
                value: [key].as_slice().into(),
                residual_seconds,
            })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let source = || prop::option::of((0u8..6).prop_map(address));
    prop_oneof![
        (any::<u32>(), name(), source()).prop_map(|(sequence, node, source)| Message::Ping(Ping {
            sequence,
            node: Some(node),
            source,
            source_node: None
        })),
        (any::<u32>(), name(), 0u8..6, any::<bool>(), source()).prop_map(
            |(sequence, node, target, nack, source)| {
                let (target, node) = (address(target), Some(node));
                Message::IndirectPing(IndirectPing {
                    sequence,
                    target,
                    node,
                    nack,
                    source,
                    source_node: None,
                })
            }
        ),
        (0u32..40).prop_map(Message::Ack),
        (0u32..40).prop_map(Message::Nack),
        verdict().prop_map(Message::Suspect),
        verdict().prop_map(Message::Dead),
        alive().prop_map(Message::Alive),
        (any::<bool>(), number(), name()).prop_map(|(leave, time, node)| Message::Node(NodeEvent {
            leave,
            time,
            node
        })),
        network_event().prop_map(Message::Network),
        prop::collection::vec(table_event(), 0..5).prop_map(Message::Tables),
    ]
}

fn state() -> impl Strategy<Value = NodeStateKind> {
    prop_oneof![
        Just(NodeStateKind::Alive),
        Just(NodeStateKind::Suspect),
        Just(NodeStateKind::Dead),
        Just(NodeStateKind::Left)
    ]
}

fn body() -> impl Strategy<Value = StreamBody> {
    let member = (state(), alive()).prop_map(|(state, alive)| MemberState { state, alive });
    let networks = (number(), name(), prop::collection::vec(network_event(), 0..5))
        .prop_map(|(time, node, attachments)| NetworkPushPull { time, node, attachments });
    prop_oneof![
        (any::<bool>(), prop::collection::vec(member, 0..5), prop::option::of(networks))
            .prop_map(|(join, members, networks)| StreamBody::PushPull(PushPull { join, members, networks })),
        (
            number(),
            any::<bool>(),
            name(),
            prop::collection::vec(network(), 0..3),
            prop::collection::vec(network_event(), 0..3),
            prop::collection::vec(table_event(), 0..5)
        )
            .prop_map(|(time, unsolicited, node, networks, attachments, events)| {
                let (attachments, events) = (attachments.into(), events.into());
                StreamBody::BulkSync(BulkSync { time, unsolicited, node, networks, attachments, events })
            }),
        Just(StreamBody::Ack(3)),
        Just(StreamBody::Error("no".into())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(message(), 1..6).prop_map(Step::Hear),
        4 => body().prop_map(Step::Stream),
        4 => prop_oneof![1u64..2000, 1000u64..100_000, Just(2_000_000), Just(100_000_000)].prop_map(Step::Wait),
        2 => (0u8..3, 0u8..3).prop_map(|(network, key)| Step::Put(network, key)),
        1 => (0u8..3, 0u8..3).prop_map(|(network, key)| Step::Delete(network, key)),
        2 => (0u8..3).prop_map(Step::JoinNetwork),
        1 => (0u8..3).prop_map(Step::LeaveNetwork),
        1 => (0u8..6).prop_map(Step::JoinCluster),
        1 => Just(Step::Restore),
        1 => Just(Step::Leave),
    ]
}

/// The node under test: requests fail at once, timers fire when time passes.
struct Bench {
    core: Core,
    timers: TimerQueue,
    now: u64,
}

fn tick(ms: u64) -> Tick {
    Tick::after(Duration::from_millis(ms))
}

fn rng() -> Box<SmallRng> {
    Box::new(SmallRng::seed_from_u64(3))
}

impl Bench {
    fn new() -> Self {
        let mut out = Vec::new();
        let core = Core::new(tick(0), Config::docker(address(1)), rng(), &mut out);
        let mut bench = Self { core, timers: TimerQueue::default(), now: 0 };
        bench.perform(out);
        bench
    }

    fn perform(&mut self, mut effects: Vec<CoreEffect>) {
        let mut rounds = 0;
        while !effects.is_empty() {
            rounds += 1;
            assert!(rounds < 100, "requests without end");
            let mut next = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Arm { timer, at } => self.timers.arm(timer, at),
                    Effect::Request { id, .. } => {
                        self.core.on_answer(tick(self.now), id, Err(RequestFailure::Broken), &mut next);
                    }
                    _ => {}
                }
            }
            effects = next;
        }
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        // Long waits test forgetting; their periodic work in between is cut short.
        for _ in 0..2000 {
            let Some(at) = self.timers.next().filter(|at| *at <= tick(end)) else { break };
            self.now = (at.since_start().as_micros().div_ceil(1000) as u64).max(self.now);
            let Some(timer) = self.timers.pop_due(tick(self.now)) else { break };
            let mut out = Vec::new();
            self.core.on_timer(tick(self.now), timer, &mut out);
            self.perform(out);
        }
        self.now = end;
    }

    fn step(&mut self, step: &Step) {
        let now = tick(self.now);
        let mut out = Vec::new();
        let net = |n: &u8| format!("network{n}");
        match step {
            Step::Hear(messages) => {
                let packet = messages.iter().map(|message| Arc::new(self.named(message))).collect();
                self.core.on_packet(now, address(9), &packet, &mut out);
            }
            Step::Stream(body) => self.core.on_stream(now, StreamId(1), address(9), body, &mut out),
            Step::Wait(ms) => self.wait(*ms),
            Step::Put(n, key) => {
                let _ = self.core.put_entry(now, &net(n), "t", &format!("k{key}"), &[*key], &mut out);
            }
            Step::Delete(n, key) => {
                let _ = self.core.delete_entry(now, &net(n), "t", &format!("k{key}"), &mut out);
            }
            Step::JoinNetwork(n) => {
                let _ = self.core.join_network(now, &net(n), &mut out);
            }
            Step::LeaveNetwork(n) => {
                let _ = self.core.leave_network(now, &net(n), &mut out);
            }
            Step::JoinCluster(n) => self.core.join_cluster(now, &[address(*n)], &mut out),
            Step::Restore => {
                let saved = self.core.snapshot(now);
                if let Ok(core) = Core::restore(now, Config::docker(address(1)), &saved, rng(), &mut out) {
                    self.core = core;
                    self.timers = TimerQueue::default();
                }
            }
            Step::Leave => self.core.leave(now, &mut out),
        }
        self.perform(out);
    }

    /// Puts the node's real name where the message says "me".
    fn named(&self, message: &Message) -> Message {
        let mine = |name: &Text| if **name == *"me" { self.core.name().clone() } else { name.clone() };
        match message {
            Message::Suspect(v) => {
                Message::Suspect(Verdict { node: mine(&v.node), from: mine(&v.from), ..*v })
            }
            Message::Dead(v) => Message::Dead(Verdict { node: mine(&v.node), from: mine(&v.from), ..*v }),
            Message::Alive(a) => Message::Alive(Alive { node: mine(&a.node), ..a.clone() }),
            Message::Node(e) => Message::Node(NodeEvent { node: mine(&e.node), ..e.clone() }),
            Message::Network(e) => Message::Network(NetworkEvent { node: mine(&e.node), ..e.clone() }),
            Message::Tables(events) => Message::Tables(
                events
                    .iter()
                    .map(|e| Arc::new(TableEvent { owner: mine(&e.owner), ..(**e).clone() }))
                    .collect(),
            ),
            other => other.clone(),
        }
    }
}

fn gossip() -> Gossip {
    let keys = (1..=3).map(|time| GossipKey { lamport_time: time, key: vec![time as u8; 16] });
    Gossip::new(tick(0), Config::docker(address(1)), keys, rng(), rng(), &mut Vec::new())
        .expect("usable keys")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_sequence_of_messages_and_commands(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        for step in &steps {
            let before = bench.core.clocks();
            bench.step(step);
            let after = bench.core.clocks();
            prop_assert!(after.0 >= before.0 && after.1 >= before.1, "{before:?} to {after:?} by {step:?}");
        }
    }

    #[test]
    fn any_bytes(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..10)) {
        let mut gossip = gossip();
        let mut out = Vec::new();
        for bytes in &datagrams {
            gossip.on_datagram(tick(1), address(2), bytes, &mut out);
            gossip.on_stream(tick(1), StreamId(1), address(2), bytes, &mut out);
            let _ = weft_gossip::frame_len(bytes);
        }
        prop_assert!(out.is_empty(), "{out:?}");
    }
}
