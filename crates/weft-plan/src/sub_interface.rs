//! Interfaces that share another one: VLANs, macvlan, ipvlan.

use serde::{Deserialize, Serialize};

use crate::{LinkName, NamespaceRef};

/// A VLAN of another interface of the same namespace (IEEE 802.1Q).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// The interface that carries it.
    pub parent: LinkName,
    /// Its number, 1 to 4094.
    pub id: u16,
}

/// An interface that shares one of another namespace with others of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubInterface {
    /// The shared interface. Not known of observed ones.
    pub parent: Option<LinkName>,
    /// Where that one is.
    pub underlay: NamespaceRef,
    /// How they share it.
    pub sharing: Sharing,
}

/// How several interfaces share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// Each has an Ethernet address of its own.
    Macvlan(MacvlanMode),
    /// All have the parent's Ethernet address and differ by IP address.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

impl Sharing {
    /// The driver's and the kernel's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(..) => "ipvlan",
        }
    }

    /// Whether packets go to a router by its Ethernet address, or the parent's namespace routes them.
    pub fn has_neighbours(self) -> bool {
        !matches!(self, Self::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3S, _))
    }
}

/// Who may talk to whom on one parent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    /// All to each other, within the kernel.
    #[default]
    Bridge,
    /// None to another.
    Private,
    /// By way of the switch outside, if that sends back (IEEE 802.1Qbg).
    Vepa,
    /// One has the parent alone.
    Passthru,
}

impl MacvlanMode {
    /// Docker's word, as in `-o macvlan_mode`.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "" | "bridge" => Self::Bridge,
            "private" => Self::Private,
            "vepa" => Self::Vepa,
            "passthru" => Self::Passthru,
            _ => return None,
        })
    }
}

/// Where packets of an ipvlan are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    /// With Ethernet frames: broadcasts reach all.
    #[default]
    L2,
    /// By routing in the parent's namespace; no broadcasts.
    L3,
    /// The same, through that namespace's packet filter.
    L3S,
}

impl IpvlanMode {
    /// Docker's word, as in `-o ipvlan_mode`.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "" | "l2" => Self::L2,
            "l3" => Self::L3,
            "l3s" => Self::L3S,
            _ => return None,
        })
    }
}

/// Who may talk to whom on one parent of ipvlans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanFlag {
    /// All to each other.
    #[default]
    Bridge,
    /// None to another.
    Private,
    /// By way of the switch outside.
    Vepa,
}

impl IpvlanFlag {
    /// Docker's word, as in `-o ipvlan_flag`.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "" | "bridge" => Self::Bridge,
            "private" => Self::Private,
            "vepa" => Self::Vepa,
            _ => return None,
        })
    }
}
