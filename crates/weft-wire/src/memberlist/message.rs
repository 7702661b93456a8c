//! The messages of membership, each with its map of fields.

use std::net::{IpAddr, SocketAddr};

use weft_types::GossipName;

use super::kind;
use super::msgpack::{Map, MapWriter};
use crate::WireError;

/// Protocol and delegate versions that a node speaks, on the wire in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Lowest protocol version.
    pub protocol_min: u8,
    /// Highest protocol version.
    pub protocol_max: u8,
    /// Protocol version in use.
    pub protocol_current: u8,
    /// Lowest version of the user messages.
    pub delegate_min: u8,
    /// Highest version of the user messages.
    pub delegate_max: u8,
    /// Version of the user messages in use.
    pub delegate_current: u8,
}

impl Versions {
    /// What every Docker node announces.
    pub const DOCKER: Self = Self {
        protocol_min: 1,
        protocol_max: 5,
        protocol_current: 2,
        delegate_min: 0,
        delegate_max: 0,
        delegate_current: 0,
    };

    /// Whether a node with these versions understands the checksum layer (memberlist: version 5).
    pub fn understands_checksum(self) -> bool {
        self.protocol_max >= 5
    }

    /// As on the wire.
    pub fn to_bytes(self) -> [u8; 6] {
        [
            self.protocol_min,
            self.protocol_max,
            self.protocol_current,
            self.delegate_min,
            self.delegate_max,
            self.delegate_current,
        ]
    }

    pub(super) fn read(map: &Map<'_>) -> Result<Self, WireError> {
        // Very old nodes send none, which memberlist takes as all zero.
        Ok(match map.bytes("Vsn")? {
            &[pmin, pmax, pcur, dmin, dmax, dcur, ..] => Self::from([pmin, pmax, pcur, dmin, dmax, dcur]),
            _ => Self::from([0; 6]),
        })
    }
}

impl From<[u8; 6]> for Versions {
    fn from(bytes: [u8; 6]) -> Self {
        let [protocol_min, protocol_max, protocol_current, delegate_min, delegate_max, delegate_current] =
            bytes;
        Self { protocol_min, protocol_max, protocol_current, delegate_min, delegate_max, delegate_current }
    }
}

/// Direct probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// Comes back in the ack.
    pub sequence: u32,
    /// Who is meant; a receiver of another name ignores the ping.
    pub node: Option<GossipName>,
    /// Where the ack shall go; the datagram's source when absent.
    pub source: Option<SocketAddr>,
    /// Who asks.
    pub source_node: Option<GossipName>,
}

/// Request to probe a third node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndirectPing {
    /// Comes back in the ack or nack.
    pub sequence: u32,
    /// Where the probed node is.
    pub target: SocketAddr,
    /// Name of the probed node.
    pub node: Option<GossipName>,
    /// Whether the asked node shall say that it got no answer.
    pub nack: bool,
    /// Where the ack shall go; the datagram's source when absent.
    pub source: Option<SocketAddr>,
    /// Who asks.
    pub source_node: Option<GossipName>,
}

/// Answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The probe's.
    pub sequence: u32,
    /// Empty with Docker.
    pub payload: Vec<u8>,
}

/// "The node you asked me to probe did not answer."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The indirect probe's.
    pub sequence: u32,
}

/// A node is suspected of being dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Incarnation of the suspected node that this is about.
    pub incarnation: u32,
    /// The suspected node.
    pub node: GossipName,
    /// Who suspects.
    pub from: GossipName,
}

/// A node is alive at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Grows when the node refutes a suspicion.
    pub incarnation: u32,
    /// The node.
    pub node: GossipName,
    /// Where its gossip endpoint is.
    pub address: SocketAddr,
    /// Empty with Docker.
    pub meta: Vec<u8>,
    /// What it speaks.
    pub versions: Versions,
}

/// A node is dead, or left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Incarnation of the node that this is about.
    pub incarnation: u32,
    /// The node.
    pub node: GossipName,
    /// Who says so; the node itself when it left.
    pub from: GossipName,
}

