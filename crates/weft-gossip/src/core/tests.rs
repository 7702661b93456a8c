//! State, one call, exact effects.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use weft_wire::memberlist::{NodeStateKind, Versions};

use super::{Core, CoreEffect};
use crate::message::{
    Alive, BulkSync, IndirectPing, MemberState, Message, NetworkEvent, NodeEvent, Packet, Ping, PushPull,
    StreamBody, TableChange, TableEvent, Verdict,
};
use crate::{
    Config, Effect, Event, GossipError, RequestFailure, StreamId, Text, Tick, Timer, TimerKind, TimerQueue,
    Word,
};

const NETWORK: &str = "network000000000000000001";
const TABLE: &str = "endpoint_table";

/// A node and its timers; effects of each call are returned.
struct Node {
    core: Core,
    timers: TimerQueue,
    now: Tick,
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 7946))
}

fn at(seconds: u64) -> Tick {
    Tick::after(Duration::from_secs(seconds))
}

fn rng() -> crate::Rng {
    Box::new(SmallRng::seed_from_u64(1))
}

fn alive(name: &str, last: u8, incarnation: u32) -> Alive {
    let (node, address) = (name.into(), address(last));
    Alive { incarnation, node, address, meta: Arc::from([]), versions: Versions::DOCKER }
}

fn joined(name: &str, time: u64) -> Message {
    Message::Network(NetworkEvent { leave: false, time, node: name.into(), network: NETWORK.into() })
}

fn entry(owner: &str, key: &str, time: u64, value: &str) -> TableEvent {
    TableEvent {
        change: TableChange::Create,
        time,
        owner: owner.into(),
        network: NETWORK.into(),
        table: TABLE.into(),
        key: key.into(),
        value: value.as_bytes().into(),
        residual_seconds: 0,
    }
}

fn deletion(owner: &str, key: &str, time: u64) -> TableEvent {
    TableEvent { change: TableChange::Delete, residual_seconds: 1800, ..entry(owner, key, time, "") }
}

fn tables(events: impl IntoIterator<Item = TableEvent>) -> Message {
    Message::Tables(events.into_iter().map(Arc::new).collect())
}

impl Node {
    fn new() -> Self {
        let mut out = Vec::new();
        let core = Core::new(Tick::ZERO, Config::docker(address(1)), rng(), &mut out);
        let mut node = Self { core, timers: TimerQueue::default(), now: Tick::ZERO };
        node.arm(&out);
        node
    }

    /// A node that knows `a` and `b`, and is on the network with `a`.
    fn with_peers() -> Self {
        let mut node = Self::new();
        node.call(|core, now, out| core.join_cluster(now, &[], out));
        node.call(|core, now, out| core.join_network(now, NETWORK, out).unwrap());
        node.hear([Message::Alive(alive("a", 2, 1)), Message::Alive(alive("b", 3, 1)), joined("a", 1)]);
        node
    }

    fn arm(&mut self, effects: &[CoreEffect]) {
        for effect in effects {
            if let Effect::Arm { timer, at } = effect {
                self.timers.arm(*timer, *at);
            }
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Core, Tick, &mut Vec<CoreEffect>)) -> Vec<CoreEffect> {
        let mut out = Vec::new();
        call(&mut self.core, self.now, &mut out);
        self.arm(&out);
        out.retain(|effect| !matches!(effect, Effect::Arm { .. }));
        out
    }

    fn hear(&mut self, messages: impl IntoIterator<Item = Message>) -> Vec<CoreEffect> {
        let packet: Packet = messages.into_iter().map(Arc::new).collect();
        self.call(|core, now, out| core.on_packet(now, address(9), &packet, out))
    }

    fn stream(&mut self, body: &StreamBody) -> Vec<CoreEffect> {
        self.call(|core, now, out| core.on_stream(now, StreamId(7), address(9), body, out))
    }

