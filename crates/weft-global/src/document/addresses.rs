//! Who has which address of one network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_orchestration::{AllocationError, Allocator, AllocatorConfig, Claim, InUse};
use weft_types::{EndpointAddress, TaskId};
use weft_wire::swarmkit::Network;

use super::Document;
use crate::error::Refused;

/// The addresses of a network that are given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressBook {
    format: u32,
    /// Random: a book that was made after the store had lost its data is another one.
    origin: String,
    /// The network is being removed: nothing is given out any more.
    #[serde(default)]
    removed: bool,
    /// The address that was chosen last, by subnet: what is given back rests until all others had their turn.
    #[serde(default)]
    last: BTreeMap<IpNet, IpAddr>,
    #[serde(default)]
    held: BTreeMap<IpAddr, Holder>,
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its host, as that is registered: `address:port`.
    pub node: String,
    /// What stands for the container's place there.
    pub attachment: TaskId,
}

impl Document for AddressBook {
    fn format(&self) -> u32 {
        self.format
    }
}

impl AddressBook {
    /// The first of a network; `origin` is random.
    pub fn new(origin: String) -> Self {
        Self { format: Self::FORMAT, origin, removed: false, last: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// What was given back since `earlier`. Nothing if that was another book: what this one lacks may be put back yet.
    pub fn given_back_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a TaskId> {
        let same = self.origin == earlier.origin;
        let before = earlier.held.values().map(|holder| &holder.attachment);
        before.filter(move |attachment| same && !self.has(attachment))
    }

    /// All that is held.
    pub fn held(&self) -> impl Iterator<Item = (IpAddr, &Holder)> {
        self.held.iter().map(|(address, holder)| (*address, holder))
    }

    /// Whether the network is being removed.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Whether something is held by this attachment.
    pub fn has(&self, attachment: &TaskId) -> bool {
        self.held.values().any(|holder| holder.attachment == *attachment)
    }

    /// One address of each family that the network has, `wanted` ones as given. Done again for the same attachment it
    /// changes nothing. What hosts other than the `living` hold counts as free where nothing else will do; none: nobody
    /// has asked yet who lives.
    pub fn claim(
        &mut self,
        network: &Network,
        holder: &Holder,
        wanted: &[IpAddr],
        living: Option<&BTreeSet<String>>,
    ) -> Result<Vec<EndpointAddress>, Refused> {
        if self.removed {
            return Err(Refused::Removed(name_of(network)));
        }
        let own: Vec<IpAddr> = self.of(&holder.attachment).collect();
        if !own.is_empty() {
            return Ok(with_prefixes(network, &own));
        }
        let found = match (self.choose(network, wanted, |_| true), living) {
            (Err(error), Some(living)) if is_want(&error) => {
                self.choose(network, wanted, |holder| living.contains(&holder.node))
            }
            (found, _) => found,
        }?;
        for address in &found {
            self.held.insert(address.ip(), holder.clone());
            if !wanted.contains(&address.ip()) {
                self.last.insert(address.subnet(), address.ip());
            }
        }
        Ok(found)
    }

    /// Puts claims back that the store has lost; false if another has one of them now.
    pub fn put_back(&mut self, addresses: &[IpAddr], holder: &Holder) -> bool {
        let free = |ip: &IpAddr| self.held.get(ip).is_none_or(|other| other == holder);
        let can = !self.removed && addresses.iter().all(free);
        if can {
            self.held.extend(addresses.iter().map(|ip| (*ip, holder.clone())));
        }
        can
    }

    /// Gives back what these attachments hold.
    pub fn release(&mut self, attachments: &BTreeSet<TaskId>) {
        self.held.retain(|_, holder| !attachments.contains(&holder.attachment));
    }

    /// From here on nothing is given out. Refused, with who is in the way, while a host that lives holds something.
    pub fn close(&mut self, living: &BTreeSet<String>) -> Result<(), Vec<(IpAddr, Holder)>> {
        let lives = |(_, holder): &(IpAddr, &Holder)| living.contains(&holder.node);
        let users: Vec<_> = self.held().filter(lives).map(|(ip, holder)| (ip, holder.clone())).collect();
        if users.is_empty() {
            self.removed = true;
            Ok(())
        } else {
            Err(users)
        }
    }

    fn of(&self, attachment: &TaskId) -> impl Iterator<Item = IpAddr> {
        let own = self.held.iter().filter(move |(_, holder)| holder.attachment == *attachment);
        own.map(|(ip, _)| *ip)
    }

    fn choose(
        &self,
        network: &Network,
        wanted: &[IpAddr],
        counts: impl Fn(&Holder) -> bool,
    ) -> Result<Vec<EndpointAddress>, AllocationError> {
        let mut taken = InUse::default();
        for (ip, _) in self.held.iter().filter(|(_, holder)| counts(holder)) {
            taken.insert(Claim::Address { network: network.id.clone(), address: *ip }, "");
        }
        let mut allocator = Allocator::rebuild(AllocatorConfig::of_site(""), [], &InUse::default());
        let last: Vec<IpAddr> = self.last.values().copied().collect();
        allocator.go_on_behind(network, &last);
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        Ok(allocator.addresses(network, &wanted, &taken)?.addresses)
    }
}

/// Whether other addresses being free would help.
fn is_want(error: &AllocationError) -> bool {
    matches!(error, AllocationError::AddressesExhausted { .. } | AllocationError::AddressTaken { .. })
}

fn with_prefixes(network: &Network, addresses: &[IpAddr]) -> Vec<EndpointAddress> {
    let subnets: Vec<IpNet> = network
        .ipam
        .iter()
        .flat_map(|ipam| &ipam.configs)
        .filter_map(|config| config.subnet.parse().ok())
        .collect();
    let with = |ip: &IpAddr| {
        let subnet = subnets.iter().find(|subnet| subnet.contains(ip))?;
        Some(EndpointAddress::new(*ip, *subnet))
    };
    addresses.iter().filter_map(with).collect()
}

fn name_of(network: &Network) -> String {
    let named = network.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
    named.map(|named| named.name.clone()).unwrap_or_default()
}
