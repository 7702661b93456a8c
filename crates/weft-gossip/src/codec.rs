//! Bytes of the messages.

use rand::RngCore;
use std::sync::Arc;
use weft_types::GossipName;
use weft_wire::WireError;
use weft_wire::memberlist::{self as wire, DatagramLayers, GossipKey, Keyring, KeyringChange, StreamMessage};
use weft_wire::networkdb::{self as db, GossipMessage};

use crate::message::{
    Alive, BulkSync, IndirectPing, MemberState, Message, NetworkEvent, NetworkPushPull, NodeEvent, Packet,
    Ping, PushPull, StreamBody, TableChange, TableEvent, Verdict,
};
use crate::{GossipError, Text};

/// First byte of every frame on a stream: memberlist's type "encrypted".
const FRAME_KIND: u8 = 10;
/// Type and length of a frame.
const FRAME_HEADER: usize = 5;

/// How many bytes the frame that starts with `received` has in all; `None` until its header is there.
///
/// A driver reads until it has that many. An error means that the stream should be closed.
pub fn frame_len(received: &[u8]) -> Result<Option<usize>, WireError> {
    if let Some(&first) = received.first()
        && first != FRAME_KIND
    {
        return Err(WireError::NotEncrypted(first));
    }
    let Some(header) = received.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
    let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if len > wire::MAX_STREAM_CONTENT {
        return Err(WireError::TooLarge { what: "stream", limit: wire::MAX_STREAM_CONTENT });
    }
    Ok(Some(FRAME_HEADER + len))
}

/// Encrypts, decrypts and translates with the installed keys.
pub struct Codec {
    keyring: Keyring,
}

