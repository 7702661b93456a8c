//! What the daemon and the helper tell each other: JSON in frames of a length and so many bytes.
//!
//! The daemon sends its whole wish with a generation, and on the same connection then what changes; the helper keeps the
//! newest. An equal or older one changes nothing, so a daemon that starts anew first learns the helper's generation and
//! counts on from there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weft_kv::{Lease, Location};
use weft_plan::{Balancer, EncryptionEngine, LinkName, NamespaceRef, NamespaceState};
use weft_types::{MacAddr, Vni};

use crate::encryption::{EncryptionReport, EncryptionScheme};
use crate::etc::Upstream;
use crate::helper::delta::HelperDelta;
use crate::peers::{GossipKey, GossipValue};
use crate::resolver::NetworkNames;
use crate::swarm::{GossipWord, SwarmKey};

/// Changes with every change of the messages. What all versions understand: the first message of a helper, and
/// [`ToHelper::HandOver`] with its answer, as far as their fields go. Before 10 nothing was handed over.
pub(crate) const VERSION: u32 = 10;
/// Name of the socket in the helper's folder; short, because paths of sockets are limited to 107 bytes.
pub(crate) const SOCKET: &str = "sock";
/// Tells a helper that is being started to take over from the present one.
pub(crate) const TAKE_OVER: &str = "--take-over";
/// No message is longer.
const FRAME_MAX: u32 = 256 << 20;

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHelper {
    /// The whole wish: the first message of a connection.
    State(Box<HelperState>),
    /// What changed since the last one on the same connection.
    Change(Box<HelperDelta>),
    /// Somebody doubts that the node at this address lives: look after it, and say what gossip knows of it.
    Doubt { number: u64, address: IpAddr },
    /// From a helper that takes this one's place: give it everything that is open, and end without goodbye.
    HandOver,
    /// Leave the cluster and end.
    Stop,
}

/// From the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromHelper {
    /// The first message.
    Hello {
        version: u32,
        /// Of the wish it follows; 0 for none.
        generation: u64,
        /// Which program it runs; none before version 10.
        #[serde(default)]
        program: Option<Program>,
    },
    /// What the successor gets. Behind this message come the sockets, in the order of the list.
    HandedOver(Box<HandedOver>),
    /// It follows this wish now.
    Applied {
        generation: u64,
        /// UDP and TCP port of each sandbox's resolver.
        resolvers: BTreeMap<String, (u16, u16)>,
    },
    /// What gossip knows of a node that was doubted.
    Word { number: u64, word: GossipWord },
    /// What it repaired in the kernel while no daemon was there. Behind the first [`ToHelper::State`] of a connection.
    Repaired(Repairs),
    /// How encrypted paths stand; every other second while there are any.
    Encryption(EncryptionReport),
    /// The name of this node in gossip.
    GossipName(String),
    /// All that gossip knows.
    GossipAll { entries: Vec<(GossipKey, GossipValue)>, members: BTreeMap<String, IpAddr> },
    /// All that gossip knows of one network, after the exchange that follows joining it, and who is there.
    GossipNetwork {
        network: String,
        entries: Vec<(GossipKey, GossipValue)>,
        members: BTreeMap<String, IpAddr>,
    },
    /// An entry is there or changed.
    EntryUp(GossipKey, GossipValue),
    /// An entry is gone.
    EntryDown(GossipKey),
    /// A member is there.
    MemberUp(String, IpAddr),
    /// A member is gone.
    MemberDown(String),
}

/// What was put right in the kernel and no daemon was told of yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repairs {
    /// Operations, by kind of object.
    pub(crate) repairs: BTreeMap<String, u64>,
    /// Operations that the kernel refused.
    pub(crate) failures: u64,
}

/// A program's file. Another build of a program is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    device: u64,
    inode: u64,
    len: u64,
    /// Last change, in nanoseconds since 1970.
    changed: i128,
}

impl Program {
    /// The one that this process runs, also if another one has its name by now.
    pub(crate) fn own() -> io::Result<Self> {
        let found = std::fs::metadata("/proc/self/exe")?;
        let changed = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        Ok(Self { device: found.dev(), inode: found.ino(), len: found.len(), changed })
    }
}

/// What one helper leaves to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandedOver {
    /// Of the messages; a wish of another version is left to the daemon to tell anew.
    pub(crate) version: u32,
    /// The last [`HelperState`].
    pub(crate) wish: serde_json::Value,
    /// What no daemon was told of yet; not said by helpers of earlier builds.
    #[serde(default)]
    pub(crate) repaired: Repairs,
    /// What the sockets behind this message are.
    pub(crate) sockets: Vec<HandedSocket>,
}

/// A socket that is handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HandedSocket {
    /// UDP of a sandbox's resolver.
    ResolverUdp(String),
    /// The TCP listener of a sandbox's resolver.
    ResolverTcp(String),
    /// UDP of gossip at this address.
    GossipUdp(SocketAddr),
    /// The TCP listener of gossip at this address.
    GossipTcp(SocketAddr),
}