    /// Lets time pass to `end`. Requests fail, datagrams get no answer.
    fn pass(&mut self, end: Tick) -> Vec<CoreEffect> {
        let mut all = Vec::new();
        while let Some(at) = self.timers.next().filter(|at| *at <= end) {
            self.now = at;
            while let Some(timer) = self.timers.pop_due(at) {
                let effects = self.call(|core, now, out| core.on_timer(now, timer, out));
                for effect in &effects {
                    if let Effect::Request { id, .. } = effect {
                        let id = *id;
                        all.extend(self.call(|core, now, out| {
                            core.on_answer(now, id, Err(RequestFailure::TimedOut), out);
                        }));
                    }
                }
                all.extend(effects);
            }
        }
        self.now = end;
        all
    }
}

fn events(effects: &[CoreEffect]) -> Vec<Event> {
    let event = |effect: &CoreEffect| match effect {
        Effect::Event(event) => Some(event.clone()),
        _ => None,
    };
    effects.iter().filter_map(event).collect()
}

fn messages(effects: &[CoreEffect]) -> Vec<(SocketAddr, Arc<Message>)> {
    let sent = |effect: &CoreEffect| match effect {
        Effect::SendUdp { to, datagram } => {
            Some(datagram.iter().map(|m| (*to, m.clone())).collect::<Vec<_>>())
        }
        _ => None,
    };
    effects.iter().filter_map(sent).flatten().collect()
}

/// Keys of entries that came (+) and ended (-), with their value.
fn entries(effects: &[CoreEffect]) -> Vec<String> {
    let change = |event| match event {
        Event::EntryUp(e) => Some(format!("+{}:{}={}", e.owner, e.key, String::from_utf8_lossy(&e.value))),
        Event::EntryDown(e) => Some(format!("-{}:{}={}", e.owner, e.key, String::from_utf8_lossy(&e.value))),
        _ => None,
    };
    events(effects).into_iter().filter_map(change).collect()
}

#[test]
fn a_ping_is_acked_at_its_source() {
    let mut node = Node::new();
    let me = Some(node.core.name().clone());
    let ping = Ping { sequence: 5, node: me, source: Some(address(2)), source_node: None };
    let out = node.hear([Message::Ping(ping.clone())]);
    assert_eq!(out, [Effect::SendUdp { to: address(2), datagram: vec![Arc::new(Message::Ack(5))] }]);
    let out = node.hear([Message::Ping(Ping { source: None, ..ping })]);
    assert_eq!(out, [Effect::SendUdp { to: address(9), datagram: vec![Arc::new(Message::Ack(5))] }]);
}

#[test]
fn a_ping_for_another_name_is_not_answered() {
    let mut node = Node::new();
    let ping = Ping { sequence: 5, node: Some("old".into()), source: None, source_node: None };
    assert_eq!(node.hear([Message::Ping(ping)]), []);
}

#[test]
fn a_ping_on_a_stream_is_acked_there() {
    let mut node = Node::new();
    let ping = Ping { sequence: 5, node: None, source: None, source_node: None };
    let out = node.stream(&StreamBody::Ping(ping));
    assert_eq!(out, [Effect::Answer { stream: StreamId(7), content: StreamBody::Ack(5) }]);
}

#[test]
fn an_indirect_ping_is_relayed_and_silence_reported() {
    let mut node = Node::new();
    let request = IndirectPing {
        sequence: 77,
        target: address(3),
        node: Some("b".into()),
        nack: true,
        source: Some(address(2)),
        source_node: None,
    };
    let out = messages(&node.hear([Message::IndirectPing(request.clone())]));
    let [(to, ping)] = &out[..] else { panic!("{out:?}") };
    let Message::Ping(ping) = ping.as_ref() else { panic!("{ping:?}") };
    assert_eq!((*to, ping.node.as_deref()), (address(3), Some("b")));
    let late = messages(&node.pass(at(1)));
    assert_eq!(late, [(address(2), Arc::new(Message::Nack(77)))]);

    let out = messages(&node.hear([Message::IndirectPing(request)]));
    let Message::Ping(ping) = out[0].1.as_ref() else { panic!() };
    let out = messages(&node.hear([Message::Ack(ping.sequence)]));
    assert_eq!(out, [(address(2), Arc::new(Message::Ack(77)))]);
    assert_eq!(messages(&node.pass(at(2))), []);
}

