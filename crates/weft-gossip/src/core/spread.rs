//! Gossip: a few receivers per round, as much news as a packet holds.

use std::sync::Arc;

use weft_wire::memberlist::{
    COMPOUND_OVERHEAD, COMPOUND_OVERHEAD_PER_MESSAGE, ENCRYPTION_OVERHEAD, MAX_COMPOUND_MESSAGES,
};

use super::member::{ME, MemberId, pick};
use super::news_queue::Room;
use super::{Core, Out};
use crate::message::{Message, NetworkEvent, Packet, TableChange, TableEvent};
use crate::{Effect, Text, Tick, TimerKind};

/// News that arises together goes together.
const GATHER: std::time::Duration = std::time::Duration::from_millis(10);
/// User type, envelope and compound around table events: 1 + 2 + (1 + 3), rounded up.
const TABLES_OVERHEAD: usize = 8;
/// A part of a compound within NetworkDB: tag and length, twice.
const TABLE_EVENT_OVERHEAD: usize = 8;
/// Packets of own entries that greet a new peer; the rest goes by gossip and by exchange of tables.
const GREETING_PACKETS: usize = 4;

/// The most bytes that `message` takes in a datagram. Cheaper than encoding, never too small (see the test).
pub(super) fn encoded_len(message: &Message) -> usize {
    // MessagePack: type, map, and for each field name, length prefixes and numbers at their longest.
    const PROBE: usize = 90;
    const VERDICT: usize = 48;
    const ALIVE: usize = 90;
    // Protobuf: user type, envelope, kind, time, and prefixes.
    const EVENT: usize = 32;
    match message {
        Message::Ping(ping) => PROBE + text_len(&ping.node) + text_len(&ping.source_node),
        Message::IndirectPing(ping) => PROBE + 50 + text_len(&ping.node) + text_len(&ping.source_node),
        Message::Ack(_) | Message::Nack(_) => 24,
        Message::Suspect(verdict) | Message::Dead(verdict) => {
            VERDICT + verdict.node.len() + verdict.from.len()
        }
        Message::Alive(alive) => ALIVE + alive.node.len() + alive.meta.len(),
        Message::Node(event) => EVENT + event.node.len(),
        Message::Network(event) => EVENT + event.node.len() + event.network.len(),
        Message::Tables(events) => {
            let events = events.iter().map(|event| event_len(event) + TABLE_EVENT_OVERHEAD);
            TABLES_OVERHEAD + events.sum::<usize>()
        }
    }
}

fn text_len(text: &Option<Text>) -> usize {
    text.as_ref().map_or(0, |text| text.len())
}

/// The most bytes that `event` takes within a compound of NetworkDB, without its part's overhead.
pub(super) fn event_len(event: &TableEvent) -> usize {
    // Envelope, kind, time, remaining time, and prefixes of five texts and the value.
    const FIXED: usize = 48;
    FIXED + event.owner.len() + event.network.len() + event.table.len() + event.key.len() + event.value.len()
}

impl Core {
    fn room(&self) -> Room {
        let overhead = ENCRYPTION_OVERHEAD + COMPOUND_OVERHEAD;
        Room { bytes: self.config.packet_limit.saturating_sub(overhead), messages: MAX_COMPOUND_MESSAGES }
    }

    /// Largest entry that gossip can carry.
    pub(super) fn largest_event(&self) -> usize {
        let overhead = COMPOUND_OVERHEAD_PER_MESSAGE + TABLES_OVERHEAD + TABLE_EVENT_OVERHEAD;
        self.room().bytes.saturating_sub(overhead)
    }

    /// How often each piece of news is sent among `nodes`.
    fn sends(&self, nodes: usize) -> usize {
        let rounds = ((nodes + 1) as f64).log10().ceil() as usize;
        self.config.timing.retransmit_multiplier as usize * rounds.max(1)
    }