impl Dead {
    /// Whether the node left of its own will.
    pub fn is_leave(&self) -> bool {
        self.node == self.from
    }
}

/// One message of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is named after the documented type it holds")]
pub enum Message {
    Ping(Ping),
    IndirectPing(IndirectPing),
    Ack(Ack),
    Nack(Nack),
    Suspect(Suspect),
    Alive(Alive),
    Dead(Dead),
    /// Opaque to memberlist; with Docker a NetworkDB gossip message.
    User(Vec<u8>),
}

impl Message {
    /// Type byte and body.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ping(ping) => encode_ping(ping),
            Self::IndirectPing(ping) => encode_indirect_ping(ping),
            Self::Ack(ack) => MapWriter::new(vec![kind::ACK], 2)
                .bytes("Payload", &ack.payload)
                .uint("SeqNo", ack.sequence.into())
                .finish(),
            Self::Nack(nack) => {
                MapWriter::new(vec![kind::NACK], 1).uint("SeqNo", nack.sequence.into()).finish()
            }
            Self::Suspect(Suspect { incarnation, node, from }) => {
                encode_verdict(kind::SUSPECT, *incarnation, node, from)
            }
            Self::Dead(Dead { incarnation, node, from }) => {
                encode_verdict(kind::DEAD, *incarnation, node, from)
            }
            Self::Alive(alive) => encode_alive(alive),
            Self::User(content) => [&[kind::USER][..], content].concat(),
        }
    }

    /// Reads what [`Message::encode`] and memberlist write: one message without layers.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (&kind, body) = bytes.split_first().ok_or(WireError::Truncated("message"))?;
        match kind {
            kind::PING => decode_ping(body).map(Self::Ping),
            kind::INDIRECT_PING => decode_indirect_ping(body).map(Self::IndirectPing),
            kind::ACK => {
                let (map, _) = Map::read("ack", body)?;
                Ok(Self::Ack(Ack { sequence: map.uint("SeqNo")?, payload: map.bytes("Payload")?.to_vec() }))
            }
            kind::NACK => Ok(Self::Nack(Nack { sequence: Map::read("nack", body)?.0.uint("SeqNo")? })),
            kind::SUSPECT => {
                let (incarnation, node, from) = decode_verdict("suspect", body)?;
                Ok(Self::Suspect(Suspect { incarnation, node, from }))
            }
            kind::DEAD => {
                let (incarnation, node, from) = decode_verdict("dead", body)?;
                Ok(Self::Dead(Dead { incarnation, node, from }))
            }
            kind::ALIVE => decode_alive(body).map(Self::Alive),
            kind::USER => Ok(Self::User(body.to_vec())),
            other => Err(WireError::UnexpectedType(other)),
        }
    }
}

/// Four bytes for IPv4, sixteen for IPv6.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Go may write an IPv4 address in sixteen bytes; both forms are the same address here.
pub(super) fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::from(octets).to_canonical())
}

/// A name that must be there.
pub(super) fn name(
    map: &Map<'_>,
    message: &'static str,
    field: &'static str,
) -> Result<GossipName, WireError> {
    optional_name(map, message, field)?.ok_or(WireError::Field { message, field })
}

fn optional_name(
    map: &Map<'_>,
    message: &'static str,
    field: &'static str,
) -> Result<Option<GossipName>, WireError> {
    let text = map.text(field)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| WireError::Field { message, field })
}

fn encode_source(map: MapWriter, source: Option<SocketAddr>, node: Option<&GossipName>) -> MapWriter {
    let map = match source {
        Some(source) => map.bytes("SourceAddr", &address_bytes(source.ip())),
        None => map,
    };
    let map = match node {
        Some(node) => map.text("SourceNode", node.as_str()),
        None => map,
    };
    match source {
        Some(source) => map.uint("SourcePort", source.port().into()),
        None => map,
    }
}

fn source_fields(source: Option<SocketAddr>, node: Option<&GossipName>) -> u8 {
    2 * u8::from(source.is_some()) + u8::from(node.is_some())
}