#[test]
fn a_new_member_is_told_and_gossiped() {
    let mut node = Node::new();
    let out = node.hear([Message::Alive(alive("a", 2, 1))]);
    assert_eq!(events(&out), [Event::MemberUp { name: "a".into(), address: address(2) }]);
    let spread = messages(&node.pass(Tick::after(Duration::from_millis(10))));
    assert!(spread.contains(&(address(2), Arc::new(Message::Alive(alive("a", 2, 1))))), "{spread:?}");
    assert_eq!(node.hear([Message::Alive(alive("a", 2, 1))]), [], "no news");
    assert_eq!(node.core.cluster_size(), 2);
}

#[test]
fn a_name_does_not_move_while_its_place_is_taken() {
    let mut node = Node::with_peers();
    node.hear([Message::Alive(alive("a", 66, 9))]);
    assert!(node.core.members().all(|(_, address, ..)| address != self::address(66)));
}

#[test]
fn a_suspected_node_refutes() {
    let mut node = Node::with_peers();
    let me = node.core.name().clone();
    node.hear([Message::Suspect(Verdict { incarnation: 1, node: me.clone(), from: "a".into() })]);
    let spread = messages(&node.pass(at(1)));
    let refuted = |m: &Message| matches!(m, Message::Alive(a) if a.node == me && a.incarnation == 2);
    assert!(spread.iter().any(|(_, m)| refuted(m)), "{spread:?}");
}

#[test]
fn an_impossible_incarnation_is_ignored() {
    let mut node = Node::with_peers();
    let me = node.core.name().clone();
    node.hear([Message::Suspect(Verdict { incarnation: u32::MAX, node: me, from: "a".into() })]);
    node.hear([Message::Alive(alive("a", 2, u32::MAX))]);
    assert!(node.core.members().all(|(_, _, _, incarnation)| incarnation == 1));
}

#[test]
fn a_silent_member_is_asked_for_through_others_then_suspected_then_dead() {
    let mut node = Node::with_peers();
    let out = node.pass(at(60));
    let sent = messages(&out);
    let asked = |m: &Message| matches!(m, Message::IndirectPing(p) if p.nack);
    assert!(sent.iter().any(|(_, m)| asked(m)), "asks others");
    let by_stream = |e: &CoreEffect| matches!(e, Effect::Request { content: StreamBody::Ping(_), .. });
    assert!(out.iter().any(by_stream), "asks by stream");
    assert!(sent.iter().any(|(_, m)| matches!(m.as_ref(), Message::Suspect(v) if *v.node == *"a")));
    let down = Event::MemberDown { name: "a".into(), address: address(2), left: false };
    assert_eq!(events(&out).iter().filter(|event| **event == down).count(), 1);
    assert_eq!(node.core.cluster_size(), 1);
}

#[test]
fn a_replaced_timer_does_nothing() {
    let mut node = Node::with_peers();
    for kind in [TimerKind::Gossip, TimerKind::Suspicion, TimerKind::NetworkSync, TimerKind::RelayTimeout] {
        let timer = Timer { kind, generation: 0 };
        assert_eq!(node.call(|core, now, out| core.on_timer(now, timer, out)), [], "{kind:?}");
    }
}

#[test]
fn entries_need_a_known_owner_on_the_network() {
    let mut node = Node::with_peers();
    assert_eq!(node.hear([tables([entry("stranger", "k", 1, "v")])]), []);
    assert_eq!(node.hear([tables([entry("b", "k", 1, "v")])]), [], "b is not on the network");
    assert_eq!(entries(&node.hear([tables([entry("a", "k", 1, "v")])])), ["+a:k=v"]);
    assert_eq!(entries(&node.hear([joined("b", 5), tables([entry("b", "k", 2, "w")])])), ["+b:k=w"]);
}

