//! What the store says is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_types::Vni;

use crate::Claim;

/// A snapshot of all claims. It must include those of earlier allocations in the same transaction.
pub trait Taken {
    /// Subnets in use, none overlapping another, with the id of the network that holds each.
    fn subnets(&self) -> Vec<(IpNet, String)>;
    /// Whether a network holds this identifier.
    fn is_vni_taken(&self, vni: Vni) -> bool;
    /// The largest identifier in use.
    fn highest_vni(&self) -> Option<Vni>;
    /// Whether this address of the network is held.
    fn is_address_taken(&self, network: &str, address: IpAddr) -> bool;
    /// All held addresses of the network.
    fn addresses(&self, network: &str) -> Vec<IpAddr>;
    /// Whether a service holds this port of the swarm.
    fn is_port_taken(&self, protocol: i32, port: u16) -> bool;
    /// Subnets that nodes have addresses in or routes to outside of the swarm. Networks without a subnet of their
    /// own do not get one that overlaps these; a subnet that the user wants is given all the same.
    fn subnets_of_nodes(&self) -> Vec<IpNet> {
        Vec::new()
    }
}

/// Claims kept in memory, for callers whose store has no index of its own, and for what a transaction has
/// claimed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    subnets: BTreeMap<IpNet, String>,
    vnis: BTreeSet<Vni>,
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    ports: BTreeSet<(i32, u16)>,
    of_nodes: Vec<IpNet>,
}

impl InUse {
    /// Adds `claim`, held by network `holder` if it is a subnet. False if it was taken.
    pub fn insert(&mut self, claim: Claim, holder: &str) -> bool {
        match claim {
            Claim::Subnet(subnet) => self.subnets.insert(subnet, holder.to_owned()).is_none(),
            Claim::Vni(vni) => self.vnis.insert(vni),
            Claim::Address { network, address } => self.addresses.entry(network).or_default().insert(address),
            Claim::Port { protocol, port } => self.ports.insert((protocol, port)),
        }
    }

    /// Adds a subnet that a node uses outside of the swarm.
    pub fn insert_subnet_of_node(&mut self, subnet: IpNet) {
        self.of_nodes.push(subnet);
    }

    /// Frees `claim`. False if it was free.
    pub fn remove(&mut self, claim: &Claim) -> bool {
        match claim {
            Claim::Subnet(subnet) => self.subnets.remove(subnet).is_some(),
            Claim::Vni(vni) => self.vnis.remove(vni),
            Claim::Address { network, address } => {
                self.addresses.get_mut(network).is_some_and(|held| held.remove(address))
            }
            Claim::Port { protocol, port } => self.ports.remove(&(*protocol, *port)),
        }
    }
}

impl Taken for InUse {
    fn subnets(&self) -> Vec<(IpNet, String)> {
        self.subnets.iter().map(|(subnet, holder)| (*subnet, holder.clone())).collect()
    }

    fn is_vni_taken(&self, vni: Vni) -> bool {
        self.vnis.contains(&vni)
    }

    fn highest_vni(&self) -> Option<Vni> {
        self.vnis.last().copied()
    }

    fn is_address_taken(&self, network: &str, address: IpAddr) -> bool {
        self.addresses.get(network).is_some_and(|held| held.contains(&address))
    }

    fn addresses(&self, network: &str) -> Vec<IpAddr> {
        self.addresses.get(network).into_iter().flatten().copied().collect()
    }

    fn is_port_taken(&self, protocol: i32, port: u16) -> bool {
        self.ports.contains(&(protocol, port))
    }

    fn subnets_of_nodes(&self) -> Vec<IpNet> {
        self.of_nodes.clone()
    }
}

/// What was taken, and what was claimed since in the same transaction.
pub struct TakenSince<'a> {
    base: &'a dyn Taken,
    added: InUse,
}

impl<'a> TakenSince<'a> {
    /// Nothing claimed yet.
    pub fn new(base: &'a dyn Taken) -> Self {
        Self { base, added: InUse::default() }
    }

    /// Adds a claim of `holder`.
    pub fn insert(&mut self, claim: Claim, holder: &str) {
        self.added.insert(claim, holder);
    }
}

impl Taken for TakenSince<'_> {
    fn subnets(&self) -> Vec<(IpNet, String)> {
        let mut subnets = self.base.subnets();
        subnets.extend(self.added.subnets());
        subnets
    }

    fn is_vni_taken(&self, vni: Vni) -> bool {
        self.base.is_vni_taken(vni) || self.added.is_vni_taken(vni)
    }

    fn highest_vni(&self) -> Option<Vni> {
        self.base.highest_vni().max(self.added.highest_vni())
    }

    fn is_address_taken(&self, network: &str, address: IpAddr) -> bool {
        self.base.is_address_taken(network, address) || self.added.is_address_taken(network, address)
    }

    fn addresses(&self, network: &str) -> Vec<IpAddr> {
        let mut addresses = self.base.addresses(network);
        addresses.extend(self.added.addresses(network));
        addresses
    }

    fn is_port_taken(&self, protocol: i32, port: u16) -> bool {
        self.base.is_port_taken(protocol, port) || self.added.is_port_taken(protocol, port)
    }

    fn subnets_of_nodes(&self) -> Vec<IpNet> {
        self.base.subnets_of_nodes()
    }
}
