//! What this host knows of the store, and what the network controller is to know of that.
//!
//! Invariant: an endpoint of another host that was known is forgotten when its address was given back, or [`GRACE`] after
//! it vanished without that. The second is how the end of a host's lease looks, and a store that lost its data: the hosts
//! write all again, one after the other, and traffic goes on meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use weft_network::{SwarmEndpoint, SwarmMember, SwarmNetworkState, SwarmState};
use weft_types::{EndpointId, NetworkId, NodeId, TaskId};

use crate::document::keys::{self, Held};
use crate::document::{AddressBook, Document, EndpointRecord, GlobalNetwork, NetworkBook, Unreadable};

/// A host notices within 5 seconds that the store is back, and then writes its own again.
pub const GRACE: Duration = Duration::from_secs(10);

/// IANA's port of VXLAN, which Docker has always used in this mode.
const VXLAN_PORT: u16 = 4789;

type EndpointKey = (NetworkId, EndpointId);

/// The documents as last read.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    networks: Option<NetworkBook>,
    /// What it was before it vanished: what of it is in use is put back.
    lost: Option<NetworkBook>,
    addresses: BTreeMap<NetworkId, AddressBook>,
    endpoints: BTreeMap<EndpointKey, EndpointRecord>,
    /// Endpoints that vanished, and when they are forgotten.
    fading: BTreeMap<EndpointKey, (EndpointRecord, Instant)>,
    /// Claims that were given back, whose endpoints are not gone yet.
    given_back: BTreeSet<TaskId>,
    /// Hosts that are registered, with their addresses.
    nodes: BTreeMap<String, IpAddr>,
}

impl Outlook {
    /// A document is there, or is another now. One that cannot be read changes nothing.
    pub fn put(&mut self, key: &str, value: &[u8]) -> Result<(), Unreadable> {
        match keys::held(key) {
            Some(Held::Networks) => self.networks = Some(NetworkBook::decode(value)?),
            Some(Held::Addresses(network)) => {
                let book = AddressBook::decode(value)?;
                if let Some(earlier) = self.addresses.get(&network) {
                    self.given_back.extend(book.given_back_since(earlier).cloned());
                }
                self.addresses.insert(network, book);
            }
            Some(Held::Endpoint(network, endpoint)) => {
                let record = EndpointRecord::decode(value)?;
                let key = (network, endpoint);
                self.fading.remove(&key);
                self.endpoints.insert(key, record);
            }
            None => return Err(Unreadable("nothing of that name is Weft's".to_owned())),
        }
        Ok(())
    }

    /// A document is gone.
    pub fn remove(&mut self, key: &str, now: Instant) {
        match keys::held(key) {
            Some(Held::Networks) => self.lost = self.networks.take().or(self.lost.take()),
            Some(Held::Addresses(network)) => drop(self.addresses.remove(&network)),
            Some(Held::Endpoint(network, endpoint)) => {
                let key = (network, endpoint);
                if let Some(record) = self.endpoints.remove(&key) {
                    self.fading.insert(key, (record, now + GRACE));
                }
            }
            None => {}
        }
    }

    /// A host is registered.
    pub fn put_node(&mut self, name: &str, address: IpAddr) {
        self.nodes.insert(name.to_owned(), address);
    }

    /// A host is registered no longer.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Forgets what is to be forgotten, after changes and when the time has come.
    pub fn settle(&mut self, now: Instant) {
        let given_back = &self.given_back;
        self.fading.retain(|_, (record, until)| !given_back.contains(&record.attachment) && *until > now);
        if !given_back.is_empty() {
            let there: BTreeSet<&TaskId> = self.endpoints.values().map(|record| &record.attachment).collect();
            self.given_back.retain(|attachment| there.contains(attachment));
        }
    }

    /// When [`Self::settle`] is to be called next.
    pub fn next_settle(&self) -> Option<Instant> {
        self.fading.values().map(|(_, until)| *until).min()
    }