    /// Sends a message of the failure detector, with news in the room that is left.
    pub(super) fn send_with_news(&mut self, to: std::net::SocketAddr, message: Message, out: &mut Out) {
        let mut room = self.room();
        room.bytes = room.bytes.saturating_sub(encoded_len(&message) + COMPOUND_OVERHEAD_PER_MESSAGE);
        room.messages -= 1;
        let mut datagram: Packet = vec![Arc::new(message)];
        self.add_news(&mut datagram, &mut room);
        out.push(Effect::SendUdp { to, datagram });
    }

    fn add_news(&mut self, datagram: &mut Packet, room: &mut Room) {
        if self.member_news.is_empty() && self.event_news.is_empty() {
            return;
        }
        let limit = self.sends(self.members.size());
        // Membership first: receivers drop news of nodes that they do not know.
        self.member_news.take(room, COMPOUND_OVERHEAD_PER_MESSAGE, limit, |news| datagram.push(news));
        self.event_news.take(room, COMPOUND_OVERHEAD_PER_MESSAGE, limit, |news| datagram.push(news));
    }

    pub(super) fn wake_gossip(&mut self, now: Tick, out: &mut Out) {
        if self.member_news.is_empty() && self.event_news.is_empty()
            || self.is_armed(TimerKind::Gossip)
            || !self.members.has_audience()
        {
            return;
        }
        let at = self.next_round(now, self.last_gossip);
        self.arm(TimerKind::Gossip, at, out);
    }

    fn next_round(&self, now: Tick, last: Option<Tick>) -> Tick {
        let soon = now + GATHER;
        last.map_or(soon, |last| soon.max(last + self.config.timing.gossip_interval))
    }

    /// A round of membership and NetworkDB events.
    pub(super) fn gossip(&mut self, now: Tick, out: &mut Out) {
        self.last_gossip = Some(now);
        let timing = &self.config.timing;
        let (fading, fanout) = (timing.gossip_to_dead, timing.gossip_fanout);
        for to in self.members.audience(now, fading, fanout, &mut self.rng) {
            let mut datagram = Packet::new();
            let mut room = self.room();
            self.add_news(&mut datagram, &mut room);
            if datagram.is_empty() {
                break;
            }
            out.push(Effect::SendUdp { to, datagram });
        }
        self.check_leaving(now, out);
    }

    pub(super) fn wake_table_gossip(&mut self, now: Tick, out: &mut Out) {
        if self.is_armed(TimerKind::TableGossip)
            || !self.networks.values().any(|own| own.queued_news() > 0 && !own.peers.is_empty())
        {
            return;
        }
        let at = self.next_round(now, self.last_table_gossip);
        self.arm(TimerKind::TableGossip, at, out);
    }

    /// A round of table events, for each network among its peers.
    pub(super) fn gossip_tables(&mut self, now: Tick, out: &mut Out) {
        self.last_table_gossip = Some(now);
        for network in self.joined_networks() {
            self.gossip_network(&network, out);
        }
    }

    fn gossip_network(&mut self, network: &Text, out: &mut Out) {
        let mut room = self.room();
        room.bytes = room.bytes.saturating_sub(COMPOUND_OVERHEAD_PER_MESSAGE + TABLES_OVERHEAD);
        let Some(peers) = self.networks.get(network).map(|own| own.peers.len()) else { return };
        if peers == 0 {
            return;
        }
        let limit = self.sends(peers + 1);
        let fanout = self.config.timing.gossip_fanout;
        let Some(own) = self.networks.get_mut(network) else { return };
        let mut events = Vec::new();
        own.own_news.take(&mut room, TABLE_EVENT_OVERHEAD, limit, |event| events.push(event));
        own.relayed_news.take(&mut room, TABLE_EVENT_OVERHEAD, limit, |event| events.push(event));
        if events.is_empty() {
            return;
        }
        let message = Arc::new(Message::Tables(events));
        for at in pick(peers, fanout, &mut self.rng) {
            let to = self.members.get(own.peers[at]).alive.address;
            out.push(Effect::SendUdp { to, datagram: vec![message.clone()] });
        }
    }

