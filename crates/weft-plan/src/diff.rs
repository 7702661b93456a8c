//! The operations that turn the observed state into the desired one.
//!
//! Order, and why:
//! 1. what is no longer wanted goes, dependants before what they depend on;
//! 2. nftables: a guard stands before the device it guards; then virtual services;
//! 3. settings of the namespace, defaults of links among them, then links are made and set, still down, bridges before
//!    their ports: a port is never up with the wrong flags;
//! 4. settings of single links;
//! 5. addresses, then links come up, then routes (they need both), forwarding entries, neighbours and rules.

use std::collections::BTreeSet;

use weft_types::MacAddr;

use std::sync::Arc;

use crate::{
    Address, FdbTarget, Link, LinkChange, LinkKind, LinkName, NamespaceState, Observed, Op, Owner, SeenLink,
    Table,
};

/// Bridges that Docker makes and does not remove when it stops.
const DOCKERS_BRIDGES: [&str; 2] = ["docker0", "docker_gwbridge"];
/// A new table has so many elements at most in its own text.
const FEW_ELEMENTS: usize = 64;

/// What to do so that `observed` becomes `desired`. Empty when it already is.
///
/// Safe to apply twice; objects without Weft's mark are left alone. A foreign link that has the name of a wanted one
/// gives a `CreateLink` that will fail and say so, and nothing on top of it; but Docker's bridges without ports, which
/// it leaves behind when it stops, are taken over.
pub fn diff(observed: &Observed, desired: &NamespaceState) -> Vec<Op> {
    let links = Links::new(observed, desired);
    let mut ops = Vec::new();
    remove_rules_and_routes(observed, desired, &links, &mut ops);
    remove_entries(observed, desired, &links, &mut ops);
    ops.extend(links.delete.iter().map(|name| Op::DeleteLink { name: (*name).clone() }));
    tables(observed, desired, &mut ops);
    if let Some(ipvs) = &desired.ipvs {
        crate::ipvs::diff(&observed.ipvs, ipvs, &mut ops);
    }
    let (of_links, of_all): (Vec<_>, Vec<_>) = desired
        .sysctls
        .iter()
        .partition(|(key, _)| sysctl_link(key).is_some_and(|name| links.is_wanted(name)));
    set_sysctls(observed, &links, &of_all, &mut ops);
    let mut up = Vec::new();
    set_links(observed, desired, &links, &mut ops, &mut up);
    set_sysctls(observed, &links, &of_links, &mut ops);
    add_addresses(observed, desired, &links, &mut ops);
    ops.extend(up);
    add_entries(observed, desired, &links, &mut ops);
    add_routes_and_rules(observed, desired, &links, &mut ops);
    ops
}

/// Which links stay, go, come and are out of reach.
struct Links<'a> {
    /// Observed ones to remove: unwanted, or of the wrong kind.
    delete: BTreeSet<&'a LinkName>,
    /// Wanted ones that are not there, or not as they can be changed to be.
    fresh: BTreeSet<&'a LinkName>,
    /// Wanted names that foreign links have.
    blocked: BTreeSet<&'a LinkName>,
    /// Foreign ones that become ours.
    adopted: BTreeSet<&'a LinkName>,
    /// Those that get another Ethernet address: the kernel then forgets their neighbours, permanent ones too.
    renumbered: BTreeSet<&'a LinkName>,
    /// Those that go to another bridge: their entries in the old one's forwarding table go.
    moved: BTreeSet<&'a LinkName>,
    /// All wanted names.
    wanted: BTreeSet<&'a str>,
}

impl<'a> Links<'a> {
    fn new(observed: &'a Observed, desired: &'a NamespaceState) -> Self {
        let wanted = desired.links.keys().map(LinkName::as_str).collect();
        let mut links = Self {
            delete: BTreeSet::new(),
            fresh: BTreeSet::new(),
            blocked: BTreeSet::new(),
            adopted: BTreeSet::new(),
            renumbered: BTreeSet::new(),
            moved: BTreeSet::new(),
            wanted,
        };
        for (name, seen) in &observed.links {
            if seen.owner == Owner::Weft && !desired.links.contains_key(name) {
                links.delete.insert(name);
            }
        }
        for (name, want) in &desired.links {
            match observed.links.get(name) {
                None => {
                    links.fresh.insert(name);
                }
                Some(seen) if !is_ours(seen, want) && is_left_behind(observed, name, seen, want) => {
                    links.adopted.insert(name);
                    links.note_changes(name, &seen.link, want);
                }
                Some(seen) if !is_ours(seen, want) => {
                    links.blocked.insert(name);
                }
                Some(seen) if !can_become(&seen.link.kind, &want.kind) => {
                    links.delete.insert(name);
                    links.fresh.insert(name);
                }
                Some(seen) => links.note_changes(name, &seen.link, want),
            }
        }
        links
    }

