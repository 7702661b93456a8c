//! Places of this host's containers: claimed before they join, given back after they left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_network::{AttachRefused, SwarmAttachment, SwarmNetworks};
use weft_orchestration::AllocationError;
use weft_types::{ContainerId, EndpointAddress, NetworkId, TaskId};
use weft_wire::swarmkit::Network;

use super::requests::fresh_addresses;
use super::{Place, Shared};
use crate::document::{AddressBook, Holder, NetworkBook, keys};
use crate::error::{GlobalError, Refused};

/// A container that was given a place has it within this time.
const JOINED: Duration = Duration::from_secs(60);
/// Whoever stops a container does not wait longer for the store.
const DETACH_DEADLINE: Duration = Duration::from_secs(3);
/// The store answered, so it is soon followed too.
const BEGUN: Duration = Duration::from_secs(2);

/// The controller's way to the store.
pub(super) struct Door(pub(super) Arc<Shared>);

#[async_trait::async_trait]
impl SwarmNetworks for Door {
    async fn attach(
        &self,
        term: &str,
        _: &ContainerId,
        addresses: Vec<IpAddr>,
    ) -> Result<SwarmAttachment, AttachRefused> {
        let book: Option<NetworkBook> = match self.0.read(keys::NETWORKS).await {
            Ok(book) => book,
            // As far as anybody can tell now: what only begins the id of a network of this host is meant by it.
            Err(error) => return Err(AttachRefused::NoSuchNetwork(error.to_string())),
        };
        let book = book.ok_or(AttachRefused::NotFound)?;
        let (id, network) = book.find(term).map_err(refused)?;
        let addresses =
            self.0.place(id, &network.to_object(id), &addresses).await.map_err(|error| match error {
                GlobalError::Refused(error) => refused(error),
                other => AttachRefused::Other(other.to_string()),
            })?;
        let (attachment, addresses) = addresses;
        Ok(SwarmAttachment { attachment, network: network.to_overlay(id), addresses, service: None })
    }

    async fn detach(&self, attachment: &TaskId) -> Result<(), AttachRefused> {
        let shared = &self.0;
        let known = shared.places().get(attachment).map(|place| place.network.clone());
        if let Some(network) = known {
            let own = BTreeSet::from([attachment.clone()]);
            match tokio::time::timeout(DETACH_DEADLINE, shared.release(&network, &own)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%network, %error, "an address could not be given back: it is once the store answers");
                }
                Err(_) => tracing::warn!(%network, "an address could not be given back in time: it is later"),
            }
        }
        shared.places().remove(attachment);
        shared.due.notify_one();
        Ok(())
    }
}

fn refused(error: Refused) -> AttachRefused {
    match error {
        Refused::NotFound(_) => AttachRefused::NotFound,
        other => AttachRefused::Other(other.to_string()),
    }
}

/// A claim that is given back later unless it is kept.
struct Claiming<'a> {
    shared: &'a Shared,
    attachment: TaskId,
    is_kept: bool,
}

impl<'a> Claiming<'a> {
    fn begin(shared: &'a Shared, network: &NetworkId) -> Self {
        let attachment = TaskId::random(&mut rand::rng());
        let place = Place { network: network.clone(), pending: Some(Instant::now() + JOINED) };
        shared.places().insert(attachment.clone(), place);
        Self { shared, attachment, is_kept: false }
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.shared.places().remove(&self.attachment);
            self.shared.due.notify_one();
        }
    }
}

impl Shared {
    async fn place(
        &self,
        id: &NetworkId,
        network: &Network,
        wanted: &[IpAddr],
    ) -> Result<(TaskId, Vec<EndpointAddress>), GlobalError> {
        let host = self.host.as_ref().ok_or(GlobalError::NoAddress)?;
        let mut claiming = Claiming::begin(self, id);
        let attachment = claiming.attachment.clone();
        let holder = Holder { node: host.name.clone(), attachment: attachment.clone() };
        let addresses = match self.claim(id, network, &holder, wanted, None).await {
            Err(GlobalError::Refused(Refused::Allocation(error))) if is_want(&error) => {
                let living = self.living().await?;
                self.claim(id, network, &holder, wanted, Some(&living)).await?
            }
            outcome => outcome?,
        };
        // Its peers shall be in the kernel when it joins.
        let mut seen = self.seen.subscribe();
        let _ = tokio::time::timeout(BEGUN, seen.wait_for(Option::is_some)).await;
        self.tell_controller().await;
        claiming.is_kept = true;
        Ok((attachment, addresses))
    }

    async fn claim(
        &self,
        id: &NetworkId,
        network: &Network,
        holder: &Holder,
        wanted: &[IpAddr],
        living: Option<&BTreeSet<String>>,
    ) -> Result<Vec<EndpointAddress>, GlobalError> {
        let key = keys::addresses(id);
        let edit = |book: &mut AddressBook| book.claim(network, holder, wanted, living);
        let changed = self.change(&key, fresh_addresses, edit).await?;
        if changed.is_new {
            // The first on it; or the network was removed since its name was looked up, with the book that said so.
            let book: Option<NetworkBook> = self.read(keys::NETWORKS).await?;
            if book.is_none_or(|book| book.get(id).is_none()) {
                self.release(id, &BTreeSet::from([holder.attachment.clone()])).await?;
                return Err(Refused::NotFound(id.to_string()).into());
            }
        }
        Ok(changed.value)
    }

    /// Gives back what these attachments hold.
    pub(super) async fn release(
        &self,
        network: &NetworkId,
        attachments: &BTreeSet<TaskId>,
    ) -> Result<(), GlobalError> {
        let key = keys::addresses(network);
        let edit = |book: &mut AddressBook| {
            book.release(attachments);
            Ok(())
        };
        self.change(&key, fresh_addresses, edit).await?;
        Ok(())
    }
}

/// Whether the end of another host would help.
fn is_want(error: &AllocationError) -> bool {
    matches!(error, AllocationError::AddressesExhausted { .. } | AllocationError::AddressTaken { .. })
}
