//! Which virtual IPs sockets are connected to tasks for, before a packet leaves (design: service engine by BPF).
//!
//! ```text
//! ConnectWish --cookies of namespaces--> ConnectTarget --changes--> what enters and leaves the programs' maps
//!
//! namespace --namespaces--> reach;  reach, virtual IP --services--> number, count;  number, slot --slots--> task
//! ```
//!
//! Programs may look at any time. So new slots get a number of their own, the service's entry is switched to it at
//! once, and only then the old slots go; a namespace is told of its reach when the reach is complete. Numbers do not come
//! again while a program may remember them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use weft_types::mapped;

use crate::{Balancer, NamespaceRef};

/// Namespaces that can have services. The maps hold twice as much of everything: what comes is there beside what goes.
pub const MAX_NAMESPACES: usize = 16_384;
/// Virtual IPs of all reaches together.
pub const MAX_SERVICES: usize = 32_768;
/// Slots of all services together.
pub const MAX_SERVICE_SLOTS: usize = 131_072;

/// What the sockets of a node's containers reach by virtual IP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectWish {
    /// By a number that stands for the same networks whenever it comes.
    pub reaches: BTreeMap<u64, ConnectReach>,
}

/// Namespaces that see the same services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectReach {
    /// The namespaces.
    pub namespaces: BTreeSet<NamespaceRef>,
    /// The services.
    pub balancer: Arc<Balancer>,
}

/// A service in a reach: the reach's number, and the virtual IP, as IPv6 or as IPv4 mapped to it.
pub type ServiceKey = (u64, Ipv6Addr);

/// What the maps shall say. Numbers of slots are not part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectTarget {
    /// The reach of each namespace, by its cookie.
    pub namespaces: BTreeMap<u64, u64>,
    /// The slots of each service, as IPv6 or mapped; none: connections are refused.
    pub services: BTreeMap<ServiceKey, Vec<Ipv6Addr>>,
    /// What there was no room for: namespaces and services that stay with the rules below the sockets.
    pub left_out: usize,
}

/// Where a service's slots are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotsOf {
    /// Never 0.
    pub number: u32,
    /// How many there are.
    pub count: u32,
}

/// What the maps say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectTables {
    /// The reach of each namespace, by its cookie.
    pub namespaces: BTreeMap<u64, u64>,
    /// Services.
    pub services: BTreeMap<ServiceKey, SlotsOf>,
    /// By number and position.
    pub slots: BTreeMap<(u32, u32), Ipv6Addr>,
}

/// One step; each is atomic for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectChange {
    /// A slot of a number that no service has yet.
    SetSlot((u32, u32), Ipv6Addr),
    /// A service that is new or gets other slots.
    SetService(ServiceKey, SlotsOf),
    /// A namespace that is new or reaches something else.
    SetNamespace(u64, u64),
    /// A namespace without services.
    RemoveNamespace(u64),
    /// A service that is gone.
    RemoveService(ServiceKey),
    /// A slot of a number that no service has any more.
    RemoveSlot((u32, u32)),
}

impl ConnectTarget {
    /// What a wish comes to, with these cookies of its namespaces. Those without one are not there (yet).
    pub fn new(wish: &ConnectWish, cookies: &BTreeMap<NamespaceRef, u64>) -> Self {
        let mut target = Self::default();
        let mut room = MAX_SERVICE_SLOTS;
        for (number, reach) in &wish.reaches {
            for cookie in reach.namespaces.iter().filter_map(|namespace| cookies.get(namespace)) {
                if target.namespaces.len() < MAX_NAMESPACES {
                    target.namespaces.insert(*cookie, *number);
                } else {
                    target.left_out += 1;
                }
            }
            for (vip, service) in &reach.balancer.services {
                let slots = service.slots();
                if slots.len() > room || target.services.len() >= MAX_SERVICES {
                    target.left_out += 1;
                    continue;
                }
                room -= slots.len();
                target.services.insert((*number, mapped(*vip)), slots.iter().copied().map(mapped).collect());
            }
        }
        target
    }
}

