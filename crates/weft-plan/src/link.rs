//! Network interfaces as the plan sees them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weft_types::{MacAddr, Mtu, Vni};

use crate::{SubInterface, Vlan};

/// Longest interface name the kernel takes, without the final zero (`IFNAMSIZ` is 16).
const NAME_MAX: usize = 15;

/// A valid interface name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

/// A text that the kernel would refuse as an interface name, or that could not be written into a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an interface name: want 1 to 15 characters of [A-Za-z0-9_.-], not \".\" or \"..\"")]
pub struct LinkNameError(pub String);

impl LinkName {
    /// The loopback interface.
    pub fn lo() -> Self {
        Self("lo".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name put together from parts that are known to be fine; cut to what the kernel takes.
    pub(crate) fn built(text: String) -> Self {
        debug_assert!(text.parse::<LinkName>().is_ok(), "{text}");
        Self(text)
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;
    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        let fits = (1..=NAME_MAX).contains(&text.len()) && text != "." && text != "..";
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if fits && clean { Ok(Self(text.to_owned())) } else { Err(LinkNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for LinkName {
    type Error = LinkNameError;
    fn try_from(text: String) -> Result<Self, LinkNameError> {
        text.parse()
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> String {
        name.0
    }
}

impl AsRef<str> for LinkName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Another network namespace, named by the path of its file (`/run/…/netns/x`, `/proc/7/ns/net`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamespaceRef(pub String);

impl NamespaceRef {
    /// The namespace of the daemon's own process.
    pub fn host() -> Self {
        Self("/proc/self/ns/net".to_owned())
    }

    /// The namespace whose file is at `path`.
    pub fn at(path: impl AsRef<std::path::Path>) -> Self {
        Self(path.as_ref().to_string_lossy().into_owned())
    }
}

/// One interface as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Its Ethernet address; `None` leaves it to the kernel.
    pub mac: Option<MacAddr>,
    /// Its MTU; `None` leaves it to the kernel.
    pub mtu: Option<Mtu>,
    /// The bridge it is a port of.
    pub master: Option<LinkName>,
    /// How the bridge treats it; only for ports.
    pub port: Option<BridgePort>,
    /// Whether it is administratively up.
    pub up: bool,
}

impl Link {
    /// An interface of this kind, up, with everything else left to the kernel.
    pub fn new(kind: LinkKind) -> Self {
        Self { kind, mac: None, mtu: None, master: None, port: None, up: true }
    }
}

/// The kinds of interface that Weft makes or looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkKind {
    /// `lo`: born with the namespace, never made or removed.
    Loopback,
    /// A learning bridge.
    Bridge(BridgeOptions),
    /// A VXLAN tunnel device.
    Vxlan(Vxlan),
    /// A TAP device: its frames go to the process that holds it, and nowhere while none does.
    Tap,
    /// One end of a veth pair whose other end is made with it, in another namespace. Observed ends have no peer data.
    Veth(Option<VethPeer>),
    /// The far end of such a pair: it appears when the near end is made, here it is only looked after.
    VethEnd,
    /// A VLAN of another interface here.
    Vlan(Vlan),
    /// One that shares an interface of another namespace.
    SubInterface(SubInterface),
    /// Anything else; only ever observed.
    Other(String),
}

impl LinkKind {
    /// The kernel's word for it (`IFLA_INFO_KIND`).
    pub fn name(&self) -> &str {
        match self {
            Self::Loopback => "loopback",
            Self::Bridge(_) => "bridge",
            Self::Vxlan(_) => "vxlan",
            Self::Tap => "tun",
            Self::Veth(_) | Self::VethEnd => "veth",
            Self::Vlan(_) => "vlan",
            Self::SubInterface(sub) => sub.sharing.name(),
            Self::Other(kind) => kind,
        }
    }
}

/// What is not left at the kernel's default on our bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// IGMP and MLD snooping; without a querier it only loses packets.
    pub multicast_snooping: bool,
}

/// A VXLAN device (RFC 7348) with a static forwarding table.
///
/// Fixed and therefore not fields: learning off, no ageing, UDP checksum on, no proxy, no miss notifications, no group,
/// no default remote. Without a default remote and without an all-zero FDB entry nothing is ever flooded to the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// Network identifier on the wire.
    pub vni: Vni,
    /// Source address of the outer packets: this node's data-path address.
    pub local: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// Where the outer socket lives; the device is made there and born in the namespace of the plan.
    pub underlay: NamespaceRef,
    /// What its packets come from.
    pub sources: SourcePorts,
}

/// UDP source ports of a tunnel's packets. Within them the kernel chooses by flow (RFC 7348, section 5).
///
/// They tell packets that must be encrypted from all others, so that a policy of the kernel's ESP can: it does not see
/// which network a packet is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourcePorts {
    /// Of networks in the clear. Devices of earlier versions took the host's range for clients, which ends below
    /// the other one unless somebody changed it; they count as such.
    #[default]
    Open,
    /// Of networks that the kernel encrypts: nothing else may come from these ports to the data path's.
    Encrypted,
}

impl SourcePorts {
    /// The first port of the block whose packets are encrypted. It reaches to the last port there is.
    pub const ENCRYPTED_FIRST: u16 = 0xf000;
    /// What its ports have in common.
    pub const ENCRYPTED_MASK: u16 = 0xf000;
    /// A port of it that no tunnel uses: the kernel takes the last one of a range for the first one beyond.
    pub const ENCRYPTED_SPARE: u16 = u16::MAX;
    /// Where clients' ports begin by default (`net.ipv4.ip_local_port_range`).
    const OPEN_FIRST: u16 = 32768;

    /// The range as a device gets it.
    pub fn range(self) -> (u16, u16) {
        match self {
            Self::Open => (Self::OPEN_FIRST, Self::ENCRYPTED_FIRST - 1),
            Self::Encrypted => (Self::ENCRYPTED_FIRST, Self::ENCRYPTED_SPARE),
        }
    }

    /// What a device with this range was made for.
    pub fn of(range: (u16, u16)) -> Self {
        if range == Self::Encrypted.range() { Self::Encrypted } else { Self::Open }
    }
}

/// Who encrypts a network's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionEngine {
    /// The helper process, which has them from a TAP device.
    Userspace,
    /// The kernel's own ESP, between a VXLAN device and the wire.
    Kernel,
}

impl EncryptionEngine {
    /// Its name in settings and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Userspace => "userspace",
            Self::Kernel => "kernel",
        }
    }
}

