//! Who is on which network, and what this node keeps of the networks it is on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster::Phase;
use super::member::{Attachment, ME, MemberId, Standing};
use super::tables::{EntryKey, Record};
use super::{Core, Out, Subject, TableNews};
use crate::message::{Message, NetworkEvent, NetworkPushPull};
use crate::{GossipError, Text, Tick};

/// Networks of one member beyond which more are refused: invented ones could fill memory.
const MOST_ATTACHMENTS: usize = 4096;

/// What news of an attachment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttachmentChange {
    /// It is as before, at a later time.
    Renewed,
    /// The member joined or left.
    Moved,
}

/// A network that this node is on, or was on a while ago.
#[derive(Default)]
pub(super) struct OwnNetwork {
    /// Network clock of this node's last event about it.
    pub(super) time: u64,
    /// This node left; forgotten at this time. Until then its deleted entries are remembered.
    pub(super) left_until: Option<Tick>,
    /// The first exchange is over: news is worth relaying.
    pub(super) in_sync: bool,
    /// Of the timer that ends the first exchange.
    pub(super) sync_generation: u64,
    /// Peers whose answer to the first exchange is missing.
    pub(super) awaiting: BTreeSet<MemberId>,
    /// Active members that are on it, without this node.
    pub(super) peers: Vec<MemberId>,
    /// Entries by owner.
    pub(super) records: BTreeMap<MemberId, BTreeMap<EntryKey, Record>>,
    /// News of this node's entries.
    pub(super) own_news: TableNews,
    /// News of others' entries; goes where there is room.
    pub(super) relayed_news: TableNews,
}

impl OwnNetwork {
    pub(super) fn is_joined(&self) -> bool {
        self.left_until.is_none()
    }

    pub(super) fn queued_news(&self) -> usize {
        self.own_news.len() + self.relayed_news.len()
    }
}

