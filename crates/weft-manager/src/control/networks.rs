//! Networks of the swarm.

use std::sync::Arc;

use weft_types::NetworkId;
use weft_wire::swarmkit::{Network, NetworkSpec};

use super::Control;
use crate::error::ControlError;
use crate::network;
use crate::store::View;

impl Control {
    /// All networks of the swarm.
    pub fn networks(&self) -> Vec<Arc<Network>> {
        self.view().networks().cloned().collect()
    }

    /// A network by full id, exact name, or unique prefix of its id.
    pub fn network(&self, term: &str) -> Result<Arc<Network>, ControlError> {
        find(&self.view(), term)
    }

    /// Makes a network: checked, then allocated and stored at once.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Arc<Network>, ControlError> {
        let brain = &self.brain;
        let id = NetworkId::random_swarm(&mut rand::rng()).to_string();
        (brain.core)
            .allocate(|view, allocator, transaction| {
                network::create(view, allocator, transaction, &brain.reports, &id, &spec)
            })
            .await?;
        let created = find(&self.view(), &id)?;
        tracing::info!(network = id, name = network::network_name(&created), "created a network");
        for warning in self.network_warnings(&id) {
            tracing::warn!(network = id, warning, "a new network does not suit a node");
        }
        Ok(created)
    }

    /// Removes a network that nobody uses.
    pub async fn remove_network(&self, term: &str) -> Result<(), ControlError> {
        (self.brain.core)
            .allocate(|view, _, transaction| network::remove(view, transaction, &*find(view, term)?))
            .await?;
        tracing::info!(network = term, "removed a network");
        Ok(())
    }

    /// What users should know of a network, for example a node whose underlay is too small for its MTU.
    pub fn network_warnings(&self, id: &str) -> Vec<String> {
        let view = self.view();
        let Some(network) = view.network(id) else { return Vec::new() };
        let mut warnings = network::mtu_warnings(&view, &self.brain.reports, network);
        warnings.extend(network::subnet_warnings(&view, &self.brain.reports, network));
        warnings
    }

    /// MTU of the interfaces that containers have on a network.
    pub fn network_mtu(&self, id: &str) -> Option<u32> {
        let view = self.view();
        let network = view.network(id)?;
        Some(network::interface_mtu(&view, &self.brain.reports, network).get())
    }
}

fn find(view: &View, term: &str) -> Result<Arc<Network>, ControlError> {
    if let Some(network) = view.network(term).or_else(|| view.network_named(term)) {
        return Ok(Arc::clone(network));
    }
    let found: Vec<_> =
        view.networks().filter(|network| !term.is_empty() && network.id.starts_with(term)).collect();
    match found.as_slice() {
        [] => Err(ControlError::NoSuchNetwork(term.to_owned())),
        [network] => Ok(Arc::clone(network)),
        several => Err(ControlError::AmbiguousNetwork { term: term.to_owned(), matches: several.len() }),
    }
}
