//! What the programs' maps hold, byte for byte (`bpf/fast_path.h`), and which entries a wish comes to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use weft_plan::{FastPath, FastSegment, WayOut};
use weft_types::{MacAddr, Vni, mapped};

use super::survey::{Device, Space, Survey};

/// Raised whenever maps of another build could not be used: it is in the name of their folder.
pub(super) const LAYOUT: u32 = 1;
/// How many stations there can be (`stations`, `max_entries`).
pub(super) const STATIONS_MAX: usize = 65536;

const LOCAL: u32 = 1;
const TUNNEL: u32 = 2;
const DEVICE: u32 = 3;
const FORWARDS: u32 = 1;

/// `struct station_key`: the network identifier in the machine's byte order, the Ethernet address, two zeros.
pub(super) type Key = [u8; 12];
/// `struct station`: kind, interface in the network's namespace, interface in the host's, flags, each in the machine's
/// byte order; the tunnel endpoint.
pub(super) type Station = [u8; 32];
/// `struct settings`: the data-path address, as IPv6 and as IPv4, the longest packet, the port in network byte order, an
/// interface of the underlay.
pub(super) type Settings = [u8; 32];

/// Nothing is sent and nothing taken.
pub(super) const NO_SETTINGS: Settings = [0; 32];

/// Indices of `counters`, in the order of `enum counter`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counter {
    Delivered,
    Encapsulated,
    Decapsulated,
    Received,
    HandedOver,
    SlowPath,
    WrongSender,
    Malformed,
    CongestionDropped,
    Stray,
    Unroutable,
    Errors,
}

pub(super) fn key(vni: Vni, mac: MacAddr) -> Key {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&vni.get().to_ne_bytes());
    key[4..10].copy_from_slice(&mac.0);
    key
}

fn station(kind: u32, index: u32, outside: u32, flags: u32, tunnel_end: Ipv6Addr) -> Station {
    let mut station = [0; 32];
    for (at, number) in [kind, index, outside, flags].into_iter().enumerate() {
        station[4 * at..4 * at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    station[16..].copy_from_slice(&tunnel_end.octets());
    station
}

/// Behind a port of the network's namespace. `outside`: where tunnel packets for it go, in the host's namespace.
pub(super) fn local(port: u32, outside: Option<u32>, forwards: bool) -> Station {
    let flags = if forwards { FORWARDS } else { 0 };
    station(LOCAL, port, outside.unwrap_or(0), flags, Ipv6Addr::UNSPECIFIED)
}

/// On another node. `inside`: where frames for it leave, in the network's namespace; none: by the bridge.
pub(super) fn tunnel(vtep: IpAddr, inside: Option<u32>) -> Station {
    station(TUNNEL, inside.unwrap_or(0), 0, 0, mapped(vtep).octets().into())
}

/// On another node, by a device of the network's namespace.
pub(super) fn device(index: u32) -> Station {
    station(DEVICE, index, 0, 0, Ipv6Addr::UNSPECIFIED)
}

/// `mtu`: the longest packet that every interface of the underlay takes, in bytes. `underlay`: one of these.
pub(super) fn settings(vtep: IpAddr, port: u16, mtu: u32, underlay: Option<u32>) -> Settings {
    let mut settings = NO_SETTINGS;
    settings[..16].copy_from_slice(&mapped(vtep).octets());
    if let IpAddr::V4(v4) = vtep {
        settings[16..20].copy_from_slice(&v4.octets());
    }
    settings[20..24].copy_from_slice(&mtu.to_ne_bytes());
    settings[24..26].copy_from_slice(&port.to_be_bytes());
    settings[28..].copy_from_slice(&underlay.unwrap_or(0).to_ne_bytes());
    settings
}

/// The settings of a wish.
pub(super) fn settings_of(desired: &FastPath, survey: &Survey) -> Settings {
    let underlay = || desired.underlay.iter().filter_map(|link| survey.host.devices.get(link));
    // An underlay that is not known is no reason to cut the overlay's packets short: routed fabrics have none.
    let mtu = underlay().map(|device| device.mtu).min().unwrap_or(u32::from(u16::MAX));
    settings(desired.vtep, desired.port, mtu, underlay().next().map(|device| device.index))
}

/// The stations of a wish whose devices are there. `stands` says whether programs are attached to a device of a
/// namespace: nothing is sent where no program waits.
pub(super) fn stations(
    desired: &FastPath,
    survey: &Survey,
    stands: impl Fn(&Space, &Device) -> bool,
) -> BTreeMap<Key, Station> {
    let mut stations = BTreeMap::new();
    for (vni, segment) in &desired.segments {
        let Some(space) = survey.spaces.get(&segment.namespace) else { continue };
        let found = |link| space.devices.get(link);
        let uplink = uplink(segment, survey, space, &stands);
        for (link, mac) in &segment.ports {
            if let Some(port) = found(link) {
                let outside = uplink.map(|(_, outside)| outside);
                stations.insert(key(*vni, *mac), local(port.index, outside, FastSegment::forwards(link)));
            }
        }
        let by_device = match &segment.way_out {
            WayOut::Device(link) => found(link).map(|found| found.index),
            WayOut::Uplink { .. } | WayOut::None => None,
        };
        for (mac, vtep) in &segment.remote {
            let over_ipv4 = vtep.is_ipv4() && desired.vtep.is_ipv4();
            let entry = match (uplink, by_device) {
                (Some((inside, _)), _) => tunnel(*vtep, over_ipv4.then_some(inside)),
                (None, Some(index)) => device(index),
                (None, None) => continue,
            };
            // A station that has moved here is here.
            stations.entry(key(*vni, *mac)).or_insert(entry);
        }
    }
    stations
}

/// Both ends of a segment's uplink, where it works.
fn uplink(
    segment: &FastSegment,
    survey: &Survey,
    space: &Space,
    stands: impl Fn(&Space, &Device) -> bool,
) -> Option<(u32, u32)> {
    let WayOut::Uplink { inside, outside } = &segment.way_out else { return None };
    let (inside, outside) = (space.devices.get(inside)?, survey.host.devices.get(outside)?);
    let works = inside.up && outside.up && stands(space, inside) && stands(&survey.host, outside);
    works.then_some((inside.index, outside.index))
}
