//! What a namespace holds now, and whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_types::MacAddr;

use crate::{Address, FdbEntry, Ipvs, Link, LinkName, PolicyRule, Route, Table, TableId};

/// Whose object it is, by its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// Carries Weft's mark.
    Weft,
    /// Anyone else's, the kernel's included.
    Foreign,
}

/// An interface that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLink {
    /// What it is like. MAC and MTU are always known here.
    pub link: Link,
    /// Whose it is.
    pub owner: Owner,
}

/// The state of a namespace as read from the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Interfaces.
    pub links: BTreeMap<LinkName, SeenLink>,
    /// Addresses.
    pub addresses: BTreeMap<Address, Owner>,
    /// Routes of all tables but `local`.
    pub routes: BTreeMap<Route, Owner>,
    /// Routing rules by packet mark.
    pub rules: BTreeMap<PolicyRule, Owner>,
    /// Static entries on Weft's links; learnt ones are left out.
    pub fdb: BTreeSet<FdbEntry>,
    /// Neighbours.
    pub neighbours: BTreeMap<(LinkName, IpAddr), SeenNeighbour>,
    /// Those asked for that exist.
    pub sysctls: BTreeMap<String, String>,
    /// Weft's tables only.
    pub tables: BTreeMap<TableId, Arc<Table>>,
    /// Virtual services by mark; none where nobody asked, or the kernel has no IPVS.
    pub ipvs: Ipvs,
}

/// A neighbour entry that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenNeighbour {
    /// Its Ethernet address, if resolved.
    pub mac: Option<MacAddr>,
    /// Never ages.
    pub permanent: bool,
    /// Whose it is.
    pub owner: Owner,
}
