//! Exchange of whole tables with a peer. Each direction is a stream of its own, so a peer that cannot be reached back
//! is noticed.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;

use super::cluster::Phase;
use super::member::{MemberId, Standing, pick};
use super::networks::OwnNetwork;
use super::{Core, Out, Purpose};
use crate::message::{BulkSync, NetworkEvent, StreamBody, TableChange, TableEvent};
use crate::{Effect, Event, Text, Tick, Timer, TimerKind};

/// Peers of a network's first exchange. Docker asks all, one after the other; beyond a few nothing new comes, and
/// own entries go out by gossip.
const FIRST_SYNC_PEERS: usize = 5;

/// What an exchange carries; shared by those with several peers.
#[derive(Clone)]
struct Tables {
    attachments: Arc<[NetworkEvent]>,
    events: Arc<[Arc<TableEvent>]>,
}

/// From a member's return to the exchange of tables that it causes: once to twice this.
const HURRY: Duration = Duration::from_secs(3);
/// Between two such exchanges.
const HURRY_PAUSE: Duration = Duration::from_secs(10);

impl Core {
    /// Exchanges a network's tables with some peers, after which relaying starts.
    pub(super) fn first_sync(&mut self, now: Tick, network: &Text, out: &mut Out) {
        let generation = self.generation();
        let Some(own) = self.networks.get_mut(network) else { return };
        let peers: Vec<MemberId> = pick(own.peers.len(), FIRST_SYNC_PEERS, &mut self.rng)
            .into_iter()
            .map(|at| own.peers[at])
            .collect();
        own.awaiting = peers.iter().copied().collect();
        own.sync_generation = generation;
        if peers.is_empty() {
            self.end_first_sync(network, out);
            return;
        }
        let at = now + self.config.timing.network_sync_wait;
        out.push(Effect::Arm { timer: Timer { kind: TimerKind::NetworkSync, generation }, at });
        let tables = self.tables(now, std::slice::from_ref(network));
        for peer in peers {
            self.send_tables(peer, vec![network.clone()], tables.clone(), true, false, out);
        }
    }

    pub(super) fn on_network_sync_end(&mut self, generation: u64, out: &mut Out) {
        let waiting = |own: &OwnNetwork| own.sync_generation == generation && own.is_joined() && !own.in_sync;
        let Some(network) = self.networks.iter().find(|(_, own)| waiting(own)).map(|(name, _)| name.clone())
        else {
            return;
        };
        self.end_first_sync(&network, out);
    }

    fn end_first_sync(&mut self, network: &Text, out: &mut Out) {
        if let Some(own) = self.networks.get_mut(network)
            && !own.in_sync
        {
            own.in_sync = true;
            own.awaiting.clear();
            Self::tell(out, Event::NetworkSynced { network: network.clone() });
        }
    }

    /// `peer` has said all it has of `networks`, or cannot.
    fn stop_awaiting(&mut self, peer: MemberId, networks: &[Text], out: &mut Out) {
        for network in networks {
            if let Some(own) = self.networks.get_mut(network)
                && own.awaiting.remove(&peer)
                && own.awaiting.is_empty()
            {
                self.end_first_sync(network, out);
            }
        }
    }

    /// Periodically: with one random peer of each network.
    pub(super) fn bulk_sync(&mut self, now: Tick, out: &mut Out) {
        let mut waiting = if self.phase == Phase::Taking { self.joined_networks() } else { Vec::new() };
        while let Some(network) = waiting.pop() {
            let Some(peer) = self.random_peer(&network) else { continue };
            let common = self.common_networks(peer);
            waiting.retain(|other| !common.contains(other));
            self.send_bulk_sync(now, peer, common, true, out);
        }
        self.arm(TimerKind::BulkSync, now + self.config.timing.bulk_sync_interval, out);
    }

    /// A member is back from a failure: gossip may have been missed on either side, so the next exchange comes early.
    pub(super) fn hurry_bulk_sync(&mut self, now: Tick, out: &mut Out) {
        if self.last_hurry.is_some_and(|last| now.since(last) < HURRY_PAUSE) {
            return;
        }
        self.last_hurry = Some(now);
        // Later than the others' return, which gossip brings within seconds, and not all nodes at once.
        let at = now + HURRY + self.part_of(HURRY);
        self.arm(TimerKind::BulkSync, at, out);
    }

