//! The state machine on messages. Each file here is one concern of it:
//!
//! ```text
//! membership.rs  alive, suspect, dead, refutation      networks.rs   who is on which network
//! probe.rs       failure detector                      tables.rs     entries and what is told of them
//! push_pull.rs   exchange of whole membership          bulk_sync.rs  exchange of whole tables
//! cluster.rs     join, reconnect, leave                spread.rs     gossip within the packet budget
//! reap.rs        forgetting                            saved.rs      snapshot and restore
//! ```

mod bulk_sync;
mod clock;
mod cluster;
mod hasher;
mod member;
mod membership;
mod networks;
mod news_queue;
mod probe;
mod push_pull;
mod reap;
mod saved;
mod spread;
mod suspicion;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use weft_types::GossipName;
use weft_wire::memberlist::{NodeStateKind, Versions};

use self::clock::Lamport;
use self::cluster::{Phase, Search};
use self::hasher::FixedHasher;
use self::member::{MemberId, Members};
use self::networks::OwnNetwork;
use self::news_queue::NewsQueue;
use self::probe::{Probe, Relay};
use self::tables::EntryKey;
use crate::gossip::Rng;
use crate::message::{Alive, Message, Packet, StreamBody, TableEvent};
use crate::{Config, Effect, Event, RequestFailure, RequestId, StreamId, Text, Tick, Timer, TimerKind, Word};

/// An effect before encoding.
pub type CoreEffect = Effect<Packet, StreamBody>;

/// Where calls leave their effects.
type Out = Vec<CoreEffect>;

/// Probes made for others at one time; more are refused, since each holds memory.
const MOST_RELAYS: usize = 1024;

/// What news about NetworkDB is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Node(Text),
    Network(Text, Text),
}

/// Why a request was sent.
#[derive(Debug, Clone)]
enum Purpose {
    /// To find the cluster.
    Join,
    /// To compare membership.
    PushPull,
    /// To see whether a failed member is back.
    Reconnect {
        name: Text,
        /// Asked the second time in a row.
        second: bool,
    },
    /// To probe by other means; holds the probe's sequence number.
    StreamPing(u32),
    /// To exchange tables of these networks. Tried with another peer if it fails and `again` is set.
    BulkSync { peer: Text, networks: Vec<Text>, again: bool },
    /// To answer an exchange of tables.
    BulkAnswer,
}

/// Gossip of one node, without bytes: see [`crate::Gossip`] for the meaning of each call.
pub struct Core {
    config: Config,
    rng: Rng,
    name: Text,
    phase: Phase,
    members: Members,
    /// Valid generation of each timer of which one is armed at most.
    armed: BTreeMap<TimerKind, u64>,
    next_generation: u64,
    suspicions: HashMap<u64, MemberId, FixedHasher>,
    /// 0 is well; each step slows probing down.
    health: u32,
    next_sequence: u32,
    probe: Option<Probe>,
    probe_order: Vec<MemberId>,
    relays: BTreeMap<u32, Relay>,
    /// Pings outside of probes, to find out who answers at a contested address.
    checks: BTreeMap<u32, MemberId>,
    requests: HashMap<RequestId, Purpose, FixedHasher>,
    next_request: u64,
    member_news: NewsQueue<Text, Arc<Message>>,
    event_news: NewsQueue<Subject, Arc<Message>>,
    last_gossip: Option<Tick>,
    last_table_gossip: Option<Tick>,
    last_announcement: Option<Tick>,
    last_hurry: Option<Tick>,
    network_clock: Lamport,
    table_clock: Lamport,
    networks: BTreeMap<Text, OwnNetwork>,
    allowed: Option<BTreeSet<IpAddr>>,
    search: Search,
}

impl Core {
    /// A node under a new random name.
    pub fn new(now: Tick, config: Config, mut rng: Rng, out: &mut Vec<CoreEffect>) -> Self {
        let name = GossipName::random(&mut rng);
        Self::start(now, config, rng, name.as_str().into(), 1, out)
    }

    fn start(now: Tick, config: Config, rng: Rng, name: Text, incarnation: u32, out: &mut Out) -> Self {
        let me = Alive {
            incarnation,
            node: name.clone(),
            address: config.advertise,
            meta: Arc::from([]),
            versions: Versions::DOCKER,
        };
        let mut core = Self {
            config,
            rng,
            name,
            phase: Phase::Taking,
            members: Members::new(now, me),
            armed: BTreeMap::new(),
            next_generation: 0,
            suspicions: HashMap::default(),
            health: 0,
            next_sequence: 0,
            probe: None,
            probe_order: Vec::new(),
            relays: BTreeMap::new(),
            checks: BTreeMap::new(),
            requests: HashMap::default(),
            next_request: 0,
            member_news: NewsQueue::default(),
            event_news: NewsQueue::default(),
            last_gossip: None,
            last_table_gossip: None,
            last_announcement: None,
            last_hurry: None,
            network_clock: Lamport::default(),
            table_clock: Lamport::default(),
            networks: BTreeMap::new(),
            allowed: None,
            search: Search::default(),
        };
        for (kind, interval) in [
            (TimerKind::PushPull, core.config.timing.push_pull_interval),
            (TimerKind::BulkSync, core.config.timing.bulk_sync_interval),
            (TimerKind::Reap, core.config.timing.reap_interval),
        ] {
            // Nodes that start together shall not work together.
            let first = now + interval + core.part_of(interval);
            core.arm(kind, first, out);
        }
        core
    }

