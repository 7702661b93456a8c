//! A namespace without a kernel: what each operation does to the observed state.
//!
//! Stands in for the kernel in tests of `diff`, here and in the crates above.

use std::sync::Arc;

use crate::{
    FdbTarget, Link, LinkChange, LinkKind, NamespaceState, Observed, Op, Owner, SeenLink, SeenNeighbour,
};

/// What a namespace in exactly this state looks like.
pub fn observed(state: &NamespaceState) -> Observed {
    let ours = |link: &Link| if link.kind == LinkKind::Loopback { Owner::Foreign } else { Owner::Weft };
    let seen = |link: &Link| SeenLink { link: link.clone(), owner: ours(link) };
    let neighbour = |mac| SeenNeighbour { mac: Some(mac), permanent: true, owner: Owner::Weft };
    Observed {
        links: state.links.iter().map(|(name, link)| (name.clone(), seen(link))).collect(),
        addresses: state.addresses.iter().map(|a| (a.clone(), Owner::Weft)).collect(),
        routes: state.routes.iter().map(|r| (r.clone(), Owner::Weft)).collect(),
        rules: state.rules.iter().map(|r| (r.clone(), Owner::Weft)).collect(),
        fdb: state.fdb.clone(),
        neighbours: state.neighbours.iter().map(|n| ((n.link.clone(), n.ip), neighbour(n.mac))).collect(),
        sysctls: state.sysctls.clone(),
        tables: state.tables.clone(),
        ipvs: state.ipvs.as_deref().cloned().unwrap_or_default(),
    }
}

/// Carries out one operation as the kernel does.
pub fn apply(observed: &mut Observed, op: &Op) {
    match op {
        Op::CreateLink { name, link } => {
            let link = Link { master: None, port: None, up: false, ..link.clone() };
            observed.links.entry(name.clone()).or_insert(SeenLink { link, owner: Owner::Weft });
        }
        Op::AwaitLink { name } => {
            let link = Link { up: false, ..Link::new(LinkKind::VethEnd) };
            observed.links.entry(name.clone()).or_insert(SeenLink { link, owner: Owner::Weft });
        }
        Op::ChangeLink { name, change } => change_link(observed, name, change),
        Op::DeleteLink { name } => delete_link(observed, name),
        Op::AddAddress(address) => {
            observed.addresses.insert(address.clone(), Owner::Weft);
        }
        Op::DeleteAddress(address) => {
            observed.addresses.remove(address);
        }
        Op::SetRoute(route) => {
            observed.routes.retain(|seen, _| seen.key() != route.key());
            observed.routes.insert(route.clone(), Owner::Weft);
        }
        Op::DeleteRoute(route) => {
            observed.routes.remove(route);
        }
        Op::AddRule(rule) => {
            observed.rules.insert(rule.clone(), Owner::Weft);
        }
        Op::DeleteRule(rule) => {
            observed.rules.remove(rule);
        }
        Op::SetFdb(entry) => {
            observed.fdb.retain(|seen| !same_key(seen, entry));
            observed.fdb.insert(entry.clone());
        }
        Op::DeleteFdb(entry) => {
            observed.fdb.remove(entry);
        }
        Op::SetNeighbour(n) => {
            let seen = SeenNeighbour { mac: Some(n.mac), permanent: true, owner: Owner::Weft };
            observed.neighbours.insert((n.link.clone(), n.ip), seen);
        }
        Op::DeleteNeighbour(n) => {
            observed.neighbours.remove(&(n.link.clone(), n.ip));
        }
        Op::SetSysctl { key, value } => {
            observed.sysctls.insert(key.clone(), value.clone());
        }
        Op::SetTable(table) => {
            observed.tables.insert(table.id.clone(), table.clone());
        }
        Op::DeleteTable(id) => {
            observed.tables.remove(id);
        }
        Op::ChangeElements { table, set, add, remove, .. } => {
            let table = observed.tables.get_mut(table).map(Arc::make_mut);
            if let Some(set) = table.and_then(|table| table.sets.get_mut(set)) {
                set.elements.retain(|element| !remove.contains(element));
                set.elements.extend(add.iter().cloned());
            }
        }
        Op::SetIpvsTimeouts(timeouts) => observed.ipvs.timeouts = Some(*timeouts),
        Op::SetIpvsService { id, scheduler } => {
            observed.ipvs.services.entry(*id).or_default().scheduler = *scheduler;
        }
        Op::DeleteIpvsService(id) => {
            observed.ipvs.services.remove(id);
        }
        Op::SetIpvsDestination { service, ip, weight } => {
            if let Some(service) = observed.ipvs.services.get_mut(service) {
                service.destinations.insert(*ip, *weight);
            }
        }
        Op::DeleteIpvsDestination { service, ip } => {
            if let Some(service) = observed.ipvs.services.get_mut(service) {
                service.destinations.remove(ip);
            }
        }
    }
}

/// A bridge has one entry an address, a tunnel one a device and address.
fn same_key(a: &crate::FdbEntry, b: &crate::FdbEntry) -> bool {
    let port = |target: &FdbTarget| *target == FdbTarget::Port;
    a.mac == b.mac && port(&a.target) == port(&b.target) && (port(&a.target) || a.link == b.link)
}

fn change_link(observed: &mut Observed, name: &crate::LinkName, change: &LinkChange) {
    let Some(seen) = observed.links.get_mut(name) else { return };
    match change {
        LinkChange::Mac(mac) => {
            seen.link.mac = Some(*mac);
            observed.neighbours.retain(|(link, _), _| link != name);
        }
        LinkChange::Mtu(mtu) => seen.link.mtu = Some(*mtu),
        LinkChange::Master(master) => {
            seen.link.master.clone_from(master);
            seen.link.port = master.as_ref().map(|_| crate::BridgePort::ENDPOINT);
            observed.fdb.retain(|entry| entry.link != *name || entry.target != FdbTarget::Port);
        }
        LinkChange::Port(port) => seen.link.port = Some(*port),
        LinkChange::Bridge(options) => seen.link.kind = LinkKind::Bridge(*options),
        LinkChange::Up(up) => seen.link.up = *up,
        LinkChange::Adopt => seen.owner = Owner::Weft,
    }
}

fn delete_link(observed: &mut Observed, name: &crate::LinkName) {
    observed.links.remove(name);
    let links = &observed.links;
    let is_port = |port: &crate::LinkName| {
        links.get(port).is_some_and(|seen: &SeenLink| seen.link.master.as_ref() == Some(name))
    };
    observed.fdb.retain(|entry| entry.target != FdbTarget::Port || !is_port(&entry.link));
    for seen in observed.links.values_mut().filter(|seen| seen.link.master.as_ref() == Some(name)) {
        seen.link.master = None;
        seen.link.port = None;
    }
    observed.addresses.retain(|address, _| address.link != *name);
    observed.routes.retain(|route, _| route.link() != Some(name));
    observed.fdb.retain(|entry| entry.link != *name);
    observed.neighbours.retain(|(link, _), _| link != name);
}