#[test]
fn only_later_changes_count_and_equal_values_are_not_told_again() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 5, "v")])]);
    assert_eq!(entries(&node.hear([tables([entry("a", "k", 4, "old")])])), [""; 0]);
    assert_eq!(entries(&node.hear([tables([entry("a", "k", 6, "v")])])), [""; 0]);
    assert_eq!(entries(&node.hear([tables([entry("a", "k", 7, "w")])])), ["+a:k=w"]);
    assert_eq!(entries(&node.hear([tables([deletion("a", "k", 8)])])), ["-a:k=w"]);
    assert_eq!(
        entries(&node.hear([tables([entry("a", "k", 7, "x")])])),
        [""; 0],
        "the deletion is remembered"
    );
}

#[test]
fn a_deletion_that_comes_first_holds_back_the_creation() {
    let mut node = Node::with_peers();
    let out = node.hear([tables([deletion("a", "k", 8), entry("a", "k", 7, "v")])]);
    assert_eq!(entries(&out), [""; 0]);
}

#[test]
fn nobody_changes_the_entry_of_another() {
    let mut node = Node::with_peers();
    node.hear([joined("b", 5), tables([entry("a", "k", 1, "v")])]);
    assert_eq!(entries(&node.hear([tables([deletion("b", "k", 9)])])), [""; 0]);
    assert_eq!(entries(&node.hear([tables([entry("b", "k", 10, "w")])])), ["+b:k=w"], "beside a's");
    assert_eq!(node.core.entries().count(), 2);
}

#[test]
fn entries_of_a_dead_member_hide_and_return() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 1, "v")])]);
    let dead = Message::Dead(Verdict { incarnation: 1, node: "a".into(), from: "b".into() });
    assert_eq!(entries(&node.hear([dead])), ["-a:k=v"]);
    assert_eq!(entries(&node.hear([tables([entry("a", "l", 2, "w")])])), [""; 0], "hidden too");
    assert_eq!(entries(&node.hear([Message::Alive(alive("a", 2, 2))])), ["+a:k=v", "+a:l=w"]);
}

#[test]
fn entries_of_a_member_that_left_end() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 1, "v")])]);
    let out = node.hear([Message::Node(NodeEvent { leave: true, time: 9, node: "a".into() })]);
    assert_eq!(entries(&out), ["-a:k=v"]);
    assert!(events(&out).contains(&Event::MemberDown { name: "a".into(), address: address(2), left: true }));
    let goodbye = Message::Dead(Verdict { incarnation: 1, node: "a".into(), from: "a".into() });
    assert_eq!(events(&node.hear([goodbye])), [], "already told");
}

#[test]
fn entries_end_when_their_owner_leaves_the_network() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 1, "v")])]);
    let left = NetworkEvent { leave: true, time: 9, node: "a".into(), network: NETWORK.into() };
    assert_eq!(entries(&node.hear([Message::Network(left)])), ["-a:k=v"]);
    assert_eq!(entries(&node.hear([tables([entry("a", "k", 2, "v")])])), [""; 0]);
}

#[test]
fn entries_are_told_only_of_owners_that_the_managers_know() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 1, "v")])]);
    let none = BTreeSet::new();
    let out = node.call(|core, now, out| core.allow_owners(now, Some(none), out));
    assert_eq!(entries(&out), ["-a:k=v"]);
    let all = BTreeSet::from([address(2).ip()]);
    let out = node.call(|core, now, out| core.allow_owners(now, Some(all), out));
    assert_eq!(entries(&out), ["+a:k=v"]);
}

#[test]
fn stale_words_about_an_own_entry_are_contradicted() {
    let mut node = Node::with_peers();
    let me = node.core.name().clone();
    node.call(|core, now, out| core.put_entry(now, NETWORK, TABLE, "mine", b"true", out).unwrap());
    node.hear([tables([entry(&me, "mine", 50, "stale"), entry(&me, "gone", 60, "stale")])]);
    let sent = messages(&node.pass(at(1)));
    let said = |wanted: TableChange, key: &str, time: u64| {
        sent.iter().any(|(_, m)| match m.as_ref() {
            Message::Tables(events) => {
                events.iter().any(|e| e.change == wanted && *e.key == *key && e.time > time && e.owner == me)
            }
            _ => false,
        })
    };
    assert!(said(TableChange::Create, "mine", 50), "{sent:?}");
    assert!(said(TableChange::Delete, "gone", 60), "{sent:?}");
}