impl Codec {
    /// A codec with these keys, in any order.
    pub fn new(keys: impl IntoIterator<Item = GossipKey>) -> Result<Self, GossipError> {
        Ok(Self { keyring: Keyring::new(keys)? })
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub(crate) fn set_keys(
        &mut self,
        keys: impl IntoIterator<Item = GossipKey>,
    ) -> Result<KeyringChange, GossipError> {
        Ok(self.keyring.update(keys)?)
    }

    /// Bytes of a datagram.
    pub fn seal_datagram(&self, packet: &Packet, nonces: &mut dyn RngCore) -> Result<Vec<u8>, WireError> {
        let messages: Vec<Vec<u8>> =
            packet.iter().map(|message| encode_message(message)).collect::<Result<_, _>>()?;
        // No checksum (the seal is one) and no compression: both are optional for receivers.
        wire::encode_datagram(&messages, DatagramLayers::default(), &self.keyring, nonce(nonces))
    }

    /// Messages of a datagram. What cannot be read of it is left out.
    pub fn open_datagram(&self, datagram: &[u8]) -> Result<Packet, WireError> {
        let datagram = wire::decode_datagram(datagram, &self.keyring)?;
        for error in &datagram.refused {
            tracing::debug!(%error, "part of a datagram refused");
        }
        Ok(read_packet(datagram.messages))
    }

    /// Bytes of a frame.
    pub fn seal_stream(&self, body: &StreamBody, nonces: &mut dyn RngCore) -> Result<Vec<u8>, WireError> {
        wire::encode_stream(&encode_body(body)?, &self.keyring, nonce(nonces))
    }

    /// Content of a whole frame.
    pub fn open_stream(&self, frame: &[u8]) -> Result<StreamBody, WireError> {
        Ok(read_body(wire::decode_stream(frame, &self.keyring)?))
    }
}

fn nonce(nonces: &mut dyn RngCore) -> wire::Nonce {
    let mut nonce = wire::Nonce::default();
    nonces.fill_bytes(&mut nonce);
    nonce
}

fn name(text: &Text) -> Result<GossipName, WireError> {
    text.parse().map_err(|_| WireError::Field { message: "message", field: "name" })
}

fn optional_name(text: Option<&Text>) -> Result<Option<GossipName>, WireError> {
    text.map(name).transpose()
}

fn text(name: &GossipName) -> Text {
    name.as_str().into()
}

/// Type byte and body of one message, as its cost in a datagram is counted.
pub(crate) fn encode_message(message: &Message) -> Result<Vec<u8>, WireError> {
    Ok(match message {
        Message::Ping(ping) => wire::Message::Ping(encode_ping(ping)?),
        Message::IndirectPing(ping) => wire::Message::IndirectPing(wire::IndirectPing {
            sequence: ping.sequence,
            target: ping.target,
            node: optional_name(ping.node.as_ref())?,
            nack: ping.nack,
            source: ping.source,
            source_node: optional_name(ping.source_node.as_ref())?,
        }),
        Message::Ack(sequence) => wire::Message::Ack(wire::Ack { sequence: *sequence, payload: Vec::new() }),
        Message::Nack(sequence) => wire::Message::Nack(wire::Nack { sequence: *sequence }),
        Message::Suspect(Verdict { incarnation, node, from }) => wire::Message::Suspect(wire::Suspect {
            incarnation: *incarnation,
            node: name(node)?,
            from: name(from)?,
        }),
        Message::Dead(Verdict { incarnation, node, from }) => wire::Message::Dead(wire::Dead {
            incarnation: *incarnation,
            node: name(node)?,
            from: name(from)?,
        }),
        Message::Alive(alive) => wire::Message::Alive(wire::Alive {
            incarnation: alive.incarnation,
            node: name(&alive.node)?,
            address: alive.address,
            meta: alive.meta.to_vec(),
            versions: alive.versions,
        }),
        Message::Node(event) => wire::Message::User(encode_node_event(event).encode()),
        Message::Network(event) => wire::Message::User(encode_network_event(event).encode()),
        Message::Tables(events) => wire::Message::User(encode_events(events).encode()),
    }
    .encode())
}

fn encode_ping(ping: &Ping) -> Result<wire::Ping, WireError> {
    Ok(wire::Ping {
        sequence: ping.sequence,
        node: optional_name(ping.node.as_ref())?,
        source: ping.source,
        source_node: optional_name(ping.source_node.as_ref())?,
    })
}

fn encode_node_event(event: &NodeEvent) -> GossipMessage {
    let kind = if event.leave { db::node_event::Type::Leave } else { db::node_event::Type::Join };
    GossipMessage::Node(db::NodeEvent {
        r#type: kind.into(),
        l_time: event.time,
        node_name: event.node.as_ref().into(),
    })
}

fn encode_network_event(event: &NetworkEvent) -> GossipMessage {
    let kind = if event.leave { db::network_event::Type::Leave } else { db::network_event::Type::Join };
    GossipMessage::Network(db::NetworkEvent {
        r#type: kind.into(),
        l_time: event.time,
        node_name: event.node.as_ref().into(),
        network_id: event.network.as_ref().into(),
    })
}

fn encode_events(events: &[Arc<TableEvent>]) -> GossipMessage {
    GossipMessage::Compound(events.iter().map(|event| encode_table_event(event).encode()).collect())
}

/// One entry's change in its envelope.
pub(crate) fn encode_table_event(event: &TableEvent) -> GossipMessage {
    let kind = match event.change {
        TableChange::Create => db::table_event::Type::Create,
        TableChange::Update => db::table_event::Type::Update,
        TableChange::Delete => db::table_event::Type::Delete,
    };
    GossipMessage::Table(db::TableEvent {
        r#type: kind.into(),
        l_time: event.time,
        node_name: event.owner.as_ref().into(),
        network_id: event.network.as_ref().into(),
        table_name: event.table.as_ref().into(),
        key: event.key.as_ref().into(),
        value: event.value.to_vec(),
        residual_reap_time: i32::try_from(event.residual_seconds).unwrap_or(i32::MAX),
    })
}

fn encode_body(body: &StreamBody) -> Result<StreamMessage, WireError> {
    Ok(match body {
        StreamBody::PushPull(exchange) => StreamMessage::PushPull(encode_push_pull(exchange)?),
        StreamBody::BulkSync(sync) => StreamMessage::User(encode_bulk_sync(sync).encode()),
        StreamBody::User(packet) => {
            let parts = packet.iter().filter_map(|message| match message.as_ref() {
                Message::Node(event) => Some(encode_node_event(event)),
                Message::Network(event) => Some(encode_network_event(event)),
                Message::Tables(events) => Some(encode_events(events)),
                _ => None,
            });
            StreamMessage::User(GossipMessage::compound(&parts.collect::<Vec<_>>()).encode())
        }
        StreamBody::Ping(ping) => StreamMessage::Ping(encode_ping(ping)?),
        StreamBody::Ack(sequence) => {
            StreamMessage::Ack(wire::Ack { sequence: *sequence, payload: Vec::new() })
        }
        StreamBody::Error(text) => StreamMessage::Error(text.clone()),
    })
}

/// Docker's nodes put table events only into the payload, but read any NetworkDB message there.
fn encode_bulk_sync(sync: &BulkSync) -> GossipMessage {
    let attachments = sync.attachments.iter().map(|event| encode_network_event(event).encode());
    let events = sync.events.iter().map(|event| encode_table_event(event).encode());
    GossipMessage::BulkSync(db::BulkSyncMessage {
        l_time: sync.time,
        unsolicited: sync.unsolicited,
        node_name: sync.node.as_ref().into(),
        networks: sync.networks.iter().map(|network| network.as_ref().into()).collect(),
        payload: GossipMessage::Compound(attachments.chain(events).collect()).encode(),
    })
}

fn encode_push_pull(exchange: &PushPull) -> Result<wire::PushPull, WireError> {
    let nodes = exchange.members.iter().map(|member| {
        Ok(wire::PushNodeState {
            name: name(&member.alive.node)?,
            address: member.alive.address,
            meta: member.alive.meta.to_vec(),
            incarnation: member.alive.incarnation,
            state: member.state,
            versions: member.alive.versions,
        })
    });
    let user_state = exchange.networks.as_ref().map(|networks| {
        let entries = networks.attachments.iter().map(|event| db::NetworkEntry {
            network_id: event.network.as_ref().into(),
            l_time: event.time,
            node_name: event.node.as_ref().into(),
            leaving: event.leave,
        });
        GossipMessage::PushPull(db::NetworkPushPull {
            l_time: networks.time,
            networks: entries.collect(),
            node_name: networks.node.as_ref().into(),
        })
        .encode()
    });
    Ok(wire::PushPull {
        join: exchange.join,
        nodes: nodes.collect::<Result<_, _>>()?,
        user_state: user_state.unwrap_or_default(),
    })
}

fn read_packet(messages: Vec<wire::Message>) -> Packet {
    let mut packet = Packet::with_capacity(messages.len());
    for message in messages {
        match message {
            wire::Message::User(content) => read_user(&content, &mut packet),
            other => packet.extend(read_message(other).map(Arc::new)),
        }
    }
    packet
}

fn read_message(message: wire::Message) -> Option<Message> {
    Some(match message {
        wire::Message::Ping(ping) => Message::Ping(read_ping(ping)),
        wire::Message::IndirectPing(ping) => Message::IndirectPing(IndirectPing {
            sequence: ping.sequence,
            target: ping.target,
            node: ping.node.as_ref().map(text),
            nack: ping.nack,
            source: ping.source,
            source_node: ping.source_node.as_ref().map(text),
        }),
        wire::Message::Ack(ack) => Message::Ack(ack.sequence),
        wire::Message::Nack(nack) => Message::Nack(nack.sequence),
        wire::Message::Suspect(wire::Suspect { incarnation, node, from }) => {
            Message::Suspect(Verdict { incarnation, node: text(&node), from: text(&from) })
        }
        wire::Message::Dead(wire::Dead { incarnation, node, from }) => {
            Message::Dead(Verdict { incarnation, node: text(&node), from: text(&from) })
        }
        wire::Message::Alive(alive) => Message::Alive(Alive {
            incarnation: alive.incarnation,
            node: text(&alive.node),
            address: alive.address,
            meta: alive.meta.into(),
            versions: alive.versions,
        }),
        wire::Message::User(_) => return None,
    })
}

fn read_ping(ping: wire::Ping) -> Ping {
    Ping {
        sequence: ping.sequence,
        node: ping.node.as_ref().map(text),
        source: ping.source,
        source_node: ping.source_node.as_ref().map(text),
    }
}

/// Reads NetworkDB messages that fit into a datagram; consecutive table events stay together.
fn read_user(content: &[u8], packet: &mut Packet) {
    let unfolded = GossipMessage::decode_all(content);
    for error in &unfolded.refused {
        tracing::debug!(%error, "NetworkDB message refused");
    }
    read_events(unfolded.messages, packet);
}

fn read_events(messages: Vec<GossipMessage>, packet: &mut Packet) {
    let mut tables = Vec::new();
    for message in messages {
        match message {
            GossipMessage::Table(event) => tables.extend(read_table_event(event).map(Arc::new)),
            GossipMessage::Node(event) => packet.extend(read_node_event(&event).map(Arc::new)),
            GossipMessage::Network(event) => {
                packet.extend(read_network_event(&event).map(|event| Arc::new(Message::Network(event))))
            }
            GossipMessage::PushPull(_) | GossipMessage::BulkSync(_) | GossipMessage::Compound(_) => {}
        }
    }
    if !tables.is_empty() {
        packet.push(Arc::new(Message::Tables(tables)));
    }
}

fn read_node_event(event: &db::NodeEvent) -> Option<Message> {
    let leave = match db::node_event::Type::try_from(event.r#type).ok()? {
        db::node_event::Type::Join => false,
        db::node_event::Type::Leave => true,
        db::node_event::Type::Invalid => return None,
    };
    Some(Message::Node(NodeEvent { leave, time: event.l_time, node: event.node_name.as_str().into() }))
}

fn read_network_event(event: &db::NetworkEvent) -> Option<NetworkEvent> {
    let leave = match db::network_event::Type::try_from(event.r#type).ok()? {
        db::network_event::Type::Join => false,
        db::network_event::Type::Leave => true,
        db::network_event::Type::Invalid => return None,
    };
    Some(NetworkEvent {
        leave,
        time: event.l_time,
        node: event.node_name.as_str().into(),
        network: event.network_id.as_str().into(),
    })
}

fn read_table_event(event: db::TableEvent) -> Option<TableEvent> {
    let change = match db::table_event::Type::try_from(event.r#type).ok()? {
        db::table_event::Type::Create => TableChange::Create,
        db::table_event::Type::Update => TableChange::Update,
        db::table_event::Type::Delete => TableChange::Delete,
        db::table_event::Type::Invalid => return None,
    };
    Some(TableEvent {
        change,
        time: event.l_time,
        owner: event.node_name.into(),
        network: event.network_id.into(),
        table: event.table_name.into(),
        key: event.key.into(),
        value: event.value.into(),
        residual_seconds: u32::try_from(event.residual_reap_time).unwrap_or(0),
    })
}

fn read_body(message: StreamMessage) -> StreamBody {
    match message {
        StreamMessage::PushPull(exchange) => StreamBody::PushPull(read_push_pull(exchange)),
        StreamMessage::User(content) => match GossipMessage::decode(&content) {
            Ok(GossipMessage::BulkSync(sync)) => StreamBody::BulkSync(read_bulk_sync(sync)),
            _ => {
                let mut packet = Packet::new();
                read_user(&content, &mut packet);
                StreamBody::User(packet)
            }
        },
        StreamMessage::Ping(ping) => StreamBody::Ping(read_ping(ping)),
        StreamMessage::Ack(ack) => StreamBody::Ack(ack.sequence),
        StreamMessage::Error(text) => StreamBody::Error(text),
    }
}

fn read_bulk_sync(sync: db::BulkSyncMessage) -> BulkSync {
    let (mut attachments, mut events) = (Vec::new(), Vec::new());
    for message in GossipMessage::decode_all(&sync.payload).messages {
        match message {
            GossipMessage::Table(event) => events.extend(read_table_event(event).map(Arc::new)),
            GossipMessage::Network(event) => attachments.extend(read_network_event(&event)),
            _ => {}
        }
    }
    BulkSync {
        time: sync.l_time,
        unsolicited: sync.unsolicited,
        node: sync.node_name.into(),
        networks: sync.networks.into_iter().map(Text::from).collect(),
        attachments: attachments.into(),
        events: events.into(),
    }
}

fn read_push_pull(exchange: wire::PushPull) -> PushPull {
    let members = exchange.nodes.into_iter().map(|node| MemberState {
        state: node.state,
        alive: Alive {
            incarnation: node.incarnation,
            node: text(&node.name),
            address: node.address,
            meta: node.meta.into(),
            versions: node.versions,
        },
    });
    let networks = match GossipMessage::decode(&exchange.user_state) {
        Ok(GossipMessage::PushPull(networks)) => Some(NetworkPushPull {
            time: networks.l_time,
            node: networks.node_name.into(),
            attachments: networks
                .networks
                .into_iter()
                .map(|entry| NetworkEvent {
                    leave: entry.leaving,
                    time: entry.l_time,
                    node: entry.node_name.into(),
                    network: entry.network_id.into(),
                })
                .collect(),
        }),
        _ => None,
    };
    PushPull { join: exchange.join, members: members.collect(), networks }
}
