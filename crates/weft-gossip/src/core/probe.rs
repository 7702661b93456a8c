//! The failure detector: one member is probed per interval, directly, then through others and by stream.
//!
//! memberlist's `state.go` with Lifeguard's health: a node that gets few answers, nacks included, doubts itself first.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::Rng as _;
use rand::seq::SliceRandom as _;
use weft_wire::memberlist::NodeStateKind;

use super::member::{MemberId, pick};
use super::{Core, MOST_RELAYS, Out, Purpose};
use crate::message::{IndirectPing, Message, Packet, Ping, StreamBody, Verdict};
use crate::{Effect, Text, Tick, Timer, TimerKind};

/// The probe of this interval.
#[derive(Debug)]
pub(super) struct Probe {
    sequence: u32,
    target: MemberId,
    /// Asked others that promised to report silence.
    nacks_wanted: u32,
    nacks: u32,
    /// Answered by stream: datagrams are lost, but the member lives.
    stream_answered: bool,
    /// When the interval is over.
    end: Tick,
}

/// A probe made for another node.
#[derive(Debug)]
pub(super) struct Relay {
    requester: SocketAddr,
    requester_sequence: u32,
    nack: bool,
}

impl Core {
    /// Puts a new member at a random place of those that are still to be probed in this round.
    pub(super) fn schedule_probe_of(&mut self, id: MemberId) {
        self.probe_order.push(id);
        let last = self.probe_order.len() - 1;
        let place = self.rng.random_range(0..=last);
        self.probe_order.swap(place, last);
    }

    pub(super) fn on_probe_interval(&mut self, now: Tick, out: &mut Out) {
        if let Some(probe) = self.probe.take() {
            self.fail_probe(now, &probe, out);
        }
        let Some(target) = self.next_target() else { return };
        let interval = self.config.timing.probe_interval * (self.health + 1);
        let end = now + interval;
        let sequence = self.sequence();
        self.probe = Some(Probe { sequence, target, nacks_wanted: 0, nacks: 0, stream_answered: false, end });
        self.send_probe(sequence, target, out);
        self.arm(TimerKind::ProbeTimeout, now + self.config.timing.probe_timeout, out);
        self.arm(TimerKind::Probe, end, out);
    }

    fn next_target(&mut self) -> Option<MemberId> {
        if self.members.live().is_empty() {
            return None;
        }
        loop {
            match self.probe_order.pop() {
                Some(id) if self.members.get(id).is_live() => return Some(id),
                Some(_) => {}
                None => {
                    self.probe_order.extend_from_slice(self.members.live());
                    self.probe_order.shuffle(&mut self.rng);
                }
            }
        }
    }

    /// Probes the member at `address` next, and at once unless another probe is under way. Whom this node suspects
    /// already it has probed: then nothing is to be hurried, and others have their turn.
    pub(super) fn probe_soon(&mut self, now: Tick, address: IpAddr, out: &mut Out) {
        let live = self.members.live().iter().copied();
        let Some(id) = { live }.find(|id| self.members.get(*id).alive.address.ip() == address) else {
            return;
        };
        let suspicion = self.members.get(id).suspicion.as_ref();
        if suspicion.is_some_and(|suspicion| suspicion.is_by(&self.name))
            || self.probe.as_ref().is_some_and(|probe| probe.target == id)
        {
            return;
        }
        self.probe_order.retain(|other| *other != id);
        self.probe_order.push(id);
        if self.probe.is_none() {
            self.arm(TimerKind::Probe, now, out);
        }
    }

    fn send_probe(&mut self, sequence: u32, target: MemberId, out: &mut Out) {
        let member = self.members.get(target);
        let (to, node, incarnation) =
            (member.alive.address, member.alive.node.clone(), member.alive.incarnation);
        let suspected = member.state == NodeStateKind::Suspect;
        let ping = Message::Ping(self.ping(sequence, node.clone()));
        if suspected {
            // The suspected member shall hear of it at once, so that it can refute.
            let suspect = Verdict { incarnation, node, from: self.name.clone() };
            let datagram: Packet = vec![Arc::new(ping), Arc::new(Message::Suspect(suspect))];
            out.push(Effect::SendUdp { to, datagram });
        } else {
            self.send_with_news(to, ping, out);
        }
    }

    fn ping(&self, sequence: u32, node: Text) -> Ping {
        Ping {
            sequence,
            node: Some(node),
            source: Some(self.config.advertise),
            source_node: Some(self.name.clone()),
        }
    }

