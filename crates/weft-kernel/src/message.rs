//! Operations as netlink messages.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind,
    InfoVeth, InfoVlan, InfoVxlan, IpVlanFlags, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    MacVlanMode,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, IpProtocol};
use weft_plan::{
    Address, BridgeOptions, BridgePort, FdbEntry, FdbTarget, IpvlanFlag, IpvlanMode, Link, LinkChange,
    LinkName, MacvlanMode, Neighbour, PolicyRule, Route, RouteTarget, RuleSelector, Sharing, Vlan, Vxlan,
    mark,
};
use weft_types::{MacAddr, Mtu};

use crate::Netns;

/// Static entries of a tunnel's forwarding table (`NUD_PERMANENT | NUD_NOARP`), as `bridge fdb … permanent` sets.
const NUD_PERMANENT_NOARP: u16 = 0x80 | 0x40;

pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// A request for one link by name.
pub(crate) fn link_named(name: &LinkName) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    message
}

/// A request about one link by index.
pub(crate) fn link_indexed(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// An interface that is down gets another name.
pub(crate) fn renamed(index: u32, name: &LinkName) -> LinkMessage {
    let mut message = link_indexed(index);
    message.attributes.push(LinkAttribute::IfName(name.as_str().to_owned()));
    message
}

/// A new link with our mark, down.
fn new_link(name: &LinkName, mac: Option<MacAddr>, mtu: Option<Mtu>) -> LinkMessage {
    let mut message = link_named(name);
    message.attributes.push(LinkAttribute::Group(mark::LINK_GROUP));
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(mtu.map(|mtu| LinkAttribute::Mtu(mtu.get())));
    message
}

/// A link that is there, and down, gets our mark and what a new one is made with.
pub(crate) fn claim(index: u32, link: &Link) -> LinkMessage {
    let mut message = link_indexed(index);
    message.attributes.push(LinkAttribute::Group(mark::LINK_GROUP));
    message.attributes.extend(link.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(link.mtu.map(|mtu| LinkAttribute::Mtu(mtu.get())));
    message
}

fn with_info(mut message: LinkMessage, kind: InfoKind, data: InfoData) -> LinkMessage {
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]));
    message
}

pub(crate) fn new_bridge(name: &LinkName, link: &Link, options: BridgeOptions) -> LinkMessage {
    with_info(new_link(name, link.mac, link.mtu), InfoKind::Bridge, bridge_data(options))
}

fn bridge_data(options: BridgeOptions) -> InfoData {
    InfoData::Bridge(vec![InfoBridge::MulticastSnooping(options.multicast_snooping)])
}

/// To be sent in the underlay's namespace: the device is born in `target`, its outer socket stays where it was asked for.
pub(crate) fn new_vxlan(name: &LinkName, link: &Link, vxlan: &Vxlan, target: &Netns) -> LinkMessage {
    let local = match vxlan.local {
        IpAddr::V4(ip) => InfoVxlan::Local(ip),
        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
    };
    let data = InfoData::Vxlan(vec![
        InfoVxlan::Id(vxlan.vni.into()),
        local,
        InfoVxlan::Port(vxlan.port),
        InfoVxlan::PortRange(vxlan.sources.range()),
        InfoVxlan::Learning(false),
        InfoVxlan::Ageing(0),
        InfoVxlan::UDPCsum(true),
        InfoVxlan::L2Miss(false),
        InfoVxlan::L3Miss(false),
        InfoVxlan::Proxy(false),
    ]);
    let mut message = with_info(new_link(name, link.mac, link.mtu), InfoKind::Vxlan, data);
    message.attributes.push(LinkAttribute::NetNsFd(target.as_fd().as_raw_fd()));
    message
}

pub(crate) fn new_veth(
    name: &LinkName,
    link: &Link,
    peer: &weft_plan::VethPeer,
    there: &Netns,
) -> LinkMessage {
    let mut other = new_link(&peer.name, peer.mac, peer.mtu);
    if peer.handed_on {
        other.attributes.retain(|attribute| !matches!(attribute, LinkAttribute::Group(_)));
    }
    other.attributes.push(LinkAttribute::NetNsFd(there.as_fd().as_raw_fd()));
    other.attributes.extend(peer.gso_max_segments.map(LinkAttribute::GsoMaxSegs));
    with_info(new_link(name, link.mac, link.mtu), InfoKind::Veth, InfoData::Veth(InfoVeth::Peer(other)))
}

/// `parent` is the index of the interface that carries it.
pub(crate) fn new_vlan(name: &LinkName, link: &Link, vlan: &Vlan, parent: u32) -> LinkMessage {
    let mut message = new_link(name, link.mac, link.mtu);
    message.attributes.push(LinkAttribute::Link(parent));
    with_info(message, InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(vlan.id)]))
}

/// To be sent in the parent's namespace, where `parent` is its index: the interface is born in `target`.
pub(crate) fn new_sub_interface(
    name: &LinkName,
    link: &Link,
    sharing: Sharing,
    parent: u32,
    target: &Netns,
) -> LinkMessage {
    let mut message = new_link(name, link.mac, link.mtu);
    message.attributes.push(LinkAttribute::Link(parent));
    message.attributes.push(LinkAttribute::NetNsFd(target.as_fd().as_raw_fd()));
    match sharing {
        Sharing::Macvlan(mode) => {
            let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(macvlan_mode(mode))]);
            with_info(message, InfoKind::MacVlan, data)
        }
        Sharing::Ipvlan(mode, flag) => {
            let mode = match mode {
                IpvlanMode::L2 => IpVlanMode::L2,
                IpvlanMode::L3 => IpVlanMode::L3,
                IpvlanMode::L3S => IpVlanMode::L3S,
            };
            let flags = match flag {
                IpvlanFlag::Bridge => IpVlanFlags::empty(),
                IpvlanFlag::Private => IpVlanFlags::Private,
                IpvlanFlag::Vepa => IpVlanFlags::Vepa,
            };
            let data = InfoData::IpVlan(vec![InfoIpVlan::Mode(mode), InfoIpVlan::Flags(flags)]);
            with_info(message, InfoKind::IpVlan, data)
        }
    }
}

