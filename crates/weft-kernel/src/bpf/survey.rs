//! Which of the interfaces that a wish names are there.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use weft_plan::{FastPath, FastSegment, LinkName, NamespaceRef, WayOut};

use super::FastPathError;
use crate::socket::NetlinkSocket;
use crate::{Netns, apply, observe, sysctl};

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) index: u32,
    /// In bytes, without the Ethernet header.
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// Whether its packets begin with an Ethernet header.
    pub(super) ethernet: bool,
}

/// A namespace and those of its interfaces that matter.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) netns: Netns,
    /// Tells namespaces apart while they live.
    pub(super) id: u64,
    pub(super) devices: BTreeMap<LinkName, Device>,
}

/// What is there of a wish. Holds the namespaces open, and so alive: short-lived.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) host: Space,
    pub(super) spaces: BTreeMap<NamespaceRef, Space>,
    /// Named in the wish, and not there or of no use.
    pub(super) absent: Vec<(NamespaceRef, LinkName)>,
}

impl Survey {
    /// Looks. A network's namespace that is not there is as one without interfaces.
    pub(super) fn of(desired: &FastPath) -> Result<Self, FastPathError> {
        let outsides = desired.segments.values().filter_map(|segment| match &segment.way_out {
            WayOut::Uplink { outside, .. } => Some(outside),
            WayOut::Device(_) | WayOut::None => None,
        });
        let named: BTreeSet<&LinkName> = desired.underlay.iter().chain(outsides).collect();
        let host = host(&desired.host, &named)?;
        let mut absent: Vec<_> = named
            .into_iter()
            .filter(|link| !host.devices.contains_key(link))
            .map(|link| (desired.host.clone(), link.clone()))
            .collect();
        let mut spaces = BTreeMap::new();
        for segment in desired.segments.values() {
            if !spaces.contains_key(&segment.namespace)
                && let Ok(space) = network(&segment.namespace)
            {
                spaces.insert(segment.namespace.clone(), space);
            }
            let devices = spaces.get(&segment.namespace).map(|space| &space.devices);
            let missing = links(segment).filter(|link| devices.is_none_or(|found| !found.contains_key(link)));
            absent.extend(missing.map(|link| (segment.namespace.clone(), link.clone())));
        }
        Ok(Self { host, spaces, absent })
    }
}

/// What a segment names in its network's namespace.
fn links(segment: &FastSegment) -> impl Iterator<Item = &LinkName> {
    let way_out = match &segment.way_out {
        WayOut::Uplink { inside, .. } => Some(inside),
        WayOut::Device(device) => Some(device),
        WayOut::None => None,
    };
    segment.ports.keys().chain(way_out)
}

/// The host may have thousands of interfaces: only those named are asked for.
fn host(namespace: &NamespaceRef, named: &BTreeSet<&LinkName>) -> Result<Space, FastPathError> {
    let netns = Netns::resolve(namespace)?;
    let mut socket = NetlinkSocket::open(&netns, NETLINK_ROUTE)?;
    let mut devices = BTreeMap::new();
    for link in named {
        let found = apply::find_link(&mut socket, link)?;
        // An interface without Ethernet header has nothing that a program here could read.
        if let Some(device) = found.as_ref().map(device).filter(|device| device.ethernet) {
            devices.insert((*link).clone(), device);
        }
    }
    Ok(Space { id: netns.id()?, netns, devices })
}

/// A network's namespace holds little that is not a port of it.
fn network(namespace: &NamespaceRef) -> Result<Space, FastPathError> {
    let netns = Netns::resolve(namespace)?;
    let mut socket = NetlinkSocket::open(&netns, NETLINK_ROUTE)?;
    let messages = observe::links(&mut socket)?;
    let devices = messages.iter().filter_map(|message| Some((observe::link_name(message)?, device(message))));
    Ok(Space { id: netns.id()?, devices: devices.collect(), netns })
}

fn device(message: &LinkMessage) -> Device {
    let mtu = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    Device {
        index: message.header.index,
        mtu: mtu.unwrap_or(0),
        up: message.header.flags.contains(LinkFlags::Up),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
    }
}

/// The kernel looks up routes for a program as for packets to be forwarded, and only where the interface that they came
/// in by forwards. By an uplink's outer end nothing comes in that is not a program's. True where it had to be set.
pub(super) fn let_forward(host: &Space, outside: &LinkName) -> Result<bool, FastPathError> {
    let key = format!("net/ipv4/conf/{outside}/forwarding");
    let set = host.netns.run_in(|| {
        if sysctl::read(&key)?.is_none_or(|value| value == "1") {
            return Ok(false);
        }
        sysctl::write(&key, "1").map(|()| true)
    })?;
    Ok(set?)
}
