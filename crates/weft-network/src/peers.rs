//! Endpoints of other nodes, from the managers' word and from gossip.
//!
//! The managers' word comes first. Gossip speaks for nodes that report nothing to the managers (Docker's), and only
//! for themselves: an entry counts when its owner's address is a member's by the managers' word and the tunnel
//! endpoint in it is that same member's. With Docker's managers there is no such word: then whoever holds the cluster's
//! keys is a member, and may name a tunnel endpoint that is no other member's. What is refused is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_types::{MacAddr, NetworkId};
use weft_wire::networkdb::{EndpointRecord, PeerRecord};

use crate::swarm::{IngressPort, SwarmState};

/// Table of tunnel endpoints.
pub(crate) const PEER_TABLE: &str = "overlay_peer_table";
/// Table of names.
pub(crate) const ENDPOINT_TABLE: &str = "endpoint_table";

/// An entry of gossip's tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct GossipKey {
    pub(crate) network: String,
    pub(crate) table: String,
    pub(crate) owner: String,
    pub(crate) key: String,
}

/// Its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GossipValue {
    pub(crate) owner_address: IpAddr,
    pub(crate) value: Vec<u8>,
}

/// All entries of other nodes that gossip knows.
pub(crate) type GossipTables = BTreeMap<GossipKey, GossipValue>;

/// An endpoint on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) mac: MacAddr,
    pub(crate) vtep: IpAddr,
}

/// A name on a network, with the addresses it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerName {
    pub(crate) names: Vec<String>,
    /// The one name that its address stands for in reverse.
    pub(crate) canonical: String,
    pub(crate) ips: Vec<IpAddr>,
    /// The service whose task this is.
    pub(crate) service: Option<String>,
}

/// A service's task on another node, as gossip tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerTask {
    pub(crate) service_id: String,
    pub(crate) service_name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) virtual_ip: Option<IpAddr>,
    pub(crate) ports: Vec<IngressPort>,
    /// Its container's name.
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) vtep: IpAddr,
    /// It takes new traffic.
    pub(crate) ready: bool,
    /// Its node is Weft's, by the managers' word.
    pub(crate) is_weft: bool,
}

/// What is known of one network on other nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkPeers {
    pub(crate) peers: Vec<Peer>,
    /// Of containers; those of tasks only while they take traffic.
    pub(crate) names: Vec<PeerName>,
    /// Service tasks that only gossip tells of.
    pub(crate) tasks: Vec<PeerTask>,
}

/// Why an entry of gossip does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Refusal {
    /// Its owner's address is no member's.
    UnknownOwner,
    /// The tunnel endpoint is not its owner's.
    ForeignTunnel,
    /// It cannot be read.
    Malformed,
}

/// Addresses that may send tunnel packets: members by the managers' word, or by gossip where that rules.
pub(crate) fn tunnel_members(
    swarm: Option<&SwarmState>,
    gossip_members: &BTreeSet<IpAddr>,
    peers: &BTreeMap<NetworkId, NetworkPeers>,
) -> BTreeSet<IpAddr> {
    let Some(swarm) = swarm else { return BTreeSet::new() };
    let mut all: BTreeSet<IpAddr> = swarm.members.iter().map(|member| member.data_path).collect();
    if !swarm.managed {
        all.extend(gossip_members);
        all.extend(peers.values().flat_map(|known| known.peers.iter().map(|peer| peer.vtep)));
    }
    all
}

/// Puts both sources together, for the networks that this node is on. Says which entries were refused and why.
pub(crate) fn merge(
    swarm: Option<&SwarmState>,
    gossip: &GossipTables,
    gossip_members: &BTreeSet<IpAddr>,
    networks: &BTreeSet<NetworkId>,
) -> (BTreeMap<NetworkId, NetworkPeers>, BTreeMap<GossipKey, Refusal>) {
    let mut out: BTreeMap<NetworkId, NetworkPeers> = BTreeMap::new();
    let mut refused = BTreeMap::new();
    let Some(swarm) = swarm else { return (out, refused) };
    for network in networks {
        let mut known = NetworkPeers::default();
        let mut told: BTreeSet<IpAddr> = BTreeSet::new();
        if let Some(state) = swarm.networks.get(network) {
            for endpoint in state.endpoints.iter().filter(|e| e.node_id != swarm.node_id) {
                told.extend(&endpoint.addresses);
                known.peers.push(Peer {
                    ips: endpoint.addresses.clone(),
                    mac: endpoint.mac,
                    vtep: endpoint.vtep,
                });
                if !endpoint.healthy && endpoint.service.is_some() {
                    continue;
                }
                known.names.push(PeerName {
                    names: std::iter::once(&endpoint.name).chain(&endpoint.aliases).cloned().collect(),
                    canonical: endpoint.name.clone(),
                    ips: endpoint.addresses.clone(),
                    service: endpoint.service.clone(),
                });
            }
        }
        // Names of an endpoint count only beside its accepted tunnel entry.
        let mut accepted: BTreeMap<(&str, IpAddr), IpAddr> = BTreeMap::new();
        for (key, value) in of_table(gossip, network, PEER_TABLE) {
            match judge(swarm, value, gossip_members, &told) {
                Ok(record) => {
                    accepted.insert((&key.owner, record.address.ip()), record.vtep);
                    known.peers.push(Peer {
                        ips: vec![record.address.ip()],
                        mac: record.mac,
                        vtep: record.vtep,
                    });
                }
                Err(Some(refusal)) => {
                    refused.insert(key.clone(), refusal);
                }
                Err(None) => {}
            }
        }
        for (key, value) in of_table(gossip, network, ENDPOINT_TABLE) {
            match EndpointRecord::decode(&value.value) {
                Err(_) => {
                    refused.insert(key.clone(), Refusal::Malformed);
                }
                Ok(record) => {
                    // Its tunnel entry says whose it is.
                    if let Some(vtep) = accepted.get(&(key.owner.as_str(), record.endpoint_ip)) {
                        let is_weft = swarm.members.iter().any(|m| m.data_path == *vtep && m.is_weft);
                        add_record(&mut known, record, *vtep, is_weft);
                    }
                }
            }
        }
        out.insert(network.clone(), known);
    }
    (out, refused)
}

