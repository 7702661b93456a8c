//! A table with its chains, sets and counters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{NftRule, NftSet};
use crate::LinkName;

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames of one device.
    Netdev,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Netdev => "netdev",
        })
    }
}

impl std::str::FromStr for Family {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "inet" => Ok(Self::Inet),
            "ip" => Ok(Self::Ip),
            "ip6" => Ok(Self::Ip6),
            "netdev" => Ok(Self::Netdev),
            _ => Err(()),
        }
    }
}

/// What names a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableId {
    /// Its family.
    pub family: Family,
    /// Its name; ours begin with [`crate::mark::TABLE_PREFIX`].
    pub name: String,
}

impl TableId {
    /// A table of ours.
    pub fn new(family: Family, name: &str) -> Self {
        Self { family, name: format!("{}{name}", crate::mark::TABLE_PREFIX) }
    }

    /// Whether the rules in it are the user's: such a table is made if it is missing, and otherwise left alone.
    pub fn is_users(&self) -> bool {
        self.name == crate::mark::USER_TABLE
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl From<TableId> for String {
    fn from(id: TableId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for TableId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (family, name) = text.split_once(' ').ok_or_else(|| format!("{text:?} is not `family name`"))?;
        let family = family.parse().map_err(|()| format!("{family:?} is no family of nftables"))?;
        Ok(Self { family, name: name.to_owned() })
    }
}

/// A table, owned as a whole: it is replaced in one transaction when its rules change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub id: TableId,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, NftSet>,
    /// Named counters.
    pub counters: BTreeSet<String>,
}

impl Table {
    /// An empty table.
    pub fn new(id: TableId) -> Self {
        Self { id, chains: BTreeMap::new(), sets: BTreeMap::new(), counters: BTreeSet::new() }
    }

    /// Whether both are the same, as far as a listing shows.
    pub fn is_like(&self, other: &Self) -> bool {
        self.same_shape(other)
            && self.sets.iter().all(|(name, set)| other.sets[name].elements == set.elements)
    }

    /// Whether both have the same chains, rules and counters and sets of the same types; elements aside.
    pub(crate) fn same_shape(&self, other: &Self) -> bool {
        self.id == other.id
            && self.counters == other.counters
            && same_keys_and(&self.chains, &other.chains, Chain::same)
            && same_keys_and(&self.sets, &other.sets, NftSet::same_shape)
    }
}

fn same_keys_and<T>(a: &BTreeMap<String, T>, b: &BTreeMap<String, T>, same: impl Fn(&T, &T) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((ka, va), (kb, vb))| ka == kb && same(va, vb))
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Where the kernel calls it; none for one that other chains jump to.
    pub hook: Option<Hook>,
    /// Its rules in order.
    pub rules: Vec<NftRule>,
}

impl Chain {
    fn same(&self, other: &Self) -> bool {
        let hooks = match (&self.hook, &other.hook) {
            (Some(a), Some(b)) => a.same(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        hooks
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(a, b)| a.is(b))
    }
}

/// What a hooked chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookKind {
    /// Decides.
    Filter,
    /// Translates addresses, through connection tracking.
    Nat,
    /// Marks, and routes anew.
    Route,
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        })
    }
}

/// Where the kernel calls a chain. The policy is always `accept`: our tables only refuse what they name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Type of the chain.
    pub kind: HookKind,
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress` or `egress`.
    pub hook: String,
    /// Place among the chains of the hook, least first.
    pub priority: i32,
    /// The device, for the netdev family. Listings of some versions leave it out.
    pub device: Option<LinkName>,
}

impl Hook {
    /// A hook of the ip, ip6 and inet families.
    pub fn new(kind: HookKind, hook: &str, priority: i32) -> Self {
        Self { kind, hook: hook.to_owned(), priority, device: None }
    }

    fn same(&self, other: &Self) -> bool {
        let devices = match (&self.device, &other.device) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.kind == other.kind && self.hook == other.hook && self.priority == other.priority && devices
    }
}
