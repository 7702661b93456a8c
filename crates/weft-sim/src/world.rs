//! A cluster in virtual time.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::{SmallRng, StdRng};
use weft_gossip::message::{Packet, StreamBody};
use weft_gossip::{
    Codec, Core, CoreEffect, Effect, Event, GossipKey, RequestFailure, RequestId, Snapshot, StreamId, Tick,
    Timer,
};

use crate::acts::Act;
use crate::checker::{Believed, Sum, Written};
use crate::faults::Faults;
use crate::schedule::Schedule;
use crate::{Counts, Failure, Outcome, Plan, bound};

const PORT: u16 = 7946;
/// How often the end is looked for, in milliseconds.
const LOOK: u64 = 500;
/// Once all is right it must stay right for this long.
const STAY: u64 = 3_000;

/// What happens.
pub(crate) enum Happening {
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

/// One host: a node that runs, or what is left of it.
pub(crate) struct Host {
    pub(crate) core: Option<Core>,
    /// Counts starts: what was meant for an earlier life is dropped.
    pub(crate) life: u32,
    pub(crate) believed: Believed,
    pub(crate) clocks: (u64, u64),
    /// Its last snapshot, taken some time ago.
    pub(crate) saved: Option<Snapshot>,
    pub(crate) streams: u64,
    pub(crate) leaving: bool,
}

/// A run in progress.
pub(crate) struct World<'a> {
    pub(crate) plan: Plan,
    pub(crate) rng: SmallRng,
    pub(crate) schedule: Schedule<Happening>,
    pub(crate) faults: Faults,
    pub(crate) hosts: Vec<Host>,
    pub(crate) written: Written,
    pub(crate) names: usize,
    pub(crate) counts: Counts,
    pub(crate) storm_end: u64,
    pub(crate) codec: Option<(Codec, StdRng)>,
    pub(crate) effects: Vec<CoreEffect>,
    pub(crate) trace: Option<&'a mut dyn Write>,
}

/// Runs `plan` to its end.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    World::new(plan.clone(), None).run()
}

/// As [`run`], with every event written to `trace`.
pub fn run_traced(plan: &Plan, trace: &mut dyn Write) -> Result<Outcome, Failure> {
    World::new(plan.clone(), Some(trace)).run()
}

pub(crate) fn address(host: usize) -> SocketAddr {
    let [_, a, b, c] = (host as u32 + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), PORT)
}

pub(crate) fn host_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) => {
            (u32::from_be_bytes(ip.octets()) & 0x00ff_ffff).checked_sub(1).map(|host| host as usize)
        }
        IpAddr::V6(_) => None,
    }
}

pub(crate) fn network(index: usize) -> String {
    format!("network{index:018}")
}

pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

pub(crate) fn tick(ms: u64) -> Tick {
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

    fn run(mut self) -> Result<Outcome, Failure> {
        self.run_until(self.storm_end)?;
        self.calm();
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

    pub(crate) fn failure(&self, what: String) -> Failure {
        Failure { seed: self.plan.seed, at_ms: self.schedule.now(), what }
    }

    /// Ends all faults.
    fn calm(&mut self) {
        self.faults = Faults::none(self.plan.nodes);
        self.note(|| "calm".to_owned());
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

    /// Gives a node an input and does what it asks.
    pub(crate) fn input(
        &mut self,
        host: usize,
        call: impl FnOnce(&mut Core, &mut Vec<CoreEffect>),
    ) -> Result<(), Failure> {
        self.input_stream(host, StreamId(u64::MAX), call).map(|_| ())
    }

    /// As `input`; returns what the node answers on `stream`.
    pub(crate) fn input_stream(
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

    pub(crate) fn perform(&mut self, host: usize, effect: CoreEffect) -> Result<(), Failure> {
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

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            // A trace that cannot be written is shorter, not a failure of the run.
            let _ = writeln!(trace, "{:>7} {}", self.schedule.now(), line());
        }
    }
}

fn own_sum(core: &Core, network: &str) -> Sum {
    let mut sum = Sum::default();
    for event in core.own_entries(network) {
        sum.add(&event.owner, &event.network, &event.table, &event.key, &event.value);
    }
    sum
}
