//! From the managers' objects to the controller's. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_network::{
    IngressPort, OverlaySpec, OverlaySubnet, SourceMode, SwarmAttachment, SwarmEndpoint, SwarmKey,
    SwarmMember, SwarmNetworkState, SwarmService, SwarmServiceState,
};
use weft_types::{EndpointAddress, Mtu, NetworkId, NodeId, PortProtocol, TaskId, Underlay, Vni};
use weft_wire::swarmkit::port_config::{Protocol, PublishMode};
use weft_wire::swarmkit::{EncryptionKey, Network, NetworkAttachment, Node, PortConfig, Task};
use weft_wire::weft_v1::{Member, RemoteEndpoint, ServicePort, ServiceView};

use crate::outlook::NetworkOutlook;

const GOSSIP_SUBSYSTEM: &str = "networking:gossip";
const ENCRYPTION_SUBSYSTEM: &str = "networking:ipsec";
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
const MTU_OPTION: &str = "com.docker.network.driver.mtu";
/// Set by `docker stack deploy`.
const STACK_LABEL: &str = "com.docker.stack.namespace";
/// Value of `ServiceView.source` for tasks that shall see the entry node instead of the client.
const SOURCE_SNAT: &str = "snat";
const ENCRYPTED_OPTION: &str = "encrypted";

