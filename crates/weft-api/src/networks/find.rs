//! Which network a user means: full id, then name, then a unique prefix of an id; this host's before the swarm's.

use weft_types::ErrorKind;
use weft_wire::swarmkit::Network;

use crate::error::ApiError;
use crate::network_backend::LocalNetwork;
use crate::state::ApiState;
use crate::swarm_backend::SwarmError;

/// Where it was found.
pub(super) enum Found {
    /// On this host, perhaps an instance of one that it shares with others.
    Local(Box<LocalNetwork>),
    /// In the swarm or the key-value store only.
    Swarm(Box<Network>),
}

/// `scope` is empty, `local`, `swarm` or `global`.
pub(super) async fn find(state: &ApiState, term: &str, scope: &str) -> Result<Found, ApiError> {
    let local = state.networks.networks();
    let allowed = |n: &&LocalNetwork| scope.is_empty() || n.scope.as_str() == scope;
    let mut candidates = local.iter().filter(allowed);
    if let Some(network) =
        candidates.clone().find(|n| n.id == term).or_else(|| candidates.find(|n| n.name == term))
    {
        return Ok(Found::Local(Box::new(network.clone())));
    }
    if scope != "local"
        && let Some(network) = in_swarm(state, term).await?
    {
        let instance = local.into_iter().find(|n| n.id == network.id);
        return Ok(instance.map_or(Found::Swarm(Box::new(network)), |n| Found::Local(Box::new(n))));
    }
    let by_prefix: Vec<&LocalNetwork> =
        local.iter().filter(allowed).filter(|n| !term.is_empty() && n.id.starts_with(term)).collect();
    match by_prefix.as_slice() {
        [network] => Ok(Found::Local(Box::new((*network).clone()))),
        [] => Err(ApiError::not_found(format!("network {term} not found"))),
        several => Err(ApiError::invalid(format!(
            "network {term} is ambiguous ({} matches found based on ID prefix)",
            several.len()
        ))),
    }
}

async fn in_swarm(state: &ApiState, term: &str) -> Result<Option<Network>, ApiError> {
    match state.swarm.network(term).await {
        Ok(network) => Ok(Some(network)),
        Err(SwarmError::NoSwarm | SwarmError::NotManager | SwarmError::Locked) => Ok(None),
        Err(error) => match ApiError::from(error) {
            error if error.kind() == ErrorKind::NotFound => Ok(None),
            error => Err(error),
        },
    }
}
