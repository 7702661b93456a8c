//! What is believed of each member: SWIM's states with Lifeguard's suspicion.
//!
//! Rules of memberlist's `state.go`: a greater incarnation wins; at equal incarnation suspect beats alive and dead
//! beats suspect; only the member itself makes a new incarnation.

use std::sync::Arc;
use std::time::Duration;

use weft_wire::memberlist::NodeStateKind;

use super::cluster::Phase;
use super::member::{ME, MemberId, Standing};
use super::suspicion::Suspicion;
use super::{Core, Out};
use crate::message::{Alive, Message, Ping, Verdict};
use crate::{Effect, Event, Text, Tick, Timer, TimerKind};

/// Incarnations above this are refused: a member could not refute them any more.
const LARGEST_INCARNATION: u32 = u32::MAX / 2;

/// A member that was wrongly declared dead tells its networks again, but not more often than this.
const ANNOUNCEMENT_PAUSE: Duration = Duration::from_secs(5);

/// More members are refused: invented ones could fill memory.
const MOST_MEMBERS: usize = 16 * 1024;

impl Core {
    pub(super) fn on_alive(&mut self, now: Tick, alive: &Alive, out: &mut Out) {
        let versions = alive.versions;
        if alive.incarnation > LARGEST_INCARNATION
            || versions.protocol_min == 0
            || versions.protocol_min > versions.protocol_max
        {
            return;
        }
        if alive.node == self.name {
            self.on_alive_about_me(alive);
            return;
        }
        let id = match self.members.find(&alive.node) {
            Some(id) => {
                if !self.accepts_alive(now, id, alive) {
                    return;
                }
                self.members.get_mut(id).alive = alive.clone();
                id
            }
            None if self.members.size() >= MOST_MEMBERS => return,
            None => {
                let id = self.members.insert(now, alive.clone());
                self.schedule_probe_of(id);
                id
            }
        };
        self.end_suspicion(id);
        self.queue_about(id, Message::Alive(alive.clone()));
        self.set_state(now, id, NodeStateKind::Alive, out);
    }

    fn accepts_alive(&mut self, now: Tick, id: MemberId, alive: &Alive) -> bool {
        let member = self.members.get(id);
        if member.alive.address == alive.address {
            return alive.incarnation > member.alive.incarnation;
        }
        // A name may move once its old place is empty; memberlist forgets the dead after this time.
        let vacant = member.state == NodeStateKind::Left
            || member.state == NodeStateKind::Dead
                && now.since(member.since) > self.config.timing.gossip_to_dead;
        if !vacant {
            tracing::warn!(
                name = %alive.node, known = %member.alive.address, claimed = %alive.address,
                "another node uses this member's name"
            );
        }
        vacant
    }

    fn on_alive_about_me(&mut self, alive: &Alive) {
        let mine = &self.members.get(ME).alive;
        let same =
            alive.address == mine.address && alive.meta == mine.meta && alive.versions == mine.versions;
        if alive.incarnation < mine.incarnation || alive.incarnation == mine.incarnation && same {
            return;
        }
        self.refute(alive.incarnation);
    }

    pub(super) fn on_suspect(&mut self, now: Tick, verdict: &Verdict, out: &mut Out) {
        let Some(id) = self.members.find(&verdict.node) else { return };
        if verdict.incarnation < self.members.get(id).alive.incarnation
            || verdict.incarnation > LARGEST_INCARNATION
        {
            return;
        }
        if let Some(suspicion) = &mut self.members.get_mut(id).suspicion {
            if suspicion.confirm(&verdict.from) {
                self.queue_about(id, Message::Suspect(verdict.clone()));
                self.arm_suspicion(now, id, out);
            }
            return;
        }
        match self.members.get(id).state {
            NodeStateKind::Alive => {}
            NodeStateKind::Suspect => return,
            NodeStateKind::Dead | NodeStateKind::Left => {
                self.second(id, &verdict.from, out);
                return;
            }
        }
        if id == ME {
            self.refute(verdict.incarnation);
            return;
        }
        self.queue_about(id, Message::Suspect(verdict.clone()));
        self.members.get_mut(id).alive.incarnation = verdict.incarnation;
        self.set_state(now, id, NodeStateKind::Suspect, out);
        let suspicion = self.new_suspicion(now, verdict.from.clone());
        self.members.get_mut(id).suspicion = Some(Box::new(suspicion));
        self.arm_suspicion(now, id, out);
    }

