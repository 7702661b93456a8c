//! What the state machine asks of its driver, and what it tells.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Tick;

/// Text shared without copying: names, network ids, table names and keys.
pub type Text = Arc<str>;

/// What gossip says of the node at an address. The larger counts where several names were seen there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// No member was ever seen there, or it is forgotten.
    #[default]
    Unknown,
    /// Whoever was there is dead or said goodbye.
    Gone,
    /// Alive, or suspected and not yet given up.
    Alive,
}

/// A stream that a peer opened. Numbered by the driver, which must not use a number again while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A request that this node sends on a stream of its own. Numbered by the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Why a request got no answer. The state machine treats all alike; the distinction is for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    /// The peer could not be reached.
    #[error("cannot connect")]
    Connect,
    /// The connection broke, or closed before the whole answer came.
    #[error("connection broke")]
    Broken,
    /// The request's time ran out.
    #[error("timed out")]
    TimedOut,
}

/// An armed timer. Each arming has its own generation: one that fires late, after it was replaced, is ignored,
/// so the driver never has to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// What shall happen.
    pub kind: TimerKind,
    /// Which arming this is.
    pub generation: u64,
}

/// The purposes of timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// Judge the last probe and start the next.
    Probe,
    /// The probe's direct ping got no answer: ask others.
    ProbeTimeout,
    /// A probe made for another node got no answer.
    RelayTimeout,
    /// A suspected member did not refute.
    Suspicion,
    /// Send queued membership news.
    Gossip,
    /// Send queued table news.
    TableGossip,
    /// Exchange whole membership with one member.
    PushPull,
    /// Exchange tables with one peer of each network.
    BulkSync,
    /// Stop waiting for the answers of a network's first exchange.
    NetworkSync,
    /// Forget what is old.
    Reap,
    /// Try one failed member again.
    Reconnect,
    /// Look for the cluster.
    Join,
    /// End a stage of leaving.
    Leave,
}

/// A wish of the state machine, in the order in which it arose.
///
/// `D` is the form of a datagram and `S` that of a stream's content: encoded bytes at the [`crate::Gossip`] level,
/// messages at the [`crate::Core`] level.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect<D = Vec<u8>, S = Vec<u8>> {
    /// Send a datagram; may get lost.
    SendUdp {
        /// The receiver.
        to: SocketAddr,
        /// What to send.
        datagram: D,
    },
    /// Connect, write `content` and, if `expects_answer`, read one frame; then close. Report the outcome with
    /// `on_answer`, exactly once, at the latest after `timeout`.
    Request {
        /// For the outcome.
        id: RequestId,
        /// The receiver.
        to: SocketAddr,
        /// What to write.
        content: S,
        /// Whether the peer answers on the same stream. If not, "written" is the outcome.
        expects_answer: bool,
        /// For all of it.
        timeout: Duration,
    },
    /// Write `content` on a stream that a peer opened, and close it.
    Answer {
        /// As given to `on_stream`.
        stream: StreamId,
        /// What to write.
        content: S,
    },
    /// Call `on_timer` at `at`.
    Arm {
        /// To give back.
        timer: Timer,
        /// When.
        at: Tick,
    },
    /// Something that the node above wants to know.
    Event(Event),
}

/// A table entry of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryView {
    /// Network id.
    pub network: Text,
    /// Table name.
    pub table: Text,
    /// Key; unique per table and owner.
    pub key: Text,
    /// As the owner wrote it.
    pub value: Arc<[u8]>,
    /// Gossip name of the node that owns the entry. Only it can change it.
    pub owner: Text,
    /// Where the owner's gossip endpoint is.
    pub owner_address: SocketAddr,
}

/// News for the node above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This node found the cluster, or is the first of it.
    Joined,
    /// None of the addresses to join answered; tried again until one does.
    JoinFailed {
        /// How many were tried.
        tried: usize,
    },
    /// A member appeared or came back.
    MemberUp {
        /// Its gossip name.
        name: Text,
        /// Its gossip endpoint.
        address: SocketAddr,
    },
    /// A member failed or left.
    MemberDown {
        /// Its gossip name.
        name: Text,
        /// Its gossip endpoint.
        address: SocketAddr,
        /// Whether it said goodbye (or was replaced by a new name on its address).
        left: bool,
    },
    /// An entry is there or has another value than before.
    EntryUp(EntryView),
    /// An entry is gone: deleted, or its owner is. The value is the last one told.
    EntryDown(EntryView),
    /// The first exchange of a network's tables is over.
    NetworkSynced {
        /// Network id.
        network: Text,
    },
    /// Leaving is done; the state machine stays silent from now on.
    Left,
}
