//! Exchange of whole membership with one member, by stream.

use std::time::Duration;

use rand::Rng as _;
use weft_wire::memberlist::NodeStateKind;

use super::cluster::Phase;
use super::member::{ME, Standing};
use super::{Core, Out, Purpose};
use crate::message::{MemberState, NetworkPushPull, NodeEvent, PushPull, StreamBody, Verdict};
use crate::{Text, Tick, TimerKind};

/// Above this many members exchanges become rarer (memberlist `pushPullScale`, from 32 on). An exchange of this size
/// is some 30 kB, which every half minute is nothing, and a node that missed a verdict learns it no sooner.
const SCALE_THRESHOLD: f64 = 256.0;

impl Core {
    pub(super) fn push_pull(&mut self, now: Tick, out: &mut Out) {
        let live = self.members.live().len();
        if live > 0 && self.phase == Phase::Taking {
            let peer = self.members.live()[self.rng.random_range(0..live)];
            let to = self.members.get(peer).alive.address;
            let content = StreamBody::PushPull(self.whole_membership(false));
            let timeout = self.config.timing.stream_timeout;
            self.request(to, content, true, timeout, Purpose::PushPull, out);
        }
        let next = now + self.push_pull_interval();
        self.arm(TimerKind::PushPull, next, out);
    }

    fn push_pull_interval(&self) -> Duration {
        let size = self.members.size() as f64;
        let interval = self.config.timing.push_pull_interval;
        if size <= SCALE_THRESHOLD {
            return interval;
        }
        interval * ((size.log2() - SCALE_THRESHOLD.log2()).ceil() as u32 + 1)
    }

    /// Everything that this node knows of members and of who is on which network.
    pub(super) fn whole_membership(&mut self, join: bool) -> PushPull {
        if join {
            // The peer may believe that this node left: newer times win.
            self.restamp_networks();
        }
        let me = if self.phase >= Phase::Goodbye { NodeStateKind::Left } else { NodeStateKind::Alive };
        let members = self.members.iter().map(|(id, member)| MemberState {
            state: if id == ME { me } else { member.state },
            alive: member.alive.clone(),
        });
        PushPull { join, members: members.collect(), networks: Some(self.attachments()) }
    }

    /// Takes over what a peer knows.
    pub(super) fn merge(&mut self, now: Tick, exchange: &PushPull, out: &mut Out) {
        let peer = exchange.networks.as_ref().map_or(&self.name, |networks| &networks.node).clone();
        for member in &exchange.members {
            self.merge_member(now, &peer, member, out);
        }
        if let Some(networks) = &exchange.networks {
            self.merge_networks(now, networks, out);
        }
    }

    fn merge_member(&mut self, now: Tick, peer: &Text, member: &MemberState, out: &mut Out) {
        let alive = &member.alive;
        let verdict = |from| Verdict { incarnation: alive.incarnation, node: alive.node.clone(), from };
        match member.state {
            NodeStateKind::Alive => self.on_alive(now, alive, out),
            NodeStateKind::Left => {
                let verdict = verdict(alive.node.clone());
                self.on_dead(now, &verdict, out);
            }
            // A peer's verdict is only a suspicion: the member shall be able to refute it here.
            NodeStateKind::Dead | NodeStateKind::Suspect => {
                let verdict = verdict(peer.clone());
                let mistaken = verdict.node == self.name && member.state == NodeStateKind::Dead;
                self.on_suspect(now, &verdict, out);
                if mistaken && self.phase == Phase::Taking {
                    self.announce_again(now, out);
                }
            }
        }
    }

    fn merge_networks(&mut self, now: Tick, networks: &NetworkPushPull, out: &mut Out) {
        let presence = NodeEvent { leave: false, time: networks.time, node: networks.node.clone() };
        if networks.node != self.name {
            self.on_node_event(now, &presence, out);
        }
        for attachment in &networks.attachments {
            self.on_network_event(now, attachment, false, out);
        }
    }

    /// A member came or leaves, by its own word.
    pub(super) fn on_node_event(&mut self, now: Tick, event: &NodeEvent, out: &mut Out) {
        if !self.network_clock.witness(event.time) {
            return;
        }
        let Some(id) = self.members.find(&event.node) else { return };
        if id == ME {
            if event.leave && self.phase == Phase::Taking {
                self.announce_node(false);
            }
            return;
        }
        let member = self.members.get_mut(id);
        if event.time <= member.event_time {
            return;
        }
        member.event_time = event.time;
        let standing = if event.leave { Standing::Left } else { Standing::Active };
        // Without membership's word nobody would notice when such a member fails.
        if !member.is_live() || member.standing == standing {
            return;
        }
        self.set_standing(now, id, standing, out);
        self.queue_node_event(event.clone());
    }
}