    pub(super) fn on_probe_timeout(&mut self, now: Tick, out: &mut Out) {
        let Some(probe) = &self.probe else { return };
        let (sequence, target, end) = (probe.sequence, probe.target, probe.end);
        let member = self.members.get(target);
        let (address, node) = (member.alive.address, member.alive.node.clone());
        let helpers = self.helpers(target);
        if let Some(probe) = &mut self.probe {
            probe.nacks_wanted = helpers.len() as u32;
        }
        for helper in helpers {
            let request = IndirectPing {
                sequence,
                target: address,
                node: Some(node.clone()),
                nack: true,
                source: Some(self.config.advertise),
                source_node: Some(self.name.clone()),
            };
            self.send_with_news(helper, Message::IndirectPing(request), out);
        }
        let content = StreamBody::Ping(self.ping(sequence, node));
        self.request(address, content, true, end.since(now), Purpose::StreamPing(sequence), out);
    }

    /// Others that may reach `target`.
    fn helpers(&mut self, target: MemberId) -> Vec<SocketAddr> {
        let count = self.config.timing.indirect_checks;
        let live = self.members.live();
        let candidates = pick(live.len(), count + 1, &mut self.rng);
        let live = self.members.live();
        candidates
            .into_iter()
            .map(|at| live[at])
            .filter(|id| *id != target && self.members.get(*id).state == NodeStateKind::Alive)
            .take(count)
            .map(|id| self.members.get(id).alive.address)
            .collect()
    }

    fn fail_probe(&mut self, now: Tick, probe: &Probe, out: &mut Out) {
        if probe.stream_answered {
            tracing::warn!(peer = %self.members.get(probe.target).alive.node,
                "member answers on streams but not by datagram");
            return;
        }
        let missing = if probe.nacks_wanted > 0 { probe.nacks_wanted.saturating_sub(probe.nacks) } else { 1 };
        self.set_health(missing as i32);
        let alive = &self.members.get(probe.target).alive;
        let verdict =
            Verdict { incarnation: alive.incarnation, node: alive.node.clone(), from: self.name.clone() };
        self.on_suspect(now, &verdict, out);
    }

    /// Ends a probe whose target is about to be forgotten.
    pub(super) fn forget_probe_of(&mut self, id: MemberId) {
        self.probe_order.retain(|other| *other != id);
        self.checks.retain(|_, other| *other != id);
        if self.probe.as_ref().is_some_and(|probe| probe.target == id) {
            self.probe = None;
        }
    }

    pub(super) fn on_ping(&mut self, from: SocketAddr, ping: &Ping, out: &mut Out) {
        if ping.node.as_ref().is_some_and(|node| *node != self.name) {
            tracing::debug!(%from, "ping for another name");
            return;
        }
        let to = ping.source.unwrap_or(from);
        self.send_with_news(to, Message::Ack(ping.sequence), out);
    }

    pub(super) fn on_indirect_ping(
        &mut self,
        now: Tick,
        from: SocketAddr,
        ping: &IndirectPing,
        out: &mut Out,
    ) {
        if self.relays.len() >= MOST_RELAYS {
            return;
        }
        let sequence = self.sequence();
        let requester = ping.source.unwrap_or(from);
        self.relays.insert(sequence, Relay { requester, requester_sequence: ping.sequence, nack: ping.nack });
        let mut direct = self.ping(sequence, self.name.clone());
        direct.node.clone_from(&ping.node);
        self.send_with_news(ping.target, Message::Ping(direct), out);
        let timer = Timer { kind: TimerKind::RelayTimeout, generation: sequence.into() };
        out.push(Effect::Arm { timer, at: now + self.config.timing.probe_timeout });
    }

    pub(super) fn on_relay_timeout(&mut self, generation: u64, out: &mut Out) {
        let Ok(sequence) = u32::try_from(generation) else { return };
        if let Some(relay) = self.relays.remove(&sequence)
            && relay.nack
        {
            self.send_with_news(relay.requester, Message::Nack(relay.requester_sequence), out);
        }
    }

    pub(super) fn on_ack(&mut self, now: Tick, sequence: u32, out: &mut Out) {
        if self.probe.as_ref().is_some_and(|probe| probe.sequence == sequence) {
            self.set_health(-1);
            if let Some(probe) = self.probe.take() {
                self.confirm_address(now, probe.target, out);
            }
        } else if let Some(relay) = self.relays.remove(&sequence) {
            self.send_with_news(relay.requester, Message::Ack(relay.requester_sequence), out);
        } else if let Some(id) = self.checks.remove(&sequence) {
            self.confirm_address(now, id, out);
        }
    }

    pub(super) fn on_nack(&mut self, sequence: u32) {
        if let Some(probe) = &mut self.probe
            && probe.sequence == sequence
        {
            probe.nacks += 1;
        }
    }

    pub(super) fn on_stream_ack(&mut self, sequence: u32) {
        if let Some(probe) = &mut self.probe
            && probe.sequence == sequence
        {
            probe.stream_answered = true;
        }
    }
}