    /// `from` suspects a member whose end is known here: confirm it, so that it need not wait for the longest time.
    ///
    /// Not in memberlist, where a node that missed the verdict waits alone. For the receiver it is an ordinary message.
    /// Once per suspecting node: two that both know would answer each other for ever.
    fn second(&mut self, id: MemberId, from: &Text, out: &mut Out) {
        let Some(asker) = self.members.find(from).filter(|asker| *asker != ME) else { return };
        let asker = self.members.get(asker);
        let (live, to) = (asker.is_live(), asker.alive.address);
        let member = self.members.get_mut(id);
        if !live || member.told_dead.contains(from) {
            return;
        }
        member.told_dead.push(from.clone());
        let (incarnation, node) = (member.alive.incarnation, member.alive.node.clone());
        let message = if member.state == NodeStateKind::Left {
            Message::Dead(Verdict { incarnation, from: node.clone(), node })
        } else {
            Message::Suspect(Verdict { incarnation, from: self.name.clone(), node })
        };
        out.push(Effect::SendUdp { to, datagram: vec![Arc::new(message)] });
    }

    fn new_suspicion(&self, now: Tick, from: Text) -> Suspicion {
        let timing = &self.config.timing;
        let size = self.members.size();
        let wanted = timing.suspicion_multiplier.saturating_sub(2) as usize;
        // This node and the suspected one cannot confirm.
        let wanted = if size.saturating_sub(2) < wanted { 0 } else { wanted };
        let scale = (size.max(1) as f64).log10().max(1.0);
        let least = timing.probe_interval.mul_f64(f64::from(timing.suspicion_multiplier) * scale);
        Suspicion::new(now, from, wanted, least, least * timing.suspicion_max_multiplier)
    }

    /// Arms the end of a suspicion; before it, if that is far away, the moment to ask again.
    fn arm_suspicion(&mut self, now: Tick, id: MemberId, out: &mut Out) {
        let generation = self.generation();
        let Some(suspicion) = &mut self.members.get_mut(id).suspicion else { return };
        let before = std::mem::replace(&mut suspicion.generation, generation);
        let at = if now < suspicion.halfway() { suspicion.halfway() } else { suspicion.deadline() };
        self.suspicions.remove(&before);
        self.suspicions.insert(generation, id);
        out.push(Effect::Arm { timer: Timer { kind: TimerKind::Suspicion, generation }, at });
    }

    fn end_suspicion(&mut self, id: MemberId) {
        if let Some(suspicion) = self.members.get_mut(id).suspicion.take() {
            self.suspicions.remove(&suspicion.generation);
        }
    }

    pub(super) fn on_suspicion_end(&mut self, now: Tick, generation: u64, out: &mut Out) {
        let Some(&id) = self.suspicions.get(&generation) else { return };
        let member = self.members.get(id);
        let verdict = Verdict {
            incarnation: member.alive.incarnation,
            node: member.alive.node.clone(),
            from: self.name.clone(),
        };
        if member.suspicion.as_ref().is_some_and(|suspicion| now < suspicion.deadline()) {
            // Whoever knows better did not hear it the first time.
            self.queue_about(id, Message::Suspect(verdict));
            self.arm_suspicion(now, id, out);
        } else {
            self.on_dead(now, &verdict, out);
        }
    }

    pub(super) fn on_dead(&mut self, now: Tick, verdict: &Verdict, out: &mut Out) {
        let Some(id) = self.members.find(&verdict.node) else { return };
        if verdict.incarnation < self.members.get(id).alive.incarnation
            || verdict.incarnation > LARGEST_INCARNATION
        {
            return;
        }
        if id == ME {
            if self.phase == Phase::Taking {
                self.refute(verdict.incarnation);
                self.announce_again(now, out);
            }
            return;
        }
        self.end_suspicion(id);
        let left = verdict.node == verdict.from;
        let member = self.members.get_mut(id);
        if !member.is_live() {
            // Not in memberlist: a goodbye that comes after the verdict still says more.
            if left && member.state == NodeStateKind::Dead {
                member.alive.incarnation = verdict.incarnation;
                self.queue_about(id, Message::Dead(verdict.clone()));
                self.set_state(now, id, NodeStateKind::Left, out);
            }
            return;
        }
        member.alive.incarnation = verdict.incarnation;
        self.queue_about(id, Message::Dead(verdict.clone()));
        let state = if left { NodeStateKind::Left } else { NodeStateKind::Dead };
        self.set_state(now, id, state, out);
    }

    /// Contradicts what was said of this node at incarnation `accused`.
    fn refute(&mut self, accused: u32) {
        if self.phase != Phase::Taking {
            return;
        }
        let me = self.members.get_mut(ME);
        me.alive.incarnation = me.alive.incarnation.max(accused) + 1;
        let alive = me.alive.clone();
        tracing::debug!(incarnation = alive.incarnation, "refuting");
        self.set_health(1);
        self.queue_about(ME, Message::Alive(alive));
    }

    /// After this node was taken for dead: older peers forgot what it is on and what it has.
    pub(super) fn announce_again(&mut self, now: Tick, out: &mut Out) {
        if self.last_announcement.is_some_and(|last| now.since(last) < ANNOUNCEMENT_PAUSE) {
            return;
        }
        self.last_announcement = Some(now);
        self.announce_node(false);
        self.announce_networks(now, out);
    }

