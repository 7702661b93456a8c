//! One member, and all of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng as _;
use weft_wire::memberlist::NodeStateKind;

use super::FixedHasher;
use super::suspicion::Suspicion;
use crate::gossip::Rng;
use crate::message::Alive;
use crate::{Text, Tick};

/// Index of a member. Not reused while anything refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MemberId(u32);

/// A member in NetworkDB's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its entries count.
    Active,
    /// Its entries are hidden until it returns.
    Failed,
    /// It has no entries.
    Left,
}

/// That a member is, or was, on a network.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    pub(super) network: Text,
    pub(super) time: u64,
    /// It left; forgotten at this time.
    pub(super) left_until: Option<Tick>,
}

/// A member, this node included.
#[derive(Debug)]
pub(super) struct Member {
    /// Name, address and incarnation.
    pub(super) alive: Alive,
    /// Membership's view, and since when.
    pub(super) state: NodeStateKind,
    pub(super) since: Tick,
    pub(super) suspicion: Option<Box<Suspicion>>,
    /// Who was told that this member is dead, having suspected it; each is told once.
    pub(super) told_dead: Vec<Text>,
    /// NetworkDB's view, and since when.
    pub(super) standing: Standing,
    pub(super) standing_since: Tick,
    /// Network clock of its last node event.
    pub(super) event_time: u64,
    pub(super) attachments: Vec<Attachment>,
    /// Another member claims the same address, and neither has answered yet.
    pub(super) contested: bool,
    /// Its place in the list of live members.
    live_at: Option<usize>,
}

impl Member {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, NodeStateKind::Alive | NodeStateKind::Suspect)
    }

    /// Whether it is on `network`.
    pub(super) fn is_on(&self, network: &str) -> bool {
        self.attachments.iter().any(|a| a.left_until.is_none() && *a.network == *network)
    }

    pub(super) fn attachment(&mut self, network: &str) -> Option<&mut Attachment> {
        self.attachments.iter_mut().find(|a| *a.network == *network)
    }
}

/// All known members. The first is this node.
pub(super) struct Members {
    slots: Vec<Option<Member>>,
    free: Vec<MemberId>,
    by_name: HashMap<Text, MemberId, FixedHasher>,
    /// Alive or suspected, without this node, in no order.
    live: Vec<MemberId>,
    /// Died lately: still told what is said about them.
    fading: Vec<MemberId>,
}

/// This node.
pub(super) const ME: MemberId = MemberId(0);

impl Members {
    pub(super) fn new(now: Tick, me: Alive) -> Self {
        let mut members = Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::default(),
            live: Vec::new(),
            fading: Vec::new(),
        };
        members.insert(now, me);
        members.get_mut(ME).state = NodeStateKind::Alive;
        members.get_mut(ME).standing = Standing::Active;
        members
    }

    /// Adds a member as dead and left: the caller moves it to what it is.
    pub(super) fn insert(&mut self, now: Tick, alive: Alive) -> MemberId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            MemberId(self.slots.len() as u32 - 1)
        });
        self.by_name.insert(alive.node.clone(), id);
        self.slots[id.0 as usize] = Some(Member {
            alive,
            state: NodeStateKind::Dead,
            since: now,
            suspicion: None,
            told_dead: Vec::new(),
            standing: Standing::Left,
            standing_since: now,
            event_time: 0,
            attachments: Vec::new(),
            contested: false,
            live_at: None,
        });
        id
    }

    /// Forgets a member. The caller has removed all that refers to it.
    pub(super) fn remove(&mut self, id: MemberId) {
        self.set_live(id, false);
        self.fading.retain(|other| *other != id);
        if let Some(member) = self.slots[id.0 as usize].take() {
            self.by_name.remove(&member.alive.node);
            self.free.push(id);
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<MemberId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn get(&self, id: MemberId) -> &Member {
        self.slots[id.0 as usize].as_ref().expect("ids of removed members are not kept")
    }

    pub(super) fn get_mut(&mut self, id: MemberId) -> &mut Member {
        self.slots[id.0 as usize].as_mut().expect("ids of removed members are not kept")
    }

    /// All members, this node first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| Some((MemberId(at as u32), slot.as_ref()?)))
    }

    pub(super) fn ids(&self) -> Vec<MemberId> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(super) fn live(&self) -> &[MemberId] {
        &self.live
    }

    /// Size of the cluster, this node included.
    pub(super) fn size(&self) -> usize {
        self.live.len() + 1
    }

    /// Keeps the list of live members.
    pub(super) fn set_live(&mut self, id: MemberId, live: bool) {
        if id == ME {
            return;
        }
        match (self.get(id).live_at, live) {
            (None, true) => {
                self.get_mut(id).live_at = Some(self.live.len());
                self.live.push(id);
                self.fading.retain(|other| *other != id);
            }
            (Some(at), false) => {
                self.live.swap_remove(at);
                self.get_mut(id).live_at = None;
                if let Some(&moved) = self.live.get(at) {
                    self.get_mut(moved).live_at = Some(at);
                }
            }
            _ => {}
        }
    }

    /// Remembers that `id` died just now.
    pub(super) fn set_fading(&mut self, id: MemberId) {
        if id != ME && !self.fading.contains(&id) {
            self.fading.push(id);
        }
    }

    /// Whether anybody would hear gossip.
    pub(super) fn has_audience(&self) -> bool {
        !self.live.is_empty() || !self.fading.is_empty()
    }

    /// Up to `count` receivers of gossip: live ones, and those that died less than `fading_time` ago.
    pub(super) fn audience(
        &mut self,
        now: Tick,
        fading_time: Duration,
        count: usize,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        let slots = &self.slots;
        self.fading.retain(|id| {
            slots[id.0 as usize]
                .as_ref()
                .is_some_and(|m| m.state == NodeStateKind::Dead && now.since(m.since) <= fading_time)
        });
        let total = self.live.len() + self.fading.len();
        let at = |index: usize| {
            let id = self.live.get(index).or_else(|| self.fading.get(index - self.live.len()));
            id.map(|id| self.get(*id).alive.address)
        };
        pick(total, count, rng).into_iter().filter_map(at).collect()
    }
}

/// Up to `count` different numbers below `total`, in random order.
pub(super) fn pick(total: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let count = count.min(total);
    let mut picked = Vec::with_capacity(count);
    while picked.len() < count {
        let candidate = rng.random_range(0..total);
        if !picked.contains(&candidate) {
            picked.push(candidate);
        }
    }
    picked
}