    /// This node's gossip name.
    pub fn name(&self) -> &Text {
        &self.name
    }

    /// The network clock and the table clock.
    pub fn clocks(&self) -> (u64, u64) {
        (self.network_clock.time(), self.table_clock.time())
    }

    /// Members that are alive or suspected, this node included.
    pub fn cluster_size(&self) -> usize {
        self.members.size()
    }

    /// Members that are alive or suspected, this node included: name, address, state and incarnation.
    pub fn members(&self) -> impl Iterator<Item = (&Text, SocketAddr, NodeStateKind, u32)> {
        let live = self.members.iter().filter(|(_, member)| member.is_live());
        live.map(|(_, m)| (&m.alive.node, m.alive.address, m.state, m.alive.incarnation))
    }

    /// What is known of the node at this address. Whoever lives there counts before those that were there.
    pub fn word_on(&self, address: IpAddr) -> Word {
        let there = self.members.iter().filter(|(_, member)| member.alive.address.ip() == address);
        there
            .map(|(_, member)| if member.is_live() { Word::Alive } else { Word::Gone })
            .max()
            .unwrap_or_default()
    }

    /// Somebody doubts that the node at `address` lives: it is probed before others.
    pub fn hurry_probe(&mut self, now: Tick, address: IpAddr, out: &mut Vec<CoreEffect>) {
        self.probe_soon(now, address, out);
        self.wake(now, out);
    }

    /// All pieces of news that wait to be sent.
    pub fn queued_news(&self) -> usize {
        let tables: usize = self.networks.values().map(OwnNetwork::queued_news).sum();
        self.member_news.len() + self.event_news.len() + tables
    }

    /// A datagram came in.
    pub fn on_packet(&mut self, now: Tick, from: SocketAddr, packet: &Packet, out: &mut Vec<CoreEffect>) {
        if self.phase == Phase::Gone {
            return;
        }
        for message in packet {
            self.on_message(now, from, message, out);
        }
        self.wake(now, out);
    }

    fn on_message(&mut self, now: Tick, from: SocketAddr, message: &Arc<Message>, out: &mut Out) {
        match message.as_ref() {
            Message::Ping(ping) => self.on_ping(from, ping, out),
            Message::IndirectPing(ping) => self.on_indirect_ping(now, from, ping, out),
            Message::Ack(sequence) => self.on_ack(now, *sequence, out),
            Message::Nack(sequence) => self.on_nack(*sequence),
            Message::Suspect(verdict) => self.on_suspect(now, verdict, out),
            Message::Alive(alive) => self.on_alive(now, alive, out),
            Message::Dead(verdict) => self.on_dead(now, verdict, out),
            Message::Node(event) => self.on_node_event(now, event, out),
            Message::Network(event) => self.on_network_event(now, event, true, out),
            Message::Tables(events) => {
                for event in events {
                    self.on_table_event(now, event, false, out);
                }
            }
        }
    }

    /// A peer opened a stream and sent `body`.
    pub fn on_stream(
        &mut self,
        now: Tick,
        stream: StreamId,
        from: SocketAddr,
        body: &StreamBody,
        out: &mut Vec<CoreEffect>,
    ) {
        if self.phase == Phase::Gone {
            return;
        }
        match body {
            StreamBody::PushPull(exchange) => {
                // The answer comes before the merge: the peer shall not hear its own words back.
                let content = StreamBody::PushPull(self.whole_membership(exchange.join));
                out.push(Effect::Answer { stream, content });
                self.merge(now, exchange, out);
                self.found_cluster(now, out);
            }
            StreamBody::BulkSync(sync) => self.on_bulk_sync(now, sync, out),
            StreamBody::User(packet) => {
                for message in packet {
                    self.on_message(now, from, message, out);
                }
            }
            StreamBody::Ping(ping) => {
                if ping.node.as_ref().is_none_or(|node| *node == self.name) {
                    out.push(Effect::Answer { stream, content: StreamBody::Ack(ping.sequence) });
                }
            }
            StreamBody::Ack(_) => {}
            StreamBody::Error(text) => tracing::warn!(%from, error = text, "peer complains"),
        }
        self.wake(now, out);
    }

