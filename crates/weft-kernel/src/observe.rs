//! Reading a namespace.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use weft_plan::{
    Address, BridgeOptions, BridgePort, FdbEntry, FdbTarget, Link, LinkKind, LinkName, NamespaceRef,
    Observed, Owner, PolicyRule, Route, RouteTarget, RuleSelector, SeenLink, SeenNeighbour, SourcePorts,
    Vxlan, mark,
};
use weft_types::{EndpointAddress, MacAddr, Mtu};

use crate::KernelError;
use crate::message::link_indexed;
use crate::socket::NetlinkSocket;
use crate::{link_settings, sub_interface};

/// The kernel's table of local and broadcast addresses; not for routing policy.
const LOCAL_TABLE: u32 = 255;

/// Everything but nftables, and of the settings in `sysctls` those of interfaces.
pub(crate) fn observe(socket: &mut NetlinkSocket, sysctls: &[String]) -> Result<Observed, KernelError> {
    let messages = links(socket)?;
    let names = names(&messages);
    let mut observed = Observed { links: seen_links(&messages, &names), ..Observed::default() };
    observed.sysctls = link_settings::values(&messages, sysctls);
    observed.addresses = addresses(socket, &names)?;
    observed.routes = routes(socket, &names)?;
    observed.rules = rules(socket)?;
    for message in neighbours(socket, AddressFamily::Bridge)? {
        if let Some(entry) = fdb_entry(&message, &names).filter(|entry| is_ours(&observed, &entry.link)) {
            observed.fdb.insert(entry);
        }
    }
    for message in neighbours(socket, AddressFamily::Unspec)? {
        if let Some((key, seen)) = neighbour(&message, &names) {
            observed.neighbours.insert(key, seen);
        }
    }
    Ok(observed)
}

fn is_ours(observed: &Observed, link: &LinkName) -> bool {
    observed.links.get(link).is_some_and(|seen| seen.owner == Owner::Weft)
}

/// All links.
pub(crate) fn links(socket: &mut NetlinkSocket) -> Result<Vec<LinkMessage>, KernelError> {
    let answers =
        socket.dump(&RouteNetlinkMessage::GetLink(link_indexed(0))).map_err(|r| r.of("list interfaces"))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(message),
            _ => None,
        })
        .collect())
}

fn names(messages: &[LinkMessage]) -> HashMap<u32, LinkName> {
    let named = |message: &LinkMessage| Some((message.header.index, link_name(message)?));
    messages.iter().filter_map(named).collect()
}

pub(crate) fn link_name(message: &LinkMessage) -> Option<LinkName> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => name.parse().ok(),
        _ => None,
    })
}

fn seen_links(messages: &[LinkMessage], names: &HashMap<u32, LinkName>) -> BTreeMap<LinkName, SeenLink> {
    let seen = |message: &LinkMessage| Some((link_name(message)?, seen_link(message, names)));
    messages.iter().filter_map(seen).collect()
}

pub(crate) fn seen_link(message: &LinkMessage, names: &HashMap<u32, LinkName>) -> SeenLink {
    let mut link = Link::new(LinkKind::Other("device".to_owned()));
    let mut owner = Owner::Foreign;
    link.up = message.header.flags.contains(LinkFlags::Up);
    if message.header.link_layer_type == LinkLayerType::Loopback {
        link.kind = LinkKind::Loopback;
    }
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(mac) => link.mac = mac_addr(mac),
            LinkAttribute::Mtu(mtu) => link.mtu = Mtu::try_from(*mtu).ok(),
            LinkAttribute::Controller(index) => link.master = names.get(index).cloned(),
            LinkAttribute::Group(group) if *group == mark::LINK_GROUP => owner = Owner::Weft,
            LinkAttribute::LinkInfo(infos) => {
                if let Some(kind) = link_kind(infos, sub_interface::parent(message, names)) {
                    link.kind = kind;
                }
                link.port = infos.iter().find_map(bridge_port);
            }
            _ => {}
        }
    }
    SeenLink { link, owner }
}

/// `parent` is the interface of the same namespace that it is a part of.
fn link_kind(infos: &[LinkInfo], parent: Option<&LinkName>) -> Option<LinkKind> {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })?;
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    Some(match (kind, data) {
        (InfoKind::Bridge, Some(InfoData::Bridge(data))) => LinkKind::Bridge(bridge_options(data)),
        (InfoKind::Vxlan, Some(InfoData::Vxlan(data))) => vxlan_kind(data),
        (InfoKind::Veth, _) => LinkKind::Veth(None),
        (InfoKind::Tun, _) => LinkKind::Tap,
        (InfoKind::Vlan, Some(InfoData::Vlan(data))) => sub_interface::vlan(data, parent)?,
        (InfoKind::MacVlan, Some(InfoData::MacVlan(data))) => sub_interface::macvlan(data)?,
        (InfoKind::IpVlan, Some(InfoData::IpVlan(data))) => sub_interface::ipvlan(data)?,
        (other, _) => LinkKind::Other(other.to_string()),
    })
}