/// Something of a manager's that this node cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manager sent a {0} that cannot be used")]
pub(crate) struct Unusable(&'static str);

/// What an attachment task grants.
pub(crate) fn attachment(task: &Task) -> Result<SwarmAttachment, Unusable> {
    let granted = task.networks.first().ok_or(Unusable("task without networks"))?;
    place(task, granted)
}

/// What a service task has on the network `term` (name or id).
pub(crate) fn task_attachment(task: &Task, term: &str) -> Result<SwarmAttachment, Unusable> {
    let named = |network: &Network| {
        let annotations = network.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
        network.id == term || annotations.is_some_and(|annotations| annotations.name == term)
    };
    let granted = task.networks.iter().find(|granted| granted.network.as_ref().is_some_and(named));
    let granted = granted.ok_or(Unusable("task without this network"))?;
    let place = place(task, granted)?;
    let service = task.service_annotations.clone().unwrap_or_default();
    let endpoint = task.endpoint.as_ref();
    let all = endpoint.into_iter().flat_map(|endpoint| &endpoint.virtual_ips);
    let own = all.filter(|ip| ip.network_id == place.network.id.as_str());
    let virtual_ips: Vec<IpAddr> = own.filter_map(|ip| host(&ip.addr)).collect();
    let service = SwarmService {
        id: task.service_id.clone(),
        name: service.name,
        virtual_ip: virtual_ips.first().copied(),
        further_virtual_ips: virtual_ips.into_iter().skip(1).collect(),
        aliases: granted.aliases.clone(),
        stack: service.labels.get(STACK_LABEL).cloned(),
        ports: match place.network.ingress {
            true => endpoint.into_iter().flat_map(|endpoint| &endpoint.ports).filter_map(published).collect(),
            false => Vec::new(),
        },
    };
    Ok(SwarmAttachment { service: Some(service), ..place })
}

fn place(task: &Task, granted: &NetworkAttachment) -> Result<SwarmAttachment, Unusable> {
    let network = granted.network.as_ref().ok_or(Unusable("attachment without its network"))?;
    let addresses: Vec<EndpointAddress> =
        granted.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() || addresses.len() != granted.addresses.len() {
        return Err(Unusable("malformed address"));
    }
    Ok(SwarmAttachment {
        attachment: TaskId::try_from(task.id.clone()).map_err(|_| Unusable("malformed task id"))?,
        network: overlay(network)?,
        addresses,
        service: None,
    })
}

/// A network as the controller wants it.
pub(crate) fn overlay(network: &Network) -> Result<OverlaySpec, Unusable> {
    let spec = network.spec.clone().unwrap_or_default();
    let annotations = spec.annotations.unwrap_or_default();
    let state = network.driver_state.as_ref().map(|driver| driver.options.clone()).unwrap_or_default();
    let mut options: BTreeMap<String, String> =
        spec.driver_config.map(|driver| driver.options.into_iter().collect()).unwrap_or_default();
    options.extend(state);
    Ok(OverlaySpec {
        id: NetworkId::try_from(network.id.clone()).map_err(|_| Unusable("malformed network id"))?,
        name: annotations.name,
        subnets: subnets(network, options.get(VNI_OPTION).map_or("", String::as_str))?,
        mtu: options
            .get(MTU_OPTION)
            .and_then(|text| text.parse().ok())
            .and_then(|n: u32| Mtu::try_from(n).ok()),
        attachable: spec.attachable,
        internal: spec.internal,
        encrypted: options.contains_key(ENCRYPTED_OPTION),
        ingress: spec.ingress,
        labels: annotations.labels.into_iter().collect(),
        options,
    })
}

/// The identifiers belong to the IPv4 subnets in order; an IPv6 subnet shares that of the IPv4 subnet at its place.
fn subnets(network: &Network, vnis: &str) -> Result<Vec<OverlaySubnet>, Unusable> {
    let words = vnis.split(',').map(str::trim).filter(|word| !word.is_empty());
    let vnis: Vec<Vni> = words
        .map(|word| word.parse().ok().and_then(|n: u32| Vni::try_from(n).ok()))
        .collect::<Option<_>>()
        .ok_or(Unusable("malformed list of VXLAN ids"))?;
    let (mut v4, mut v6) = (0, 0);
    let configs = network.ipam.iter().flat_map(|ipam| &ipam.configs);
    configs
        .map(|config| {
            let subnet: IpNet = config.subnet.parse().map_err(|_| Unusable("malformed subnet"))?;
            let place = if subnet.addr().is_ipv4() { &mut v4 } else { &mut v6 };
            let vni = vnis.get(*place).or(vnis.first()).copied();
            *place += 1;
            Ok(OverlaySubnet {
                subnet,
                gateway: host(&config.gateway),
                vni,
                range: config.range.parse().ok(),
                auxiliary: config.reserved.iter().filter_map(|(k, v)| Some((k.clone(), host(v)?))).collect(),
            })
        })
        .collect()
}

/// An address that may carry a prefix length.
fn host(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// Gossip's keys.
pub(crate) fn gossip_keys(keys: &[EncryptionKey]) -> Vec<SwarmKey> {
    keys_of(keys, GOSSIP_SUBSYSTEM)
}

/// Those of encrypted networks.
pub(crate) fn encryption_keys(keys: &[EncryptionKey]) -> Vec<SwarmKey> {
    keys_of(keys, ENCRYPTION_SUBSYSTEM)
}

fn keys_of(keys: &[EncryptionKey], subsystem: &str) -> Vec<SwarmKey> {
    let keys = keys.iter().filter(|key| key.subsystem == subsystem);
    keys.map(|key| SwarmKey { lamport_time: key.lamport_time, key: key.key.clone() }).collect()
}

/// A member, if its address is known by now.
pub(crate) fn member(member: &Member) -> Option<SwarmMember> {
    Some(SwarmMember {
        node_id: NodeId::try_from(member.node_id.clone()).ok()?,
        data_path: member.data_path_address.parse().ok()?,
        is_weft: member.is_weft,
        gossip_name: Some(member.gossip_name.clone()).filter(|name| !name.is_empty()),
    })
}

/// The managers' word on a network. Their MTU is that of interfaces, the controller's that of the path below.
pub(crate) fn network(outlook: &NetworkOutlook, index: u64, data_path: IpAddr) -> SwarmNetworkState {
    let overhead = Underlay::of(data_path).vxlan_overhead();
    let mtu = (outlook.mtu > 0).then(|| Mtu::try_from(outlook.mtu.saturating_add(overhead)).ok()).flatten();
    let mut endpoints: Vec<SwarmEndpoint> = outlook.endpoints.values().filter_map(endpoint).collect();
    endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    let services = outlook.services.values().map(|view| (view.id.clone(), service(view))).collect();
    SwarmNetworkState { mtu, endpoints, services, load_balancer: None, index }
}

fn service(view: &ServiceView) -> SwarmServiceState {
    SwarmServiceState {
        id: view.id.clone(),
        name: view.name.clone(),
        aliases: view.aliases.clone(),
        stack: Some(view.stack.clone()).filter(|stack| !stack.is_empty()),
        virtual_ips: view.virtual_ips.iter().filter_map(|ip| host(ip)).collect(),
        ports: view.ports.iter().filter_map(told_port).collect(),
        source: if view.source == SOURCE_SNAT { SourceMode::Snat } else { SourceMode::Preserve },
    }
}

fn told_port(port: &ServicePort) -> Option<IngressPort> {
    let protocol = protocol(Protocol::try_from(port.protocol).ok()?);
    ingress_port(protocol, port.published, port.target, &port.name)
}

/// A port of a task's own word, if every node answers at it.
fn published(port: &PortConfig) -> Option<IngressPort> {
    if port.publish_mode() != PublishMode::Ingress {
        return None;
    }
    ingress_port(protocol(port.protocol()), port.published_port, port.target_port, &port.name)
}

/// None while the managers have not chosen the published port.
fn ingress_port(protocol: PortProtocol, published: u32, target: u32, name: &str) -> Option<IngressPort> {
    Some(IngressPort {
        protocol,
        published: u16::try_from(published).ok().filter(|port| *port != 0)?,
        target: u16::try_from(target).ok().filter(|port| *port != 0)?,
        name: name.to_owned(),
    })
}

fn protocol(protocol: Protocol) -> PortProtocol {
    match protocol {
        Protocol::Tcp => PortProtocol::Tcp,
        Protocol::Udp => PortProtocol::Udp,
        Protocol::Sctp => PortProtocol::Sctp,
    }
}

fn endpoint(remote: &RemoteEndpoint) -> Option<SwarmEndpoint> {
    let endpoint = remote.endpoint.as_ref()?;
    let addresses: Vec<IpAddr> =
        [&endpoint.address, &endpoint.address6].into_iter().filter_map(|text| host(text)).collect();
    Some(SwarmEndpoint {
        id: endpoint.id.clone(),
        node_id: NodeId::try_from(remote.node_id.clone()).ok()?,
        vtep: remote.vtep.parse().ok()?,
        addresses,
        mac: endpoint.mac.parse().ok()?,
        name: endpoint.name.clone(),
        aliases: endpoint.aliases.clone(),
        service: Some(remote.service_id.clone()).filter(|id| !id.is_empty()),
        healthy: endpoint.healthy,
    })
}

/// The routing mesh's network: in the attachments of every node, with or without an address.
pub(crate) fn ingress(node: &Node) -> Option<OverlaySpec> {
    let networks = node.attachments.iter().chain(&node.attachment).filter_map(|place| place.network.as_ref());
    networks.filter_map(|network| overlay(network).ok()).find(|network| network.ingress)
}

/// This node's load-balancer addresses by network: spent only by Docker's managers.
pub(crate) fn load_balancers(node: &Node) -> BTreeMap<NetworkId, EndpointAddress> {
    let of = |attachment: &NetworkAttachment| {
        let id = NetworkId::try_from(attachment.network.as_ref()?.id.clone()).ok()?;
        Some((id, attachment.addresses.first()?.parse().ok()?))
    };
    node.attachments.iter().chain(&node.attachment).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use weft_wire::swarmkit::{Annotations, Driver, IpamConfig, IpamOptions, NetworkAttachment, NetworkSpec};

    use super::*;

    fn config(subnet: &str, gateway: &str) -> IpamConfig {
        IpamConfig { subnet: subnet.into(), gateway: gateway.into(), ..Default::default() }
    }

    fn network_object() -> Network {
        let options =
            [(VNI_OPTION.to_owned(), "4097,4098".to_owned()), (MTU_OPTION.to_owned(), "1400".to_owned())];
        Network {
            id: "a".repeat(25),
            spec: Some(NetworkSpec {
                annotations: Some(Annotations { name: "web".into(), ..Default::default() }),
                attachable: true,
                ..Default::default()
            }),
            driver_state: Some(Driver { name: "overlay".into(), options: options.into() }),
            ipam: Some(IpamOptions {
                configs: vec![
                    config("10.0.1.0/24", "10.0.1.1"),
                    config("fd00::/64", ""),
                    config("10.0.2.0/24", "10.0.2.1"),
                ],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn subnets_get_their_identifier_by_place_in_their_family() {
        let spec = overlay(&network_object()).unwrap();
        let vnis: Vec<_> = spec.subnets.iter().map(|s| s.vni.map(Vni::get)).collect();
        assert_eq!(vnis, [Some(4097), Some(4097), Some(4098)]);
        assert_eq!(spec.subnets[0].gateway, Some("10.0.1.1".parse().unwrap()));
        assert_eq!(spec.subnets[1].gateway, None);
        assert_eq!(spec.mtu, Mtu::try_from(1400).ok());
        assert!(spec.attachable && !spec.encrypted);
    }

    #[test]
    fn an_attachment_needs_network_and_addresses() {
        let mut task = Task { id: "t".repeat(25), ..Task::default() };
        assert!(attachment(&task).is_err());
        task.networks = vec![NetworkAttachment { network: Some(network_object()), ..Default::default() }];
        assert!(attachment(&task).is_err());
        task.networks[0].addresses = vec!["10.0.1.5/24".into()];
        assert_eq!(attachment(&task).unwrap().addresses[0].to_string(), "10.0.1.5/24");
        task.networks[0].addresses.push("nonsense".into());
        assert!(attachment(&task).is_err());
    }

    #[test]
    fn a_tasks_places_are_found_by_name_or_id_and_carry_its_service() {
        let granted = NetworkAttachment {
            network: Some(network_object()),
            addresses: vec!["10.0.1.5/24".into()],
            aliases: vec!["db".into()],
            ..Default::default()
        };
        let vip = |addr: &str| weft_wire::swarmkit::endpoint::VirtualIp {
            network_id: "a".repeat(25),
            addr: addr.into(),
        };
        let virtual_ips = vec![vip("10.0.1.2/24"), vip("fd00:1::2/64")];
        let task = Task {
            id: "t".repeat(25),
            service_id: "s".repeat(25),
            service_annotations: Some(Annotations { name: "s1".into(), ..Default::default() }),
            networks: vec![granted],
            endpoint: Some(weft_wire::swarmkit::Endpoint { virtual_ips, ..Default::default() }),
            ..Task::default()
        };
        assert!(task_attachment(&task, "other").is_err());
        let by_name = task_attachment(&task, "web").unwrap();
        assert_eq!(by_name, task_attachment(&task, &"a".repeat(25)).unwrap());
        let service = by_name.service.unwrap();
        assert_eq!((service.name.as_str(), service.aliases), ("s1", vec!["db".to_owned()]));
        assert_eq!(service.virtual_ip, Some("10.0.1.2".parse().unwrap()));
        assert_eq!(service.further_virtual_ips, ["fd00:1::2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_managers_mtu_is_the_interfaces() {
        let outlook = NetworkOutlook { mtu: 1450, ..NetworkOutlook::default() };
        let state = network(&outlook, 7, "10.0.0.1".parse().unwrap());
        assert_eq!((state.mtu, state.index), (Mtu::try_from(1500).ok(), 7));
    }
}