fn of_table<'a>(
    gossip: &'a GossipTables,
    network: &'a NetworkId,
    table: &'a str,
) -> impl Iterator<Item = (&'a GossipKey, &'a GossipValue)> {
    gossip.iter().filter(move |(key, _)| key.network == network.as_str() && key.table == table)
}

/// A record that counts; or why not; or nothing to say, because the managers already told it.
fn judge(
    swarm: &SwarmState,
    value: &GossipValue,
    gossip_members: &BTreeSet<IpAddr>,
    told: &BTreeSet<IpAddr>,
) -> Result<PeerRecord, Option<Refusal>> {
    let record = PeerRecord::decode(&value.value).map_err(|_| Some(Refusal::Malformed))?;
    if record.vtep == swarm.data_path {
        return Err(None);
    }
    let by_managers = |ip: IpAddr| swarm.members.iter().find(|member| member.data_path == ip);
    let is_member =
        |ip: IpAddr| by_managers(ip).is_some() || (!swarm.managed && gossip_members.contains(&ip));
    if !is_member(value.owner_address) {
        return Err(Some(Refusal::UnknownOwner));
    }
    // A node sends its tunnel packets from its gossip address, unless it was given a data path of its own.
    let own_data_path = !swarm.managed && !is_member(record.vtep);
    if record.vtep != value.owner_address && !own_data_path {
        return Err(Some(Refusal::ForeignTunnel));
    }
    // Weft's nodes report to the managers: what only their gossip says is older or newer than that.
    let silent = swarm.managed && by_managers(record.vtep).is_some_and(|member| member.is_weft);
    if silent || told.contains(&record.address.ip()) { Err(None) } else { Ok(record) }
}