fn bridge_options(data: &[InfoBridge]) -> BridgeOptions {
    let snooping = data.iter().any(|info| matches!(info, InfoBridge::MulticastSnooping(true)));
    BridgeOptions { multicast_snooping: snooping }
}

/// A device that someone taught to learn or to flood is not the one we made: it shows as another kind, to be made anew.
fn vxlan_kind(data: &[InfoVxlan]) -> LinkKind {
    let mut vxlan = Vxlan {
        vni: weft_types::Vni::MAX,
        local: Ipv4Addr::UNSPECIFIED.into(),
        port: 0,
        underlay: NamespaceRef(String::new()),
        sources: SourcePorts::Open,
    };
    for info in data {
        match info {
            InfoVxlan::Id(id) => vxlan.vni = weft_types::Vni::try_from(*id).unwrap_or(weft_types::Vni::MAX),
            InfoVxlan::Local(ip) => vxlan.local = IpAddr::V4(*ip),
            InfoVxlan::Local6(ip) => vxlan.local = IpAddr::V6(*ip),
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::PortRange(range) => vxlan.sources = SourcePorts::of(*range),
            InfoVxlan::Learning(true) => return LinkKind::Other("vxlan that learns".to_owned()),
            InfoVxlan::Proxy(true) => return LinkKind::Other("vxlan that answers".to_owned()),
            InfoVxlan::Group(ip) if !ip.is_unspecified() => {
                return LinkKind::Other("vxlan that floods".to_owned());
            }
            InfoVxlan::Group6(ip) if !ip.is_unspecified() => {
                return LinkKind::Other("vxlan that floods".to_owned());
            }
            _ => {}
        }
    }
    LinkKind::Vxlan(vxlan)
}

fn bridge_port(info: &LinkInfo) -> Option<BridgePort> {
    let LinkInfo::PortData(InfoPortData::BridgePort(data)) = info else { return None };
    let mut port = BridgePort::QUIET;
    for info in data {
        match info {
            InfoBridgePort::Learning(on) => port.learning = *on,
            InfoBridgePort::UnicastFlood(on) => port.unicast_flood = *on,
            InfoBridgePort::MulticastFlood(on) => port.multicast_flood = *on,
            InfoBridgePort::BroadcastFlood(on) => port.broadcast_flood = *on,
            InfoBridgePort::NeighSupress(on) => port.neigh_suppress = *on,
            InfoBridgePort::Isolated(on) => port.isolated = *on,
            InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
            _ => {}
        }
    }
    Some(port)
}

fn mac_addr(bytes: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(bytes).ok().map(MacAddr)
}

/// All addresses.
fn addresses(
    socket: &mut NetlinkSocket,
    names: &HashMap<u32, LinkName>,
) -> Result<BTreeMap<Address, Owner>, KernelError> {
    let seen = address_messages(socket)?.into_iter().filter_map(|message| {
        let link = names.get(&message.header.index)?.clone();
        let ours = message.attributes.iter().any(|attribute| {
            matches!(attribute, AddressAttribute::Protocol(AddressProtocol::Other(mark::PROTOCOL)))
        });
        let owner = if ours { Owner::Weft } else { Owner::Foreign };
        Some((Address { link, address: interface_address(&message)? }, owner))
    });
    Ok(seen.collect())
}

pub(crate) fn address_messages(socket: &mut NetlinkSocket) -> Result<Vec<AddressMessage>, KernelError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = socket.dump(&request).map_err(|r| r.of("list addresses"))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => Some(message),
            _ => None,
        })
        .collect())
}

/// On point-to-point links `Local` is ours and `Address` the other side; elsewhere IPv6 has only `Address`.
pub(crate) fn interface_address(message: &AddressMessage) -> Option<EndpointAddress> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    let ip = local.or(address)?;
    Some(EndpointAddress::new(ip, IpNet::new(ip, message.header.prefix_len).ok()?))
}

fn routes(
    socket: &mut NetlinkSocket,
    names: &HashMap<u32, LinkName>,
) -> Result<BTreeMap<Route, Owner>, KernelError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let answers = socket.dump(&request).map_err(|r| r.of("list routes"))?;
    let seen = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(message) => route(&message, names),
        _ => None,
    });
    Ok(seen.collect())
}

