//! What users ask for: networks made, removed and looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use weft_network::{NetworkEvent, NetworkEventSubject};
use weft_types::{EndpointId, NetworkId, SwarmId};
use weft_wire::swarmkit::{Network, NetworkSpec};

use super::{GlobalNetworks, Shared};
use crate::document::{AddressBook, EndpointRecord, Holder, NetworkBook, keys};
use crate::error::{GlobalError, Refused};
use crate::outlook::Outlook;

/// A change that this host made is seen here within this time, or the watch is behind.
const SEEN: Duration = Duration::from_secs(2);
/// Whoever looks for a network does not wait longer for the store.
const ASKED: Duration = Duration::from_secs(2);

impl GlobalNetworks {
    /// All networks, as far as the store was heard.
    pub fn networks(&self) -> Vec<Network> {
        let outlook = self.shared.outlook();
        outlook.networks().into_iter().flat_map(NetworkBook::iter).map(|(id, n)| n.to_object(id)).collect()
    }

    /// One of them by id, name or the beginning of its id. The store is asked for what was not heard of: it may have
    /// been made a moment ago.
    pub async fn network(&self, term: &str) -> Result<Network, GlobalError> {
        let found = |book: Option<&NetworkBook>| -> Result<Network, Refused> {
            let book = book.ok_or_else(|| Refused::NotFound(term.to_owned()))?;
            book.find(term).map(|(id, network)| network.to_object(id))
        };
        let known = found(self.shared.outlook().networks());
        if !matches!(known, Err(Refused::NotFound(_))) {
            return Ok(known?);
        }
        match tokio::time::timeout(ASKED, self.shared.read::<NetworkBook>(keys::NETWORKS)).await {
            Ok(Ok(book)) => Ok(found(book.as_ref())?),
            // As far as anybody can tell now.
            Ok(Err(_)) | Err(_) => Ok(known?),
        }
    }

    /// Endpoints of other hosts on a network.
    pub fn remote_endpoints(&self, network: &NetworkId) -> Vec<(EndpointId, EndpointRecord)> {
        let own = self.host().map(|host| host.address);
        let outlook = self.shared.outlook();
        let elsewhere = outlook.endpoints_on(network).filter(|(_, record)| Some(record.vtep) != own);
        elsewhere.map(|(id, record)| (id.clone(), record.clone())).collect()
    }

    /// Makes a network for all hosts.
    pub async fn create(&self, spec: &NetworkSpec) -> Result<NetworkId, GlobalError> {
        let controller = self.shared.controller()?;
        let near = controller.host_subnets().await;
        let (id, created) = (NetworkId::random_local(&mut rand::rng()), Timestamp::now());
        let add = |book: &mut NetworkBook| book.add(&id, spec, created, &near);
        self.shared.change(keys::NETWORKS, fresh, add).await?;
        self.shared.wait_for(|outlook| outlook.networks().is_some_and(|book| book.get(&id).is_some())).await;
        let name = spec.annotations.clone().unwrap_or_default().name;
        tracing::info!(network = %id, name, "network made in the key-value store");
        controller.announce(NetworkEvent::Created(subject(&id, name)));
        Ok(id)
    }

    /// Removes a network that no container of a living host is on.
    pub async fn remove(&self, term: &str) -> Result<(), GlobalError> {
        let shared = &self.shared;
        let book: Option<NetworkBook> = shared.read(keys::NETWORKS).await?;
        let book = book.ok_or_else(|| Refused::NotFound(term.to_owned()))?;
        let (id, network) = book.find(term)?;
        let living = shared.living().await?;
        let key = keys::addresses(id);
        let close = |book: &mut AddressBook| {
            book.close(&living).map_err(|users| shared.in_use(id, &network.name, &users))
        };
        shared.change(&key, fresh_addresses, close).await?;
        let take_out = |book: &mut NetworkBook| {
            book.remove(id);
            Ok(())
        };
        shared.change(keys::NETWORKS, fresh, take_out).await?;
        shared.wait_for(|outlook| outlook.networks().is_none_or(|book| book.get(id).is_none())).await;
        shared.sweep(&key).await;
        tracing::info!(network = %id, name = network.name, "network removed from the key-value store");
        shared.controller()?.announce(NetworkEvent::Destroyed(subject(id, network.name.clone())));
        Ok(())
    }
}

impl Shared {
    /// Hosts that are registered now, this one among them.
    pub(super) async fn living(&self) -> Result<BTreeSet<String>, GlobalError> {
        let folder = format!("{}/", self.nodes);
        let entries = self.store.list(&self.nodes).await?;
        let names = entries.iter().filter_map(|entry| entry.key.strip_prefix(&folder)).map(str::to_owned);
        Ok(names.chain(self.host.iter().map(|host| host.name.clone())).collect())
    }

    /// Waits until what was written is seen here too.
    async fn wait_for(&self, is_seen: impl Fn(&Outlook) -> bool) {
        let mut seen = self.seen.subscribe();
        let look = async {
            while !is_seen(&self.outlook()) {
                if seen.changed().await.is_err() {
                    return;
                }
            }
        };
        // It was made all the same.
        let _ = tokio::time::timeout(SEEN, look).await;
    }

    /// The rest of a network that is gone: nobody is hurt if it stays.
    async fn sweep(&self, key: &str) {
        if let Ok(Some(entry)) = self.store.get(key).await
            && let Err(error) = self.store.remove(key, entry.version).await
        {
            tracing::warn!(key, %error, "the rest of a network stays in the key-value store");
        }
    }

    fn in_use(&self, id: &NetworkId, name: &str, users: &[(IpAddr, Holder)]) -> Refused {
        let outlook = self.outlook();
        let known = |holder: &Holder| {
            let mut all = outlook.endpoints_on(id);
            all.find(|(_, record)| record.attachment == holder.attachment)
                .map(|(id, record)| format!("name:{:?} id:{:?}", record.name, id.short()))
        };
        let user = |(ip, holder): &(IpAddr, Holder)| {
            known(holder).unwrap_or_else(|| format!("{ip} on {}", holder.node))
        };
        let endpoints: BTreeSet<String> = users.iter().map(user).collect();
        let endpoints: Vec<String> = endpoints.into_iter().collect();
        Refused::InUse { network: name.to_owned(), endpoints: endpoints.join(", ") }
    }
}

/// Of a store that has none yet.
pub(super) fn fresh() -> NetworkBook {
    NetworkBook::new(SwarmId::random(&mut rand::rng()).to_string())
}

/// Of a network that nobody has been on yet.
pub(super) fn fresh_addresses() -> AddressBook {
    AddressBook::new(SwarmId::random(&mut rand::rng()).to_string())
}

fn subject(id: &NetworkId, name: String) -> NetworkEventSubject {
    NetworkEventSubject { id: id.clone(), name, driver: "overlay".to_owned() }
}