impl Core {
    /// Take part in a network; see [`crate::Gossip::join_network`].
    pub fn join_network(&mut self, now: Tick, network: &str, out: &mut Out) -> Result<(), GossipError> {
        if self.phase != Phase::Taking {
            return Err(GossipError::Leaving);
        }
        if self.networks.get(network).is_some_and(OwnNetwork::is_joined) {
            return Ok(());
        }
        let name: Text = network.into();
        let peers: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(id, m)| *id != ME && m.standing == Standing::Active && m.is_on(network))
            .map(|(id, _)| id)
            .collect();
        let own = self.networks.entry(name.clone()).or_default();
        own.left_until = None;
        own.in_sync = false;
        own.peers = peers;
        own.time = self.network_clock.increment();
        if self.search.found() {
            self.queue_own_network(&name, false);
            self.first_sync(now, &name, out);
        }
        self.wake(now, out);
        Ok(())
    }

    /// Leave a network; see [`crate::Gossip::leave_network`].
    pub fn leave_network(&mut self, now: Tick, network: &str, out: &mut Out) -> Result<(), GossipError> {
        let time = self.network_clock.time() + 1;
        let timing = &self.config.timing;
        let until = now + timing.entry_lifetime + timing.network_grace;
        let Some((name, own)) =
            self.networks.iter_mut().find(|(name, own)| ***name == *network && own.is_joined())
        else {
            return Err(GossipError::NotOnNetwork(network.to_owned()));
        };
        let name = name.clone();
        self.network_clock.increment();
        own.time = time;
        own.left_until = Some(until);
        own.in_sync = false;
        own.awaiting.clear();
        own.peers.clear();
        own.own_news.clear();
        own.relayed_news.clear();
        let owners: Vec<MemberId> = own.records.keys().copied().filter(|id| *id != ME).collect();
        for owner in owners {
            self.drop_records(&name, owner, out);
        }
        self.bury_own_records(now, &name);
        if self.search.found() {
            self.queue_own_network(&name, true);
        }
        self.wake(now, out);
        Ok(())
    }

    /// The networks that this node is on.
    pub fn joined_networks(&self) -> Vec<Text> {
        self.networks.iter().filter(|(_, own)| own.is_joined()).map(|(name, _)| name.clone()).collect()
    }

    /// The networks that this node and `peer` are on.
    pub(super) fn common_networks(&self, peer: MemberId) -> Vec<Text> {
        let on = |own: &OwnNetwork| own.is_joined() && own.peers.contains(&peer);
        self.networks.iter().filter(|(_, own)| on(own)).map(|(name, _)| name.clone()).collect()
    }

    /// Gives this node's attachments a new time.
    pub(super) fn restamp_networks(&mut self) {
        let time = self.network_clock.increment();
        for own in self.networks.values_mut().filter(|own| own.is_joined()) {
            own.time = time;
        }
    }

    /// Tells everybody what this node is on, and peers what it has.
    pub(super) fn announce_networks(&mut self, now: Tick, out: &mut Out) {
        self.restamp_networks();
        for network in self.joined_networks() {
            self.queue_own_network(&network, false);
            self.queue_own_entries(&network);
        }
        self.wake(now, out);
    }

    fn queue_own_network(&mut self, network: &Text, leave: bool) {
        let Some(own) = self.networks.get(network) else { return };
        let event = NetworkEvent { leave, time: own.time, node: self.name.clone(), network: network.clone() };
        self.queue_network_event(event);
    }

    fn queue_network_event(&mut self, event: NetworkEvent) {
        let subject = Subject::Network(event.node.clone(), event.network.clone());
        let message = Message::Network(event);
        let len = super::spread::encoded_len(&message);
        self.event_news.push(subject, Arc::new(message), len);
    }

    /// Attachments of this node and of all others, for an exchange of whole membership.
    pub(super) fn attachments(&self) -> NetworkPushPull {
        let mut attachments = Vec::new();
        for (network, own) in &self.networks {
            attachments.push(NetworkEvent {
                leave: !own.is_joined(),
                time: own.time,
                node: self.name.clone(),
                network: network.clone(),
            });
        }
        for (_, member) in self.members.iter() {
            attachments.extend(member.attachments.iter().map(|attachment| NetworkEvent {
                leave: attachment.left_until.is_some(),
                time: attachment.time,
                node: member.alive.node.clone(),
                network: attachment.network.clone(),
            }));
        }
        NetworkPushPull { time: self.network_clock.time(), node: self.name.clone(), attachments }
    }

    /// Who is, or was, on `networks`.
    pub(super) fn attachments_to(&self, networks: &[Text]) -> Arc<[NetworkEvent]> {
        let mut events = Vec::new();
        for network in networks {
            if let Some(own) = self.networks.get(network) {
                let (leave, time) = (!own.is_joined(), own.time);
                events.push(NetworkEvent { leave, time, node: self.name.clone(), network: network.clone() });
            }
            for (_, member) in self.members.iter() {
                let attachment = member.attachments.iter().find(|attachment| attachment.network == *network);
                events.extend(attachment.map(|attachment| NetworkEvent {
                    leave: attachment.left_until.is_some(),
                    time: attachment.time,
                    node: member.alive.node.clone(),
                    network: network.clone(),
                }));
            }
        }
        events.into()
    }

    /// A member joined or left a network, by its own word.
    ///
    /// It is passed on if it says more than that all is as before; what comes in this node's first exchange is not,
    /// since then everything is new here and known elsewhere.
    pub(super) fn on_network_event(
        &mut self,
        now: Tick,
        event: &NetworkEvent,
        gossiped: bool,
        out: &mut Out,
    ) {
        if !self.network_clock.witness(event.time) {
            return;
        }
        let Some(id) = self.members.find(&event.node) else { return };
        if id == ME {
            self.on_own_network_echo(event);
            return;
        }
        if self.members.get(id).standing == Standing::Left {
            return;
        }
        let Some(change) = self.store_attachment(now, id, event) else { return };
        if change == AttachmentChange::Moved && (gossiped || self.search.found()) {
            self.queue_network_event(event.clone());
        }
        if event.leave {
            self.remove_peer(id, &event.network);
            self.drop_records(&event.network, id, out);
        } else {
            self.add_peer(now, id, &event.network, out);
        }
    }

    /// Keeps what `event` says, if it says anything new.
    fn store_attachment(
        &mut self,
        now: Tick,
        id: MemberId,
        event: &NetworkEvent,
    ) -> Option<AttachmentChange> {
        let timing = &self.config.timing;
        let left_until = event.leave.then(|| now + timing.entry_lifetime + timing.network_grace);
        let member = self.members.get_mut(id);
        let full = member.attachments.len() >= MOST_ATTACHMENTS;
        match member.attachment(&event.network) {
            Some(known) if known.time >= event.time => None,
            Some(known) => {
                known.time = event.time;
                let before = std::mem::replace(&mut known.left_until, left_until);
                let same = before.is_some() == event.leave;
                Some(if same { AttachmentChange::Renewed } else { AttachmentChange::Moved })
            }
            None if event.leave || full => None,
            None => {
                let network = event.network.clone();
                member.attachments.push(Attachment { network, time: event.time, left_until });
                Some(AttachmentChange::Moved)
            }
        }
    }

    /// Others say of this node what is not so (any more): say it anew, later than they did.
    fn on_own_network_echo(&mut self, event: &NetworkEvent) {
        if self.phase != Phase::Taking {
            return;
        }
        let joined = match self.networks.get_mut(&event.network) {
            Some(own) if event.time < own.time => return,
            Some(own) if event.time == own.time && event.leave != own.is_joined() => return,
            Some(own) => {
                own.time = self.network_clock.increment();
                own.is_joined()
            }
            None if event.leave => return,
            None => {
                let time = self.network_clock.increment();
                let left = NetworkEvent { leave: true, time, ..event.clone() };
                self.queue_network_event(left);
                return;
            }
        };
        self.queue_own_network(&event.network, !joined);
    }

    fn add_peer(&mut self, now: Tick, id: MemberId, network: &Text, out: &mut Out) {
        if self.members.get(id).standing != Standing::Active {
            return;
        }
        let Some(own) = self.networks.get_mut(network).filter(|own| own.is_joined()) else { return };
        if own.peers.contains(&id) {
            return;
        }
        own.peers.push(id);
        self.greet(now, id, network, out);
    }

    fn remove_peer(&mut self, id: MemberId, network: &Text) {
        if let Some(own) = self.networks.get_mut(network) {
            own.peers.retain(|peer| *peer != id);
            own.awaiting.remove(&id);
        }
    }

    /// A member became active: its networks count, its entries show.
    pub(super) fn show_member(&mut self, now: Tick, id: MemberId, out: &mut Out) {
        let on: Vec<Text> = self
            .members
            .get(id)
            .attachments
            .iter()
            .filter(|attachment| attachment.left_until.is_none())
            .map(|attachment| attachment.network.clone())
            .collect();
        for network in on {
            self.add_peer(now, id, &network, out);
            self.refresh_entries(&network, id, out);
        }
    }

    /// A member failed: it is no peer, its entries are hidden.
    pub(super) fn hide_member(&mut self, id: MemberId, out: &mut Out) {
        let networks: Vec<Text> = self.networks.keys().cloned().collect();
        for network in networks {
            self.remove_peer(id, &network);
            self.refresh_entries(&network, id, out);
        }
    }

    /// A member left: nothing of it remains.
    pub(super) fn drop_member(&mut self, id: MemberId, out: &mut Out) {
        self.members.get_mut(id).attachments.clear();
        let networks: Vec<Text> = self.networks.keys().cloned().collect();
        for network in networks {
            self.remove_peer(id, &network);
            self.drop_records(&network, id, out);
        }
    }
}