#[test]
fn own_entries_are_gossiped_to_peers_of_the_network_only() {
    let mut node = Node::with_peers();
    node.pass(at(1));
    node.call(|core, now, out| core.put_entry(now, NETWORK, TABLE, "k", b"v", out).unwrap());
    let sent = messages(&node.pass(at(3)));
    let receivers: BTreeSet<_> =
        sent.iter().filter(|(_, m)| matches!(m.as_ref(), Message::Tables(_))).map(|(to, _)| *to).collect();
    assert_eq!(receivers, BTreeSet::from([address(2)]));
}

#[test]
fn a_new_peer_is_greeted_with_all_it_needs() {
    let mut node = Node::with_peers();
    node.call(|core, now, out| core.put_entry(now, NETWORK, TABLE, "k", b"v", out).unwrap());
    let sent = messages(&node.hear([joined("b", 5)]));
    let kinds: Vec<_> =
        sent.iter().map(|(to, message)| (*to, std::mem::discriminant(message.as_ref()))).collect();
    let wanted = [Message::Alive(alive("x", 1, 1)), joined("x", 1), tables([])];
    assert_eq!(kinds, wanted.map(|message| (address(3), std::mem::discriminant(&message))));
}

#[test]
fn commands_about_what_is_not_there_are_refused() {
    let mut node = Node::with_peers();
    let mut out = Vec::new();
    let refused = node.core.put_entry(node.now, "elsewhere", TABLE, "k", b"v", &mut out);
    assert_eq!(refused, Err(GossipError::NotOnNetwork("elsewhere".into())));
    let refused = node.core.delete_entry(node.now, NETWORK, TABLE, "k", &mut out);
    assert!(matches!(refused, Err(GossipError::NoSuchEntry { .. })), "{refused:?}");
    let refused = node.core.put_entry(node.now, NETWORK, TABLE, "k", &[0; 1400], &mut out);
    assert!(matches!(refused, Err(GossipError::EntryTooLarge { .. })), "{refused:?}");
    assert_eq!(node.core.leave_network(node.now, "x", &mut out), Err(GossipError::NotOnNetwork("x".into())));
    assert_eq!(out, []);
}

fn bulk_sync(unsolicited: bool, time: u64) -> StreamBody {
    StreamBody::BulkSync(BulkSync {
        time,
        unsolicited,
        node: "a".into(),
        networks: vec![NETWORK.into(), "elsewhere".into()],
        attachments: Arc::from([]),
        events: Arc::from([Arc::new(entry("a", "k", 3, "v"))]),
    })
}

#[test]
fn an_exchange_of_tables_is_answered_later_on_a_stream_of_its_own() {
    let mut node = Node::with_peers();
    let out = node.stream(&bulk_sync(true, 100));
    assert_eq!(entries(&out), ["+a:k=v"]);
    let Some(Effect::Request { to, content: StreamBody::BulkSync(answer), expects_answer: false, .. }) =
        out.last()
    else {
        panic!("{out:?}")
    };
    assert_eq!(*to, address(2));
    assert!(!answer.unsolicited && answer.time > 100, "{answer:?}");
    assert_eq!(answer.networks, [Text::from(NETWORK)]);
    assert!(answer.events.iter().any(|event| *event.owner == *"a"), "learned entries too");
}

#[test]
fn an_answer_is_not_answered() {
    let mut node = Node::with_peers();
    let out = node.stream(&bulk_sync(false, 100));
    assert!(!out.iter().any(|effect| matches!(effect, Effect::Request { .. })), "{out:?}");
}

