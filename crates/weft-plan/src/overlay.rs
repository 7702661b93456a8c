//! The namespace of one overlay network on one node (design: bridge engine).
//!
//! Per segment one bridge with the gateway's addresses and one VXLAN port. Remote endpoints are static entries in three
//! tables: the bridge's neighbours (from which it answers ARP and neighbour solicitations itself), the bridge's
//! forwarding entries (behind the tunnel port) and the tunnel's (which tunnel endpoint). The tunnel port floods
//! nothing, so what is not listed does not leave this node.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_types::{EndpointAddress, EndpointId, MacAddr, Mtu, NetworkId, Vni};

use crate::{
    Address, BridgeOptions, BridgePort, EncryptionEngine, EntryNode, FastSegment, FdbEntry, FdbTarget,
    IngressHost, Link, LinkKind, LinkName, NamespaceRef, NamespaceState, Neighbour, SourcePorts, VethPeer,
    Vxlan, WayOut,
};

/// An overlay network as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayNetwork {
    /// Its id.
    pub id: NetworkId,
    /// MTU of the overlay, tunnel overhead already taken off.
    pub mtu: Mtu,
    /// This node's data-path address.
    pub vtep: IpAddr,
    /// UDP port of the data path, one for the whole swarm.
    pub port: u16,
    /// The namespace the tunnels leave from.
    pub host: NamespaceRef,
    /// One per VNI, in the order of the network's subnets.
    pub segments: Vec<Segment>,
    /// Endpoints on this node.
    pub local: Vec<LocalEndpoint>,
    /// Endpoints on other nodes.
    pub remote: Vec<RemoteEndpoint>,
    /// The nodes where connections enter, on the ingress network; none on others.
    pub entries: Option<Entries>,
    /// What encrypts frames to other nodes; none where they go in the clear. In user space there is no VXLAN device,
    /// but one that hands frames to the helper: what is not there cannot send in the clear, whatever happens to rules
    /// and processes. By the kernel there is one, whose packets come from ports of which nothing leaves in the clear.
    pub encryption: Option<EncryptionEngine>,
    /// Whether programs carry its frames past the bridge, see [`OverlayNetwork::fast_segments`].
    pub fast: bool,
}

/// Where connections enter the ingress network: on every Weft node, by a port without an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// The other Weft nodes.
    pub others: Vec<EntryNode>,
}

/// One broadcast domain of the network: one VNI, with its IPv4 subnet, its IPv6 subnet, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its identifier on the wire.
    pub vni: Vni,
    /// The gateway's address in each of its subnets; the same on every node.
    pub gateways: Vec<EndpointAddress>,
}

impl Segment {
    /// Whether an address belongs to one of its subnets.
    pub fn holds(&self, ip: IpAddr) -> bool {
        self.gateways.iter().any(|gateway| gateway.subnet().contains(&ip))
    }
}

/// An endpoint whose container runs here. Its interface is set up by the plan of its [`crate::Sandbox`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEndpoint {
    /// Its id; names the port.
    pub id: EndpointId,
    /// Any of its addresses: says which segment it is on.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The container's namespace; the host's: the interface waits there until another program moves it on.
    pub sandbox: NamespaceRef,
    /// The interface's name there.
    pub interface: LinkName,
}

/// An endpoint on another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteEndpoint {
    /// Its addresses, IPv4 and IPv6, all on one segment.
    pub ips: Vec<IpAddr>,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The data-path address of its node.
    pub vtep: IpAddr,
}

/// What TCP hands over in one piece should leave the helper by one call, as one piece, and so go on to the other end. With
/// a call for the greater part and one for the rest, it would take nearly twice the work.
fn segments_of_one_call(mtu: Mtu) -> u32 {
    // UDP's largest datagram over IPv4, less a little.
    const CALL: u32 = 65_000;
    // Ethernet, VXLAN and UDP inside; ESP's header, vector, trailer with padding, and check value.
    const AROUND: u32 = (14 + 8 + 8) + (8 + 8 + 2 + 3 + 16);
    (CALL / (mtu.get() + AROUND)).max(1)
}

/// The name of the bridge's end of an endpoint's veth pair.
pub fn port_name(endpoint: &EndpointId) -> LinkName {
    LinkName::built(format!("veth{}", &endpoint.as_str()[..11]))
}

impl OverlayNetwork {
    /// Name of a segment's bridge.
    pub fn bridge_name(index: usize) -> LinkName {
        LinkName::built(format!("br{index}"))
    }

    /// Name of a segment's tunnel device.
    pub fn tunnel_name(index: usize) -> LinkName {
        LinkName::built(format!("vxlan{index}"))
    }

    /// Name of a segment's way out for programs, as its namespace sees it.
    pub fn uplink_name(index: usize) -> LinkName {
        LinkName::built(format!("uplink{index}"))
    }

