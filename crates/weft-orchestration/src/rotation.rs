//! In which order the addresses of one network are given.
//!
//! First those never given, serially; then the one that was freed longest ago. A freed address thus rests for as
//! long as the network has room, and traffic or cached names for its former holder do not reach the next one.
//! This is only an order to try in: what is free, the store says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::subnet::{Subnet, to_bits};

#[derive(Debug, Clone, Default)]
pub(crate) struct Rotation {
    /// The last address given from each subnet, as a number.
    last: BTreeMap<IpNet, u128>,
    /// Freed addresses, the one that rested longest in front.
    resting: VecDeque<IpAddr>,
    /// The same, to be asked: a busy network has thousands of them.
    is_resting: BTreeSet<IpAddr>,
}

impl Rotation {
    /// A rotation that goes on behind the highest of `taken`.
    pub(crate) fn behind(subnets: &[Subnet], taken: &[IpAddr]) -> Self {
        let mut rotation = Self::default();
        for subnet in subnets {
            let given =
                taken.iter().filter(|address| subnet.gives(**address)).map(|address| to_bits(*address));
            if let Some(highest) = given.max() {
                rotation.last.insert(subnet.subnet, highest);
            }
        }
        rotation
    }

    /// Remembers that an address was freed.
    pub(crate) fn rest(&mut self, address: IpAddr) {
        self.wake(address);
        self.resting.push_back(address);
        self.is_resting.insert(address);
    }

    fn wake(&mut self, address: IpAddr) {
        if self.is_resting.remove(&address) {
            self.resting.retain(|other| *other != address);
        }
    }

    /// The next address of `subnet` to give.
    pub(crate) fn next(&mut self, subnet: &Subnet, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let free = |address: &IpAddr| subnet.gives(*address) && !is_taken(*address);
        let fresh = self.serial(subnet).find(|address| free(address) && !self.is_resting.contains(address));
        let address = fresh.or_else(|| self.resting.iter().copied().find(free))?;
        if fresh.is_some() {
            self.last.insert(subnet.subnet, to_bits(address));
        }
        self.wake(address);
        Some(address)
    }

    /// All addresses of the subnet, from the one behind the last given on, round to it.
    fn serial(&self, subnet: &Subnet) -> impl Iterator<Item = IpAddr> {
        let (first, last) = subnet.bounds();
        let start = match self.last.get(&subnet.subnet) {
            Some(given) if (first..last).contains(given) => given + 1,
            _ => first,
        };
        (start..=last).chain(first..start).map(|bits| subnet.address(bits))
    }
}