#[test]
fn joining_a_network_asks_its_peers_for_their_tables() {
    let mut node = Node::new();
    node.call(|core, now, out| core.join_cluster(now, &[], out));
    node.hear([Message::Alive(alive("a", 2, 1)), joined("a", 1)]);
    let out = node.call(|core, now, out| core.join_network(now, NETWORK, out).unwrap());
    let [Effect::Request { to, content: StreamBody::BulkSync(sync), expects_answer: false, .. }] = &out[..]
    else {
        panic!("{out:?}")
    };
    assert!(sync.unsolicited);
    assert_eq!((*to, &sync.networks[..]), (address(2), &[Text::from(NETWORK)][..]));
    let out = node.stream(&bulk_sync(false, 100));
    assert!(events(&out).contains(&Event::NetworkSynced { network: NETWORK.into() }), "{out:?}");
}

#[test]
fn a_network_counts_as_synced_at_the_latest_after_the_wait() {
    let mut node = Node::new();
    node.call(|core, now, out| core.join_cluster(now, &[], out));
    node.hear([Message::Alive(alive("a", 2, 1)), joined("a", 1)]);
    node.call(|core, now, out| core.join_network(now, NETWORK, out).unwrap());
    let out = node.pass(at(31));
    assert!(events(&out).contains(&Event::NetworkSynced { network: NETWORK.into() }));
}

#[test]
fn join_asks_all_addresses_but_the_own_and_tries_again() {
    let mut node = Node::new();
    let out = node.call(|core, now, out| core.join_cluster(now, &[address(1), address(2), address(3)], out));
    let asked: Vec<_> = out
        .iter()
        .map(|effect| match effect {
            Effect::Request {
                to,
                content: StreamBody::PushPull(PushPull { join: true, members, .. }),
                ..
            } => {
                assert!(members.iter().any(|m| m.alive.address == address(1)), "holds the sender");
                *to
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [address(2), address(3)]);
    for effect in out {
        let Effect::Request { id, .. } = effect else { continue };
        node.call(|core, now, out| core.on_answer(now, id, Err(RequestFailure::Connect), out));
    }
    let later = node.pass(at(1));
    assert_eq!(later.iter().filter(|effect| matches!(effect, Effect::Request { .. })).count(), 2);
    assert!(events(&later).contains(&Event::JoinFailed { tried: 2 }));
}

#[test]
fn a_push_pull_is_answered_and_merged() {
    let mut node = Node::new();
    let member = |name: &str, last, state| MemberState { state, alive: alive(name, last, 1) };
    let members = vec![
        member("a", 2, NodeStateKind::Alive),
        member("b", 3, NodeStateKind::Dead),
        member("c", 4, NodeStateKind::Left),
    ];
    let out = node.stream(&StreamBody::PushPull(PushPull { join: true, members, networks: None }));
    let Some(Effect::Answer { content: StreamBody::PushPull(answer), .. }) = out.first() else {
        panic!("{out:?}")
    };
    assert_eq!(answer.members.len(), 1, "itself, before the merge");
    assert_eq!(events(&out)[0], Event::MemberUp { name: "a".into(), address: address(2) });
    assert_eq!(node.core.cluster_size(), 2, "the dead are not news to who never knew them");
}

#[test]
fn whoever_suspects_a_buried_member_is_told_once() {
    let mut node = Node::with_peers();
    node.hear([Message::Dead(Verdict { incarnation: 1, node: "a".into(), from: "b".into() })]);
    let suspect = || Message::Suspect(Verdict { incarnation: 1, node: "a".into(), from: "b".into() });
    let me = node.core.name().clone();
    let seconded = Message::Suspect(Verdict { incarnation: 1, node: "a".into(), from: me });
    assert_eq!(messages(&node.hear([suspect()])), [(address(3), Arc::new(seconded))]);
    assert_eq!(node.hear([suspect()]), []);
}

#[test]
fn a_new_name_on_an_address_replaces_the_old_once_it_answers() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 1, "v")])]);
    let out = node.hear([Message::Alive(alive("a2", 2, 1))]);
    let pings: Vec<_> = messages(&out)
        .into_iter()
        .filter_map(|(_, message)| match message.as_ref() {
            Message::Ping(ping) => Some(ping.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(pings.len(), 2, "asks for both names");
    let new = pings.iter().find(|ping| ping.node.as_deref() == Some("a2")).unwrap();
    let out = node.hear([Message::Ack(new.sequence)]);
    assert_eq!(entries(&out), ["-a:k=v"]);
    assert!(events(&out).contains(&Event::MemberDown { name: "a".into(), address: address(2), left: true }));
}

#[test]
fn leaving_tells_networkdb_then_membership_then_is_silent() {
    let mut node = Node::with_peers();
    let me = node.core.name().clone();
    node.call(|core, now, out| core.leave(now, out));
    let out = node.pass(at(8));
    let sent = messages(&out);
    let place = |wanted: &dyn Fn(&Message) -> bool| sent.iter().position(|(_, m)| wanted(m));
    let leave = place(&|m| matches!(m, Message::Node(event) if event.leave && event.node == me));
    let goodbye = place(&|m| matches!(m, Message::Dead(v) if v.node == me && v.from == me));
    assert!(leave.is_some() && leave < goodbye, "{sent:?}");
    assert_eq!(events(&out).last(), Some(&Event::Left));
    let ping = Ping { sequence: 5, node: None, source: None, source_node: None };
    assert_eq!(node.hear([Message::Ping(ping)]), []);
    assert_eq!(node.pass(at(100)), []);
}

#[test]
fn a_restored_node_is_the_same_and_knows_what_it_knew() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 1, "v")])]);
    node.call(|core, now, out| core.put_entry(now, NETWORK, TABLE, "mine", b"w", out).unwrap());
    let saved = node.core.snapshot(node.now);
    let before = node.core.clocks();

    let mut out = Vec::new();
    let config = Config::docker(address(1));
    let restored = Core::restore(at(5), config, &saved, rng(), &mut out).unwrap();
    assert_eq!(restored.name(), node.core.name());
    assert_eq!(entries(&out), ["+a:k=v"]);
    assert!(restored.clocks().0 > before.0 && restored.clocks().1 > before.1);
    assert_eq!(restored.own_entries(NETWORK).count(), 1);
    let asks = |e: &CoreEffect| matches!(e, Effect::Request { content: StreamBody::PushPull(_), .. });
    assert!(out.iter().any(asks), "rejoins by itself");

    let elsewhere = Config::docker(address(50));
    let refused = Core::restore(at(5), elsewhere, &saved, rng(), &mut out).err();
    assert_eq!(refused, Some(GossipError::AddressChanged { saved: address(1), now: address(50) }));
}