/// All that the helper shall do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HelperState {
    pub(crate) generation: u64,
    pub(crate) sandboxes: Vec<ResolverWish>,
    pub(crate) networks: Vec<NetworkNames>,
    pub(crate) gossip: Option<GossipWish>,
    /// None: no encrypted network is here.
    pub(crate) encryption: Option<EncryptionWish>,
    /// None: this host says nothing in a key-value store.
    pub(crate) lease: Option<LeaseWish>,
    /// Every namespace with what it shall hold, in the order in which they are made.
    pub(crate) audit: Vec<(NamespaceRef, NamespaceState)>,
    /// What some of them hold beside that: services reached by virtual IP, which are the same for many.
    pub(crate) balance: Vec<BalancedPlaces>,
}

/// What this host's keys in a key-value store are under: kept here while no daemon does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseWish {
    /// The store.
    pub store: Location,
    /// The lease.
    pub lease: Lease,
    /// Between two renewals.
    pub heartbeat: Duration,
}

/// This node's part in encrypted networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EncryptionWish {
    pub(crate) engine: EncryptionEngine,
    /// Data-path address.
    pub(crate) address: IpAddr,
    /// UDP port of ESP.
    pub(crate) port: u16,
    /// UDP port of VXLAN, inside.
    pub(crate) vxlan_port: u16,
    /// Threads of the engine in user space, in each direction; a helper that an older daemon drives has one.
    #[serde(default)]
    pub(crate) queues: usize,
    /// Keys of the `networking:ipsec` subsystem.
    pub(crate) keys: Vec<SwarmKey>,
    /// Data-path addresses of the nodes on these networks.
    pub(crate) peers: BTreeMap<IpAddr, EncryptionScheme>,
    pub(crate) segments: Vec<EncryptedSegment>,
}

/// One identifier of an encrypted network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EncryptedSegment {
    pub(crate) vni: Vni,
    /// The network's namespace.
    pub(crate) netns: PathBuf,
    /// The device in it.
    pub(crate) device: LinkName,
    /// Stations on other nodes.
    pub(crate) stations: Vec<(MacAddr, IpAddr)>,
}

/// Services, and the namespaces that reach them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BalancedPlaces {
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) places: Vec<NamespaceRef>,
}

impl BalancedPlaces {
    pub(crate) fn differs_in_services_only(&self, other: &Self) -> bool {
        let (own, theirs) = (&self.balancer, &other.balancer);
        self.places == other.places
            && (own.engine, own.sockets, &own.tracked) == (theirs.engine, theirs.sockets, &theirs.tracked)
    }
}

impl HelperState {
    /// Every namespace with all that it shall hold.
    pub(crate) fn wishes(&self) -> Vec<(NamespaceRef, NamespaceState)> {
        let mut wishes = self.audit.clone();
        for balanced in &self.balance {
            let plan = balanced.balancer.plan();
            for (_, state) in wishes.iter_mut().filter(|(place, _)| balanced.places.contains(place)) {
                state.merge(plan.clone());
            }
        }
        wishes
    }
}

/// One container's resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResolverWish {
    /// The sandbox.
    pub(crate) id: String,
    /// Its namespace's file.
    pub(crate) netns: PathBuf,
    /// The ports it had, if any; the redirect inside leads there.
    pub(crate) ports: Option<(u16, u16)>,
    /// Ids of its networks, in the order of asking.
    pub(crate) networks: Vec<String>,
    /// Names that only it has.
    pub(crate) private: Vec<(String, Vec<IpAddr>)>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) ndots_set: bool,
    pub(crate) isolated: bool,
    /// The stack that the container belongs to: names of the same stack come first.
    pub(crate) stack: Option<String>,
}

/// This node in gossip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GossipWish {
    pub(crate) advertise: SocketAddr,
    pub(crate) keys: Vec<SwarmKey>,
    pub(crate) join: Vec<SocketAddr>,
    pub(crate) networks: Vec<String>,
    pub(crate) entries: Vec<OwnEntry>,
    /// Whose entries count, by the managers' word; everyone's if absent.
    pub(crate) owners: Option<Vec<IpAddr>>,
}

/// An entry of this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct OwnEntry {
    pub(crate) network: String,
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

/// Writes one message.
pub(crate) async fn send<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= FRAME_MAX);
    let len = len.ok_or_else(|| io::Error::other("message too long"))?;
    to.write_all(&len.to_be_bytes()).await?;
    to.write_all(&bytes).await?;
    to.flush().await
}

/// Reads one message.
pub(crate) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let len = from.read_u32().await?;
    if len > FRAME_MAX {
        return Err(io::Error::other("message too long"));
    }
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}