/// The other end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VethPeer {
    /// Where it is born.
    pub namespace: NamespaceRef,
    /// Its name there.
    pub name: LinkName,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Its MTU.
    pub mtu: Option<Mtu>,
    /// TCP hands over so many segments in one piece at most; none: as many as the kernel likes.
    pub gso_max_segments: Option<u32>,
    /// Another program moves it on: it does not get our mark, and nobody looks after it.
    #[serde(default)]
    pub handed_on: bool,
}

impl VethPeer {
    /// One with nothing but a name.
    pub fn plain(namespace: NamespaceRef, name: LinkName) -> Self {
        Self { namespace, name, mac: None, mtu: None, gso_max_segments: None, handed_on: false }
    }
}

/// How a bridge treats one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    /// Learn source addresses.
    pub learning: bool,
    /// Send frames for unknown unicast addresses to it.
    pub unicast_flood: bool,
    /// Send multicast to it.
    pub multicast_flood: bool,
    /// Send broadcast to it.
    pub broadcast_flood: bool,
    /// Answer ARP and neighbour solicitations for stations behind it from the bridge's own neighbour table.
    pub neigh_suppress: bool,
    /// No frames between this port and other isolated ports.
    pub isolated: bool,
    /// Frames may leave through the port they came in by.
    pub hairpin: bool,
}

impl BridgePort {
    /// A container's port: an ordinary one.
    pub const ENDPOINT: Self = Self {
        learning: true,
        unicast_flood: true,
        multicast_flood: true,
        broadcast_flood: true,
        neigh_suppress: false,
        isolated: false,
        hairpin: false,
    };
    /// A container's port on a network without inter-container communication.
    pub const ISOLATED: Self = Self { isolated: true, ..Self::ENDPOINT };
    /// A container's port where bridged packets pass the IP hooks: a connection to a port that the container itself
    /// publishes is then turned round inside the bridge.
    pub const HAIRPIN: Self = Self { hairpin: true, ..Self::ENDPOINT };
    /// Nothing leaves through it unasked, and nothing is learnt from it.
    pub const QUIET: Self = Self {
        learning: false,
        unicast_flood: false,
        multicast_flood: false,
        broadcast_flood: false,
        neigh_suppress: false,
        isolated: false,
        hairpin: false,
    };
    /// The inner end of a way for programs alone: what no program takes there goes the bridge's way.
    pub const UPLINK: Self = Self::QUIET;
    /// The tunnel's port: only what the forwarding table names leaves through it, nothing is learnt from it.
    pub const TUNNEL: Self = Self { neigh_suppress: true, ..Self::QUIET };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["lo", "docker_gwbridge", "br-0123456789ab", "eth0.1"] {
            assert!(good.parse::<LinkName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "docker_gwbridge1", "x\"", "é"] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad}");
        }
    }
}