    /// Worse by `step`, or better if negative.
    pub(super) fn set_health(&mut self, step: i32) {
        let worst = self.config.timing.awareness_max.saturating_sub(1);
        self.health = self.health.saturating_add_signed(step).min(worst);
    }

    fn queue_about(&mut self, id: MemberId, message: Message) {
        let len = super::spread::encoded_len(&message);
        self.member_news.push(self.members.get(id).alive.node.clone(), Arc::new(message), len);
    }

    /// Moves a member to another state, with all that follows from it.
    fn set_state(&mut self, now: Tick, id: MemberId, state: NodeStateKind, out: &mut Out) {
        let member = self.members.get_mut(id);
        let before = std::mem::replace(&mut member.state, state);
        if before != state {
            member.since = now;
            member.told_dead = Vec::new();
            tracing::info!(peer = %member.alive.node, address = %member.alive.address, from = ?before, to = ?state,
                incarnation = member.alive.incarnation, "member changed state");
        }
        let live = member.is_live();
        self.members.set_live(id, live);
        match state {
            NodeStateKind::Alive if matches!(before, NodeStateKind::Dead | NodeStateKind::Left) => {
                self.set_standing(now, id, Standing::Active, out);
                self.check_address(id, out);
            }
            NodeStateKind::Dead => {
                self.members.set_fading(id);
                if self.members.get(id).standing == Standing::Active {
                    self.set_standing(now, id, Standing::Failed, out);
                }
            }
            NodeStateKind::Left => self.set_standing(now, id, Standing::Left, out),
            NodeStateKind::Alive | NodeStateKind::Suspect => {}
        }
    }

    /// Moves a member to another standing in NetworkDB.
    pub(super) fn set_standing(&mut self, now: Tick, id: MemberId, standing: Standing, out: &mut Out) {
        let member = self.members.get_mut(id);
        let before = std::mem::replace(&mut member.standing, standing);
        if before == standing {
            return;
        }
        member.standing_since = now;
        let (name, address) = (member.alive.node.clone(), member.alive.address);
        if standing == Standing::Active {
            Self::tell(out, Event::MemberUp { name, address });
        } else if before == Standing::Active {
            Self::tell(out, Event::MemberDown { name, address, left: standing == Standing::Left });
        }
        match standing {
            Standing::Active => {
                self.show_member(now, id, out);
                if before == Standing::Failed {
                    self.hurry_bulk_sync(now, out);
                }
            }
            Standing::Failed => {
                self.hide_member(id, out);
                if !self.is_armed(TimerKind::Reconnect) {
                    self.arm(TimerKind::Reconnect, now + self.config.timing.reconnect_interval, out);
                }
            }
            Standing::Left => self.drop_member(id, out),
        }
    }

    /// Two names on one address: the node that was there has come back under a new name. Whichever answers is it.
    fn check_address(&mut self, id: MemberId, out: &mut Out) {
        let address = self.members.get(id).alive.address;
        let rivals: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, m)| m.alive.address == address && m.standing != Standing::Left)
            .map(|(rival, _)| rival)
            .collect();
        if rivals.len() < 2 {
            return;
        }
        for rival in rivals.into_iter().filter(|rival| *rival != ME) {
            self.members.get_mut(rival).contested = true;
            let sequence = self.sequence();
            if self.checks.len() >= super::MOST_RELAYS {
                self.checks.pop_first();
            }
            self.checks.insert(sequence, rival);
            let ping = Ping {
                sequence,
                node: Some(self.members.get(rival).alive.node.clone()),
                source: Some(self.config.advertise),
                source_node: Some(self.name.clone()),
            };
            out.push(Effect::SendUdp { to: address, datagram: vec![Arc::new(Message::Ping(ping))] });
        }
    }

    /// `id` answered, so no other name is in use on its address.
    pub(super) fn confirm_address(&mut self, now: Tick, id: MemberId, out: &mut Out) {
        let member = self.members.get_mut(id);
        if !std::mem::take(&mut member.contested) {
            return;
        }
        let (address, live) = (member.alive.address, member.is_live());
        let others: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(other, m)| *other != id && *other != ME && m.alive.address == address)
            .map(|(other, _)| other)
            .collect();
        for other in others {
            self.members.get_mut(other).contested = false;
            if self.members.get(other).standing != Standing::Left {
                tracing::info!(old = %self.members.get(other).alive.node, new = %self.members.get(id).alive.node,
                    %address, "member came back under a new name");
                self.set_standing(now, other, Standing::Left, out);
            }
        }
        if live && self.members.get(id).standing != Standing::Active {
            self.set_standing(now, id, Standing::Active, out);
        }
    }
}
