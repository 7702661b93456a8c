//! Messages as the state machine sees them: names shared instead of copied, NetworkDB's envelopes taken apart.
//!
//! The codec turns them into bytes and back; the simulation hands them over as they are.

use std::net::SocketAddr;
use std::sync::Arc;

use weft_wire::memberlist::{NodeStateKind, Versions};

use crate::Text;

/// The messages of one datagram, in order.
pub type Packet = Vec<Arc<Message>>;

/// A message that fits into a datagram.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Direct probe.
    Ping(Ping),
    /// Request to probe a third node.
    IndirectPing(IndirectPing),
    /// Answer to the probe of this sequence number.
    Ack(u32),
    /// "The node you asked me to probe did not answer."
    Nack(u32),
    /// A member is suspected.
    Suspect(Verdict),
    /// A member is alive at an address.
    Alive(Alive),
    /// A member is dead, or left.
    Dead(Verdict),
    /// A member came or leaves, in NetworkDB's terms.
    Node(NodeEvent),
    /// A member joined or left a network.
    Network(NetworkEvent),
    /// Table entries changed.
    Tables(Vec<Arc<TableEvent>>),
}

/// Direct probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// Comes back in the ack.
    pub sequence: u32,
    /// Who is meant.
    pub node: Option<Text>,
    /// Where the ack shall go; the datagram's source when absent.
    pub source: Option<SocketAddr>,
    /// Who asks.
    pub source_node: Option<Text>,
}

/// Request to probe a third node.
#[derive(Debug, Clone, PartialEq)]
pub struct IndirectPing {
    /// Comes back in the ack or nack.
    pub sequence: u32,
    /// Where the probed node is.
    pub target: SocketAddr,
    /// Name of the probed node.
    pub node: Option<Text>,
    /// Whether silence shall be reported.
    pub nack: bool,
    /// Where the ack shall go; the datagram's source when absent.
    pub source: Option<SocketAddr>,
    /// Who asks.
    pub source_node: Option<Text>,
}

/// What someone says about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Incarnation of the member that this is about.
    pub incarnation: u32,
    /// The member.
    pub node: Text,
    /// Who says so.
    pub from: Text,
}

/// A member is alive at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Grows when the member refutes.
    pub incarnation: u32,
    /// The member.
    pub node: Text,
    /// Its gossip endpoint.
    pub address: SocketAddr,
    /// Empty with Docker.
    pub meta: Arc<[u8]>,
    /// What it speaks.
    pub versions: Versions,
}

/// A member came or leaves, in NetworkDB's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    /// Left rather than came.
    pub leave: bool,
    /// Network clock of the member.
    pub time: u64,
    /// The member.
    pub node: Text,
}

/// A member joined or left a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkEvent {
    /// Left rather than joined.
    pub leave: bool,
    /// Network clock of the member.
    pub time: u64,
    /// The member.
    pub node: Text,
    /// Network id.
    pub network: Text,
}

/// How a table entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// It is new.
    Create,
    /// It has a new value.
    Update,
    /// It is gone.
    Delete,
}

/// A table entry changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEvent {
    /// How.
    pub change: TableChange,
    /// Table clock of the owner.
    pub time: u64,
    /// The member that owns the entry.
    pub owner: Text,
    /// Network id.
    pub network: Text,
    /// Table name.
    pub table: Text,
    /// Key.
    pub key: Text,
    /// The value; of a deleted entry the last one.
    pub value: Arc<[u8]>,
    /// Of a deleted entry: seconds until it is forgotten.
    pub residual_seconds: u32,
}

/// The content of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamBody {
    /// Exchange of whole membership.
    PushPull(PushPull),
    /// Exchange of tables.
    BulkSync(BulkSync),
    /// Other NetworkDB messages; nobody sends them on streams, everyone takes them.
    User(Packet),
    /// Probe.
    Ping(Ping),
    /// Answer to a probe.
    Ack(u32),
    /// The peer's complaint.
    Error(String),
}

/// One member in a push/pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// The sender's view.
    pub state: NodeStateKind,
    /// The rest, in the form of an alive message.
    pub alive: Alive,
}

/// Whole membership, and who is on which network.
#[derive(Debug, Clone, PartialEq)]
pub struct PushPull {
    /// Whether the sender looks for the cluster.
    pub join: bool,
    /// All members that the sender knows, itself included.
    pub members: Vec<MemberState>,
    /// NetworkDB's part.
    pub networks: Option<NetworkPushPull>,
}

/// Who is on which network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPushPull {
    /// Network clock of the sender.
    pub time: u64,
    /// The sender.
    pub node: Text,
    /// Attachments of the sender and of others.
    pub attachments: Vec<NetworkEvent>,
}

/// All entries of some networks.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkSync {
    /// Table clock of the sender.
    pub time: u64,
    /// Whether the sender wants an answer.
    pub unsolicited: bool,
    /// The sender.
    pub node: Text,
    /// Network ids.
    pub networks: Vec<Text>,
    /// Who is on these networks: entries of members that the receiver does not know to be there are refused.
    pub attachments: Arc<[NetworkEvent]>,
    /// Entries, shared by the exchanges with several peers.
    pub events: Arc<[Arc<TableEvent>]>,
}