    /// The same way's other end, in the host's namespace.
    pub fn outside_name(vni: Vni) -> LinkName {
        LinkName::built(format!("weft-{:06x}", vni.get()))
    }

    /// Name of the routing mesh's port on the ingress network.
    pub fn entry_name() -> LinkName {
        LinkName::built("entry".to_owned())
    }

    /// Which station of a segment is behind which tunnel endpoint.
    pub fn forwarding(&self) -> impl Iterator<Item = (usize, MacAddr, IpAddr)> + '_ {
        let remote = self.remote.iter().filter(|endpoint| endpoint.vtep != self.vtep);
        let remote = remote.filter_map(|endpoint| {
            let index = endpoint.ips.iter().find_map(|ip| self.segment_of(*ip))?;
            Some((index, endpoint.mac, endpoint.vtep))
        });
        let others = self.entries.iter().flat_map(|entries| &entries.others);
        let others = others.filter(|node| node.0 != self.vtep).map(|node| (0, node.mac(), node.0));
        remote.chain(others)
    }

    fn segment_of(&self, ip: IpAddr) -> Option<usize> {
        self.segments.iter().position(|segment| segment.holds(ip))
    }

    /// What the network's namespace shall hold. Endpoints outside every segment are left out.
    pub fn plan(&self) -> NamespaceState {
        let mut state = NamespaceState::default();
        settings(&mut state);
        for (index, segment) in self.segments.iter().enumerate() {
            self.plan_segment(index, segment, &mut state);
        }
        for endpoint in &self.local {
            if let Some(index) = self.segment_of(endpoint.ip) {
                self.plan_local(index, endpoint, &mut state);
            }
        }
        if self.entries.is_some() {
            self.plan_entry(&mut state);
        }
        for endpoint in self.remote.iter().filter(|endpoint| endpoint.vtep != self.vtep) {
            self.plan_remote(endpoint, &mut state);
        }
        for (index, mac, vtep) in self.forwarding() {
            self.plan_forwarding(index, mac, vtep, &mut state);
        }
        state
    }

    fn plan_segment(&self, index: usize, segment: &Segment, state: &mut NamespaceState) {
        let bridge = Self::bridge_name(index);
        // One address on every node: an endpoint that moves keeps a valid neighbour entry for its gateway.
        let mac = segment.gateways.first().map(|gateway| MacAddr::from_ip(gateway.ip()));
        let options = BridgeOptions { multicast_snooping: false };
        let link = Link { mac, mtu: Some(self.mtu), ..Link::new(LinkKind::Bridge(options)) };
        state.links.insert(bridge.clone(), link);
        // Unlike its ports the bridge asks for neighbours, when it routes between subnets, and needs an address for that.
        state.set(format!("net/ipv6/conf/{bridge}/addr_gen_mode"), "0");
        state.set(format!("net/ipv6/conf/{bridge}/accept_dad"), "0");
        for gateway in &segment.gateways {
            state.addresses.insert(Address { link: bridge.clone(), address: *gateway });
        }
        let link = Link {
            mtu: Some(self.mtu),
            master: Some(bridge),
            port: Some(BridgePort::TUNNEL),
            ..Link::new(self.tunnel(segment.vni))
        };
        state.links.insert(Self::tunnel_name(index), link);
        if let Some(WayOut::Uplink { inside, outside }) = self.fast.then(|| self.way_out(index, segment.vni))
        {
            let link = Link {
                mtu: Some(self.mtu),
                master: Some(Self::bridge_name(index)),
                port: Some(BridgePort::UPLINK),
                ..Link::new(LinkKind::Veth(Some(VethPeer::plain(self.host.clone(), outside))))
            };
            state.links.insert(inside, link);
        }
    }

    /// Frames that the kernel encrypts are known to it by the tunnel device that they come from.
    fn way_out(&self, index: usize, vni: Vni) -> WayOut {
        match self.encryption {
            Some(EncryptionEngine::Userspace) => WayOut::Device(Self::tunnel_name(index)),
            Some(EncryptionEngine::Kernel) => WayOut::None,
            None => WayOut::Uplink { inside: Self::uplink_name(index), outside: Self::outside_name(vni) },
        }
    }

    /// What programs carry of it; nothing where it is not to be carried by them. `namespace` is the network's.
    pub fn fast_segments<'a>(
        &'a self,
        namespace: &'a NamespaceRef,
    ) -> impl Iterator<Item = (Vni, FastSegment)> + 'a {
        let segments = self.segments.iter().enumerate().filter(|_| self.fast);
        segments.map(move |(index, segment)| {
            let local = self.local.iter().filter(move |endpoint| self.segment_of(endpoint.ip) == Some(index));
            let entry = self.entries.iter().filter(move |_| index == 0);
            let entry = entry.map(|_| (Self::entry_name(), EntryNode(self.vtep).mac()));
            let ports = local.map(|endpoint| (port_name(&endpoint.id), endpoint.mac)).chain(entry).collect();
            let remote =
                self.forwarding().filter(|(of, _, _)| *of == index).map(|(_, mac, vtep)| (mac, vtep));
            let way_out = self.way_out(index, segment.vni);
            let namespace = namespace.clone();
            (segment.vni, FastSegment { namespace, way_out, ports, remote: remote.collect() })
        })
    }

    /// The ends of uplinks in the host's namespace.
    pub fn uplinks(&self) -> impl Iterator<Item = LinkName> + '_ {
        let segments = self.segments.iter().enumerate().filter(|_| self.fast);
        segments.filter_map(|(index, segment)| match self.way_out(index, segment.vni) {
            WayOut::Uplink { outside, .. } => Some(outside),
            WayOut::Device(_) | WayOut::None => None,
        })
    }

    fn tunnel(&self, vni: Vni) -> LinkKind {
        let sources = match self.encryption {
            Some(EncryptionEngine::Userspace) => return LinkKind::Tap,
            Some(EncryptionEngine::Kernel) => SourcePorts::Encrypted,
            None => SourcePorts::Open,
        };
        let underlay = self.host.clone();
        LinkKind::Vxlan(Vxlan { vni, local: self.vtep, port: self.port, underlay, sources })
    }

    fn plan_local(&self, index: usize, endpoint: &LocalEndpoint, state: &mut NamespaceState) {
        let by_helper = self.encryption == Some(EncryptionEngine::Userspace);
        let peer = VethPeer {
            namespace: endpoint.sandbox.clone(),
            name: endpoint.interface.clone(),
            mac: Some(endpoint.mac),
            mtu: Some(self.mtu),
            gso_max_segments: by_helper.then(|| segments_of_one_call(self.mtu)),
            // No container of ours lives in the host's namespace.
            handed_on: endpoint.sandbox == self.host,
        };
        let link = Link {
            mtu: Some(self.mtu),
            master: Some(Self::bridge_name(index)),
            port: Some(BridgePort::ENDPOINT),
            ..Link::new(LinkKind::Veth(Some(peer)))
        };
        let port = port_name(&endpoint.id);
        state.links.insert(port.clone(), link);
        // Static, so that no other port can claim the address by sending from it.
        state.fdb.insert(FdbEntry { link: port, mac: endpoint.mac, target: FdbTarget::Port });
    }

    /// Tasks' answers go by Ethernet address alone to the node that let the connection in.
    fn plan_entry(&self, state: &mut NamespaceState) {
        let own = EntryNode(self.vtep);
        let peer = VethPeer {
            namespace: self.host.clone(),
            name: IngressHost::link(),
            mac: Some(own.mac()),
            mtu: Some(self.mtu),
            gso_max_segments: None,
            handed_on: false,
        };
        let link = Link {
            mtu: Some(self.mtu),
            master: Some(Self::bridge_name(0)),
            port: Some(BridgePort::ENDPOINT),
            ..Link::new(LinkKind::Veth(Some(peer)))
        };
        let port = Self::entry_name();
        state.links.insert(port.clone(), link);
        state.fdb.insert(FdbEntry { link: port, mac: own.mac(), target: FdbTarget::Port });
    }

    fn plan_remote(&self, endpoint: &RemoteEndpoint, state: &mut NamespaceState) {
        let Some(index) = endpoint.ips.iter().find_map(|ip| self.segment_of(*ip)) else { return };
        for ip in endpoint.ips.iter().filter(|ip| self.segments[index].holds(**ip)) {
            let link = Self::bridge_name(index);
            state.neighbours.insert(Neighbour { link, ip: *ip, mac: endpoint.mac });
        }
    }

    /// A TAP device has no table of its own: the helper's says where its frames go.
    fn plan_forwarding(&self, index: usize, mac: MacAddr, vtep: IpAddr, state: &mut NamespaceState) {
        let link = Self::tunnel_name(index);
        state.fdb.insert(FdbEntry { link: link.clone(), mac, target: FdbTarget::Port });
        if self.encryption != Some(EncryptionEngine::Userspace) {
            state.fdb.insert(FdbEntry { link, mac, target: FdbTarget::Vtep(vtep) });
        }
    }
}

fn settings(state: &mut NamespaceState) {
    state.links.insert(LinkName::lo(), Link::new(LinkKind::Loopback));
    // Bridged packets must not visit the netfilter hooks of IP: costs 430 ns a packet and can drop them.
    for kind in ["iptables", "ip6tables", "arptables"] {
        state.set(format!("net/bridge/bridge-nf-call-{kind}"), "0");
    }
    // The gateway routes between the subnets of one network.
    state.set("net/ipv4/ip_forward", "1");
    state.set("net/ipv6/conf/all/forwarding", "1");
    // Ports need no address of their own; without one they send no neighbour discovery either.
    state.set("net/ipv6/conf/default/addr_gen_mode", "1");
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
