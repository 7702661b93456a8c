//! A cluster in virtual time.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rand::rngs::{SmallRng, StdRng};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngCore, SeedableRng as _};
use weft_gossip::message::{Packet, StreamBody};
use weft_gossip::{
    Codec, Config, Core, CoreEffect, Effect, Event, GossipKey, RequestFailure, RequestId, Snapshot, StreamId,
    Tick, Timer,
};

use crate::checker::{Believed, Sum, Written};
use crate::faults::Faults;
use crate::schedule::Schedule;
use crate::{Counts, Failure, Outcome, Plan, bound};

const PORT: u16 = 7946;
const TABLES: [&str; 2] = ["endpoint_table", "overlay_peer_table"];
/// Hosts whose addresses every node knows.
const MANAGERS: usize = 3;
/// How often the end is looked for, in milliseconds.
const LOOK: u64 = 500;
/// Once all is right it must stay right for this long.
const STAY: u64 = 3_000;

/// What happens.
enum Happening {
    Packet {
        to: usize,
        from: SocketAddr,
        packet: Packet,
    },
    Bytes {
        to: usize,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Timer {
        host: usize,
        life: u32,
        timer: Timer,
    },
    Stream {
        to: usize,
        from: usize,
        life: u32,
        id: RequestId,
        body: Box<StreamBody>,
        wants_answer: bool,
        timeout: u64,
    },
    Answer {
        host: usize,
        life: u32,
        id: RequestId,
        answer: Result<Option<Box<StreamBody>>, RequestFailure>,
    },
    Act(Act),
}

/// What the outside does.
#[derive(Debug, Clone)]
enum Act {
    Start(usize),
    Restart(usize),
    Crash,
    Leave,
    Cut,
    Heal,
    Weather,
    Change,
    Move,
}

/// One host: a node that runs, or what is left of it.
struct Host {
    core: Option<Core>,
    /// Counts starts: what was meant for an earlier life is dropped.
    life: u32,
    believed: Believed,
    clocks: (u64, u64),
    saved: Option<Snapshot>,
    streams: u64,
    leaving: bool,
}

/// A run in progress.
struct World<'a> {
    plan: Plan,
    rng: SmallRng,
    schedule: Schedule<Happening>,
    faults: Faults,
    hosts: Vec<Host>,
    written: Written,
    names: usize,
    counts: Counts,
    storm_end: u64,
    codec: Option<(Codec, StdRng)>,
    effects: Vec<CoreEffect>,
    trace: Option<&'a mut dyn Write>,
}

/// Runs `plan` to its end.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    World::new(plan.clone(), None).run()
}

/// As [`run`], with every event written to `trace`.
pub fn run_traced(plan: &Plan, trace: &mut dyn Write) -> Result<Outcome, Failure> {
    World::new(plan.clone(), Some(trace)).run()
}

fn address(host: usize) -> SocketAddr {
    let [_, a, b, c] = (host as u32 + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), PORT)
}

fn host_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) => {
            (u32::from_be_bytes(ip.octets()) & 0x00ff_ffff).checked_sub(1).map(|host| host as usize)
        }
        IpAddr::V6(_) => None,
    }
}

