//! Networks that a service cannot have.

use weft_types::{Classified as _, ErrorKind};
use weft_wire::swarmkit::ServiceSpec;

use crate::error::ApiError;
use crate::network_backend::NetworkScope;
use crate::state::ApiState;

/// The managers turn names into ids; only this node can tell that a name they do not know is one of its own networks.
pub(super) async fn check(state: &ApiState, spec: &ServiceSpec) -> Result<(), ApiError> {
    let of_task = spec.task.iter().flat_map(|task| &task.networks);
    for attachment in of_task.chain(&spec.networks) {
        let target = &attachment.target;
        match state.swarm.network(target).await {
            Err(error) if error.kind() == ErrorKind::NotFound && is_local(state, target) => {
                return Err(ApiError::forbidden(format!(
                    "The network {target} cannot be used with services. Only networks scoped to the swarm can be \
                     used, such as those created with the overlay driver."
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Those that every node has by itself are for services too.
fn is_local(state: &ApiState, term: &str) -> bool {
    let networks = state.networks.networks();
    networks
        .iter()
        .any(|n| (n.name == term || n.id == term) && n.scope == NetworkScope::Local && !n.predefined)
}
