//! What this host is to write into the store, by what it has and what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_kv::Leased;
use weft_network::LocalSwarmEndpoint;
use weft_types::{NetworkId, TaskId};

use crate::document::{Document as _, EndpointRecord, Holder, keys};
use crate::outlook::Outlook;

/// What this host has.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// As it is registered.
    pub node: &'a str,
    /// Where it receives VXLAN.
    pub vtep: IpAddr,
    /// Endpoints of its containers.
    pub endpoints: &'a [LocalSwarmEndpoint],
    /// Claims of containers that are about to join or leave: neither missing nor too many.
    pub pending: &'a BTreeSet<TaskId>,
}

/// What is to be written so that the store says of this host what is so. Empty most of the time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duties {
    /// Networks that containers are on and the store does not have.
    pub networks: BTreeSet<NetworkId>,
    /// Addresses that containers have and the store does not know of.
    pub missing: BTreeMap<NetworkId, BTreeMap<TaskId, Vec<IpAddr>>>,
    /// Claims that no container here has.
    pub excess: BTreeMap<NetworkId, BTreeSet<TaskId>>,
}

impl Duties {
    /// By what the store held last.
    pub fn of(own: Own<'_>, outlook: &Outlook) -> Self {
        let mut duties = Self::default();
        for endpoint in own.endpoints {
            if outlook.networks().is_none_or(|book| book.get(&endpoint.network).is_none()) {
                duties.networks.insert(endpoint.network.clone());
            }
            let holder = own.holder(&endpoint.attachment);
            let addresses = own.addresses(endpoint);
            let book = outlook.addresses(&endpoint.network);
            let held: BTreeSet<IpAddr> = book
                .into_iter()
                .flat_map(|book| book.held())
                .filter(|(_, other)| **other == holder)
                .map(|(ip, _)| ip)
                .collect();
            if !own.pending.contains(&endpoint.attachment) && !addresses.iter().all(|ip| held.contains(ip)) {
                let of_network = duties.missing.entry(endpoint.network.clone()).or_default();
                of_network.insert(endpoint.attachment.clone(), addresses);
            }
        }
        let has =
            |attachment: &TaskId| own.endpoints.iter().any(|endpoint| endpoint.attachment == *attachment);
        for (network, book) in outlook.books() {
            let mine = book
                .held()
                .filter(|(_, holder)| holder.node == own.node)
                .map(|(_, holder)| &holder.attachment);
            let excess: BTreeSet<TaskId> =
                mine.filter(|task| !has(task) && !own.pending.contains(*task)).cloned().collect();
            if !excess.is_empty() {
                duties.excess.insert(network.clone(), excess);
            }
        }
        duties
    }

    /// Networks of which something is to be written, with the addresses there.
    pub fn books(&self) -> BTreeSet<NetworkId> {
        self.missing.keys().chain(self.excess.keys()).cloned().collect()
    }
}

impl Own<'_> {
    /// The claim of one of its containers.
    pub fn holder(&self, attachment: &TaskId) -> Holder {
        Holder { node: self.node.to_owned(), attachment: attachment.clone() }
    }

    /// Its endpoints, as they stand under its lease.
    pub fn records(&self) -> Leased {
        let entry = |endpoint: &LocalSwarmEndpoint| {
            let key = keys::endpoint(&endpoint.network, &endpoint.id);
            (key, EndpointRecord::of(endpoint, self.node, self.vtep).encode())
        };
        self.endpoints.iter().map(entry).collect()
    }

    fn addresses(&self, endpoint: &LocalSwarmEndpoint) -> Vec<IpAddr> {
        endpoint.address.iter().chain(&endpoint.address6).map(|address| address.ip()).collect()
    }
}