fn network(index: usize) -> String {
    format!("network{index:018}")
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn tick(ms: u64) -> Tick {
    Tick::after(Duration::from_millis(ms))
}

/// Rounded up, so that no timer fires early.
fn due(at: Tick) -> u64 {
    at.since_start().as_micros().div_ceil(1000) as u64
}

fn test_codec(seed: u64) -> (Codec, StdRng) {
    let keys = (1..=3).map(|time| GossipKey { lamport_time: time, key: vec![time as u8; 16] });
    (Codec::new(keys).expect("three keys of the right length"), StdRng::seed_from_u64(seed))
}

impl<'a> World<'a> {
    fn new(plan: Plan, trace: Option<&'a mut dyn Write>) -> Self {
        let host = || Host {
            core: None,
            life: 0,
            believed: Believed::default(),
            clocks: (0, 0),
            saved: None,
            streams: 0,
            leaving: false,
        };
        let storm_end = millis(2 * plan.start + plan.storm);
        let mut world = Self {
            rng: SmallRng::seed_from_u64(plan.seed),
            schedule: Schedule::new(),
            faults: Faults::none(plan.nodes),
            hosts: std::iter::repeat_with(host).take(plan.nodes).collect(),
            written: Written::default(),
            names: 0,
            counts: Counts::default(),
            storm_end,
            codec: plan.encode.then(|| test_codec(plan.seed)),
            effects: Vec::new(),
            trace,
            plan,
        };
        world.prepare();
        world
    }

    /// Chooses what the outside will do.
    fn prepare(&mut self) {
        let start = millis(self.plan.start);
        for host in 0..self.plan.nodes {
            let at = if host < MANAGERS { 0 } else { self.rng.random_range(0..start) };
            self.schedule.add(at, Happening::Act(Act::Start(host)));
        }
        let nodes = self.plan.nodes;
        let crashes = self.rng.random_range(1..=(nodes / 8).max(1));
        let leaves = self.rng.random_range(0..=(nodes / 20).max(1));
        let cuts = self.rng.random_range(1..=3);
        let mut acts = Vec::new();
        acts.extend(std::iter::repeat_n(Act::Crash, crashes));
        acts.extend(std::iter::repeat_n(Act::Leave, leaves));
        acts.extend(std::iter::repeat_n(Act::Cut, cuts));
        acts.extend(std::iter::repeat_n(Act::Change, nodes * 2));
        acts.extend(std::iter::repeat_n(Act::Move, nodes / 5));
        acts.extend(std::iter::repeat_n(Act::Weather, 4));
        for act in acts {
            let at = self.rng.random_range(2 * start..self.storm_end);
            self.schedule.add(at, Happening::Act(act));
        }
        self.schedule.add(2 * start, Happening::Act(Act::Weather));
    }

    fn run(mut self) -> Result<Outcome, Failure> {
        self.run_until(self.storm_end)?;
        self.calm()?;
        let limit = self.storm_end + millis(bound(self.plan.nodes));
        let mut look = self.storm_end;
        loop {
            if self.difference().is_none() {
                let settled = look;
                if self.stays_right(settled)? {
                    return self.outcome(settled);
                }
                look = self.schedule.now();
            }
            if look >= limit {
                let what = self.difference().unwrap_or_else(|| "tables do not stay right".to_owned());
                return Err(self.failure(format!("not settled within {:?}: {what}", bound(self.plan.nodes))));
            }
            if let Some(what) = self.difference() {
                self.note(|| what);
            }
            look += LOOK;
            self.run_until(look)?;
        }
    }

    fn stays_right(&mut self, settled: u64) -> Result<bool, Failure> {
        for step in 1..=STAY / LOOK {
            self.run_until(settled + step * LOOK)?;
            if self.difference().is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn outcome(self, settled: u64) -> Result<Outcome, Failure> {
        if self.counts.dropped == 0 || self.counts.cuts == 0 || self.counts.crashes == 0 {
            return Err(self.failure("the faults did not hit".to_owned()));
        }
        let entries = (0..self.plan.networks()).map(|index| self.sum_of(&network(index)).entries).sum();
        Ok(Outcome {
            counts: self.counts,
            settled: Duration::from_millis(settled - self.storm_end),
            nodes: self.up().count(),
            entries,
        })
    }

    fn failure(&self, what: String) -> Failure {
        Failure { seed: self.plan.seed, at_ms: self.schedule.now(), what }
    }

    /// Ends all faults; whoever shall come back does so now.
    fn calm(&mut self) -> Result<(), Failure> {
        self.faults = Faults::none(self.plan.nodes);
        self.note(|| "calm".to_owned());
        Ok(())
    }

    fn up(&self) -> impl Iterator<Item = (usize, &Core)> {
        self.hosts.iter().enumerate().filter_map(|(at, host)| Some((at, host.core.as_ref()?)))
    }

    /// What all nodes have on `network`.
    fn sum_of(&self, network: &str) -> Sum {
        let mut sum = Sum::default();
        for (_, core) in self.up() {
            sum.join(own_sum(core, network));
        }
        sum
    }

    /// The first node that does not know what is true.
    fn difference(&self) -> Option<String> {
        if let Some(leaving) = self.hosts.iter().position(|host| host.core.is_some() && host.leaving) {
            return Some(format!("host {leaving} is still leaving"));
        }
        let networks: Vec<(String, Sum)> = (0..self.plan.networks())
            .map(|index| {
                let name = network(index);
                let sum = self.sum_of(&name);
                (name, sum)
            })
            .collect();
        let size = self.up().count();
        for (at, core) in self.up() {
            if core.cluster_size() != size {
                return Some(format!("host {at} counts {} members of {size}", core.cluster_size()));
            }
            let mut expected = Sum::default();
            for joined in core.joined_networks() {
                let all = networks.iter().find(|(name, _)| **name == *joined).map(|(_, sum)| *sum);
                expected.join(all.unwrap_or_default().without(own_sum(core, &joined)));
            }
            let (entries, digest) = self.hosts[at].believed.digest();
            if (entries, digest) != (expected.entries, expected.digest) {
                return Some(format!("host {at} knows {entries} entries, {} are true", expected.entries));
            }
        }
        None
    }

    fn run_until(&mut self, end: u64) -> Result<(), Failure> {
        while let Some(happening) = self.schedule.next_before(end) {
            self.happen(happening)?;
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Failure> {
        let now = tick(self.schedule.now());
        match happening {
            Happening::Packet { to, from, packet } => {
                self.input(to, |core, out| core.on_packet(now, from, &packet, out))
            }
            Happening::Bytes { to, from, bytes } => self.on_bytes(now, to, from, &bytes),
            Happening::Timer { host, life, timer } if self.hosts[host].life == life => {
                self.input(host, |core, out| core.on_timer(now, timer, out))
            }
            Happening::Stream { to, from, life, id, body, wants_answer, timeout } => {
                self.on_stream(now, to, from, life, id, &body, wants_answer, timeout)
            }
            Happening::Answer { host, life, id, answer } if self.hosts[host].life == life => {
                if answer.is_err() {
                    self.counts.streams_failed += 1;
                }
                let answer = answer.as_ref().map(Option::as_deref).map_err(|failure| *failure);
                self.input(host, |core, out| core.on_answer(now, id, answer, out))
            }
            Happening::Act(act) => self.act(act),
            Happening::Timer { .. } | Happening::Answer { .. } => Ok(()),
        }
    }

    fn on_bytes(&mut self, now: Tick, to: usize, from: SocketAddr, bytes: &[u8]) -> Result<(), Failure> {
        let Some((codec, _)) = &self.codec else { return Ok(()) };
        match codec.open_datagram(bytes) {
            Ok(packet) => self.input(to, |core, out| core.on_packet(now, from, &packet, out)),
            Err(error) => Err(self.failure(format!("own datagram refused: {error}"))),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one happening")]
    fn on_stream(
        &mut self,
        now: Tick,
        to: usize,
        from: usize,
        life: u32,
        id: RequestId,
        body: &StreamBody,
        wants_answer: bool,
        timeout: u64,
    ) -> Result<(), Failure> {
        let mut answer = Err(RequestFailure::Connect);
        if self.hosts[to].core.is_some() {
            let stream = StreamId(self.hosts[to].streams);
            self.hosts[to].streams += 1;
            let content = self.input_stream(to, stream, |core, out| {
                core.on_stream(now, stream, address(from), body, out);
            })?;
            answer = match content {
                Some(content) if wants_answer => Ok(Some(Box::new(self.recode_stream(content)?))),
                None if wants_answer => Err(RequestFailure::Broken),
                _ => Ok(None),
            };
        }
        let delay = self.faults.delay(&mut self.rng);
        let (delay, answer) = if self.faults.blocks(to, from) {
            (timeout, Err(RequestFailure::TimedOut))
        } else {
            (delay, answer)
        };
        self.schedule.add(self.schedule.now() + delay, Happening::Answer { host: from, life, id, answer });
        Ok(())
    }

    /// Gives a node an input and does what it asks.
    fn input(
        &mut self,
        host: usize,
        call: impl FnOnce(&mut Core, &mut Vec<CoreEffect>),
    ) -> Result<(), Failure> {
        self.input_stream(host, StreamId(u64::MAX), call).map(|_| ())
    }

    /// As `input`; returns what the node answers on `stream`.
    fn input_stream(
        &mut self,
        host: usize,
        stream: StreamId,
        call: impl FnOnce(&mut Core, &mut Vec<CoreEffect>),
    ) -> Result<Option<StreamBody>, Failure> {
        let mut effects = std::mem::take(&mut self.effects);
        let Some(core) = &mut self.hosts[host].core else {
            self.effects = effects;
            return Ok(None);
        };
        self.counts.events += 1;
        call(core, &mut effects);
        self.check_node(host)?;
        let mut answer = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer { stream: on, content } if on == stream => answer = Some(content),
                other => self.perform(host, other)?,
            }
        }
        self.effects = effects;
        Ok(answer)
    }

    fn check_node(&mut self, host: usize) -> Result<(), Failure> {
        let most = 2 * self.names * (1 + self.plan.networks()) + 2 * self.written.entries() + 64;
        let Some(core) = &self.hosts[host].core else { return Ok(()) };
        let (clocks, before, queued) = (core.clocks(), self.hosts[host].clocks, core.queued_news());
        if clocks.0 < before.0 || clocks.1 < before.1 {
            return Err(self.failure(format!("clocks of host {host} went from {before:?} to {clocks:?}")));
        }
        if queued > most {
            return Err(
                self.failure(format!("host {host} has {queued} pieces of news queued, more than {most}"))
            );
        }
        self.hosts[host].clocks = clocks;
        Ok(())
    }

    fn perform(&mut self, host: usize, effect: CoreEffect) -> Result<(), Failure> {
        if self.trace.is_some() {
            let line = format!("host {host}: {effect:?}");
            self.note(|| line);
        }
        match effect {
            Effect::SendUdp { to, datagram } => self.send(host, to, datagram),
            Effect::Request { id, to, content, expects_answer, timeout } => {
                self.open_stream(host, id, to, content, expects_answer, millis(timeout))
            }
            Effect::Answer { .. } => Err(self.failure("answer on a stream that is not open".to_owned())),
            Effect::Arm { timer, at } => {
                let life = self.hosts[host].life;
                self.schedule.add(due(at), Happening::Timer { host, life, timer });
                Ok(())
            }
            Effect::Event(event) => self.tell(host, &event),
        }
    }

    fn tell(&mut self, host: usize, event: &Event) -> Result<(), Failure> {
        if matches!(event, Event::Left) {
            self.stop(host);
            return Ok(());
        }
        let heard = self.hosts[host].believed.hear(event, &self.written);
        heard.map_err(|what| self.failure(format!("host {host} {what}")))
    }

    fn send(&mut self, from: usize, to: SocketAddr, packet: Packet) -> Result<(), Failure> {
        self.counts.datagrams += 1;
        let Some(target) = host_at(to).filter(|target| *target < self.hosts.len()) else {
            return Err(self.failure(format!("host {from} sends to {to}, which nobody has")));
        };
        if self.faults.blocks(from, target) || self.rng.random_bool(self.faults.loss) {
            self.counts.dropped += 1;
            return Ok(());
        }
        let packet = match self.encode(&packet)? {
            Some(bytes) => {
                let at = self.schedule.now() + self.faults.delay(&mut self.rng);
                self.schedule.add(at, Happening::Bytes { to: target, from: address(from), bytes });
                return Ok(());
            }
            None => packet,
        };
        if self.rng.random_bool(self.faults.duplication) {
            self.counts.duplicated += 1;
            let at = self.schedule.now() + self.faults.delay(&mut self.rng);
            let packet = packet.clone();
            self.schedule.add(at, Happening::Packet { to: target, from: address(from), packet });
        }
        let at = self.schedule.now() + self.faults.delay(&mut self.rng);
        self.schedule.add(at, Happening::Packet { to: target, from: address(from), packet });
        Ok(())
    }

    /// The datagram's bytes, in runs that go through the codec.
    fn encode(&mut self, packet: &Packet) -> Result<Option<Vec<u8>>, Failure> {
        let Some((codec, nonces)) = &mut self.codec else { return Ok(None) };
        match codec.seal_datagram(packet, nonces) {
            Ok(bytes) if bytes.len() > Config::docker(address(0)).packet_limit => {
                Err(self.failure(format!("datagram of {} bytes: {packet:?}", bytes.len())))
            }
            Ok(bytes) => {
                self.counts.largest_datagram = self.counts.largest_datagram.max(bytes.len());
                Ok(Some(bytes))
            }
            Err(error) => Err(self.failure(format!("cannot encode {packet:?}: {error}"))),
        }
    }

    /// Sends a stream's content through the codec, in runs that use it.
    fn recode_stream(&mut self, body: StreamBody) -> Result<StreamBody, Failure> {
        let Some((codec, nonces)) = &mut self.codec else { return Ok(body) };
        let recoded = codec.seal_stream(&body, nonces).and_then(|bytes| codec.open_stream(&bytes));
        match recoded {
            Ok(recoded) if recoded == body => Ok(recoded),
            Ok(recoded) => Err(self.failure(format!("codec changed {body:?} to {recoded:?}"))),
            Err(error) => Err(self.failure(format!("cannot encode {body:?}: {error}"))),
        }
    }

    fn open_stream(
        &mut self,
        from: usize,
        id: RequestId,
        to: SocketAddr,
        body: StreamBody,
        wants_answer: bool,
        timeout: u64,
    ) -> Result<(), Failure> {
        self.counts.streams += 1;
        let life = self.hosts[from].life;
        let body = Box::new(self.recode_stream(body)?);
        let delay = self.faults.delay(&mut self.rng);
        let failure =
            |delay, failure| (delay, Happening::Answer { host: from, life, id, answer: Err(failure) });
        let target = host_at(to).filter(|target| *target < self.hosts.len());
        let (delay, happening) = match target {
            None => failure(delay, RequestFailure::Connect),
            Some(to) if self.faults.blocks(from, to) || self.faults.blocks(to, from) => {
                failure(timeout, RequestFailure::TimedOut)
            }
            Some(_) if self.rng.random_bool(self.faults.stream_loss) => {
                failure(delay, RequestFailure::Broken)
            }
            Some(to) => (delay, Happening::Stream { to, from, life, id, body, wants_answer, timeout }),
        };
        self.schedule.add(self.schedule.now() + delay, happening);
        Ok(())
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            // A trace that cannot be written is shorter, not a failure of the run.
            let _ = writeln!(trace, "{:>7} {}", self.schedule.now(), line());
        }
    }

    fn act(&mut self, act: Act) -> Result<(), Failure> {
        self.note(|| format!("act: {act:?}"));
        match act {
            Act::Start(host) | Act::Restart(host) if self.hosts[host].core.is_none() => self.start(host),
            Act::Start(_) | Act::Restart(_) => Ok(()),
            Act::Crash => self.crash(),
            Act::Leave => match self.random_host() {
                Some(host) => {
                    self.counts.leaves += 1;
                    self.hosts[host].leaving = true;
                    let now = tick(self.schedule.now());
                    self.input(host, |core, out| core.leave(now, out))
                }
                None => Ok(()),
            },
            Act::Cut => {
                self.counts.cuts += 1;
                let one_way = self.rng.random_bool(0.3);
                self.faults.cut(&mut self.rng, one_way);
                let after = self.rng.random_range(2_000..40_000);
                self.add_before_storm_end(after, Act::Heal);
                Ok(())
            }
            Act::Heal => {
                self.faults.heal();
                Ok(())
            }
            Act::Weather => {
                self.faults.loss = self.rng.random_range(0.0..0.2);
                self.faults.duplication = self.rng.random_range(0.0..0.1);
                self.faults.delay = self.rng.random_range(3..300);
                self.faults.stream_loss = self.rng.random_range(0.0..0.1);
                Ok(())
            }
            Act::Change => match self.random_host() {
                Some(host) => self.change(host),
                None => Ok(()),
            },
            Act::Move => match self.random_host() {
                Some(host) => self.change_networks(host),
                None => Ok(()),
            },
        }
    }

    fn add_before_storm_end(&mut self, after: u64, act: Act) {
        let at = (self.schedule.now() + after).min(self.storm_end - 1);
        self.schedule.add(at, Happening::Act(act));
    }

    /// A host that runs and stays.
    fn random_host(&mut self) -> Option<usize> {
        (0..32).map(|_| self.rng.random_range(0..self.hosts.len())).find(|host| {
            let host = &self.hosts[*host];
            host.core.is_some() && !host.leaving
        })
    }

    fn start(&mut self, host: usize) -> Result<(), Failure> {
        let now = tick(self.schedule.now());
        let config = Config::docker(address(host));
        let rng: Box<dyn RngCore + Send> = Box::new(SmallRng::seed_from_u64(self.rng.random()));
        let mut effects = Vec::new();
        self.names += 1;
        self.hosts[host].life += 1;
        self.hosts[host].leaving = false;
        self.hosts[host].believed = Believed::default();
        self.hosts[host].clocks = (0, 0);
        let saved = self.hosts[host].saved.take();
        let core = match &saved {
            Some(saved) => {
                self.counts.restored += 1;
                Core::restore(now, config, saved, rng, &mut effects)
                    .map_err(|error| self.failure(format!("cannot restore host {host}: {error}")))?
            }
            None => {
                if self.hosts[host].life > 1 {
                    self.counts.renamed += 1;
                }
                Core::new(now, config, rng, &mut effects)
            }
        };
        self.note(|| format!("host {host} is {}", core.name()));
        self.hosts[host].core = Some(core);
        for effect in effects {
            self.perform(host, effect)?;
        }
        let managers: Vec<SocketAddr> = (0..MANAGERS.min(self.plan.nodes)).map(address).collect();
        self.input(host, |core, out| core.join_cluster(now, &managers, out))?;
        if saved.is_none() {
            self.first_networks(host)?;
        }
        Ok(())
    }

    fn first_networks(&mut self, host: usize) -> Result<(), Failure> {
        for _ in 0..self.rng.random_range(1..=2) {
            self.join_network(host)?;
        }
        for _ in 0..self.rng.random_range(1..=4) {
            self.change(host)?;
        }
        Ok(())
    }

    fn join_network(&mut self, host: usize) -> Result<(), Failure> {
        let now = tick(self.schedule.now());
        let name = network(self.rng.random_range(0..self.plan.networks()));
        let mut outcome = Ok(());
        self.input(host, |core, out| outcome = core.join_network(now, &name, out))?;
        outcome.map_err(|error| self.failure(format!("host {host} cannot join: {error}")))
    }

    /// Creates, changes or deletes an entry.
    fn change(&mut self, host: usize) -> Result<(), Failure> {
        let Some(core) = &self.hosts[host].core else { return Ok(()) };
        let networks = core.joined_networks();
        let Some(network) = networks.choose(&mut self.rng).cloned() else { return Ok(()) };
        let now = tick(self.schedule.now());
        self.counts.changes += 1;
        let own: Vec<(String, String)> = core
            .own_entries(&network)
            .map(|event| (event.table.to_string(), event.key.to_string()))
            .collect();
        let owner = core.name().clone();
        let mut outcome = Ok(());
        if !own.is_empty() && self.rng.random_bool(0.3) {
            let (table, key) = own[self.rng.random_range(0..own.len())].clone();
            self.input(host, |core, out| outcome = core.delete_entry(now, &network, &table, &key, out))?;
        } else {
            let table = TABLES[self.rng.random_range(0..TABLES.len())];
            let key = format!("{:056x}{:08x}", host, self.rng.random_range(0..6));
            let mut value = vec![0u8; self.rng.random_range(30..160)];
            self.rng.fill_bytes(&mut value);
            self.written.note(&owner, &network, table, &key, &value);
            self.input(host, |core, out| outcome = core.put_entry(now, &network, table, &key, &value, out))?;
        }
        outcome.map_err(|error| self.failure(format!("host {host} cannot change an entry: {error}")))
    }

    /// Leaves a network, or joins one.
    fn change_networks(&mut self, host: usize) -> Result<(), Failure> {
        let Some(core) = &self.hosts[host].core else { return Ok(()) };
        let networks = core.joined_networks();
        if networks.len() < 2 || self.rng.random_bool(0.5) && networks.len() < 3 {
            self.join_network(host)?;
            return self.change(host);
        }
        let Some(name) = networks.choose(&mut self.rng).cloned() else { return Ok(()) };
        let now = tick(self.schedule.now());
        let mut outcome = Ok(());
        self.input(host, |core, out| outcome = core.leave_network(now, &name, out))?;
        outcome.map_err(|error| self.failure(format!("host {host} cannot leave {name}: {error}")))
    }

    fn crash(&mut self) -> Result<(), Failure> {
        let Some(host) = self.random_host() else { return Ok(()) };
        self.counts.crashes += 1;
        let now = tick(self.schedule.now());
        let saved = match &self.hosts[host].core {
            Some(core) if self.rng.random_bool(0.5) => Some(core.snapshot(now)),
            _ => None,
        };
        self.note(|| format!("host {host} crashes"));
        self.stop(host);
        self.hosts[host].saved = saved;
        let returns = host < MANAGERS || self.rng.random_bool(0.7);
        if returns {
            let after = self.rng.random_range(100..20_000);
            self.add_before_storm_end(after, Act::Restart(host));
        }
        Ok(())
    }

    fn stop(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.core = None;
        host.life += 1;
        host.saved = None;
        host.believed = Believed::default();
    }
}

fn own_sum(core: &Core, network: &str) -> Sum {
    let mut sum = Sum::default();
    for event in core.own_entries(network) {
        sum.add(&event.owner, &event.network, &event.table, &event.key, &event.value);
    }
    sum
}