    /// Tells a new peer of a network what this node has there, with all that the peer must know to accept it.
    ///
    /// Not in NetworkDB, where such a peer waits for the next exchange of tables if it missed the event.
    pub(super) fn greet(&mut self, _now: Tick, peer: MemberId, network: &Text, out: &mut Out) {
        let Some(own) = self.networks.get(network) else { return };
        let Some(records) = own.records.get(&ME) else { return };
        let to = self.members.get(peer).alive.address;
        let presence = [
            Message::Alive(self.members.get(ME).alive.clone()),
            Message::Network(NetworkEvent {
                leave: false,
                time: own.time,
                node: self.name.clone(),
                network: network.clone(),
            }),
        ];
        let largest = self.largest_event();
        let presence_len: usize =
            presence.iter().map(|m| encoded_len(m) + COMPOUND_OVERHEAD_PER_MESSAGE).sum();
        let mut packets: Vec<Vec<Arc<TableEvent>>> = vec![Vec::new()];
        let mut left = largest.saturating_sub(presence_len);
        for record in records.values().filter(|record| record.event.change != TableChange::Delete) {
            let len = event_len(&record.event) + TABLE_EVENT_OVERHEAD;
            if len > left {
                packets.push(Vec::new());
                left = largest;
            }
            left = left.saturating_sub(len);
            if let Some(packet) = packets.last_mut() {
                packet.push(record.event.clone());
            }
        }
        if packets.iter().all(Vec::is_empty) {
            return;
        }
        let mut datagram: Packet = presence.into_iter().map(Arc::new).collect();
        for events in packets.into_iter().take(GREETING_PACKETS) {
            if !events.is_empty() {
                datagram.push(Arc::new(Message::Tables(events)));
            }
            out.push(Effect::SendUdp { to, datagram: std::mem::take(&mut datagram) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{encode_message, encode_table_event};
    use crate::message::{Alive, IndirectPing, NodeEvent, Ping, Verdict};
    use weft_wire::memberlist::Versions;

    /// The worst of everything: longest numbers, IPv6, long names.
    #[test]
    fn estimated_lengths_are_never_too_small() {
        let name: Text = "n".repeat(255).into();
        let address = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let event = TableEvent {
            change: TableChange::Delete,
            time: u64::MAX,
            owner: name.clone(),
            network: name.clone(),
            table: name.clone(),
            key: name.clone(),
            value: [7; 1000].as_slice().into(),
            residual_seconds: 1 << 30,
        };
        assert!(encode_table_event(&event).encode().len() <= event_len(&event));
        let incarnation = u32::MAX;
        let verdict = Verdict { incarnation, node: name.clone(), from: name.clone() };
        let sequence = u32::MAX;
        let (node, source, source_node) = (Some(name.clone()), Some(address), Some(name.clone()));
        let ping = Ping { sequence, node: node.clone(), source, source_node: source_node.clone() };
        let indirect = IndirectPing { sequence, target: address, node, nack: true, source, source_node };
        let meta = [7; 255].as_slice().into();
        let versions = Versions::DOCKER;
        let messages = [
            Message::Ping(ping),
            Message::IndirectPing(indirect),
            Message::Ack(sequence),
            Message::Nack(sequence),
            Message::Suspect(verdict.clone()),
            Message::Dead(verdict),
            Message::Alive(Alive { incarnation, node: name.clone(), address, meta, versions }),
            Message::Node(NodeEvent { leave: true, time: u64::MAX, node: name.clone() }),
            Message::Network(NetworkEvent { leave: true, time: u64::MAX, node: name.clone(), network: name }),
            Message::Tables(vec![Arc::new(event.clone()), Arc::new(event)]),
        ];
        for message in messages {
            let len = encode_message(&message).unwrap().len();
            let estimate = encoded_len(&message);
            assert!(len <= estimate, "{len} > {estimate}: {message:?}");
        }
    }
}