    /// The networks; none while the store has no such document.
    pub fn networks(&self) -> Option<&NetworkBook> {
        self.networks.as_ref()
    }

    /// A network as it is, or was before the store lost it.
    pub fn last_known(&self, network: &NetworkId) -> Option<&GlobalNetwork> {
        self.networks.iter().chain(&self.lost).find_map(|book| book.get(network))
    }

    /// Who has which address of a network.
    pub fn addresses(&self, network: &NetworkId) -> Option<&AddressBook> {
        self.addresses.get(network)
    }

    /// The books of all networks.
    pub fn books(&self) -> impl Iterator<Item = (&NetworkId, &AddressBook)> {
        self.addresses.iter()
    }

    /// What the store holds for an endpoint.
    pub fn endpoint(&self, network: &NetworkId, endpoint: &EndpointId) -> Option<&EndpointRecord> {
        self.endpoints.get(&(network.clone(), endpoint.clone()))
    }

    /// Hosts that are registered.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.nodes.iter().map(|(name, address)| (name.as_str(), *address))
    }

    /// Endpoints on a network, of all hosts, by id; those that fade among them.
    pub fn endpoints_on<'a>(
        &'a self,
        network: &'a NetworkId,
    ) -> impl Iterator<Item = (&'a EndpointId, &'a EndpointRecord)> {
        let fading = self.fading.iter().map(|(key, (record, _))| (key, record));
        let all = self.endpoints.iter().chain(fading);
        all.filter(move |((of, _), _)| of == network).map(|((_, id), record)| (id, record))
    }

    /// The whole state for the network controller of the host at `own`, with what there is on `used` networks.
    pub fn state(&self, own: IpAddr, used: &BTreeSet<NetworkId>) -> SwarmState {
        let fading = self.fading.values().map(|(record, _)| record);
        let tunnels = self.endpoints.values().chain(fading).map(|record| record.vtep);
        // Who is registered may send before its first endpoint is known here.
        let members: BTreeSet<IpAddr> = tunnels.chain(self.nodes.values().copied()).chain([own]).collect();
        let member = |address: IpAddr| SwarmMember {
            node_id: node_id(address),
            data_path: address,
            is_weft: true,
            gossip_name: None,
        };
        SwarmState {
            node_id: node_id(own),
            advertise: own,
            data_path: own,
            data_path_port: VXLAN_PORT,
            gossip_keys: Vec::new(),
            encryption_keys: Vec::new(),
            gossip_join: Vec::new(),
            members: members.into_iter().map(member).collect(),
            managed: true,
            networks: used
                .iter()
                .map(|network| (network.clone(), self.network_state(network, own)))
                .collect(),
            ingress: None,
        }
    }

    fn network_state(&self, network: &NetworkId, own: IpAddr) -> SwarmNetworkState {
        let elsewhere = self.endpoints_on(network).filter(|(_, record)| record.vtep != own);
        let mut endpoints: Vec<SwarmEndpoint> = elsewhere
            .map(|(id, record)| SwarmEndpoint {
                id: id.to_string(),
                node_id: node_id(record.vtep),
                vtep: record.vtep,
                addresses: record.addresses.iter().map(|address| address.ip()).collect(),
                mac: record.mac,
                name: record.name.clone(),
                aliases: record.aliases.clone(),
                service: None,
                healthy: true,
            })
            .collect();
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        SwarmNetworkState { endpoints, ..SwarmNetworkState::default() }
    }
}

/// Hosts have no ids in this mode: their addresses, in base 36, have the form of one.
fn node_id(address: IpAddr) -> NodeId {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 25;
    let mut rest = u128::from(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    });
    let mut text = vec!['0'; LENGTH];
    for digit in text.iter_mut().rev() {
        *digit = char::from(DIGITS[(rest % 36) as usize]);
        rest /= 36;
    }
    let text: String = text.into_iter().collect();
    text.parse().expect("25 digits of base 36 are the form of a node's id")
}