/// A record as Docker's nodes understand it: a disabled one has no names, and its task gets no new flows.
fn add_record(known: &mut NetworkPeers, record: EndpointRecord, vtep: IpAddr, is_weft: bool) {
    let of_service = !record.service_id.is_empty();
    if !record.service_disabled {
        known.names.push(PeerName {
            names: std::iter::once(&record.name).chain(&record.task_aliases).cloned().collect(),
            canonical: record.name.clone(),
            ips: vec![record.endpoint_ip],
            service: of_service.then(|| record.service_id.clone()),
        });
    }
    if of_service {
        known.tasks.push(PeerTask {
            service_id: record.service_id,
            service_name: record.service_name,
            aliases: record.aliases,
            virtual_ip: record.virtual_ip,
            ports: record.ingress_ports.into_iter().map(IngressPort::from).collect(),
            name: record.name,
            ip: record.endpoint_ip,
            vtep,
            ready: !record.service_disabled,
            is_weft,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::{SwarmEndpoint, SwarmMember, SwarmNetworkState};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn member(last: u8, is_weft: bool) -> SwarmMember {
        SwarmMember {
            node_id: format!("{last:025}").parse().unwrap(),
            data_path: ip(&format!("192.0.2.{last}")),
            is_weft,
            gossip_name: None,
        }
    }

    fn network() -> NetworkId {
        "networknetworknetworknetw".parse().unwrap()
    }

    fn swarm(managed: bool) -> SwarmState {
        SwarmState {
            node_id: member(1, true).node_id,
            advertise: ip("192.0.2.1"),
            data_path: ip("192.0.2.1"),
            data_path_port: 4789,
            gossip_keys: Vec::new(),
            encryption_keys: Vec::new(),
            gossip_join: Vec::new(),
            members: vec![member(1, true), member(2, true), member(3, false)],
            managed,
            networks: BTreeMap::new(),
            ingress: None,
        }
    }

    fn entry(owner: &str, address: &str, vtep: &str) -> (GossipKey, GossipValue) {
        let record = PeerRecord {
            address: format!("{address}/24").parse().unwrap(),
            mac: MacAddr::from_ip(ip(address)),
            vtep: ip(vtep),
        };
        (
            GossipKey {
                network: network().to_string(),
                table: PEER_TABLE.to_owned(),
                owner: owner.to_owned(),
                key: address.to_owned(),
            },
            GossipValue { owner_address: ip(owner), value: record.encode() },
        )
    }

    fn outcome(swarm: &SwarmState, entries: &[(GossipKey, GossipValue)]) -> (Vec<String>, Vec<Refusal>) {
        let tables = entries.iter().cloned().collect();
        let (known, refused) = merge(Some(swarm), &tables, &[ip("192.0.2.4")].into(), &[network()].into());
        let ips =
            known[&network()].peers.iter().map(|peer| format!("{} {}", peer.ips[0], peer.vtep)).collect();
        (ips, refused.into_values().collect())
    }

    #[test]
    fn members_speak_for_themselves_only() {
        let swarm = swarm(true);
        let good = entry("192.0.2.3", "10.0.1.5", "192.0.2.3");
        let stolen = entry("192.0.2.3", "10.0.1.6", "192.0.2.2");
        let stranger = entry("198.51.100.1", "10.0.1.7", "198.51.100.1");
        let elsewhere = entry("192.0.2.3", "10.0.1.8", "198.51.100.2");
        let (ips, refused) = outcome(&swarm, &[good, stolen, stranger, elsewhere]);
        assert_eq!(ips, ["10.0.1.5 192.0.2.3"]);
        assert_eq!(refused.len(), 3);
        assert_eq!(refused.iter().filter(|r| **r == Refusal::ForeignTunnel).count(), 2);
    }

    #[test]
    fn the_managers_word_comes_first() {
        let mut swarm = swarm(true);
        let told = SwarmEndpoint {
            id: "e".to_owned(),
            node_id: member(2, true).node_id,
            vtep: ip("192.0.2.2"),
            addresses: vec![ip("10.0.1.5")],
            mac: MacAddr::from_ip(ip("10.0.1.5")),
            name: "web".to_owned(),
            aliases: vec!["www".to_owned()],
            service: None,
            healthy: true,
        };
        swarm.networks.insert(network(), SwarmNetworkState { endpoints: vec![told], ..Default::default() });
        let rival = entry("192.0.2.3", "10.0.1.5", "192.0.2.3");
        let silent = entry("192.0.2.2", "10.0.1.9", "192.0.2.2");
        assert_eq!(outcome(&swarm, &[rival, silent]).0, ["10.0.1.5 192.0.2.2"]);
    }

    #[test]
    fn with_dockers_managers_gossip_rules() {
        let silent = entry("192.0.2.2", "10.0.1.9", "192.0.2.2");
        // Known to gossip only, one with a data path of its own; and one that names another member's.
        let known = entry("192.0.2.4", "10.0.1.10", "192.0.2.4");
        let split = entry("192.0.2.4", "10.0.1.11", "203.0.113.4");
        let stolen = entry("192.0.2.4", "10.0.1.12", "192.0.2.2");
        let stranger = entry("198.51.100.1", "10.0.1.13", "198.51.100.1");
        let (ips, refused) = outcome(&swarm(false), &[silent, known, split, stolen, stranger]);
        assert_eq!(ips, ["10.0.1.9 192.0.2.2", "10.0.1.10 192.0.2.4", "10.0.1.11 203.0.113.4"]);
        assert_eq!(refused.len(), 2);
    }

    #[test]
    fn services_have_an_address_of_their_own() {
        let (mut key, _) = entry("192.0.2.3", "10.0.1.5", "192.0.2.3");
        key.table = ENDPOINT_TABLE.to_owned();
        let record = EndpointRecord {
            name: "web.1.abc".to_owned(),
            service_name: "web".to_owned(),
            service_id: "s".to_owned(),
            virtual_ip: Some(ip("10.0.1.2")),
            endpoint_ip: ip("10.0.1.5"),
            ingress_ports: Vec::new(),
            aliases: vec!["www".to_owned()],
            task_aliases: vec!["0123456789ab".to_owned()],
            service_disabled: false,
        };
        let names = (key, GossipValue { owner_address: ip("192.0.2.3"), value: record.encode() });
        let tables = [entry("192.0.2.3", "10.0.1.5", "192.0.2.3"), names].into_iter().collect();
        let (known, refused) = merge(Some(&swarm(false)), &tables, &BTreeSet::new(), &[network()].into());
        assert!(refused.is_empty());
        let known = &known[&network()];
        assert_eq!(known.names[0].names, ["web.1.abc", "0123456789ab"]);
        let task = &known.tasks[0];
        assert_eq!((task.service_name.as_str(), task.virtual_ip), ("web", Some(ip("10.0.1.2"))));
        assert!(task.ready && !task.is_weft);
    }
}
