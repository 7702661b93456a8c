//! The envelope of NetworkDB's messages.

use prost::Message as _;

use super::proto::{self, MessageType, compound_message::SimpleMessage};
use super::{BulkSyncMessage, NetworkEvent, NetworkPushPull, NodeEvent, TableEvent};
use crate::WireError;

/// Docker nests two deep: a bulk sync's payload is a compound of events.
const MAX_DEPTH: usize = 4;

/// One message of NetworkDB.
#[derive(Debug, Clone, PartialEq)]
pub enum GossipMessage {
    /// A node came or left.
    Node(NodeEvent),
    /// A node joined or left a network.
    Network(NetworkEvent),
    /// A table entry changed.
    Table(TableEvent),
    /// Who is on which network; rides in memberlist's push/pull.
    PushPull(NetworkPushPull),
    /// All entries of some networks; its payload is an encoded compound.
    BulkSync(BulkSyncMessage),
    /// Encoded messages.
    Compound(Vec<Vec<u8>>),
}

/// The messages of an envelope with its compounds taken apart.
#[derive(Debug, Default)]
pub struct Unfolded {
    /// What could be read, in order; never a compound.
    pub messages: Vec<GossipMessage>,
    /// Why other parts were not read.
    pub refused: Vec<WireError>,
}

impl GossipMessage {
    /// A compound of `messages`.
    pub fn compound<'a>(messages: impl IntoIterator<Item = &'a GossipMessage>) -> Self {
        Self::Compound(messages.into_iter().map(GossipMessage::encode).collect())
    }

    /// As memberlist carries it in a user message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, data) = match self {
            Self::Node(event) => (MessageType::NodeEvent, event.encode_to_vec()),
            Self::Network(event) => (MessageType::NetworkEvent, event.encode_to_vec()),
            Self::Table(event) => (MessageType::TableEvent, event.encode_to_vec()),
            Self::PushPull(exchange) => (MessageType::PushPull, exchange.encode_to_vec()),
            Self::BulkSync(sync) => (MessageType::BulkSync, sync.encode_to_vec()),
            Self::Compound(parts) => {
                let messages = parts.iter().map(|part| SimpleMessage { payload: part.clone() }).collect();
                (MessageType::Compound, proto::CompoundMessage { messages }.encode_to_vec())
            }
        };
        proto::GossipMessage { r#type: kind.into(), data }.encode_to_vec()
    }

    /// Reads one envelope; compounds stay folded.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let envelope: proto::GossipMessage = decode("NetworkDB message", bytes)?;
        let data = envelope.data.as_slice();
        match MessageType::try_from(envelope.r#type) {
            Ok(MessageType::NodeEvent) => decode("node event", data).map(Self::Node),
            Ok(MessageType::NetworkEvent) => decode("network event", data).map(Self::Network),
            Ok(MessageType::TableEvent) => decode("table event", data).map(Self::Table),
            Ok(MessageType::PushPull) => decode("network push/pull", data).map(Self::PushPull),
            Ok(MessageType::BulkSync) => decode("bulk sync", data).map(Self::BulkSync),
            Ok(MessageType::Compound) => {
                let compound: proto::CompoundMessage = decode("compound", data)?;
                Ok(Self::Compound(compound.messages.into_iter().map(|part| part.payload).collect()))
            }
            Ok(MessageType::Invalid) | Err(_) => {
                Err(WireError::Field { message: "NetworkDB message", field: "type" })
            }
        }
    }

    /// Reads one envelope and takes its compounds apart.
    pub fn decode_all(bytes: &[u8]) -> Unfolded {
        let mut out = Unfolded::default();
        unfold(bytes, 0, &mut out);
        out
    }
}

fn unfold(bytes: &[u8], depth: usize, out: &mut Unfolded) {
    match GossipMessage::decode(bytes) {
        Ok(GossipMessage::Compound(_)) if depth >= MAX_DEPTH => {
            out.refused.push(WireError::TooDeep("NetworkDB compound"));
        }
        Ok(GossipMessage::Compound(parts)) => {
            for part in parts {
                unfold(&part, depth + 1, out);
            }
        }
        Ok(message) => out.messages.push(message),
        Err(error) => out.refused.push(error),
    }
}

fn decode<M: prost::Message + Default>(message: &'static str, bytes: &[u8]) -> Result<M, WireError> {
    M::decode(bytes).map_err(|source| WireError::Protobuf { message, source })
}