    /// The outcome of a request.
    pub fn on_answer(
        &mut self,
        now: Tick,
        request: RequestId,
        answer: Result<Option<&StreamBody>, RequestFailure>,
        out: &mut Vec<CoreEffect>,
    ) {
        let Some(purpose) = self.requests.remove(&request) else { return };
        if self.phase == Phase::Gone {
            return;
        }
        match purpose {
            Purpose::Join => self.on_join_answer(now, answer, out),
            Purpose::PushPull => {
                if let Ok(Some(StreamBody::PushPull(exchange))) = answer {
                    self.merge(now, exchange, out);
                }
            }
            Purpose::Reconnect { name, second } => self.on_reconnect_answer(now, &name, second, answer, out),
            Purpose::StreamPing(sequence) => {
                if matches!(answer, Ok(Some(StreamBody::Ack(acked))) if *acked == sequence) {
                    self.on_stream_ack(sequence);
                }
            }
            Purpose::BulkSync { peer, networks, again } => {
                if answer.is_err() {
                    self.on_bulk_sync_failed(now, &peer, &networks, again, out);
                }
            }
            Purpose::BulkAnswer => {}
        }
        self.wake(now, out);
    }

    /// A timer is due.
    pub fn on_timer(&mut self, now: Tick, timer: Timer, out: &mut Vec<CoreEffect>) {
        if self.phase == Phase::Gone {
            return;
        }
        match timer.kind {
            TimerKind::Suspicion => self.on_suspicion_end(now, timer.generation, out),
            TimerKind::RelayTimeout => self.on_relay_timeout(timer.generation, out),
            TimerKind::NetworkSync => self.on_network_sync_end(timer.generation, out),
            kind => {
                if self.armed.get(&kind) != Some(&timer.generation) {
                    return;
                }
                self.armed.remove(&kind);
                self.on_single_timer(now, kind, out);
            }
        }
        self.wake(now, out);
    }

    fn on_single_timer(&mut self, now: Tick, kind: TimerKind, out: &mut Out) {
        match kind {
            TimerKind::Probe => self.on_probe_interval(now, out),
            TimerKind::ProbeTimeout => self.on_probe_timeout(now, out),
            TimerKind::Gossip => self.gossip(now, out),
            TimerKind::TableGossip => self.gossip_tables(now, out),
            TimerKind::PushPull => self.push_pull(now, out),
            TimerKind::BulkSync => self.bulk_sync(now, out),
            TimerKind::Reap => self.reap(now, out),
            TimerKind::Reconnect => self.reconnect(now, out),
            TimerKind::Join => self.look_for_cluster(now, out),
            TimerKind::Leave => self.on_leave_stage_end(now, out),
            TimerKind::Suspicion | TimerKind::RelayTimeout | TimerKind::NetworkSync => {}
        }
    }

    /// Arms what new state needs, after each input. Idle nodes have nothing to wake up for but their periods.
    fn wake(&mut self, now: Tick, out: &mut Out) {
        if self.phase == Phase::Gone {
            return;
        }
        if !self.members.live().is_empty() && !self.is_armed(TimerKind::Probe) {
            let interval = self.config.timing.probe_interval;
            let first = now + self.part_of(interval);
            self.arm(TimerKind::Probe, first, out);
        }
        self.wake_gossip(now, out);
        self.wake_table_gossip(now, out);
    }

    fn is_armed(&self, kind: TimerKind) -> bool {
        self.armed.contains_key(&kind)
    }

    fn generation(&mut self) -> u64 {
        self.next_generation += 1;
        self.next_generation
    }

    /// Arms a timer of which there is one at most, in place of the one before.
    fn arm(&mut self, kind: TimerKind, at: Tick, out: &mut Out) {
        let generation = self.generation();
        self.armed.insert(kind, generation);
        out.push(Effect::Arm { timer: Timer { kind, generation }, at });
    }

    fn part_of(&mut self, interval: Duration) -> Duration {
        let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.random_range(0..micros.max(1)))
    }

    fn sequence(&mut self) -> u32 {
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.next_sequence
    }

    fn request(
        &mut self,
        to: SocketAddr,
        content: StreamBody,
        expects_answer: bool,
        timeout: Duration,
        purpose: Purpose,
        out: &mut Out,
    ) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(id, purpose);
        out.push(Effect::Request { id, to, content, expects_answer, timeout });
    }

    fn tell(out: &mut Out, event: Event) {
        out.push(Effect::Event(event));
    }
}

/// An entry's news in a network's queues.
type TableNews = NewsQueue<(EntryKey, Text), Arc<TableEvent>>;