impl ConnectTables {
    /// The steps to a target, in the order in which they have to be done. `last` is the last number that was given
    /// away, and follows.
    pub fn changes(&self, target: &ConnectTarget, last: &mut u32) -> Vec<ConnectChange> {
        let mut numbers = Numbers::new(self, last);
        let (mut slots, mut services) = (Vec::new(), Vec::new());
        let mut kept: BTreeMap<u32, u32> = BTreeMap::new();
        for (key, wished) in &target.services {
            if let Some(found) = self.services.get(key).filter(|found| self.holds(found, wished)) {
                let count = kept.entry(found.number).or_default();
                *count = found.count.max(*count);
                continue;
            }
            let number = numbers.next();
            let count = wished.len() as u32;
            slots.extend((0..count).zip(wished).map(|(at, ip)| ConnectChange::SetSlot((number, at), *ip)));
            services.push(ConnectChange::SetService(*key, SlotsOf { number, count }));
        }
        let others = |(cookie, reach): &(&u64, &u64)| self.namespaces.get(cookie) != Some(reach);
        let namespaces = target.namespaces.iter().filter(others);
        let mut changes = slots;
        changes.extend(services);
        changes.extend(namespaces.map(|(cookie, reach)| ConnectChange::SetNamespace(*cookie, *reach)));
        changes.extend(gone(&self.namespaces, &target.namespaces).map(ConnectChange::RemoveNamespace));
        changes.extend(gone(&self.services, &target.services).map(ConnectChange::RemoveService));
        let unused = |(number, at): &&(u32, u32)| kept.get(number).is_none_or(|count| at >= count);
        changes.extend(self.slots.keys().filter(unused).copied().map(ConnectChange::RemoveSlot));
        changes
    }

    /// Whether these are the slots behind an entry.
    fn holds(&self, found: &SlotsOf, wished: &[Ipv6Addr]) -> bool {
        let mut each = (0..).zip(wished);
        found.number != 0
            && found.count as usize == wished.len()
            && each.all(|(at, ip)| self.slots.get(&(found.number, at)) == Some(ip))
    }

    /// What a step makes of the tables.
    pub fn apply(&mut self, change: &ConnectChange) {
        match *change {
            ConnectChange::SetSlot(key, ip) => {
                self.slots.insert(key, ip);
            }
            ConnectChange::SetService(key, slots) => {
                self.services.insert(key, slots);
            }
            ConnectChange::SetNamespace(cookie, reach) => {
                self.namespaces.insert(cookie, reach);
            }
            ConnectChange::RemoveNamespace(cookie) => {
                self.namespaces.remove(&cookie);
            }
            ConnectChange::RemoveService(key) => {
                self.services.remove(&key);
            }
            ConnectChange::RemoveSlot(key) => {
                self.slots.remove(&key);
            }
        }
    }
}

fn gone<K: Ord + Copy, A, B>(have: &BTreeMap<K, A>, want: &BTreeMap<K, B>) -> impl Iterator<Item = K> {
    have.keys().filter(|key| !want.contains_key(key)).copied()
}

/// Numbers that nothing in the maps has.
struct Numbers<'a> {
    taken: BTreeSet<u32>,
    last: &'a mut u32,
}

impl<'a> Numbers<'a> {
    fn new(tables: &ConnectTables, last: &'a mut u32) -> Self {
        let services = tables.services.values().map(|found| found.number);
        let taken: BTreeSet<u32> = services.chain(tables.slots.keys().map(|(number, _)| *number)).collect();
        if *last == 0 {
            // What a former daemon gave away is not known but for what is left of it.
            *last = taken.last().copied().unwrap_or(0);
        }
        Self { taken, last }
    }

    fn next(&mut self) -> u32 {
        loop {
            *self.last = self.last.wrapping_add(1).max(1);
            if self.taken.insert(*self.last) {
                return *self.last;
            }
        }
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
