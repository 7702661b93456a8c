//! The desired state of one network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_types::{EndpointAddress, MacAddr};

use crate::{Ipvs, Link, LinkName, PolicyRule, Route, Table, TableId};

/// Everything Weft wants in one namespace. Several writers' wishes are put together with [`NamespaceState::merge`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceState {
    /// Interfaces by name.
    pub links: BTreeMap<LinkName, Link>,
    /// Interface addresses.
    pub addresses: BTreeSet<Address>,
    /// Routes.
    pub routes: BTreeSet<Route>,
    /// Routing rules.
    pub rules: BTreeSet<PolicyRule>,
    /// Static forwarding entries of bridges and tunnels.
    pub fdb: BTreeSet<FdbEntry>,
    /// Permanent neighbours (ARP and ND alike).
    pub neighbours: BTreeSet<Neighbour>,
    /// Settings below `/proc/sys`, slashes in the name. One the kernel does not have is passed over.
    pub sysctls: BTreeMap<String, String>,
    /// Tables of nftables, each wholly ours. Large ones are the same in many namespaces, so they are shared.
    pub tables: BTreeMap<TableId, Arc<Table>>,
    /// Virtual services of IPVS. None: those of this namespace are not Weft's business.
    pub ipvs: Option<Arc<Ipvs>>,
}

impl NamespaceState {
    /// Nothing wanted: the state to reconcile with in order to tear everything of ours down.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds the wishes of `other`; where both name one link, sysctl or table, or both want virtual
    /// services, `other` wins.
    pub fn merge(&mut self, other: NamespaceState) {
        self.links.extend(other.links);
        self.addresses.extend(other.addresses);
        self.routes.extend(other.routes);
        self.rules.extend(other.rules);
        self.fdb.extend(other.fdb);
        self.neighbours.extend(other.neighbours);
        self.sysctls.extend(other.sysctls);
        self.tables.extend(other.tables);
        self.ipvs = other.ipvs.or(self.ipvs.take());
    }

    pub(crate) fn add_table(&mut self, table: Table) {
        self.tables.insert(table.id.clone(), Arc::new(table));
    }

    pub(crate) fn set(&mut self, sysctl: impl Into<String>, value: &str) {
        self.sysctls.insert(sysctl.into(), value.to_owned());
    }
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The interface.
    pub link: LinkName,
    /// Address and prefix length.
    pub address: EndpointAddress,
}

/// A static forwarding entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The tunnel device or the bridge port that the frames leave through.
    pub link: LinkName,
    /// Their destination address.
    pub mac: MacAddr,
    /// In which of the two tables, and where to.
    pub target: FdbTarget,
}

/// The two forwarding tables a frame meets on its way out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FdbTarget {
    /// The bridge's: frames for the address leave through `link`, and the entry stays there whoever else sends from the
    /// address (`bridge fdb … master static sticky`).
    Port,
    /// The tunnel's: they are sent to this tunnel endpoint (`bridge fdb … self dst`).
    Vtep(IpAddr),
}

/// A permanent neighbour entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Neighbour {
    /// The interface.
    pub link: LinkName,
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
}