    fn note_changes(&mut self, name: &'a LinkName, have: &Link, want: &Link) {
        if want.mac.is_some() && want.mac != have.mac {
            self.renumbered.insert(name);
        }
        if want.master != have.master {
            self.moved.insert(name);
        }
    }

    /// Whether things on this link vanish or never were: it goes, or it is not there yet.
    fn loses(&self, name: &LinkName) -> bool {
        self.delete.contains(name) || self.fresh.contains(name)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.contains(name)
    }

    /// Settings of a link appear with it.
    fn brings_sysctl(&self, key: &str) -> bool {
        sysctl_link(key).is_some_and(|name| self.fresh.iter().any(|fresh| fresh.as_str() == name))
    }
}

/// The link that a setting belongs to: `net/ipv4/conf/<link>/…` and its like.
fn sysctl_link(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("net/ipv4/").or_else(|| key.strip_prefix("net/ipv6/"))?;
    let rest = rest.strip_prefix("conf/").or_else(|| rest.strip_prefix("neigh/"))?;
    rest.split_once('/').map(|(name, _)| name)
}

fn set_sysctls(observed: &Observed, links: &Links<'_>, wanted: &[(&String, &String)], ops: &mut Vec<Op>) {
    for (key, value) in wanted {
        // One that is not there, and does not come with a link, is one that this kernel does not have.
        if observed.sysctls.get(*key).is_some_and(|have| have != *value) || links.brings_sysctl(key) {
            ops.push(Op::SetSysctl { key: (*key).clone(), value: (*value).clone() });
        }
    }
}

fn is_ours(seen: &SeenLink, want: &Link) -> bool {
    seen.owner == Owner::Weft || want.kind == LinkKind::Loopback
}

/// Whether this is a bridge that Docker made and left behind: nothing is on it. Docker takes over one of ours likewise.
fn is_left_behind(observed: &Observed, name: &LinkName, seen: &SeenLink, want: &Link) -> bool {
    DOCKERS_BRIDGES.contains(&name.as_str())
        && matches!((&seen.link.kind, &want.kind), (LinkKind::Bridge(_), LinkKind::Bridge(_)))
        && observed.links.values().all(|other| other.link.master.as_ref() != Some(name))
}

/// Whether a link of one kind can be changed into the other without making it anew.
fn can_become(have: &LinkKind, want: &LinkKind) -> bool {
    match (have, want) {
        (LinkKind::Bridge(_), LinkKind::Bridge(_)) | (LinkKind::Loopback, LinkKind::Loopback) => true,
        (LinkKind::Tap, LinkKind::Tap) => true,
        (LinkKind::Veth(_) | LinkKind::VethEnd, LinkKind::Veth(_) | LinkKind::VethEnd) => true,
        (LinkKind::Vxlan(a), LinkKind::Vxlan(b)) => {
            (a.vni, a.local, a.port, a.sources) == (b.vni, b.local, b.port, b.sources)
        }
        (LinkKind::Vlan(a), LinkKind::Vlan(b)) => a == b,
        // The parent of one that is there is in another namespace, and does not change.
        (LinkKind::SubInterface(a), LinkKind::SubInterface(b)) => a.sharing == b.sharing,
        _ => false,
    }
}

fn remove_rules_and_routes(
    observed: &Observed,
    desired: &NamespaceState,
    links: &Links<'_>,
    ops: &mut Vec<Op>,
) {
    for (rule, owner) in &observed.rules {
        if *owner == Owner::Weft && !desired.rules.contains(rule) {
            ops.push(Op::DeleteRule(rule.clone()));
        }
    }
    for (route, owner) in &observed.routes {
        let replaced = || desired.routes.iter().any(|want| want.key() == route.key());
        let vanishes = route.link().is_some_and(|link| links.delete.contains(link));
        if *owner == Owner::Weft && !vanishes && !desired.routes.contains(route) && !replaced() {
            ops.push(Op::DeleteRoute(route.clone()));
        }
    }
}

