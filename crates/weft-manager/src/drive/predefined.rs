//! Networks that every node has of its own, known to the swarm so that services can name them as they name others.

use weft_orchestration::predefined_network;
use weft_types::NetworkId;
use weft_wire::swarmkit::Network;

use crate::core::Core;
use crate::error::ControlError;
use crate::store::Claim;

/// Those that Docker's swarms have.
const NAMES: [&str; 2] = ["bridge", "host"];

/// Stores those that are missing.
pub(super) async fn ensure(core: &Core) {
    let ids = NAMES.map(|name| (name, NetworkId::random_swarm(&mut rand::rng()).to_string()));
    let stored: Result<(), ControlError> = core
        .change(|view, transaction| {
            for (name, id) in &ids {
                let claim = Claim::network_name(name);
                if let Some(network) = predefined_network(name).filter(|_| !view.is_held(&claim)) {
                    transaction.create(Network { id: id.clone(), ..network });
                    transaction.claim(&claim, id);
                }
            }
            Ok(())
        })
        .await;
    if let Err(error) = stored {
        tracing::warn!(%error, "the networks that nodes have of their own cannot be stored");
    }
}