fn route(message: &RouteMessage, names: &HashMap<u32, LinkName>) -> Option<(Route, Owner)> {
    let header = &message.header;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut table, mut destination, mut metric) = (u32::from(header.table), any, 0);
    let (mut gateway, mut link, mut simple) = (None, None, true);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(address) => destination = route_address(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Gateway(address) => gateway = route_address(address),
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) | RouteAttribute::NhId(_) => simple = false,
            _ => {}
        }
    }
    if table == LOCAL_TABLE || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let target = match (header.kind, gateway, link) {
        (RouteType::Unicast, Some(gateway), Some(link))
            if simple && header.flags.contains(RouteFlags::Onlink) =>
        {
            RouteTarget::OnLink { gateway, link }
        }
        (RouteType::Unicast, Some(gateway), Some(link)) if simple => RouteTarget::Via { gateway, link },
        (RouteType::Unicast, None, Some(link)) if simple => RouteTarget::Link(link),
        (RouteType::Local, _, Some(link)) => RouteTarget::Local(link),
        (RouteType::Unreachable, ..) => RouteTarget::Unreachable,
        _ => RouteTarget::Other,
    };
    let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some((Route { table, destination, metric, target }, protocol_owner(header.protocol)))
}

fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn protocol_owner(protocol: RouteProtocol) -> Owner {
    if protocol == RouteProtocol::Other(mark::PROTOCOL) { Owner::Weft } else { Owner::Foreign }
}

fn rules(socket: &mut NetlinkSocket) -> Result<BTreeMap<PolicyRule, Owner>, KernelError> {
    let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
    let answers = socket.dump(&request).map_err(|r| r.of("list routing rules"))?;
    let seen = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRule(message) => rule(&message),
        _ => None,
    });
    Ok(seen.collect())
}

/// Only rules by mark, incoming interface or port of datagrams are of interest.
fn rule(message: &RuleMessage) -> Option<(PolicyRule, Owner)> {
    let (mut priority, mut table, mut selector) = (0, u32::from(message.header.table), None);
    let mut owner = Owner::Foreign;
    let mut mask = u32::MAX;
    let (mut of_udp, mut port) = (false, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Priority(value) => priority = *value,
            RuleAttribute::FwMark(mark) => selector = Some(RuleSelector::Mark(*mark)),
            RuleAttribute::Iifname(name) => selector = name.parse().ok().map(RuleSelector::Incoming),
            RuleAttribute::IpProtocol(protocol) => of_udp = *protocol == IpProtocol::Udp,
            RuleAttribute::SourcePortRange(range) if range.start == range.end => port = Some(range.start),
            RuleAttribute::Table(value) => table = *value,
            RuleAttribute::Protocol(protocol) => owner = protocol_owner(*protocol),
            _ => {}
        }
    }
    if let Some(RuleSelector::Mark(mark)) = selector
        && mask != u32::MAX
    {
        // One with another mask is nobody's we know.
        selector = (mark == mask).then_some(RuleSelector::Bits(mask));
    }
    if of_udp && selector.is_none() {
        selector = port.map(RuleSelector::DatagramFrom);
    }
    let ipv6 = message.header.family == AddressFamily::Inet6;
    Some((PolicyRule { ipv6, priority, selector: selector?, table }, owner))
}

fn neighbours(
    socket: &mut NetlinkSocket,
    family: AddressFamily,
) -> Result<Vec<NeighbourMessage>, KernelError> {
    let mut request = NeighbourMessage::default();
    request.header.family = family;
    let answers = socket
        .dump(&RouteNetlinkMessage::GetNeighbour(request))
        .map_err(|r| r.of(format!("list neighbours of {family:?}")))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => Some(message),
            _ => None,
        })
        .collect())
}

/// Static entries of a bridge, and all entries of a tunnel (which learns nothing, so all are somebody's doing).
fn fdb_entry(message: &NeighbourMessage, names: &HashMap<u32, LinkName>) -> Option<FdbEntry> {
    let link = names.get(&message.header.ifindex)?.clone();
    let mac = lladdr(message)?;
    let in_bridge = message.attributes.iter().any(|a| matches!(a, NeighbourAttribute::Controller(_)));
    if in_bridge && !message.header.flags.contains(NeighbourFlags::Own) {
        // One that is static but can be moved is not as we set it.
        let sticky = message.header.flags.contains(NeighbourFlags::Sticky);
        let ours = message.header.state == NeighbourState::Noarp && sticky;
        return ours.then_some(FdbEntry { link, mac, target: FdbTarget::Port });
    }
    let vtep = destination(message)?;
    Some(FdbEntry { link, mac, target: FdbTarget::Vtep(vtep) })
}

fn lladdr(message: &NeighbourMessage) -> Option<MacAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac_addr(mac),
        _ => None,
    })
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        // Entries of the bridge family come without a known address family.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    })
}

fn neighbour(
    message: &NeighbourMessage,
    names: &HashMap<u32, LinkName>,
) -> Option<((LinkName, IpAddr), SeenNeighbour)> {
    let link = names.get(&message.header.ifindex)?.clone();
    let ip = destination(message)?;
    let ours = message
        .attributes
        .iter()
        .any(|a| matches!(a, NeighbourAttribute::Protocol(p) if protocol_owner(*p) == Owner::Weft));
    let seen = SeenNeighbour {
        mac: lladdr(message),
        permanent: message.header.state == NeighbourState::Permanent,
        owner: if ours { Owner::Weft } else { Owner::Foreign },
    };
    Some(((link, ip), seen))
}