fn remove_entries(observed: &Observed, desired: &NamespaceState, links: &Links<'_>, ops: &mut Vec<Op>) {
    let wanted: BTreeSet<_> = desired.neighbours.iter().map(|n| (&n.link, n.ip)).collect();
    for ((link, ip), seen) in &observed.neighbours {
        let keeps = wanted.contains(&(link, *ip)) || links.delete.contains(link);
        if let (Owner::Weft, false, Some(mac)) = (seen.owner, keeps, seen.mac) {
            ops.push(Op::DeleteNeighbour(crate::Neighbour { link: link.clone(), ip: *ip, mac }));
        }
    }
    for entry in &observed.fdb {
        let keeps = desired.fdb.contains(entry) || links.delete.contains(&entry.link);
        let replaced = || desired.fdb.iter().any(|want| same_place(want, entry));
        // Several destinations of one group address stand side by side: there only removal helps.
        if !keeps && (is_group(entry.mac) || !replaced()) {
            ops.push(Op::DeleteFdb(entry.clone()));
        }
    }
    for (address, owner) in &observed.addresses {
        let keeps = desired.addresses.contains(address) || links.delete.contains(&address.link);
        if *owner == Owner::Weft && !keeps {
            ops.push(Op::DeleteAddress(address.clone()));
        }
    }
}

/// Group addresses and the all-zero default may have many destinations in a tunnel's table.
fn is_group(mac: MacAddr) -> bool {
    !mac.is_unicast()
}

fn same_place(a: &crate::FdbEntry, b: &crate::FdbEntry) -> bool {
    let table = |target: &FdbTarget| matches!(target, FdbTarget::Port);
    a.mac == b.mac && table(&a.target) == table(&b.target) && (table(&a.target) || a.link == b.link)
}

fn tables(observed: &Observed, desired: &NamespaceState, ops: &mut Vec<Op>) {
    for id in observed.tables.keys() {
        if !desired.tables.contains_key(id) && !id.is_users() {
            ops.push(Op::DeleteTable(id.clone()));
        }
    }
    for (id, want) in &desired.tables {
        match observed.tables.get(id) {
            Some(_) if id.is_users() => {}
            Some(have) if Arc::ptr_eq(have, want) => {}
            Some(have) if have.same_shape(want) => elements(have, want, ops),
            Some(_) => ops.push(Op::SetTable(want.clone())),
            None => new_table(want, ops),
        }
    }
}

/// Where nothing stood, nobody misses the elements for the instant until they come, so many of them come by messages of
/// their own: that is far cheaper than as text. A table that is replaced is whole at once.
fn new_table(want: &Arc<Table>, ops: &mut Vec<Op>) {
    if want.sets.values().map(|set| set.elements.len()).sum::<usize>() <= FEW_ELEMENTS {
        ops.push(Op::SetTable(want.clone()));
        return;
    }
    let mut empty = Table::clone(want);
    empty.sets.values_mut().for_each(|set| set.elements.clear());
    let empty = Arc::new(empty);
    ops.push(Op::SetTable(empty.clone()));
    elements(&empty, want, ops);
}

fn elements(have: &Table, want: &Table, ops: &mut Vec<Op>) {
    for (name, wanted) in &want.sets {
        let Some(seen) = have.sets.get(name) else { continue };
        let add: BTreeSet<_> = wanted.elements.difference(&seen.elements).cloned().collect();
        let remove: BTreeSet<_> = seen.elements.difference(&wanted.elements).cloned().collect();
        if !add.is_empty() || !remove.is_empty() {
            ops.push(Op::ChangeElements {
                table: want.id.clone(),
                set: name.clone(),
                key: wanted.key.clone(),
                value: wanted.value.clone(),
                add,
                remove,
            });
        }
    }
}

fn set_links(
    observed: &Observed,
    desired: &NamespaceState,
    links: &Links<'_>,
    ops: &mut Vec<Op>,
    up: &mut Vec<Op>,
) {
    let bridges_first = |link: &Link| !matches!(link.kind, LinkKind::Bridge(_));
    let mut wanted: Vec<_> = desired.links.iter().collect();
    wanted.sort_by_key(|(_, link)| bridges_first(link));
    for (name, want) in wanted {
        if links.blocked.contains(name) || (links.fresh.contains(name) && want.kind != LinkKind::VethEnd) {
            ops.push(Op::CreateLink { name: name.clone(), link: want.clone() });
        } else if links.fresh.contains(name) {
            ops.push(Op::AwaitLink { name: name.clone() });
        }
        if links.blocked.contains(name) {
            continue;
        }
        if links.adopted.contains(name) {
            ops.push(Op::ChangeLink { name: name.clone(), change: LinkChange::Adopt });
        }
        let have = observed.links.get(name).filter(|_| !links.fresh.contains(name)).map(|seen| &seen.link);
        let master_vanishes = want.master.as_ref().is_some_and(|master| links.loses(master));
        set_link(name, have, want, master_vanishes, ops, up);
    }
}