#[test]
fn deleted_entries_are_forgotten_in_time() {
    let mut node = Node::with_peers();
    node.hear([tables([entry("a", "k", 1, "v"), deletion("a", "k", 2)])]);
    let remembered = |core: &Core, now| core.snapshot(now).networks[0].entries.len();
    assert_eq!(remembered(&node.core, node.now), 1);
    node.pass(at(1810));
    assert_eq!(remembered(&node.core, node.now), 0);
}

#[test]
fn a_doubted_member_is_probed_at_once_and_gone_sooner() {
    let ip = address(3).ip();
    let mut node = Node::with_peers();
    assert_eq!((node.core.word_on(ip), node.core.word_on(address(77).ip())), (Word::Alive, Word::Unknown));
    let begun = node.now;
    node.call(|core, now, out| core.hurry_probe(now, ip, out));
    // Doubting it again and again holds up nobody else's turn.
    let sent = node.pass(begun);
    let pinged = |sent: &[CoreEffect], to: SocketAddr| {
        messages(sent).iter().any(|(at, message)| *at == to && matches!(**message, Message::Ping(_)))
    };
    assert!(pinged(&sent, address(3)) && !pinged(&sent, address(2)), "{sent:?}");
    let mut sent = node.pass(begun + Duration::from_millis(1100));
    node.call(|core, now, out| core.hurry_probe(now, ip, out));
    assert_eq!(node.core.word_on(ip), Word::Alive, "suspected only");
    sent.extend(node.pass(begun + Duration::from_millis(5100)));
    assert_eq!(node.core.word_on(ip), Word::Gone);
    assert!(pinged(&sent, address(2)));
    // It comes back under another name.
    node.hear([Message::Alive(alive("b2", 3, 1))]);
    assert_eq!(node.core.word_on(ip), Word::Alive);
}
