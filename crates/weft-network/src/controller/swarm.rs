//! The managers' word, gossip, and what both make of the overlay networks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use weft_plan::{LinkName, NamespaceState};
use weft_types::NetworkId;

use crate::controller::{Controller, Touched};
use crate::error::NetworkError;
use crate::peers::{self, GossipKey, GossipTables, Refusal};
use crate::state::State;
use crate::swarm::{LocalSwarmEndpoint, SwarmState};

/// What gossip says, and what of it was refused.
#[derive(Debug, Default)]
pub(super) struct Gossiped {
    pub(super) tables: GossipTables,
    pub(super) refused: BTreeMap<GossipKey, Refusal>,
}

impl Controller {
    /// The managers' word, whole. `None` when this node left the swarm; while managers are only silent, do not call:
    /// the last word stands.
    pub async fn set_swarm_state(&self, swarm: Option<SwarmState>) -> Result<(), NetworkError> {
        let _turn = self.turn.lock().await;
        let left = swarm.is_none();
        if self.state.load().lasting.swarm == swarm {
            return Ok(());
        }
        if left {
            let mut gossiped = self.gossiped.lock().unwrap_or_else(PoisonError::into_inner);
            *gossiped = Gossiped::default();
        }
        *self.data_path.lock().unwrap_or_else(PoisonError::into_inner) =
            self.find_data_path(swarm.as_ref()).await;
        let reserved = self.host_routes().await;
        self.change(|state| {
            Arc::make_mut(&mut state.lasting).swarm = swarm;
            if left {
                // Cached networks of the swarm go with it, unless a container still has its place there.
                let used: BTreeSet<NetworkId> = state
                    .sandboxes
                    .values()
                    .flat_map(|s| s.endpoints.iter().map(|e| e.network.clone()))
                    .collect();
                state.networks_mut().retain(|id, network| network.overlay().is_none() || used.contains(id));
            } else {
                super::networks::gateway_bridge(state, &self.config, &reserved)?;
            }
            let mut touched = Touched::all(state);
            touched.sandboxes.retain(|container| on_overlay(state, container));
            Ok(((), touched))
        })
        .await
    }

    /// The managers' word as it stands.
    pub fn swarm_state(&self) -> Option<SwarmState> {
        self.state.load().lasting.swarm.clone()
    }

    /// Networks of the swarm that have endpoints here: what the agent watches.
    pub fn used_swarm_networks(&self) -> BTreeSet<NetworkId> {
        used(&self.state.load())
    }

    pub(super) fn gossip_refused(&self) -> u64 {
        self.gossiped.lock().unwrap_or_else(PoisonError::into_inner).refused.len() as u64
    }

    /// Gossip changed: plans follow.
    pub(super) async fn set_gossip(&self, change: impl FnOnce(&mut GossipTables)) {
        let _turn = self.turn.lock().await;
        {
            let mut gossiped = self.gossiped.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut gossiped.tables);
        }
        let before = self.peers.load_full();
        self.refresh_peers();
        let after = self.peers.load_full();
        if before == after {
            return;
        }
        let changed: BTreeSet<NetworkId> = after
            .keys()
            .chain(before.keys())
            .filter(|id| before.get(*id) != after.get(*id))
            .cloned()
            .collect();
        let state = self.state.load_full();
        let touched = Touched { overlays: changed, ..Touched::default() };
        if let Err(error) = self.converge(&state, &state, &touched).await {
            tracing::warn!(%error, "news of gossip not brought into the kernel; the audit goes on");
        }
        self.push_helper();
    }

    /// Puts the managers' word and gossip together anew.
    pub(super) fn refresh_peers(&self) {
        let state = self.state.load_full();
        let mut gossiped = self.gossiped.lock().unwrap_or_else(PoisonError::into_inner);
        let (merged, refused) = peers::merge(state.lasting.swarm.as_ref(), &gossiped.tables, &used(&state));
        for (key, refusal) in &refused {
            if gossiped.refused.get(key) != Some(refusal) {
                tracing::warn!(
                    network = key.network,
                    table = key.table,
                    owner = key.owner,
                    key = key.key,
                    ?refusal,
                    "entry of gossip refused"
                );
            }
        }
        gossiped.refused = refused;
        self.peers.store(Arc::new(merged));
    }

    pub(super) async fn refresh_data_path(&self) {
        let swarm = self.state.load().lasting.swarm.clone();
        let found = self.find_data_path(swarm.as_ref()).await;
        *self.data_path.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The interface with the data-path address; none where that is on `lo` or on no interface of a network (routed
    /// fabrics announce such addresses), because packets to it then come in anywhere.
    async fn find_data_path(&self, swarm: Option<&SwarmState>) -> Option<LinkName> {
        let address = swarm?.data_path;
        let observed = self.dataplane.host().observe(&NamespaceState::empty()).await.ok()?;
        let found =
            observed.addresses.keys().find(|a| a.address.ip() == address && a.link != LinkName::lo())?;
        (found.address.prefix_len() < found.address.subnet().max_prefix_len()).then(|| found.link.clone())
    }

    /// Tells the agent about this node's endpoints, if they changed.
    pub(super) fn tell_local(&self) {
        let state = self.state.load();
        let mut all = Vec::new();
        for sandbox in state.sandboxes.values() {
            for endpoint in &sandbox.endpoints {
                let Some(attachment) = &endpoint.attachment else { continue };
                let mut names = sandbox.dns_names(endpoint);
                all.push(LocalSwarmEndpoint {
                    id: endpoint.id.clone(),
                    network: endpoint.network.clone(),
                    attachment: attachment.clone(),
                    container: sandbox.spec.container.clone(),
                    address: endpoint.address,
                    address6: endpoint.address6,
                    mac: endpoint.mac,
                    name: names.remove(0),
                    aliases: names,
                });
            }
        }
        self.local.send_if_modified(|now| {
            let changed = *now != all;
            *now = all;
            changed
        });
    }
}

pub(super) fn used(state: &State) -> BTreeSet<NetworkId> {
    let ids = state.sandboxes.values().flat_map(|sandbox| sandbox.endpoints.iter().map(|e| &e.network));
    ids.filter(|id| state.network(id).is_some_and(|n| n.overlay().is_some())).cloned().collect()
}

fn on_overlay(state: &State, container: &weft_types::ContainerId) -> bool {
    let Some(sandbox) = state.sandboxes.get(container) else { return false };
    sandbox.endpoints.iter().any(|e| state.network(&e.network).is_some_and(|n| n.overlay().is_some()))
}
