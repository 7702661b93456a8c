//! Reading interfaces that share another one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};

use netlink_packet_route::link::{
    InfoIpVlan, InfoMacVlan, InfoVlan, IpVlanFlags, IpVlanMode, LinkAttribute, LinkMessage, MacVlanMode,
};
use weft_plan::{
    IpvlanFlag, IpvlanMode, LinkKind, LinkName, MacvlanMode, NamespaceRef, Sharing, SubInterface, Vlan,
};

/// A name that no interface has, for one that gets its own in a moment. What a crash leaves under such a name has our mark
/// and is in no plan: it goes.
pub(crate) fn passing_name() -> LinkName {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Numbers of processes are below 2^22.
    let name = format!("wt{:06x}{number:04x}", std::process::id());
    name.parse().unwrap_or_else(|_| LinkName::lo())
}

/// The interface of the same namespace that a link is a part of.
pub(crate) fn parent<'a>(message: &LinkMessage, names: &'a HashMap<u32, LinkName>) -> Option<&'a LinkName> {
    let is_elsewhere = message.attributes.iter().any(|a| matches!(a, LinkAttribute::LinkNetNsId(_)));
    let index = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(index),
        _ => None,
    });
    index.filter(|_| !is_elsewhere).and_then(|index| names.get(index))
}

/// None: in a mode that Weft never sets.
pub(crate) fn macvlan(data: &[InfoMacVlan]) -> Option<LinkKind> {
    let mode = data.iter().find_map(|info| match info {
        InfoMacVlan::Mode(MacVlanMode::Bridge) => Some(MacvlanMode::Bridge),
        InfoMacVlan::Mode(MacVlanMode::Private) => Some(MacvlanMode::Private),
        InfoMacVlan::Mode(MacVlanMode::Vepa) => Some(MacvlanMode::Vepa),
        InfoMacVlan::Mode(MacVlanMode::Passthrough) => Some(MacvlanMode::Passthru),
        _ => None,
    })?;
    Some(shared(Sharing::Macvlan(mode)))
}

pub(crate) fn ipvlan(data: &[InfoIpVlan]) -> Option<LinkKind> {
    let (mut mode, mut flag) = (None, IpvlanFlag::Bridge);
    for info in data {
        match info {
            InfoIpVlan::Mode(IpVlanMode::L2) => mode = Some(IpvlanMode::L2),
            InfoIpVlan::Mode(IpVlanMode::L3) => mode = Some(IpvlanMode::L3),
            InfoIpVlan::Mode(IpVlanMode::L3S) => mode = Some(IpvlanMode::L3S),
            InfoIpVlan::Flags(flags) if flags.contains(IpVlanFlags::Private) => flag = IpvlanFlag::Private,
            InfoIpVlan::Flags(flags) if flags.contains(IpVlanFlags::Vepa) => flag = IpvlanFlag::Vepa,
            _ => {}
        }
    }
    Some(shared(Sharing::Ipvlan(mode?, flag)))
}

fn shared(sharing: Sharing) -> LinkKind {
    LinkKind::SubInterface(SubInterface { parent: None, underlay: NamespaceRef(String::new()), sharing })
}

/// None: its interface is not in this namespace.
pub(crate) fn vlan(data: &[InfoVlan], parent: Option<&LinkName>) -> Option<LinkKind> {
    let id = data.iter().find_map(|info| match info {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    });
    Some(LinkKind::Vlan(Vlan { parent: parent?.clone(), id: id? }))
}
