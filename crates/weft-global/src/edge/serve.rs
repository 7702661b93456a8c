//! This host's duties, carried out whenever there are any, again and again while the store does not take them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use weft_types::{NetworkId, TaskId};

use super::requests::{fresh, fresh_addresses};
use super::{Host, Shared, Withdrawn};
use crate::document::{AddressBook, GlobalNetwork, Holder, NetworkBook, keys};
use crate::duties::{Duties, Own};
use crate::error::GlobalError;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Claims that were given up are looked for this often.
const LOOK: Duration = Duration::from_secs(30);

/// What cannot be put back, told once.
type Told = BTreeSet<String>;

pub(super) async fn run(shared: Arc<Shared>) {
    let Some(host) = shared.host.clone() else { return };
    let (mut wait, mut told, mut is_told) = (FIRST_WAIT, Told::new(), false);
    loop {
        let _ = tokio::time::timeout(LOOK, shared.due.notified()).await;
        while let Err(error) = shared.serve(&host, &mut told).await {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%error, "what this host has on global networks could not be told to the key-value store: it is tried again");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        (wait, is_told) = (FIRST_WAIT, false);
    }
}

impl Shared {
    async fn serve(&self, host: &Host, told: &mut Told) -> Result<(), GlobalError> {
        if !self.has_begun() {
            return Ok(());
        }
        let controller = self.controller()?;
        let (pending, endpoints, duties) = {
            // In the order in which a claim passes from one to the other: none is missed that is on its way.
            let outlook = self.outlook();
            let pending: BTreeSet<TaskId> = self.pending(Instant::now()).into_keys().collect();
            let endpoints = controller.local_endpoints().borrow().clone();
            let own = Own { node: &host.name, vtep: host.address, endpoints: &endpoints, pending: &pending };
            let duties = Duties::of(own, &outlook);
            (pending, endpoints, duties)
        };
        let own = Own { node: &host.name, vtep: host.address, endpoints: &endpoints, pending: &pending };
        let mut lost = BTreeSet::new();
        for id in &duties.networks {
            if !self.put_network_back(id, told).await? {
                lost.insert(id.clone());
            }
        }
        for id in duties.books().difference(&lost) {
            let none = BTreeMap::new();
            self.write_book(id, own, duties.missing.get(id).unwrap_or(&none), duties.excess.get(id), told)
                .await?;
        }
        Ok(())
    }

    /// False: something of it is another network's now.
    async fn put_network_back(&self, id: &NetworkId, told: &mut Told) -> Result<bool, GlobalError> {
        let Some(network) = self.last_known(id)? else { return Ok(false) };
        let put = |book: &mut NetworkBook| Ok(book.put_back(id, &network));
        let refused = self.change(keys::NETWORKS, fresh, put).await?.value;
        if let Err(error) = &refused
            && told.insert(id.to_string())
        {
            tracing::error!(network = %id, name = network.name, %error,
                "containers are on a network that the key-value store does not have and cannot be given again");
        }
        Ok(refused.is_ok())
    }

    fn last_known(&self, id: &NetworkId) -> Result<Option<GlobalNetwork>, GlobalError> {
        if let Some(network) = self.outlook().last_known(id) {
            return Ok(Some(network.clone()));
        }
        let networks = self.controller()?.networks();
        let found = networks.iter().find(|network| network.id == *id);
        Ok(found.and_then(|network| {
            let created = Timestamp::try_from(network.created).ok()?;
            Some(GlobalNetwork::of_overlay(network.overlay()?, created))
        }))
    }

    async fn write_book(
        &self,
        id: &NetworkId,
        own: Own<'_>,
        missing: &BTreeMap<TaskId, Vec<IpAddr>>,
        excess: Option<&BTreeSet<TaskId>>,
        told: &mut Told,
    ) -> Result<(), GlobalError> {
        let edit = |book: &mut AddressBook| {
            if let Some(excess) = excess {
                book.release(excess);
            }
            let claims = missing.iter().map(|(task, addresses)| (own.holder(task), addresses));
            let refused = claims.filter(|(holder, addresses)| !book.put_back(addresses, holder));
            Ok(refused.map(|(holder, addresses)| (holder, addresses.clone())).collect::<Vec<_>>())
        };
        let refused: Vec<(Holder, Vec<IpAddr>)> =
            self.change(&keys::addresses(id), fresh_addresses, edit).await?.value;
        for (holder, addresses) in refused {
            let endpoint = own.endpoints.iter().find(|endpoint| endpoint.attachment == holder.attachment);
            let Some(container) = endpoint.map(|endpoint| endpoint.container.clone()) else { continue };
            if told.insert(holder.attachment.to_string()) {
                tracing::error!(network = %id, %container, ?addresses,
                    "addresses of a container were given to another while this host was away: it leaves the network");
                // Nobody listens any more when the daemon stops.
                let _ = self.withdrawn.send(Withdrawn { container, network: id.clone() });
            }
        }
        Ok(())
    }
}