/// `have` is none for a link that was just made: it has its MAC and MTU, but no master, and is down.
fn set_link(
    name: &LinkName,
    have: Option<&Link>,
    want: &Link,
    master_vanishes: bool,
    ops: &mut Vec<Op>,
    up: &mut Vec<Op>,
) {
    let change = |change| Op::ChangeLink { name: name.clone(), change };
    let awaited = have.is_none() && want.kind == LinkKind::VethEnd;
    if have.is_some() || awaited {
        if let Some(mac) = want.mac.filter(|mac| have.and_then(|h| h.mac) != Some(*mac)) {
            ops.push(change(LinkChange::Mac(mac)));
        }
        if let Some(mtu) = want.mtu.filter(|mtu| have.and_then(|h| h.mtu) != Some(*mtu)) {
            ops.push(change(LinkChange::Mtu(mtu)));
        }
        if let (LinkKind::Bridge(wanted), Some(LinkKind::Bridge(seen))) = (&want.kind, have.map(|h| &h.kind))
            && wanted != seen
        {
            ops.push(change(LinkChange::Bridge(*wanted)));
        }
    }
    let enslave = master_vanishes || have.and_then(|h| h.master.as_ref()) != want.master.as_ref();
    if enslave {
        ops.push(change(LinkChange::Master(want.master.clone())));
    }
    if let Some(port) = want.port
        && (enslave || have.and_then(|h| h.port) != Some(port))
    {
        ops.push(change(LinkChange::Port(port)));
    }
    if have.is_some_and(|h| h.up) != want.up {
        up.push(change(LinkChange::Up(want.up)));
    }
}

fn add_addresses(observed: &Observed, desired: &NamespaceState, links: &Links<'_>, ops: &mut Vec<Op>) {
    let missing = |a: &&Address| links.fresh.contains(&a.link) || !observed.addresses.contains_key(a);
    for address in desired.addresses.iter().filter(missing) {
        if !links.blocked.contains(&address.link) {
            ops.push(Op::AddAddress(address.clone()));
        }
    }
}

fn add_entries(observed: &Observed, desired: &NamespaceState, links: &Links<'_>, ops: &mut Vec<Op>) {
    for entry in &desired.fdb {
        let bridge = desired.links.get(&entry.link).and_then(|link| link.master.as_ref());
        let leaves = || links.moved.contains(&entry.link) || bridge.is_some_and(|b| links.fresh.contains(b));
        let lost = links.fresh.contains(&entry.link) || (entry.target == FdbTarget::Port && leaves());
        if !links.blocked.contains(&entry.link) && (lost || !observed.fdb.contains(entry)) {
            ops.push(Op::SetFdb(entry.clone()));
        }
    }
    for want in &desired.neighbours {
        let have = observed.neighbours.get(&(want.link.clone(), want.ip));
        let right = have.is_some_and(|n| n.permanent && n.mac == Some(want.mac) && n.owner == Owner::Weft);
        let lost = links.fresh.contains(&want.link) || links.renumbered.contains(&want.link);
        if !links.blocked.contains(&want.link) && (lost || !right) {
            ops.push(Op::SetNeighbour(want.clone()));
        }
    }
}

fn add_routes_and_rules(observed: &Observed, desired: &NamespaceState, links: &Links<'_>, ops: &mut Vec<Op>) {
    for route in &desired.routes {
        let blocked = route.link().is_some_and(|link| links.blocked.contains(link));
        let lost = route.link().is_some_and(|link| links.fresh.contains(link));
        let taken = observed.routes.iter().any(|(seen, owner)| {
            let vanishes = seen.link().is_some_and(|link| links.delete.contains(link));
            *owner == Owner::Foreign && seen.key() == route.key() && !vanishes
        });
        if !blocked && !taken && (lost || !observed.routes.contains_key(route)) {
            ops.push(Op::SetRoute(route.clone()));
        }
    }
    for rule in &desired.rules {
        if !observed.rules.contains_key(rule) {
            ops.push(Op::AddRule(rule.clone()));
        }
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