fn decode_source(map: &Map<'_>, message: &'static str) -> Result<Option<SocketAddr>, WireError> {
    let bytes = map.bytes("SourceAddr")?;
    let port: u16 = map.uint("SourcePort")?;
    if bytes.is_empty() || port == 0 {
        return Ok(None);
    }
    let address = address_from(bytes).ok_or(WireError::Field { message, field: "SourceAddr" })?;
    Ok(Some(SocketAddr::new(address, port)))
}

fn encode_ping(ping: &Ping) -> Vec<u8> {
    let fields = 2 + source_fields(ping.source, ping.source_node.as_ref());
    let map = MapWriter::new(vec![kind::PING], fields)
        .text("Node", ping.node.as_ref().map_or("", GossipName::as_str))
        .uint("SeqNo", ping.sequence.into());
    encode_source(map, ping.source, ping.source_node.as_ref()).finish()
}

fn decode_ping(body: &[u8]) -> Result<Ping, WireError> {
    let (map, _) = Map::read("ping", body)?;
    Ok(Ping {
        sequence: map.uint("SeqNo")?,
        node: optional_name(&map, "ping", "Node")?,
        source: decode_source(&map, "ping")?,
        source_node: optional_name(&map, "ping", "SourceNode")?,
    })
}

fn encode_indirect_ping(ping: &IndirectPing) -> Vec<u8> {
    let fields = 5 + source_fields(ping.source, ping.source_node.as_ref());
    let map = MapWriter::new(vec![kind::INDIRECT_PING], fields)
        .bool("Nack", ping.nack)
        .text("Node", ping.node.as_ref().map_or("", GossipName::as_str))
        .uint("Port", ping.target.port().into())
        .uint("SeqNo", ping.sequence.into());
    encode_source(map, ping.source, ping.source_node.as_ref())
        .bytes("Target", &address_bytes(ping.target.ip()))
        .finish()
}

fn decode_indirect_ping(body: &[u8]) -> Result<IndirectPing, WireError> {
    const MESSAGE: &str = "indirect ping";
    let (map, _) = Map::read(MESSAGE, body)?;
    let target =
        address_from(map.bytes("Target")?).ok_or(WireError::Field { message: MESSAGE, field: "Target" })?;
    Ok(IndirectPing {
        sequence: map.uint("SeqNo")?,
        target: SocketAddr::new(target, map.uint("Port")?),
        node: optional_name(&map, MESSAGE, "Node")?,
        nack: map.bool("Nack")?,
        source: decode_source(&map, MESSAGE)?,
        source_node: optional_name(&map, MESSAGE, "SourceNode")?,
    })
}

fn encode_verdict(kind: u8, incarnation: u32, node: &GossipName, from: &GossipName) -> Vec<u8> {
    MapWriter::new(vec![kind], 3)
        .text("From", from.as_str())
        .uint("Incarnation", incarnation.into())
        .text("Node", node.as_str())
        .finish()
}

fn decode_verdict(message: &'static str, body: &[u8]) -> Result<(u32, GossipName, GossipName), WireError> {
    let (map, _) = Map::read(message, body)?;
    Ok((map.uint("Incarnation")?, name(&map, message, "Node")?, name(&map, message, "From")?))
}

fn encode_alive(alive: &Alive) -> Vec<u8> {
    MapWriter::new(vec![kind::ALIVE], 6)
        .bytes("Addr", &address_bytes(alive.address.ip()))
        .uint("Incarnation", alive.incarnation.into())
        .bytes("Meta", &alive.meta)
        .text("Node", alive.node.as_str())
        .uint("Port", alive.address.port().into())
        .bytes("Vsn", &alive.versions.to_bytes())
        .finish()
}

fn decode_alive(body: &[u8]) -> Result<Alive, WireError> {
    let (map, _) = Map::read("alive", body)?;
    let address =
        address_from(map.bytes("Addr")?).ok_or(WireError::Field { message: "alive", field: "Addr" })?;
    Ok(Alive {
        incarnation: map.uint("Incarnation")?,
        node: name(&map, "alive", "Node")?,
        address: SocketAddr::new(address, map.uint("Port")?),
        meta: map.bytes("Meta")?.to_vec(),
        versions: Versions::read(&map)?,
    })
}