    fn random_peer(&mut self, network: &Text) -> Option<MemberId> {
        let peers = &self.networks.get(network)?.peers;
        if peers.is_empty() {
            return None;
        }
        peers.get(self.rng.random_range(0..peers.len())).copied()
    }

    pub(super) fn on_bulk_sync_failed(
        &mut self,
        now: Tick,
        peer: &Text,
        networks: &[Text],
        again: bool,
        out: &mut Out,
    ) {
        let failed = self.members.find(peer);
        if let Some(id) = failed {
            self.stop_awaiting(id, networks, out);
        }
        if !again || self.phase != Phase::Taking {
            return;
        }
        let Some(network) = networks.first() else { return };
        let Some(other) = self.random_peer(network).filter(|other| Some(*other) != failed) else { return };
        let networks = self.common_networks(other);
        self.send_bulk_sync(now, other, networks, false, out);
    }

    pub(super) fn send_bulk_sync(
        &mut self,
        now: Tick,
        peer: MemberId,
        networks: Vec<Text>,
        again: bool,
        out: &mut Out,
    ) {
        let tables = self.tables(now, &networks);
        self.send_tables(peer, networks, tables, true, again, out);
    }

    fn send_tables(
        &mut self,
        peer: MemberId,
        networks: Vec<Text>,
        tables: Tables,
        unsolicited: bool,
        again: bool,
        out: &mut Out,
    ) {
        // An answer must be later than its question, else current Docker nodes wait on.
        let time = self.table_clock.increment();
        let alive = &self.members.get(peer).alive;
        let (to, peer) = (alive.address, alive.node.clone());
        let purpose = if unsolicited {
            Purpose::BulkSync { peer, networks: networks.clone(), again }
        } else {
            Purpose::BulkAnswer
        };
        let Tables { attachments, events } = tables;
        let node = self.name.clone();
        let content =
            StreamBody::BulkSync(BulkSync { time, unsolicited, node, networks, attachments, events });
        self.request(to, content, false, self.config.timing.stream_timeout, purpose, out);
    }

    fn tables(&self, now: Tick, networks: &[Text]) -> Tables {
        Tables { attachments: self.attachments_to(networks), events: self.table_events(now, networks) }
    }

    /// All entries of `networks`, deleted ones included.
    fn table_events(&self, now: Tick, networks: &[Text]) -> Arc<[Arc<TableEvent>]> {
        let networks = networks.iter().filter_map(|network| self.networks.get(network));
        let records = networks.flat_map(|own| own.records.values()).flat_map(|records| records.values());
        records
            .map(|record| match record.forget_at {
                None => record.event.clone(),
                Some(forget_at) => {
                    let left = u32::try_from(forget_at.since(now).as_secs()).unwrap_or(u32::MAX).max(1);
                    let change = TableChange::Delete;
                    Arc::new(TableEvent { change, residual_seconds: left, ..(*record.event).clone() })
                }
            })
            .collect()
    }

    /// A peer sent its tables.
    pub(super) fn on_bulk_sync(&mut self, now: Tick, sync: &BulkSync, out: &mut Out) {
        if !self.table_clock.witness(sync.time) {
            return;
        }
        for attachment in sync.attachments.iter() {
            self.on_network_event(now, attachment, false, out);
        }
        for event in sync.events.iter() {
            self.on_table_event(now, event, true, out);
        }
        let Some(peer) = self.members.find(&sync.node) else { return };
        if !sync.unsolicited {
            self.stop_awaiting(peer, &sync.networks, out);
            return;
        }
        if self.members.get(peer).standing != Standing::Active || self.phase != Phase::Taking {
            return;
        }
        let joined = |network: &&Text| self.networks.get(*network).is_some_and(OwnNetwork::is_joined);
        let networks: Vec<Text> = sync.networks.iter().filter(joined).cloned().collect();
        let tables = self.tables(now, &networks);
        self.send_tables(peer, networks, tables, false, false, out);
    }
}