fn macvlan_mode(mode: MacvlanMode) -> MacVlanMode {
    match mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
    }
}

/// `master` is the index of the bridge for [`LinkChange::Master`], 0 for none.
pub(crate) fn change_link(index: u32, change: &LinkChange, master: u32) -> LinkMessage {
    let mut message = link_indexed(index);
    match change {
        LinkChange::Mac(mac) => message.attributes.push(LinkAttribute::Address(mac.0.to_vec())),
        LinkChange::Mtu(mtu) => message.attributes.push(LinkAttribute::Mtu(mtu.get())),
        LinkChange::Master(_) => message.attributes.push(LinkAttribute::Controller(master)),
        LinkChange::Port(port) => {
            let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(port_data(*port))];
            message.attributes.push(LinkAttribute::LinkInfo(info));
        }
        LinkChange::Adopt => message.attributes.push(LinkAttribute::Group(mark::LINK_GROUP)),
        LinkChange::Bridge(options) => message = with_info(message, InfoKind::Bridge, bridge_data(*options)),
        LinkChange::Up(up) => {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if *up { LinkFlags::Up } else { LinkFlags::empty() };
        }
    }
    message
}

fn port_data(port: BridgePort) -> InfoPortData {
    InfoPortData::BridgePort(vec![
        InfoBridgePort::Learning(port.learning),
        InfoBridgePort::UnicastFlood(port.unicast_flood),
        InfoBridgePort::MulticastFlood(port.multicast_flood),
        InfoBridgePort::BroadcastFlood(port.broadcast_flood),
        InfoBridgePort::NeighSupress(port.neigh_suppress),
        InfoBridgePort::Isolated(port.isolated),
        InfoBridgePort::HairpinMode(port.hairpin),
    ])
}

pub(crate) fn address(index: u32, address: &Address) -> AddressMessage {
    let (ip, prefix) = (address.address.ip(), address.address.prefix_len());
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(ip),
        AddressAttribute::Address(ip),
        AddressAttribute::Protocol(AddressProtocol::Other(mark::PROTOCOL)),
    ];
    match address.address.subnet() {
        ipnet::IpNet::V4(subnet) if prefix < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(subnet.broadcast()));
        }
        ipnet::IpNet::V4(_) => {}
        // Addresses are unique by allocation: no detection of duplicates, which would delay the first packet by a second.
        ipnet::IpNet::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

/// `index` is that of the route's link, if it has one.
pub(crate) fn route(route: &Route, index: Option<u32>) -> RouteMessage {
    let destination = route.destination;
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.protocol = RouteProtocol::Other(mark::PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    message.attributes.push(RouteAttribute::Table(route.table));
    if destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    if route.metric > 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message.attributes.extend(index.map(RouteAttribute::Oif));
    match &route.target {
        RouteTarget::Via { gateway, .. } => {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(*gateway)));
        }
        RouteTarget::OnLink { gateway, .. } => {
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(*gateway)));
        }
        RouteTarget::Link(_) if destination.addr().is_ipv4() => message.header.scope = RouteScope::Link,
        RouteTarget::Link(_) => {}
        RouteTarget::Local(_) => {
            message.header.kind = RouteType::Local;
            message.header.scope = RouteScope::Host;
        }
        RouteTarget::Unreachable | RouteTarget::Other => message.header.kind = RouteType::Unreachable,
    }
    message
}

pub(crate) fn rule(rule: &PolicyRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::Other(mark::PROTOCOL)),
    ];
    match &rule.selector {
        RuleSelector::Mark(mark) => {
            message.attributes.extend([RuleAttribute::FwMark(*mark), RuleAttribute::FwMask(u32::MAX)]);
        }
        RuleSelector::Bits(bits) => {
            message.attributes.extend([RuleAttribute::FwMark(*bits), RuleAttribute::FwMask(*bits)]);
        }
        RuleSelector::Incoming(link) => message.attributes.push(RuleAttribute::Iifname(link.to_string())),
        RuleSelector::DatagramFrom(port) => message.attributes.extend([
            RuleAttribute::IpProtocol(IpProtocol::Udp),
            RuleAttribute::SourcePortRange(RulePortRange { start: *port, end: *port }),
        ]),
    }
    message
}

pub(crate) fn fdb(index: u32, entry: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    match entry.target {
        FdbTarget::Port => {
            message.header.state = NeighbourState::Noarp;
            // Sticky: else a frame from that address through another port moves the entry there, static or not.
            message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
        }
        FdbTarget::Vtep(vtep) => {
            message.header.state = NeighbourState::Other(NUD_PERMANENT_NOARP);
            message.header.flags = NeighbourFlags::Own;
            message.attributes.push(NeighbourAttribute::Destination(neighbour_address(vtep)));
        }
    }
    message
}

pub(crate) fn neighbour(index: u32, neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.ip);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        NeighbourAttribute::Destination(neighbour_address(neighbour.ip)),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.0.to_vec()),
        NeighbourAttribute::Protocol(RouteProtocol::Other(mark::PROTOCOL)),
    ];
    message
}

fn neighbour_address(ip: IpAddr) -> NeighbourAddress {
    match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }
}
