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
}

/// Claims kept in memory, for callers whose store has no index of its own, and for what a transaction has
/// claimed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    subnets: BTreeMap<IpNet, String>,
    vnis: BTreeSet<Vni>,
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl InUse {
    /// Adds `claim`, held by network `holder` if it is a subnet. False if it was taken.
    pub fn insert(&mut self, claim: Claim, holder: &str) -> bool {
        match claim {
            Claim::Subnet(subnet) => self.subnets.insert(subnet, holder.to_owned()).is_none(),
            Claim::Vni(vni) => self.vnis.insert(vni),
            Claim::Address { network, address } => self.addresses.entry(network).or_default().insert(address),
        }
    }

    /// Frees `claim`. False if it was free.
    pub fn remove(&mut self, claim: &Claim) -> bool {
        match claim {
            Claim::Subnet(subnet) => self.subnets.remove(subnet).is_some(),
            Claim::Vni(vni) => self.vnis.remove(vni),
            Claim::Address { network, address } => {
                self.addresses.get_mut(network).is_some_and(|held| held.remove(address))
            }
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
}
