//! Finding the cluster, finding failed members again, leaving.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;

use super::member::{ME, MemberId, Standing};
use super::{Core, Out, Purpose, Subject};
use crate::message::{Message, NodeEvent, StreamBody, Verdict};
use crate::{Event, RequestFailure, Text, Tick, TimerKind};

/// Attempts to find the cluster before they become rarer.
const EAGER_ATTEMPTS: u32 = 10;
/// Between attempts of a lonely node after that. Docker waits a minute, for no gain.
const PATIENT_INTERVAL: Duration = Duration::from_secs(5);

/// Where this node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Takes part.
    Taking,
    /// Tells that it leaves.
    Leaving,
    /// Tells that it is gone.
    Goodbye,
    /// Is silent.
    Gone,
}

/// The search for the cluster.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Addresses given, without the own.
    pub(super) addresses: Vec<SocketAddr>,
    found: bool,
    attempts: u32,
    /// Requests of this attempt without an outcome.
    waiting: usize,
    answered: bool,
}

impl Search {
    /// Whether this node has met the cluster, or is the first of it.
    pub(super) fn found(&self) -> bool {
        self.found
    }
}

impl Core {
    /// Join the cluster through any of `addresses`; see [`crate::Gossip::join_cluster`].
    pub fn join_cluster(&mut self, now: Tick, addresses: &[SocketAddr], out: &mut Out) {
        if self.phase != Phase::Taking {
            return;
        }
        let mut addresses: Vec<SocketAddr> =
            addresses.iter().copied().filter(|address| *address != self.config.advertise).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            self.search.addresses.clear();
            self.found_cluster(now, out);
        } else if addresses != self.search.addresses {
            self.search.addresses = addresses;
            self.search.attempts = 0;
            self.look_for_cluster(now, out);
        }
        self.wake(now, out);
    }

    pub(super) fn look_for_cluster(&mut self, now: Tick, out: &mut Out) {
        if self.search.addresses.is_empty() || self.search.waiting > 0 || self.phase != Phase::Taking {
            return;
        }
        if self.knows_any_address() {
            self.arm(TimerKind::Join, now + self.config.timing.rejoin_interval, out);
            return;
        }
        let addresses = self.search.addresses.clone();
        self.ask_to_join(&addresses, out);
    }

    /// Exchanges membership with all of `addresses`.
    pub(super) fn ask_to_join(&mut self, addresses: &[SocketAddr], out: &mut Out) {
        self.search.attempts += 1;
        self.search.waiting = addresses.len();
        self.search.answered = false;
        for to in addresses {
            let content = StreamBody::PushPull(self.whole_membership(true));
            self.request(*to, content, true, self.config.timing.stream_timeout, Purpose::Join, out);
        }
    }

    fn knows_any_address(&self) -> bool {
        self.members.iter().any(|(id, member)| {
            id != ME
                && member.standing == Standing::Active
                && self.search.addresses.contains(&member.alive.address)
        })
    }

    pub(super) fn on_join_answer(
        &mut self,
        now: Tick,
        answer: Result<Option<&StreamBody>, RequestFailure>,
        out: &mut Out,
    ) {
        self.search.waiting = self.search.waiting.saturating_sub(1);
        if let Ok(Some(StreamBody::PushPull(exchange))) = answer {
            self.search.answered = true;
            self.merge(now, exchange, out);
            self.found_cluster(now, out);
        }
        if self.search.waiting > 0 {
            return;
        }
        let timing = &self.config.timing;
        let pause = if self.search.answered || self.members.size() > 1 {
            timing.rejoin_interval
        } else if self.search.attempts <= EAGER_ATTEMPTS {
            timing.join_interval
        } else {
            PATIENT_INTERVAL
        };
        if !self.search.answered {
            Self::tell(out, Event::JoinFailed { tried: self.search.addresses.len() });
        }
        self.arm(TimerKind::Join, now + pause, out);
    }

    /// From now on there are others to tell (or nobody else exists).
    pub(super) fn found_cluster(&mut self, now: Tick, out: &mut Out) {
        if self.search.found || self.phase != Phase::Taking {
            return;
        }
        self.search.found = true;
        Self::tell(out, Event::Joined);
        self.announce_node(false);
        self.announce_networks(now, out);
        for network in self.joined_networks() {
            self.first_sync(now, &network, out);
        }
    }

    /// Says that this node came, or leaves.
    pub(super) fn announce_node(&mut self, leave: bool) {
        let event = NodeEvent { leave, time: self.network_clock.increment(), node: self.name.clone() };
        self.queue_node_event(event);
    }

    pub(super) fn queue_node_event(&mut self, event: NodeEvent) {
        let subject = Subject::Node(event.node.clone());
        let message = Message::Node(event);
        let len = super::spread::encoded_len(&message);
        self.event_news.push(subject, Arc::new(message), len);
    }

    /// Tries one failed member again.
    pub(super) fn reconnect(&mut self, now: Tick, out: &mut Out) {
        let failed: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(id, member)| *id != ME && member.standing == Standing::Failed && !member.is_live())
            .map(|(id, _)| id)
            .collect();
        if failed.is_empty() || self.phase != Phase::Taking {
            return;
        }
        let id = failed[self.rng.random_range(0..failed.len())];
        self.ask_to_return(id, false, out);
        self.arm(TimerKind::Reconnect, now + self.config.timing.reconnect_interval, out);
    }

    fn ask_to_return(&mut self, id: MemberId, second: bool, out: &mut Out) {
        let alive = &self.members.get(id).alive;
        let (to, name) = (alive.address, alive.node.clone());
        let content = StreamBody::PushPull(self.whole_membership(true));
        let timeout = self.config.timing.stream_timeout;
        self.request(to, content, true, timeout, Purpose::Reconnect { name, second }, out);
    }

    pub(super) fn on_reconnect_answer(
        &mut self,
        now: Tick,
        name: &Text,
        second: bool,
        answer: Result<Option<&StreamBody>, RequestFailure>,
        out: &mut Out,
    ) {
        let Ok(Some(StreamBody::PushPull(exchange))) = answer else { return };
        self.merge(now, exchange, out);
        self.announce_node(false);
        let Some(id) = self.members.find(name) else { return };
        if self.members.get(id).standing == Standing::Active {
            let networks = self.common_networks(id);
            self.send_bulk_sync(now, id, networks, false, out);
        } else if !second && self.members.get(id).standing == Standing::Failed {
            // It answered before it knew that it was taken for dead. Now it has refuted: ask once more.
            self.ask_to_return(id, true, out);
        }
    }

    /// Leave the cluster; see [`crate::Gossip::leave`].
    pub fn leave(&mut self, now: Tick, out: &mut Out) {
        if self.phase != Phase::Taking {
            return;
        }
        if self.members.live().is_empty() {
            self.end(out);
            return;
        }
        self.phase = Phase::Leaving;
        self.announce_node(true);
        self.arm(TimerKind::Leave, now + self.config.timing.leave_wait, out);
        self.wake(now, out);
    }

    /// After each round of gossip: the next stage begins early once the word is out.
    pub(super) fn check_leaving(&mut self, now: Tick, out: &mut Out) {
        let told = match self.phase {
            Phase::Leaving => !self.event_news.contains(&Subject::Node(self.name.clone())),
            Phase::Goodbye => !self.member_news.contains(&self.name),
            Phase::Taking | Phase::Gone => false,
        };
        if told {
            self.on_leave_stage_end(now, out);
        }
    }

    pub(super) fn on_leave_stage_end(&mut self, now: Tick, out: &mut Out) {
        match self.phase {
            Phase::Leaving => {
                self.phase = Phase::Goodbye;
                let incarnation = self.members.get(ME).alive.incarnation;
                let verdict = Verdict { incarnation, node: self.name.clone(), from: self.name.clone() };
                let message = Message::Dead(verdict);
                let len = super::spread::encoded_len(&message);
                self.member_news.push(self.name.clone(), Arc::new(message), len);
                self.arm(TimerKind::Leave, now + self.config.timing.goodbye_wait, out);
            }
            Phase::Goodbye => self.end(out),
            Phase::Taking | Phase::Gone => {}
        }
    }

    fn end(&mut self, out: &mut Out) {
        self.phase = Phase::Gone;
        Self::tell(out, Event::Left);
    }
}
